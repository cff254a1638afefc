/* The inside of a call, for call*.c, admission.c and conn*.c.
 *
 *   stage:   REQUEST ──▶ RUNNING ──▶ FINISHED       what the handler does
 *   outcome: NONE ──▶ COMPLETED | RESET | LOST | DEADLINE | DRAIN      who ended it: exactly one
 *                                                                      (CN-5)
 *
 * The record goes when the handler has finished, the stream is gone and no event is left. */
#ifndef SL_SERVICE_RPC_CALL_IMPL_H
#define SL_SERVICE_RPC_CALL_IMPL_H

#include "runtime/base/list.h"
#include "service/h2/h2.h"
#include "service/rpc/call.h"
#include "service/rpc/call_watch.h"
#include "service/rpc/chain.h"
#include "service/rpc/codec.h"
#include "service/rpc/conn_impl.h"
#include "service/rpc/frame.h"
#include "service/rpc/headers.h"
#include "service/rpc/pool_call.h"

enum sl_call_stage { SL_STAGE_REQUEST, SL_STAGE_RUNNING, SL_STAGE_FINISHED };

enum sl_call_outcome {
    SL_OUTCOME_NONE,
    SL_OUTCOME_COMPLETED,
    SL_OUTCOME_RESET,
    SL_OUTCOME_LOST,
    SL_OUTCOME_DEADLINE,
    SL_OUTCOME_DRAIN
};

/* Who is refused because the server goes down may ask again then: another one answers (RT-1). */
enum { SL_DRAIN_RETRY_MS = 1000 };

/* Work for sl_call_dispatch(), in this order. */
enum sl_call_event {
    SL_EVENT_START = 1,
    SL_EVENT_ENDED = 2,
    SL_EVENT_SOURCE_DONE = 4,
    SL_EVENT_READABLE = 8,
    SL_EVENT_WRITABLE = 16
};

/* Finds the borders of messages in a byte stream that may be cut anywhere. */
struct sl_border {
    uint32_t left;    /* payload bytes that are missing */
    uint32_t length;  /* of the prefix, as far as it was seen */
    uint8_t n_prefix; /* bytes of the prefix seen; 0 with left 0: at a border */
};

struct sl_message {
    struct sl_arena arena;
    struct sl_buf bytes; /* with sl_message_take() */
};

struct sl_call {
    uint32_t magic;
    uint32_t events;
    struct sl_conn *conn;        /* referenced */
    struct sl_h2_stream *stream; /* NULL: gone */
    struct sl_list in_stalled;
    struct sl_pool_call *pooled; /* its handler runs on the pool, or waits for it; NULL: no */

    enum sl_call_stage stage;
    enum sl_call_outcome outcome;
    bool is_ready : 1; /* in the ready list */
    bool is_dispatching : 1;
    bool is_drain_grace : 1; /* outcome DRAIN, and the handler may still finish by itself */
    bool has_slot : 1;
    bool is_half_closed : 1;
    bool has_timeout : 1;
    bool has_request : 1;
    bool is_blocked : 1; /* a send gave SL_AGAIN */
    bool is_told : 1;    /* on_ended was called */
    bool is_reply_raw : 1;
    bool has_failure : 1;      /* sl_call_fail() */
    bool has_headers : 1;      /* HEADERS were submitted */
    bool is_closing : 1;       /* trailers follow what is queued */
    bool is_trailed : 1;       /* Trailers-Only was submitted, or the trailers were handed over */
    bool is_cut : 1;           /* nothing more may be sent: aborted or reset by us */
    bool is_promised_last : 1; /* the source ends behind what it promised */
    bool is_source_done : 1;   /* every byte of the source was taken */
    bool is_in_source : 1;     /* the last byte taken was the source's */
    bool is_slow : 1;          /* ended because its client does not read */
    bool is_plain : 1;         /* what is queued now is not compressed */
    bool is_packed : 1;        /* the last message received was compressed */

