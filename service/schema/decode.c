/* Wire bytes to JSON. */
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "service/schema/json_impl.h"

enum sl_status sl_decoder_out_of_memory(struct sl_decoder *decoder)
{
    return sl_place_fail(decoder->place, decoder->err, SL_RESOURCE_EXHAUSTED, "out of memory");
}

/* ---- Wire -------------------------------------------------------------------------------------
 */

/* With the offset, unless the bytes are a copy (parts of one message that lay apart). */
static enum sl_status malformed(struct sl_decoder *decoder, const uint8_t *at, const char *what)
{
    const struct sl_slice root = decoder->root;
    if (root.size > 0 && at >= root.data && at <= root.data + root.size) {
        return sl_decoder_fail(
            decoder, "malformed at offset %zu: %s", (size_t)(at - root.data), what);
    }
    return sl_decoder_fail(decoder, "malformed: %s", what);
}

enum sl_status
sl_wire_varint(struct sl_decoder *decoder, struct sl_slice *rest, uint64_t *ret_value)
{
    enum { MAX_BYTES = 10 };
    uint64_t value = 0;
    const uint8_t *start = rest->data;
    for (size_t i = 0; i < MAX_BYTES && i < rest->size; i++) {
        value |= (uint64_t)(start[i] & 0x7F) << (7 * i);
        if (start[i] < 0x80) {
            *ret_value = value;
            *rest = sl_slice_of(start + i + 1, rest->size - i - 1);
            return SL_OK;
        }
    }
    return malformed(
        decoder, start, rest->size < MAX_BYTES ? "a varint is cut off" : "a varint is too long");
}

static enum sl_status
take(struct sl_decoder *decoder, struct sl_slice *rest, uint64_t size, struct sl_slice *ret_bytes)
{
    if (size > rest->size) {
        return malformed(decoder, rest->data, "a value is cut off");
    }
    *ret_bytes = sl_slice_of(rest->data, (size_t)size);
    *rest = sl_slice_of(rest->data + size, rest->size - (size_t)size);
    return SL_OK;
}

static uint64_t fixed_of(struct sl_slice bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        value |= (uint64_t)bytes.data[i] << (8 * i);
    }
    return value;
}

static enum sl_status
take_tag(struct sl_decoder *decoder, struct sl_slice *rest, struct sl_wire_item *ret_item)
{
    uint64_t tag = 0;
    *ret_item = (struct sl_wire_item){ .at = rest->data };
    SL_TRY(sl_wire_varint(decoder, rest, &tag));
    tag &= UINT32_MAX; /* as C++ does it; refused are tags of more than 5 bytes */
    if (rest->data - ret_item->at > 5 || tag >> 3 == 0) {
        return malformed(decoder, ret_item->at, "a tag is out of range");
    }
    ret_item->number = (uint32_t)(tag >> 3);
    ret_item->wire = (unsigned)(tag & 7);
    return SL_OK;
}

/* The value behind a tag that begins no group. */
static enum sl_status
take_value(struct sl_decoder *decoder, struct sl_slice *rest, struct sl_wire_item *item)
{
    uint64_t size = 0;
    struct sl_slice fixed = { 0 };
    switch (item->wire) {
    case SL_WIRE_VARINT:
        return sl_wire_varint(decoder, rest, &item->value);
    case SL_WIRE_64:
    case SL_WIRE_32:
        SL_TRY(take(decoder, rest, item->wire == SL_WIRE_64 ? 8 : 4, &fixed));
        item->value = fixed_of(fixed);
        return SL_OK;
    case SL_WIRE_BYTES:
        SL_TRY(sl_wire_varint(decoder, rest, &size));
        return take(decoder, rest, size, &item->bytes);
    default:
        return malformed(
            decoder, item->at,
            item->wire == SL_WIRE_END_GROUP ? "a group ends that did not begin"
                                            : "a wire type that is none");
    }
}

