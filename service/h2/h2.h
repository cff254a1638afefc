/* One HTTP/2 connection without I/O, over nghttp2: bytes in, stream events out; bodies are pulled.
 *
 *   feed(bytes) ─▶ on_headers, on_data, on_end_stream, on_closed      (callbacks, inside feed)
 *   pull(room)  ◀─ HEADERS, DATA packed from sl_h2_body, control frames    (on_sent_end, on_closed)
 *
 * Each feed may leave output: pull after it. on_output tells of output that has other causes.
 *
 * Frames of all streams that are ready leave together in one pull: that is where the speed comes
 * from. The session also polices what the peer does (grpc.md section 3): it counts resets, PINGs,
 * SETTINGS, PRIORITY, WINDOW_UPDATE and empty DATA, and ends the connection over budget, naming the
 * reason. It knows nothing of gRPC. One owner thread; times are nanoseconds of one monotonic clock.
 */
#ifndef SL_SERVICE_H2_H2_H
#define SL_SERVICE_H2_H2_H

#include "runtime/base/limits.h"
#include "runtime/base/reserve.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_h2_session;
struct sl_h2_stream; /* valid from on_headers (or sl_h2_request) until on_closed returns */

struct sl_h2_header {
    struct sl_slice name, value;
    bool is_secret; /* sent with NO_INDEX: never enters a compression table */
};

enum sl_h2_headers_kind { SL_H2_REQUEST, SL_H2_RESPONSE, SL_H2_INFORMATIONAL, SL_H2_TRAILERS };

/* What a header block was: RFC 9113 checks are done, the list may be over a limit. */
struct sl_h2_headers {
    enum sl_h2_headers_kind kind;
    const struct sl_h2_header *fields; /* in the order of the wire; valid in the callback only */
    size_t n_fields;
    size_t list_bytes; /* sum of name + value + 32 (ADM-1); may exceed the soft limit */
    bool is_over_soft; /* fields behind the limit were counted, not kept */
    bool is_end;       /* END_STREAM */
};

/* How a stream ended, for its owner. */
enum sl_h2_close {
    SL_H2_CLOSED_DONE,  /* both sides ended in order */
    SL_H2_CLOSED_RESET, /* the peer sent RST_STREAM; `code` is its */
    SL_H2_CLOSED_OURS, /* we sent RST_STREAM (by request, or because the peer broke the protocol) */
    SL_H2_CLOSED_LOST, /* the connection went */
    SL_H2_CLOSED_UNPROCESSED /* client: refused, or above the GOAWAY id: never processed by the peer
                              */
};

/* Error codes of RFC 9113, section 7. */
enum sl_h2_code {
    SL_H2_NO_ERROR = 0,
    SL_H2_PROTOCOL_ERROR = 1,
    SL_H2_INTERNAL_ERROR = 2,
    SL_H2_FLOW_CONTROL_ERROR = 3,
    SL_H2_STREAM_CLOSED = 5,
    SL_H2_REFUSED_STREAM = 7,
    SL_H2_CANCEL = 8,
    SL_H2_ENHANCE_YOUR_CALM = 11
};

/* A body that is sent. Embedded in its owner, which the functions find by SL_CONTAINER. All are
 * called from inside sl_h2_session_pull() and must not call the session, except
 * sl_h2_stream_reset(). */
struct sl_h2_body {
    /* A question without effect, asked any number of times: bytes that can be sent now, at most
     * `max`; 0 with is_last false: nothing now, sl_h2_stream_resume() when there is.
     * `*ret_is_last`: the body ends behind these bytes (also with 0). */
    size_t (*ready)(struct sl_h2_body *body, size_t max, bool *ret_is_last);
    /* Copies exactly `n` bytes, n <= what ready said. They count as sent. */
    void (*take)(struct sl_h2_body *body, uint8_t *dst, size_t n);
    /* Behind the last byte: the trailers (RS-8); NULL or 0 fields: END_STREAM on the last DATA
     * frame instead. The fields must stay valid until the stream is closed. */
    size_t (*trailers)(struct sl_h2_body *body, const struct sl_h2_header **ret_fields);
};

