#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/schema/schema.h"

enum { OUT_BYTES = 1 << 20 };

/* The pool of tests/unit/schema_types.proto. What JSON means is compared with Python's in
 * schema_python.py; here is what Python cannot tell. */
static int make_schema(void **state)
{
    struct sl_schema *schema = NULL;
    struct sl_error err = { .text = "" };
    static uint8_t bytes[OUT_BYTES];
    FILE *file = fopen(SCHEMA_SET, "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    (void)fclose(file);
    assert_int_equal(sl_schema_new(&schema), SL_OK);
    assert_int_equal(sl_schema_add_set(schema, sl_slice_of(bytes, size), &err), SL_OK);
    *state = schema;
    return 0;
}

static int drop_schema(void **state)
{
    *state = sl_schema_free(*state);
    return 0;
}

static const struct sl_schema_message *type_of(struct sl_schema *schema, const char *name)
{
    const struct sl_schema_message *message = NULL;
    assert_int_equal(sl_schema_find_message(schema, sl_slice_str(name), &message, NULL), SL_OK);
    return message;
}

static enum sl_status encode(
    struct sl_schema *schema,
    const char *type,
    const char *text,
    struct sl_buf *out,
    struct sl_error *err)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    sl_buf_init(out, OUT_BYTES);
    const enum sl_status status = sl_schema_encode(type_of(schema, type), json, out, err);
    json_decref(json);
    return status;
}

static void
expect_refused(struct sl_schema *schema, const char *type, const char *text, const char *why)
{
    struct sl_error err = { .text = "" };
    struct sl_buf out;
    assert_int_equal(encode(schema, type, text, &out, &err), SL_INVALID_ARGUMENT);
    assert_string_equal(err.text, why);
    sl_buf_done(&out);
}

static void expect_json(
    struct sl_schema *schema,
    const char *type,
    const void *bytes,
    size_t size,
    bool is_all,
    const char *text)
{
    struct sl_error err = { .text = "" };
    json_t *json = NULL;
    struct sl_buf out;
    sl_buf_init(&out, OUT_BYTES);
    const struct sl_slice slice = sl_slice_of(bytes, size);
    const struct sl_schema_message *message = type_of(schema, type);
    const enum sl_status status = is_all ? sl_schema_decode_all(message, slice, &json, &err)
                                         : sl_schema_decode(message, slice, &json, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(status, SL_OK);
    assert_int_equal(sl_schema_print(json, false, &out), SL_OK);
    assert_string_equal(sl_buf_cstr(&out), text);
    json_decref(json);
    sl_buf_done(&out);
}

static void a_method_is_found_under_each_of_its_three_names(void **state)
{
    static const char *const names[] = { "awkward.v1.Awkward/Count", "/awkward.v1.Awkward/Count",
                                         "awkward.v1.Awkward.Count" };
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        const struct sl_schema_method *method = NULL;
        assert_int_equal(sl_schema_find_method(*state, names[i], &method, NULL), SL_OK);
        assert_string_equal(method->desc.path, "/awkward.v1.Awkward/Count");
        assert_string_equal(method->desc.name, "Count");
        assert_int_equal(method->desc.kind, SL_SERVER_STREAMING);
        assert_string_equal(sl_schema_message_name(method->request), "awkward.v1.Tree");
        assert_null(method->desc.request_type);
    }
}

static void the_four_kinds_of_methods_are_told_apart(void **state)
{
    static const enum sl_method_kind kinds[] = { SL_UNARY, SL_SERVER_STREAMING, SL_CLIENT_STREAMING,
                                                 SL_BIDIRECTIONAL };
    struct sl_schema_method_name name;
    assert_string_equal(sl_schema_service_at(*state, 0), "awkward.v1.Awkward");
    assert_null(sl_schema_service_at(*state, 1));
    for (size_t i = 0; i < SL_COUNT(kinds); i++) {
        assert_true(sl_schema_method_at(*state, "awkward.v1.Awkward", i, &name));
        assert_int_equal(name.kind, kinds[i]);
    }
    assert_string_equal(name.request, "awkward.v1.All");
    assert_false(sl_schema_method_at(*state, "awkward.v1.Awkward", SL_COUNT(kinds), &name));
}

static void a_wrong_name_says_what_there_is(void **state)
{
    const struct sl_schema_method *method = NULL;
    struct sl_error err;
    assert_int_equal(
        sl_schema_find_method(*state, "awkward.v1.Awkward/No", &method, &err), SL_NOT_FOUND);
    assert_string_equal(
        err.text, "awkward.v1.Awkward has no method 'No'; it has Echo, Count, Collect, Talk");
    assert_int_equal(sl_schema_find_method(*state, "x.Y/No", &method, &err), SL_NOT_FOUND);
    assert_string_equal(err.text, "no service 'x.Y'; there is awkward.v1.Awkward");
    assert_int_equal(sl_schema_find_method(*state, "nothing", &method, &err), SL_NOT_FOUND);
}

