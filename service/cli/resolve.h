/* Where a command that takes any method has its types from: a FileDescriptorSet, or the server's
 * reflection (grpc.reflection.v1, then v1alpha), of which it reads only the files that the method
 * needs. */
#ifndef SL_SERVICE_CLI_RESOLVE_H
#define SL_SERVICE_CLI_RESOLVE_H

#include "service/cli/cli.h"
#include "service/schema/schema.h"

struct sl_cli_source {
    struct sl_cli *cli;   /* open; its loop is run until the answer is there. NULL: no server */
    const char *protoset; /* a file; NULL: reflection */
    const struct sl_metadatum *metadata; /* of the reflection's call, too */
    size_t n_metadata;
};

/* The whole file that --protoset names. Fails: SL_NOT_FOUND, SL_INVALID_ARGUMENT, named in `err`.
 */
SL_CHECK enum sl_status
sl_cli_read_protoset(const char *path, struct sl_schema *schema, struct sl_error *err);

/* "pkg.Svc/M" and so on, with everything that its messages are made of. Fails: as
 * sl_schema_find_method(); SL_CANCELLED by a signal; the reflection call's status, with who found
 * the fault: sl_cli_report_error() makes the exit code of it. */
SL_CHECK enum sl_status sl_cli_find_method(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    const char *name,
    const struct sl_schema_method **ret_method,
    struct sl_error *err);

/* The files that define `symbol` (a service, a message), and what they import. */
SL_CHECK enum sl_status sl_cli_load_symbol(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    struct sl_slice symbol,
    struct sl_error *err);

/* The names of all services, each terminated by a line feed. */
SL_CHECK enum sl_status sl_cli_list_services(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    struct sl_buf *names,
    struct sl_error *err);

/* "key: value" of --header; the values of "-bin" keys are base64. At most 64, in `arena`. Fails:
 * SL_INVALID_ARGUMENT after a line on stderr; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_cli_read_headers(
    const struct sl_cli_list *list, struct sl_arena *arena, struct sl_metadata *ret_metadata);

/* A file, or with "-" stdin, at most `buf`'s maximum. Fails: SL_NOT_FOUND; SL_RESOURCE_EXHAUSTED.
 */
SL_CHECK enum sl_status
sl_cli_read_file(const char *path, struct sl_buf *buf, struct sl_error *err);

#endif
