#include "service/rpc/headers.h"

#include <stddef.h>

#include "runtime/base/base64.h"
#include "runtime/base/mem.h"

enum { FIRST_CAPACITY = 16, CHUNK_CHARS = 1024, OVERHEAD_BYTES = 32 };

/* ---- In -------------------------------------------------------------------------------------- */

struct known_field {
    const char *name;
    size_t offset; /* in struct sl_headers */
};

static const struct known_field known_fields[] = {
    { ":method", offsetof(struct sl_headers, method) },
    { ":scheme", offsetof(struct sl_headers, scheme) },
    { ":path", offsetof(struct sl_headers, path) },
    { ":authority", offsetof(struct sl_headers, authority) },
    { ":status", offsetof(struct sl_headers, http_status) },
    { "content-type", offsetof(struct sl_headers, content_type) },
    { "te", offsetof(struct sl_headers, te) },
    { "user-agent", offsetof(struct sl_headers, user_agent) },
    { "grpc-timeout", offsetof(struct sl_headers, timeout) },
    { "grpc-encoding", offsetof(struct sl_headers, encoding) },
    { "grpc-previous-rpc-attempts", offsetof(struct sl_headers, previous_attempts) },
    { "grpc-status", offsetof(struct sl_headers, grpc_status) },
    { "grpc-message", offsetof(struct sl_headers, grpc_message) },
    { "grpc-status-details-bin", offsetof(struct sl_headers, details) },
    { "grpc-retry-pushback-ms", offsetof(struct sl_headers, pushback) },
};

/* "grpc-" keys that are metadata (ADM-17). */
static const char *const passed_on[] = { "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms",
                                         "grpc-trace-bin", "grpc-tags-bin" };

static const char *const not_metadata[] = {
    "te",         "content-type",     "content-length",    "host",   "connection",
    "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"
};

/* Endings of names: proxy-authorization, set-cookie, x-api-key and so on too, as in the log. */
static const char *const secrets[] = { "authorization", "cookie", "api-key" };

static bool is_one_of(struct sl_slice name, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++) {
        if (sl_slice_equals(name, names[i])) {
            return true;
        }
    }
    return false;
}

static bool starts_with(struct sl_slice text, const char *start)
{
    const size_t size = strlen(start);
    return text.size >= size && memcmp(text.data, start, size) == 0;
}

static bool ends_with(struct sl_slice text, const char *end)
{
    const size_t size = strlen(end);
    return text.size >= size && memcmp(text.data + text.size - size, end, size) == 0;
}

static bool is_binary(struct sl_slice name)
{
    return ends_with(name, "-bin");
}

static bool is_secret(struct sl_slice name)
{
    for (size_t i = 0; i < SL_COUNT(secrets); i++) {
        if (ends_with(name, secrets[i])) {
            return true;
        }
    }
    return false;
}

static bool is_metadata(struct sl_slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        const uint8_t byte = name.data[i];
        const bool is_fine = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
                             byte == '-' || byte == '_' || byte == '.';
        if (!is_fine) {
            return false; /* also every pseudo-header */
        }
    }
    if (name.size == 0 || is_one_of(name, not_metadata, SL_COUNT(not_metadata))) {
        return false;
    }
    return !starts_with(name, "grpc-") || is_one_of(name, passed_on, SL_COUNT(passed_on));
}

static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Cuts the part before the next comma off `*rest`; false: that was the last one. */
static bool cut_element(struct sl_slice *rest, struct sl_slice *ret_element)
{
    const uint8_t *comma = rest->size == 0 ? NULL : memchr(rest->data, ',', rest->size);
    const size_t size = comma == NULL ? rest->size : (size_t)(comma - rest->data);
    *ret_element = trim(sl_slice_of(rest->data, size));
    if (comma == NULL) {
        return false;
    }
    rest->data += size + 1;
    rest->size -= size + 1;
    return true;
}

/* Decodes in pieces, only to see whether it can be done. */
static bool is_base64(struct sl_slice text)
{
    uint8_t room[CHUNK_CHARS];
    size_t size;
    while (text.size > CHUNK_CHARS) {
        if (text.data[CHUNK_CHARS - 1] == '=' ||
            sl_base64_decode(sl_slice_of(text.data, CHUNK_CHARS), room, &size) != SL_OK) {
            return false;
        }
        text.data += CHUNK_CHARS;
        text.size -= CHUNK_CHARS;
    }
    return sl_base64_decode(text, room, &size) == SL_OK;
}

