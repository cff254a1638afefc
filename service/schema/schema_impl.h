/* What the files of this room share: the pool, and what it makes of descriptors. */
#ifndef SL_SERVICE_SCHEMA_SCHEMA_IMPL_H
#define SL_SERVICE_SCHEMA_SCHEMA_IMPL_H

#include <google/protobuf/descriptor.pb-c.h>

#include "runtime/base/arena.h"
#include "runtime/base/map.h"
#include "service/schema/schema.h"

enum {
    SL_SCHEMA_MAX_BYTES = 256 * 1024 * 1024,
    SL_SCHEMA_DEPTH = 100,
    SL_SCHEMA_MAX_FIELD = (1 << 29) - 1,
    SL_SCHEMA_MAX_FIELDS = 65536 /* of one message */
};

/* The numbers of FieldDescriptorProto.Type. */
enum sl_schema_type {
    SL_TYPE_DOUBLE = 1,
    SL_TYPE_FLOAT = 2,
    SL_TYPE_INT64 = 3,
    SL_TYPE_UINT64 = 4,
    SL_TYPE_INT32 = 5,
    SL_TYPE_FIXED64 = 6,
    SL_TYPE_FIXED32 = 7,
    SL_TYPE_BOOL = 8,
    SL_TYPE_STRING = 9,
    SL_TYPE_GROUP = 10,
    SL_TYPE_MESSAGE = 11,
    SL_TYPE_BYTES = 12,
    SL_TYPE_UINT32 = 13,
    SL_TYPE_ENUM = 14,
    SL_TYPE_SFIXED32 = 15,
    SL_TYPE_SFIXED64 = 16,
    SL_TYPE_SINT32 = 17,
    SL_TYPE_SINT64 = 18
};

/* Messages with a form of their own in JSON. */
enum sl_schema_known {
    SL_KNOWN_NOT,
    SL_KNOWN_ANY,
    SL_KNOWN_TIMESTAMP,
    SL_KNOWN_DURATION,
    SL_KNOWN_FIELD_MASK,
    SL_KNOWN_STRUCT,
    SL_KNOWN_VALUE,
    SL_KNOWN_LIST,
    SL_KNOWN_WRAPPER
};

struct sl_schema_enum_value {
    const char *name;
    int32_t number;
};

struct sl_schema_enum {
    const char *name;
    const struct sl_schema_enum_value *values; /* in the file's order, at least one */
    size_t n_values;
    bool is_closed; /* proto2: other numbers are unknown fields */
    bool is_null;   /* google.protobuf.NullValue */
};

struct sl_schema_field {
    const char *name, *json_name; /* of an extension both are "[pkg.name]" */
    const char *type_name;        /* of messages, groups and enums; NULL: others */
    const char *scope;            /* where a type_name without a first dot is looked up */
    uint32_t number;
    enum sl_schema_type type;
    int oneof; /* its index; -1: none, or that of a proto3 `optional` */
    bool is_repeated, is_required, is_packed;
    bool is_map;
    bool has_presence;                       /* its default is written, too */
    bool is_utf8;                            /* a string of proto3 */
    const struct sl_schema_message *message; /* after linking */
    const struct sl_schema_enum *enumeration;
};

struct sl_schema_name {
    const char *name;
    size_t field;
    bool is_json; /* lowerCamelCase, not the name in the .proto */
};

struct sl_schema_message {
    struct sl_schema *schema;
    const char *name;
    enum sl_schema_known known;
    enum sl_schema_type wrapped; /* of SL_KNOWN_WRAPPER: the type of `value` */
    bool is_map_entry, has_extensions, is_linked, is_queued;
    const char *const *oneofs;
    size_t n_oneofs;
    struct sl_schema_field *fields; /* after linking: sorted by number */
    size_t n_fields;
    struct sl_schema_name *names; /* after linking: both names of each field, sorted */
    size_t n_names;
    struct sl_schema_message *next_queued;
};

struct sl_schema_service {
    const char *name;
    struct sl_schema_method *methods;   /* messages are NULL until they were asked for */
    const char **requests, **responses; /* type names as they were written */
    size_t n_methods;
    struct sl_schema_service *next;
};

/* A name: of a file that is there, or of one that is imported. */
struct sl_schema_file {
    const char *name;
    UT_hash_handle hh;
};

struct sl_schema_extension {
    const char *extendee, *scope;
    struct sl_schema_field field;
    struct sl_schema_extension *next;
};

/* A message or an enum by its full name; exactly one of the two is set. */
struct sl_schema_symbol {
    const char *name;
    struct sl_schema_message *message;
    struct sl_schema_enum *enumeration;
    UT_hash_handle hh;
};

struct sl_schema {
    struct sl_arena arena;
    struct sl_schema_file *files;     /* by name */
    struct sl_schema_file *imports;   /* by name, in the order of adding */
    struct sl_schema_symbol *symbols; /* by name */
    struct sl_schema_service *services, **last_service;
    struct sl_schema_extension *extensions;
};

/* pool.c: the maps. NULL: not there; false: no memory. */
struct sl_schema_symbol *sl_pool_find_symbol(const struct sl_schema *schema, struct sl_slice name);
SL_CHECK bool sl_pool_add_symbol(struct sl_schema *schema, struct sl_schema_symbol *symbol);
struct sl_schema_file *sl_pool_find_file(struct sl_schema_file *files, const char *name);
SL_CHECK bool sl_pool_add_file(struct sl_schema_file **files, struct sl_schema_file *file);
void sl_pool_clear(struct sl_schema *schema);

/* build.c: takes what one file says into the pool. */
SL_CHECK enum sl_status sl_schema_build_file(
    struct sl_schema *schema,
    const Google__Protobuf__FileDescriptorProto *file,
    struct sl_error *err);

/* link.c: finds the types that `message`, and what it is made of, needs. */
SL_CHECK enum sl_status
sl_schema_link(struct sl_schema *schema, struct sl_schema_message *message, struct sl_error *err);
/* Looks `type_name` up as protoc would write it in `scope`. NULL: not there. */
const struct sl_schema_symbol *
sl_schema_lookup(const struct sl_schema *schema, const char *type_name, const char *scope);

/* NULL: none. */
const struct sl_schema_field *
sl_schema_field_by_number(const struct sl_schema_message *message, uint32_t number);
const struct sl_schema_field *
sl_schema_field_by_name(const struct sl_schema_message *message, const char *name);

/* The wire type of one value. */
unsigned sl_schema_wire_of(enum sl_schema_type type);

#endif
