/* google.rpc.Status by hand: three messages with nine fields do not need generated code. */
#include "service/rpc/status.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static const char error_info_url[] = "type.googleapis.com/google.rpc.ErrorInfo";
static const char retry_info_url[] = "type.googleapis.com/google.rpc.RetryInfo";
static const char default_domain[] = "sluice.v1";

/* ---- Writing --------------------------------------------------------------------------------- */

/* With `at` NULL it only counts. */
struct writer {
    uint8_t *at;
    size_t size;
};

static void put(struct writer *writer, struct sl_slice bytes)
{
    if (writer->at != NULL && bytes.size > 0) {
        memcpy(writer->at + writer->size, bytes.data, bytes.size);
    }
    writer->size += bytes.size;
}

static void put_varint(struct writer *writer, uint64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;
    do {
        bytes[size++] = (uint8_t)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        value >>= 7;
    } while (value != 0);
    put(writer, sl_slice_of(bytes, size));
}

static void put_number(struct writer *writer, unsigned field, uint64_t value)
{
    put_varint(writer, field << 3 | WIRE_VARINT);
    put_varint(writer, value);
}

static void put_head(struct writer *writer, unsigned field, size_t size)
{
    put_varint(writer, field << 3 | WIRE_BYTES);
    put_varint(writer, size);
}

static void put_bytes(struct writer *writer, unsigned field, struct sl_slice bytes)
{
    put_head(writer, field, bytes.size);
    put(writer, bytes);
}

typedef void(put_fn)(struct writer *writer, const void *value);

/* A nested message: counted first, because its length comes before it. */
static void
put_message(struct writer *writer, unsigned field, put_fn *put_content, const void *value)
{
    struct writer counter = { 0 };
    put_content(&counter, value);
    put_head(writer, field, counter.size);
    put_content(writer, value);
}

static void put_map_entry(struct writer *writer, const void *value)
{
    const struct sl_metadatum *entry = value;
    put_bytes(writer, 1, entry->key);
    put_bytes(writer, 2, entry->value);
}

struct error_info {
    struct sl_slice reason, domain;
    struct sl_metadatum *items;
    size_t n_items;
};

static void put_error_info(struct writer *writer, const void *value)
{
    const struct error_info *info = value;
    put_bytes(writer, 1, info->reason);
    put_bytes(writer, 2, info->domain);
    for (size_t i = 0; i < info->n_items; i++) {
        put_message(writer, 3, put_map_entry, &info->items[i]);
    }
}

static void put_error_info_any(struct writer *writer, const void *value)
{
    put_bytes(writer, 1, sl_slice_str(error_info_url));
    put_message(writer, 2, put_error_info, value);
}

static void put_duration(struct writer *writer, const void *value)
{
    const int64_t *delay_ms = value;
    put_number(writer, 1, (uint64_t)(*delay_ms / 1000));
    put_number(writer, 2, (uint64_t)(*delay_ms % 1000) * 1000000);
}

static void put_retry_info(struct writer *writer, const void *value)
{
    put_message(writer, 1, put_duration, value);
}

static void put_retry_info_any(struct writer *writer, const void *value)
{
    put_bytes(writer, 1, sl_slice_str(retry_info_url));
    put_message(writer, 2, put_retry_info, value);
}

/* What goes into the bytes, with all text repaired. */
struct parts {
    enum sl_status code;
    struct sl_slice message;
    struct error_info info; /* reason.data NULL: none */
    int64_t retry_delay_ms;
    struct sl_slice raw; /* details that the handler gave */
};

/* ---- Reading --------------------------------------------------------------------------------- */

struct field {
    const uint8_t *from; /* its tag */
    uint32_t number;
    unsigned wire;
    uint64_t value;
    struct sl_slice bytes;
};

