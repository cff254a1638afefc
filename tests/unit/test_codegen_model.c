#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/model.h"

/* A CodeGeneratorRequest, built from the inside out. */
static void add_field(struct sl_text *text, unsigned int number, const struct sl_text *content)
{
    uint8_t head[4] = { (uint8_t)(number << 3 | 2), (uint8_t)(content->size & 0x7f) };
    size_t size = 2;
    if (number >= 16) {
        fail();
    }
    if (content->size >= 128) {
        head[1] |= 0x80;
        head[2] = (uint8_t)(content->size >> 7);
        size = 3;
    }
    sl_text_add_bytes(text, head, size);
    sl_text_add_bytes(text, content->data, content->size);
}

static void add_string(struct sl_text *text, unsigned int number, const char *string)
{
    struct sl_text content = { 0 };
    sl_text_add(&content, string);
    add_field(text, number, &content);
    sl_text_done(&content);
}

/* message NAME { message Inner {} }, as a field of a file. */
static void add_message(struct sl_text *file, const char *name)
{
    struct sl_text inner = { 0 };
    struct sl_text outer = { 0 };
    add_string(&inner, 1, "Inner");
    add_string(&outer, 1, name);
    add_field(&outer, 3, &inner);
    add_field(file, 4, &outer);
    sl_text_done(&inner);
    sl_text_done(&outer);
}

/* (pb_c_file) = { no_generate: true, c_package: C_PACKAGE }, extension 1019. */
static void add_pb_c(struct sl_text *file, const char *c_package)
{
    struct sl_text pb_c = { 0 };
    struct sl_text options = { 0 };
    sl_text_add_bytes(&pb_c, "\x08\x01", 2);
    add_string(&pb_c, 6, c_package);
    sl_text_add_bytes(&options, "\xda\x3f", 2);
    const uint8_t size = (uint8_t)pb_c.size;
    sl_text_add_bytes(&options, &size, 1);
    sl_text_add_bytes(&options, pb_c.data, pb_c.size);
    add_field(file, 8, &options);
    sl_text_done(&pb_c);
    sl_text_done(&options);
}

static void build_request(struct sl_text *request)
{
    struct sl_text first = { 0 };
    add_string(&first, 1, "first.proto");
    add_string(&first, 2, "a.b");
    add_message(&first, "Outer");
    add_string(&first, 9, ""); /* source_code_info */
    add_message(&first, "After");
    struct sl_text second = { 0 };
    add_string(&second, 1, "second.proto");
    add_string(&second, 2, "a");
    add_message(&second, "c");
    add_pb_c(&second, "given.Name");
    add_string(request, 1, "second.proto");
    add_field(request, 15, &first);
    add_field(request, 15, &second);
    sl_text_done(&first);
    sl_text_done(&second);
}

static void files_types_and_options_are_found(void **state)
{
    (void)state;
    struct sl_text request = { 0 };
    struct sl_text why = { 0 };
    build_request(&request);
    struct sl_model model;
    assert_true(sl_model_load(&model, &request, &why));
    const struct sl_proto *first = sl_model_find_proto(&model, "first.proto");
    const struct sl_proto *second = sl_model_find_proto(&model, "second.proto");
    assert_non_null(first);
    assert_non_null(second);
    assert_null(sl_model_find_proto(&model, "third.proto"));
    assert_ptr_equal(sl_model_find_type(&model, ".a.b.Outer.Inner"), first);
    assert_ptr_equal(sl_model_find_type(&model, ".a.b.Outer"), first);
    assert_ptr_equal(sl_model_find_type(&model, ".a.c.Inner"), second);
    assert_null(sl_model_find_type(&model, ".a.b"));
    assert_null(sl_model_find_type(&model, ".a.b.Inner"));
    assert_null(sl_model_find_type(&model, ".a.b.Outer.Inner.More"));
    assert_null(first->c_package);
    assert_false(first->is_suppressed);
    assert_string_equal(second->c_package, "given.Name");
    assert_true(second->is_suppressed);

    struct sl_text name = { 0 };
    sl_proto_add_name(second, &name, SL_NAME_TYPE, "a.c.Inner");
    assert_string_equal(sl_text_get(&name), "Given__Name__C__Inner");
    sl_text_done(&name);
    sl_model_done(&model);
    sl_text_done(&request);
    sl_text_done(&why);
}

static void the_table_has_everything_but_source_code_info_GC_7(void **state)
{
    (void)state;
    struct sl_text request = { 0 };
    struct sl_text why = { 0 };
    build_request(&request);
    struct sl_model model;
    assert_true(sl_model_load(&model, &request, &why));
    struct sl_text expected = { 0 };
    add_string(&expected, 1, "first.proto");
    add_string(&expected, 2, "a.b");
    add_message(&expected, "Outer");
    add_message(&expected, "After");
    struct sl_text bytes = { 0 };
    sl_proto_add_bytes(&model.protos[0], &bytes);
    assert_false(bytes.has_failed);
    assert_int_equal(bytes.size, expected.size);
    assert_memory_equal(bytes.data, expected.data, expected.size);
    sl_text_done(&bytes);
    sl_text_done(&expected);
    sl_model_done(&model);
    sl_text_done(&request);
    sl_text_done(&why);
}

static void a_cut_request_is_refused_or_has_fewer_files(void **state)
{
    (void)state;
    struct sl_text request = { 0 };
    build_request(&request);
    for (size_t size = 0; size < request.size; size++) {
        struct sl_text cut = { 0 };
        struct sl_text why = { 0 };
        sl_text_add_bytes(&cut, request.data, size);
        struct sl_model model;
        if (sl_model_load(&model, &cut, &why)) {
            assert_true(model.n_protos < 2);
        } else {
            assert_true(why.size > 0);
        }
        sl_model_done(&model);
        sl_text_done(&cut);
        sl_text_done(&why);
    }
    sl_text_done(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_types_and_options_are_found),
        cmocka_unit_test(the_table_has_everything_but_source_code_info_GC_7),
        cmocka_unit_test(a_cut_request_is_refused_or_has_fewer_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