struct sl_h2_callbacks {
    /* A header block is complete. Server: kind REQUEST makes a new stream; set its owner there. */
    void (*on_headers)(
        void *session_user, struct sl_h2_stream *stream, const struct sl_h2_headers *headers);
    /* DATA. Flow control: each byte must be given back exactly once by sl_h2_stream_consume(),
     * before or after the stream closed (then sl_h2_session_consume()). Padding is not the owner's
     * business. */
    void (*on_data)(void *session_user, struct sl_h2_stream *stream, struct sl_slice bytes);
    /* END_STREAM of the peer, after its last DATA or HEADERS. */
    void (*on_end_stream)(void *session_user, struct sl_h2_stream *stream);
    /* The stream is over; the last use of `stream`. `code`: RFC 9113 code where there was a reset.
     * Called once for every stream that on_headers or sl_h2_request gave, also on loss of the
     * connection and in sl_h2_session_free(). */
    void (*on_closed)(
        void *session_user, struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code);
    /* Trailers (or a body's last DATA with END_STREAM) have been handed to the output. */
    void (*on_sent_end)(void *session_user, struct sl_h2_stream *stream);
    /* The peer sent GOAWAY. May be NULL. */
    void (*on_goaway)(void *session_user, uint32_t code, struct sl_slice debug);
    /* The peer acknowledged a PING of ours (keepalive, drain). May be NULL. */
    void (*on_ping_ack)(void *session_user, uint64_t payload);
    /* Something to send appeared outside of feed and pull: pull soon. At most once between two
     * pulls. */
    void (*on_output)(void *session_user);
};

struct sl_h2_options {
    bool is_client;
    const struct sl_limits *limits; /* borrowed for the session's life */
    bool allow_pings_without_calls; /* CM-2 */
    /* What nghttp2 gets when the allocator refuses (NG-21); borrowed for the session's life, and
     * shared by the sessions of a loop. While it cannot be filled, new streams are refused. NULL:
     * none. */
    struct sl_reserve *reserve;
};

/* Attack reasons, for counters and logs: "rapid_reset", "own_resets", "ping_flood", … ; NULL: none.
 */
struct sl_h2_stats {
    uint64_t bytes_in, bytes_out, frames_in, frames_out, streams_opened, resets_in, resets_out,
        pings_in;
    uint64_t memory_bytes; /* held now: nghttp2's part (NG-20) and our streams */
};

/* Starts a session; SETTINGS (and a client's preface) are in the first pull. Settings:
 * INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE from the limits, ENABLE_PUSH 0
 * for clients. Owns: the caller; sl_h2_session_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_h2_session_new(
    const struct sl_h2_options *options,
    const struct sl_h2_callbacks *callbacks,
    void *session_user,
    struct sl_h2_session **ret_session);
/* Ends all streams as LOST first. Not from inside a callback. Accepts NULL; gives NULL. */
struct sl_h2_session *sl_h2_session_free(struct sl_h2_session *session);

/* Takes all bytes. Callbacks run inside. Fails: SL_UNAVAILABLE the connection is over (a fatal
 * protocol error or an attack; `err` names it): every stream was closed as LOST, pull what is left
 * (GOAWAY), close. Other protocol errors show in the next pull, which has the GOAWAY: then the
 * streams are closed as LOST and the fault is named there. */
SL_CHECK enum sl_status sl_h2_session_feed(
    struct sl_h2_session *session, struct sl_slice bytes, uint64_t now_ns, struct sl_error *err);

/* Fills `room` (at least 32 KiB; less only makes it slow) with the next output and gives its size;
 * 0: nothing to send now. What was given counts as sent. */
size_t sl_h2_session_pull(
    struct sl_h2_session *session, uint8_t *room, size_t room_bytes, uint64_t now_ns);

/* True when nothing will be read or written any more, or after a fatal error once all was pulled.
 */
bool sl_h2_session_wants_close(const struct sl_h2_session *session);
/* The reason of the fault or attack that ended the session; NULL: none. */
const char *sl_h2_session_fault(const struct sl_h2_session *session);
void sl_h2_session_stats(const struct sl_h2_session *session, struct sl_h2_stats *ret_stats);
/* Streams that are open (on_headers seen, on_closed not yet). */
size_t sl_h2_session_n_streams(const struct sl_h2_session *session);
/* For clients: the server's limit lets another stream begin. */
bool sl_h2_session_has_room(const struct sl_h2_session *session);
/* Frames that wait to be sent, but for DATA: they are bounded by reading no more (AT-7). */
size_t sl_h2_session_n_queued(const struct sl_h2_session *session);
/* True once the peer's first SETTINGS have arrived (the preface timer may stop). */
bool sl_h2_session_is_ready(const struct sl_h2_session *session);
/* True while a header block is unfinished (header block timer). */
bool sl_h2_session_in_headers(const struct sl_h2_session *session);
/* Header blocks that have begun. */
uint64_t sl_h2_session_n_header_blocks(const struct sl_h2_session *session);
/* The connection went away: every stream ends as LOST, in order; only free is allowed afterwards.
 */