static void an_error_names_the_path_of_the_member(void **state)
{
    const char *all = "awkward.v1.All";
    expect_refused(
        *state, all, "{\"inner\":{\"inners\":[{},{\"packedInts\":[1,\"x\"]}]}}",
        "inner.inners[1].packedInts[1]: 'x' is no integer");
    expect_refused(
        *state, all, "{\"byInt64\":{\"5\":{\"aBool\":1}}}",
        "byInt64.5.aBool: true or false is expected");
    expect_refused(
        *state, all, "{\"choiceInt\":1,\"choiceString\":\"a\"}",
        "'choiceInt' and 'choiceString' are both of oneof 'choice': give one");
    expect_refused(
        *state, all, "{\"inner\":{\"nothing\":1}}", "inner: awkward.v1.All has no field 'nothing'");
    expect_refused(
        *state, all, "{\"anInt32\":1,\"an_int32\":2}",
        "'an_int32' is given under both of its names");
    expect_refused(*state, all, "[]", "an object is expected");
}

static void a_required_field_of_proto2_must_be_given(void **state)
{
    expect_refused(*state, "awkward.v1.Old", "{}", "needed: required, and not given");
    expect_refused(
        *state, "awkward.v1.All", "{\"old\":{\"needed\":1,\"grouped\":{\"old\":{}}}}",
        "old.grouped.old.needed: required, and not given");
}

static void nesting_is_bounded_in_both_directions(void **state)
{
    enum { LEVELS = 200 };
    struct sl_error err;
    struct sl_buf out;
    char text[LEVELS * 16] = "";
    size_t size = 0;
    for (size_t i = 0; i < LEVELS; i++) {
        size += (size_t)snprintf(text + size, sizeof(text) - size, "{\"inner\":");
    }
    memset(text + size, ' ', 1);
    (void)snprintf(text + size, sizeof(text) - size, "{}");
    size += 2;
    memset(text + size, '}', LEVELS);
    text[size + LEVELS] = '\0';
    assert_int_equal(encode(*state, "awkward.v1.All", text, &out, &err), SL_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "nested more than 100 levels deep"));
    sl_buf_done(&out);

    struct sl_buf deep;
    json_t *json = NULL;
    sl_buf_init(&deep, OUT_BYTES);
    for (size_t i = 0; i < LEVELS; i++) { /* from the inside: a longer length before each */
        uint8_t copy[3 * LEVELS + 8];
        const struct sl_slice inside = sl_buf_slice(&deep);
        const size_t n = inside.size;
        memcpy(copy, n == 0 ? (const uint8_t *)"" : inside.data, n);
        sl_buf_clear(&deep);
        assert_int_equal(sl_buf_add_byte(&deep, 11 << 3 | 2), SL_OK);
        if (n >= 128) {
            assert_int_equal(sl_buf_add_byte(&deep, (uint8_t)(n | 0x80)), SL_OK);
        }
        assert_int_equal(sl_buf_add_byte(&deep, (uint8_t)(n >= 128 ? n >> 7 : n)), SL_OK);
        assert_int_equal(sl_buf_add(&deep, sl_slice_of(copy, n)), SL_OK);
    }
    assert_int_equal(
        sl_schema_decode(type_of(*state, "awkward.v1.All"), sl_buf_slice(&deep), &json, &err),
        SL_INTERNAL);
    assert_non_null(strstr(err.text, "nested more than 100 levels deep"));
    sl_buf_done(&deep);
}

static void malformed_bytes_are_refused_with_their_offset(void **state)
{
    struct sl_error err;
    json_t *json = NULL;
    const struct sl_schema_message *all = type_of(*state, "awkward.v1.All");
    assert_int_equal(
        sl_schema_decode(all, sl_slice_of("\x28\x01\x5a\x02\x28\x80", 6), &json, &err),
        SL_INTERNAL);
    assert_string_equal(err.text, "inner: malformed at offset 5: a varint is cut off");
    assert_int_equal(
        sl_schema_decode(all, sl_slice_of("\x4a\x02\xc3\x28", 4), &json, &err), SL_INTERNAL);
    assert_string_equal(err.text, "aString: malformed at offset 0: a string is not UTF-8");
}

