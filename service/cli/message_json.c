#include "service/cli/message_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/base64.h"
#include "runtime/base/mem.h"

/* protobuf-c describes every field by an offset; these two are the only casts. */
static const void *field_at(const ProtobufCMessage *message, size_t offset)
{
    return (const char *)message + offset;
}

static void *room_at(ProtobufCMessage *message, size_t offset)
{
    return (char *)message + offset;
}

/* The length of the prefix that the values of an enum share with its name: STOP_REASON_ of
 * StopReason. */
static size_t enum_prefix(const ProtobufCEnumDescriptor *descriptor)
{
    const char *first = descriptor->values[0].name;
    const char *suffix = strstr(first, "_UNSPECIFIED");
    return suffix == NULL ? 0 : (size_t)(suffix - first) + 1;
}

static json_t *enum_to_json(const ProtobufCEnumDescriptor *descriptor, int value)
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(descriptor, value);
    if (found == NULL) {
        return json_integer(value);
    }
    return json_string(found->name + enum_prefix(descriptor));
}

static json_t *bytes_to_json(const ProtobufCBinaryData *bytes)
{
    const size_t size = sl_base64_size(bytes->len);
    char *text = sl_alloc(size + 1);
    if (text == NULL) {
        return NULL;
    }
    sl_base64_encode(sl_slice_of(bytes->data, bytes->len), text);
    json_t *json = json_stringn(text, size);
    sl_free(text);
    return json;
}

/* JSON has no NaN and no infinity. */
static json_t *real_to_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* One value of any type, at `at`. */
static json_t *value_to_json(const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return json_integer(*(const int64_t *)at); /* beyond 2^63: no field of ours gets there */
    case PROTOBUF_C_TYPE_FLOAT:
        return real_to_json((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return real_to_json(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at != 0);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_to_json(field->descriptor, *(const int *)at);
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(const char *const *)at == NULL ? "" : *(const char *const *)at);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_to_json(at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sl_message_to_json(*(const ProtobufCMessage *const *)at);
    }
    return NULL;
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    }
    return 0;
}

/* A map of proto3: its entries are messages that protoc has named. */
static bool is_map(const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label != PROTOBUF_C_LABEL_REPEATED) {
        return false;
    }
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    const size_t size = strlen(entry->short_name);
    return size > 5 && strcmp(entry->short_name + size - 5, "Entry") == 0 && entry->n_fields == 2 &&
           strcmp(entry->fields[0].name, "key") == 0 &&
           entry->fields[0].type == PROTOBUF_C_TYPE_STRING &&
           strcmp(entry->fields[1].name, "value") == 0;
}

