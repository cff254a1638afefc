/* What a call sends. Messages wait in a queue that is bounded in bytes and in number (FC-3), or
 * stay with a source that the handler owns; HTTP/2 pulls both when there is room:
 *
 *   sl_call_send ─▶ queue ──┐
 *                           ├─▶ body: ready, take ─▶ DATA          queue first, at message borders
 *   source ─────────────────┘
 *
 * With an encoding, the source's messages are compressed one by one into the queue. */
#include "runtime/base/mem.h"
#include "service/rpc/call_impl.h"

enum {
    MESSAGE_MAX = INT32_MAX, /* PB-13 */
    STACK_FIELDS = 24,
    COMPRESS_SLACK = 64 * 1024 /* the compressor reserves more than it uses */
};

/* ---- Borders --------------------------------------------------------------------------------- */

/* Size of the message that begins here, or 0 when its end is not here. */
static size_t whole_message(const uint8_t *bytes, size_t n)
{
    if (n < SL_FRAME_PREFIX_BYTES) {
        return 0;
    }
    const size_t size = SL_FRAME_PREFIX_BYTES + ((size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 |
                                                 (size_t)bytes[3] << 8 | (size_t)bytes[4]);
    return size <= n ? size : 0;
}

size_t sl_border_advance(struct sl_border *border, const uint8_t *bytes, size_t n)
{
    size_t ended = 0;
    while (n > 0) {
        const size_t whole = border->n_prefix == 0 ? whole_message(bytes, n) : 0;
        if (whole > 0) {
            bytes += whole;
            n -= whole;
            ended++;
            continue;
        }
        if (border->n_prefix < SL_FRAME_PREFIX_BYTES) {
            border->length = border->n_prefix == 0 ? 0 : border->length << 8U | *bytes;
            border->n_prefix++;
            bytes++;
            n--;
            if (border->n_prefix == SL_FRAME_PREFIX_BYTES) {
                border->left = border->length;
            }
        } else {
            const size_t part = border->left < n ? border->left : n;
            border->left -= (uint32_t)part;
            bytes += part;
            n -= part;
        }
        if (border->n_prefix == SL_FRAME_PREFIX_BYTES && border->left == 0) {
            *border = (struct sl_border){ 0 };
            ended++;
        }
    }
    return ended;
}

bool sl_call_at_border(const struct sl_call *call)
{
    return call->out.border.n_prefix == 0;
}

/* ---- The stall timer's list: calls that have output, the one without progress longest first ----
 */

static void watch_stall(struct sl_call *call)
{
    sl_list_remove(&call->in_stalled);
    call->out.progress_ns = sl_conn_now_ns(call->conn);
    sl_list_add_last(&call->conn->stalled, &call->in_stalled);
}

void sl_call_wake_body(struct sl_call *call)
{
    if (call->stream == NULL || !call->has_headers || call->is_cut) {
        return;
    }
    if (sl_list_is_empty(&call->in_stalled)) {
        watch_stall(call);
        sl_conn_timers_arm(call->conn);
    }
    sl_h2_stream_resume(call->stream);
}

/* ---- The source, compressed -------------------------------------------------------------------
 */

static enum sl_status queue_frame(struct sl_call *call, struct sl_slice message, bool is_compressed)
{
    const size_t size = SL_FRAME_PREFIX_BYTES + message.size;
    uint8_t *room = sl_chain_reserve(&call->out.queue, &call->conn->pool, size);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_frame_write_prefix(room, is_compressed, (uint32_t)message.size);
    if (message.size > 0) {
        memcpy(room + SL_FRAME_PREFIX_BYTES, message.data, message.size);
    }
    sl_chain_commit(&call->out.queue, size);
    sl_call_count_queued(call, call->out.queue.size - size);
    call->out.n_queued++;
    return SL_OK;
}

/* Compressed when that makes it smaller; empty messages stay as they are (FR-10). */
static enum sl_status queue_encoded(struct sl_call *call, struct sl_slice message)
{
    if (call->encoding == SL_ENCODING_IDENTITY || call->is_plain || message.size == 0) {
        return queue_frame(call, message, false);
    }
    struct sl_buf packed;
    sl_buf_init(&packed, message.size + COMPRESS_SLACK);
    const bool is_smaller =
        sl_compress(call->encoding, message, &packed) == SL_OK && packed.size < message.size;
    const enum sl_status status = is_smaller ? queue_frame(call, sl_buf_slice(&packed), true)
                                             : queue_frame(call, message, false);
    sl_buf_done(&packed);
    return status;
}

/* Nothing that makes sense can follow on this stream. */
static void break_off(struct sl_call *call)
{
    call->is_cut = true;
    sl_h2_stream_reset(call->stream, SL_H2_INTERNAL_ERROR);
}

static size_t wanted_of(const struct sl_buf *raw)
{
    if (raw->size < SL_FRAME_PREFIX_BYTES) {
        return SL_FRAME_PREFIX_BYTES - raw->size;
    }
    const size_t length = (size_t)raw->data[1] << 24 | (size_t)raw->data[2] << 16 |
                          (size_t)raw->data[3] << 8 | raw->data[4];
    return SL_FRAME_PREFIX_BYTES + length - raw->size;
}

/* Moves what the source has of the current message; true: something was moved. */
static bool pull_piece(struct sl_call *call, struct sl_buf *raw, bool *ret_is_last)
{
    const size_t wanted = wanted_of(raw);
    const size_t n = call->out.source->ready(call->out.source, wanted, ret_is_last);
    uint8_t *room = NULL;
    if (n == 0) {
        return false;
    }
    if (sl_buf_reserve(raw, n, &room) != SL_OK) {
        break_off(call);
        return false;
    }
    call->out.source->take(call->out.source, room, n);
    sl_buf_commit(raw, n);
    if (raw->size < SL_FRAME_PREFIX_BYTES || wanted_of(raw) > 0) {
        return true;
    }
    const struct sl_slice message =
        sl_slice_of(raw->data + SL_FRAME_PREFIX_BYTES, raw->size - SL_FRAME_PREFIX_BYTES);
    if (queue_encoded(call, message) != SL_OK) {
        break_off(call);
        return false;
    }
    sl_buf_clear(raw);
    return true;
}

static bool has_plain_source(const struct sl_call *call)
{
    return call->out.source != NULL && call->out.reframe == NULL;
}

static void reframe(struct sl_call *call, size_t max)
{
    bool is_last = false;
    while (!call->is_cut && !is_last && call->out.queue.size < max &&
           pull_piece(call, call->out.reframe, &is_last)) {
    }
    if (is_last && call->out.reframe->size == 0) {
        call->is_promised_last = true; /* behind what is queued now */
    }
}

static void source_ended(struct sl_call *call)
{
    call->is_promised_last = false;
    call->is_source_done = true;
    sl_call_raise(call, SL_EVENT_SOURCE_DONE);
}

/* ---- The body -------------------------------------------------------------------------------- */

static struct sl_call *call_of(struct sl_h2_body *body)
{
    return SL_CONTAINER(body, struct sl_call, out.body);
}

static size_t body_ready(struct sl_h2_body *body, size_t max, bool *ret_is_last)
{
    struct sl_call *call = call_of(body);
    const bool has_source = call->out.source != NULL && !call->is_source_done;
    if (has_source && call->out.reframe != NULL && !call->is_promised_last) {
        reframe(call, max);
    }
    const bool is_in_source = call->is_in_source && !sl_call_at_border(call);
    size_t queued = call->out.queue.size < max ? call->out.queue.size : max;
    queued = is_in_source ? 0 : queued;
    call->out.promised_queue = queued;
    call->out.promised_source = 0;
    if (has_source && has_plain_source(call) && queued < max &&
        (is_in_source || queued == call->out.queue.size)) {
        bool is_last = false;
        call->out.promised_source =
            call->out.source->ready(call->out.source, max - queued, &is_last);
        call->is_promised_last = is_last;
    }
    const size_t n = call->out.promised_queue + call->out.promised_source;
    if (n == 0 && call->is_promised_last && call->out.queue.size == 0) {
        source_ended(call);
    }
    *ret_is_last = call->is_closing && queued == call->out.queue.size && !call->is_cut;
    if (n == 0 && !*ret_is_last) {
        sl_list_remove(&call->in_stalled); /* nothing waits */
    }
    return n;
}

static void count_sent(const struct sl_call *call, size_t n_messages)
{
    if (n_messages > 0) {
        SL_RPC_COUNT(call->conn->counters, messages_out, n_messages);
        sl_metric_add(call->route->metrics.sent, n_messages);
    }
}

static void take_queued(struct sl_call *call, uint8_t *dst, size_t n)
{
    sl_chain_take(&call->out.queue, &call->conn->pool, dst, n);
    sl_call_count_queued(call, call->out.queue.size + n);
    const size_t ended = sl_border_advance(&call->out.border, dst, n);
    call->out.n_queued -= ended;
    call->out.promised_queue -= n;
    call->is_in_source = false;
    count_sent(call, ended);
    sl_call_tell_writable(call);
}

static void take_source(struct sl_call *call, uint8_t *dst, size_t n)
{
    call->out.source->take(call->out.source, dst, n);
    const size_t ended = sl_border_advance(&call->out.border, dst, n);
    call->out.promised_source -= n;
    call->is_in_source = true;
    count_sent(call, ended);
}

static void body_take(struct sl_h2_body *body, uint8_t *dst, size_t n)
{
    struct sl_call *call = call_of(body);
    const size_t queued = n < call->out.promised_queue ? n : call->out.promised_queue;
    if (queued > 0) {
        take_queued(call, dst, queued);
    }
    if (n > queued) {
        take_source(call, dst + queued, n - queued);
    }
    if (call->is_promised_last && call->out.promised_source == 0 && call->out.queue.size == 0) {
        source_ended(call);
    }
    watch_stall(call);
}

static size_t body_trailers(struct sl_h2_body *body, const struct sl_h2_header **ret_fields)
{
    struct sl_call *call = call_of(body);
    sl_list_remove(&call->in_stalled);
    call->is_trailed = true;
    *ret_fields = call->out.trailers.items;
    return call->out.trailers.n_items;
}

void sl_call_send_init(struct sl_call *call)
{
    call->out.body =
        (struct sl_h2_body){ .ready = body_ready, .take = body_take, .trailers = body_trailers };
}

void sl_call_send_drop(struct sl_call *call)
{
    const size_t n_dropped = call->out.queue.size;
    sl_list_remove(&call->in_stalled);
    sl_list_remove(&call->in_waiting);
    sl_chain_done(&call->out.queue, &call->conn->pool);
    sl_call_count_queued(call, n_dropped);
    call->out.n_queued = 0;
    call->out.promised_queue = call->out.promised_source = 0;
    call->out.source = NULL;
    call->is_promised_last = false;
    if (call->out.reframe != NULL) {
        sl_buf_done(call->out.reframe);
        call->out.reframe = NULL;
    }
}

/* ---- Headers --------------------------------------------------------------------------------- */

static struct sl_h2_header field(const char *name, struct sl_slice value)
{
    return (struct sl_h2_header){ .name = sl_slice_str(name), .value = value };
}

enum sl_status sl_call_submit_headers(struct sl_call *call)
{
    if (call->has_headers) {
        return SL_OK;
    }
    struct sl_h2_header room[STACK_FIELDS];
    struct sl_header_list list = { .items = room, .capacity = STACK_FIELDS };
    room[list.n_items++] = field(":status", sl_slice_str("200"));
    room[list.n_items++] = field("content-type", call->content_type);
    if (call->encoding != SL_ENCODING_IDENTITY) {
        const char *name = sl_encoding_name(call->encoding);
        room[list.n_items++] = field("grpc-encoding", sl_slice_str(name));
    }
    if (call->accepted != 0 || call->in.encoding.data != NULL) {
        room[list.n_items++] = field("grpc-accept-encoding", sl_slice_str(SL_ENCODINGS_ACCEPTED));
    }
    SL_TRY(sl_header_list_add_metadata(
        &list, &call->arena, call->headers.items, call->headers.n_items));
    const enum sl_status status =
        sl_h2_stream_respond(call->stream, list.items, list.n_items, &call->out.body);
    if (status != SL_OK) {
        return status;
    }
    call->has_headers = true;
    return SL_OK;
}

static enum sl_status
add(struct sl_call *call, struct sl_metadata *list, struct sl_slice key, struct sl_slice value)
{
    SL_TRY(sl_call_check_open(call));
    return sl_metadata_add(list, &call->arena, key, value);
}

enum sl_status sl_call_add_header(struct sl_call *call, struct sl_slice key, struct sl_slice value)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_add_header(pooled, key, value);
    }
    if (call->has_headers) {
        return SL_FAILED_PRECONDITION;
    }
    return add(call, &call->headers, key, value);
}

