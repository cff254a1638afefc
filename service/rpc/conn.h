/* Level 1: one connection without I/O. The user owns sockets, TLS and the clock (grpc.md section
 * 7). */
#ifndef SL_SERVICE_RPC_CONN_H
#define SL_SERVICE_RPC_CONN_H

#include "service/rpc/server.h"

struct sl_conn;

struct sl_conn_options {
    size_t struct_size;
    const char *peer; /* for logs; copied */
    /* What sl_call_loop() gives; its timers and deferred tasks are used, and its clock must be that
     * of `now_ns`. NULL: everything happens in feed and pull. */
    struct sl_loop *loop;
    /* Something to send, or wants_close, outside of sl_conn_feed() and pull. May be NULL. */
    void (*on_output)(void *user_data);
    void *user_data;
    /* What sl_call_peer_names() gives; copied. NULL: no certificate. */
    const char *peer_names;
};

/* Gives a connection that calls the methods registered at `server`; `options` NULL: all zero. Owns:
 * borrows `server`; sl_conn_free(). Thread: the caller's becomes the connection's.
 * Fails: SL_RESOURCE_EXHAUSTED; SL_INVALID_ARGUMENT fields of the options that this library does
 * not know. */
SL_CHECK enum sl_status sl_conn_new(
    struct sl_server *server, const struct sl_conn_options *options, struct sl_conn **ret_conn);
/* Takes all of `bytes`; empty bytes run the timers that are due. Handlers and callbacks run inside.
 * `now_ns`: a monotonic clock. Never from inside a callback.
 * Fails: SL_UNAVAILABLE the connection is over: pull what is left, then close. */
SL_CHECK enum sl_status
sl_conn_feed(struct sl_conn *conn, struct sl_slice bytes, uint64_t now_ns, struct sl_error *err);
/* Fills `room` (at least 32 KiB) with the next bytes to write; 0: nothing now. They count as
 * written. */
size_t sl_conn_pull(struct sl_conn *conn, uint8_t *room, size_t room_bytes, uint64_t now_ns);
/* When sl_conn_feed() must be called even without bytes; SL_NEVER_NS: no timer runs, or they are
 * the loop's. */
uint64_t sl_conn_due_ns(const struct sl_conn *conn);
/* True when nothing will be read or written any more. Freeing earlier ends each open call as LOST.
 */
bool sl_conn_wants_close(const struct sl_conn *conn);
/* True while so many answers wait that no more should be read: whoever sends and does not read
 * would fill the memory with refusals (AT-3, AT-7). Ask after feed and pull. */
bool sl_conn_is_congested(const struct sl_conn *conn);
/* The reason of the fault or attack that ended it ("bad_preface": perhaps HTTP/1.1); NULL: none. */
const char *sl_conn_fault(const struct sl_conn *conn);
/* Bytes that it holds now: nghttp2's part with the streams that it remembers (NG-20), and the send
 * queues of its calls. 0 once it was freed. */
uint64_t sl_conn_memory_bytes(const struct sl_conn *conn);
/* Two-step drain (CM-5): new streams are accepted until the peer has heard of it; calls go on for
 * `timeout_ms`, then end as SL_CALL_DRAIN; then the connection wants to be closed. A second call
 * with a shorter time hurries. */
void sl_conn_drain(struct sl_conn *conn, uint64_t timeout_ms);
/* The transport is gone (CN-2). */
void sl_conn_lost(struct sl_conn *conn);
/* Ends each open call as LOST; the memory goes once every handler has finished. Accepts NULL; gives
 * NULL. */
struct sl_conn *sl_conn_free(struct sl_conn *conn);

#endif