static void every_truncation_is_refused_or_shorter(void **state)
{
    const char *text =
        "{\"anInt64\":\"5\",\"inner\":{\"strings\":[\"abc\",\"d\"]},\"time\":\"1970-01-"
        "01T00:00:01Z\",\"byString\":{\"k\":3},\"any\":{\"@type\":\"t/"
        "awkward.v1.Tree\",\"name\":\"n\"},\"old\":{\"needed\":1,\"grouped\":{}}}";
    struct sl_error err;
    struct sl_buf out;
    assert_int_equal(encode(*state, "awkward.v1.All", text, &out, &err), SL_OK);
    size_t n_refused = 0;
    for (size_t size = 0; size < out.size; size++) {
        json_t *json = NULL;
        uint8_t *exact = malloc(size + 1);
        assert_non_null(exact);
        memcpy(exact, out.data, size);
        const enum sl_status status = sl_schema_decode(
            type_of(*state, "awkward.v1.All"), sl_slice_of(exact, size), &json, &err);
        assert_int_equal(status == SL_OK, json != NULL);
        n_refused += status == SL_INTERNAL;
        json_decref(json);
        free(exact);
    }
    assert_true(n_refused > out.size / 2);
    sl_buf_done(&out);
}

static void an_entry_with_an_unknown_value_of_a_closed_enum_is_left_out(void **state)
{
    expect_json(
        *state, "awkward.v1.Old",
        "\x08\x01\x4a\x05\x0a\x01\x61\x10\x09\x4a\x05\x0a\x01\x62\x10\x02", 16, false,
        "{\"needed\":1,\"closedByName\":{\"b\":\"CLOSED0_TWO\"}}");
}

static void an_any_of_an_unknown_type_keeps_its_bytes(void **state)
{
    static const char text[] = "{\"any\":{\"@type\":\"t/no.Such\",\"@value\":\"AQI=\"}}";
    struct sl_error err = { .text = "" };
    struct sl_buf out;
    assert_int_equal(encode(*state, "awkward.v1.All", text, &out, &err), SL_OK);
    expect_json(*state, "awkward.v1.All", out.data, out.size, false, text);
    sl_buf_done(&out);
    expect_refused(
        *state, "awkward.v1.All", "{\"any\":{\"@type\":\"t/no.Such\"}}",
        "any: @type 't/no.Such': no message 'no.Such' (\"@value\" takes base64)");
}

static void a_repeated_extension_has_the_name_of_its_package(void **state)
{
    static const char text[] = "{\"needed\":1,\"[awkward.v1.more]\":[{\"needed\":2}]}";
    struct sl_error err = { .text = "" };
    struct sl_buf out;
    assert_int_equal(encode(*state, "awkward.v1.Old", text, &out, &err), SL_OK);
    expect_json(*state, "awkward.v1.Old", out.data, out.size, false, text);
    sl_buf_done(&out);
}

static void defaults_are_shown_when_asked_for(void **state)
{
    expect_json(*state, "awkward.v1.Tree", "", 0, true, "{\"children\":[],\"name\":\"\"}");
    expect_json(*state, "awkward.v1.Tree", "", 0, false, "{}");
}

static void numbers_are_printed_with_as_few_digits_as_they_need(void **state)
{
    json_t *json = json_pack("[f, f, f, f, f]", 0.1, 5.0, -0.0, 1e300, 1.0 / 3.0);
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, OUT_BYTES);
    assert_int_equal(sl_schema_print(json, false, &out), SL_OK);
    assert_string_equal(sl_buf_cstr(&out), "[0.1,5,-0.0,1e+300,0.3333333333333333]");
    sl_buf_clear(&out);
    assert_int_equal(sl_schema_print(json, true, &out), SL_OK);
    assert_string_equal(
        sl_buf_cstr(&out), "[\n  0.1,\n  5,\n  -0.0,\n  1e+300,\n  0.3333333333333333\n]");
    json_decref(json);
    sl_buf_done(&out);
}

static void a_template_encodes(void **state)
{
    struct sl_error err = { .text = "" };
    const struct sl_schema_message *all = type_of(*state, "awkward.v1.All");
    struct sl_buf out;
    json_t *json = sl_schema_template(all);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "time")), "1970-01-01T00:00:00Z");
    assert_null(json_object_get(json, "choiceString"));
    sl_buf_init(&out, OUT_BYTES);
    const enum sl_status status = sl_schema_encode(all, json, &out, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(status, SL_OK);
    json_decref(json);
    sl_buf_done(&out);
}

/* ---- Descriptors that no .proto gives ---------------------------------------------------------
 */

static void expect_file_refused(const void *bytes, size_t size, const char *why)
{
    struct sl_schema *schema = NULL;
    struct sl_error err = { .text = "" };
    assert_int_equal(sl_schema_new(&schema), SL_OK);
    assert_int_equal(
        sl_schema_add_file(schema, sl_slice_of(bytes, size), &err), SL_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, why));
    schema = sl_schema_free(schema);
}

