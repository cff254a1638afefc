#include "runtime/tool/schema.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/tool/schema_walk.h"

static bool is_whole(json_t *value)
{
    return json_is_integer(value) ||
           (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
}

static bool has_type(json_t *value, const char *name)
{
    if (strcmp(name, "integer") == 0) {
        return is_whole(value);
    }
    if (strcmp(name, "number") == 0) {
        return json_is_number(value);
    }
    return strcmp(name, sl_schema_type_name(value)) == 0;
}

static int compare_numbers(json_t *a, json_t *b)
{
    if (json_is_integer(a) && json_is_integer(b)) {
        const json_int_t x = json_integer_value(a);
        const json_int_t y = json_integer_value(b);
        return (x > y) - (x < y);
    }
    const double x = json_number_value(a);
    const double y = json_number_value(b);
    return (x > y) - (x < y);
}

/* 1 and 1.0 are the same number in JSON Schema; jansson sees two types. */
static bool is_equal(json_t *a, json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) {
        return compare_numbers(a, b) == 0;
    }
    return json_equal(a, b) != 0;
}

static size_t count_characters(json_t *value)
{
    const char *text = json_string_value(value);
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(value); i++) {
        n += ((unsigned char)text[i] & 0xC0U) != 0x80U;
    }
    return n;
}

/* ---- Validation ---------------------------------------------------------------------------------
 */

static enum sl_status validate(struct sl_schema_walk *walk, json_t *schema, json_t *value);

static enum sl_status validate_quietly(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    struct sl_error *err = walk->err;
    walk->err = NULL;
    const enum sl_status status = validate(walk, schema, value);
    walk->err = err;
    return status;
}

static bool is_spent(const struct sl_schema_walk *walk)
{
    return walk->n_steps >= SL_SCHEMA_MAX_STEPS;
}

static enum sl_status check_type(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    json_t *type = json_object_get(schema, "type");
    if (type == NULL) {
        return SL_OK;
    }
    if (json_is_string(type)) {
        if (has_type(value, json_string_value(type))) {
            return SL_OK;
        }
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: must be %s, is %s", sl_schema_place(walk),
            json_string_value(type), sl_schema_type_name(value));
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        const char *name = json_string_value(json_array_get(type, i));
        if (name != NULL && has_type(value, name)) {
            return SL_OK;
        }
    }
    return sl_fail(
        walk->err, SL_INVALID_ARGUMENT, "%s: is %s, which is none of the types allowed",
        sl_schema_place(walk), sl_schema_type_name(value));
}

static void list_choices(json_t *choices, char *room, size_t room_bytes)
{
    size_t n = 0;
    room[0] = '\0';
    for (size_t i = 0; i < json_array_size(choices) && n + 1 < room_bytes; i++) {
        json_t *choice = json_array_get(choices, i);
        const char *text =
            json_is_string(choice) ? json_string_value(choice) : sl_schema_type_name(choice);
        const int size = snprintf(room + n, room_bytes - n, "%s%s", i == 0 ? "" : ", ", text);
        n += size > 0 ? (size_t)size : 0;
    }
}

static enum sl_status check_choices(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    json_t *wanted = json_object_get(schema, "const");
    if (wanted != NULL && !is_equal(wanted, value)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: is not the one value allowed",
            sl_schema_place(walk));
    }
    json_t *choices = json_object_get(schema, "enum");
    if (choices == NULL) {
        return SL_OK;
    }
    for (size_t i = 0; i < json_array_size(choices) && !is_spent(walk); i++) {
        walk->n_steps++;
        if (is_equal(json_array_get(choices, i), value)) {
            return SL_OK;
        }
    }
    char room[120];
    list_choices(choices, room, sizeof room);
    return sl_fail(
        walk->err, SL_INVALID_ARGUMENT, "%s: must be one of: %s", sl_schema_place(walk), room);
}

