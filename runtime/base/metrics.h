/* Counters, gauges and histograms of the process, and their text for Prometheus.
 *
 *   metric ─▶ series (one for each set of label values) ─▶ a cell in each shard
 *   sl_metric_add(series, n) ─▶ cells[shard of this thread][series]     sl_metrics_write() adds up
 *
 * Everything lies in static memory: nothing is allocated, nothing fails, and a process that never
 * counts never touches it. Threads have shards of their own, so that loops do not share cache
 * lines; with more threads than shards some do, which is slower and still right. A series is found
 * by its label values without a lock; the first use of a set of values takes one.
 *
 * Label values must come from a bounded set: the code, or loaded configuration. A metric has at
 * most SL_METRIC_SERIES series; whatever comes later counts as "other".
 *
 * The list is the only one: docs/operations.md is checked against it.
 *
 *   X(name, KIND, UNIT, BUCKETS, "labels", "what it counts")
 *
 * Counters are written with the suffix _total, which `name` has not. Values of unit NS are counted
 * in nanoseconds and written in seconds. */
#ifndef SL_RUNTIME_BASE_METRICS_H
#define SL_RUNTIME_BASE_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/limits.h"

#define SL_METRIC_MAP(X)                                                                           \
    /* calls */                                                                                    \
    X(grpc_server_started, COUNTER, ONE, NONE, "grpc_type,grpc_service,grpc_method",               \
      "Calls that were started.")                                                                  \
    X(grpc_server_handled, COUNTER, ONE, NONE, "grpc_type,grpc_service,grpc_method,grpc_code",     \
      "Calls that have ended, whatever the cause.")                                                \
    X(grpc_server_msg_received, COUNTER, ONE, NONE, "grpc_type,grpc_service,grpc_method",          \
      "Messages received on calls.")                                                               \
    X(grpc_server_msg_sent, COUNTER, ONE, NONE, "grpc_type,grpc_service,grpc_method",              \
      "Messages sent on calls.")                                                                   \
    X(grpc_server_handling_seconds, HISTOGRAM, NS, CALL, "grpc_type,grpc_service,grpc_method",     \
      "Time from the headers of a call to its end.")                                               \
    /* connections and streams */                                                                  \
    X(sluice_connections, GAUGE, ONE, NONE, "", "Open connections of the gRPC listeners.")         \
    X(sluice_connections_opened, COUNTER, ONE, NONE, "", "Connections accepted so far.")           \
    X(sluice_connections_at_stream_limit, GAUGE, ONE, NONE, "",                                    \
      "Connections that have as many streams, tasks or observers as they may.")                    \
    X(sluice_connection_bytes, GAUGE, ONE, NONE, "",                                               \
      "Memory of HTTP/2 sessions and send queues of calls.")                                       \
    X(sluice_streams, GAUGE, ONE, NONE, "", "Open HTTP/2 streams.")                                \
    X(sluice_calls_running, GAUGE, ONE, NONE, "", "Calls whose handler has not finished.")         \
    X(sluice_received_bytes, COUNTER, ONE, NONE, "", "Bytes of HTTP/2 received.")                  \
    X(sluice_sent_bytes, COUNTER, ONE, NONE, "", "Bytes of HTTP/2 sent.")                          \
    X(sluice_accept_pauses, COUNTER, ONE, NONE, "reason",                                          \
      "Times that nobody was accepted for want of descriptors or memory.")                         \
    X(sluice_tls_handshake_failures, COUNTER, ONE, NONE, "", "TLS handshakes that failed.")        \
    X(sluice_stream_ends, COUNTER, ONE, NONE, "reason", "Ends of server streams, by their cause.") \
    X(sluice_stream_buffer_bytes, GAUGE, ONE, NONE, "",                                            \
      "Bytes that wait in all send queues and unread logs.")                                       \
    X(sluice_log_bytes, GAUGE, ONE, NONE, "", "Memory of the logs of all runs.")                   \
    X(sluice_stream_paused, GAUGE, ONE, NONE, "", "Runs that wait for their reader.")              \
    X(sluice_slow_consumers, COUNTER, ONE, NONE, "action",                                         \
      "Readers that passed their mark, and did not hold their run back.")                          \
    /* what is not let through */                                                                  \
    X(sluice_limits_reached, COUNTER, ONE, NONE, "limit", "How often a limit has cut or refused.") \
    X(sluice_refusals, COUNTER, ONE, NONE, "kind,reason",                                          \
      "Requests, runs and renegotiations of TLS that were refused.")                               \
    X(sluice_authentication_failures, COUNTER, ONE, NONE, "reason",                                \
      "Calls that were refused because nobody knew who made them.")                                \
    X(sluice_faults, COUNTER, ONE, NONE, "reason",                                                 \
      "Connections that ended because of a fault of the peer, or an attack.")                      \
    /* runs */                                                                                     \
    X(sluice_runs, COUNTER, ONE, NONE, "agent,code", "Runs that have ended; code OK is RunDone.")  \
    X(sluice_runs_active, GAUGE, ONE, NONE, "agent", "Runs that go on.")                           \
    X(sluice_runs_detached, GAUGE, ONE, NONE, "agent", "Runs that go on without their reader.")    \
    X(sluice_runs_waiting, GAUGE, ONE, NONE, "", "Runs that wait for a slot.")                     \
    X(sluice_runs_memory_bytes, GAUGE, ONE, NONE, "",                                              \
      "Memory of runs, those that wait or are kept included.")                                     \
    X(sluice_runs_queued, GAUGE, ONE, NONE, "", "Runs that wait for their session.")               \
    X(sluice_sessions, GAUGE, ONE, NONE, "", "Sessions kept in memory.")                           \
    X(sluice_session_bytes, GAUGE, ONE, NONE, "", "Their bytes.")                                  \
    X(sluice_history_repairs, COUNTER, ONE, NONE, "",                                              \
      "Messages of sessions and contexts that were dropped, and results that were added.")         \
    X(sluice_run_duration_seconds, HISTOGRAM, NS, CALL, "", "Time of a run.")                      \
    X(sluice_cancel_duration_seconds, HISTOGRAM, NS, CALL, "",                                     \
      "Time from the cause of an early end until nothing of the run is alive.")                    \
    X(sluice_events, COUNTER, ONE, NONE, "", "Events of all runs.")                                \
    X(sluice_event_bytes, COUNTER, ONE, NONE, "", "Bytes of these events.")                        \
    /* models */                                                                                   \
    X(gen_ai_client_operation_duration_seconds, HISTOGRAM, NS, MODEL,                              \
      "gen_ai_operation_name,gen_ai_provider_name,gen_ai_request_model,error_type",                \
      "Time of a model's answer, retries included.")                                               \
    X(gen_ai_client_operation_time_to_first_chunk_seconds, HISTOGRAM, NS, MODEL,                   \
      "gen_ai_operation_name,gen_ai_provider_name,gen_ai_request_model",                           \
      "Time from the request to the first text, reasoning or tool call.")                          \
    X(gen_ai_client_operation_time_per_output_chunk_seconds, HISTOGRAM, NS, MODEL,                 \
      "gen_ai_operation_name,gen_ai_provider_name,gen_ai_request_model",                           \
      "Time between two chunks of an answer.")                                                     \
    X(gen_ai_client_token_usage, HISTOGRAM, ONE, TOKENS,                                           \
      "gen_ai_operation_name,gen_ai_provider_name,gen_ai_request_model,gen_ai_token_type",         \
      "Tokens of an answer, as the provider counted them.")                                        \
    X(sluice_estimated_tokens, COUNTER, ONE, NONE, "type",                                         \
      "Tokens that no provider counted, estimated.")                                               \
    X(sluice_provider_retries, COUNTER, ONE, NONE, "provider,code",                                \
      "Retries, by the failure before.")                                                           \
    X(sluice_iteration_restarts, COUNTER, ONE, NONE, "provider,code",                              \
      "Answers that were cut off and asked for again, by the failure.")                            \
    X(sluice_provider_errors, COUNTER, ONE, NONE, "provider,code",                                 \
      "Answers that failed, after the retries.")                                                   \
    X(sluice_provider_unknown_finish, COUNTER, ONE, NONE, "provider",                              \
      "Answers with a finish reason that nobody knows.")                                           \
    X(sluice_output_violations, COUNTER, ONE, NONE, "agent",                                       \
      "Last answers that do not fit their agent's output schema.")                                 \
    /* tools */                                                                                    \
    X(sluice_tool_calls, COUNTER, ONE, NONE, "tool,code", "Tool calls that have ended.")           \
    X(sluice_tool_duration_seconds, HISTOGRAM, NS, CALL, "tool",                                   \
      "Time of a tool call, from its first attempt.")                                              \
    X(sluice_tool_children, GAUGE, ONE, NONE, "", "Processes of tools that are not reaped.")       \
    X(sluice_tool_unreaped, GAUGE, ONE, NONE, "", "Processes of tools that the kernel keeps.")     \
    /* the store */                                                                                \
    X(sluice_store_queued_bytes, GAUGE, ONE, NONE, "", "Bytes that wait to be written.")           \
    X(sluice_store_queued_requests, GAUGE, ONE, NONE, "", "Requests that wait to be written.")     \
    X(sluice_store_commits, COUNTER, ONE, NONE, "", "Transactions that were written.")             \
    X(sluice_store_failed_commits, COUNTER, ONE, NONE, "", "Transactions that could not be.")      \
    X(sluice_store_commit_seconds, COUNTER, NS, NONE, "", "Time of all transactions.")             \
    X(sluice_store_longest_commit_seconds, GAUGE, NS, NONE, "", "Time of the longest of them.")    \
    X(sluice_store_appends, COUNTER, ONE, NONE, "", "Appends of events that were written.")        \
    X(sluice_store_event_bytes, COUNTER, ONE, NONE, "", "Bytes of these events.")                  \
    X(sluice_store_wal_bytes, GAUGE, ONE, NONE, "",                                                \
      "Bytes of its log that are not in the database yet.")                                        \
    X(sluice_store_kept_bytes, GAUGE, ONE, NONE, "", "Bytes of the runs that are kept.")           \
    X(sluice_store_runs_open, GAUGE, ONE, NONE, "", "Runs that are recorded and go on.")           \
    X(sluice_store_runs_removed, COUNTER, ONE, NONE, "", "Ended runs that were removed.")          \
    X(sluice_store_runs_recovered, COUNTER, ONE, NONE, "",                                         \
      "Runs that were ended at the start: their owner was lost.")                                  \
    X(sluice_store_runs_parked, COUNTER, ONE, NONE, "",                                            \
      "Runs that were left for the next server at the end of a drain.")                            \
    X(sluice_store_runs_taken_up, COUNTER, ONE, NONE, "",                                          \
      "Runs that rested in the store and go on since the start.")                                  \
    X(sluice_store_failing, GAUGE, ONE, NONE, "", "1: the last transaction failed.")               \
    /* the process */                                                                              \
    X(sluice_build_info, GAUGE, ONE, NONE, "version", "Always 1.")                                 \
    X(sluice_config_reloads, COUNTER, ONE, NONE, "result",                                         \
      "SIGHUPs; result is done, or failed: the old configuration goes on.")                        \
    X(sluice_log_dropped, COUNTER, ONE, NONE, "", "Log lines that could not be written.")          \
    X(sluice_loop_lag_seconds, HISTOGRAM, NS, LAG, "loop",                                         \
      "How late a loop's timer fires: how long the loop was busy.")                                \
    X(process_cpu_seconds, COUNTER, NS, NONE, "", "User and system time of the process.")          \
    X(process_resident_memory_bytes, GAUGE, ONE, NONE, "", "Resident memory.")                     \
    X(process_virtual_memory_bytes, GAUGE, ONE, NONE, "", "Virtual memory.")                       \
    X(process_open_fds, GAUGE, ONE, NONE, "", "Open descriptors.")                                 \
    X(process_max_fds, GAUGE, ONE, NONE, "", "The limit of open descriptors.")                     \
    X(process_start_time_seconds, GAUGE, NS, NONE, "", "Start of the process, Unix time.")

