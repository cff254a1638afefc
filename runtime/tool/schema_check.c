/* The schema itself: known keywords, values of the right kind, references that lead somewhere. */
#include "runtime/base/mem.h"
#include "runtime/tool/schema_walk.h"

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

static enum sl_status check_schema(struct sl_schema_walk *walk, json_t *schema);

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

static enum sl_status check_schemas(struct sl_schema_walk *walk, json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const size_t before = sl_schema_push(walk, NULL, i);
        SL_TRY(check_schema(walk, json_array_get(list, i)));
        sl_schema_pop(walk, before);
    }
    return SL_OK;
}

static enum sl_status check_schema_map(struct sl_schema_walk *walk, json_t *map)
{
    json_t *object = map;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const size_t before = sl_schema_push(walk, json_object_iter_key(at), 0);
        SL_TRY(check_schema(walk, json_object_iter_value(at)));
        sl_schema_pop(walk, before);
    }
    return SL_OK;
}

/* Has the value of a keyword the right kind? What stands inside is looked at later. */
static bool has_shape(struct sl_schema_walk *walk, enum shape shape, json_t *value)
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
        return json_is_string(value) &&
               sl_schema_follow(walk->root, json_string_value(value)) != NULL;
    }
    return false;
}

static enum sl_status check_keyword(struct sl_schema_walk *walk, const char *key, json_t *value)
{
    size_t i = 0;
    while (i < SL_COUNT(keywords) && strcmp(keywords[i].key, key) != 0) {
        i++;
    }
    if (i == SL_COUNT(keywords)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: the keyword '%.60s' is not supported",
            sl_schema_place(walk), key);
    }
    if (!has_shape(walk, keywords[i].shape, value)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT,
            keywords[i].shape == REF ? "%s: '%s' must lead to a place in this schema"
                                     : "%s: '%s' has a value of the wrong kind",
            sl_schema_place(walk), key);
    }
    const size_t before = sl_schema_push(walk, key, 0);
    if (keywords[i].shape == SCHEMA) {
        SL_TRY(check_schema(walk, value));
    } else if (keywords[i].shape == SCHEMAS) {
        SL_TRY(check_schemas(walk, value));
    } else if (keywords[i].shape == SCHEMA_MAP) {
        SL_TRY(check_schema_map(walk, value));
    }
    sl_schema_pop(walk, before);
    return SL_OK;
}

static enum sl_status check_schema(struct sl_schema_walk *walk, json_t *schema)
{
    if (json_is_boolean(schema)) {
        return SL_OK;
    }
    if (!json_is_object(schema)) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: must be an object", sl_schema_place(walk));
    }
    if (++walk->depth > SL_SCHEMA_MAX_DEPTH) {
        return sl_fail(
            walk->err, SL_INVALID_ARGUMENT, "%s: nested deeper than %d", sl_schema_place(walk),
            SL_SCHEMA_MAX_DEPTH);
    }
    json_t *object = schema;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        SL_TRY(check_keyword(walk, json_object_iter_key(at), json_object_iter_value(at)));
    }
    walk->depth--;
    return SL_OK;
}

enum sl_status sl_schema_check(json_t *schema, struct sl_error *err)
{
    struct sl_schema_walk walk = { .root = schema, .err = err };
    return check_schema(&walk, schema);
}
