/* Wire bytes to JSON: the well-known types. */
#include <math.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/schema/json_impl.h"

static enum sl_status
decode_dynamic(struct sl_decoder *decoder, struct sl_slice bytes, json_t **ret_json);

static enum sl_status decode_time(
    struct sl_decoder *decoder,
    bool (*print)(int64_t seconds, int64_t nanos, char room[SL_TIME_TEXT_BYTES]),
    struct sl_slice bytes,
    json_t **ret_json)
{
    uint64_t values[2] = { 0, 0 };
    char text[SL_TIME_TEXT_BYTES];
    while (bytes.size > 0) {
        struct sl_wire_item item;
        SL_TRY(sl_wire_next(decoder, &bytes, &item));
        if (item.wire == SL_WIRE_VARINT && item.number <= 2) {
            values[item.number - 1] = item.value;
        }
    }
    if (!print((int64_t)values[0], (int32_t)(uint32_t)values[1], text)) {
        return sl_decoder_fail(decoder, "a time out of range");
    }
    *ret_json = json_string(text);
    return *ret_json == NULL ? sl_decoder_out_of_memory(decoder) : SL_OK;
}

static enum sl_status
decode_mask(struct sl_decoder *decoder, struct sl_slice bytes, json_t **ret_json)
{
    struct sl_buf text;
    enum sl_status status = SL_OK;
    bool is_first = true;
    uint8_t *room;
    sl_buf_init(&text, bytes.size + 1);
    if (sl_buf_reserve(&text, text.max_bytes, &room) != SL_OK) {
        return sl_decoder_out_of_memory(decoder);
    }
    while (status == SL_OK && bytes.size > 0) {
        struct sl_wire_item item;
        status = sl_wire_next(decoder, &bytes, &item);
        if (status != SL_OK || item.number != 1 || item.wire != SL_WIRE_BYTES) {
            continue;
        }
        if ((!is_first && sl_buf_add_byte(&text, ',') != SL_OK) || item.bytes.size == 0 ||
            !sl_mask_path_to_json(item.bytes, &text)) {
            status = sl_decoder_fail(decoder, "a path of a FieldMask that JSON cannot say");
        }
        is_first = false;
    }
    if (status == SL_OK) {
        const struct sl_slice all = sl_buf_slice(&text);
        *ret_json = json_stringn(all.size == 0 ? "" : (const char *)all.data, all.size);
        status = *ret_json == NULL ? sl_decoder_fail(decoder, "a path is not UTF-8") : SL_OK;
    }
    sl_buf_done(&text);
    return status;
}

static enum sl_status decode_wrapper(
    struct sl_decoder *decoder, enum sl_schema_type type, struct sl_slice bytes, json_t **ret_json)
{
    struct sl_wire_item value = { .at = bytes.data };
    while (bytes.size > 0) {
        struct sl_wire_item item;
        SL_TRY(sl_wire_next(decoder, &bytes, &item));
        if (item.number == 1 && item.wire == sl_schema_wire_of(type)) {
            value = item;
        }
    }
    return sl_decode_scalar(decoder, type, &value, ret_json);
}

/* ---- Struct, Value, ListValue -----------------------------------------------------------------
 */

/* One entry of Struct.fields: key = 1, value = 2. */
static enum sl_status
decode_entry(struct sl_decoder *decoder, struct sl_slice bytes, json_t *object)
{
    struct sl_slice parts[2] = { { 0 }, { 0 } };
    json_t *key = NULL;
    json_t *value = NULL;
    const struct sl_wire_item start = { .at = bytes.data };
    while (bytes.size > 0) {
        struct sl_wire_item item;
        SL_TRY(sl_wire_next(decoder, &bytes, &item));
        if (item.wire == SL_WIRE_BYTES && item.number <= 2) {
            parts[item.number - 1] = item.bytes;
        }
    }
    struct sl_wire_item name = start;
    name.bytes = parts[0];
    SL_TRY(sl_decode_scalar(decoder, SL_TYPE_STRING, &name, &key));
    enum sl_status status = decode_dynamic(decoder, parts[1], &value);
    if (status == SL_OK &&
        json_object_setn_new(object, json_string_value(key), json_string_length(key), value) != 0) {
        status = sl_decoder_out_of_memory(decoder);
    }
    json_decref(key);
    return status;
}

