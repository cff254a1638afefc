/* Finds the types of fields, and prepares messages for looking fields up. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "service/schema/schema_impl.h"

enum { MAX_NAME_BYTES = 1200 };

unsigned sl_schema_wire_of(enum sl_schema_type type)
{
    switch (type) {
    case SL_TYPE_DOUBLE:
    case SL_TYPE_FIXED64:
    case SL_TYPE_SFIXED64:
        return 1;
    case SL_TYPE_STRING:
    case SL_TYPE_BYTES:
    case SL_TYPE_MESSAGE:
        return 2;
    case SL_TYPE_GROUP:
        return 3;
    case SL_TYPE_FLOAT:
    case SL_TYPE_FIXED32:
    case SL_TYPE_SFIXED32:
        return 5;
    case SL_TYPE_INT64:
    case SL_TYPE_UINT64:
    case SL_TYPE_INT32:
    case SL_TYPE_BOOL:
    case SL_TYPE_UINT32:
    case SL_TYPE_ENUM:
    case SL_TYPE_SINT32:
    case SL_TYPE_SINT64:
        break;
    }
    return 0;
}

/* ---- Looking up -------------------------------------------------------------------------------
 */

const struct sl_schema_symbol *
sl_schema_lookup(const struct sl_schema *schema, const char *type_name, const char *scope)
{
    if (type_name[0] == '.') {
        return sl_pool_find_symbol(schema, sl_slice_str(type_name + 1));
    }
    char room[MAX_NAME_BYTES];
    size_t n_scope = strlen(scope);
    const struct sl_schema_symbol *symbol = NULL;
    while (symbol == NULL && n_scope > 0) { /* from the innermost scope outwards */
        const int n = snprintf(room, sizeof(room), "%.*s.%s", (int)n_scope, scope, type_name);
        if (n < 0 || (size_t)n >= sizeof(room)) {
            return NULL;
        }
        symbol = sl_pool_find_symbol(schema, sl_slice_of(room, (size_t)n));
        do {
            n_scope--;
        } while (n_scope > 0 && scope[n_scope] != '.');
    }
    return symbol != NULL ? symbol : sl_pool_find_symbol(schema, sl_slice_str(type_name));
}

static int by_number(const void *left, const void *right)
{
    const struct sl_schema_field *a = left;
    const struct sl_schema_field *b = right;
    return (a->number > b->number) - (a->number < b->number);
}

static int by_name(const void *left, const void *right)
{
    const struct sl_schema_name *a = left;
    const struct sl_schema_name *b = right;
    return strcmp(a->name, b->name);
}

/* Of two equal names, the one that the .proto has comes first. */
static int by_name_and_origin(const void *left, const void *right)
{
    const struct sl_schema_name *a = left;
    const struct sl_schema_name *b = right;
    const int order = by_name(a, b);
    return order != 0 ? order : (int)a->is_json - (int)b->is_json;
}

const struct sl_schema_field *
sl_schema_field_by_number(const struct sl_schema_message *message, uint32_t number)
{
    const struct sl_schema_field key = { .number = number };
    return bsearch(&key, message->fields, message->n_fields, sizeof(key), by_number);
}

const struct sl_schema_field *
sl_schema_field_by_name(const struct sl_schema_message *message, const char *name)
{
    const struct sl_schema_name key = { .name = name };
    const struct sl_schema_name *found =
        bsearch(&key, message->names, message->n_names, sizeof(key), by_name);
    return found == NULL ? NULL : &message->fields[found->field];
}

/* ---- One message ------------------------------------------------------------------------------
 */

/* Makes the fields that other files add to this message its own. */
static enum sl_status
add_extensions(struct sl_schema *schema, struct sl_schema_message *message, struct sl_error *err)
{
    size_t n = 0;
    const struct sl_schema_extension *at = schema->extensions;
    for (; at != NULL; at = at->next) {
        const struct sl_schema_symbol *symbol = sl_schema_lookup(schema, at->extendee, at->scope);
        n += symbol != NULL && symbol->message == message;
    }
    if (n == 0 || message->has_extensions) {
        return SL_OK;
    }
    struct sl_schema_field *fields =
        sl_arena_calloc(&schema->arena, message->n_fields + n, sizeof(*fields));
    if (fields == NULL || message->n_fields + n > SL_SCHEMA_MAX_FIELDS) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "%.100s: too many extensions", message->name);
    }
    memcpy(fields, message->fields, message->n_fields * sizeof(*fields));
    for (at = schema->extensions; at != NULL; at = at->next) {
        const struct sl_schema_symbol *symbol = sl_schema_lookup(schema, at->extendee, at->scope);
        if (symbol != NULL && symbol->message == message) {
            fields[message->n_fields++] = at->field;
        }
    }
    message->fields = fields;
    message->has_extensions = true;
    return SL_OK;
}

