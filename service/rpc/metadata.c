#include "service/rpc/metadata.h"

#include "runtime/base/mem.h"

enum { FIRST_CAPACITY = 4 };

static const char *const forbidden[] = {
    "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade",
    "te",         "host",       "content-type",     "content-length",
};

static bool is_key_byte(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || byte == '_' ||
           byte == '.' || byte == '-';
}

/* MD-1, MD-5. Pseudo-headers fall out with their colon. */
static bool is_allowed_key(struct sl_slice key)
{
    for (size_t i = 0; i < key.size; i++) {
        if (!is_key_byte(key.data[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < SL_COUNT(forbidden); i++) {
        if (sl_slice_equals(key, forbidden[i])) {
            return false;
        }
    }
    return key.size > 0 && !(key.size >= 5 && memcmp(key.data, "grpc-", 5) == 0);
}

static bool is_binary_key(struct sl_slice key)
{
    return key.size >= 4 && memcmp(key.data + key.size - 4, "-bin", 4) == 0;
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

enum sl_status sl_metadata_check(struct sl_slice key, struct sl_slice value)
{
    if (!is_allowed_key(key) || !(is_binary_key(key) || is_printable(value))) {
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static enum sl_status grow(struct sl_metadata *metadata, struct sl_arena *arena)
{
    if (metadata->n_items < metadata->capacity) {
        return SL_OK;
    }
    const size_t capacity = metadata->capacity == 0 ? FIRST_CAPACITY : metadata->capacity * 2;
    struct sl_metadatum *items = sl_arena_calloc(arena, capacity, sizeof(*items));
    if (items == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (metadata->n_items > 0) {
        memcpy(items, metadata->items, metadata->n_items * sizeof(*items));
    }
    metadata->items = items;
    metadata->capacity = capacity;
    return SL_OK;
}

enum sl_status sl_metadata_append(
    struct sl_metadata *metadata,
    struct sl_arena *arena,
    struct sl_slice key,
    struct sl_slice value)
{
    SL_TRY(grow(metadata, arena));
    const char *own_key = sl_arena_dup(arena, key);
    const char *own_value = own_key == NULL ? NULL : sl_arena_dup(arena, value);
    if (own_value == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    metadata->items[metadata->n_items++] = (struct sl_metadatum){
        .key = sl_slice_of(own_key, key.size),
        .value = sl_slice_of(own_value, value.size),
    };
    return SL_OK;
}

enum sl_status sl_metadata_add(
    struct sl_metadata *metadata,
    struct sl_arena *arena,
    struct sl_slice key,
    struct sl_slice value)
{
    SL_TRY(sl_metadata_check(key, value));
    return sl_metadata_append(metadata, arena, key, value);
}

bool sl_metadata_get(
    const struct sl_metadata *metadata, const char *key, size_t n, struct sl_slice *ret_value)
{
    for (size_t i = 0; i < metadata->n_items; i++) {
        if (sl_slice_equals(metadata->items[i].key, key) && n-- == 0) {
            *ret_value = metadata->items[i].value;
            return true;
        }
    }
    return false;
}