static enum sl_status
decode_element(struct sl_decoder *decoder, struct sl_slice bytes, json_t *list)
{
    json_t *value = NULL;
    SL_TRY(decode_dynamic(decoder, bytes, &value));
    return json_array_append_new(list, value) == 0 ? SL_OK : sl_decoder_out_of_memory(decoder);
}

/* The elements of a Struct (an object) or a ListValue (an array). */
static enum sl_status
decode_elements(struct sl_decoder *decoder, struct sl_slice bytes, json_t *into)
{
    enum sl_status status = SL_OK;
    while (status == SL_OK && bytes.size > 0) {
        struct sl_wire_item item;
        status = sl_wire_next(decoder, &bytes, &item);
        if (status == SL_OK && item.number == 1 && item.wire == SL_WIRE_BYTES) {
            status = json_is_object(into) ? decode_entry(decoder, item.bytes, into)
                                          : decode_element(decoder, item.bytes, into);
        }
    }
    return status;
}

static enum sl_status
decode_container(struct sl_decoder *decoder, json_t *into, struct sl_slice bytes, json_t **ret_json)
{
    if (into == NULL) {
        return sl_decoder_out_of_memory(decoder);
    }
    const enum sl_status status =
        decoder->depth >= SL_SCHEMA_DEPTH
            ? sl_decoder_fail(decoder, "nested more than %d levels deep", SL_SCHEMA_DEPTH)
            : SL_OK;
    decoder->depth++;
    const enum sl_status done = status == SL_OK ? decode_elements(decoder, bytes, into) : status;
    decoder->depth--;
    if (done != SL_OK) {
        json_decref(into);
        return done;
    }
    *ret_json = into;
    return SL_OK;
}

static enum sl_status
decode_number(struct sl_decoder *decoder, const struct sl_wire_item *item, json_t **ret_json)
{
    double real;
    memcpy(&real, &item->value, sizeof(real));
    if (!isfinite(real)) {
        return sl_decoder_fail(decoder, "a Value that is NaN or infinite");
    }
    return sl_decode_scalar(decoder, SL_TYPE_DOUBLE, item, ret_json);
}

/* A Value: the last member counts; none is null. */
static enum sl_status
decode_dynamic(struct sl_decoder *decoder, struct sl_slice bytes, json_t **ret_json)
{
    static const uint8_t wires[] = { SL_WIRE_VARINT, SL_WIRE_64,    SL_WIRE_BYTES,
                                     SL_WIRE_VARINT, SL_WIRE_BYTES, SL_WIRE_BYTES };
    struct sl_wire_item last = { 0 };
    while (bytes.size > 0) {
        struct sl_wire_item item;
        SL_TRY(sl_wire_next(decoder, &bytes, &item));
        if (item.number <= SL_COUNT(wires) && item.wire == wires[item.number - 1]) {
            last = item;
        }
    }
    switch (last.number) {
    case 2:
        return decode_number(decoder, &last, ret_json);
    case 3:
        return sl_decode_scalar(decoder, SL_TYPE_STRING, &last, ret_json);
    case 4:
        return sl_decode_scalar(decoder, SL_TYPE_BOOL, &last, ret_json);
    case 5:
        return decode_container(decoder, json_object(), last.bytes, ret_json);
    case 6:
        return decode_container(decoder, json_array(), last.bytes, ret_json);
    default:
        *ret_json = json_null();
        return SL_OK;
    }
}

/* ---- Any --------------------------------------------------------------------------------------
 */

/* The type that a URL names, or NULL. */
static const struct sl_schema_message *find_type(struct sl_schema *schema, struct sl_slice url)
{
    const uint8_t *slash = url.size == 0 ? NULL : memrchr(url.data, '/', url.size);
    const struct sl_schema_message *message = NULL;
    if (slash == NULL) {
        return NULL;
    }
    const size_t start = (size_t)(slash + 1 - url.data);
    const struct sl_slice name = sl_slice_of(url.data + start, url.size - start);
    return sl_schema_find_message(schema, name, &message, NULL) == SL_OK ? message : NULL;
}

