/* A gRPC server: registered methods, and three ways to run them (EM-2): a ready loop, a foreign
 * loop with one pollable descriptor, or sans-I/O connections (conn.h). */
#ifndef SL_SERVICE_RPC_SERVER_H
#define SL_SERVICE_RPC_SERVER_H

#include "runtime/base/limits.h"
#include "service/rpc/call.h"

struct sl_server;

/* Starts a call of one method: decodes, calls the handler, gives its result (0 to 16, or
 * SL_PENDING). Generated. `handlers`: what the user registered. */
typedef enum sl_status(sl_method_start_fn)(
    struct sl_call *call, const void *handlers, void *user_data);
typedef enum sl_status(sl_raw_fn)(struct sl_call *call, struct sl_slice request, void *user_data);

/* Runs after routing and before the handler (OP-1); the path is canonical. on_start: not SL_OK ends
 * the call (sl_call_fail gives it details); headers and trailers may be added. on_end: the final
 * status of a call that on_start saw. on_message_in: each message, decompressed, when the handler
 * would get it; not SL_OK: it does not, the call is refused with this status, or the handler's
 * receive fails with it. on_message_out: each message before it is compressed, but for those of a
 * source. Messages are valid in the call. Any may be NULL. */
struct sl_interceptor {
    size_t struct_size;
    enum sl_status (*on_start)(struct sl_call *call, void *user_data);
    void (*on_end)(struct sl_call *call, enum sl_status status, void *user_data);
    void *user_data;
    enum sl_status (*on_message_in)(struct sl_call *call, struct sl_slice message, void *user_data);
    void (*on_message_out)(struct sl_call *call, struct sl_slice message, void *user_data);
};

struct sl_server_options {
    size_t struct_size;
    const struct sl_limits *limits; /* copied; NULL: those of sl_limits_new() */
    /* Loops that somebody else runs (sluiced: one per core); NULL: the server makes its own.
     * Borrowed. */
    struct sl_loop *const *loops;
    size_t n_loops;
    bool allow_pings_without_calls;
    /* Threads for handlers that block, made by sl_server_listen(); 0: none. */
    size_t n_pool_threads;
};

/* How the methods that are registered with it run (GC-5). NULL: on the loop. */
struct sl_service_options {
    size_t struct_size;
    bool on_pool; /* on a thread of the pool: the handlers may block (call.h) */
};

// install: off
/* The limits of a server that is given none: those of sl_limits_init(), which are sluiced's, but
 * for what gRPC has numbers of its own for (gRFC A8, A9): a client's PING every five minutes, ours
 * after two hours of silence, no age of connections, 256 streams; and 1,024 running calls, where
 * sluiced counts its runs. Thread: any. Never fails. */
void sl_server_default_limits(struct sl_limits *limits);
// install: on

/* `options` NULL: all zero. Owns: the caller; sl_server_free(). Fails: SL_RESOURCE_EXHAUSTED;
 * SL_INVALID_ARGUMENT fields of the options that this library does not know, or a limit
 * `connection_window` that is not larger than `stream_window`. */
SL_CHECK enum sl_status
sl_server_new(const struct sl_server_options *options, struct sl_server **ret_server);
/* After sl_server_run() has returned, or (foreign loops) after the drain. With its own loop, what
 * is left is ended here, as by sl_server_stop() with no time; this takes up to three seconds.
 * Handlers that have not finished then are given up, with a warning: their calls are freed, and
 * must not be touched any more. Those on the pool are waited for, however long they take. */
struct sl_server *sl_server_free(struct sl_server *server);

/* Registers a service: `starts[i]` and `handlers` serve methods[i]; NULL start: UNIMPLEMENTED.
 * Before the server starts. Fails: SL_ALREADY_EXISTS a path; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_server_add_service(
    struct sl_server *server,
    const struct sl_service_desc *service,
    sl_method_start_fn *const *starts,
    const void *handlers,
    void *user_data);
/* The same; `options` may be NULL. Fails also: SL_FAILED_PRECONDITION the server has no pool. */
SL_CHECK enum sl_status sl_server_add_service_with(
    struct sl_server *server,
    const struct sl_service_desc *service,
    sl_method_start_fn *const *starts,
    const void *handlers,
    void *user_data,
    const struct sl_service_options *options);
/* A path without descriptor (EM-4); NULL: everything that nobody registered. Before the server
 * starts. */
SL_CHECK enum sl_status sl_server_add_raw(
    struct sl_server *server,
    const char *path,
    enum sl_method_kind kind,
    sl_raw_fn *handler,
    void *user_data);
/* The same; `options` as above. */
SL_CHECK enum sl_status sl_server_add_raw_with(
    struct sl_server *server,
    const char *path,
    enum sl_method_kind kind,
    sl_raw_fn *handler,
    void *user_data,
    const struct sl_service_options *options);
/* Appends to the chain; copied. Before the server starts. Fails: SL_RESOURCE_EXHAUSTED;
 * SL_INVALID_ARGUMENT fields that this library does not know. */
SL_CHECK enum sl_status
sl_server_add_interceptor(struct sl_server *server, const struct sl_interceptor *interceptor);
// install: off
/* RST_STREAM of the clients of the next sl_server_listen() are taken for a lost connection
 * (SL_CALL_LOST): a proxy in between turns one into the other. */