/* The groups that are open, from the outside in. */
struct groups {
    uint32_t numbers[SL_SCHEMA_DEPTH];
    size_t n;
};

/* One field inside a group, or the end of one. */
static enum sl_status
skip_in_group(struct sl_decoder *decoder, struct sl_slice *rest, struct groups *groups)
{
    struct sl_wire_item item;
    SL_TRY(take_tag(decoder, rest, &item));
    if (item.wire == SL_WIRE_GROUP) {
        if (groups->n == SL_SCHEMA_DEPTH) {
            return malformed(decoder, item.at, "groups are nested too deep");
        }
        groups->numbers[groups->n++] = item.number;
        return SL_OK;
    }
    if (item.wire != SL_WIRE_END_GROUP) {
        return take_value(decoder, rest, &item);
    }
    return item.number == groups->numbers[--groups->n]
               ? SL_OK
               : malformed(decoder, item.at, "another group ends than began");
}

/* The content of the group `number`, up to its end tag. */
static enum sl_status take_group(
    struct sl_decoder *decoder, struct sl_slice *rest, uint32_t number, struct sl_slice *ret_bytes)
{
    struct groups groups = { .numbers = { number }, .n = 1 };
    const uint8_t *start = rest->data;
    const uint8_t *last = start;
    while (groups.n > 0) {
        if (rest->size == 0) {
            return malformed(decoder, rest->data, "a group does not end");
        }
        last = rest->data;
        SL_TRY(skip_in_group(decoder, rest, &groups));
    }
    *ret_bytes = sl_slice_of(start, (size_t)(last - start));
    return SL_OK;
}

enum sl_status
sl_wire_next(struct sl_decoder *decoder, struct sl_slice *rest, struct sl_wire_item *ret_item)
{
    SL_TRY(take_tag(decoder, rest, ret_item));
    return ret_item->wire == SL_WIRE_GROUP
               ? take_group(decoder, rest, ret_item->number, &ret_item->bytes)
               : take_value(decoder, rest, ret_item);
}

/* ---- Values -----------------------------------------------------------------------------------
 */

static json_t *signed_64(int64_t value)
{
    return json_sprintf("%lld", (long long)value);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1 ^ (0 - (value & 1)));
}

static json_t *string_of(struct sl_slice bytes)
{
    return json_stringn(bytes.size == 0 ? "" : (const char *)bytes.data, bytes.size);
}

static bool is_utf8(struct sl_slice bytes)
{
    struct sl_utf8 state = { 0 };
    return sl_utf8_feed(&state, bytes) == SL_OK && sl_utf8_finish(&state) == SL_OK;
}

static json_t *real_of(enum sl_schema_type type, uint64_t value)
{
    if (type == SL_TYPE_FLOAT) {
        const uint32_t bits = (uint32_t)value;
        float real;
        memcpy(&real, &bits, sizeof(real));
        return sl_float_to_json(real);
    }
    double real;
    memcpy(&real, &value, sizeof(real));
    return sl_double_to_json(real);
}

static json_t *scalar_of(enum sl_schema_type type, const struct sl_wire_item *item)
{
    switch (type) {
    case SL_TYPE_DOUBLE:
    case SL_TYPE_FLOAT:
        return real_of(type, item->value);
    case SL_TYPE_INT64:
    case SL_TYPE_SFIXED64:
        return signed_64((int64_t)item->value);
    case SL_TYPE_SINT64:
        return signed_64(unzigzag(item->value));
    case SL_TYPE_UINT64:
    case SL_TYPE_FIXED64:
        return json_sprintf("%llu", (unsigned long long)item->value);
    case SL_TYPE_INT32:
    case SL_TYPE_SFIXED32:
        return json_integer((int32_t)(uint32_t)item->value);
    case SL_TYPE_SINT32:
        return json_integer((int32_t)unzigzag((uint32_t)item->value));
    case SL_TYPE_UINT32:
    case SL_TYPE_FIXED32:
        return json_integer((uint32_t)item->value);
    case SL_TYPE_BOOL:
        return json_boolean(item->value != 0);
    case SL_TYPE_STRING:
        return string_of(item->bytes);
    case SL_TYPE_BYTES:
        return sl_bytes_to_json(item->bytes);
    case SL_TYPE_GROUP:
    case SL_TYPE_MESSAGE:
    case SL_TYPE_ENUM:
        break;
    }
    return NULL;
}

