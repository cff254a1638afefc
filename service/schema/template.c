/* A message for a person to fill in. */
#include "service/schema/json_impl.h"

enum { MAX_MEMBERS = 1000, MAX_LEVELS = 6 };

struct sample {
    size_t n_members;
    const struct sl_schema_message *open[MAX_LEVELS]; /* from the outside in */
    size_t n_open;
};

static json_t *template_of(struct sample *sample, const struct sl_schema_message *message);

static json_t *known_template(const struct sl_schema_message *message)
{
    switch (message->known) {
    case SL_KNOWN_ANY:
        return json_pack("{s:s, s:s}", "@type", "type.googleapis.com/pkg.Message", "@value", "");
    case SL_KNOWN_TIMESTAMP:
        return json_string("1970-01-01T00:00:00Z");
    case SL_KNOWN_DURATION:
        return json_string("0s");
    case SL_KNOWN_FIELD_MASK:
        return json_string("");
    case SL_KNOWN_STRUCT:
        return json_object();
    case SL_KNOWN_LIST:
        return json_array();
    case SL_KNOWN_WRAPPER: {
        const struct sl_schema_field field = { .type = message->wrapped };
        return sl_default_json(&field);
    }
    case SL_KNOWN_VALUE:
    case SL_KNOWN_NOT:
        break;
    }
    return json_null();
}

/* The first value that is not 0 says more than the first. */
static json_t *enum_template(const struct sl_schema_enum *enumeration)
{
    if (enumeration->is_null) {
        return json_null();
    }
    size_t i = 0;
    while (i < enumeration->n_values && enumeration->values[i].number == 0) {
        i++;
    }
    return json_string(enumeration->values[i == enumeration->n_values ? 0 : i].name);
}

static json_t *value_template(struct sample *sample, const struct sl_schema_field *field)
{
    if (field->message != NULL) {
        return template_of(sample, field->message);
    }
    return field->enumeration != NULL ? enum_template(field->enumeration) : sl_default_json(field);
}

static json_t *map_template(struct sample *sample, const struct sl_schema_field *field)
{
    const struct sl_schema_field *entry = field->message->fields;
    const char *key = entry[0].type == SL_TYPE_STRING ? "key"
                      : entry[0].type == SL_TYPE_BOOL ? "true"
                                                      : "0";
    json_t *object = json_object();
    if (object != NULL &&
        json_object_set_new(object, key, value_template(sample, &entry[1])) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *field_template(struct sample *sample, const struct sl_schema_field *field)
{
    if (field->is_map) {
        return map_template(sample, field);
    }
    json_t *value = value_template(sample, field);
    if (!field->is_repeated || value == NULL) {
        return value;
    }
    json_t *list = json_array();
    if (list == NULL || json_array_append(list, value) != 0) {
        json_decref(list);
        list = NULL;
    }
    json_decref(value);
    return list;
}

static bool is_first_of_oneof(const struct sl_schema_message *message, size_t index)
{
    for (size_t i = 0; message->fields[index].oneof >= 0 && i < index; i++) {
        if (message->fields[i].oneof == message->fields[index].oneof) {
            return false;
        }
    }
    return true;
}

/* A message inside itself: it would not end. */
static bool is_recursive(const struct sample *sample, const struct sl_schema_message *message)
{
    bool is_open = false;
    for (size_t i = 0; i < sample->n_open; i++) {
        is_open = is_open || sample->open[i] == message;
    }
    return is_open;
}

static const struct sl_schema_message *element_of(const struct sl_schema_field *field)
{
    return field->is_map ? field->message->fields[1].message : field->message;
}

static bool
add_members(struct sample *sample, const struct sl_schema_message *message, json_t *object)
{
    for (size_t i = 0; i < message->n_fields; i++) {
        const struct sl_schema_field *field = &message->fields[i];
        if (!is_first_of_oneof(message, i) || sample->n_members >= MAX_MEMBERS ||
            is_recursive(sample, element_of(field))) {
            continue;
        }
        sample->n_members++;
        if (json_object_set_new(object, field->json_name, field_template(sample, field)) != 0) {
            return false;
        }
    }
    return true;
}

static json_t *template_of(struct sample *sample, const struct sl_schema_message *message)
{
    if (message->known != SL_KNOWN_NOT) {
        return known_template(message);
    }
    json_t *object = json_object();
    if (object == NULL || sample->n_open == MAX_LEVELS) {
        return object;
    }
    sample->open[sample->n_open++] = message;
    const bool is_done = add_members(sample, message, object);
    sample->n_open--;
    if (!is_done) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *sl_schema_template(const struct sl_schema_message *message)
{
    struct sample sample = { 0 };
    return template_of(&sample, message);
}
