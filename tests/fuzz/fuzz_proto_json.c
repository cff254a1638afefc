/* JSON or bytes that are taken as a message give JSON that is taken again, and gives the same: in
 * both directions what one half writes the other half reads. The first byte chooses the type; what
 * begins with { behind it is JSON, anything else is the wire. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/schema/schema.h"
#include "tests/fuzz/fuzz.h"

enum { OUT_BYTES = 16 * 1024 * 1024, SET_BYTES = 1 << 20 };

static void expect(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

/* The pool of tests/unit/schema_types.proto, kept for every input. */
static struct sl_schema *types(void)
{
    static struct sl_schema *schema;
    static uint8_t bytes[SET_BYTES];
    if (schema == NULL) {
        struct sl_error err;
        FILE *file = fopen(SCHEMA_SET, "rb");
        expect(file != NULL && sl_schema_new(&schema) == SL_OK);
        const size_t size = fread(bytes, 1, sizeof(bytes), file);
        (void)fclose(file);
        expect(sl_schema_add_set(schema, sl_slice_of(bytes, size), &err) == SL_OK);
    }
    return schema;
}

static json_t *decode(const struct sl_schema_message *type, struct sl_slice bytes)
{
    struct sl_error err = { .text = "" };
    json_t *json = NULL;
    const enum sl_status status = sl_schema_decode(type, bytes, &json, &err);
    expect((status == SL_OK) == (json != NULL));
    expect(status == SL_OK || err.text[0] != '\0');
    return json;
}

/* NULL: refused, with a reason. */
static json_t *
through_wire(const struct sl_schema_message *type, json_t *json, struct sl_error *err)
{
    struct sl_buf out;
    json_t *back = NULL;
    sl_buf_init(&out, OUT_BYTES);
    if (sl_schema_encode(type, json, &out, err) == SL_OK) {
        back = decode(type, sl_buf_slice(&out));
        if (back == NULL) { /* bytes of a known type may be given raw, and be none */
            (void)sl_fail(err, SL_INTERNAL, "raw");
        }
    } else {
        expect(err->text[0] != '\0');
    }
    sl_buf_done(&out);
    return back;
}

static void expect_same(const json_t *a, const json_t *b)
{
    struct sl_buf left;
    struct sl_buf right;
    sl_buf_init(&left, OUT_BYTES);
    sl_buf_init(&right, OUT_BYTES);
    expect(sl_schema_print(a, false, &left) == SL_OK);
    expect(sl_schema_print(b, false, &right) == SL_OK);
    expect(sl_slice_equal(sl_buf_slice(&left), sl_buf_slice(&right)));
    sl_buf_done(&left);
    sl_buf_done(&right);
}

/* False only for what the wire may lack and JSON may not. */
static bool may_be_refused(const struct sl_error *err)
{
    return strstr(err->text, "required") != NULL || strcmp(err->text, "raw") == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "awkward.v1.All", "awkward.v1.Old", "awkward.v1.Tree" };
    struct sl_error err = { .text = "" };
    const struct sl_schema_message *type = NULL;
    json_t *first = NULL;
    if (size == 0) {
        return 0;
    }
    expect(sl_schema_find_message(types(), sl_slice_str(names[data[0] % 3]), &type, &err) == SL_OK);
    if (size > 1 && data[1] == '{') {
        json_t *json = json_loadb(
            (const char *)data + 1, size - 1, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
        if (json != NULL) {
            first = through_wire(type, json, &err);
            expect(
                first != NULL || strcmp(err.text, "raw") != 0 ||
                memmem(data, size, "@value", 6) != NULL || memchr(data, '\\', size) != NULL);
            json_decref(json);
        }
    } else {
        first = decode(type, sl_slice_of(data + 1, size - 1));
    }
    if (first != NULL) {
        json_t *second = through_wire(type, first, &err);
        if (second == NULL) {
            expect(may_be_refused(&err));
        } else {
            expect_same(first, second);
        }
        json_decref(second);
        json_decref(first);
    }
    return 0;
}