static enum sl_status check_bounds(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    static const struct {
        const char *key;
        int wrong_sign; /* of value - bound */
        bool is_equal_wrong;
        const char *text;
    } bounds[] = {
        { "minimum", -1, false, "at least" },
        { "maximum", 1, false, "at most" },
        { "exclusiveMinimum", -1, true, "greater than" },
        { "exclusiveMaximum", 1, true, "less than" },
    };
    for (size_t i = 0; i < SL_COUNT(bounds); i++) {
        json_t *bound = json_object_get(schema, bounds[i].key);
        if (!json_is_number(bound)) {
            continue;
        }
        const int sign = compare_numbers(value, bound);
        if (sign == bounds[i].wrong_sign || (sign == 0 && bounds[i].is_equal_wrong)) {
            return sl_fail(
                walk->err, SL_INVALID_ARGUMENT, "%s: must be %s %.15g", sl_schema_place(walk),
                bounds[i].text, json_number_value(bound));
        }
    }
    return SL_OK;
}

static enum sl_status check_count(
    struct sl_schema_walk *walk, json_t *schema, const char *least, const char *most, size_t n)
{
    json_t *bound = json_object_get(schema, least);
    if (json_is_integer(bound) && (json_int_t)n < json_integer_value(bound)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: %s is %" PRId64, sl_schema_place(walk), least,
            (int64_t)json_integer_value(bound));
    }
    bound = json_object_get(schema, most);
    if (json_is_integer(bound) && (json_int_t)n > json_integer_value(bound)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: %s is %" PRId64, sl_schema_place(walk), most,
            (int64_t)json_integer_value(bound));
    }
    return SL_OK;
}

static enum sl_status check_items(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    SL_TRY(check_count(walk, schema, "minItems", "maxItems", json_array_size(value)));
    json_t *items = json_object_get(schema, "items");
    if (items == NULL) {
        return SL_OK;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const size_t before = sl_schema_push(walk, NULL, i);
        SL_TRY(validate(walk, items, json_array_get(value, i)));
        sl_schema_pop(walk, before);
    }
    return SL_OK;
}

static enum sl_status
check_member(struct sl_schema_walk *walk, json_t *schema, const char *key, json_t *value)
{
    json_t *own = json_object_get(json_object_get(schema, "properties"), key);
    json_t *others = json_object_get(schema, "additionalProperties");
    if (own == NULL && json_is_false(others)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: there is no '%.60s'", sl_schema_place(walk), key);
    }
    json_t *used = own != NULL ? own : others;
    if (used == NULL) {
        return SL_OK;
    }
    const size_t before = sl_schema_push(walk, key, 0);
    SL_TRY(validate(walk, used, value));
    sl_schema_pop(walk, before);
    return SL_OK;
}

static enum sl_status check_object(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    SL_TRY(check_count(walk, schema, "minProperties", "maxProperties", json_object_size(value)));
    json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *key = json_string_value(json_array_get(required, i));
        if (key != NULL && json_object_get(value, key) == NULL) {
            return sl_fail(
                walk->err, SL_INVALID_ARGUMENT, "%s: '%.60s' is missing", sl_schema_place(walk),
                key);
        }
    }
    if (json_object_get(schema, "properties") == NULL &&
        json_object_get(schema, "additionalProperties") == NULL) {
        return SL_OK;
    }
    /* jansson's iterators only read, but do not say so */
    json_t *object = value;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        SL_TRY(check_member(walk, schema, json_object_iter_key(at), json_object_iter_value(at)));
    }
    return SL_OK;
}

static size_t count_matches(struct sl_schema_walk *walk, json_t *list, json_t *value, size_t stop)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < stop; i++) {
        const size_t before = walk->path_size;
        n += validate_quietly(walk, json_array_get(list, i), value) == SL_OK;
        sl_schema_pop(walk, before);
    }
    return n;
}

static enum sl_status check_combinations(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    json_t *all = json_object_get(schema, "allOf");
    for (size_t i = 0; i < json_array_size(all); i++) {
        SL_TRY(validate(walk, json_array_get(all, i), value));
    }
    json_t *any = json_object_get(schema, "anyOf");
    if (any != NULL && count_matches(walk, any, value, 1) != 1) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: fits none of the alternatives",
            sl_schema_place(walk));
    }
    json_t *one = json_object_get(schema, "oneOf");
    const size_t n = one == NULL ? 1 : count_matches(walk, one, value, 2);
    if (n != 1) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: must fit exactly one alternative, fits %s",
            sl_schema_place(walk), n == 0 ? "none" : "several");
    }
    json_t *not = json_object_get(schema, "not");
    const size_t before = walk->path_size;
    const bool fits_not = not != NULL && validate_quietly(walk, not, value) == SL_OK;
    sl_schema_pop(walk, before);
    if (fits_not) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: is one of the values refused",
            sl_schema_place(walk));
    }
    return SL_OK;
}