enum sl_status sl_call_add_trailer(struct sl_call *call, struct sl_slice key, struct sl_slice value)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_add_trailer(pooled, key, value);
    }
    return add(call, &call->trailers, key, value);
}

enum sl_status sl_call_set_encoding(struct sl_call *call, const char *encoding)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_set_encoding(pooled, encoding);
    }
    if (call->has_headers) {
        return SL_FAILED_PRECONDITION;
    }
    const enum sl_encoding parsed =
        sl_encoding_parse(encoding == NULL ? call->in.encoding : sl_slice_str(encoding));
    if (parsed == SL_ENCODING_UNKNOWN && encoding != NULL) {
        return SL_INVALID_ARGUMENT;
    }
    const bool is_usable =
        parsed != SL_ENCODING_UNKNOWN && sl_encoding_set_has(call->accepted, parsed);
    call->encoding = is_usable ? parsed : SL_ENCODING_IDENTITY;
    return SL_OK;
}

void sl_call_set_compressing(struct sl_call *call, bool is_compressing)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        sl_pool_call_set_compressing(pooled, is_compressing);
        return;
    }
    call->is_plain = !is_compressing;
}

enum sl_status sl_call_send_headers(struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_send_headers(pooled);
    }
    SL_TRY(sl_call_check_open(call));
    return sl_call_submit_headers(call);
}