enum sl_status sl_decode_scalar(
    struct sl_decoder *decoder,
    enum sl_schema_type type,
    const struct sl_wire_item *item,
    json_t **ret_json)
{
    if (type == SL_TYPE_STRING && !is_utf8(item->bytes)) {
        return malformed(decoder, item->at, "a string is not UTF-8");
    }
    json_t *json = scalar_of(type, item);
    if (json == NULL) {
        return sl_decoder_out_of_memory(decoder);
    }
    *ret_json = json;
    return SL_OK;
}

/* Gives NULL for a number that a closed enum has not: it counts as unknown. */
static enum sl_status enum_of(
    struct sl_decoder *decoder,
    const struct sl_schema_enum *enumeration,
    uint64_t value,
    json_t **ret_json)
{
    const int32_t number = (int32_t)(uint32_t)value;
    json_t *json = NULL;
    bool is_known = false;
    for (size_t i = 0; i < enumeration->n_values && !is_known; i++) {
        if (enumeration->values[i].number == number) {
            is_known = true;
            json = enumeration->is_null ? json_null() : json_string(enumeration->values[i].name);
        }
    }
    if (!is_known && !enumeration->is_closed) {
        json = json_integer(number);
    }
    *ret_json = json;
    return json == NULL && (is_known || !enumeration->is_closed) ? sl_decoder_out_of_memory(decoder)
                                                                 : SL_OK;
}

json_t *sl_default_json(const struct sl_schema_field *field)
{
    const struct sl_wire_item zero = { 0 };
    if (field->enumeration == NULL) {
        return scalar_of(field->type, &zero);
    }
    const struct sl_schema_enum *enumeration = field->enumeration;
    size_t i = 0;
    while (i < enumeration->n_values && enumeration->values[i].number != 0) {
        i++;
    }
    i = i == enumeration->n_values ? 0 : i;
    return enumeration->is_null ? json_null() : json_string(enumeration->values[i].name);
}

/* ---- Fields -----------------------------------------------------------------------------------
 */

/* What was seen of one field. A message may come in parts, which are put together. */
struct slot {
    json_t *value;
    struct sl_slice bytes;
    struct sl_buf parts;
    bool is_given; /* also when it is a closed enum's unknown number */
};

struct slots {
    const struct sl_schema_message *message;
    struct slot *items; /* one per field */
};

static enum sl_status decode_message(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json);
static enum sl_status
fill_slots(struct sl_decoder *decoder, struct slots *slots, struct sl_slice bytes);

static enum sl_status
open_slots(struct sl_decoder *decoder, const struct sl_schema_message *message, struct slots *slots)
{
    slots->message = message;
    slots->items = sl_calloc(message->n_fields + 1, sizeof(struct slot));
    return slots->items == NULL ? sl_decoder_out_of_memory(decoder) : SL_OK;
}

static void clear_slot(struct slot *slot)
{
    json_decref(slot->value);
    sl_buf_done(&slot->parts);
    *slot = (struct slot){ 0 };
}

static void close_slots(struct slots *slots)
{
    for (size_t i = 0; slots->items != NULL && i < slots->message->n_fields; i++) {
        clear_slot(&slots->items[i]);
    }
    (void)sl_free(slots->items);
}

static bool is_message(const struct sl_schema_field *field)
{
    return field->type == SL_TYPE_MESSAGE || field->type == SL_TYPE_GROUP;
}

