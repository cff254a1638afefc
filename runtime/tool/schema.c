#include "runtime/tool/schema.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "runtime/base/mem.h"

enum { PATH_BYTES = 128 };

/* Where a validation stands. The path is one buffer: each level writes behind its parent's part and
 * cuts it off again. */
struct walk {
    json_t *root;
    struct sl_error *err;
    unsigned depth;
    unsigned n_steps;
    char path[PATH_BYTES];
    size_t path_size;
};

static size_t push_path(struct walk *walk, const char *key, size_t index)
{
    const size_t before = walk->path_size;
    const size_t room = sizeof walk->path - before;
    const int n = key != NULL ? snprintf(walk->path + before, room, "/%s", key)
                              : snprintf(walk->path + before, room, "/%zu", index);
    if (n > 0) {
        walk->path_size += (size_t)n < room ? (size_t)n : room - 1;
    }
    return before;
}

static void pop_path(struct walk *walk, size_t before)
{
    walk->path_size = before;
    walk->path[before] = '\0';
}

static const char *place(const struct walk *walk)
{
    return walk->path_size == 0 ? "/" : walk->path;
}

static const char *type_name(json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        return "null";
    }
    return "?";
}

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
    return strcmp(name, type_name(value)) == 0;
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

/* ---- References ---------------------------------------------------------------------------------
 */

/* The next part of a JSON pointer, "~1" and "~0" undone. False: too long. */
static bool next_token(const char **pointer, char *token, size_t token_bytes)
{
    size_t n = 0;
    const char *p = *pointer + 1; /* the '/' */
    for (; *p != '\0' && *p != '/'; p++) {
        char c = *p;
        if (c == '~' && (p[1] == '0' || p[1] == '1')) {
            c = p[1] == '0' ? '~' : '/';
            p++;
        }
        if (n + 1 >= token_bytes) {
            return false;
        }
        token[n++] = c;
    }
    token[n] = '\0';
    *pointer = p;
    return true;
}

static json_t *array_item(json_t *array, const char *token)
{
    size_t index = 0;
    if (*token == '\0' || strlen(token) > 6) {
        return NULL;
    }
    for (const char *p = token; *p != '\0'; p++) {
        if (*p < '0' || *p > '9') {
            return NULL;
        }
        index = index * 10 + (size_t)(*p - '0');
    }
    return json_array_get(array, index);
}

/* NULL: it leads nowhere, or out of this document. */
static json_t *follow(json_t *root, const char *ref)
{
    if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/')) {
        return NULL;
    }
    json_t *at = root;
    const char *pointer = ref + 1;
    while (at != NULL && *pointer == '/') {
        char token[128];
        if (!next_token(&pointer, token, sizeof token)) {
            return NULL;
        }
        at = json_is_array(at) ? array_item(at, token) : json_object_get(at, token);
    }
    return at;
}

/* ---- Validation ---------------------------------------------------------------------------------
 */

static enum sl_status validate(struct walk *walk, json_t *schema, json_t *value);

static enum sl_status validate_quietly(struct walk *walk, json_t *schema, json_t *value)
{
    struct sl_error *err = walk->err;
    walk->err = NULL;
    const enum sl_status status = validate(walk, schema, value);
    walk->err = err;
    return status;
}

static bool is_spent(const struct walk *walk)
{
    return walk->n_steps >= SL_SCHEMA_MAX_STEPS;
}

static enum sl_status check_type(struct walk *walk, json_t *schema, json_t *value)
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
            walk->err, SL_INVALID_ARGUMENT, "%s: must be %s, is %s", place(walk),
            json_string_value(type), type_name(value));
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        const char *name = json_string_value(json_array_get(type, i));
        if (name != NULL && has_type(value, name)) {
            return SL_OK;
        }
    }
    return sl_fail(
        walk->err, SL_INVALID_ARGUMENT, "%s: is %s, which is none of the types allowed",
        place(walk), type_name(value));
}

