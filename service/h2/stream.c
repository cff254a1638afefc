#include "service/h2/session_impl.h"

int32_t sl_h2_stream_id(const struct sl_h2_stream *stream)
{
    return stream->id;
}

void sl_h2_stream_set_user(struct sl_h2_stream *stream, void *user)
{
    stream->user = user;
}

void *sl_h2_stream_user(const struct sl_h2_stream *stream)
{
    return stream->user;
}

enum sl_status sl_h2_stream_respond(
    struct sl_h2_stream *stream,
    const struct sl_h2_header *fields,
    size_t n_fields,
    struct sl_h2_body *body)
{
    struct sl_h2_session *session = stream->session;
    if (session->is_over || stream->is_reset) {
        return SL_CANCELLED;
    }
    if (session->is_client || stream->is_responded) {
        return SL_FAILED_PRECONDITION;
    }
    struct sl_h2_fields list;
    SL_TRY(sl_h2_fields_init(&list, session, fields, n_fields, true));
    const uint8_t flags = body == NULL ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE;
    const int32_t rv =
        nghttp2_submit_headers(session->ng, flags, stream->id, NULL, list.nva, list.n, NULL);
    sl_h2_fields_done(&list);
    if (rv < 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    stream->is_responded = true;
    stream->body = body;
    stream->is_body_over = body == NULL;
    sl_h2_session_tell(session);
    return SL_OK;
}

enum sl_status sl_h2_stream_abort(
    struct sl_h2_stream *stream, const struct sl_h2_header *trailers, size_t n_trailers)
{
    struct sl_h2_session *session = stream->session;
    if (session->is_over || stream->is_reset) {
        return SL_CANCELLED;
    }
    if (session->is_client || !stream->is_responded || stream->is_body_over) {
        return SL_FAILED_PRECONDITION;
    }
    struct sl_h2_fields list;
    SL_TRY(sl_h2_fields_init(&list, session, trailers, n_trailers, true));
    const int rv = nghttp2_submit_trailer(session->ng, stream->id, list.nva, list.n);
    sl_h2_fields_done(&list);
    if (rv != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    stream->is_body_over = true;
    sl_list_remove(&stream->resumed);
    sl_h2_session_tell(session);
    return SL_OK;
}

static enum sl_status from_ng(int32_t error)
{
    switch (error) {
    case NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE:
        return SL_UNAVAILABLE;
    default:
        return SL_RESOURCE_EXHAUSTED;
    }
}

bool sl_h2_session_has_room(const struct sl_h2_session *session)
{
    return session->n_streams < nghttp2_session_get_remote_settings(
                                    session->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

enum sl_status sl_h2_request(
    struct sl_h2_session *session,
    const struct sl_h2_header *fields,
    size_t n_fields,
    struct sl_h2_body *body,
    void *user,
    struct sl_h2_stream **ret_stream)
{
    if (session->is_over || nghttp2_session_check_request_allowed(session->ng) == 0) {
        return SL_UNAVAILABLE;
    }
    if (!sl_h2_session_has_room(session)) {
        return SL_AGAIN;
    }
    struct sl_h2_fields list;
    SL_TRY(sl_h2_fields_init(&list, session, fields, n_fields, true));
    struct sl_h2_stream *stream = sl_h2_stream_new(session, 0);
    if (stream == NULL) {
        sl_h2_fields_done(&list);
        return SL_RESOURCE_EXHAUSTED;
    }
    const uint8_t flags = body == NULL ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE;
    const int32_t id =
        nghttp2_submit_headers(session->ng, flags, -1, NULL, list.nva, list.n, stream);
    sl_h2_fields_done(&list);
    if (id < 0) {
        sl_list_remove(&stream->node);
        session->n_streams--;
        (void)sl_free(stream);
        return from_ng(id);
    }
    stream->id = id;
    stream->user = user;
    stream->body = body;
    stream->is_responded = true;
    stream->is_body_over = body == NULL;
    session->stats.streams_opened++;
    sl_h2_police_stream(&session->police);
    sl_h2_session_tell(session);
    *ret_stream = stream;
    return SL_OK;
}

void sl_h2_stream_resume(struct sl_h2_stream *stream)
{
    struct sl_h2_session *session = stream->session;
    if (session->is_over || !stream->is_headers_sent || stream->is_body_over || stream->is_reset) {
        return;
    }
    if ((stream->has_item && !stream->is_deferred) || !sl_list_is_empty(&stream->resumed)) {
        return; /* it is asked anyway */
    }
    sl_list_add_last(&session->resumed, &stream->resumed);
    sl_h2_session_tell(session);
}

int sl_h2_stream_refuse(struct sl_h2_stream *stream, uint32_t code)
{
    stream->is_reset = true;
    sl_list_remove(&stream->resumed);
    return nghttp2_submit_rst_stream(stream->session->ng, NGHTTP2_FLAG_NONE, stream->id, code);
}

void sl_h2_stream_reset(struct sl_h2_stream *stream, enum sl_h2_code code)
{
    struct sl_h2_session *session = stream->session;
    if (session->is_over || stream->is_reset) {
        return;
    }
    if (sl_h2_stream_refuse(stream, (uint32_t)code) != 0) {
        (void)sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
    }
    sl_h2_session_tell(session);
}

void sl_h2_stream_consume(struct sl_h2_stream *stream, size_t n)
{
    struct sl_h2_session *session = stream->session;
    if (session->is_over || n == 0) {
        return;
    }
    if (nghttp2_session_consume(session->ng, stream->id, n) != 0) {
        (void)sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
    }
    sl_h2_session_tell(session);
}

bool sl_h2_stream_is_blocked(const struct sl_h2_stream *stream)
{
    nghttp2_session *ng = stream->session->ng;
    return nghttp2_session_get_remote_window_size(ng) <= 0 ||
           nghttp2_session_get_stream_remote_window_size(ng, stream->id) <= 0;
}

bool sl_h2_stream_is_sent(const struct sl_h2_stream *stream)
{
    return stream->is_headers_sent;
}

bool sl_h2_stream_is_over_hard(const struct sl_h2_stream *stream)
{
    return stream->is_over_hard;
}

bool sl_h2_stream_is_half_closed(const struct sl_h2_stream *stream)
{
    return stream->is_half_closed;
}
