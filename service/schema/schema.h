/* Messages of any .proto by their descriptors, without generated code: JSON to wire bytes and back.
 *
 *   FileDescriptorProto ─add─▶ pool of names ─find_method─▶ message types ─encode─▶ wire bytes
 *                                                                         ◀─decode─
 *
 * The JSON is canonical protojson (https://protobuf.dev/programming-guides/json): lowerCamelCase
 * names (the proto's names are accepted too), 64-bit integers as strings, bytes as base64, enum
 * values by name, and the special forms of google.protobuf's well-known types. An Any whose type is
 * not in the pool is {"@type": …, "@value": base64 of its bytes}. Extensions are "[pkg.name]".
 *
 * Descriptors, JSON and bytes may come from anybody: 256 MiB of descriptors, 100 levels of a
 * message. Types are looked up when a method or an Any needs them, so the order of files does not
 * matter. Thread: one at a time per schema. */
#ifndef SL_SERVICE_SCHEMA_SCHEMA_H
#define SL_SERVICE_SCHEMA_SCHEMA_H

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/rpc/methods.h"

struct sl_schema;         /* a pool of FileDescriptorProtos */
struct sl_schema_message; /* one message type; lives as long as its schema */

/* Lives as long as its schema. */
struct sl_schema_method {
    struct sl_method_desc desc; /* request_type and response_type are NULL: bytes */
    const struct sl_schema_message *request, *response;
};

/* Owns: sl_schema_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_schema_new(struct sl_schema **ret_schema);
/* Accepts NULL; gives NULL. */
struct sl_schema *sl_schema_free(struct sl_schema *schema);

/* One FileDescriptorProto, copied; a file of a name that is there already is ignored. Fails:
 * SL_INVALID_ARGUMENT it does not parse, or says something that no .proto can say;
 * SL_RESOURCE_EXHAUSTED. After a failure the schema is good for nothing but _free. */
SL_CHECK enum sl_status
sl_schema_add_file(struct sl_schema *schema, struct sl_slice bytes, struct sl_error *err);
/* A FileDescriptorSet (protoc --descriptor_set_out --include_imports, buf build -o). Fails: as
 * above. */
SL_CHECK enum sl_status
sl_schema_add_set(struct sl_schema *schema, struct sl_slice bytes, struct sl_error *err);
bool sl_schema_has_file(const struct sl_schema *schema, const char *file_name);
/* The files that the files import, in the order of adding, without repetition; whether they are
 * there tells sl_schema_has_file(). Index from 0; NULL: no more. */
const char *sl_schema_import_at(const struct sl_schema *schema, size_t index);

/* "pkg.Svc/M", "/pkg.Svc/M" or "pkg.Svc.M". Fails: SL_NOT_FOUND, saying what is there instead (the
 * methods of the service, or the services); SL_FAILED_PRECONDITION a type that the method needs is
 * in none of the files; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_schema_find_method(
    struct sl_schema *schema,
    const char *name,
    const struct sl_schema_method **ret_method,
    struct sl_error *err);
/* A message by its full name, without a first dot. Fails: as sl_schema_find_method(). */
SL_CHECK enum sl_status sl_schema_find_message(
    struct sl_schema *schema,
    struct sl_slice name,
    const struct sl_schema_message **ret_message,
    struct sl_error *err);

/* JSON to wire bytes, appended to `out`; what is appended after a failure is of no use. Fields are
 * written in the order of their numbers. Fails: SL_INVALID_ARGUMENT, naming the member's path;
 * SL_RESOURCE_EXHAUSTED no memory, or `out` is full. */
SL_CHECK enum sl_status sl_schema_encode(
    const struct sl_schema_message *message,
    json_t *json,
    struct sl_buf *out,
    struct sl_error *err);
/* Wire bytes to JSON. Gives: json_decref(). Fails: SL_INTERNAL malformed (with the offset), too
 * deep, or a value that JSON cannot say; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_schema_decode(
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json,
    struct sl_error *err);
/* The same, with the defaults of fields that are not there and cannot be told from their default:
 * 0, "", false, [], {}. */
SL_CHECK enum sl_status sl_schema_decode_all(
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json,
    struct sl_error *err);

/* A message with a value in every field, for a person to fill in: the first member of each oneof,
 * one element of each list and map, no message inside itself, at most 6 levels and 1,000 members.
 * Gives: json_decref(). NULL: no memory. */
SL_CHECK json_t *sl_schema_template(const struct sl_schema_message *message);
/* "pkg.Message" */
const char *sl_schema_message_name(const struct sl_schema_message *message);

/* JSON text, appended to `out`: in one line, or indented by two spaces. Numbers have as few digits
 * as give the same number again. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_schema_print(const json_t *json, bool is_indented, struct sl_buf *out);

/* ---- What there is: for listings. Everything lives as long as the schema. ---------------------
 */

/* In the order of adding. Index from 0; NULL: no more. */
const char *sl_schema_service_at(const struct sl_schema *schema, size_t index);
/* Methods of a service, in the file's order; types are names, without a first dot. */
struct sl_schema_method_name {
    const char *name, *request, *response;
    enum sl_method_kind kind;
};
SL_CHECK bool sl_schema_method_at(
    const struct sl_schema *schema,
    const char *service,
    size_t index,
    struct sl_schema_method_name *ret_name);

#endif