static enum sl_status
index_fields(struct sl_schema *schema, struct sl_schema_message *message, struct sl_error *err)
{
    struct sl_schema_field *fields = message->fields;
    qsort(fields, message->n_fields, sizeof(*fields), by_number);
    struct sl_schema_name *names =
        sl_arena_calloc(&schema->arena, 2 * message->n_fields + 1, sizeof(*names));
    if (names == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "%.100s: out of memory", message->name);
    }
    size_t n = 0;
    for (size_t i = 0; i < message->n_fields; i++) {
        if (i > 0 && fields[i].number == fields[i - 1].number) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT, "%.100s: two fields have the number %u", message->name,
                fields[i].number);
        }
        names[n++] = (struct sl_schema_name){ fields[i].name, i, false };
        if (strcmp(fields[i].name, fields[i].json_name) != 0) {
            names[n++] = (struct sl_schema_name){ fields[i].json_name, i, true };
        }
    }
    qsort(names, n, sizeof(*names), by_name_and_origin);
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) {
        const bool is_again = i > 0 && strcmp(names[i].name, names[i - 1].name) == 0;
        if (is_again && !names[i].is_json) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT, "%.100s: two fields have the name %.60s", message->name,
                names[i].name);
        }
        if (!is_again) { /* proto2 lets names collide that differ in the .proto */
            names[n_kept++] = names[i];
        }
    }
    message->names = names;
    message->n_names = n_kept;
    return SL_OK;
}

static bool is_key(enum sl_schema_type type)
{
    return type != SL_TYPE_DOUBLE && type != SL_TYPE_FLOAT && type != SL_TYPE_BYTES &&
           type != SL_TYPE_MESSAGE && type != SL_TYPE_GROUP && type != SL_TYPE_ENUM;
}

/* A map's entry has a key and a value, and nothing else. */
static bool is_map_entry(const struct sl_schema_message *entry)
{
    const struct sl_schema_field *fields = entry->fields;
    return entry->is_map_entry && entry->n_fields == 2 && fields[0].number == 1 &&
           fields[1].number == 2 && is_key(fields[0].type) && !fields[0].is_repeated &&
           !fields[1].is_repeated;
}

static enum sl_status resolve_field(
    struct sl_schema *schema,
    const struct sl_schema_message *message,
    struct sl_schema_field *field,
    struct sl_error *err)
{
    const struct sl_schema_symbol *symbol =
        sl_schema_lookup(schema, field->type_name, field->scope);
    const bool is_enum = field->type == SL_TYPE_ENUM;
    if (symbol == NULL || (symbol->message == NULL) != is_enum) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION, "%.80s.%.40s: its type %.80s is in none of the files",
            message->name, field->name, field->type_name);
    }
    field->message = symbol->message;
    field->enumeration = symbol->enumeration;
    return SL_OK;
}

/* ---- All that a message is made of ------------------------------------------------------------
 */

static void queue(struct sl_schema_message *message, struct sl_schema_message ***last)
{
    if (!message->is_linked && !message->is_queued) {
        message->is_queued = true;
        message->next_queued = NULL;
        **last = message;
        *last = &message->next_queued;
    }
}

static enum sl_status link_one(
    struct sl_schema *schema,
    struct sl_schema_message *message,
    struct sl_schema_message ***last,
    struct sl_error *err)
{
    SL_TRY(add_extensions(schema, message, err));
    SL_TRY(index_fields(schema, message, err));
    enum sl_status status = SL_OK;
    for (size_t i = 0; status == SL_OK && i < message->n_fields; i++) {
        struct sl_schema_field *field = &message->fields[i];
        if (field->type_name != NULL) {
            status = resolve_field(schema, message, field, err);
        }
        if (field->message != NULL) {
            queue(sl_unconst(field->message), last);
        }
    }
    return status;
}

/* Only when all are indexed: whether a field is a map shows in its entry. */
static void mark_maps(struct sl_schema_message *message)
{
    for (size_t i = 0; i < message->n_fields; i++) {
        struct sl_schema_field *field = &message->fields[i];
        field->is_map =
            field->is_repeated && field->type == SL_TYPE_MESSAGE && is_map_entry(field->message);
    }
}

enum sl_status
sl_schema_link(struct sl_schema *schema, struct sl_schema_message *message, struct sl_error *err)
{
    struct sl_schema_message *first = NULL;
    struct sl_schema_message **last = &first;
    enum sl_status status = SL_OK;
    queue(message, &last);
    for (struct sl_schema_message *at = first; status == SL_OK && at != NULL;
         at = at->next_queued) {
        status = link_one(schema, at, &last, err);
    }
    for (struct sl_schema_message *at = first; at != NULL; at = at->next_queued) {
        at->is_queued = false;
        at->is_linked = status == SL_OK;
        if (status == SL_OK) {
            mark_maps(at);
        }
    }
    return status;
}
