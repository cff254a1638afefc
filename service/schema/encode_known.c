/* JSON to wire bytes: the well-known types. Their fields are taken as the files of google/protobuf
 * have them, whatever a descriptor of that name says. */
#include "runtime/base/mem.h"
#include "service/schema/json_impl.h"

static enum sl_status encode_dynamic(struct sl_encoder *encoder, json_t *json);

static struct sl_slice text_of(const json_t *json)
{
    return sl_slice_of(json_string_value(json), json_string_length(json));
}

/* Timestamp and Duration: seconds = 1, nanos = 2. */
static enum sl_status encode_time(
    struct sl_encoder *encoder,
    bool (*parse)(struct sl_slice text, int64_t *ret_seconds, int32_t *ret_nanos),
    const char *expected,
    const json_t *json)
{
    int64_t seconds = 0;
    int32_t nanos = 0;
    if (!json_is_string(json) || !parse(text_of(json), &seconds, &nanos)) {
        return sl_encoder_fail(encoder, "%s is expected", expected);
    }
    if (seconds != 0) {
        SL_TRY(sl_encode_tag(encoder, 1, SL_WIRE_VARINT));
        SL_TRY(sl_encode_varint(encoder, (uint64_t)seconds));
    }
    if (nanos != 0) {
        SL_TRY(sl_encode_tag(encoder, 2, SL_WIRE_VARINT));
        SL_TRY(sl_encode_varint(encoder, (uint64_t)(int64_t)nanos));
    }
    return SL_OK;
}

static enum sl_status encode_mask_path(struct sl_encoder *encoder, struct sl_slice path)
{
    struct sl_buf snake;
    uint8_t *room;
    sl_buf_init(&snake, 2 * path.size + 1);
    if (sl_buf_reserve(&snake, snake.max_bytes, &room) != SL_OK) {
        return sl_encoder_full(encoder);
    }
    enum sl_status status = sl_mask_path_from_json(path, &snake)
                                ? sl_encode_tag(encoder, 1, SL_WIRE_BYTES)
                                : sl_encoder_fail(encoder, "no path of a FieldMask");
    if (status == SL_OK) {
        status = sl_encode_bytes(encoder, sl_buf_slice(&snake));
    }
    sl_buf_done(&snake);
    return status;
}

/* "a.bC,d": paths = 1. */
static enum sl_status encode_mask(struct sl_encoder *encoder, const json_t *json)
{
    if (!json_is_string(json)) {
        return sl_encoder_fail(encoder, "a string such as \"a.b,c\" is expected");
    }
    struct sl_slice rest = text_of(json);
    while (rest.size > 0) {
        const uint8_t *comma = memchr(rest.data, ',', rest.size);
        const size_t size = comma == NULL ? rest.size : (size_t)(comma - rest.data);
        SL_TRY(encode_mask_path(encoder, sl_slice_of(rest.data, size)));
        const size_t taken = comma == NULL ? size : size + 1;
        rest = sl_slice_of(rest.data + taken, rest.size - taken);
    }
    return SL_OK;
}

/* value = 1, left out when it is the default. */
static enum sl_status
encode_wrapper(struct sl_encoder *encoder, enum sl_schema_type type, const json_t *json)
{
    const size_t before = encoder->out->size;
    SL_TRY(sl_encode_tag(encoder, 1, sl_schema_wire_of(type)));
    size_t at = encoder->out->size;
    SL_TRY(sl_encode_scalar(encoder, type, json));
    while (at < encoder->out->size && encoder->out->data[at] == 0) {
        at++;
    }
    if (at == encoder->out->size) {
        encoder->out->size = before;
    }
    return SL_OK;
}

/* ---- Struct, Value, ListValue -----------------------------------------------------------------
 */

/* key = 1, value = 2 */
static enum sl_status encode_entry(struct sl_encoder *encoder, void *at)
{
    const char *name = json_object_iter_key(at);
    size_t entry = 0;
    size_t value = 0;
    SL_TRY(sl_encode_tag(encoder, 1, SL_WIRE_BYTES));
    SL_TRY(sl_encode_begin(encoder, &entry));
    SL_TRY(sl_encode_tag(encoder, 1, SL_WIRE_BYTES));
    SL_TRY(sl_encode_bytes(encoder, sl_slice_of(name, json_object_iter_key_len(at))));
    SL_TRY(sl_encode_tag(encoder, 2, SL_WIRE_BYTES));
    SL_TRY(sl_encode_begin(encoder, &value));
    SL_TRY(encode_dynamic(encoder, json_object_iter_value(at)));
    SL_TRY(sl_encode_end(encoder, value));
    return sl_encode_end(encoder, entry);
}