    /* All above and here, up to `n_sent`, is touched for each frame: few lines of the cache. */
    struct {
        struct sl_h2_body body;
        struct sl_call_source *source;
        struct sl_buf *reframe;  /* a message of the source that is to be compressed */
        struct sl_border border; /* of what h2 has taken */
        size_t promised_queue, promised_source;
        struct sl_chain queue;
        size_t n_queued; /* messages */
        uint64_t progress_ns;
        size_t n_sent; /* messages ever queued */
        struct sl_header_list trailers;
        struct sl_h2_header bare_trailer; /* when there is nothing but grpc-status */
        void *reply;
        struct sl_slice reply_bytes;
    } out;

    const struct sl_route *route;
    struct sl_list in_conn, in_gaps, in_waiting;
    struct sl_list watches; /* sl_call_watch */
    struct sl_call *next_ready;
    uint64_t id;
    struct sl_call_end end; /* for on_ended */
    uint32_t n_intercepted;

    struct sl_arena arena;
    struct sl_metadata metadata, headers, trailers;
    const struct sl_call_identity *identity; /* of an interceptor; NULL: none */
    struct sl_slice content_type;
    char *path; /* of the fallback; NULL: the route's */
    sl_encoding_set accepted;
    enum sl_encoding encoding; /* of what is sent */
    uint32_t previous_attempts;
    uint64_t started_ns, timeout_ns, deadline_ns;
    struct sl_timer deadline;
    struct sl_call_callbacks callbacks;
    void *user_data;

    struct {
        struct sl_slice encoding;       /* grpc-encoding */
        struct sl_frame_reader *reader; /* NULL: no DATA so far, or the request is complete */
        struct sl_buf bytes;            /* of the request, once it is complete */
        bool is_left;                   /* `bytes` is a stream's last message instead */
        struct sl_slice request;
        void *decoded;
        struct sl_message *message; /* of the last recv */
        uint64_t gap_since_ns;
    } in;

    struct sl_call_status failure;   /* strings are in the arena */
    struct sl_metadatum *known_info; /* of the status that the handler gave, in the arena */
    size_t n_known_info;
    struct sl_error *fault; /* what recv failed with, in the arena */
};

/* ---- call.c ---------------------------------------------------------------------------------- */

/* A call in stage REQUEST, owned by its stream and its handler. NULL: no memory. */
struct sl_call *
sl_call_new(struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_route *route);
/* Releases the record when nothing needs it any more. */
void sl_call_release(struct sl_call *call);
void sl_call_raise(struct sl_call *call, enum sl_call_event event);
/* Runs the events that are raised; the call may be gone afterwards. */
void sl_call_dispatch(struct sl_call *call);
bool sl_call_is_streaming_in(const struct sl_call *call);
/* Its method has one reply. */
static inline bool sl_call_has_one_reply(const struct sl_call *call)
{
    return call->route->kind == SL_UNARY || call->route->kind == SL_CLIENT_STREAMING;
}
/* Interceptors see a message. Not SL_OK: one of them does not let it in. */
enum sl_status sl_call_show_in(struct sl_call *call, struct sl_slice message);
void sl_call_show_out(struct sl_call *call, struct sl_slice message);
/* May the handler send? Gives the status for the sender otherwise. */
enum sl_status sl_call_check_open(const struct sl_call *call);

/* A handler on the pool calls, on its thread; NULL: whoever calls owns the call. */
static inline struct sl_pool_call *sl_call_hand(const struct sl_call *call)
{
    return call->pooled != NULL && sl_pool_call_is_here(call->pooled) ? call->pooled : NULL;
}

/* ---- call_recv.c ----------------------------------------------------------------------------- */

/* Starts the timer for silence in the request, or starts it anew, or stops it (CM-13). */
void sl_call_watch_gap(struct sl_call *call);
void sl_call_on_data(struct sl_call *call, struct sl_slice bytes);
void sl_call_on_end_stream(struct sl_call *call);
/* Keeps what went wrong, so that a handler that finishes with this code says why. Gives the code.
 */