/* Decoded later, when all parts are there. */
static enum sl_status
keep_part(struct sl_decoder *decoder, struct slot *slot, struct sl_slice bytes)
{
    if (!slot->is_given) {
        slot->bytes = bytes;
        return SL_OK;
    }
    if (slot->parts.data == NULL) {
        sl_buf_init(&slot->parts, SL_SCHEMA_MAX_BYTES);
        if (sl_buf_add(&slot->parts, slot->bytes) != SL_OK) {
            return sl_decoder_out_of_memory(decoder);
        }
    }
    if (sl_buf_add(&slot->parts, bytes) != SL_OK) {
        return sl_decoder_out_of_memory(decoder);
    }
    slot->bytes = sl_buf_slice(&slot->parts);
    return SL_OK;
}

static enum sl_status decode_value(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    const struct sl_wire_item *item,
    json_t **ret_json)
{
    if (is_message(field)) {
        return decode_message(decoder, field->message, item->bytes, ret_json);
    }
    return field->type == SL_TYPE_ENUM ? enum_of(decoder, field->enumeration, item->value, ret_json)
                                       : sl_decode_scalar(decoder, field->type, item, ret_json);
}

static enum sl_status append(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    const struct sl_wire_item *item,
    json_t *list)
{
    const struct sl_place *outer = decoder->place;
    const struct sl_place place = { .parent = outer, .index = json_array_size(list) };
    json_t *json = NULL;
    decoder->place = &place;
    const enum sl_status status = decode_value(decoder, field, item, &json);
    decoder->place = outer;
    if (status == SL_OK && json != NULL && json_array_append_new(list, json) != 0) {
        return sl_decoder_out_of_memory(decoder);
    }
    return status;
}

/* All values of a packed field. */
static enum sl_status append_packed(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    struct sl_slice bytes,
    json_t *list)
{
    while (bytes.size > 0) {
        struct sl_wire_item item = { .wire = sl_schema_wire_of(field->type), .at = bytes.data };
        SL_TRY(take_value(decoder, &bytes, &item));
        SL_TRY(append(decoder, field, &item, list));
    }
    return SL_OK;
}

/* The key of a map is text in JSON. */
static enum sl_status
add_entry(struct sl_decoder *decoder, json_t *object, const json_t *key, json_t *value)
{
    char number[32];
    const char *text = number;
    size_t size = 0;
    if (json_is_string(key)) {
        text = json_string_value(key);
        size = json_string_length(key);
    } else if (json_is_boolean(key)) {
        text = json_is_true(key) ? "true" : "false";
        size = strlen(text);
    } else {
        size = (size_t)snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(key));
    }
    return json_object_setn(object, text, size, value) == 0 ? SL_OK
                                                            : sl_decoder_out_of_memory(decoder);
}

static enum sl_status
finish_slot(struct sl_decoder *decoder, const struct sl_schema_field *field, struct slot *slot);

/* An entry whose value is a closed enum's unknown number is left out. */
static enum sl_status finish_entry(struct sl_decoder *decoder, struct slots *slots, json_t *object)
{
    const struct sl_schema_field *fields = slots->message->fields;
    struct slot *key = &slots->items[0];
    struct slot *value = &slots->items[1];
    if (is_message(&fields[1])) {
        value->is_given = true; /* an absent message is an empty one */
    }
    SL_TRY(finish_slot(decoder, &fields[1], value));
    if (value->is_given && value->value == NULL) {
        return SL_OK;
    }
    key->value = key->value == NULL ? sl_default_json(&fields[0]) : key->value;
    value->value = value->value == NULL ? sl_default_json(&fields[1]) : value->value;
    return key->value == NULL || value->value == NULL
               ? sl_decoder_out_of_memory(decoder)
               : add_entry(decoder, object, key->value, value->value);
}

