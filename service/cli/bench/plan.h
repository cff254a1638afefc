/* What `sluice bench` is to do: its flags, checked, and the call that it makes over and over. */
#ifndef SL_SERVICE_CLI_BENCH_PLAN_H
#define SL_SERVICE_CLI_BENCH_PLAN_H

#include "runtime/base/arena.h"
#include "service/cli/bench/gate.h"
#include "service/cli/cli.h"

enum {
    SL_BENCH_STREAMS_MAX = 200000,
    SL_BENCH_CONNECTIONS_MAX = 10000,
    SL_BENCH_THREADS_MAX = 64,
    SL_BENCH_N_FLAGS = 23
};

struct sl_bench_plan {
    struct sl_cli_options options;
    const char *agent, *input;          /* a run; without --call */
    const char *call, *data, *protoset; /* any method; NULL: not given */
    uint64_t n_messages;                /* requests of one call that streams them */
    uint64_t n_streams, n_connections, n_threads;
    uint64_t n_runs; /* 0: no end but that of time */
    uint64_t rate;   /* calls started a second: open loop; 0: closed loop */
    uint64_t ramp_ms, warmup_ms;
    uint64_t duration_ms; /* behind the warm-up; 0: until n_runs are over */
    bool has_cancel;
    uint64_t cancel_ms, cancel_pct; /* cancelled so long after the first message; 0 to 100 of 100 */
    uint64_t read_rate, read_pct;   /* messages a second of a slow reader; 0: none is slow */
    uint64_t window_bytes;          /* of a stream; 0: the default */
    bool is_gzip;
    const char *histogram_file, *plot_file;
    uint64_t pid; /* the server's; 0: not known */
    struct sl_bench_gate gates[SL_CLI_LIST_MAX];
    size_t n_gates;

    /* ---- The call: sl_bench_request_make() -----------------------------------------------------
     */
    struct sl_arena arena, header_arena;
    struct sl_method_desc method;
    struct sl_slice *requests; /* sent in turn */
    size_t n_requests;
    struct sl_metadata metadata;
    bool is_run;     /* its messages are StreamEvents */
    bool has_stamps; /* their deltas may begin with a stamp */
};

/* The flags of a command whose sl_bench_plan_init() is. */
extern const struct sl_cli_flag sl_bench_flags[SL_BENCH_N_FLAGS];

/* Fills `plan` from the flags of `command`, which are those above. Ended by sl_bench_plan_done()
 * also after a failure. Fails: SL_INVALID_ARGUMENT, after a line on stderr. */
SL_CHECK enum sl_status sl_bench_plan_init(
    struct sl_bench_plan *plan, const struct sl_cli_command *command, int argc, char **argv);
void sl_bench_plan_done(struct sl_bench_plan *plan);

#endif