/* fields = 1: map<string, Value> */
static enum sl_status encode_struct(struct sl_encoder *encoder, json_t *json)
{
    const struct sl_place *outer = encoder->place;
    enum sl_status status = SL_OK;
    if (!json_is_object(json)) {
        return sl_encoder_fail(encoder, "an object is expected");
    }
    void *at = json_object_iter(json);
    for (; status == SL_OK && at != NULL; at = json_object_iter_next(json, at)) {
        const struct sl_place place = { .parent = outer, .name = json_object_iter_key(at) };
        encoder->place = &place;
        status = encode_entry(encoder, at);
        encoder->place = outer;
    }
    return status;
}

static enum sl_status encode_element(struct sl_encoder *encoder, json_t *json)
{
    size_t mark = 0;
    SL_TRY(sl_encode_tag(encoder, 1, SL_WIRE_BYTES));
    SL_TRY(sl_encode_begin(encoder, &mark));
    SL_TRY(encode_dynamic(encoder, json));
    return sl_encode_end(encoder, mark);
}

/* values = 1 */
static enum sl_status encode_values(struct sl_encoder *encoder, const json_t *json)
{
    const struct sl_place *outer = encoder->place;
    enum sl_status status = SL_OK;
    if (!json_is_array(json)) {
        return sl_encoder_fail(encoder, "a list is expected");
    }
    for (size_t i = 0; status == SL_OK && i < json_array_size(json); i++) {
        const struct sl_place place = { .parent = outer, .index = i };
        encoder->place = &place;
        status = encode_element(encoder, json_array_get(json, i));
        encoder->place = outer;
    }
    return status;
}

/* struct_value = 5, list_value = 6 */
static enum sl_status encode_inner(struct sl_encoder *encoder, json_t *json)
{
    const bool is_list = json_is_array(json);
    size_t mark = 0;
    if (encoder->depth >= SL_SCHEMA_DEPTH) {
        return sl_encoder_fail(encoder, "nested more than %d levels deep", SL_SCHEMA_DEPTH);
    }
    SL_TRY(sl_encode_tag(encoder, is_list ? 6 : 5, SL_WIRE_BYTES));
    SL_TRY(sl_encode_begin(encoder, &mark));
    encoder->depth++;
    const enum sl_status status =
        is_list ? encode_values(encoder, json) : encode_struct(encoder, json);
    encoder->depth--;
    return status == SL_OK ? sl_encode_end(encoder, mark) : status;
}

/* A Value: null_value = 1, number_value = 2, string_value = 3, bool_value = 4. */
static enum sl_status encode_dynamic(struct sl_encoder *encoder, json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_NULL:
        SL_TRY(sl_encode_tag(encoder, 1, SL_WIRE_VARINT));
        return sl_encode_varint(encoder, 0);
    case JSON_INTEGER:
    case JSON_REAL:
        SL_TRY(sl_encode_tag(encoder, 2, SL_WIRE_64));
        return sl_encode_scalar(encoder, SL_TYPE_DOUBLE, json);
    case JSON_STRING:
        SL_TRY(sl_encode_tag(encoder, 3, SL_WIRE_BYTES));
        return sl_encode_bytes(encoder, text_of(json));
    case JSON_TRUE:
    case JSON_FALSE:
        SL_TRY(sl_encode_tag(encoder, 4, SL_WIRE_VARINT));
        return sl_encode_varint(encoder, json_is_true(json));
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
    return encode_inner(encoder, json);
}

/* ---- Any --------------------------------------------------------------------------------------
 */