/* ---- Messages -------------------------------------------------------------------------------- */

static enum sl_status encode_plain(struct sl_call *call, const void *message, size_t size)
{
    uint8_t *room =
        sl_chain_reserve(&call->out.queue, &call->conn->pool, SL_FRAME_PREFIX_BYTES + size);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_frame_write_prefix(room, false, (uint32_t)size);
    sl_codec_proto.encode(message, room + SL_FRAME_PREFIX_BYTES);
    sl_call_show_out(call, sl_slice_of(room + SL_FRAME_PREFIX_BYTES, size));
    sl_chain_commit(&call->out.queue, SL_FRAME_PREFIX_BYTES + size);
    sl_call_count_queued(call, call->out.queue.size - SL_FRAME_PREFIX_BYTES - size);
    call->out.n_queued++;
    return SL_OK;
}

static enum sl_status encode_packed(struct sl_call *call, const void *message, size_t size)
{
    uint8_t *room = sl_alloc(size);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_codec_proto.encode(message, room);
    sl_call_show_out(call, sl_slice_of(room, size));
    const enum sl_status status = queue_encoded(call, sl_slice_of(room, size));
    (void)sl_free(room);
    return status;
}

enum sl_status sl_call_queue_message(struct sl_call *call, const void *message, size_t size)
{
    if (size > MESSAGE_MAX) {
        return SL_RESOURCE_EXHAUSTED;
    }
    call->out.n_sent++;
    const bool is_plain = call->encoding == SL_ENCODING_IDENTITY || call->is_plain;
    return is_plain ? encode_plain(call, message, size) : encode_packed(call, message, size);
}

