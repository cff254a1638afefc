#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tool/schema.h"

static json_t *load(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    if (json == NULL) {
        print_error("not JSON: %s\n", text);
    }
    assert_non_null(json);
    return json;
}

static bool fits(const char *schema_text, const char *value_text)
{
    json_t *schema = load(schema_text);
    json_t *value = load(value_text);
    struct sl_error err = { 0 };
    const bool is_good = sl_schema_validate(schema, value, &err) == SL_OK;
    assert_true(is_good == (err.text[0] == '\0'));
    json_decref(schema);
    json_decref(value);
    return is_good;
}

static const struct {
    const char *schema, *good, *bad;
} table[] = {
    { "{\"type\":\"integer\"}", "1", "1.5" },
    { "{\"type\":\"integer\"}", "2.0", "\"2\"" },
    { "{\"type\":\"number\"}", "1.5", "true" },
    { "{\"type\":\"string\"}", "\"\"", "null" },
    { "{\"type\":\"boolean\"}", "false", "0" },
    { "{\"type\":\"null\"}", "null", "0" },
    { "{\"type\":\"array\"}", "[]", "{}" },
    { "{\"type\":[\"string\",\"null\"]}", "null", "1" },
    { "{\"enum\":[1,\"a\"]}", "1.0", "\"b\"" },
    { "{\"const\":{\"a\":1}}", "{\"a\":1}", "{\"a\":2}" },
    { "{\"minimum\":3}", "3", "2.999" },
    { "{\"maximum\":3}", "3", "4" },
    { "{\"exclusiveMinimum\":3}", "4", "3" },
    { "{\"exclusiveMaximum\":3}", "2", "3.0" },
    { "{\"maximum\":9007199254740993}", "9007199254740993", "9007199254740994" },
    { "{\"minLength\":2}", "\"\xC3\xA4\xC3\xB6\"", "\"\xC3\xA4\"" },
    { "{\"maxLength\":1}", "\"\xF0\x9F\x98\x80\"", "\"ab\"" },
    { "{\"minItems\":1}", "[0]", "[]" },
    { "{\"maxItems\":1}", "[0]", "[0,0]" },
    { "{\"items\":{\"type\":\"integer\"}}", "[1,2]", "[1,\"x\"]" },
    { "{\"required\":[\"a\"]}", "{\"a\":null}", "{\"b\":1}" },
    { "{\"properties\":{\"a\":{\"type\":\"string\"}}}", "{\"b\":1}", "{\"a\":1}" },
    { "{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1}", "{\"b\":1}" },
    { "{\"additionalProperties\":{\"type\":\"string\"}}", "{\"b\":\"\"}", "{\"b\":1}" },
    { "{\"maxProperties\":1}", "{\"a\":1}", "{\"a\":1,\"b\":1}" },
    { "{\"minProperties\":1}", "{\"a\":1}", "{}" },
    { "{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "5", "4" },
    { "{\"oneOf\":[{\"minimum\":5},{\"maximum\":5}]}", "4", "5" },
    { "{\"allOf\":[{\"minimum\":1},{\"maximum\":5}]}", "5", "6" },
    { "{\"not\":{\"type\":\"string\"}}", "1", "\"\"" },
    { "{\"$defs\":{\"n\":{\"minimum\":1}},\"$ref\":\"#/$defs/n\"}", "1", "0" },
    { "{\"$defs\":{\"a/b~\":{\"minimum\":1}},\"$ref\":\"#/$defs/a~1b~0\"}", "1", "0" },
    { "{\"properties\":{\"next\":{\"$ref\":\"#\"}},\"additionalProperties\":false}",
      "{\"next\":{\"next\":{}}}", "{\"next\":{\"x\":1}}" },
    { "true", "1", NULL },
    { "false", NULL, "1" },
};

static void each_keyword_takes_the_good_and_refuses_the_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        if (table[i].good != NULL && !fits(table[i].schema, table[i].good)) {
            fail_msg("%s refuses %s", table[i].schema, table[i].good);
        }
        if (table[i].bad != NULL && fits(table[i].schema, table[i].bad)) {
            fail_msg("%s takes %s", table[i].schema, table[i].bad);
        }
        json_t *schema = load(table[i].schema);
        assert_int_equal(sl_schema_check(schema, NULL), SL_OK);
        json_decref(schema);
    }
}