static enum sl_status decode_entry(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    struct sl_slice bytes,
    json_t *object)
{
    struct slots slots = { 0 };
    enum sl_status status = open_slots(decoder, field->message, &slots);
    if (status == SL_OK) {
        status = fill_slots(decoder, &slots, bytes);
    }
    if (status == SL_OK) {
        status = finish_entry(decoder, &slots, object);
    }
    close_slots(&slots);
    return status;
}

static enum sl_status take_repeated(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    const struct sl_wire_item *item,
    struct slot *slot)
{
    if (slot->value == NULL) {
        slot->value = field->is_map ? json_object() : json_array();
        if (slot->value == NULL) {
            return sl_decoder_out_of_memory(decoder);
        }
    }
    if (field->is_map) {
        return decode_entry(decoder, field, item->bytes, slot->value);
    }
    return item->wire == SL_WIRE_BYTES && sl_schema_wire_of(field->type) != SL_WIRE_BYTES
               ? append_packed(decoder, field, item->bytes, slot->value)
               : append(decoder, field, item, slot->value);
}

static enum sl_status take_singular(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    const struct sl_wire_item *item,
    struct slot *slot)
{
    if (is_message(field)) {
        return keep_part(decoder, slot, item->bytes);
    }
    json_t *json = NULL;
    SL_TRY(decode_value(decoder, field, item, &json));
    if (json != NULL || slot->value == NULL) { /* an unknown number changes nothing */
        json_decref(slot->value);
        slot->value = json;
    }
    return SL_OK;
}

/* The member of a oneof that came last is the one that counts. */
static void clear_others(struct slots *slots, const struct sl_schema_field *field)
{
    for (size_t i = 0; field->oneof >= 0 && i < slots->message->n_fields; i++) {
        const struct sl_schema_field *other = &slots->message->fields[i];
        if (other->oneof == field->oneof && other != field) {
            clear_slot(&slots->items[i]);
        }
    }
}

/* True when the field can be read from this wire type; others are unknown fields. */
static bool is_right_wire(const struct sl_schema_field *field, unsigned wire)
{
    const unsigned own = sl_schema_wire_of(field->type);
    return wire == own || (wire == SL_WIRE_BYTES && field->is_repeated && own != SL_WIRE_GROUP);
}

static enum sl_status
fill_slot(struct sl_decoder *decoder, struct slots *slots, const struct sl_wire_item *item)
{
    const struct sl_schema_field *field = sl_schema_field_by_number(slots->message, item->number);
    if (field == NULL || !is_right_wire(field, item->wire)) {
        return SL_OK;
    }
    const struct sl_place *outer = decoder->place;
    const struct sl_place place = { .parent = outer, .name = field->json_name };
    struct slot *slot = &slots->items[field - slots->message->fields];
    decoder->place = &place;
    clear_others(slots, field);
    const enum sl_status status = field->is_repeated ? take_repeated(decoder, field, item, slot)
                                                     : take_singular(decoder, field, item, slot);
    slot->is_given = true;
    decoder->place = outer;
    return status;
}

static enum sl_status
fill_slots(struct sl_decoder *decoder, struct slots *slots, struct sl_slice bytes)
{
    while (bytes.size > 0) {
        struct sl_wire_item item;
        SL_TRY(sl_wire_next(decoder, &bytes, &item));
        SL_TRY(fill_slot(decoder, slots, &item));
    }
    return SL_OK;
}

/* ---- Messages ---------------------------------------------------------------------------------
 */

static enum sl_status
finish_slot(struct sl_decoder *decoder, const struct sl_schema_field *field, struct slot *slot)
{
    if (slot->is_given && is_message(field) && !field->is_repeated) {
        return decode_message(decoder, field->message, slot->bytes, &slot->value);
    }
    return SL_OK;
}

/* A field that is not there; NULL: nothing is said about it. */
static enum sl_status
default_of(struct sl_decoder *decoder, const struct sl_schema_field *field, json_t **ret_json)
{
    if (!decoder->has_defaults || field->has_presence) {
        return SL_OK;
    }
    *ret_json = field->is_map        ? json_object()
                : field->is_repeated ? json_array()
                                     : sl_default_json(field);
    return *ret_json == NULL ? sl_decoder_out_of_memory(decoder) : SL_OK;
}

