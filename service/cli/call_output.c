#include "service/cli/call_output.h"

#include <stdio.h>

#include "runtime/base/base64.h"
#include "runtime/base/mem.h"
#include "service/cli/cli.h"
#include "service/cli/embedded.h"

enum { MAX_TEXT_BYTES = 256 * 1024 * 1024 };

static enum sl_status print_to(FILE *out, const char *before, const json_t *json, bool is_indented)
{
    struct sl_buf text;
    sl_buf_init(&text, MAX_TEXT_BYTES);
    const enum sl_status status = sl_schema_print(json, is_indented, &text);
    if (status == SL_OK) {
        (void)fputs(before, out);
        (void)fwrite(text.data, 1, text.size, out);
        (void)fputc('\n', out);
        (void)fflush(out);
    }
    sl_buf_done(&text);
    return status;
}

enum sl_status sl_call_print_json(const json_t *json, bool is_indented)
{
    return print_to(stdout, "", json, is_indented);
}

/* ---- Headers ----------------------------------------------------------------------------------
 */

static bool is_binary(struct sl_slice key)
{
    return key.size > 4 && memcmp(key.data + key.size - 4, "-bin", 4) == 0;
}

static void print_base64(struct sl_slice bytes)
{
    const size_t size = sl_base64_size(bytes.size);
    char *text = sl_alloc(size + 1);
    if (text != NULL) {
        sl_base64_encode(bytes, text);
        (void)fwrite(text, 1, size, stderr);
        (void)sl_free(text);
    }
}

void sl_call_print_metadata(const struct sl_metadata *metadata)
{
    for (size_t i = 0; metadata != NULL && i < metadata->n_items; i++) {
        const struct sl_metadatum *item = &metadata->items[i];
        (void)fprintf(stderr, "< %.*s: ", SL_SLICE_FMT(item->key));
        if (is_binary(item->key)) {
            print_base64(item->value);
        } else {
            (void)fwrite(item->value.data, 1, item->value.size, stderr);
        }
        (void)fputc('\n', stderr);
    }
}

/* ---- Details ----------------------------------------------------------------------------------
 */

static struct sl_slice text_of(const json_t *json)
{
    return sl_slice_of(json_string_value(json), json_string_length(json));
}

/* The bytes of a detail that the well-known pool left as base64. */
static json_t *decode_raw(const struct sl_schema_message *message, struct sl_slice base64)
{
    uint8_t *bytes = sl_alloc(base64.size * 3 / 4 + 1);
    size_t size = 0;
    json_t *json = NULL;
    if (bytes == NULL || sl_base64_decode(base64, bytes, &size) != SL_OK ||
        sl_schema_decode(message, sl_slice_of(bytes, size), &json, NULL) != SL_OK) {
        json = NULL;
    }
    (void)sl_free(bytes);
    return json;
}

/* One more try with the types of the call. */
static void explain(struct sl_schema *schema, json_t *detail)
{
    const struct sl_slice url = text_of(json_object_get(detail, "@type"));
    const json_t *raw = json_object_get(detail, "@value");
    const uint8_t *slash = url.size == 0 ? NULL : memrchr(url.data, '/', url.size);
    const struct sl_schema_message *message = NULL;
    if (schema == NULL || !json_is_string(raw) || slash == NULL) {
        return;
    }
    const size_t start = (size_t)(slash + 1 - url.data);
    if (sl_schema_find_message(
            schema, sl_slice_of(url.data + start, url.size - start), &message, NULL) != SL_OK) {
        return;
    }
    json_t *json = decode_raw(message, text_of(raw));
    if (json_is_object(json)) {
        (void)json_object_del(detail, "@value");
        (void)json_object_update(detail, json);
    }
    json_decref(json);
}

json_t *sl_call_details(struct sl_schema *schema, struct sl_slice bytes)
{
    struct sl_schema *known = NULL;
    const struct sl_schema_message *type = NULL;
    json_t *json = NULL;
    json_t *details = NULL;
    if (bytes.size > 0 && sl_schema_new(&known) == SL_OK &&
        sl_embedded_details(known, NULL) == SL_OK &&
        sl_schema_find_message(known, sl_slice_str("google.rpc.Status"), &type, NULL) == SL_OK &&
        sl_schema_decode(type, bytes, &json, NULL) == SL_OK) {
        details = json_incref(json_object_get(json, "details"));
    }
    for (size_t i = 0; i < json_array_size(details); i++) {
        explain(schema, json_array_get(details, i));
    }
    json_decref(json);
    known = sl_schema_free(known);
    return details;
}

/* "ErrorInfo {"reason": …}" */
static void print_detail(json_t *detail)
{
    const char *url = json_string_value(json_object_get(detail, "@type"));
    json_t *rest = json_copy(detail);
    if (url == NULL || rest == NULL) {
        json_decref(rest);
        return;
    }
    const char *dot = strrchr(url, '.');
    (void)json_object_del(rest, "@type");
    (void)fprintf(stderr, "  %s ", dot == NULL ? url : dot + 1);
    (void)!print_to(stderr, "", rest, false);
    json_decref(rest);
}

void sl_call_print_status(
    enum sl_status status, const char *message, const json_t *details, bool is_json)
{
    if (!is_json) {
        sl_cli_complain("%s: %s", sl_status_name(status), message);
        for (size_t i = 0; i < json_array_size(details); i++) {
            print_detail(json_array_get(details, i));
        }
        return;
    }
    json_t *line = json_pack("{s:s, s:s}", "code", sl_status_name(status), "message", message);
    if (details != NULL && line != NULL) {
        (void)json_object_set(line, "details", sl_unconst(details));
    }
    if (line != NULL) {
        (void)!print_to(stderr, "", line, false);
    }
    json_decref(line);
}
