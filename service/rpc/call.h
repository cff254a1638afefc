/* A call as its handler sees it: one RPC that this process serves. How it runs is chosen when it is
 * registered (GC-5):
 *
 * On the loop of the connection it must not block. It answers at once (its result is the final
 * status), or returns SL_PENDING and finishes later with sl_call_finish(): from a callback, a
 * timer, another event of the same loop. Until then the call stays valid, also after the stream is
 * gone: a slot is released only when the handler has finished (NG-2).
 *
 *   start ─▶ [recv…] [send…] ─▶ finish
 *
 * on_ended is called at most once: when the call ends before finish.
 *
 * On a thread of the pool it may block, and its result is the final status. The functions below
 * are the same, with these differences: the thread is the handler's, and no other; a recv or send
 * that would give SL_AGAIN waits, and gives the status of the end when the call ends (a stream's
 * message is on its way when send returns, and a later send, or the end, tells that it failed);
 * when the server's drain time is over they wait no longer and give SL_UNAVAILABLE; callbacks are
 * not called; a source is refused; sl_call_finish() does nothing; what is valid until the call is
 * finished is valid until the handler returns. */
#ifndef SL_SERVICE_RPC_CALL_H
#define SL_SERVICE_RPC_CALL_H

#include "runtime/base/arena.h"
#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/rpc/metadata.h"
#include "service/rpc/methods.h"

struct sl_call;
struct sl_message; /* a received message with its arena (EM-3) */

/* Who makes a call, as an interceptor found out. */
struct sl_call_identity {
    const char *principal, *tenant;
    /* What else narrows his rights; the interceptor and the handlers know what it means. */
    const char *const *scopes;
    size_t n_scopes;
};

/* Why a call ended before its handler finished it (CN-2). */
enum sl_call_end_kind {
    SL_CALL_RESET,    /* RST_STREAM from the client; `code` is its */
    SL_CALL_LOST,     /* connection lost, or the stream stalled */
    SL_CALL_DEADLINE, /* grpc-timeout */
    /* The server's drain time is over. The call can still be used: the handler has about a second
     * to send what it has and to finish with a status of its own; then it ends as UNAVAILABLE,
     * without another callback. A source stays borrowed until finish. */
    SL_CALL_DRAIN
};

struct sl_call_end {
    enum sl_call_end_kind kind;
    uint32_t code;
};

/* Any may be NULL. Never called from inside a function of the call. */
struct sl_call_callbacks {
    size_t struct_size;
    /* A message can be received, or the client half-closed; sl_call_recv() may still say SL_AGAIN.
     */
    void (*on_readable)(struct sl_call *call, void *user_data);
    /* A send that gave SL_AGAIN can be repeated. */
    void (*on_writable)(struct sl_call *call, void *user_data);
    /* The call is over; the handler must still sl_call_finish() it, at any later time. */
    void (*on_ended)(struct sl_call *call, const struct sl_call_end *end, void *user_data);
    /* What the ErrorInfo of an end that does not come from the handler (deadline, stall) tells
     * besides its reason; copied. Called before on_ended. */
    size_t (*end_info)(
        const struct sl_call *call, const struct sl_metadatum **ret_info, void *user_data);
};

// install: off
/* A body that the handler owns: framed messages that are pulled when there is room, in place of
 * sends (a run's event log). Embedded in its owner. Functions as in h2.h's body; `at_border`:
 * between two messages. on_finished: the last byte (is_last) was taken, and the call can be
 * finished. */
struct sl_call_source {
    size_t (*ready)(struct sl_call_source *source, size_t max, bool *ret_is_last);
    void (*take)(struct sl_call_source *source, uint8_t *dst, size_t n);
    bool (*at_border)(const struct sl_call_source *source);
    void (*on_finished)(struct sl_call_source *source);
    /* The connection has so many active streams: told when the source is set, and when they have
     * doubled or halved since (FC-3). May be NULL. */
    void (*on_streams)(struct sl_call_source *source, size_t n_streams);
};