static bool is_base64_list(struct sl_slice list)
{
    struct sl_slice element;
    bool has_more;
    do {
        has_more = cut_element(&list, &element);
        if (!is_base64(element)) {
            return false;
        }
    } while (has_more);
    return true;
}

static struct sl_slice present(struct sl_slice value)
{
    return value.size == 0 ? sl_slice_of("", 0) : value;
}

static void scan_known(const struct sl_h2_header *field, struct sl_headers *headers)
{
    for (size_t i = 0; i < SL_COUNT(known_fields); i++) {
        if (sl_slice_equals(field->name, known_fields[i].name)) {
            struct sl_slice *slice =
                (struct sl_slice *)(void *)((char *)headers + known_fields[i].offset);
            if (slice->data == NULL) {
                *slice = present(field->value);
            }
            return;
        }
    }
}

void sl_headers_scan(
    const struct sl_h2_header *fields, size_t n_fields, struct sl_headers *ret_headers)
{
    *ret_headers = (struct sl_headers){ 0 };
    struct sl_slice host = { 0 };
    for (size_t i = 0; i < n_fields; i++) {
        const struct sl_h2_header *field = &fields[i];
        scan_known(field, ret_headers);
        if (sl_slice_equals(field->name, "grpc-accept-encoding")) {
            ret_headers->accepted = sl_encoding_set_add(ret_headers->accepted, field->value);
        } else if (sl_slice_equals(field->name, ":authority")) {
            ret_headers->n_authorities++;
        } else if (sl_slice_equals(field->name, "host")) {
            ret_headers->n_hosts++;
            host = present(field->value);
        } else if (is_binary(field->name) && !is_base64_list(field->value)) {
            ret_headers->is_bad_base64 = true;
        }
    }
    if (ret_headers->authority.data == NULL) {
        ret_headers->authority = host;
    }
}

static enum sl_status
decode_base64(struct sl_slice text, struct sl_arena *arena, struct sl_slice *ret_bytes)
{
    uint8_t *room = sl_arena_alloc(arena, text.size / 4 * 3 + 3);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t size;
    if (sl_base64_decode(text, room, &size) != SL_OK) {
        return SL_INTERNAL;
    }
    *ret_bytes = sl_slice_of(room, size);
    return SL_OK;
}

static enum sl_status
add_binary(const struct sl_h2_header *field, struct sl_arena *arena, struct sl_metadata *metadata)
{
    struct sl_slice rest = field->value;
    bool has_more;
    do {
        struct sl_slice element;
        struct sl_slice bytes;
        has_more = cut_element(&rest, &element);
        SL_TRY(decode_base64(element, arena, &bytes));
        SL_TRY(sl_metadata_append(metadata, arena, field->name, bytes));
    } while (has_more);
    return SL_OK;
}

static enum sl_status
add_field(const struct sl_h2_header *field, struct sl_arena *arena, struct sl_metadata *metadata)
{
    return is_binary(field->name)
               ? add_binary(field, arena, metadata)
               : sl_metadata_append(metadata, arena, field->name, trim(field->value));
}

enum sl_status sl_headers_decode_metadata(
    const struct sl_h2_header *fields,
    size_t n_fields,
    struct sl_arena *arena,
    struct sl_metadata *metadata)
{
    for (size_t i = 0; i < n_fields; i++) {
        const struct sl_h2_header *field = &fields[i];
        SL_TRY(is_metadata(field->name) ? add_field(field, arena, metadata) : SL_OK);
    }
    return SL_OK;
}

enum sl_status
sl_headers_decode_bin(struct sl_slice text, struct sl_arena *arena, struct sl_slice *ret_bytes)
{
    return decode_base64(trim(text), arena, ret_bytes);
}

static bool equals_without_case(struct sl_slice text, const char *lower)
{
    if (text.size != strlen(lower)) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t byte = text.data[i];
        const uint8_t small = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
        if (small != (uint8_t)lower[i]) {
            return false;
        }
    }
    return true;
}