enum sl_status sl_call_keep_fault(struct sl_call *call, const struct sl_error *err);
/* Decodes for either side of the call; `err` says what is wrong with the bytes, and nothing when
 * the method has no types. Thread: any. */
enum sl_status sl_call_decode(
    const struct sl_call *call,
    struct sl_slice bytes,
    struct sl_arena *arena,
    void **ret_message,
    struct sl_error *err);
/* Makes `message`, or its arena anew, for what is decoded next. Thread: its owner. */
enum sl_status sl_call_ready_message(const struct sl_call *call, struct sl_message **message);
/* Gives the request's memory and the window's bytes back. */
void sl_call_recv_done(struct sl_call *call);

/* ---- call_send.c ----------------------------------------------------------------------------- */

void sl_call_send_init(struct sl_call *call);
/* Submits HEADERS with the body. */
enum sl_status sl_call_submit_headers(struct sl_call *call);
/* Queues without asking for room. `size`: of the message when it is encoded. */
enum sl_status sl_call_queue_message(struct sl_call *call, const void *message, size_t size);
enum sl_status sl_call_queue_bytes(struct sl_call *call, struct sl_slice message);
/* There is something to send, or the end. */
void sl_call_wake_body(struct sl_call *call);
/* Its source hears how many streams the connection has. */
void sl_call_tell_streams(struct sl_call *call, size_t n_streams);
/* Drops what is queued. */
void sl_call_send_drop(struct sl_call *call);
bool sl_call_at_border(const struct sl_call *call);
/* Follows `n` bytes; gives the messages that end in them. */
size_t sl_border_advance(struct sl_border *border, const uint8_t *bytes, size_t n);

/* ---- call_room.c ----------------------------------------------------------------------------- */

/* The call's queue had `size_before` bytes. */
void sl_call_count_queued(struct sl_call *call, size_t size_before);
/* Is there room for a message of `size` bytes, prefix included? SL_OK; SL_AGAIN: it comes, with
 * SL_EVENT_WRITABLE. */
enum sl_status sl_call_ask_room(struct sl_call *call, size_t size);
/* The same for a reply, which cannot wait. */
bool sl_call_has_reply_room(const struct sl_call *call, size_t size);
/* May its handler start? False: SL_EVENT_START comes again when its connection has sent replies. */
bool sl_call_may_start(struct sl_call *call);
/* Something of its queue was sent. */
void sl_call_tell_writable(struct sl_call *call);
/* Its reader, which there must be, got or gave bytes. */
void sl_call_count_received(struct sl_call *call);
/* May what its reader holds stay? False: all connections together hold too much. */
bool sl_call_has_receive_room(const struct sl_call *call);

/* ---- call_end.c ------------------------------------------------------------------------------ */

/* The stream is gone. */
void sl_call_on_closed(struct sl_call *call, enum sl_h2_close how, uint32_t code);
/* Refuses a call whose handler has not started. */
void sl_call_refuse(struct sl_call *call, const struct sl_call_status *status);
void sl_call_deadline_passed(struct sl_call *call);
/* FC-9. */
void sl_call_stalled(struct sl_call *call);
/* Silence inside a request message (CM-13). */
void sl_call_gap_passed(struct sl_call *call);
/* Drain, first: the handler is told and may finish by itself. */
void sl_call_drain(struct sl_call *call);
/* Drain, then: ended with UNAVAILABLE. */
void sl_call_force(struct sl_call *call);
/* Handler's side is over: `given` decides what is sent. */
void sl_call_complete(struct sl_call *call, const struct sl_call_status *given);

/* The reason that goes with a fault of what the client sent. */
const char *sl_call_fault_reason(const struct sl_call *call, const struct sl_error *err);

/* Trailers-Only, without a call (ADM-16): the header list is on the stack. `http_status`: "200".
 * `text` may be NULL. */
struct sl_refusal {
    const char *http_status;
    struct sl_slice content_type; /* empty: application/grpc */
    struct sl_call_status status;
    bool is_http_only; /* no grpc-status (415) */
    bool lists_encodings;
};
void sl_refusal_send(
    struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_refusal *refusal);

#endif
