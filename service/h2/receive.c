/* Frames that come: nghttp2's callbacks inside sl_h2_session_feed(). */
#include "runtime/base/metrics.h"
#include "service/h2/session_impl.h"

enum { FIELDS_FIRST = 16, FIELDS_KEPT = 64, PING_BYTES = 8 };

/* ---- Header blocks --------------------------------------------------------------------------- */

static void clear_block(struct sl_h2_block *block)
{
    for (size_t i = 0; i < 2 * block->n_kept; i++) {
        nghttp2_rcbuf_decref(block->refs[i]);
    }
    block->n_kept = 0;
    block->n_seen = 0;
    block->list_bytes = 0;
    block->is_over_soft = false;
    block->is_refused = false;
}

void sl_h2_block_done(struct sl_h2_block *block)
{
    clear_block(block);
    block->fields = sl_free(block->fields);
    block->refs = sl_free(block->refs);
    block->capacity = 0;
}

static enum sl_status grow_block(struct sl_h2_block *block)
{
    if (block->n_kept < block->capacity) {
        return SL_OK;
    }
    const size_t capacity = block->capacity == 0 ? FIELDS_FIRST : 2 * block->capacity;
    struct sl_h2_header *fields = sl_realloc(block->fields, capacity * sizeof(*fields));
    if (fields == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    block->fields = fields;
    nghttp2_rcbuf **refs = sl_realloc(block->refs, 2 * capacity * sizeof(nghttp2_rcbuf *));
    if (refs == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    block->refs = refs;
    block->capacity = capacity;
    return SL_OK;
}

static struct sl_slice slice_of_ref(nghttp2_rcbuf *ref)
{
    const nghttp2_vec vec = nghttp2_rcbuf_get_buf(ref);
    return sl_slice_of(vec.base, vec.len);
}

static enum sl_status
keep_field(struct sl_h2_block *block, nghttp2_rcbuf *name, nghttp2_rcbuf *value, bool is_secret)
{
    SL_TRY(grow_block(block));
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    block->refs[2 * block->n_kept] = name;
    block->refs[2 * block->n_kept + 1] = value;
    block->fields[block->n_kept++] = (struct sl_h2_header){ .name = slice_of_ref(name),
                                                            .value = slice_of_ref(value),
                                                            .is_secret = is_secret };
    return SL_OK;
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data)
{
    (void)ng;
    struct sl_h2_session *session = user_data;
    clear_block(&session->block);
    /* NG-21: nothing new without a reserve for its end. */
    session->block.is_refused = frame->headers.cat == NGHTTP2_HCAT_REQUEST &&
                                session->reserve != NULL &&
                                sl_reserve_fill(session->reserve) != SL_OK;
    return 0;
}

/* RST_STREAM(INTERNAL_ERROR) follows. */
static int refuse_block(struct sl_h2_session *session, int32_t stream_id)
{
    sl_limit_reached(
        session->block.n_seen > session->limits->header_fields ? SL_LIMIT_header_fields
                                                               : SL_LIMIT_header_list_hard);
    struct sl_h2_stream *stream = nghttp2_session_get_stream_user_data(session->ng, stream_id);
    if (stream != NULL) {
        stream->is_over_hard = true;
    }
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_header(
    nghttp2_session *ng,
    const nghttp2_frame *frame,
    nghttp2_rcbuf *name,
    nghttp2_rcbuf *value,
    uint8_t flags,
    void *user_data)
{
    (void)ng;
    struct sl_h2_session *session = user_data;
    struct sl_h2_block *block = &session->block;
    block->n_seen++;
    block->list_bytes += slice_of_ref(name).size + slice_of_ref(value).size + 32;
    if (block->list_bytes > session->limits->header_list_hard ||
        block->n_seen > session->limits->header_fields) {
        return refuse_block(session, frame->hd.stream_id);
    }
    if (block->list_bytes > session->limits->header_list_soft) {
        block->is_over_soft = true;
        return 0;
    }
    const bool is_secret = (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0;
    if (block->is_refused || keep_field(block, name, value, is_secret) == SL_OK) {
        return 0;
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    block->is_refused = true;
    return 0;
}

/* A field that HTTP forbids makes the message malformed; nghttp2 would only leave it out. */
// NOLINTNEXTLINE(readability-function-size): nghttp2's signature
static int on_invalid_header(
    nghttp2_session *ng,
    const nghttp2_frame *frame,
    const uint8_t *name,
    size_t name_bytes,
    const uint8_t *value,
    size_t value_bytes,
    uint8_t flags,
    void *user_data)
{
    (void)ng;
    (void)frame;
    (void)name;
    (void)name_bytes;
    (void)value;
    (void)value_bytes;
    (void)flags;
    (void)user_data;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM(PROTOCOL_ERROR) */
}

/* What a block of a known stream is: 1xx and final responses have :status, trailers do not. */
static enum sl_h2_headers_kind kind_of(const struct sl_h2_block *block)
{
    for (size_t i = 0; i < block->n_kept; i++) {
        const struct sl_h2_header *field = &block->fields[i];
        if (sl_slice_equals(field->name, ":status")) {
            return field->value.size == 3 && field->value.data[0] == '1' ? SL_H2_INFORMATIONAL
                                                                         : SL_H2_RESPONSE;
        }
    }
    return SL_H2_TRAILERS;
}

static void end_by_peer(struct sl_h2_session *session, struct sl_h2_stream *stream)
{
    stream->is_half_closed = true;
    if (!stream->is_reset) {
        session->callbacks.on_end_stream(session->user, stream);
    }
}

/* Without memory for it. The client may try again elsewhere, or later (RT-4). */
static int refuse_stream(struct sl_h2_session *session, int32_t id)
{
    clear_block(&session->block);
    return nghttp2_submit_rst_stream(session->ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM) ==
                   0
               ? 0
               : sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
}

static int receive_headers(
    struct sl_h2_session *session, const nghttp2_frame *frame, struct sl_h2_stream *stream)
{
    struct sl_h2_block *block = &session->block;
    struct sl_h2_headers headers = { .fields = block->fields,
                                     .n_fields = block->n_kept,
                                     .list_bytes = block->list_bytes,
                                     .is_over_soft = block->is_over_soft,
                                     .is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 };
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        headers.kind = SL_H2_REQUEST;
        stream = block->is_refused ? NULL : sl_h2_stream_new(session, frame->hd.stream_id);
        if (stream == NULL) {
            return refuse_stream(session, frame->hd.stream_id);
        }
        (void)nghttp2_session_set_stream_user_data(session->ng, stream->id, stream);
        session->stats.streams_opened++;
        sl_h2_police_stream(&session->police);
    } else {
        headers.kind = kind_of(block);
    }
    if (stream != NULL && !stream->is_reset) {
        session->callbacks.on_headers(session->user, stream, &headers);
        if (headers.is_end) {
            end_by_peer(session, stream);
        }
    }
    clear_block(block);
    if (block->capacity > FIELDS_KEPT) {
        sl_h2_block_done(block);
    }
    return 0;
}

/* ---- Other frames ---------------------------------------------------------------------------- */

static int break_over_budget(struct sl_h2_session *session, const char *budget)
{
    return budget == NULL ? 0 : sl_h2_session_break(session, budget, SL_H2_ENHANCE_YOUR_CALM);
}

/* A server's: HEADERS for a stream that is over. (DATA of those is not told.) */
static bool is_for_closed(struct sl_h2_session *session, const nghttp2_frame_hd *head)
{
    if (session->is_client || head->type != NGHTTP2_HEADERS) {
        return false;
    }
    if (head->stream_id > session->last_id) {
        session->last_id = head->stream_id;
        return false;
    }
    const struct sl_h2_stream *stream =
        nghttp2_session_get_stream_user_data(session->ng, head->stream_id);
    return stream == NULL || stream->is_reset;
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *head, void *user_data)
{
    (void)ng;
    struct sl_h2_session *session = user_data;
    struct sl_h2_police *police = &session->police;
    if (head->type == NGHTTP2_PRIORITY) {
        return break_over_budget(session, sl_h2_police_priority(police));
    }
    if (head->type == NGHTTP2_WINDOW_UPDATE) {
        return break_over_budget(session, sl_h2_police_window_update(police));
    }
    if (is_for_closed(session, head)) {
        return break_over_budget(session, sl_h2_police_closed(police, head->length, false));
    }
    return 0;
}

static int on_data_chunk(
    nghttp2_session *ng,
    uint8_t flags,
    int32_t stream_id,
    const uint8_t *data,
    size_t size,
    void *user_data)
{
    (void)flags;
    struct sl_h2_session *session = user_data;
    struct sl_h2_stream *stream = nghttp2_session_get_stream_user_data(ng, stream_id);
    if (stream == NULL || stream->is_reset) {
        return nghttp2_session_consume(ng, stream_id, size) == 0
                   ? 0
                   : sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
    }
    session->n_data_taken += size;
    session->callbacks.on_data(session->user, stream, sl_slice_of(data, size));
    return 0;
}

static int receive_ping(struct sl_h2_session *session, const nghttp2_ping *ping)
{
    if ((ping->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
        uint64_t payload = 0;
        for (size_t i = 0; i < PING_BYTES; i++) {
            payload = payload << 8 | ping->opaque_data[i];
        }
        if (session->callbacks.on_ping_ack != NULL) {
            session->callbacks.on_ping_ack(session->user, payload);
        }
        return session->is_client
                   ? 0
                   : break_over_budget(session, sl_h2_police_ping_ack(&session->police));
    }
    session->stats.pings_in++;
    if (!session->is_client) {
        const char *budget =
            sl_h2_police_ping(&session->police, session->now_ns, session->n_streams > 0);
        if (budget != NULL) {
            return break_over_budget(session, budget);
        }
    }
    const int rv = nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_ACK, ping->opaque_data);
    if (rv == 0) {
        return 0;
    }
    return rv == NGHTTP2_ERR_FLOODED
               ? break_over_budget(session, sl_h2_fault_pings)
               : sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
}

static int receive_reset(struct sl_h2_session *session, struct sl_h2_stream *stream, uint32_t code)
{
    session->stats.resets_in++;
    if (stream == NULL) {
        return session->is_client
                   ? 0
                   : break_over_budget(session, sl_h2_police_closed(&session->police, 0, false));
    }
    const bool is_done = stream->is_end_sent && (!session->is_client || stream->is_half_closed);
    if (!stream->has_how) {
        stream->how = is_done ? SL_H2_CLOSED_DONE
                      : session->is_client && code == NGHTTP2_REFUSED_STREAM
                          ? SL_H2_CLOSED_UNPROCESSED
                          : SL_H2_CLOSED_RESET;
        stream->has_how = true;
        stream->close_code = code;
    }
    if (session->is_client || stream->is_data_sent || is_done) {
        return 0;
    }
    return break_over_budget(session, sl_h2_police_early_reset(&session->police, session->now_ns));
}

static int receive_settings(struct sl_h2_session *session, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
        return 0;
    }
    session->is_ready = true;
    return break_over_budget(session, sl_h2_police_settings(&session->police, session->now_ns));
}

static int receive_goaway(struct sl_h2_session *session, const nghttp2_goaway *goaway)
{
    if (session->callbacks.on_goaway != NULL) {
        session->callbacks.on_goaway(
            session->user, goaway->error_code,
            sl_slice_of(goaway->opaque_data, goaway->opaque_data_len));
    }
    return session->is_client ? 0
                              : break_over_budget(session, sl_h2_police_goaway(&session->police));
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data)
{
    struct sl_h2_session *session = user_data;
    struct sl_h2_stream *stream =
        frame->hd.stream_id == 0 ? NULL
                                 : nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        return receive_headers(session, frame, stream);
    case NGHTTP2_DATA:
        if (stream != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            end_by_peer(session, stream);
        }
        return 0;
    case NGHTTP2_RST_STREAM:
        return receive_reset(session, stream, frame->rst_stream.error_code);
    case NGHTTP2_SETTINGS:
        return receive_settings(session, frame);
    case NGHTTP2_PING:
        return receive_ping(session, &frame->ping);
    case NGHTTP2_GOAWAY:
        return receive_goaway(session, &frame->goaway);
    default:
        return 0;
    }
}

/* What nghttp2 answers by itself, with RST_STREAM or with the end of the connection, is counted: a
 * request that HTTP does not allow (AT-2, AT-20), a stream above the limit (AT-3). */
static int
on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *user_data)
{
    (void)ng;
    const struct sl_h2_session *session = user_data;
    if (session->is_client) {
        return 0;
    }
    if (error == NGHTTP2_ERR_REFUSED_STREAM) {
        sl_limit_reached(SL_LIMIT_streams_per_connection);
    } else if (
        error == NGHTTP2_ERR_HTTP_HEADER || error == NGHTTP2_ERR_HTTP_MESSAGING ||
        frame->hd.type == NGHTTP2_HEADERS) {
        SL_METRIC_ADD(sluice_refusals, 1, "request", "malformed");
    }
    return 0;
}

/* The end of a stream as nghttp2 knows it, in the words of our header. */
static enum sl_h2_close
how_of(const struct sl_h2_session *session, const struct sl_h2_stream *stream, uint32_t code)
{
    if (stream->has_how) {
        return stream->how;
    }
    if (session->is_terminated) {
        return SL_H2_CLOSED_LOST;
    }
    if (stream->is_reset) {
        return SL_H2_CLOSED_OURS;
    }
    if (code == NGHTTP2_NO_ERROR) {
        return SL_H2_CLOSED_DONE;
    }
    return session->is_client && code == NGHTTP2_REFUSED_STREAM ? SL_H2_CLOSED_UNPROCESSED
                                                                : SL_H2_CLOSED_OURS;
}

static int on_stream_close(nghttp2_session *ng, int32_t stream_id, uint32_t code, void *user_data)
{
    struct sl_h2_session *session = user_data;
    struct sl_h2_stream *stream = nghttp2_session_get_stream_user_data(ng, stream_id);
    if (stream == NULL) {
        return 0;
    }
    (void)nghttp2_session_set_stream_user_data(ng, stream_id, NULL);
    sl_h2_stream_close(stream, how_of(session, stream, code), code);
    return 0;
}

void sl_h2_receive_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