enum sl_content_type sl_headers_content_type(struct sl_slice value, struct sl_slice *ret_subtype)
{
    static const char base[] = "application/grpc";
    const size_t base_size = sizeof(base) - 1;
    const uint8_t *semicolon = value.size == 0 ? NULL : memchr(value.data, ';', value.size);
    if (semicolon != NULL) {
        value.size = (size_t)(semicolon - value.data);
    }
    value = trim(value);
    if (value.size < base_size || !equals_without_case(sl_slice_of(value.data, base_size), base)) {
        return SL_CONTENT_NOT_GRPC;
    }
    struct sl_slice subtype = sl_slice_str("proto");
    if (value.size > base_size) {
        if (value.data[base_size] != '+') {
            return SL_CONTENT_NOT_GRPC;
        }
        subtype = sl_slice_of(value.data + base_size + 1, value.size - base_size - 1);
    }
    *ret_subtype = subtype;
    return equals_without_case(subtype, "proto") ? SL_CONTENT_GRPC : SL_CONTENT_GRPC_OTHER;
}

/* ---- Out ------------------------------------------------------------------------------------- */

static enum sl_status
append(struct sl_header_list *list, struct sl_arena *arena, const struct sl_h2_header *header)
{
    if (list->n_items == list->capacity) {
        const size_t capacity = list->capacity == 0 ? FIRST_CAPACITY : list->capacity * 2;
        struct sl_h2_header *items = sl_arena_calloc(arena, capacity, sizeof(*items));
        if (items == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        if (list->n_items > 0) {
            memcpy(items, list->items, list->n_items * sizeof(*items));
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n_items++] = *header;
    return SL_OK;
}

enum sl_status sl_header_list_add(
    struct sl_header_list *list, struct sl_arena *arena, const char *name, struct sl_slice value)
{
    const struct sl_h2_header header = { .name = sl_slice_str(name), .value = value };
    return append(list, arena, &header);
}

static enum sl_status
encode_base64(struct sl_slice bytes, struct sl_arena *arena, struct sl_slice *ret_text)
{
    const size_t size = sl_base64_size(bytes.size);
    char *room = sl_arena_alloc(arena, size + 1);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_base64_encode(bytes, room);
    *ret_text = sl_slice_of(room, size);
    return SL_OK;
}

enum sl_status sl_header_list_add_bin(
    struct sl_header_list *list, struct sl_arena *arena, const char *name, struct sl_slice bytes)
{
    struct sl_slice text;
    SL_TRY(encode_base64(bytes, arena, &text));
    return sl_header_list_add(list, arena, name, text);
}

static bool is_printable(uint8_t byte)
{
    return byte >= 0x20 && byte <= 0x7E;
}

struct sl_slice sl_headers_sendable(struct sl_slice value)
{
    value = trim(value);
    for (size_t i = 0; i < value.size; i++) {
        if (!is_printable(value.data[i])) {
            return sl_slice_of("", 0);
        }
    }
    return value;
}

/* What may be sent (MD-3): the value itself, or a copy with '?'. Outer blanks are not legal in
 * HTTP/2 and would reset the stream. */
static enum sl_status
sanitize(struct sl_slice value, struct sl_arena *arena, struct sl_slice *ret_value)
{
    value = trim(value);
    size_t at = 0;
    while (at < value.size && is_printable(value.data[at])) {
        at++;
    }
    if (at == value.size) {
        *ret_value = value;
        return SL_OK;
    }
    uint8_t *copy = sl_arena_alloc(arena, value.size);
    if (copy == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < value.size; i++) {
        copy[i] = is_printable(value.data[i]) ? value.data[i] : '?';
    }
    *ret_value = sl_slice_of(copy, value.size);
    return SL_OK;
}

enum sl_status sl_header_list_add_metadata(
    struct sl_header_list *list,
    struct sl_arena *arena,
    const struct sl_metadatum *items,
    size_t n_items)
{
    for (size_t i = 0; i < n_items; i++) {
        struct sl_h2_header header = {
            .name = items[i].key,
            .is_secret = is_secret(items[i].key),
        };
        SL_TRY(
            is_binary(items[i].key) ? encode_base64(items[i].value, arena, &header.value)
                                    : sanitize(items[i].value, arena, &header.value));
        SL_TRY(append(list, arena, &header));
    }
    return SL_OK;
}

size_t sl_header_list_bytes(const struct sl_header_list *list)
{
    size_t bytes = 0;
    for (size_t i = 0; i < list->n_items; i++) {
        bytes += list->items[i].name.size + list->items[i].value.size + OVERHEAD_BYTES;
    }
    return bytes;
}