static void list_choices(json_t *choices, char *room, size_t room_bytes)
{
    size_t n = 0;
    room[0] = '\0';
    for (size_t i = 0; i < json_array_size(choices) && n + 1 < room_bytes; i++) {
        json_t *choice = json_array_get(choices, i);
        const char *text = json_is_string(choice) ? json_string_value(choice) : type_name(choice);
        const int size = snprintf(room + n, room_bytes - n, "%s%s", i == 0 ? "" : ", ", text);
        n += size > 0 ? (size_t)size : 0;
    }
}

static enum sl_status check_choices(struct walk *walk, json_t *schema, json_t *value)
{
    json_t *wanted = json_object_get(schema, "const");
    if (wanted != NULL && !is_equal(wanted, value)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: is not the one value allowed", place(walk));
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
    return sl_fail(walk->err, SL_INVALID_ARGUMENT, "%s: must be one of: %s", place(walk), room);
}

static enum sl_status check_bounds(struct walk *walk, json_t *schema, json_t *value)
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
                walk->err, SL_INVALID_ARGUMENT, "%s: must be %s %.15g", place(walk), bounds[i].text,
                json_number_value(bound));
        }
    }
    return SL_OK;
}

static enum sl_status
check_count(struct walk *walk, json_t *schema, const char *least, const char *most, size_t n)
{
    json_t *bound = json_object_get(schema, least);
    if (json_is_integer(bound) && (json_int_t)n < json_integer_value(bound)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: %s is %" PRId64, place(walk), least,
            (int64_t)json_integer_value(bound));
    }
    bound = json_object_get(schema, most);
    if (json_is_integer(bound) && (json_int_t)n > json_integer_value(bound)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: %s is %" PRId64, place(walk), most,
            (int64_t)json_integer_value(bound));
    }
    return SL_OK;
}

static enum sl_status check_items(struct walk *walk, json_t *schema, json_t *value)
{
    SL_TRY(check_count(walk, schema, "minItems", "maxItems", json_array_size(value)));
    json_t *items = json_object_get(schema, "items");
    if (items == NULL) {
        return SL_OK;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const size_t before = push_path(walk, NULL, i);
        SL_TRY(validate(walk, items, json_array_get(value, i)));
        pop_path(walk, before);
    }
    return SL_OK;
}

static enum sl_status
check_member(struct walk *walk, json_t *schema, const char *key, json_t *value)
{
    json_t *own = json_object_get(json_object_get(schema, "properties"), key);
    json_t *others = json_object_get(schema, "additionalProperties");
    if (own == NULL && json_is_false(others)) {
        return sl_fail(walk->err, SL_INVALID_ARGUMENT, "%s: there is no '%.60s'", place(walk), key);
    }
    json_t *used = own != NULL ? own : others;
    if (used == NULL) {
        return SL_OK;
    }
    const size_t before = push_path(walk, key, 0);
    SL_TRY(validate(walk, used, value));
    pop_path(walk, before);
    return SL_OK;
}

static enum sl_status check_object(struct walk *walk, json_t *schema, json_t *value)
{
    SL_TRY(check_count(walk, schema, "minProperties", "maxProperties", json_object_size(value)));
    json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *key = json_string_value(json_array_get(required, i));
        if (key != NULL && json_object_get(value, key) == NULL) {
            return sl_fail(
                walk->err, SL_INVALID_ARGUMENT, "%s: '%.60s' is missing", place(walk), key);
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

static size_t count_matches(struct walk *walk, json_t *list, json_t *value, size_t stop)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < stop; i++) {
        const size_t before = walk->path_size;
        n += validate_quietly(walk, json_array_get(list, i), value) == SL_OK;
        pop_path(walk, before);
    }
    return n;
}

static enum sl_status check_combinations(struct walk *walk, json_t *schema, json_t *value)
{
    json_t *all = json_object_get(schema, "allOf");
    for (size_t i = 0; i < json_array_size(all); i++) {
        SL_TRY(validate(walk, json_array_get(all, i), value));
    }
    json_t *any = json_object_get(schema, "anyOf");
    if (any != NULL && count_matches(walk, any, value, 1) != 1) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: fits none of the alternatives", place(walk));
    }
    json_t *one = json_object_get(schema, "oneOf");
    const size_t n = one == NULL ? 1 : count_matches(walk, one, value, 2);
    if (n != 1) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: must fit exactly one alternative, fits %s",
            place(walk), n == 0 ? "none" : "several");
    }
    json_t *not = json_object_get(schema, "not");
    const size_t before = walk->path_size;
    const bool fits_not = not != NULL && validate_quietly(walk, not, value) == SL_OK;
    pop_path(walk, before);
    if (fits_not) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: is one of the values refused", place(walk));
    }
    return SL_OK;
}

