/* Every limit of the program: one struct, made from one list, so that the configuration, `sluice
 * config show`, the documentation test and the code cannot disagree.
 *
 *   X(field, unit, default, least, greatest, "what it limits")       unit: COUNT, BYTES, MS
 */
#ifndef SL_RUNTIME_BASE_LIMITS_H
#define SL_RUNTIME_BASE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define SL_LIMIT_MAP(X)                                                                            \
    /* requests */                                                                                 \
    X(message_recv, BYTES, 4194304, 1024, 1073741824, "one received message")                      \
    X(header_list_soft, BYTES, 8192, 1024, 65536, "header list, refused politely")                 \
    X(header_list_hard, BYTES, 32768, 1024, 131072, "header list, stream reset")                   \
    X(header_fields, COUNT, 256, 16, 4096, "header fields")                                        \
    X(message_depth, COUNT, 100, 4, 1000, "nesting of a protobuf message")                         \
    X(message_tags, COUNT, 262144, 64, 16777216, "fields of a protobuf message")                   \
    X(message_memory, COUNT, 16, 4, 256, "memory of a decoded message, times its size; + 64 KiB")  \
    X(input, BYTES, 1048576, 1, 1073741824, "input of a run")                                      \
    X(context, BYTES, 3145728, 1, 1073741824, "context of a request")                              \
    X(metadata, COUNT, 64, 0, 1024, "metadata entries of a request")                               \
    X(metadata_size, BYTES, 16384, 0, 1048576, "their keys and values")                            \
    X(credentials, COUNT, 32, 0, 1024, "credentials of a request")                                 \
    X(credentials_size, BYTES, 65536, 0, 1048576, "their names and values")                        \
    X(keys, COUNT, 1000, 1, 10000, "keys of the key file")                                         \
    /* connections */                                                                              \
    X(connections, COUNT, 10000, 1, 1000000, "connections")                                        \
    X(connections_per_address, COUNT, 1000, 1, 1000000, "connections of one address")              \
    X(streams_per_connection, COUNT, 1320, 1, 1000000, "concurrent streams, advertised")           \
    X(runs_per_connection, COUNT, 1000, 1, 1000000, "running tasks of a connection")               \
    X(observers_per_connection, COUNT, 256, 1, 1000000, "streams of Attach besides those")         \
    X(control_calls_per_connection, COUNT, 64, 1, 100000, "control methods besides both")          \
    X(stream_window, BYTES, 262144, 65535, 16777216, "receive window of a stream")                 \
    X(connection_window, BYTES, 1048576, 65535, 16777216, "receive window of a connection")        \
    X(connection_send, BYTES, 4194304, 65536, 1073741824, "queued output of a connection")         \
    X(handshake, MS, 10000, 100, 600000, "TLS handshake")                                          \
    X(preface, MS, 10000, 100, 600000, "HTTP/2 preface and first SETTINGS")                        \
    X(header_block, MS, 10000, 100, 600000, "one header block")                                    \
    X(message_gap, MS, 60000, 100, 600000, "silence inside a request message")                     \
    X(stall, MS, 60000, 100, 3600000, "queued data without progress")                              \
    X(keepalive_time, MS, 30000, 1000, 86400000, "silence before a PING, with a call open")        \
    X(keepalive_timeout, MS, 20000, 100, 600000, "wait for the PING's answer")                     \
    X(keepalive_idle, MS, 7200000, 1000, 86400000, "silence before a PING, without a call")        \
    X(ping_interval, MS, 10000, 0, 86400000, "least gap between the client's PINGs")               \
    X(connection_age, MS, 1800000, 0, 86400000, "age of a connection; 0: no limit")                \
    X(connection_grace, MS, 0, 0, 86400000, "calls go on after that age; 0: no limit")             \
    X(connection_idle, MS, 0, 0, 86400000, "a connection without calls; 0: no limit")              \
    X(linger, MS, 1000, 0, 60000, "reading on after our last byte")                                \
    X(reset_burst, COUNT, 2000, 10, 1000000, "early resets by the client, at once")                \
    X(reset_rate, COUNT, 200, 1, 1000000, "early resets by the client, a second")                  \
    X(own_reset_burst, COUNT, 500, 10, 1000000, "resets for the client's errors, at once")         \
    X(own_reset_rate, COUNT, 33, 1, 1000000, "resets for the client's errors, a second")           \
    X(empty_frames, COUNT, 100, 1, 1000000, "empty DATA frames in a row")                          \
    X(priority_per_stream, COUNT, 100, 1, 1000000, "PRIORITY frames a stream opened")              \
    X(unknown_frames, COUNT, 100, 1, 1000000, "frames of unknown types, a stream opened")          \
    X(closed_stream, BYTES, 1048576, 65536, 1073741824, "frames for streams that are over")        \
    X(settings_burst, COUNT, 100, 10, 1000000, "SETTINGS frames at once; 10 a second after")       \
    /* the process */                                                                              \
    X(send_total, BYTES, 268435456, 65536, 17179869184, "queued output of all connections")        \
    X(receive_total, BYTES, 268435456, 65536, 17179869184, "unfinished requests of all together")  \
    X(pool_queue, COUNT, 1000, 0, 1000000, "calls that wait for a thread of the pool")             \
    X(running_calls, COUNT, 0, 0, 10000000, "running tasks of all connections; 0: no limit")       \
    X(runs, COUNT, 10000, 1, 10000000, "running runs")                                             \
    X(runs_per_tenant, COUNT, 0, 0, 10000000, "runs of one tenant, waiting ones too; 0: `runs`")   \
    X(run_queue, COUNT, 20000, 0, 10000000, "runs that wait for a slot")                           \
    X(run_wait, MS, 10000, 0, 600000, "wait for a slot")                                           \
    X(drain_delay, MS, 5000, 0, 600000, "from SIGTERM to the first GOAWAY")                        \
    X(drain_ping, MS, 5000, 10, 60000, "wait for the PING between the two GOAWAYs")                \
    X(drain_timeout, MS, 20000, 0, 86400000, "runs go on after the drain delay")                   \
    X(watchdog, MS, 0, 0, 3600000, "a loop that does not turn; 0: as the manager says")            \
    X(tools, COUNT, 64, 1, 10000, "tool calls at once, in the process")                            \
    X(store_queue, BYTES, 16777216, 65536, 1073741824, "events that wait for the store")           \
    X(store_queue_run, BYTES, 1048576, 65536, 1073741824, "the same, of one run, queued or not")   \
    /* a run */                                                                                    \
    X(run_timeout, MS, 3600000, 1, 604800000, "a run")                                             \
    X(iterations, COUNT, 1000, 1, 1000, "max_iterations of an agent")                              \
    X(restarts, COUNT, 2, 0, 10, "answers that were cut off and are asked for again")              \
    X(calls_per_iteration, COUNT, 64, 1, 1024, "tool calls of one model answer")                   \
    X(calls_per_run, COUNT, 100, 1, 100000, "tool calls of a run")                                 \
    X(loop_guard, COUNT, 5, 2, 1000, "the same tool call in a row")                                \
    X(parallel_tools, COUNT, 10, 1, 10, "tool calls at once, in a run")                            \
    X(approvals, COUNT, 16, 1, 1024, "calls of a run that wait for a decision, at once")           \
    X(client_tools, COUNT, 64, 0, 1024, "client_tools of a request")                               \
    X(client_tools_size, BYTES, 262144, 0, 4194304, "their names, descriptions and schemas")       \
    X(client_tool, MS, 300000, 10, 3600000, "wait for the result of a client's tool")              \
    X(user_inputs, COUNT, 16, 1, 1024, "user_input messages that wait for an iteration")           \
    X(buffer, BYTES, 262144, 4096, 4194304, "unread events of the foreground stream")              \
    X(buffer_events, COUNT, 1024, 1, 10000, "the same, counted")                                   \
    X(slow_consumer, MS, 1000, 10, 60000, "a stream past both; then DISCONNECT ends it")           \
    X(event, BYTES, 4194304, 65536, 16777216, "one event")                                         \
    X(delta, BYTES, 65536, 1024, 1048576, "text of one event; longer text is split")               \
    X(window, BYTES, 1048576, 0, 16777216, "recent events kept of a run that may lose its reader") \
    X(window_total, BYTES, 268435456, 0, 17179869184, "the same, of the process")                  \
    X(window_keep, MS, 120000, 0, 86400000, "the same, after the end of the run")                  \
    X(store_retry, MS, 30000, 100, 3600000, "events not taken by the store; then a run ends")      \
    X(run_context, BYTES, 4194304, 1024, 16777216, "its conversation in the store; or none is")    \
    X(final_text, BYTES, 1048576, 1024, 4194304, "content of RunDone")                             \
    X(session_queue, COUNT, 10, 0, 1000, "runs that wait for one session")                         \
    X(session_size, BYTES, 4194304, 1024, 16777216, "a session; the oldest turns go")              \
    X(sessions, COUNT, 10000, 1, 10000000, "sessions kept in memory; those unused longest go")     \
    X(sessions_total, BYTES, 67108864, 4096, 17179869184, "their bytes")                           \
    X(heartbeat, MS, 15000, 0, 60000, "silence before a heartbeat; 0: none")                       \
    /* tools */                                                                                    \
    X(tool_timeout, MS, 3600000, 100, 3600000, "one tool call")                                    \
    X(tool_arguments, BYTES, 1048576, 1024, 4194304, "arguments of a tool call")                   \
    X(tool_output_edge, BYTES, 32768, 1024, 1048576, "kept of a tool's output, at each end")       \
    X(tool_output_kill, BYTES, 67108864, 65536, 1073741824, "output after which a tool is killed") \
    X(tool_result_event, BYTES, 32768, 1024, 1048576, "result_json in an event")                   \
    X(tool_kill, MS, 2000, 10, 60000, "from SIGTERM to SIGKILL")                                   \
    X(tool_drain, MS, 500, 0, 60000, "from the exit of a tool to the kill of what it left")        \
    X(tool_file, BYTES, 1073741824, 1, 1099511627776, "one file that a tool writes")               \
    X(tool_files, COUNT, 1024, 16, 1048576, "open files of a process of a tool")                   \
    X(tool_processes, COUNT, 1024, 1, 1048576, "processes of all tools of a sluiced that is root") \
    X(tool_http_body, BYTES, 1048576, 1024, 1073741824, "body that http_request takes")            \
    /* models */                                                                                   \
    X(model_connect, MS, 10000, 10, 600000, "DNS, TCP and TLS")                                    \
    X(model_first_byte, MS, 120000, 10, 3600000, "wait for the first byte")                        \
    X(model_idle, MS, 60000, 10, 3600000, "silence inside an answer")                              \
    X(model_no_progress, MS, 300000, 10, 3600000, "pings without content")                         \
    X(model_end_grace, MS, 2000, 10, 60000, "from the finish reason to the end marker")            \
    X(model_line, BYTES, 1048576, 1024, 16777216, "one line of an SSE stream")                     \
    X(model_event, BYTES, 4194304, 1024, 67108864, "one event of an SSE stream")                   \
    X(model_stream, BYTES, 67108864, 65536, 1073741824, "one answer")                              \
    X(model_error_body, BYTES, 65536, 1024, 4194304, "body of an error answer")                    \
    X(model_reply, BYTES, 4194304, 1024, 67108864, "an answer that is not a stream")               \
    X(model_request, BYTES, 16777216, 65536, 1073741824, "a request body")                         \
    X(model_json_depth, COUNT, 128, 8, 1000, "nesting of a model's JSON")                          \
    X(model_retries, COUNT, 2, 0, 10, "retries of a model request")                                \
    X(model_retry_after, MS, 60000, 0, 3600000, "longest wait that a provider may ask for")        \
    X(model_concurrent, COUNT, 256, 1, 100000, "requests at once to one provider")