/* What `value` = 2 of an Any holds, without its length. */
static enum sl_status encode_any_value(
    struct sl_encoder *encoder, struct sl_schema *schema, struct sl_slice url, json_t *json)
{
    const uint8_t *slash = url.size == 0 ? NULL : memrchr(url.data, '/', url.size);
    const size_t start = slash == NULL ? 0 : (size_t)(slash + 1 - url.data);
    const struct sl_schema_message *message = NULL;
    struct sl_error err = { .text = "no type" };
    if (slash == NULL ||
        sl_schema_find_message(
            schema, sl_slice_of(url.data + start, url.size - start), &message, &err) != SL_OK) {
        return sl_encoder_fail(
            encoder, "@type '%.60s': %.60s (\"@value\" takes base64)", (const char *)url.data,
            err.text);
    }
    if (message->known == SL_KNOWN_NOT) {
        const bool is_empty = strcmp(message->name, "google.protobuf.Empty") == 0;
        json_t *value = json_object_get(json, "value");
        return is_empty && value != NULL ? sl_encode_content(encoder, message, value, NULL)
                                         : sl_encode_content(encoder, message, json, "@type");
    }
    json_t *value = json_object_get(json, "value");
    if (value == NULL || json_object_size(json) != 2) {
        return sl_encoder_fail(
            encoder, "%.80s in an Any is {\"@type\": …, \"value\": …}", message->name);
    }
    return sl_encode_known(encoder, message, value);
}

static enum sl_status encode_any(struct sl_encoder *encoder, struct sl_schema *schema, json_t *json)
{
    if (!json_is_object(json)) {
        return sl_encoder_fail(encoder, "an object with \"@type\" is expected");
    }
    if (json_object_size(json) == 0) {
        return SL_OK;
    }
    const json_t *type = json_object_get(json, "@type");
    const json_t *raw = json_object_get(json, "@value");
    if (!json_is_string(type)) {
        return sl_encoder_fail(encoder, "\"@type\" is missing, or no string");
    }
    if (raw != NULL && (!json_is_string(raw) || json_object_size(json) != 2)) {
        return sl_encoder_fail(encoder, "\"@value\" is base64, and alone with \"@type\"");
    }
    const struct sl_slice url = text_of(type);
    if (url.size > 0) {
        SL_TRY(sl_encode_tag(encoder, 1, SL_WIRE_BYTES));
        SL_TRY(sl_encode_bytes(encoder, url));
    }
    const size_t before = encoder->out->size;
    size_t mark = 0;
    SL_TRY(sl_encode_tag(encoder, 2, SL_WIRE_BYTES));
    if (raw != NULL) {
        return sl_encode_scalar(encoder, SL_TYPE_BYTES, raw);
    }
    SL_TRY(sl_encode_begin(encoder, &mark));
    SL_TRY(encode_any_value(encoder, schema, url, json));
    if (encoder->out->size == mark + 1) { /* an empty value is the default */
        encoder->out->size = before;
        return SL_OK;
    }
    return sl_encode_end(encoder, mark);
}

enum sl_status
sl_encode_known(struct sl_encoder *encoder, const struct sl_schema_message *message, json_t *json)
{
    if (encoder->depth >= SL_SCHEMA_DEPTH) { /* an Any in an Any */
        return sl_encoder_fail(encoder, "nested more than %d levels deep", SL_SCHEMA_DEPTH);
    }
    encoder->depth++;
    enum sl_status status = SL_OK;
    switch (message->known) {
    case SL_KNOWN_ANY:
        status = encode_any(encoder, message->schema, json);
        break;
    case SL_KNOWN_TIMESTAMP:
        status = encode_time(
            encoder, sl_timestamp_parse, "a time such as \"2026-01-02T03:04:05Z\"", json);
        break;
    case SL_KNOWN_DURATION:
        status = encode_time(encoder, sl_duration_parse, "a duration such as \"1.5s\"", json);
        break;
    case SL_KNOWN_FIELD_MASK:
        status = encode_mask(encoder, json);
        break;
    case SL_KNOWN_STRUCT:
        status = encode_struct(encoder, json);
        break;
    case SL_KNOWN_VALUE:
        status = encode_dynamic(encoder, json);
        break;
    case SL_KNOWN_LIST:
        status = encode_values(encoder, json);
        break;
    case SL_KNOWN_WRAPPER:
        status = encode_wrapper(encoder, message->wrapped, json);
        break;
    case SL_KNOWN_NOT:
        status = sl_encode_content(encoder, message, json, NULL);
        break;
    }
    encoder->depth--;
    return status;
}