enum sl_metric_kind { SL_METRIC_COUNTER, SL_METRIC_GAUGE, SL_METRIC_HISTOGRAM };
enum sl_metric_unit { SL_METRIC_ONE, SL_METRIC_NS };

/* SL_M_sluice_runs … : spelt as the list spells them, so that one search finds all. */
enum sl_metric {
#define SL_METRIC_ENUM(name, kind, unit, buckets, labels, text) SL_M_##name,
    SL_METRIC_MAP(SL_METRIC_ENUM)
#undef SL_METRIC_ENUM
        SL_METRIC_COUNT
};

enum {
    SL_METRIC_SHARDS = 16,
    SL_METRIC_CELLS = 65536,       /* of each shard */
    SL_METRIC_SERIES = 1024,       /* of each metric */
    SL_METRIC_LABELS = 4,          /* at most */
    SL_METRIC_LABEL_BYTES = 512,   /* all labels of a series, as they are written */
    SL_METRIC_TEXT_BYTES = 8 << 20 /* what a scrape may be */
};

struct sl_series {
    struct sl_series *_Atomic next_same_hash;
    struct sl_series *_Atomic next; /* of the same metric, in the order of their making */
    const char *labels;             /* `agent="echo",code="OK"`; "": none */
    const uint64_t *bounds;         /* of a histogram */
    uint32_t cell, n_bounds;
    enum sl_metric metric;
};