static bool is_empty_container(const json_t *json)
{
    return (json_is_array(json) && json_array_size(json) == 0) ||
           (json_is_object(json) && json_object_size(json) == 0);
}

/* A field without presence that holds its default is as good as absent. */
static bool is_left_out(
    const struct sl_decoder *decoder, const struct sl_schema_field *field, const json_t *json)
{
    if (decoder->has_defaults || field->has_presence) {
        return false;
    }
    if (field->is_repeated) {
        return is_empty_container(json);
    }
    json_t *zero = sl_default_json(field);
    const bool is_default = zero != NULL && field->type != SL_TYPE_DOUBLE &&
                            field->type != SL_TYPE_FLOAT && json_equal(zero, json);
    json_decref(zero);
    /* -0.0 equals 0.0, and is not the default. */
    return is_default || (json_is_real(json) && json_real_value(json) == 0.0 &&
                          !__builtin_signbit(json_real_value(json)));
}

static enum sl_status add_member(
    struct sl_decoder *decoder,
    const struct sl_schema_field *field,
    struct slot *slot,
    json_t *object)
{
    SL_TRY(finish_slot(decoder, field, slot));
    if (slot->value == NULL) {
        SL_TRY(default_of(decoder, field, &slot->value));
    }
    if (slot->value == NULL || is_left_out(decoder, field, slot->value)) {
        return SL_OK;
    }
    return json_object_set(object, field->json_name, slot->value) == 0
               ? SL_OK
               : sl_decoder_out_of_memory(decoder);
}

static enum sl_status
slots_to_object(struct sl_decoder *decoder, struct slots *slots, json_t *object)
{
    const struct sl_place *outer = decoder->place;
    enum sl_status status = SL_OK;
    for (size_t i = 0; status == SL_OK && i < slots->message->n_fields; i++) {
        const struct sl_schema_field *field = &slots->message->fields[i];
        const struct sl_place place = { .parent = outer, .name = field->json_name };
        decoder->place = &place;
        status = add_member(decoder, field, &slots->items[i], object);
        decoder->place = outer;
    }
    return status;
}

enum sl_status sl_decode_content(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json)
{
    struct slots slots = { 0 };
    json_t *object = json_object();
    enum sl_status status = open_slots(decoder, message, &slots);
    if (status == SL_OK && object == NULL) {
        status = sl_decoder_out_of_memory(decoder);
    }
    if (status == SL_OK) {
        status = fill_slots(decoder, &slots, bytes);
    }
    if (status == SL_OK) {
        status = slots_to_object(decoder, &slots, object);
    }
    close_slots(&slots);
    if (status != SL_OK) {
        json_decref(object);
        return status;
    }
    *ret_json = object;
    return SL_OK;
}

static enum sl_status decode_message(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json)
{
    if (decoder->depth >= SL_SCHEMA_DEPTH) {
        return sl_decoder_fail(decoder, "nested more than %d levels deep", SL_SCHEMA_DEPTH);
    }
    decoder->depth++;
    const enum sl_status status = message->known == SL_KNOWN_NOT
                                      ? sl_decode_content(decoder, message, bytes, ret_json)
                                      : sl_decode_known(decoder, message, bytes, ret_json);
    decoder->depth--;
    return status;
}

enum sl_status sl_schema_decode(
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json,
    struct sl_error *err)
{
    struct sl_decoder decoder = { .root = bytes, .err = err };
    return decode_message(&decoder, message, bytes, ret_json);
}

enum sl_status sl_schema_decode_all(
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json,
    struct sl_error *err)
{
    struct sl_decoder decoder = { .root = bytes, .err = err, .has_defaults = true };
    return decode_message(&decoder, message, bytes, ret_json);
}