// install: on
/* The final status of a call. Strings are copied. All zero but `code` is valid. */
struct sl_call_status {
    size_t struct_size;
    enum sl_status code;
    const char *message;
    /* google.rpc.ErrorInfo in grpc-status-details-bin, when `reason` is set (ST-6). With code OK:
     * what is told if the reply or the rest of the stream cannot be sent. */
    const char *reason;
    const char *domain;              /* NULL: "sluice.v1" */
    const struct sl_metadatum *info; /* ErrorInfo.metadata */
    size_t n_info;
    int64_t retry_delay_ms; /* > 0: RetryInfo, and grpc-retry-pushback-ms; < 0: pushback "-1"; 0:
                               none */
    struct sl_slice
        details; /* a whole google.rpc.Status instead of the above (its code and message rule) */
};

/* ---- What came in ---------------------------------------------------------------------------- */

/* Thread of all functions: the call's loop, or its handler's on the pool. */

/* NULL: a raw method. */
const struct sl_method_desc *sl_call_method(const struct sl_call *call);
/* "/pkg.Service/Method" */
const char *sl_call_path(const struct sl_call *call);
/* NULL at level 1. */
struct sl_loop *sl_call_loop(const struct sl_call *call);
/* What the client sent besides gRPC's own headers; lives as long as the call. */
const struct sl_metadata *sl_call_metadata(const struct sl_call *call);
/* Lives until the handler has finished. */
struct sl_arena *sl_call_arena(struct sl_call *call);
/* Unique in the process, for logs. */
uint64_t sl_call_id(const struct sl_call *call);
/* "127.0.0.1:53220", "unix"; at level 1 what sl_conn_new() was told. Never NULL. */
const char *sl_call_peer(const struct sl_call *call);
/* The names in the client's certificate, when it was checked: "uri:…", "dns:…", "email:…", each
 * terminated, an empty one at the end. NULL: there is no certificate. Valid as long as the call. */
const char *sl_call_peer_names(const struct sl_call *call);
/* For interceptors; borrowed: the arena is the place. */
void sl_call_set_identity(struct sl_call *call, const struct sl_call_identity *identity);
/* NULL: nobody found out. */
const struct sl_call_identity *sl_call_identity(const struct sl_call *call);
/* Empty: none. */
struct sl_slice sl_call_user_agent(const struct sl_call *call);
/* The number in grpc-previous-rpc-attempts; 0: none. */
uint32_t sl_call_previous_attempts(const struct sl_call *call);
/* grpc-timeout as received; false: none. */
bool sl_call_timeout_ns(const struct sl_call *call, uint64_t *ret_timeout_ns);
/* Nanoseconds until the deadline; 0: passed; SL_NEVER_NS: none. */
uint64_t sl_call_remaining_ns(const struct sl_call *call);
// install: off
/* Streams of its connection that are open: for the mark (FC-3). */
size_t sl_call_n_streams(const struct sl_call *call);
/* Of its connection; valid as long as the call. */
const struct sl_limits *sl_call_limits(const struct sl_call *call);
// install: on
/* True when it ended before its handler finished it: on_ended was called, or is owed. On the pool
 * also when the drain time is over. */
bool sl_call_is_ended(const struct sl_call *call);
/* Handlers on the pool: sleeps so long, and no longer than the call goes on. SL_OK: the time is
 * over; otherwise the status of the end, as a send would give it. SL_FAILED_PRECONDITION: on a
 * loop.
 */
SL_CHECK enum sl_status sl_call_wait_ms(struct sl_call *call, uint64_t wait_ms);

/* The request of a unary or server-streaming call, decoded; lives as long as the arena. Fails:
 * INTERNAL, RESOURCE_EXHAUSTED (WS-1 to WS-6). */
SL_CHECK enum sl_status sl_call_request(struct sl_call *call, const void **ret_message);
/* Its undecoded bytes. */
struct sl_slice sl_call_request_bytes(const struct sl_call *call);
/* The reply of a unary or client-streaming call, initialised; sent when the call finishes with
 * SL_OK. Memory it points to must live until then: the arena is the place. */
