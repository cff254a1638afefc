#include "tests/judge/conformance/common.h"

#include <errno.h>
#include <string.h>
#include <tests/judge/conformance/status.pb-c.h>
#include <unistd.h>

#include "runtime/base/base64.h"

enum { LENGTH_BYTES = 4 };

/* ---- Messages behind a length ---------------------------------------------------------------- */

/* SL_END: the descriptor ended before the first byte. */
static enum sl_status read_all(int fd, uint8_t *room, size_t size)
{
    for (size_t at = 0; at < size;) {
        const ssize_t n = read(fd, room + at, size - at);
        if (n == 0) {
            return at == 0 ? SL_END : SL_UNAVAILABLE;
        }
        if (n < 0 && errno != EINTR) {
            return SL_UNAVAILABLE;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return SL_OK;
}

enum sl_status judge_read(int fd, struct sl_buf *ret_message)
{
    uint8_t length[LENGTH_BYTES];
    SL_TRY(read_all(fd, length, sizeof(length)));
    const size_t size = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 |
                        (size_t)length[3];
    if (size > JUDGE_MESSAGE_MAX) {
        return SL_UNAVAILABLE;
    }
    uint8_t *room;
    sl_buf_clear(ret_message);
    SL_TRY(sl_buf_reserve(ret_message, size + 1, &room));
    if (size > 0 && read_all(fd, room, size) != SL_OK) {
        return SL_UNAVAILABLE;
    }
    sl_buf_commit(ret_message, size);
    return SL_OK;
}

enum sl_status judge_write(int fd, const ProtobufCMessage *message)
{
    struct sl_buf out;
    uint8_t *room;
    const size_t size = protobuf_c_message_get_packed_size(message);
    sl_buf_init(&out, JUDGE_MESSAGE_MAX);
    SL_TRY(sl_buf_reserve(&out, LENGTH_BYTES + size, &room));
    room[0] = (uint8_t)(size >> 24);
    room[1] = (uint8_t)(size >> 16);
    room[2] = (uint8_t)(size >> 8);
    room[3] = (uint8_t)size;
    (void)protobuf_c_message_pack(message, room + LENGTH_BYTES);
    enum sl_status status = SL_OK;
    for (size_t at = 0; at < LENGTH_BYTES + size && status == SL_OK;) {
        const ssize_t n = write(fd, room + at, LENGTH_BYTES + size - at);
        if (n < 0 && errno != EINTR) {
            status = SL_UNAVAILABLE;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    sl_buf_done(&out);
    return status;
}

/* ---- Headers --------------------------------------------------------------------------------- */

static bool is_binary(struct sl_slice key)
{
    return key.size >= 4 && memcmp(key.data + key.size - 4, "-bin", 4) == 0;
}

/* The value as text. NULL: no memory. */
static char *text_of(const struct sl_metadatum *item, struct sl_arena *arena)
{
    if (!is_binary(item->key)) {
        return sl_arena_dup(arena, item->value);
    }
    const size_t size = sl_base64_size(item->value.size);
    char *text = sl_arena_alloc(arena, size + 1);
    if (text != NULL) {
        sl_base64_encode(item->value, text);
        text[size] = '\0';
    }
    return text;
}

static judge_header *find_header(const struct judge_headers *headers, struct sl_slice name)
{
    for (size_t i = 0; i < headers->n_items; i++) {
        if (sl_slice_equals(name, headers->items[i]->name)) {
            return headers->items[i];
        }
    }
    return NULL;
}

/* With room for all the values that may come. */
static judge_header *add_header(
    struct judge_headers *headers, struct sl_slice name, size_t n_values, struct sl_arena *arena)
{
    judge_header *header = sl_arena_alloc(arena, sizeof(*header));
    if (header == NULL) {
        return NULL;
    }
    connectrpc__conformance__v1__header__init(header);
    header->name = sl_arena_dup(arena, name);
    header->value = sl_arena_calloc(arena, n_values, sizeof(*header->value));
    headers->items[headers->n_items++] = header;
    return header->name == NULL || header->value == NULL ? NULL : header;
}

enum sl_status judge_headers_of(
    const struct sl_metadata *metadata, struct sl_arena *arena, struct judge_headers *ret_headers)
{
    const size_t n = metadata->n_items;
    struct judge_headers headers = {
        .items = (judge_header **)sl_arena_calloc(arena, n + 1, sizeof(judge_header *)),
    };
    if (headers.items == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sl_metadatum *item = &metadata->items[i];
        judge_header *header = find_header(&headers, item->key);
        if (header == NULL) {
            header = add_header(&headers, item->key, n - i, arena);
        }
        char *text = text_of(item, arena);
        if (header == NULL || text == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        header->value[header->n_value++] = text;
    }
    *ret_headers = headers;
    return SL_OK;
}

static enum sl_status add_value(
    struct sl_metadata *metadata, struct sl_arena *arena, struct sl_slice key, const char *text)
{
    const struct sl_slice value = sl_slice_str(text);
    if (!is_binary(key)) {
        return sl_metadata_add(metadata, arena, key, value);
    }
    size_t size = 0;
    uint8_t *bytes = sl_arena_alloc(arena, value.size + 1);
    if (bytes == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const bool is_base64 = sl_base64_decode(value, bytes, &size) == SL_OK;
    return sl_metadata_add(metadata, arena, key, is_base64 ? sl_slice_of(bytes, size) : value);
}

/* One header with all its values; its name may have capital letters. */
static enum sl_status
add_values(struct sl_metadata *metadata, struct sl_arena *arena, const judge_header *header)
{
    char *key = sl_arena_dup(arena, sl_slice_str(header->name));
    if (key == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (char *c = key; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    for (size_t i = 0; i < header->n_value; i++) {
        SL_TRY(add_value(metadata, arena, sl_slice_str(key), header->value[i]));
    }
    return SL_OK;
}

enum sl_status judge_metadata_of(
    judge_header *const *headers,
    size_t n_headers,
    struct sl_arena *arena,
    struct sl_metadata *ret_metadata)
{
    for (size_t i = 0; i < n_headers; i++) {
        SL_TRY(add_values(ret_metadata, arena, headers[i]));
    }
    return SL_OK;
}

/* ---- Any and google.rpc.Status --------------------------------------------------------------- */

judge_any *
judge_any_of(const ProtobufCMessageDescriptor *type, struct sl_slice bytes, struct sl_arena *arena)
{
    static const char prefix[] = "type.googleapis.com/";
    const size_t n_name = strlen(type->name);
    judge_any *any = sl_arena_alloc(arena, sizeof(*any));
    char *url = sl_arena_alloc(arena, sizeof(prefix) + n_name);
    char *value = sl_arena_dup(arena, bytes);
    if (any == NULL || url == NULL || value == NULL) {
        return NULL;
    }
    memcpy(url, prefix, sizeof(prefix) - 1);
    memcpy(url + sizeof(prefix) - 1, type->name, n_name + 1);
    google__protobuf__any__init(any);
    any->type_url = url;
    any->value.data = (uint8_t *)value;
    any->value.len = bytes.size;
    return any;
}

static enum sl_status
pack(const ProtobufCMessage *message, struct sl_arena *arena, struct sl_slice *ret_bytes)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *room = sl_arena_alloc(arena, size + 1);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)protobuf_c_message_pack(message, room);
    *ret_bytes = sl_slice_of(room, size);
    return SL_OK;
}

judge_any *judge_pack(const ProtobufCMessage *message, struct sl_arena *arena)
{
    struct sl_slice bytes;
    return pack(message, arena, &bytes) == SL_OK ? judge_any_of(message->descriptor, bytes, arena)
                                                 : NULL;
}

enum sl_status judge_details_of(
    const judge_error *error,
    judge_any *extra,
    struct sl_arena *arena,
    struct sl_slice *ret_details)
{
    Sluice__Judge__Status status;
    sluice__judge__status__init(&status);
    status.code = (int32_t)error->code;
    if (error->_message_case != CONNECTRPC__CONFORMANCE__V1__ERROR___MESSAGE__NOT_SET) {
        status.message = error->message;
    }
    status.details = sl_arena_calloc(arena, error->n_details + 1, sizeof(judge_any *));
    if (status.details == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < error->n_details; i++) {
        status.details[status.n_details++] = error->details[i];
    }
    if (extra != NULL) {
        status.details[status.n_details++] = extra;
    }
    return pack(&status.base, arena, ret_details);
}

/* ---- Others ---------------------------------------------------------------------------------- */

char *judge_text_of(ProtobufCBinaryData bytes, struct sl_arena *arena)
{
    return sl_arena_dup(arena, sl_slice_of(bytes.data, bytes.len));
}

static void *allocate(void *arena, size_t size)
{
    return sl_arena_alloc(arena, size);
}

static void keep(void *arena, void *pointer)
{
    (void)arena;
    (void)pointer;
}

ProtobufCAllocator judge_allocator(struct sl_arena *arena)
{
    return (ProtobufCAllocator){ .alloc = allocate, .free = keep, .allocator_data = arena };
}
