#include "service/std/descriptors.h"

#include <string.h>

#include "runtime/base/mem.h"

/* ---- Wire format ----------------------------------------------------------------------------- */

struct field {
    uint32_t number;
    uint64_t value;          /* varint */
    struct sl_slice content; /* length-delimited; empty otherwise */
};

static bool take_varint(struct sl_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned int shift = 0; shift < 64 && rest->size > 0; shift += 7) {
        const uint8_t byte = *rest->data;
        *rest = sl_slice_of(rest->data + 1, rest->size - 1);
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool take_bytes(struct sl_slice *rest, uint64_t size, struct sl_slice *ret_bytes)
{
    if (size > rest->size) {
        return false;
    }
    *ret_bytes = sl_slice_of(rest->data, (size_t)size);
    *rest = sl_slice_of(rest->data + size, rest->size - (size_t)size);
    return true;
}

/* False: the end. Tables come from protoc, so broken ones just end early. */
static bool next_field(struct sl_slice *rest, struct field *ret_field)
{
    enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };
    uint64_t tag = 0;
    uint64_t size = 0;
    struct sl_slice skipped;
    if (!take_varint(rest, &tag)) {
        return false;
    }
    *ret_field = (struct field){ .number = (uint32_t)(tag >> 3) };
    switch (tag & 7) {
    case VARINT:
        return take_varint(rest, &ret_field->value);
    case FIXED64:
        return take_bytes(rest, 8, &skipped);
    case LENGTH:
        return take_varint(rest, &size) && take_bytes(rest, size, &ret_field->content);
    case FIXED32:
        return take_bytes(rest, 4, &skipped);
    default:
        return false;
    }
}

/* The content of the first field with this number; empty: none. */
static struct sl_slice content_of(struct sl_slice message, uint32_t number)
{
    struct field field;
    while (next_field(&message, &field)) {
        if (field.number == number) {
            return field.content;
        }
    }
    return sl_slice_of(NULL, 0);
}

/* ---- Symbols --------------------------------------------------------------------------------- */

/* What descriptor.proto has in what: kinds of descriptors, and in which field of which other kind
 * they lie. Names are in field 1 of each, but for the package of a file. */
enum kind { NOTHING, FILE_KIND, MESSAGE, ENUM, SERVICE, LEAF };
enum { NAME = 1, FILE_PACKAGE = 2, FIELD_EXTENDEE = 2, FIELD_NUMBER = 3, ENUM_VALUE = 2 };
enum { FILE_EXTENSION = 7, FILE_MESSAGE = 4, MESSAGE_NESTED = 3, MESSAGE_EXTENSION = 6 };

static enum kind kind_in(enum kind scope, uint32_t number)
{
    static const struct {
        enum kind scope;
        uint32_t number;
        enum kind kind;
    } places[] = {
        { FILE_KIND, FILE_MESSAGE, MESSAGE },
        { FILE_KIND, 5, ENUM },
        { FILE_KIND, 6, SERVICE },
        { FILE_KIND, FILE_EXTENSION, LEAF },
        { MESSAGE, 2, LEAF },
        { MESSAGE, MESSAGE_NESTED, MESSAGE },
        { MESSAGE, 4, ENUM },
        { MESSAGE, MESSAGE_EXTENSION, LEAF },
        { MESSAGE, 8, LEAF },
        { SERVICE, 2, LEAF },
    };
    for (size_t i = 0; i < SL_COUNT(places); i++) {
        if (places[i].scope == scope && places[i].number == number) {
            return places[i].kind;
        }
    }
    return NOTHING;
}

/* Cuts "name." off the front of `path`, or all of it when it is "name". */
static bool cut_name(struct sl_slice *path, struct sl_slice name)
{
    if (name.size == 0 || path->size < name.size || memcmp(path->data, name.data, name.size) != 0) {
        return false;
    }
    if (path->size == name.size) {
        *path = sl_slice_of(NULL, 0);
        return true;
    }
    if (path->data[name.size] != '.') {
        return false;
    }
    *path = sl_slice_of(path->data + name.size + 1, path->size - name.size - 1);
    return path->size > 0;
}

/* The values of an enum are named as if they stood beside it. */
static bool has_value(struct sl_slice enum_bytes, struct sl_slice name)
{
    struct field field;
    while (next_field(&enum_bytes, &field)) {
        if (field.number == ENUM_VALUE && sl_slice_equal(content_of(field.content, NAME), name)) {
            return true;
        }
    }
    return false;
}

/* One step down: finds what `path` begins with in `scope`, and makes it the scope. */
static enum kind descend(enum kind kind, struct sl_slice *scope, struct sl_slice *path)
{
    struct sl_slice rest = *scope;
    struct field field;
    while (next_field(&rest, &field)) {
        const enum kind found = kind_in(kind, field.number);
        if (found == NOTHING) {
            continue;
        }
        if (cut_name(path, content_of(field.content, NAME))) {
            *scope = field.content;
            return found;
        }
        if (found == ENUM && has_value(field.content, *path)) {
            *path = sl_slice_of(NULL, 0);
            return LEAF;
        }
    }
    return NOTHING;
}

/* What `symbol` is in this file. */
static enum kind find_in_file(const struct sl_file_desc *file, const char *symbol)
{
    struct sl_slice path = sl_slice_str(symbol);
    const struct sl_slice package = content_of(file->bytes, FILE_PACKAGE);
    if (package.size > 0 && !cut_name(&path, package)) {
        return NOTHING;
    }
    if (path.size == 0) {
        return NOTHING;
    }
    struct sl_slice scope = file->bytes;
    enum kind kind = FILE_KIND;
    while (path.size > 0 && kind != NOTHING) {
        kind = descend(kind, &scope, &path);
    }
    return kind;
}

