/* Properties: metadata that was decoded comes back the same after encoding and decoding it; a list
 * that does not decode was called bad by the scan before; timeouts and messages survive a round
 * trip.
 *
 * Input: lines "name:value", split at the first colon behind the first byte. */
#include <stdlib.h>

#include "service/rpc/deadline.h"
#include "service/rpc/headers.h"
#include "service/rpc/status.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_FIELDS = 64 };

static size_t split(struct sl_slice text, struct sl_h2_header *fields)
{
    size_t n = 0;
    while (text.size > 0 && n < MAX_FIELDS) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        const size_t line = end == NULL ? text.size : (size_t)(end - text.data);
        const uint8_t *colon = line < 2 ? NULL : memchr(text.data + 1, ':', line - 1);
        const size_t name = colon == NULL ? line : (size_t)(colon - text.data);
        fields[n++] = (struct sl_h2_header){
            .name = sl_slice_of(text.data, name),
            .value = colon == NULL ? sl_slice_of(NULL, 0) : sl_slice_of(colon + 1, line - name - 1),
        };
        const size_t used = end == NULL ? line : line + 1;
        text.data += used;
        text.size -= used;
    }
    return n;
}

static bool is_printable(struct sl_slice value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < 0x20 || value.data[i] > 0x7E) {
            return false;
        }
    }
    return true;
}

static void check_same(const struct sl_metadata *first, const struct sl_metadata *second)
{
    if (first->n_items != second->n_items) {
        abort();
    }
    for (size_t i = 0; i < first->n_items; i++) {
        const struct sl_metadatum *item = &first->items[i];
        const bool is_bin =
            item->key.size >= 4 && memcmp(item->key.data + item->key.size - 4, "-bin", 4) == 0;
        if (!sl_slice_equal(item->key, second->items[i].key) ||
            item->value.size != second->items[i].value.size ||
            ((is_bin || is_printable(item->value)) &&
             !sl_slice_equal(item->value, second->items[i].value))) {
            abort();
        }
    }
}

static void check_metadata(
    const struct sl_h2_header *fields, size_t n_fields, bool is_bad, struct sl_arena *arena)
{
    struct sl_metadata metadata = { 0 };
    const enum sl_status status = sl_headers_decode_metadata(fields, n_fields, arena, &metadata);
    if (status != SL_OK) {
        if (status != SL_INTERNAL || !is_bad) {
            abort();
        }
        return;
    }
    struct sl_header_list list = { 0 };
    struct sl_metadata back = { 0 };
    if (sl_header_list_add_metadata(&list, arena, metadata.items, metadata.n_items) != SL_OK ||
        sl_headers_decode_metadata(list.items, list.n_items, arena, &back) != SL_OK) {
        abort();
    }
    check_same(&metadata, &back);
}

static void check_message(struct sl_slice wire, struct sl_arena *arena)
{
    struct sl_slice text;
    struct sl_slice again;
    struct sl_slice back;
    if (sl_rpc_message_decode(wire, arena, &text) != SL_OK ||
        sl_rpc_message_encode(text, SIZE_MAX, arena, &again) != SL_OK ||
        sl_rpc_message_decode(again, arena, &back) != SL_OK || !sl_slice_equal(text, back)) {
        abort();
    }
    if (sl_rpc_message_encode(wire, 20, arena, &again) != SL_OK || again.size > 20) {
        abort();
    }
}

static void check_timeout(struct sl_slice text)
{
    uint64_t timeout_ns;
    uint64_t back_ns;
    char room[SL_TIMEOUT_TEXT_BYTES];
    if (sl_timeout_parse(text, &timeout_ns) == SL_OK) {
        const size_t size = sl_timeout_format(timeout_ns, room);
        if (sl_timeout_parse(sl_slice_of(room, size), &back_ns) != SL_OK || back_ns < timeout_ns) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_h2_header fields[MAX_FIELDS];
    const size_t n_fields = split(sl_slice_of(data, size), fields);
    struct sl_arena arena;
    sl_arena_init(&arena, 0);
    struct sl_headers headers;
    struct sl_slice subtype;
    struct sl_rpc_details details;
    struct sl_slice bytes;
    sl_headers_scan(fields, n_fields, &headers);
    check_metadata(fields, n_fields, headers.is_bad_base64, &arena);
    check_message(headers.grpc_message, &arena);
    check_timeout(headers.timeout);
    (void)sl_headers_content_type(headers.content_type, &subtype);
    (void)sl_rpc_status_parse(headers.grpc_status);
    if (sl_headers_decode_bin(headers.details, &arena, &bytes) == SL_OK &&
        sl_rpc_details_decode(bytes, &arena, &details) == SL_OK) {
        const struct sl_call_status status = { .code = SL_ABORTED, .details = bytes };
        if (sl_rpc_details_encode(&status, &arena, &bytes) != SL_OK) {
            abort();
        }
    }
    sl_arena_done(&arena);
    return 0;
}
