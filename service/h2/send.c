/* Frames that go: nghttp2's callbacks inside sl_h2_session_pull().
 *
 * A body is asked when nghttp2 is about to send DATA of its stream, is told the room that the
 * window and the block leave, and copies straight into the block. mem_send() does not return
 * between the question and the copy, so what was promised is always taken. */
#include "runtime/base/log.h"
#include "service/h2/session_impl.h"

/* Few are armed at once, so that one is sent while what belongs to it is still in the cache, and
 * nghttp2's queue stays short. */
enum { ARMED_AT_ONCE = 8, ARMED_WITHOUT_MEMORY = 8 };

/* nghttp2's structs lack const; it does not write through these pointers. */
static uint8_t *without_const(const uint8_t *bytes)
{
    union {
        const uint8_t *in;
        uint8_t *out;
    } pointer = { .in = bytes };
    static const uint8_t nothing[1];
    if (bytes == NULL) {
        pointer.in = nothing;
    }
    return pointer.out;
}

static size_t list_bytes(const struct sl_h2_header *fields, size_t n_fields)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n_fields; i++) {
        bytes += fields[i].name.size + fields[i].value.size + 32;
    }
    return bytes;
}

enum sl_status sl_h2_fields_init(
    struct sl_h2_fields *list,
    struct sl_h2_session *session,
    const struct sl_h2_header *fields,
    size_t n_fields,
    bool is_copied)
{
    if (list_bytes(fields, n_fields) > sl_h2_session_header_room(session)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    list->nva = list->few;
    list->n = n_fields;
    if (n_fields > SL_COUNT(list->few)) {
        list->nva = sl_calloc(n_fields, sizeof(*list->nva));
        if (list->nva == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    for (size_t i = 0; i < n_fields; i++) {
        const struct sl_h2_header *field = &fields[i];
        unsigned flags = is_copied ? NGHTTP2_NV_FLAG_NONE
                                   : NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
        if (field->is_secret) {
            flags |= NGHTTP2_NV_FLAG_NO_INDEX;
        }
        list->nva[i] = (nghttp2_nv){ .name = without_const(field->name.data),
                                     .namelen = field->name.size,
                                     .value = without_const(field->value.data),
                                     .valuelen = field->value.size,
                                     .flags = (uint8_t)flags };
    }
    return SL_OK;
}

void sl_h2_fields_done(struct sl_h2_fields *list)
{
    if (list->nva != list->few) {
        list->nva = sl_free(list->nva);
    }
}

static size_t room_left(const struct sl_h2_session *session)
{
    return session->room.size - session->room.used;
}

/* The largest DATA frame now: both windows, the peer's frame size, the block. */
static ssize_t data_length(
    nghttp2_session *ng,
    uint8_t type,
    int32_t stream_id,
    int32_t session_window,
    int32_t stream_window,
    uint32_t max_frame_size,
    void *user_data)
{
    (void)ng;
    (void)type;
    (void)stream_id;
    const struct sl_h2_session *session = user_data;
    int64_t n = session_window < stream_window ? session_window : stream_window;
    if (n > (int64_t)max_frame_size) {
        n = (int64_t)max_frame_size;
    }
    if (n > SL_H2_DATA_MAX) {
        n = SL_H2_DATA_MAX;
    }
    const size_t left = room_left(session);
    if (left >= SL_H2_ROOM_MIN && n > (int64_t)(left - SL_H2_FRAME_HEAD)) {
        n = (int64_t)(left - SL_H2_FRAME_HEAD);
    }
    return (ssize_t)n;
}

/* The body ends behind this frame: the trailers follow at once (RS-8), or END_STREAM is on it. */
static int end_body(struct sl_h2_stream *stream, uint32_t *flags)
{
    struct sl_h2_session *session = stream->session;
    const struct sl_h2_header *fields = NULL;
    const size_t n_fields =
        stream->body->trailers == NULL ? 0 : stream->body->trailers(stream->body, &fields);
    stream->is_body_over = true;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (n_fields == 0) {
        return 0;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    struct sl_h2_fields list;
    if (sl_h2_fields_init(&list, session, fields, n_fields, false) != SL_OK) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM(INTERNAL_ERROR), RS-9 */
    }
    const int rv = nghttp2_submit_trailer(session->ng, stream->id, list.nva, list.n);
    sl_h2_fields_done(&list);
    return rv == 0 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static ssize_t read_body(
    nghttp2_session *ng,
    int32_t stream_id,
    uint8_t *buffer, // NOLINT(readability-non-const-parameter): nghttp2's signature
    size_t max,
    uint32_t *flags,
    nghttp2_data_source *source,
    void *user_data)
{
    (void)ng;
    (void)stream_id;
    (void)buffer;
    struct sl_h2_session *session = user_data;
    struct sl_h2_stream *stream = source->ptr;
    if (room_left(session) < SL_H2_ROOM_MIN) {
        session->room.is_full = true;
        return NGHTTP2_ERR_PAUSE;
    }
    stream->is_deferred = true; /* a resume from inside ready() is then not lost */
    if (stream->is_body_over || stream->is_reset) {
        return NGHTTP2_ERR_DEFERRED; /* aborted: only the trailers or the reset follow */
    }
    bool is_last = false;
    const size_t n = stream->body->ready(stream->body, max, &is_last);
    if ((n == 0 && !is_last) || stream->is_reset) {
        return NGHTTP2_ERR_DEFERRED;
    }
    if (stream->has_sent && !sl_list_is_empty(&session->resumed)) {
        sl_list_remove(&stream->resumed);
        sl_list_add_last(&session->resumed, &stream->resumed);
        return NGHTTP2_ERR_DEFERRED; /* it goes on behind those that wait to be armed (FC-8) */
    }
    stream->has_sent = true;
    stream->is_deferred = false;
    sl_list_remove(&stream->resumed);
    stream->is_cut_small = n == max && n < SL_H2_DATA_SMALL;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (is_last) {
        const int rv = end_body(stream, flags);
        if (rv != 0) {
            return rv;
        }
    }
    return (ssize_t)n;
}

static int send_data(
    nghttp2_session *ng,
    nghttp2_frame *frame,
    const uint8_t *head,
    size_t size,
    nghttp2_data_source *source,
    void *user_data)
{
    (void)ng;
    (void)frame;
    struct sl_h2_session *session = user_data;
    struct sl_h2_stream *stream = source->ptr;
    if (room_left(session) < SL_H2_FRAME_HEAD + size) {
        return NGHTTP2_ERR_CALLBACK_FAILURE; /* data_length() makes sure that it never is */
    }
    uint8_t *room = session->room.data + session->room.used;
    memcpy(room, head, SL_H2_FRAME_HEAD);
    if (size > 0) {
        stream->body->take(stream->body, room + SL_H2_FRAME_HEAD, size);
        stream->is_data_sent = true;
    }
    session->room.used += SL_H2_FRAME_HEAD + size;
    if (room_left(session) < SL_H2_ROOM_MIN) {
        session->room.is_full = true;
        return NGHTTP2_ERR_PAUSE;
    }
    return 0;
}

static int arm(struct sl_h2_stream *stream)
{
    struct sl_h2_session *session = stream->session;
    stream->has_sent = false;
    if (stream->has_item) {
        stream->is_deferred = false;
        const int rv = nghttp2_session_resume_data(session->ng, stream->id);
        return nghttp2_is_fatal(rv) ? rv : 0;
    }
    bool is_last = false;
    if (stream->body->ready(stream->body, SL_H2_DATA_MAX, &is_last) == 0 && !is_last) {
        return 0;
    }
    const nghttp2_data_provider provider = { .source.ptr = stream, .read_callback = read_body };
    const int rv = nghttp2_submit_data(session->ng, NGHTTP2_FLAG_END_STREAM, stream->id, &provider);
    stream->has_item = rv == 0;
    return nghttp2_is_fatal(rv) ? rv : 0;
}

/* Without memory only a few streams are armed at once, when nghttp2 has sent what it had: then what
 * one end took from the reserve is there again for the next (NG-21). */
static size_t most_armed(const struct sl_h2_session *session, bool is_dry)
{
    const bool is_short = session->reserve != NULL && session->reserve->n_blocks > 0;
    if (!is_short) {
        return ARMED_AT_ONCE;
    }
    return is_dry ? ARMED_WITHOUT_MEMORY : 0;
}

int sl_h2_send_resumed(struct sl_h2_session *session, bool is_dry)
{
    size_t n_armed = 0;
    for (struct sl_list *node; (node = sl_list_first(&session->resumed)) != NULL;) {
        struct sl_h2_stream *stream = SL_CONTAINER(node, struct sl_h2_stream, resumed);
        if (++n_armed > most_armed(session, is_dry)) {
            return 0;
        }
        sl_list_remove(node);
        if (!stream->is_body_over && !stream->is_reset) {
            const int rv = arm(stream);
            if (rv != 0) {
                return rv;
            }
        }
    }
    return 0;
}

/* The server's side has ended; a client that still sends is told to stop (NG-12, RS-7). */
static int end_by_us(struct sl_h2_stream *stream)
{
    struct sl_h2_session *session = stream->session;
    stream->is_end_sent = true;
    stream->is_body_over = true;
    session->callbacks.on_sent_end(session->user, stream);
    if (session->is_client || stream->is_half_closed || stream->is_reset) {
        return 0;
    }
    return sl_h2_stream_refuse(stream, NGHTTP2_NO_ERROR);
}

static int sent_headers(struct sl_h2_stream *stream, bool is_end)
{
    stream->is_headers_sent = true;
    if (is_end) {
        return end_by_us(stream);
    }
    sl_h2_stream_resume(stream);
    return 0;
}

static int sent_reset(struct sl_h2_session *session, struct sl_h2_stream *stream, uint32_t code)
{
    session->stats.resets_out++;
    if (stream != NULL && !stream->has_how) {
        stream->has_how = true;
        stream->how =
            code == NGHTTP2_NO_ERROR && stream->is_end_sent ? SL_H2_CLOSED_DONE : SL_H2_CLOSED_OURS;
        stream->close_code = code;
    }
    if (stream == NULL || !stream->is_half_closed) {
        sl_h2_police_cut_off(&session->police);
    }
    if (session->is_client || code == NGHTTP2_NO_ERROR || code == NGHTTP2_REFUSED_STREAM ||
        code == NGHTTP2_CANCEL) {
        return 0;
    }
    const char *budget = sl_h2_police_own_reset(&session->police, session->now_ns);
    return budget == NULL ? 0 : sl_h2_session_break(session, budget, SL_H2_ENHANCE_YOUR_CALM);
}

static const char *name_of_code(uint32_t code)
{
    switch (code) {
    case NGHTTP2_PROTOCOL_ERROR:
        return "protocol_error";
    case NGHTTP2_FLOW_CONTROL_ERROR:
        return "flow_control_error";
    case NGHTTP2_STREAM_CLOSED:
        return "stream_closed";
    case NGHTTP2_FRAME_SIZE_ERROR:
        return "frame_size_error";
    case NGHTTP2_COMPRESSION_ERROR:
        return "compression_error";
    default:
        return "internal_error"; /* nghttp2's own bucket of resets among others */
    }
}

static void sent_goaway(struct sl_h2_session *session, uint32_t code)
{
    if (session->n_goaways > 0) {
        session->n_goaways--;
        if (session->n_goaways == 0 && session->has_held_ping) {
            session->has_held_ping = false;
            /* Without memory it is lost, as on the wire: whoever waits for its ACK has a timer. */
            (void)sl_h2_session_submit_ping(session, session->held_ping);
        }
        return;
    }
    session->is_terminated = true;
    if (session->fault == NULL) {
        session->fault = name_of_code(code);
        session->fault_code = code;
    }
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data)
{
    struct sl_h2_session *session = user_data;
    const bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct sl_h2_stream *stream =
        frame->hd.stream_id == 0 ? NULL
                                 : nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    session->stats.frames_out++;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        sl_h2_police_sent(
            &session->police, frame->hd.length, stream != NULL && stream->is_cut_small);
        return stream != NULL && is_end ? end_by_us(stream) : 0;
    case NGHTTP2_HEADERS:
        sl_h2_police_sent(&session->police, 0, false);
        return stream != NULL ? sent_headers(stream, is_end) : 0;
    case NGHTTP2_RST_STREAM:
        return sent_reset(session, stream, frame->rst_stream.error_code);
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
            sl_h2_police_ping_sent(&session->police);
        }
        return 0;
    case NGHTTP2_GOAWAY:
        sent_goaway(session, frame->goaway.error_code);
        return 0;
    default:
        return 0;
    }
}

/* HEADERS that cannot be sent would leave the peer waiting for ever (NG-11). */
static int
on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *user_data)
{
    (void)user_data;
    struct sl_h2_stream *stream =
        frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat != NGHTTP2_HCAT_REQUEST
            ? nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id)
            : NULL;
    if (stream == NULL || stream->is_reset || error == NGHTTP2_ERR_SESSION_CLOSING) {
        return 0;
    }
    sl_log(
        SL_WARN, SL_LOG_H2,
        "msg=\"headers were not sent, the stream is reset\" stream=%d reason=%s", (int)stream->id,
        SL_LOG_QUOTE(sl_slice_str(nghttp2_strerror(error))));
    return sl_h2_stream_refuse(stream, NGHTTP2_INTERNAL_ERROR);
}

void sl_h2_send_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, data_length);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
}
