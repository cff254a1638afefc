#include "runtime/exec/client_result.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

enum { NOTE_BYTES = 64, UTF8_MORE_MASK = 0xC0, UTF8_MORE = 0x80 };

static bool is_json(struct sl_slice text)
{
    json_t *json = json_loadb(
        (const char *)text.data, text.size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    json_decref(json);
    return json != NULL;
}

/* NULL: no memory. Owns: the caller. */
static char *to_json_string(struct sl_slice text)
{
    json_t *json = json_stringn((const char *)text.data, text.size);
    char *dump = json == NULL ? NULL : json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT);
    json_decref(json);
    char *copy = dump == NULL ? NULL : sl_strdup(dump);
    free(dump);
    return copy;
}

/* Both ends, and a note about what is between them (AL-6.4). */
static char *cut_middle(struct sl_slice text, size_t max_bytes)
{
    const size_t head = sl_utf8_cut(text, max_bytes / 2);
    size_t tail = text.size - max_bytes / 2;
    while (tail < text.size && (text.data[tail] & UTF8_MORE_MASK) == UTF8_MORE) {
        tail++;
    }
    char note[NOTE_BYTES];
    (void)snprintf(note, sizeof(note), "\n[... %zu bytes omitted ...]\n", tail - head);
    struct sl_buf buf;
    sl_buf_init(&buf, max_bytes + NOTE_BYTES);
    enum sl_status status = sl_buf_add(&buf, sl_slice_of(text.data, head));
    if (status == SL_OK) {
        status = sl_buf_add_str(&buf, note);
    }
    if (status == SL_OK) {
        status = sl_buf_add(&buf, sl_slice_of(text.data + tail, text.size - tail));
    }
    char *json = status == SL_OK ? to_json_string(sl_buf_slice(&buf)) : NULL;
    sl_buf_done(&buf);
    return json;
}

enum sl_status sl_client_result_make(
    struct sl_slice result,
    struct sl_slice error,
    size_t max_bytes,
    struct sl_client_result *ret_result)
{
    struct sl_client_result made = { .is_there = true, .result_bytes = result.size };
    bool has_memory = true;
    if (error.size > 0) {
        made.error =
            sl_strndup((const char *)error.data, sl_utf8_cut(error, SL_CLIENT_ERROR_BYTES));
        has_memory = made.error != NULL;
    }
    if (result.size > max_bytes) {
        made.is_truncated = true;
        made.result_json = cut_middle(result, max_bytes);
    } else if (result.size > 0 && is_json(result)) {
        made.result_json = sl_strndup((const char *)result.data, result.size);
    } else if (result.size > 0) {
        made.result_json = to_json_string(result);
    }
    if (!has_memory || (result.size > 0 && made.result_json == NULL)) {
        sl_client_result_done(&made);
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_result = made;
    return SL_OK;
}

void sl_client_result_done(struct sl_client_result *result)
{
    (void)sl_free(result->result_json);
    (void)sl_free(result->error);
    *result = (struct sl_client_result){ .is_there = false };
}