extern _Atomic uint64_t sl_metric_cells[SL_METRIC_SHARDS][SL_METRIC_CELLS];
extern _Thread_local uint32_t sl_metric_shard; /* plus 1; 0: the thread has none yet */

uint32_t sl_metric_take_shard(void);

/* The series with these values, one for each label of the metric, in the list's order; `values` may
 * be NULL where there are no labels, a value NULL counts as "". Made on first use. Owns: the
 * process, for ever. Thread: any. Never fails. */
struct sl_series *sl_metric_series(enum sl_metric metric, const char *const *values);

/* A gauge goes down by the two's complement. Thread: any. */
static inline void sl_metric_add(const struct sl_series *series, uint64_t n)
{
    const uint32_t shard = sl_metric_shard != 0 ? sl_metric_shard : sl_metric_take_shard();
    (void)atomic_fetch_add_explicit(
        &sl_metric_cells[shard - 1][series->cell], n, memory_order_relaxed);
}

/* One value more of a histogram, in its unit. Thread: any. */
void sl_metric_observe(const struct sl_series *series, uint64_t value);
/* For values that somebody else counts: replaces the sum. One thread at a time. */
void sl_metric_set(const struct sl_series *series, uint64_t value);

/* Looks the series up first: for what does not happen all the time, unless the metric has no
 * labels. The values follow; NULL where there are none. */