static void the_error_names_the_place(void **state)
{
    (void)state;
    json_t *schema = load("{\"properties\":{\"a\":{\"items\":{\"type\":\"integer\"}}}}");
    json_t *value = load("{\"a\":[1,\"x\"]}");
    struct sl_error err = { 0 };
    assert_int_equal(sl_schema_validate(schema, value, &err), SL_INVALID_ARGUMENT);
    assert_string_equal(err.text, "/a/1: must be integer, is string");
    json_decref(schema);
    json_decref(value);
}

/* AL-6.1 */
static void references_in_a_circle_end(void **state)
{
    (void)state;
    assert_false(fits("{\"$ref\":\"#\"}", "1"));
    assert_false(fits("{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", "1"));
    assert_false(
        fits("{\"not\":{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}}", "1") &&
        fits("{\"$ref\":\"#/nowhere\"}", "1"));
}

static void schemas_with_mistakes_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "1",
        "{\"type\":\"int\"}",
        "{\"type\":[]}",
        "{\"pattern\":\"a\"}",
        "{\"properties\":[]}",
        "{\"properties\":{\"a\":{\"requierd\":[]}}}",
        "{\"required\":\"a\"}",
        "{\"required\":[1]}",
        "{\"enum\":[]}",
        "{\"anyOf\":{}}",
        "{\"minimum\":\"1\"}",
        "{\"minLength\":-1}",
        "{\"$ref\":\"http://example.com/x\"}",
        "{\"$ref\":\"#/no/where\"}",
        "{\"items\":[{}]}",
    };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        json_t *schema = load(bad[i]);
        struct sl_error err = { 0 };
        if (sl_schema_check(schema, &err) == SL_OK) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_true(err.text[0] != '\0');
        json_decref(schema);
    }
}

/* AL-6.1 */
static void texts_become_objects(void **state)
{
    (void)state;
    static const char *const good[] = { "", " \n", "{}", "{\"a\":\"[[[\\\"{\"}" };
    static const char *const bad[] = {
        "[]", "1", "{", "{\"a\":1,\"a\":2}", "{\"a\":\"\\u0000\"}", "{\"a\":\"\xFF\"}", "{} x"
    };
    for (size_t i = 0; i < SL_COUNT(good); i++) {
        json_t *json = NULL;
        assert_int_equal(sl_schema_parse_object(sl_slice_str(good[i]), 1000, &json, NULL), SL_OK);
        json_decref(json);
    }
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        json_t *json = NULL;
        assert_int_equal(
            sl_schema_parse_object(sl_slice_str(bad[i]), 1000, &json, NULL), SL_INVALID_ARGUMENT);
    }
}

/* AL-6.1 */
static void nesting_ends_at_the_limit(void **state)
{
    (void)state;
    for (size_t depth = SL_SCHEMA_MAX_DEPTH - 1; depth <= SL_SCHEMA_MAX_DEPTH; depth++) {
        char text[512] = "{\"a\":";
        size_t size = strlen(text);
        memset(text + size, '[', depth);
        memset(text + size + depth, ']', depth);
        size += 2 * depth;
        text[size++] = '}';
        json_t *json = NULL;
        const bool is_good =
            sl_schema_parse_object(sl_slice_of(text, size), 1000, &json, NULL) == SL_OK;
        assert_true(is_good == (depth + 1 <= SL_SCHEMA_MAX_DEPTH));
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_keyword_takes_the_good_and_refuses_the_bad),
        cmocka_unit_test(the_error_names_the_place),
        cmocka_unit_test(references_in_a_circle_end),
        cmocka_unit_test(schemas_with_mistakes_are_refused),
        cmocka_unit_test(texts_become_objects),
        cmocka_unit_test(nesting_ends_at_the_limit),
    };
    return cmocka_run_group_tests_name("tool_schema", tests, NULL, NULL);
}