enum sl_status sl_call_queue_bytes(struct sl_call *call, struct sl_slice message)
{
    if (message.size > MESSAGE_MAX) {
        return SL_RESOURCE_EXHAUSTED;
    }
    call->out.n_sent++;
    sl_call_show_out(call, message);
    return queue_encoded(call, message);
}

/* Before a message of `size` bytes is queued. */
static enum sl_status prepare(struct sl_call *call, size_t size)
{
    SL_TRY(sl_call_check_open(call));
    if (sl_call_has_one_reply(call) && call->out.n_sent > 0) {
        return SL_FAILED_PRECONDITION;
    }
    SL_TRY(sl_call_ask_room(call, SL_FRAME_PREFIX_BYTES + size));
    return sl_call_submit_headers(call);
}

enum sl_status sl_call_send(struct sl_call *call, const void *message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_send(pooled, message);
    }
    const size_t size = sl_codec_proto.encoded_size(message); /* once: it costs depth x size */
    SL_TRY(prepare(call, size));
    SL_TRY(sl_call_queue_message(call, message, size));
    sl_call_wake_body(call);
    return SL_OK;
}

enum sl_status sl_call_send_bytes(struct sl_call *call, struct sl_slice message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_send_bytes(pooled, message);
    }
    SL_TRY(prepare(call, message.size));
    SL_TRY(sl_call_queue_bytes(call, message));
    sl_call_wake_body(call);
    return SL_OK;
}

/* ---- The source ------------------------------------------------------------------------------ */

enum sl_status sl_call_set_source(struct sl_call *call, struct sl_call_source *source)
{
    if (sl_call_hand(call) != NULL) {
        return SL_FAILED_PRECONDITION;
    }
    SL_TRY(sl_call_check_open(call));
    if (call->out.source != NULL) {
        return SL_FAILED_PRECONDITION;
    }
    if (call->encoding != SL_ENCODING_IDENTITY && call->out.reframe == NULL) {
        call->out.reframe = sl_arena_alloc(&call->arena, sizeof(*call->out.reframe));
        if (call->out.reframe == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        sl_buf_init(call->out.reframe, (size_t)MESSAGE_MAX + SL_FRAME_PREFIX_BYTES);
    }
    SL_TRY(sl_call_submit_headers(call));
    call->out.source = source;
    call->is_source_done = false;
    call->out.n_sent++;
    sl_call_tell_streams(call, sl_call_n_streams(call));
    sl_call_wake_body(call);
    return SL_OK;
}

void sl_call_tell_streams(struct sl_call *call, size_t n_streams)
{
    struct sl_call_source *source = call->out.source;
    if (source != NULL && source->on_streams != NULL) {
        source->on_streams(source, n_streams);
    }
}

void sl_call_resume(struct sl_call *call)
{
    if (sl_call_hand(call) == NULL && call->out.source != NULL) {
        sl_call_wake_body(call);
    }
}

bool sl_call_is_idle(struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_is_idle(pooled);
    }
    if (call->out.queue.size > 0) {
        return false;
    }
    if (call->out.source == NULL || call->is_source_done) {
        return true;
    }
    bool is_last = false;
    return sl_call_at_border(call) && call->out.source->ready(call->out.source, 1, &is_last) == 0;
}