static json_t *map_to_json(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    const size_t n = *(const size_t *)field_at(message, field->quantifier_offset);
    const ProtobufCMessage *const *items = *(void *const *)field_at(message, field->offset);
    json_t *object = json_object();
    for (size_t i = 0; i < n && object != NULL; i++) {
        const char *key = *(const char *const *)field_at(items[i], entry->fields[0].offset);
        json_t *value =
            value_to_json(&entry->fields[1], field_at(items[i], entry->fields[1].offset));
        if (json_object_set_new(object, key == NULL ? "" : key, value) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static json_t *list_to_json(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const size_t n = *(const size_t *)field_at(message, field->quantifier_offset);
    const char *items = *(const char *const *)field_at(message, field->offset);
    json_t *list = json_array();
    for (size_t i = 0; i < n && list != NULL; i++) {
        if (json_array_append_new(list, value_to_json(field, items + i * element_size(field))) !=
            0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* True when the field stands in no oneof, or is the one that is set; unset messages are left out.
 */
static bool is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return *(const uint32_t *)field_at(message, field->quantifier_offset) == field->id;
    }
    return field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED ||
           *(const void *const *)field_at(message, field->offset) != NULL;
}

static bool add_fields(json_t *object, const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!is_present(message, field)) {
            continue;
        }
        json_t *value = NULL;
        if (is_map(field)) {
            value = map_to_json(message, field);
        } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            value = list_to_json(message, field);
        } else {
            value = value_to_json(field, field_at(message, field->offset));
        }
        if (json_object_set_new(object, field->name, value) != 0) {
            return false;
        }
    }
    return true;
}

json_t *sl_message_to_json(const ProtobufCMessage *message)
{
    json_t *object = json_object();
    if (object != NULL && !add_fields(object, message)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* The member of the oneof that is set; NULL: an event newer than this program. */
static const ProtobufCFieldDescriptor *event_field(const Sluice__V1__StreamEvent *event)
{
    return protobuf_c_message_descriptor_get_field(
        &sluice__v1__stream_event__descriptor, (unsigned)event->event_case);
}

json_t *sl_event_to_json(const Sluice__V1__StreamEvent *event)
{
    const ProtobufCFieldDescriptor *field = event->event_case == 0 ? NULL : event_field(event);
    json_t *object = json_pack(
        "{s:s, s:I, s:I}", "type", field == NULL ? "unknown" : field->name, "sequence",
        (json_int_t)event->sequence, "timestamp_ms", (json_int_t)event->timestamp_ms);
    if (object != NULL && field != NULL) {
        const ProtobufCMessage *member =
            *(const ProtobufCMessage *const *)field_at(&event->base, field->offset);
        if (!add_fields(object, member)) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* ---- And back ----------------------------------------------------------------------------------
 */

static enum sl_status message_from_json(
    json_t *json,
    const ProtobufCMessageDescriptor *descriptor,
    bool is_event,
    struct sl_arena *arena,
    ProtobufCMessage **ret_message,
    struct sl_error *err);

static enum sl_status wrong_type(const ProtobufCFieldDescriptor *field, struct sl_error *err)
{
    return sl_fail(err, SL_INVALID_ARGUMENT, "%s: a value of the wrong type", field->name);
}

static enum sl_status out_of_memory(struct sl_error *err)
{
    return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
}

static enum sl_status enum_from_json(
    const json_t *json, const ProtobufCFieldDescriptor *field, int *ret_value, struct sl_error *err)
{
    const ProtobufCEnumDescriptor *descriptor = field->descriptor;
    const size_t prefix = enum_prefix(descriptor);
    if (json_is_integer(json)) {
        const json_int_t value = json_integer_value(json);
        *ret_value = (int)value;
        return value >= INT32_MIN && value <= INT32_MAX ? SL_OK : wrong_type(field, err);
    }
    const char *name = json_string_value(json);
    for (unsigned i = 0; name != NULL && i < descriptor->n_values; i++) {
        if (strcmp(descriptor->values[i].name + prefix, name) == 0) {
            *ret_value = descriptor->values[i].value;
            return SL_OK;
        }
    }
    return sl_fail(err, SL_INVALID_ARGUMENT, "%s: no value of %s", field->name, descriptor->name);
}

static enum sl_status bytes_from_json(
    const json_t *json,
    const ProtobufCFieldDescriptor *field,
    struct sl_arena *arena,
    ProtobufCBinaryData *ret_bytes,
    struct sl_error *err)
{
    if (!json_is_string(json)) {
        return wrong_type(field, err);
    }
    const struct sl_slice slice = sl_slice_str(json_string_value(json));
    uint8_t *room = sl_arena_alloc(arena, slice.size * 3 / 4 + 1);
    if (room == NULL) {
        return out_of_memory(err);
    }
    ret_bytes->data = room;
    return sl_base64_decode(slice, room, &ret_bytes->len) == SL_OK ? SL_OK : wrong_type(field, err);
}

static enum sl_status string_from_json(
    const json_t *json,
    const ProtobufCFieldDescriptor *field,
    struct sl_arena *arena,
    char **ret_text,
    struct sl_error *err)
{
    if (!json_is_string(json)) {
        return wrong_type(field, err);
    }
    *ret_text = sl_arena_dup(arena, sl_slice_str(json_string_value(json)));
    return *ret_text == NULL ? out_of_memory(err) : SL_OK;
}

static enum sl_status real_from_json(
    const json_t *json,
    const ProtobufCFieldDescriptor *field,
    double *ret_value,
    struct sl_error *err)
{
    *ret_value = json_is_null(json) ? (double)NAN : json_number_value(json);
    return json_is_number(json) || json_is_null(json) ? SL_OK : wrong_type(field, err);
}

/* What a field of this type can hold. */
static bool is_in_range(const ProtobufCFieldDescriptor *field, json_int_t value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return value >= INT32_MIN && value <= INT32_MAX;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return value >= 0 && value <= UINT32_MAX;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return value >= 0;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return true;
}

static enum sl_status integer_from_json(
    const json_t *json, const ProtobufCFieldDescriptor *field, void *at, struct sl_error *err)
{
    const json_int_t value = json_integer_value(json);
    if (!json_is_integer(json) || !is_in_range(field, value)) {
        return wrong_type(field, err);
    }
    if (element_size(field) == 8) {
        *(int64_t *)at = value;
    } else {
        *(uint32_t *)at = (uint32_t)value;
    }
    return SL_OK;
}

static enum sl_status value_from_json(
    json_t *json,
    const ProtobufCFieldDescriptor *field,
    struct sl_arena *arena,
    void *at,
    struct sl_error *err)
{
    double real;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return integer_from_json(json, field, at, err);
    case PROTOBUF_C_TYPE_FLOAT:
        SL_TRY(real_from_json(json, field, &real, err));
        *(float *)at = (float)real;
        return SL_OK;
    case PROTOBUF_C_TYPE_DOUBLE:
        return real_from_json(json, field, at, err);
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)at = json_is_true(json);
        return json_is_boolean(json) ? SL_OK : wrong_type(field, err);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_from_json(json, field, at, err);
    case PROTOBUF_C_TYPE_STRING:
        return string_from_json(json, field, arena, at, err);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_from_json(json, field, arena, at, err);
    case PROTOBUF_C_TYPE_MESSAGE:
        return message_from_json(json, field->descriptor, false, arena, at, err);
    }
    return wrong_type(field, err);
}

static enum sl_status list_from_json(
    const json_t *json,
    const ProtobufCFieldDescriptor *field,
    struct sl_arena *arena,
    ProtobufCMessage *message,
    struct sl_error *err)
{
    const size_t n = json_array_size(json);
    char *items = sl_arena_calloc(arena, n + 1, element_size(field));
    if (!json_is_array(json)) {
        return wrong_type(field, err);
    }
    if (items == NULL) {
        return out_of_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        SL_TRY(value_from_json(
            json_array_get(json, i), field, arena, items + i * element_size(field), err));
    }
    *(size_t *)room_at(message, field->quantifier_offset) = n;
    *(char **)room_at(message, field->offset) = items;
    return SL_OK;
}

static bool is_envelope(const char *name)
{
    return strcmp(name, "type") == 0 || strcmp(name, "sequence") == 0 ||
           strcmp(name, "timestamp_ms") == 0;
}

static enum sl_status member_from_json(
    const char *name,
    json_t *value,
    struct sl_arena *arena,
    ProtobufCMessage *message,
    struct sl_error *err)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, name);
    if (field == NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "%s: no member '%s'", descriptor->short_name, name);
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return list_from_json(value, field, arena, message, err);
    }
    SL_TRY(value_from_json(value, field, arena, room_at(message, field->offset), err));
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        *(uint32_t *)room_at(message, field->quantifier_offset) = field->id;
    }
    return SL_OK;
}