enum sl_limit_unit { SL_UNIT_COUNT, SL_UNIT_BYTES, SL_UNIT_MS };

/* Fields carry their unit: message_recv_bytes is spelt `message_recv`; see the list. */
struct sl_limits {
#define SL_LIMIT_FIELD(name, unit, value, least, greatest, text) uint64_t name;
    SL_LIMIT_MAP(SL_LIMIT_FIELD)
#undef SL_LIMIT_FIELD
};

/* SL_LIMIT_runs … : index in sl_limit_infos, and for those who tell that a limit was reached. */
enum sl_limit {
#define SL_LIMIT_ENUM(name, unit, value, least, greatest, text) SL_LIMIT_##name,
    SL_LIMIT_MAP(SL_LIMIT_ENUM)
#undef SL_LIMIT_ENUM
        SL_LIMIT_COUNT
};

struct sl_limit_info {
    const char *name;
    enum sl_limit_unit unit;
    uint64_t value, least, greatest;
    const char *text;
    size_t offset; /* in struct sl_limits */
};

/* All limits, in the list's order. */
extern const struct sl_limit_info sl_limit_infos[];
extern const size_t sl_limit_n_infos;

void sl_limits_init(struct sl_limits *limits);
uint64_t *sl_limits_field(struct sl_limits *limits, const struct sl_limit_info *info);

#endif