static enum sl_status check_ref(struct walk *walk, json_t *schema, json_t *value)
{
    json_t *ref = json_object_get(schema, "$ref");
    if (ref == NULL) {
        return SL_OK;
    }
    json_t *target = json_is_string(ref) ? follow(walk->root, json_string_value(ref)) : NULL;
    if (target == NULL) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: the schema's $ref leads nowhere", place(walk));
    }
    return validate(walk, target, value);
}

static enum sl_status check_kind(struct walk *walk, json_t *schema, json_t *value)
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

static enum sl_status validate_inside(struct walk *walk, json_t *schema, json_t *value)
{
    SL_TRY(check_type(walk, schema, value));
    SL_TRY(check_choices(walk, schema, value));
    SL_TRY(check_kind(walk, schema, value));
    SL_TRY(check_ref(walk, schema, value));
    return check_combinations(walk, schema, value);
}

static enum sl_status validate(struct walk *walk, json_t *schema, json_t *value)
{
    if (++walk->n_steps >= SL_SCHEMA_MAX_STEPS) {
        return sl_fail(walk->err, SL_INVALID_ARGUMENT, "%s: too much to check", place(walk));
    }
    if (walk->depth >= SL_SCHEMA_MAX_DEPTH) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: nested deeper than %d", place(walk),
            SL_SCHEMA_MAX_DEPTH);
    }
    if (json_is_boolean(schema)) {
        return json_is_true(schema)
                   ? SL_OK
                   : sl_fail(walk->err, SL_INVALID_ARGUMENT, "%s: is not allowed", place(walk));
    }
    if (!json_is_object(schema)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: the schema is not an object", place(walk));
    }
    walk->depth++;
    const enum sl_status status = validate_inside(walk, schema, value);
    walk->depth--;
    return status;
}

/* ---- The schema itself --------------------------------------------------------------------------
 */

enum shape { TYPE, SCHEMA, SCHEMAS, SCHEMA_MAP, STRINGS, LIST, NUMBER, COUNT, REF, ANYTHING };

static const struct {
    const char *key;
    enum shape shape;
} keywords[] = {
    { "type", TYPE },
    { "properties", SCHEMA_MAP },
    { "$defs", SCHEMA_MAP },
    { "definitions", SCHEMA_MAP },
    { "items", SCHEMA },
    { "additionalProperties", SCHEMA },
    { "not", SCHEMA },
    { "anyOf", SCHEMAS },
    { "oneOf", SCHEMAS },
    { "allOf", SCHEMAS },
    { "required", STRINGS },
    { "enum", LIST },
    { "const", ANYTHING },
    { "minimum", NUMBER },
    { "maximum", NUMBER },
    { "exclusiveMinimum", NUMBER },
    { "exclusiveMaximum", NUMBER },
    { "minLength", COUNT },
    { "maxLength", COUNT },
    { "minItems", COUNT },
    { "maxItems", COUNT },
    { "minProperties", COUNT },
    { "maxProperties", COUNT },
    { "$ref", REF },
    { "title", ANYTHING },
    { "description", ANYTHING },
    { "default", ANYTHING },
    { "examples", ANYTHING },
    { "format", ANYTHING },
    { "deprecated", ANYTHING },
    { "readOnly", ANYTHING },
    { "writeOnly", ANYTHING },
    { "$comment", ANYTHING },
    { "$schema", ANYTHING },
    { "$id", ANYTHING },
};

static const char *const type_names[] = { "object", "array",   "string", "integer",
                                          "number", "boolean", "null" };

static enum sl_status check_schema(struct walk *walk, json_t *schema);