/* ---- Extensions ------------------------------------------------------------------------------ */

struct extension_search {
    const char *type;
    sl_descriptors_number_fn *on_number;
    void *user_data;
};

static void look_at_extension(const struct extension_search *search, struct sl_slice extension)
{
    struct sl_slice extendee = sl_slice_of(NULL, 0);
    int32_t number = 0;
    struct field field;
    while (next_field(&extension, &field)) {
        if (field.number == FIELD_EXTENDEE) {
            extendee = field.content;
        } else if (field.number == FIELD_NUMBER) {
            number = (int32_t)field.value;
        }
    }
    if (extendee.size > 1 && extendee.data[0] == '.' &&
        sl_slice_equals(sl_slice_of(extendee.data + 1, extendee.size - 1), search->type)) {
        search->on_number(number, search->user_data);
    }
}

/* As deep as messages are nested in our own tables. */
static void search_message(
    const struct extension_search *search, struct sl_slice message) // NOLINT(misc-no-recursion)
{
    struct field field;
    while (next_field(&message, &field)) {
        if (field.number == MESSAGE_EXTENSION) {
            look_at_extension(search, field.content);
        } else if (field.number == MESSAGE_NESTED) {
            search_message(search, field.content);
        }
    }
}

static void search_file(const struct extension_search *search, const struct sl_file_desc *file)
{
    struct sl_slice rest = file->bytes;
    struct field field;
    while (next_field(&rest, &field)) {
        if (field.number == FILE_EXTENSION) {
            look_at_extension(search, field.content);
        } else if (field.number == FILE_MESSAGE) {
            search_message(search, field.content);
        }
    }
}

/* ---- Files ----------------------------------------------------------------------------------- */

static enum sl_status add_file(struct sl_descriptors *descriptors, const struct sl_file_desc *file)
{
    if (file == NULL || sl_descriptors_find_file(descriptors, file) < descriptors->n_files) {
        return SL_OK;
    }
    if (descriptors->n_files == descriptors->capacity) {
        const size_t capacity = descriptors->capacity == 0 ? 16 : 2 * descriptors->capacity;
        const struct sl_file_desc **files =
            sl_realloc(descriptors->files, capacity * sizeof(void *));
        if (files == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        descriptors->files = files;
        descriptors->capacity = capacity;
    }
    descriptors->files[descriptors->n_files++] = file;
    return SL_OK;
}

static enum sl_status
add_imports(struct sl_descriptors *descriptors, const struct sl_file_desc *file)
{
    for (size_t i = 0; i < file->n_imports; i++) {
        SL_TRY(add_file(descriptors, file->imports[i]));
    }
    return SL_OK;
}

enum sl_status
sl_descriptors_init(struct sl_descriptors *descriptors, const struct sl_server *server)
{
    *descriptors = (struct sl_descriptors){ 0 };
    for (size_t i = 0; i < sl_server_n_services(server); i++) {
        SL_TRY(add_file(descriptors, sl_server_service_at(server, i)->file));
    }
    for (size_t i = 0; i < descriptors->n_files; i++) { /* grows */
        SL_TRY(add_imports(descriptors, descriptors->files[i]));
    }
    return SL_OK;
}

void sl_descriptors_done(struct sl_descriptors *descriptors)
{
    (void)sl_free((void *)descriptors->files);
    *descriptors = (struct sl_descriptors){ 0 };
}

size_t sl_descriptors_find_name(const struct sl_descriptors *descriptors, const char *file_name)
{
    size_t i = 0;
    while (i < descriptors->n_files && strcmp(descriptors->files[i]->name, file_name) != 0) {
        i++;
    }
    return i;
}

size_t
sl_descriptors_find_file(const struct sl_descriptors *descriptors, const struct sl_file_desc *file)
{
    return sl_descriptors_find_name(descriptors, file->name);
}

size_t sl_descriptors_find_symbol(const struct sl_descriptors *descriptors, const char *symbol)
{
    size_t i = 0;
    while (i < descriptors->n_files && find_in_file(descriptors->files[i], symbol) == NOTHING) {
        i++;
    }
    return i;
}

bool sl_descriptors_has_message(const struct sl_descriptors *descriptors, const char *name)
{
    for (size_t i = 0; i < descriptors->n_files; i++) {
        if (find_in_file(descriptors->files[i], name) == MESSAGE) {
            return true;
        }
    }
    return false;
}

struct number_search {
    int32_t number;
    bool is_found;
};

static void compare_number(int32_t number, void *user_data)
{
    struct number_search *search = (struct number_search *)user_data;
    search->is_found = search->is_found || search->number == number;
}

size_t sl_descriptors_find_extension(
    const struct sl_descriptors *descriptors, const char *type, int32_t number)
{
    struct number_search wanted = { .number = number };
    const struct extension_search search = { .type = type,
                                             .on_number = compare_number,
                                             .user_data = &wanted };
    size_t i = 0;
    for (; i < descriptors->n_files; i++) {
        search_file(&search, descriptors->files[i]);
        if (wanted.is_found) {
            break;
        }
    }
    return i;
}

void sl_descriptors_each_extension(
    const struct sl_descriptors *descriptors,
    const char *type,
    sl_descriptors_number_fn *on_number,
    void *user_data)
{
    const struct extension_search search = { .type = type,
                                             .on_number = on_number,
                                             .user_data = user_data };
    for (size_t i = 0; i < descriptors->n_files; i++) {
        search_file(&search, descriptors->files[i]);
    }
}