void sl_server_take_resets_for_losses(struct sl_server *server, bool is_reset_loss);
/* From now on every error status carries an ErrorInfo (ST-6): whoever gives no reason gets the one
 * that belongs to the code, whoever gives no metadata gets `info` (what is true of errors that no
 * handler knows of). Borrowed. Before the server starts. */
void sl_server_set_error_info(
    struct sl_server *server, const struct sl_metadatum *info, size_t n_info);
/* Each has a quota of its own on a connection (ADM-9), so that none uses up the places of another.
 */
enum sl_call_class {
    SL_CLASS_TASK,     /* whatever is not marked: runs_per_connection */
    SL_CLASS_OBSERVER, /* follows what runs elsewhere: observers_per_connection */
    SL_CLASS_CONTROL,  /* control_calls_per_connection; also needs no place of the server */
    SL_CLASS_COUNT
};
/* Of the calls of this path, which may be registered later. Before the server starts. Fails:
 * SL_INVALID_ARGUMENT not "/service/method"; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_server_set_class(struct sl_server *server, const char *path, enum sl_call_class call_class);
// install: on
/* Marks a path as control method, with a quota of its own (ADM-9). */
SL_CHECK enum sl_status sl_server_set_control(struct sl_server *server, const char *path);
/* Registered services, for reflection. */
size_t sl_server_n_services(const struct sl_server *server);
/* NULL: there are not so many. */
const struct sl_service_desc *sl_server_service_at(const struct sl_server *server, size_t index);

struct sl_net_tls;
/* "ADDR:PORT", "unix:PATH"; `tls` NULL: h2c. `*ret_address` (may be NULL): the real one, borrowed.
 * Fails, naming the address: SL_ALREADY_EXISTS in use; SL_PERMISSION_DENIED; SL_INVALID_ARGUMENT;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_server_listen(
    struct sl_server *server,
    const char *address,
    struct sl_net_tls *tls,
    const char **ret_address,
    struct sl_error *err);

/* New settings while it serves: `limits` for the connections that come from now on (those of
 * accepting at once), and the certificates of its listeners, in the order of sl_server_listen()
 * (NULL: plaintext). Whoever is connected keeps what it has. Copies and references. Not after
 * sl_server_stop(). Thread: any. Fails, and nothing has changed: SL_RESOURCE_EXHAUSTED;
 * SL_INVALID_ARGUMENT limits that sl_server_new() refuses. */
SL_CHECK enum sl_status sl_server_reload(
    struct sl_server *server,
    const struct sl_limits *limits,
    struct sl_net_tls *const *tls,
    size_t n_tls);

/* Level 3: runs until sl_server_stop() and the end of the drain: then SL_OK. Own loop only. */
SL_CHECK enum sl_status sl_server_run(struct sl_server *server, struct sl_error *err);
/* Level 2, own loop only. A descriptor that is readable whenever sl_server_step() has work. Owns:
 * the server; do not read or close it. Gives -1 before sl_server_listen(). */
int sl_server_fd(const struct sl_server *server);
/* Milliseconds until sl_server_step() must be called although the descriptor is quiet; 0: now; -1:
 * no timer runs. Thread: the server's. */
int sl_server_timeout(const struct sl_server *server);
/* Does one turn of what is ready, without waiting. `*ret_is_drained`: sl_server_stop() was called
 * and nothing is left. Thread: the server's, always the same. Fails: SL_FAILED_PRECONDITION the
 * loops are not its own; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_server_step(struct sl_server *server, bool *ret_is_drained, struct sl_error *err);

/* Two-step drain of every connection (CM-5): listeners close after the first step's PING; calls go
 * on for `timeout_ms`, then they end as SL_CALL_DRAIN and everything is closed. on_drained (may be
 * NULL) runs on loops[0]. A second call with a shorter time hurries. Thread: any. */
void sl_server_stop(
    struct sl_server *server,
    uint64_t timeout_ms,
    void (*on_drained)(void *user_data),
    void *user_data);
/* From now on new calls get UNAVAILABLE, reason DRAINING (control methods and health excepted). */
void sl_server_refuse_new(struct sl_server *server);

struct sl_server_stats {
    uint64_t connections, connections_total, streams, calls_started, calls_finished, calls_running;
    uint64_t messages_in, messages_out, bytes_in, bytes_out, attacks;
    uint64_t at_stream_limit;  /* connections that may have no further stream, run or observer */
    uint64_t connection_bytes; /* sl_conn_memory_bytes() of all, in steps of 4 KiB each */
    uint64_t calls_by_status[17];
};
// install: off
/* One connection, looked at from outside; `peer` is valid in the call. */
struct sl_conn_view {
    const char *peer;
    bool is_tls;
    size_t n_streams, n_running; /* HTTP/2 streams; calls whose handler has not finished */
    uint64_t age_ms, queued_bytes, memory_bytes;
};
/* Those of this loop. Thread: the loop. */
void sl_server_each_conn(
    const struct sl_server *server,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_conn_view *conn, void *user_data),
    void *user_data);
// install: on
/* A sum over the loops, not a snapshot. Thread: any. */
#define sl_server_stats(server, ret_stats)                                                         \
    sl_server_stats_sized((server), (ret_stats), sizeof(struct sl_server_stats))
/* The same, as far as the struct of the caller's header goes. */
void sl_server_stats_sized(
    const struct sl_server *server, struct sl_server_stats *ret_stats, size_t struct_size);

#endif