static bool is_type_name(json_t *name)
{
    for (size_t i = 0; i < SL_COUNT(type_names); i++) {
        if (json_is_string(name) && strcmp(json_string_value(name), type_names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_type(json_t *type)
{
    if (!json_is_array(type)) {
        return is_type_name(type);
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        if (!is_type_name(json_array_get(type, i))) {
            return false;
        }
    }
    return json_array_size(type) > 0;
}

static bool is_strings(json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!json_is_string(json_array_get(list, i))) {
            return false;
        }
    }
    return json_is_array(list);
}

static enum sl_status check_schemas(struct walk *walk, json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const size_t before = push_path(walk, NULL, i);
        SL_TRY(check_schema(walk, json_array_get(list, i)));
        pop_path(walk, before);
    }
    return SL_OK;
}

static enum sl_status check_schema_map(struct walk *walk, json_t *map)
{
    json_t *object = map;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const size_t before = push_path(walk, json_object_iter_key(at), 0);
        SL_TRY(check_schema(walk, json_object_iter_value(at)));
        pop_path(walk, before);
    }
    return SL_OK;
}

/* Has the value of a keyword the right kind? What stands inside is looked at later. */
static bool has_shape(struct walk *walk, enum shape shape, json_t *value)
{
    switch (shape) {
    case TYPE:
        return is_type(value);
    case SCHEMA:
    case ANYTHING:
        return true;
    case SCHEMAS:
    case LIST:
        return json_array_size(value) > 0;
    case SCHEMA_MAP:
        return json_is_object(value);
    case STRINGS:
        return is_strings(value);
    case NUMBER:
        return json_is_number(value);
    case COUNT:
        return json_is_integer(value) && json_integer_value(value) >= 0;
    case REF:
        return json_is_string(value) && follow(walk->root, json_string_value(value)) != NULL;
    }
    return false;
}

static enum sl_status check_keyword(struct walk *walk, const char *key, json_t *value)
{
    size_t i = 0;
    while (i < SL_COUNT(keywords) && strcmp(keywords[i].key, key) != 0) {
        i++;
    }
    if (i == SL_COUNT(keywords)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: the keyword '%.60s' is not supported", place(walk),
            key);
    }
    if (!has_shape(walk, keywords[i].shape, value)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT,
            keywords[i].shape == REF ? "%s: '%s' must lead to a place in this schema"
                                     : "%s: '%s' has a value of the wrong kind",
            place(walk), key);
    }
    const size_t before = push_path(walk, key, 0);
    if (keywords[i].shape == SCHEMA) {
        SL_TRY(check_schema(walk, value));
    } else if (keywords[i].shape == SCHEMAS) {
        SL_TRY(check_schemas(walk, value));
    } else if (keywords[i].shape == SCHEMA_MAP) {
        SL_TRY(check_schema_map(walk, value));
    }
    pop_path(walk, before);
    return SL_OK;
}

static enum sl_status check_schema(struct walk *walk, json_t *schema)
{
    if (json_is_boolean(schema)) {
        return SL_OK;
    }
    if (!json_is_object(schema)) {
        return sl_fail(walk->err, SL_INVALID_ARGUMENT, "%s: must be an object", place(walk));
    }
    if (++walk->depth > SL_SCHEMA_MAX_DEPTH) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: nested deeper than %d", place(walk),
            SL_SCHEMA_MAX_DEPTH);
    }
    json_t *object = schema;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        SL_TRY(check_keyword(walk, json_object_iter_key(at), json_object_iter_value(at)));
    }
    walk->depth--;
    return SL_OK;
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
        const char *name = type_name(object);
        json_decref(object);
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "the arguments must be a JSON object, not %s", name);
    }
    *ret_object = object;
    return SL_OK;
}

enum sl_status sl_schema_check(json_t *schema, struct sl_error *err)
{
    struct walk walk = { .root = schema, .err = err };
    return check_schema(&walk, schema);
}

enum sl_status sl_schema_validate(json_t *schema, json_t *value, struct sl_error *err)
{
    struct walk walk = { .root = schema, .err = err };
    return validate(&walk, schema, value);
}