static enum sl_status message_from_json(
    json_t *json,
    const ProtobufCMessageDescriptor *descriptor,
    bool is_event,
    struct sl_arena *arena,
    ProtobufCMessage **ret_message,
    struct sl_error *err)
{
    ProtobufCMessage *message = sl_arena_alloc(arena, descriptor->sizeof_message);
    if (!json_is_object(json)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "%s: not an object", descriptor->short_name);
    }
    if (message == NULL) {
        return out_of_memory(err);
    }
    descriptor->message_init(message);
    for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
        const char *name = json_object_iter_key(at);
        if (is_event && is_envelope(name)) {
            continue;
        }
        SL_TRY(member_from_json(name, json_object_iter_value(at), arena, message, err));
    }
    *ret_message = message;
    return SL_OK;
}

/* A number of the envelope. */
static bool envelope_number(json_t *json, const char *name, uint64_t *ret_value)
{
    const json_t *number = json_object_get(json, name);
    if (!json_is_integer(number) || json_integer_value(number) < 0) {
        return false;
    }
    *ret_value = (uint64_t)json_integer_value(number);
    return true;
}

enum sl_status sl_event_from_json(
    json_t *json, struct sl_arena *arena, Sluice__V1__StreamEvent **ret_event, struct sl_error *err)
{
    Sluice__V1__StreamEvent *event = sl_arena_alloc(arena, sizeof(*event));
    if (event == NULL) {
        return out_of_memory(err);
    }
    sluice__v1__stream_event__init(event);
    const char *type = json_string_value(json_object_get(json, "type"));
    if (type == NULL || !envelope_number(json, "sequence", &event->sequence) ||
        !envelope_number(json, "timestamp_ms", &event->timestamp_ms)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "an event has \"type\", \"sequence\" and \"timestamp_ms\"");
    }
    if (strcmp(type, "unknown") == 0) {
        *ret_event = event;
        return SL_OK;
    }
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        &sluice__v1__stream_event__descriptor, type);
    if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "type '%s' is no event", type);
    }
    ProtobufCMessage *member = NULL;
    SL_TRY(message_from_json(json, field->descriptor, true, arena, &member, err));
    event->event_case = (Sluice__V1__StreamEvent__EventCase)field->id;
    *(ProtobufCMessage **)room_at(&event->base, field->offset) = member;
    *ret_event = event;
    return SL_OK;
}