void sl_h2_session_lost(struct sl_h2_session *session);
/* Connection-window credit for bytes of a stream that is closed already. */
void sl_h2_session_consume(struct sl_h2_session *session, size_t n);
/* A PING with this payload. Fails: SL_UNAVAILABLE, SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_h2_session_ping(struct sl_h2_session *session, uint64_t payload);
/* GOAWAY. First step of a drain: `last_is_max` (2^31-1, later streams are still accepted); second
 * step: the last accepted id, later streams are ignored (CM-5). */
void sl_h2_session_goaway(
    struct sl_h2_session *session, bool last_is_max, enum sl_h2_code code, const char *debug);
/* The largest header list (name + value + 32 each) that can be sent: what the peer's SETTINGS
 * allow, at most 65,000 bytes (RS-9). */
size_t sl_h2_session_header_room(const struct sl_h2_session *session);
/* Bytes of DATA the peer's connection window still allows. */
int32_t sl_h2_session_send_window(const struct sl_h2_session *session);

/* ---- Streams --------------------------------------------------------------------------------- */

int32_t sl_h2_stream_id(const struct sl_h2_stream *stream);
void sl_h2_stream_set_user(struct sl_h2_stream *stream, void *user);
void *sl_h2_stream_user(const struct sl_h2_stream *stream);

/* Server: the response's HEADERS. `body` NULL: END_STREAM on it (Trailers-Only). The fields are
 * copied; the body is borrowed until on_closed. A body with nothing ready costs nothing until it is
 * resumed (R8). Fails: SL_RESOURCE_EXHAUSTED over the peer's header list limit or 64 KiB (RS-9), or
 * no memory; SL_CANCELLED the stream is closed. */
SL_CHECK enum sl_status sl_h2_stream_respond(
    struct sl_h2_stream *stream,
    const struct sl_h2_header *fields,
    size_t n_fields,
    struct sl_h2_body *body);
/* Drops the body's unsent DATA and sends these trailers at once (deadline, stall, abort: RS-8). */
SL_CHECK enum sl_status sl_h2_stream_abort(
    struct sl_h2_stream *stream, const struct sl_h2_header *trailers, size_t n_trailers);
/* Client: opens a stream. Fails: SL_UNAVAILABLE no stream can be opened any more (GOAWAY, ids used
 * up); SL_AGAIN the peer's limit of streams is reached; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_h2_request(
    struct sl_h2_session *session,
    const struct sl_h2_header *fields,
    size_t n_fields,
    struct sl_h2_body *body,
    void *user,
    struct sl_h2_stream **ret_stream);
/* The body has something again. Cheap; may be called from anywhere on the thread. */
void sl_h2_stream_resume(struct sl_h2_stream *stream);
/* RST_STREAM. Harmless on a closed stream. on_closed follows, not inside this call. */
void sl_h2_stream_reset(struct sl_h2_stream *stream, enum sl_h2_code code);
/* Gives `n` received bytes back to the stream's and the connection's windows. */
void sl_h2_stream_consume(struct sl_h2_stream *stream, size_t n);
/* True when the peer's windows allow no DATA at all now. */
bool sl_h2_stream_is_blocked(const struct sl_h2_stream *stream);
/* Client: its HEADERS have been handed to the output, so the peer may know of it. Also in
 * on_closed. */
bool sl_h2_stream_is_sent(const struct sl_h2_stream *stream);
/* A header block of the peer was over header_list_hard or header_fields, which is why the stream
 * was reset. Also in on_closed. */
bool sl_h2_stream_is_over_hard(const struct sl_h2_stream *stream);
/* The peer has sent END_STREAM. */
bool sl_h2_stream_is_half_closed(const struct sl_h2_stream *stream);

#endif