SL_CHECK enum sl_status sl_call_reply(struct sl_call *call, void **ret_message);
/* A raw reply instead. */
SL_CHECK enum sl_status sl_call_reply_bytes(struct sl_call *call, struct sl_slice message);
/* The next message of a client stream, valid until the next recv or taken. SL_OK; SL_AGAIN none
 * yet, wait for on_readable; SL_END half-closed; otherwise the fault that the call must be finished
 * with. */
SL_CHECK enum sl_status sl_call_recv(struct sl_call *call, void **ret_message);
/* The same, undecoded. */
SL_CHECK enum sl_status sl_call_recv_bytes(struct sl_call *call, struct sl_slice *ret_message);
/* The message that was received last (the request, too) came compressed. */
bool sl_call_is_compressed(const struct sl_call *call);
/* Takes the message last received, with its arena: it then stays valid without the call. Owns: the
 * caller; sl_message_free() on any thread. Gives NULL when there is none, or it was taken. */
struct sl_message *sl_message_take(struct sl_call *call);
/* Accepts NULL; gives NULL. */
struct sl_message *sl_message_free(struct sl_message *message);

/* ---- What goes out --------------------------------------------------------------------------- */

/* Copies `callbacks`; NULL: none. */
void sl_call_set_callbacks(
    struct sl_call *call, const struct sl_call_callbacks *callbacks, void *user_data);
/* What the next typed sends give is compressed if the client allows it; NULL: as the client's own
 * messages are. Before headers. */
SL_CHECK enum sl_status sl_call_set_encoding(struct sl_call *call, const char *encoding);
/* With an encoding: false sends the messages from now on as they are, true (the default) goes on
 * compressing them. At any time. */
void sl_call_set_compressing(struct sl_call *call, bool is_compressing);
/* Before the headers left: SL_FAILED_PRECONDITION after. */
SL_CHECK enum sl_status
sl_call_add_header(struct sl_call *call, struct sl_slice key, struct sl_slice value);
/* At any time before the end. Both copy. Fails: as sl_metadata_add(). */
SL_CHECK enum sl_status
sl_call_add_trailer(struct sl_call *call, struct sl_slice key, struct sl_slice value);
/* Sends the response headers now (RS-3). */
SL_CHECK enum sl_status sl_call_send_headers(struct sl_call *call);
/* Queues one message. SL_OK; SL_AGAIN the queue is full, nothing was queued; SL_CANCELLED,
 * SL_DEADLINE_EXCEEDED, SL_UNAVAILABLE the call is over; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_call_send(struct sl_call *call, const void *message);
/* The same with an encoded message; copied. */
SL_CHECK enum sl_status sl_call_send_bytes(struct sl_call *call, struct sl_slice message);
// install: off
/* From now on messages come from `source` (headers are sent if they were not). Queued sends go
 * first; later sends go in between two messages of the source (heartbeats). With a negotiated
 * encoding the source's messages are re-framed. Borrowed until finish or on_ended. */
SL_CHECK enum sl_status sl_call_set_source(struct sl_call *call, struct sl_call_source *source);
/* The source has something again. */
void sl_call_resume(struct sl_call *call);
/* Ends the call as one whose client does not read (FC-9), before the limit `stall` does: what is
 * queued is dropped, the client hears STALLED, and on_ended (SL_CALL_LOST) follows. Harmless on a
 * call that has ended. Not on the pool. */
void sl_call_stall(struct sl_call *call);
// install: on
/* True when nothing is queued and the source has nothing: a heartbeat may be sent. */
bool sl_call_is_idle(struct sl_call *call);

/* Ends the call: what is queued, then trailers. Must be called once after SL_PENDING; the call is
 * gone afterwards. On a call that ended already it only releases it. May be called inside the
 * handler, too: what that returns then does not count, and the call is gone when it has returned.
 */
void sl_call_finish(struct sl_call *call, const struct sl_call_status *given);
/* The same with a code and a text. */
SL_PRINTF(3, 4)
void sl_call_finishf(struct sl_call *call, enum sl_status code, const char *fmt, ...);
/* For handlers that answer at once: sets what the returned code goes with. Gives given->code. */
enum sl_status sl_call_fail(struct sl_call *call, const struct sl_call_status *given);

#endif
