/* Any FileDescriptorSet is refused with a reason or makes types that work: each method of it gives
 * a message to fill in, and what encodes decodes to the same bytes again. */
#include <stdlib.h>
#include <string.h>

#include "service/schema/schema.h"
#include "tests/fuzz/fuzz.h"

enum { OUT_BYTES = 16 * 1024 * 1024, MAX_METHODS = 50 };

static void expect(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void try_message(const struct sl_schema_message *message)
{
    struct sl_error err = { .text = "" };
    struct sl_buf first;
    struct sl_buf second;
    json_t *json = sl_schema_template(message);
    json_t *back = NULL;
    expect(json != NULL);
    sl_buf_init(&first, OUT_BYTES);
    sl_buf_init(&second, OUT_BYTES);
    if (sl_schema_encode(message, json, &first, &err) == SL_OK &&
        sl_schema_decode_all(message, sl_buf_slice(&first), &back, &err) == SL_OK) {
        expect(sl_schema_encode(message, back, &second, &err) == SL_OK);
        expect(sl_slice_equal(sl_buf_slice(&first), sl_buf_slice(&second)));
    } else {
        expect(err.text[0] != '\0');
    }
    json_decref(json);
    json_decref(back);
    sl_buf_done(&first);
    sl_buf_done(&second);
}

static void try_service(struct sl_schema *schema, const char *service, size_t *n_methods)
{
    struct sl_schema_method_name name;
    for (size_t i = 0;
         sl_schema_method_at(schema, service, i, &name) && (*n_methods)++ < MAX_METHODS; i++) {
        struct sl_error err = { .text = "" };
        const struct sl_schema_method *method = NULL;
        struct sl_buf text;
        sl_buf_init(&text, 4096);
        expect(sl_buf_addf(&text, "%s/%s", service, name.name) == SL_OK);
        if (sl_schema_find_method(schema, sl_buf_cstr(&text), &method, &err) == SL_OK) {
            try_message(method->request);
            try_message(method->response);
        } else {
            expect(err.text[0] != '\0');
        }
        sl_buf_done(&text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_schema *schema = NULL;
    struct sl_error err = { .text = "" };
    size_t n_methods = 0;
    expect(sl_schema_new(&schema) == SL_OK);
    if (sl_schema_add_set(schema, sl_slice_of(data, size), &err) == SL_OK) {
        const char *service = NULL;
        for (size_t i = 0; (service = sl_schema_service_at(schema, i)) != NULL; i++) {
            try_service(schema, service, &n_methods);
        }
    } else {
        expect(err.text[0] != '\0');
    }
    schema = sl_schema_free(schema);
    return 0;
}