#define SL_METRIC_ADD(name, n, ...)                                                                \
    sl_metric_add(                                                                                 \
        sl_metric_series(SL_M_##name, (const char *const[]){ __VA_ARGS__, NULL }), (uint64_t)(n))
#define SL_METRIC_OBSERVE(name, value, ...)                                                        \
    sl_metric_observe(                                                                             \
        sl_metric_series(SL_M_##name, (const char *const[]){ __VA_ARGS__, NULL }), (value))
#define SL_METRIC_SET(name, value, ...)                                                            \
    sl_metric_set(                                                                                 \
        sl_metric_series(SL_M_##name, (const char *const[]){ __VA_ARGS__, NULL }),                 \
        (uint64_t)(value))

/* A limit has cut, refused or ended something. Thread: any. */
void sl_limit_reached(enum sl_limit limit);
/* How often so far. Thread: any. */
uint64_t sl_limit_n_reached(enum sl_limit limit);

/* The sum over the shards; of a histogram: how many values. Thread: any. */
uint64_t sl_metric_value(const struct sl_series *series);

struct sl_metric_info {
    const char *name; /* as it is written: with _total */
    const char *text;
    const char *labels; /* "agent,code" */
    enum sl_metric_kind kind;
    enum sl_metric_unit unit;
    const uint64_t *bounds; /* in the unit; +Inf follows */
    uint32_t n_bounds;
};

extern const struct sl_metric_info sl_metric_infos[SL_METRIC_COUNT];

/* All metrics in the text format 0.0.4. Metrics without labels are there from the start, and so are
 * all limits; others once they were used. Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_metrics_write(struct sl_buf *out);

#endif