static enum sl_status check_ref(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    json_t *ref = json_object_get(schema, "$ref");
    if (ref == NULL) {
        return SL_OK;
    }
    json_t *target =
        json_is_string(ref) ? sl_schema_follow(walk->root, json_string_value(ref)) : NULL;
    if (target == NULL) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: the schema's $ref leads nowhere",
            sl_schema_place(walk));
    }
    return validate(walk, target, value);
}

static enum sl_status check_kind(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    if (json_is_number(value)) {
        return check_bounds(walk, schema, value);
    }
    if (json_is_string(value)) {
        return check_count(walk, schema, "minLength", "maxLength", count_characters(value));
    }
    if (json_is_array(value)) {
        return check_items(walk, schema, value);
    }
    if (json_is_object(value)) {
        return check_object(walk, schema, value);
    }
    return SL_OK;
}

static enum sl_status validate_inside(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    SL_TRY(check_type(walk, schema, value));
    SL_TRY(check_choices(walk, schema, value));
    SL_TRY(check_kind(walk, schema, value));
    SL_TRY(check_ref(walk, schema, value));
    return check_combinations(walk, schema, value);
}

static enum sl_status validate(struct sl_schema_walk *walk, json_t *schema, json_t *value)
{
    if (++walk->n_steps >= SL_SCHEMA_MAX_STEPS) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: too much to check", sl_schema_place(walk));
    }
    if (walk->depth >= SL_SCHEMA_MAX_DEPTH) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: nested deeper than %d", sl_schema_place(walk),
            SL_SCHEMA_MAX_DEPTH);
    }
    if (json_is_boolean(schema)) {
        return json_is_true(schema) ? SL_OK
                                    : sl_fail(
                                          walk->err, SL_INVALID_ARGUMENT, "%s: is not allowed",
                                          sl_schema_place(walk));
    }
    if (!json_is_object(schema)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: the schema is not an object",
            sl_schema_place(walk));
    }
    walk->depth++;
    const enum sl_status status = validate_inside(walk, schema, value);
    walk->depth--;
    return status;
}

/* ---- Parsing ------------------------------------------------------------------------------------
 */

static bool is_blank(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != ' ' && text.data[i] != '\t' && text.data[i] != '\n' &&
            text.data[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* Brackets outside of strings, before the parser sees them: it recurses. */
static bool is_too_deep(struct sl_slice text)
{
    unsigned depth = 0;
    bool is_string = false;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (is_string) {
            i += c == '\\';
            is_string = c != '"';
        } else if (c == '"') {
            is_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > SL_SCHEMA_MAX_DEPTH) {
                return true;
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

enum sl_status sl_schema_parse_object(
    struct sl_slice text, size_t max_bytes, json_t **ret_object, struct sl_error *err)
{
    if (text.size > max_bytes) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "the arguments have %zu bytes, at most %zu are allowed",
            text.size, max_bytes);
    }
    if (is_too_deep(text)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "the arguments are nested deeper than %d",
            SL_SCHEMA_MAX_DEPTH);
    }
    json_error_t json_error = { 0 };
    json_t *object =
        is_blank(text)
            ? json_object()
            : json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, &json_error);
    if (object == NULL &&
        (is_blank(text) || json_error_code(&json_error) == json_error_out_of_memory)) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory");
    }
    if (object == NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "the arguments are not JSON: line %d column %d: %s",
            json_error.line, json_error.column, json_error.text);
    }
    if (!json_is_object(object)) {
        const char *name = sl_schema_type_name(object);
        json_decref(object);
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "the arguments must be a JSON object, not %s", name);
    }
    *ret_object = object;
    return SL_OK;
}

enum sl_status sl_schema_validate(json_t *schema, json_t *value, struct sl_error *err)
{
    struct sl_schema_walk walk = { .root = schema, .err = err };
    return validate(&walk, schema, value);
}
