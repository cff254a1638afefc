/* Property: arguments that pass a schema are an object of at most the allowed depth, pass it again
 * after they were written and read, and pass no schema that is the same with `not` around it. The
 * first line of the input is the schema, the rest the arguments; with no first line a fixed schema
 * is used. */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/tool/schema.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_BYTES = 4096 };

static const char fixed[] =
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":3},\"b\":{"
    "\"type\":"
    "[\"integer\",\"null\"]},\"c\":{\"$ref\":\"#\"},\"d\":{\"items\":{\"oneOf\":[{\"minimum\":1},{"
    "\"type\":\"string\"}]}}},\"additionalProperties\":false}";

static unsigned depth_of(json_t *json)
{
    unsigned most = 0;
    const char *key = NULL;
    size_t index = 0;
    json_t *item = NULL;
    json_object_foreach(json, key, item)
    {
        const unsigned depth = depth_of(item);
        most = depth > most ? depth : most;
    }
    json_array_foreach(json, index, item)
    {
        const unsigned depth = depth_of(item);
        most = depth > most ? depth : most;
    }
    return most + 1;
}

static void check_again(json_t *schema, json_t *value)
{
    char *text = json_dumps(value, 0);
    json_t *again = NULL;
    if (text == NULL ||
        sl_schema_parse_object(sl_slice_str(text), SIZE_MAX, &again, NULL) != SL_OK ||
        sl_schema_validate(schema, again, NULL) != SL_OK) {
        abort();
    }
    json_decref(again);
    free(text);
}

static void check(json_t *schema, json_t *value)
{
    if (depth_of(value) > SL_SCHEMA_MAX_DEPTH + 1) {
        abort();
    }
    struct sl_error err = { 0 };
    const bool is_good = sl_schema_validate(schema, value, &err) == SL_OK;
    if (is_good != (err.text[0] == '\0')) {
        abort();
    }
    if (!is_good) {
        return;
    }
    check_again(schema, value);
    json_t *opposite = json_object();
    if (json_object_set(opposite, "not", schema) == 0 && json_object_get(schema, "$ref") == NULL &&
        json_object_size(json_object_get(schema, "properties")) == 0 &&
        sl_schema_validate(opposite, value, NULL) == SL_OK) {
        abort();
    }
    json_decref(opposite);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size == 0 ? NULL : memchr(data, '\n', size);
    const size_t schema_size = newline == NULL ? 0 : (size_t)(newline - data);
    const size_t from = newline == NULL ? 0 : schema_size + 1;
    json_t *schema = NULL;
    if (schema_size == 0) {
        schema = json_loads(fixed, 0, NULL);
    } else if (
        sl_schema_parse_object(sl_slice_of(data, schema_size), MAX_BYTES, &schema, NULL) != SL_OK) {
        return 0;
    }
    json_t *value = NULL;
    (void)(sl_schema_check(schema, NULL) == SL_OK);
    if (sl_schema_parse_object(sl_slice_of(data + from, size - from), MAX_BYTES, &value, NULL) ==
        SL_OK) {
        check(schema, value);
    }
    json_decref(value);
    json_decref(schema);
    return 0;
}
