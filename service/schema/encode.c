/* JSON to wire bytes. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/schema/json_impl.h"

/* ---- What is wrong, and where -----------------------------------------------------------------
 */

static void add_place(const struct sl_place *place, char *room, size_t room_bytes)
{
    enum { MAX_LEVELS = 3 * SL_SCHEMA_DEPTH };
    const struct sl_place *way[MAX_LEVELS];
    size_t n = 0;
    for (; place != NULL && n < MAX_LEVELS; place = place->parent) {
        way[n++] = place;
    }
    room[0] = '\0';
    for (size_t size = 0; n > 0 && size + 1 < room_bytes; size = strlen(room)) {
        const struct sl_place *at = way[--n];
        if (at->name == NULL) {
            (void)snprintf(room + size, room_bytes - size, "[%zu]", at->index);
        } else {
            (void)snprintf(room + size, room_bytes - size, "%s%s", size == 0 ? "" : ".", at->name);
        }
    }
}

enum sl_status sl_place_fail(
    const struct sl_place *place, struct sl_error *err, enum sl_status status, const char *fmt, ...)
{
    char path[120];
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    add_place(place, path, sizeof(path));
    return sl_fail(err, status, "%s%s%s", path, path[0] == '\0' ? "" : ": ", text);
}

enum sl_status sl_encoder_full(struct sl_encoder *encoder)
{
    return sl_place_fail(
        encoder->place, encoder->err, SL_RESOURCE_EXHAUSTED, "the message is too large");
}

/* ---- Wire -------------------------------------------------------------------------------------
 */

enum { MAX_VARINT_BYTES = 10 };

