/* What a server has: `sluice call`, `sluice call pkg.Svc`, `--describe`. */
#ifndef SL_SERVICE_CLI_CALL_LIST_H
#define SL_SERVICE_CLI_CALL_LIST_H

#include "service/cli/resolve.h"

/* Prints the services (`name` NULL), the methods of a service, or with `is_described` a method's
 * request to fill in. `*ret_is_method`: `name` is a method ("pkg.Svc.M") and nothing was printed.
 * Gives the exit code. */
int sl_call_list(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    const char *name,
    bool is_described,
    bool *ret_is_method,
    bool is_json);

#endif