/* Any's members in front of those of the message in it. */
static enum sl_status join_any(
    struct sl_decoder *decoder,
    const struct sl_schema_message *type,
    json_t *content,
    json_t *object)
{
    if (type->known != SL_KNOWN_NOT) {
        return json_object_set(object, "value", content) == 0 ? SL_OK
                                                              : sl_decoder_out_of_memory(decoder);
    }
    if (json_object_get(content, "@type") != NULL) {
        return sl_decoder_fail(decoder, "a field that is called @type, in an Any");
    }
    return json_object_update(object, content) == 0 ? SL_OK : sl_decoder_out_of_memory(decoder);
}

static enum sl_status decode_any_value(
    struct sl_decoder *decoder,
    const struct sl_schema_message *type,
    struct sl_slice bytes,
    json_t *object)
{
    json_t *content = NULL;
    if (type == NULL) {
        return json_object_set_new(object, "@value", sl_bytes_to_json(bytes)) == 0
                   ? SL_OK
                   : sl_decoder_out_of_memory(decoder);
    }
    SL_TRY(
        type->known == SL_KNOWN_NOT ? sl_decode_content(decoder, type, bytes, &content)
                                    : sl_decode_known(decoder, type, bytes, &content));
    const enum sl_status status = join_any(decoder, type, content, object);
    json_decref(content);
    return status;
}

/* type_url = 1, value = 2. */
static enum sl_status decode_any(
    struct sl_decoder *decoder, struct sl_schema *schema, struct sl_slice bytes, json_t **ret_json)
{
    struct sl_wire_item url = { .at = bytes.data };
    struct sl_slice value = { 0 };
    json_t *type = NULL;
    while (bytes.size > 0) {
        struct sl_wire_item item;
        SL_TRY(sl_wire_next(decoder, &bytes, &item));
        if (item.number == 1 && item.wire == SL_WIRE_BYTES) {
            url = item;
        } else if (item.number == 2 && item.wire == SL_WIRE_BYTES) {
            value = item.bytes;
        }
    }
    json_t *object = json_object();
    enum sl_status status = SL_OK;
    if (object == NULL) {
        return sl_decoder_out_of_memory(decoder);
    }
    if (url.bytes.size > 0 || value.size > 0) {
        status = sl_decode_scalar(decoder, SL_TYPE_STRING, &url, &type);
        if (status == SL_OK && json_object_set_new(object, "@type", type) != 0) {
            status = sl_decoder_out_of_memory(decoder);
        }
        if (status == SL_OK) {
            status = decode_any_value(decoder, find_type(schema, url.bytes), value, object);
        }
    }
    if (status != SL_OK) {
        json_decref(object);
        return status;
    }
    *ret_json = object;
    return SL_OK;
}

/* -----------------------------------------------------------------------------------------------
 */

static enum sl_status decode_one(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json)
{
    switch (message->known) {
    case SL_KNOWN_ANY:
        return decode_any(decoder, message->schema, bytes, ret_json);
    case SL_KNOWN_TIMESTAMP:
        return decode_time(decoder, sl_timestamp_print, bytes, ret_json);
    case SL_KNOWN_DURATION:
        return decode_time(decoder, sl_duration_print, bytes, ret_json);
    case SL_KNOWN_FIELD_MASK:
        return decode_mask(decoder, bytes, ret_json);
    case SL_KNOWN_STRUCT:
        return decode_container(decoder, json_object(), bytes, ret_json);
    case SL_KNOWN_VALUE:
        return decode_dynamic(decoder, bytes, ret_json);
    case SL_KNOWN_LIST:
        return decode_container(decoder, json_array(), bytes, ret_json);
    case SL_KNOWN_WRAPPER:
        return decode_wrapper(decoder, message->wrapped, bytes, ret_json);
    case SL_KNOWN_NOT:
        break;
    }
    return sl_decode_content(decoder, message, bytes, ret_json);
}

enum sl_status sl_decode_known(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json)
{
    if (decoder->depth >= SL_SCHEMA_DEPTH) { /* an Any in an Any */
        return sl_decoder_fail(decoder, "nested more than %d levels deep", SL_SCHEMA_DEPTH);
    }
    decoder->depth++;
    const enum sl_status status = decode_one(decoder, message, bytes, ret_json);
    decoder->depth--;
    return status;
}