static void descriptors_that_say_nonsense_are_refused(void **state)
{
    static const char no_number[] = "\x0a\x01"
                                    "f\x22\x0a\x0a\x01M\x12\x05\x0a\x01"
                                    "a\x28\x05";
    static const char bad_type[] = "\x0a\x01"
                                   "f\x22\x0c\x0a\x01M\x12\x07\x0a\x01"
                                   "a\x18\x01\x28\x63";
    static const char bad_name[] = "\x0a\x01"
                                   "f\x22\x03\x0a\x01-";
    static const char twice[] = "\x0a\x01"
                                "f\x22\x03\x0a\x01M\x22\x03\x0a\x01M";
    (void)state;
    expect_file_refused("\x0a\x05", 2, "does not parse");
    expect_file_refused("", 0, "it has no name");
    expect_file_refused(no_number, sizeof(no_number) - 1, "its number is not from 1");
    expect_file_refused(bad_type, sizeof(bad_type) - 1, "its type is none");
    expect_file_refused(bad_name, sizeof(bad_name) - 1, "a message without a name");
    expect_file_refused(twice, sizeof(twice) - 1, "is defined twice");
}

static void a_type_that_is_missing_is_named(void **state)
{
    static const char file[] = "\x0a\x01"
                               "f\x22\x0f\x0a\x01M\x12\x0a\x0a\x01"
                               "a\x18\x01\x28\x0b\x32\x01X";
    const struct sl_schema_message *message = NULL;
    struct sl_schema *schema = NULL;
    struct sl_error err = { .text = "" };
    (void)state;
    assert_int_equal(sl_schema_new(&schema), SL_OK);
    assert_int_equal(sl_schema_add_file(schema, sl_slice_of(file, sizeof(file) - 1), &err), SL_OK);
    assert_int_equal(sl_schema_add_file(schema, sl_slice_of(file, sizeof(file) - 1), &err), SL_OK);
    assert_true(sl_schema_has_file(schema, "f"));
    assert_int_equal(
        sl_schema_find_message(schema, sl_slice_str("M"), &message, &err), SL_FAILED_PRECONDITION);
    assert_string_equal(err.text, "M.a: its type X is in none of the files");
    schema = sl_schema_free(schema);
}

static size_t n_left;

static bool may_allocate(size_t size)
{
    (void)size;
    if (n_left == 0) {
        return false;
    }
    n_left--;
    return true;
}

static void no_memory_is_reported_wherever_it_ends(void **state)
{
    static const char text[] =
        "{\"inner\":{\"strings\":[\"a\"]},\"someBytes\":\"AAA=\",\"mask\":\"a\"}";
    bool is_done = false;
    struct sl_error err;
    json_t *json = json_loads(text, 0, NULL);
    const struct sl_schema_message *all = type_of(*state, "awkward.v1.All");
    for (size_t i = 0; i < 200 && !is_done; i++) {
        struct sl_buf out;
        json_t *back = NULL;
        sl_buf_init(&out, OUT_BYTES);
        n_left = i;
        sl_mem_set_gate(may_allocate);
        enum sl_status status = sl_schema_encode(all, json, &out, &err);
        if (status == SL_OK) {
            status = sl_schema_decode(all, sl_buf_slice(&out), &back, &err);
        }
        sl_mem_set_gate(NULL);
        is_done = status == SL_OK;
        assert_true(is_done || status == SL_RESOURCE_EXHAUSTED || status == SL_INTERNAL);
        json_decref(back);
        sl_buf_done(&out);
    }
    assert_true(is_done);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_method_is_found_under_each_of_its_three_names),
        cmocka_unit_test(the_four_kinds_of_methods_are_told_apart),
        cmocka_unit_test(a_wrong_name_says_what_there_is),
        cmocka_unit_test(an_error_names_the_path_of_the_member),
        cmocka_unit_test(a_required_field_of_proto2_must_be_given),
        cmocka_unit_test(nesting_is_bounded_in_both_directions),
        cmocka_unit_test(malformed_bytes_are_refused_with_their_offset),
        cmocka_unit_test(every_truncation_is_refused_or_shorter),
        cmocka_unit_test(an_entry_with_an_unknown_value_of_a_closed_enum_is_left_out),
        cmocka_unit_test(an_any_of_an_unknown_type_keeps_its_bytes),
        cmocka_unit_test(a_repeated_extension_has_the_name_of_its_package),
        cmocka_unit_test(defaults_are_shown_when_asked_for),
        cmocka_unit_test(numbers_are_printed_with_as_few_digits_as_they_need),
        cmocka_unit_test(a_template_encodes),
        cmocka_unit_test(descriptors_that_say_nonsense_are_refused),
        cmocka_unit_test(a_type_that_is_missing_is_named),
        cmocka_unit_test(no_memory_is_reported_wherever_it_ends),
    };
    return cmocka_run_group_tests(tests, make_schema, drop_schema);
}