static size_t write_varint(uint64_t value, uint8_t room[MAX_VARINT_BYTES])
{
    size_t n = 0;
    while (value >= 0x80) {
        room[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    room[n++] = (uint8_t)value;
    return n;
}

static enum sl_status add(struct sl_encoder *encoder, const void *bytes, size_t size)
{
    return sl_buf_add(encoder->out, sl_slice_of(bytes, size)) == SL_OK ? SL_OK
                                                                       : sl_encoder_full(encoder);
}

enum sl_status sl_encode_varint(struct sl_encoder *encoder, uint64_t value)
{
    uint8_t room[MAX_VARINT_BYTES];
    return add(encoder, room, write_varint(value, room));
}

enum sl_status sl_encode_tag(struct sl_encoder *encoder, uint32_t number, unsigned wire)
{
    return sl_encode_varint(encoder, (uint64_t)number << 3 | wire);
}

enum sl_status sl_encode_begin(struct sl_encoder *encoder, size_t *ret_mark)
{
    *ret_mark = encoder->out->size;
    return add(encoder, "", 1);
}

enum sl_status sl_encode_end(struct sl_encoder *encoder, size_t mark)
{
    struct sl_buf *out = encoder->out;
    const size_t size = out->size - mark - 1;
    uint8_t length[MAX_VARINT_BYTES];
    const size_t n = write_varint(size, length);
    if (n > 1) {
        SL_TRY(add(encoder, length, n - 1)); /* only makes room */
        memmove(out->data + mark + n, out->data + mark + 1, size);
    }
    memcpy(out->data + mark, length, n);
    return SL_OK;
}

enum sl_status sl_encode_bytes(struct sl_encoder *encoder, struct sl_slice bytes)
{
    SL_TRY(sl_encode_varint(encoder, bytes.size));
    return add(encoder, bytes.data, bytes.size);
}

static enum sl_status encode_fixed(struct sl_encoder *encoder, uint64_t value, size_t size)
{
    uint8_t room[8];
    for (size_t i = 0; i < size; i++) {
        room[i] = (uint8_t)(value >> (8 * i));
    }
    return add(encoder, room, size);
}

/* ---- Numbers ----------------------------------------------------------------------------------
 */

static enum sl_status wrong_type(struct sl_encoder *encoder, const char *expected)
{
    return sl_encoder_fail(encoder, "%s is expected", expected);
}

static struct sl_slice text_of(const json_t *json)
{
    return sl_slice_of(json_string_value(json), json_string_length(json));
}

/* A number that was written with a fraction or an exponent, such as 1e3. */
static bool integral_of(double value, double least, double greatest, double *ret_value)
{
    *ret_value = value;
    return value >= least && value <= greatest && value == floor(value);
}

static enum sl_status read_signed(
    struct sl_encoder *encoder, const json_t *json, int64_t least, int64_t greatest, int64_t *ret)
{
    double real = 0;
    if (json_is_string(json) && sl_parse_i64(text_of(json), least, greatest, ret) == SL_OK) {
        return SL_OK;
    }
    if (json_is_integer(json)) {
        *ret = json_integer_value(json);
        return *ret >= least && *ret <= greatest ? SL_OK : sl_encoder_fail(encoder, "out of range");
    }
    if (json_is_string(json) && sl_parse_double(text_of(json), &real) != SL_OK) {
        return sl_encoder_fail(encoder, "'%.40s' is no integer", json_string_value(json));
    }
    if (!json_is_string(json) && !json_is_real(json)) {
        return wrong_type(encoder, "an integer");
    }
    real = json_is_real(json) ? json_real_value(json) : real;
    /* 2^63 - 1 is no double: the next one below is 2^63 - 1024 */
    const double most = greatest == INT64_MAX ? 9223372036854774784.0 : (double)greatest;
    if (!integral_of(real, (double)least, most, &real)) {
        return sl_encoder_fail(encoder, "out of range, or no integer");
    }
    *ret = (int64_t)real;
    return SL_OK;
}

static enum sl_status
read_unsigned(struct sl_encoder *encoder, const json_t *json, uint64_t greatest, uint64_t *ret)
{
    int64_t value = 0;
    double real = 0;
    if (json_is_string(json) && sl_parse_u64(text_of(json), 0, greatest, ret) == SL_OK) {
        return SL_OK;
    }
    if (json_is_real(json) && greatest == UINT64_MAX &&
        integral_of(json_real_value(json), 0, 18446744073709549568.0, &real)) {
        *ret = (uint64_t)real;
        return SL_OK;
    }
    const int64_t most = greatest > INT64_MAX ? INT64_MAX : (int64_t)greatest;
    SL_TRY(read_signed(encoder, json, 0, most, &value));
    *ret = (uint64_t)value;
    return SL_OK;
}

static enum sl_status read_real(struct sl_encoder *encoder, const json_t *json, double *ret)
{
    if (json_is_number(json)) {
        *ret = json_number_value(json);
        return SL_OK;
    }
    const char *text = json_string_value(json);
    if (text == NULL) {
        return wrong_type(encoder, "a number");
    }
    const struct sl_slice word = text_of(json);
    if (sl_slice_equals(word, "NaN")) {
        *ret = (double)NAN;
    } else if (sl_slice_equals(word, "Infinity") || sl_slice_equals(word, "-Infinity")) {
        *ret = text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
    } else if (sl_parse_double(word, ret) != SL_OK || !isfinite(*ret)) {
        return sl_encoder_fail(encoder, "'%.40s' is no number", text);
    }
    return SL_OK;
}

static enum sl_status encode_float(struct sl_encoder *encoder, const json_t *json)
{
    double real = 0;
    uint32_t bits;
    SL_TRY(read_real(encoder, json, &real));
    /* What rounds to FLT_MAX is in range. */
    if (isfinite(real) && fabs(real) >= (double)FLT_MAX * (1 + 0x1p-25)) {
        return sl_encoder_fail(encoder, "out of the range of a float");
    }
    const float value = (float)real;
    memcpy(&bits, &value, sizeof(bits));
    return encode_fixed(encoder, bits, sizeof(bits));
}

static enum sl_status encode_double(struct sl_encoder *encoder, const json_t *json)
{
    double value = 0;
    uint64_t bits;
    SL_TRY(read_real(encoder, json, &value));
    memcpy(&bits, &value, sizeof(bits));
    return encode_fixed(encoder, bits, sizeof(bits));
}

static uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

/* Signed types, of 32 bits or 64. */
static enum sl_status
encode_signed(struct sl_encoder *encoder, enum sl_schema_type type, const json_t *json)
{
    const bool is_32 = type == SL_TYPE_INT32 || type == SL_TYPE_SINT32 || type == SL_TYPE_SFIXED32;
    int64_t value = 0;
    SL_TRY(read_signed(
        encoder, json, is_32 ? INT32_MIN : INT64_MIN, is_32 ? INT32_MAX : INT64_MAX, &value));
    if (type == SL_TYPE_SFIXED32 || type == SL_TYPE_SFIXED64) {
        return encode_fixed(encoder, (uint64_t)value, is_32 ? 4 : 8);
    }
    const bool is_zigzag = type == SL_TYPE_SINT32 || type == SL_TYPE_SINT64;
    return sl_encode_varint(encoder, is_zigzag ? zigzag(value) : (uint64_t)value);
}

static enum sl_status
encode_unsigned(struct sl_encoder *encoder, enum sl_schema_type type, const json_t *json)
{
    const bool is_32 = type == SL_TYPE_UINT32 || type == SL_TYPE_FIXED32;
    uint64_t value = 0;
    SL_TRY(read_unsigned(encoder, json, is_32 ? UINT32_MAX : UINT64_MAX, &value));
    if (type == SL_TYPE_FIXED32 || type == SL_TYPE_FIXED64) {
        return encode_fixed(encoder, value, is_32 ? 4 : 8);
    }
    return sl_encode_varint(encoder, value);
}

static enum sl_status encode_base64(struct sl_encoder *encoder, const json_t *json)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    const enum sl_status status = sl_bytes_from_text(text_of(json), &bytes, &size);
    if (status != SL_OK) {
        return status == SL_RESOURCE_EXHAUSTED ? sl_encoder_full(encoder)
                                               : sl_encoder_fail(encoder, "no base64");
    }
    const enum sl_status added = sl_encode_bytes(encoder, sl_slice_of(bytes, size));
    (void)sl_free(bytes);
    return added;
}

enum sl_status
sl_encode_scalar(struct sl_encoder *encoder, enum sl_schema_type type, const json_t *json)
{
    switch (type) {
    case SL_TYPE_DOUBLE:
        return encode_double(encoder, json);
    case SL_TYPE_FLOAT:
        return encode_float(encoder, json);
    case SL_TYPE_INT64:
    case SL_TYPE_INT32:
    case SL_TYPE_SINT32:
    case SL_TYPE_SINT64:
    case SL_TYPE_SFIXED32:
    case SL_TYPE_SFIXED64:
        return encode_signed(encoder, type, json);
    case SL_TYPE_UINT64:
    case SL_TYPE_UINT32:
    case SL_TYPE_FIXED32:
    case SL_TYPE_FIXED64:
        return encode_unsigned(encoder, type, json);
    case SL_TYPE_BOOL:
        return json_is_boolean(json) ? sl_encode_varint(encoder, json_is_true(json))
                                     : wrong_type(encoder, "true or false");
    case SL_TYPE_STRING:
        return json_is_string(json) ? sl_encode_bytes(encoder, text_of(json))
                                    : wrong_type(encoder, "a string");
    case SL_TYPE_BYTES:
        return json_is_string(json) ? encode_base64(encoder, json)
                                    : wrong_type(encoder, "a string of base64");
    case SL_TYPE_GROUP:
    case SL_TYPE_MESSAGE:
    case SL_TYPE_ENUM:
        break;
    }
    return wrong_type(encoder, "something else");
}

static enum sl_status encode_enum(
    struct sl_encoder *encoder, const struct sl_schema_enum *enumeration, const json_t *json)
{
    const char *name = json_string_value(json);
    for (size_t i = 0; name != NULL && i < enumeration->n_values; i++) {
        if (sl_slice_equals(text_of(json), enumeration->values[i].name)) {
            return sl_encode_varint(encoder, (uint64_t)(int64_t)enumeration->values[i].number);
        }
    }
    if (json_is_null(json) && enumeration->is_null) {
        return sl_encode_varint(encoder, 0);
    }
    int64_t number = 0;
    if (name != NULL && sl_parse_i64(text_of(json), INT32_MIN, INT32_MAX, &number) != SL_OK) {
        return sl_encoder_fail(encoder, "'%.40s' is no value of %.80s", name, enumeration->name);
    }
    SL_TRY(read_signed(encoder, json, INT32_MIN, INT32_MAX, &number));
    return sl_encode_varint(encoder, (uint64_t)number);
}

/* ---- Fields -----------------------------------------------------------------------------------
 */

static enum sl_status
encode_message(struct sl_encoder *encoder, const struct sl_schema_message *message, json_t *json)
{
    if (encoder->depth >= SL_SCHEMA_DEPTH) {
        return sl_encoder_fail(encoder, "nested more than %d levels deep", SL_SCHEMA_DEPTH);
    }
    encoder->depth++;
    const enum sl_status status = message->known == SL_KNOWN_NOT
                                      ? sl_encode_content(encoder, message, json, NULL)
                                      : sl_encode_known(encoder, message, json);
    encoder->depth--;
    return status;
}

/* Without the tag before it. */
static enum sl_status
encode_value(struct sl_encoder *encoder, const struct sl_schema_field *field, json_t *json)
{
    size_t mark = 0;
    if (field->type == SL_TYPE_GROUP) {
        SL_TRY(encode_message(encoder, field->message, json));
        return sl_encode_tag(encoder, field->number, SL_WIRE_END_GROUP);
    }
    if (field->type == SL_TYPE_MESSAGE) {
        SL_TRY(sl_encode_begin(encoder, &mark));
        SL_TRY(encode_message(encoder, field->message, json));
        return sl_encode_end(encoder, mark);
    }
    return field->type == SL_TYPE_ENUM ? encode_enum(encoder, field->enumeration, json)
                                       : sl_encode_scalar(encoder, field->type, json);
}

static enum sl_status
encode_tagged(struct sl_encoder *encoder, const struct sl_schema_field *field, json_t *json)
{
    SL_TRY(sl_encode_tag(encoder, field->number, sl_schema_wire_of(field->type)));
    return encode_value(encoder, field, json);
}

/* A default is written as zeros only, whatever the type. */
static enum sl_status
encode_singular(struct sl_encoder *encoder, const struct sl_schema_field *field, json_t *json)
{
    const size_t before = encoder->out->size;
    SL_TRY(sl_encode_tag(encoder, field->number, sl_schema_wire_of(field->type)));
    size_t at = encoder->out->size;
    SL_TRY(encode_value(encoder, field, json));
    while (at < encoder->out->size && encoder->out->data[at] == 0) {
        at++;
    }
    if (!field->has_presence && !field->is_required && at == encoder->out->size) {
        encoder->out->size = before;
    }
    return SL_OK;
}

static bool takes_null(const struct sl_schema_field *field)
{
    return (field->message != NULL && field->message->known == SL_KNOWN_VALUE) ||
           (field->enumeration != NULL && field->enumeration->is_null);
}

static enum sl_status encode_item(
    struct sl_encoder *encoder, const struct sl_schema_field *field, json_t *item, size_t index)
{
    const struct sl_place *outer = encoder->place;
    const struct sl_place place = { .parent = outer, .index = index };
    encoder->place = &place;
    const enum sl_status status = json_is_null(item) && !takes_null(field)
                                      ? wrong_type(encoder, "no null inside a list")
                                  : field->is_packed ? encode_value(encoder, field, item)
                                                     : encode_tagged(encoder, field, item);
    encoder->place = outer;
    return status;
}

static enum sl_status
encode_list(struct sl_encoder *encoder, const struct sl_schema_field *field, const json_t *json)
{
    const size_t n = json_array_size(json);
    const bool is_packed = field->is_packed && n > 0;
    size_t mark = 0;
    enum sl_status status = SL_OK;
    if (!json_is_array(json)) {
        return wrong_type(encoder, "a list");
    }
    if (is_packed) {
        SL_TRY(sl_encode_tag(encoder, field->number, SL_WIRE_BYTES));
        SL_TRY(sl_encode_begin(encoder, &mark));
    }
    for (size_t i = 0; status == SL_OK && i < n; i++) {
        status = encode_item(encoder, field, json_array_get(json, i), i);
    }
    return status == SL_OK && is_packed ? sl_encode_end(encoder, mark) : status;
}

static enum sl_status
encode_key(struct sl_encoder *encoder, const struct sl_schema_field *field, void *at)
{
    const char *text = json_object_iter_key(at);
    json_t *key = NULL;
    if (field->type == SL_TYPE_BOOL && strcmp(text, "true") == 0) {
        key = json_true();
    } else if (field->type == SL_TYPE_BOOL && strcmp(text, "false") == 0) {
        key = json_false();
    } else {
        key = json_stringn(text, json_object_iter_key_len(at));
    }
    if (key == NULL) {
        return sl_encoder_full(encoder);
    }
    const enum sl_status status = encode_tagged(encoder, field, key);
    json_decref(key);
    return status;
}

/* `at`: the member of the map's object. */
static enum sl_status
encode_entry(struct sl_encoder *encoder, const struct sl_schema_field *field, void *at)
{
    const struct sl_schema_field *entry = field->message->fields;
    json_t *value = json_object_iter_value(at);
    size_t mark = 0;
    if (json_is_null(value) && !takes_null(&entry[1])) {
        return wrong_type(encoder, "no null inside a map");
    }
    SL_TRY(sl_encode_tag(encoder, field->number, SL_WIRE_BYTES));
    SL_TRY(sl_encode_begin(encoder, &mark));
    SL_TRY(encode_key(encoder, &entry[0], at));
    SL_TRY(encode_tagged(encoder, &entry[1], value));
    return sl_encode_end(encoder, mark);
}

static enum sl_status
encode_map(struct sl_encoder *encoder, const struct sl_schema_field *field, json_t *json)
{
    const struct sl_place *outer = encoder->place;
    enum sl_status status = SL_OK;
    if (!json_is_object(json)) {
        return wrong_type(encoder, "an object");
    }
    void *at = json_object_iter(json);
    for (; status == SL_OK && at != NULL; at = json_object_iter_next(json, at)) {
        const struct sl_place place = { .parent = outer, .name = json_object_iter_key(at) };
        encoder->place = &place;
        status = encode_entry(encoder, field, at);
        encoder->place = outer;
    }
    return status;
}

static enum sl_status
encode_field(struct sl_encoder *encoder, const struct sl_schema_field *field, json_t *json)
{
    if (field->is_map) {
        return encode_map(encoder, field, json);
    }
    return field->is_repeated ? encode_list(encoder, field, json)
                              : encode_singular(encoder, field, json);
}

/* ---- Messages ---------------------------------------------------------------------------------
 */

/* The members of one object by their fields. */
struct members {
    json_t **values;                       /* one per field; NULL: not given */
    const struct sl_schema_field **oneofs; /* the member of each that was given */
};

static enum sl_status sort_member(
    struct sl_encoder *encoder,
    const struct sl_schema_message *message,
    const char *name,
    json_t *json,
    struct members *members)
{
    const struct sl_schema_field *field = sl_schema_field_by_name(message, name);
    if (field == NULL) {
        return sl_encoder_fail(encoder, "%.80s has no field '%.60s'", message->name, name);
    }
    if (json_is_null(json) && (field->is_repeated || !takes_null(field))) {
        return SL_OK;
    }
    const size_t index = (size_t)(field - message->fields);
    if (members->values[index] != NULL) {
        return sl_encoder_fail(encoder, "'%.60s' is given under both of its names", field->name);
    }
    members->values[index] = json;
    if (field->oneof >= 0) {
        const struct sl_schema_field *other = members->oneofs[field->oneof];
        if (other != NULL) {
            return sl_encoder_fail(
                encoder, "'%.40s' and '%.40s' are both of oneof '%.40s': give one",
                other->json_name, field->json_name, message->oneofs[field->oneof]);
        }
        members->oneofs[field->oneof] = field;
    }
    return SL_OK;
}

static enum sl_status sort_members(
    struct sl_encoder *encoder,
    const struct sl_schema_message *message,
    json_t *json,
    const char *but,
    struct members *members)
{
    enum sl_status status = SL_OK;
    void *at = json_object_iter(json);
    for (; status == SL_OK && at != NULL; at = json_object_iter_next(json, at)) {
        const char *name = json_object_iter_key(at);
        if (strlen(name) != json_object_iter_key_len(at)) {
            status = sl_encoder_fail(encoder, "a name with a NUL");
        } else if (but == NULL || strcmp(name, but) != 0) {
            status = sort_member(encoder, message, name, json_object_iter_value(at), members);
        }
    }
    return status;
}

static enum sl_status encode_members(
    struct sl_encoder *encoder,
    const struct sl_schema_message *message,
    const struct members *members)
{
    const struct sl_place *outer = encoder->place;
    enum sl_status status = SL_OK;
    for (size_t i = 0; status == SL_OK && i < message->n_fields; i++) {
        const struct sl_schema_field *field = &message->fields[i];
        const struct sl_place place = { .parent = outer, .name = field->json_name };
        encoder->place = &place;
        if (members->values[i] != NULL) {
            status = encode_field(encoder, field, members->values[i]);
        } else if (field->is_required) {
            status = sl_encoder_fail(encoder, "required, and not given");
        }
        encoder->place = outer;
    }
    return status;
}

enum sl_status sl_encode_content(
    struct sl_encoder *encoder,
    const struct sl_schema_message *message,
    json_t *json,
    const char *but)
{
    if (!json_is_object(json)) {
        return wrong_type(encoder, "an object");
    }
    struct members members = { .values = sl_calloc(message->n_fields + 1, sizeof(json_t *)),
                               .oneofs = sl_calloc(message->n_oneofs + 1, sizeof(void *)) };
    enum sl_status status = SL_OK;
    if (members.values == NULL || members.oneofs == NULL) {
        status = sl_encoder_full(encoder);
    } else {
        status = sort_members(encoder, message, json, but, &members);
        status = status == SL_OK ? encode_members(encoder, message, &members) : status;
    }
    (void)sl_free(members.values);
    (void)sl_free((void *)members.oneofs);
    return status;
}

enum sl_status sl_schema_encode(
    const struct sl_schema_message *message, json_t *json, struct sl_buf *out, struct sl_error *err)
{
    struct sl_encoder encoder = { .out = out, .err = err };
    return encode_message(&encoder, message, json);
}
