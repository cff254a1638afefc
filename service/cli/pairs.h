/* NAME=VALUE words of the command line: metadata of a run, and credentials, whose values are never
 * there themselves. */
#ifndef SL_SERVICE_CLI_PAIRS_H
#define SL_SERVICE_CLI_PAIRS_H

#include "runtime/base/arena.h"
#include "service/cli/cli.h"

struct sl_cli_pair {
    const char *name;
    char *value;
};

/* All zero is an empty list. */
struct sl_cli_pairs {
    struct sl_arena arena;
    struct sl_cli_pair *items;
    size_t n_items;
};

/* "KEY=VALUE" each. Fails: SL_INVALID_ARGUMENT after a line on stderr. */
SL_CHECK enum sl_status sl_cli_read_pairs(
    const struct sl_cli_list *words, const char *flag, struct sl_cli_pairs *ret_pairs);
/* "NAME=env:VARIABLE" or "NAME=file:PATH" each; the value is what stands there, without the line
 * end behind it. Fails: SL_INVALID_ARGUMENT after a line on stderr, which never shows a value. */
SL_CHECK enum sl_status sl_cli_read_secrets(
    const struct sl_cli_list *words, const char *flag, struct sl_cli_pairs *ret_pairs);
/* Overwrites the values, then frees them. */
void sl_cli_pairs_done(struct sl_cli_pairs *pairs);

#endif
