/* --fail-if 'p99_first_ms>20': a figure of the report, and what it must not be. */
#ifndef SL_SERVICE_CLI_BENCH_GATE_H
#define SL_SERVICE_CLI_BENCH_GATE_H

#include <stdbool.h>

#include "runtime/base/status.h"

enum { SL_BENCH_NAME_BYTES = 32 };

enum sl_bench_operator {
    SL_BENCH_ABOVE,
    SL_BENCH_AT_LEAST,
    SL_BENCH_BELOW,
    SL_BENCH_AT_MOST,
    SL_BENCH_EQUAL,
    SL_BENCH_UNEQUAL
};

struct sl_bench_gate {
    const char *text; /* as it was given; borrowed */
    char name[SL_BENCH_NAME_BYTES];
    enum sl_bench_operator how;
    double value;
};

/* NAME OPERATOR NUMBER, blanks between them are allowed; the operators are > >= < <= == !=.
 * `has_name` says which names there are. Fails: SL_INVALID_ARGUMENT; the text names the place. */
SL_CHECK enum sl_status sl_bench_gate_parse(
    const char *text,
    bool (*has_name)(const char *name),
    struct sl_bench_gate *ret_gate,
    struct sl_error *err);
/* Whether a figure of this value fails. */
bool sl_bench_gate_fails(const struct sl_bench_gate *gate, double value);

#endif