static bool read_varint(struct sl_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && rest->size > 0; shift += 7) {
        const uint8_t byte = *rest->data++;
        rest->size--;
        value |= shift < 64 ? (uint64_t)(byte & 0x7F) << shift : 0;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool read_bytes(struct sl_slice *rest, uint64_t size, struct sl_slice *ret_bytes)
{
    if (size > rest->size) {
        return false;
    }
    *ret_bytes = sl_slice_of(rest->data, (size_t)size);
    rest->data += size;
    rest->size -= (size_t)size;
    return true;
}

/* The next field; false: malformed, or a group. */
static bool read_field(struct sl_slice *rest, struct field *ret_field)
{
    struct field field = { .from = rest->data };
    uint64_t tag;
    if (!read_varint(rest, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) {
        return false;
    }
    field.number = (uint32_t)(tag >> 3);
    field.wire = (unsigned)(tag & 7);
    bool is_read = false;
    if (field.wire == WIRE_VARINT) {
        is_read = read_varint(rest, &field.value);
    } else if (field.wire == WIRE_BYTES) {
        uint64_t size;
        is_read = read_varint(rest, &size) && read_bytes(rest, size, &field.bytes);
    } else if (field.wire == WIRE_64 || field.wire == WIRE_32) {
        is_read = read_bytes(rest, field.wire == WIRE_64 ? 8 : 4, &field.bytes);
    }
    *ret_field = field;
    return is_read;
}

static bool is_bytes_field(const struct field *field, uint32_t number)
{
    return field->number == number && field->wire == WIRE_BYTES;
}

/* Fields 1 and 2 of a message as text: an Any, a map's entry. */
static bool
read_pair(struct sl_slice bytes, struct sl_slice *ret_first, struct sl_slice *ret_second)
{
    struct field field;
    *ret_first = *ret_second = sl_slice_of("", 0);
    while (bytes.size > 0) {
        if (!read_field(&bytes, &field)) {
            return false;
        }
        if (is_bytes_field(&field, 1)) {
            *ret_first = field.bytes;
        } else if (is_bytes_field(&field, 2)) {
            *ret_second = field.bytes;
        }
    }
    return true;
}

static enum sl_status add_info(
    struct sl_rpc_details *details, size_t *capacity, struct sl_arena *arena, struct sl_slice entry)
{
    struct sl_metadatum item;
    if (!read_pair(entry, &item.key, &item.value)) {
        return SL_INTERNAL;
    }
    if (details->n_info == *capacity) {
        const size_t more = *capacity == 0 ? 4 : *capacity * 2;
        struct sl_metadatum *items = sl_arena_calloc(arena, more, sizeof(*items));
        if (items == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        if (details->n_info > 0) {
            memcpy(items, details->info, details->n_info * sizeof(*items));
        }
        details->info = items;
        *capacity = more;
    }
    details->info[details->n_info++] = item;
    return SL_OK;
}

static enum sl_status
read_error_info(struct sl_slice bytes, struct sl_arena *arena, struct sl_rpc_details *details)
{
    size_t capacity = 0;
    struct field field;
    while (bytes.size > 0) {
        if (!read_field(&bytes, &field)) {
            return SL_INTERNAL;
        }
        if (is_bytes_field(&field, 1)) {
            details->reason = field.bytes;
        } else if (is_bytes_field(&field, 2)) {
            details->domain = field.bytes;
        } else if (is_bytes_field(&field, 3)) {
            const enum sl_status status = add_info(details, &capacity, arena, field.bytes);
            if (status != SL_OK) {
                return status;
            }
        }
    }
    return SL_OK;
}

/* Seconds and nanoseconds in milliseconds, at least 0, rounded up. */
static int64_t to_ms(int64_t seconds, int64_t nanos)
{
    if (seconds < 0 || nanos < 0) {
        return 0;
    }
    if (seconds > INT64_MAX / 1000 - 1 || nanos > 999999999) {
        return INT64_MAX;
    }
    return seconds * 1000 + (nanos + 999999) / 1000000;
}

static enum sl_status read_retry_info(struct sl_slice bytes, struct sl_rpc_details *details)
{
    struct field field;
    int64_t seconds = 0;
    int64_t nanos = 0;
    while (bytes.size > 0) {
        if (!read_field(&bytes, &field)) {
            return SL_INTERNAL;
        }
        struct sl_slice duration = is_bytes_field(&field, 1) ? field.bytes : sl_slice_of(NULL, 0);
        while (duration.size > 0) {
            if (!read_field(&duration, &field)) {
                return SL_INTERNAL;
            }
            if (field.wire == WIRE_VARINT && field.number == 1) {
                seconds = (int64_t)field.value;
            } else if (field.wire == WIRE_VARINT && field.number == 2) {
                nanos = (int64_t)field.value;
            }
        }
    }
    details->has_retry = true;
    details->retry_delay_ms = to_ms(seconds, nanos);
    return SL_OK;
}

/* The type is what stands behind the last slash. */
static bool is_type(struct sl_slice url, const char *full_url)
{
    const char *name = strrchr(full_url, '/');
    const size_t size = strlen(name);
    return url.size >= size && memcmp(url.data + url.size - size, name, size) == 0;
}

static enum sl_status
read_detail(struct sl_slice any, struct sl_arena *arena, struct sl_rpc_details *details)
{
    struct sl_slice url;
    struct sl_slice value;
    if (!read_pair(any, &url, &value)) {
        return SL_INTERNAL;
    }
    if (is_type(url, error_info_url) && details->reason.data == NULL) {
        details->reason = details->domain = sl_slice_of("", 0);
        return read_error_info(value, arena, details);
    }
    if (is_type(url, retry_info_url)) {
        return read_retry_info(value, details);
    }
    return SL_OK;
}

enum sl_status sl_rpc_details_decode(
    struct sl_slice bytes, struct sl_arena *arena, struct sl_rpc_details *ret_details)
{
    struct sl_rpc_details details = { 0 };
    struct field field;
    while (bytes.size > 0) {
        if (!read_field(&bytes, &field)) {
            return SL_INTERNAL;
        }
        if (field.number == 1 && field.wire == WIRE_VARINT) {
            details.code = (int32_t)(uint32_t)field.value;
        } else if (is_bytes_field(&field, 2)) {
            details.message = field.bytes;
        } else if (is_bytes_field(&field, 3)) {
            const enum sl_status status = read_detail(field.bytes, arena, &details);
            if (status != SL_OK) {
                return status;
            }
        }
    }
    *ret_details = details;
    return SL_OK;
}

/* ---- Both: a status with the details that a handler gave ------------------------------------- */

/* Copies every field but code and message. `raw` was read before. */
static void put_raw(struct writer *writer, struct sl_slice raw)
{
    struct field field;
    while (raw.size > 0 && read_field(&raw, &field)) {
        if (field.number != 1 && field.number != 2) {
            put(writer, sl_slice_of(field.from, (size_t)(raw.data - field.from)));
        }
    }
}

static void put_status(struct writer *writer, const struct parts *parts)
{
    put_number(writer, 1, (uint64_t)parts->code);
    put_bytes(writer, 2, parts->message);
    if (parts->raw.size > 0) {
        put_raw(writer, parts->raw);
        return;
    }
    if (parts->info.reason.data != NULL) {
        put_message(writer, 3, put_error_info_any, &parts->info);
    }
    if (parts->retry_delay_ms > 0) {
        put_message(writer, 3, put_retry_info_any, &parts->retry_delay_ms);
    }
}

static enum sl_status
repair_info(const struct sl_call_status *status, struct sl_arena *arena, struct error_info *info)
{
    if (status->reason == NULL || status->reason[0] == '\0') {
        return SL_OK;
    }
    const char *domain = status->domain == NULL ? default_domain : status->domain;
    SL_TRY(sl_rpc_text_repair(sl_slice_str(status->reason), arena, &info->reason));
    SL_TRY(sl_rpc_text_repair(sl_slice_str(domain), arena, &info->domain));
    info->items = sl_arena_calloc(arena, status->n_info, sizeof(*info->items));
    if (info->items == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (; info->n_items < status->n_info; info->n_items++) {
        const struct sl_metadatum *from = &status->info[info->n_items];
        struct sl_metadatum *to = &info->items[info->n_items];
        SL_TRY(sl_rpc_text_repair(from->key, arena, &to->key));
        SL_TRY(sl_rpc_text_repair(from->value, arena, &to->value));
    }
    return SL_OK;
}

static enum sl_status check_raw(struct sl_slice raw)
{
    struct field field;
    while (raw.size > 0) {
        if (!read_field(&raw, &field)) {
            return SL_INVALID_ARGUMENT;
        }
    }
    return SL_OK;
}

enum sl_status sl_rpc_details_encode(
    const struct sl_call_status *status, struct sl_arena *arena, struct sl_slice *ret_details)
{
    struct parts parts = {
        .code = sl_rpc_status_clamp(status->code),
        .retry_delay_ms = status->retry_delay_ms,
        .raw = status->details,
    };
    SL_TRY(check_raw(parts.raw));
    SL_TRY(sl_rpc_text_repair(sl_slice_str(status->message), arena, &parts.message));
    SL_TRY(repair_info(status, arena, &parts.info));
    if (parts.raw.size == 0 && parts.info.reason.data == NULL && parts.retry_delay_ms <= 0) {
        *ret_details = sl_slice_of("", 0);
        return SL_OK;
    }
    struct writer counter = { 0 };
    put_status(&counter, &parts);
    struct writer writer = { .at = sl_arena_alloc(arena, counter.size) };
    if (writer.at == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    put_status(&writer, &parts);
    *ret_details = sl_slice_of(writer.at, writer.size);
    return SL_OK;
}
