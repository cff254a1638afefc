/* Level 1 of the client: a channel without I/O. The user opens connections, reads and writes their
 * bytes, and passes in the time (grpc.md section 7).
 *
 *   sl_client_call_open() ─▶ sl_channel_wants_conn() ─▶ sl_channel_conn_new() ─▶ feed, pull, …
 *                                                   └▶ sl_channel_conn_failed()
 *
 * Calls are those of client.h, as with a loop of the user's: nothing blocks, SL_AGAIN says that
 * there is nothing yet, and callbacks run inside feed, pull and turn. One thread for a channel, its
 * calls and its connections; none of these functions from inside a callback. */
#ifndef SL_SERVICE_RPC_CHANNEL_CONN_H
#define SL_SERVICE_RPC_CHANNEL_CONN_H

#include "service/rpc/client.h"

struct sl_channel_conn;

/* A channel that has no target: `authority` of the options, which is needed, is sent, and named in
 * errors. `loop` and `tls` must be NULL; connect_timeout_ms means nothing. `now_ns`: a monotonic
 * clock, here and in all that follows. Opens nothing. Owns: sl_channel_free(), which ends its calls
 * without callbacks; its connections stay, to be pulled and freed. Fails: SL_INVALID_ARGUMENT,
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_channel_new_core(
    const struct sl_channel_options *options,
    uint64_t now_ns,
    struct sl_channel **ret_channel,
    struct sl_error *err);
/* Sets the clock, runs the timers that are due and the callbacks that are owed. Deadlines of calls
 * count from the time that was passed in last: when that is old, call this before one is opened. */
void sl_channel_turn(struct sl_channel *channel, uint64_t now_ns);
/* When sl_channel_turn(), or feed of a connection, must be called; SL_NEVER_NS: no timer runs. */
uint64_t sl_channel_due_ns(const struct sl_channel *channel);
/* True while calls wait and the channel has no connection that could take them: at the beginning,
 * when one was lost, after a GOAWAY. Not in the pause after a failure. */
bool sl_channel_wants_conn(const struct sl_channel *channel);
/* No connection can be had. Calls fail with UNAVAILABLE and `why`, unless they wait for one or
 * their policy has them try again, and none is wanted for a while (1 s x 1.6^n, as client.h has
 * it). */
void sl_channel_conn_failed(struct sl_channel *channel, const char *why, uint64_t now_ns);

struct sl_channel_conn_options {
    size_t struct_size;
    bool is_tls; /* calls say that their scheme is https */
    /* Something to send, or wants_close, outside of feed and pull of this connection. May be NULL;
     * must not call functions of the channel. */
    void (*on_output)(void *user_data);
    void *user_data;
};

/* A connection that is open: TCP, and TLS with ALPN h2. It takes the calls from now on, and may be
 * given before one waits. `options` NULL: all zero. Pull at once: the client speaks first. Owns:
 * sl_channel_conn_free(). Fails: SL_ALREADY_EXISTS the last one still takes calls;
 * SL_INVALID_ARGUMENT the options; SL_FAILED_PRECONDITION the channel is not one without I/O;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_channel_conn_new(
    struct sl_channel *channel,
    const struct sl_channel_conn_options *options,
    uint64_t now_ns,
    struct sl_channel_conn **ret_conn);
/* Takes all of `bytes`; empty bytes run the timers that are due. Callbacks run inside.
 * Fails: SL_UNAVAILABLE the connection is over: pull what is left, then close. */
SL_CHECK enum sl_status sl_channel_conn_feed(
    struct sl_channel_conn *conn, struct sl_slice bytes, uint64_t now_ns, struct sl_error *err);
/* Fills `room` (at least 32 KiB) with the next bytes to write; 0: nothing now. They count as
 * written. After each function of a call that has something to send, and after each feed. */
size_t sl_channel_conn_pull(
    struct sl_channel_conn *conn, uint8_t *room, size_t room_bytes, uint64_t now_ns);
/* As sl_channel_due_ns(), also when the channel was freed. */
uint64_t sl_channel_conn_due_ns(const struct sl_channel_conn *conn);
/* True when nothing will be read or written any more: close and free it. */
bool sl_channel_conn_wants_close(const struct sl_channel_conn *conn);
/* The connection is closed, or lost: calls that are open on it end with UNAVAILABLE or are tried
 * again on the next one, and their callbacks run in the next turn. Accepts NULL; gives NULL. */
struct sl_channel_conn *sl_channel_conn_free(struct sl_channel_conn *conn);

#endif
