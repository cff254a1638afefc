/* What the user does with a call. With a private loop, functions that wait run it. */
#include "runtime/base/mem.h"
#include "service/rpc/client_impl.h"
#include "service/rpc/codec.h"
#include "service/rpc/status.h"

enum { CALL_MAGIC = 0x6363616C, MAX_MESSAGE_BYTES = 1 << 30 };

/* ---- Callbacks ------------------------------------------------------------------------------- */

void sl_client_call_notify(struct sl_client_call *call, bool is_readable, bool is_writable)
{
    call->own.owes_readable |= is_readable && call->options.on_readable != NULL;
    call->own.owes_writable |= is_writable && call->options.on_writable != NULL;
    const bool owes = call->own.owes_readable || call->own.owes_writable;
    if (owes && !call->own.is_user_gone && call->loop != NULL) {
        sl_loop_defer(call->loop, &call->own.notify);
    }
}

/* One callback a run: the call may be gone afterwards. */
static void run_notify(struct sl_task *task)
{
    struct sl_client_call *call = SL_CONTAINER(task, struct sl_client_call, own.notify);
    if (call->own.owes_writable) {
        call->own.owes_writable = false;
        if (call->own.owes_readable) {
            sl_loop_defer(call->loop, task);
        }
        call->options.on_writable(call, call->options.user_data);
        return;
    }
    if (call->own.owes_readable) {
        call->own.owes_readable = false;
        call->options.on_readable(call, call->options.user_data);
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void on_deadline(void *user_data)
{
    struct sl_client_call *call = user_data;
    sl_client_call_end(
        call, SL_DEADLINE_EXCEEDED, SL_ORIGIN_LOCAL, true, "the deadline has passed");
}

/* Checked and copied, because the request may be sent later. */
static enum sl_status copy_metadata(struct sl_client_call *call)
{
    for (size_t i = 0; i < call->options.n_metadata; i++) {
        const struct sl_metadatum *item = &call->options.metadata[i];
        SL_TRY(sl_metadata_add(&call->own.metadata, &call->own.arena, item->key, item->value));
    }
    call->options.metadata = NULL;
    call->options.n_metadata = 0;
    return SL_OK;
}

void sl_client_call_limit_deadline(struct sl_client_call *call, uint64_t timeout_ns)
{
    const uint64_t deadline_ns = sl_deadline_after(sl_loop_now_ns(call->loop), timeout_ns);
    if (deadline_ns < call->own.deadline_ns) {
        call->own.deadline_ns = deadline_ns;
    }
}

static void limit_ms(struct sl_client_call *call, uint64_t timeout_ms)
{
    if (timeout_ms > 0) {
        sl_client_call_limit_deadline(call, sl_client_ms_to_ns(timeout_ms));
    }
}

static void on_parent_over(struct sl_call_watch *watch)
{
    struct sl_client_call *call = SL_CONTAINER(watch, struct sl_client_call, own.watch);
    sl_client_call_end(
        call, SL_CANCELLED, SL_ORIGIN_LOCAL, true, "the call that this one was made for is over");
}

/* A private loop does not turn while its user waits: it could not hear of the parent's end. */
static enum sl_status follow_parent(struct sl_client_call *call)
{
    struct sl_call *parent = call->options.parent;
    if (parent == NULL) {
        return SL_OK;
    }
    const uint64_t left_ns = sl_call_remaining_ns(parent);
    if (left_ns != SL_NEVER_NS) {
        sl_client_call_limit_deadline(call, left_ns);
    }
    if (sl_channel_may_wait(call->own.channel)) {
        return SL_OK;
    }
    if (sl_call_loop(parent) !=
        (call->own.channel->transport->has_calls_time ? NULL : call->loop)) {
        return SL_FAILED_PRECONDITION;
    }
    if (sl_call_watch(parent, &call->own.watch) != SL_OK) {
        on_parent_over(&call->own.watch);
    }
    return SL_OK;
}

/* What the service config says of the method, and what the call itself does. */
static void set_method_config(struct sl_client_call *call)
{
    const struct sl_method_config *config =
        sl_client_config_find(call->own.channel, call->method->path);
    sl_client_retry_init(call, config == NULL ? NULL : &config->retry);
    limit_ms(call, call->options.timeout_ms);
    if (config != NULL) {
        limit_ms(call, config->timeout_ms);
        call->options.wait_for_ready |= config->wait_for_ready;
    }
}

static enum sl_status
set_options(struct sl_client_call *call, const struct sl_client_call_options *options)
{
    if (options == NULL) {
        return SL_OK;
    }
    const size_t size = options->struct_size;
    if (size == 0 || size > sizeof(*options)) {
        return SL_INVALID_ARGUMENT;
    }
    memcpy(&call->options, options, size);
    call->encoding = sl_encoding_parse(sl_slice_str(call->options.encoding));
    if (call->encoding == SL_ENCODING_UNKNOWN) {
        return SL_INVALID_ARGUMENT;
    }
    call->options.encoding = NULL;
    if (sl_channel_may_wait(call->own.channel)) { /* who waits needs no callbacks */
        call->options.on_readable = NULL;
        call->options.on_writable = NULL;
    }
    return copy_metadata(call);
}

static void free_call(struct sl_client_call *call)
{
    if (call->loop != NULL) {
        sl_timer_stop(&call->own.deadline);
        sl_timer_stop(&call->own.retry.timer);
        sl_loop_undefer(call->loop, &call->own.notify);
    }
    sl_call_unwatch(&call->own.watch);
    sl_list_remove(&call->own.node);
    sl_frame_reader_done(&call->own.reader);
    sl_buf_done(&call->own.out);
    sl_arena_done(&call->own.message_arena);
    sl_arena_done(&call->own.arena);
    call->magic = 0;
    (void)sl_free(call);
}

static void init_call(
    struct sl_client_call *call, struct sl_channel *channel, const struct sl_method_desc *method)
{
    call->magic = CALL_MAGIC;
    call->method = method;
    call->loop = channel->loop;
    call->own.channel = channel;
    call->own.status = SL_PENDING;
    call->own.error.status = SL_PENDING;
    call->own.deadline_ns = SL_NEVER_NS;
    call->own.notify.run = run_notify;
    sl_list_init(&call->own.node);
    sl_list_init(&call->own.watch.node);
    call->own.watch.on_over = on_parent_over;
    sl_arena_init(&call->own.arena, 0);
    sl_arena_init(&call->own.message_arena, 0);
    sl_buf_init(&call->own.out, (size_t)2 * MAX_MESSAGE_BYTES);
    sl_frame_reader_init(&call->own.reader, (size_t)channel->limits.message_recv);
    sl_timer_init(&call->own.deadline, channel->loop, on_deadline, call);
    sl_client_call_init_body(call);
}

/* Through the interceptors, and into the line for a stream. */
static void start_call(struct sl_client_call *call)
{
    struct sl_error err;
    if (call->own.status != SL_PENDING) {
        return; /* the parent is over */
    }
    const enum sl_status status = sl_client_chain_start(call, &err);
    if (status != SL_OK) {
        sl_client_call_end(
            call, sl_rpc_status_clamp(status), SL_ORIGIN_LOCAL, true, "%s", err.text);
        return;
    }
    if (call->own.deadline_ns != SL_NEVER_NS) {
        sl_timer_start(&call->own.deadline, call->own.deadline_ns);
    }
    sl_list_add_last(&call->own.channel->own.waiting, &call->own.node);
    sl_channel_wake(call->own.channel);
}

enum sl_status sl_client_call_open(
    struct sl_channel *channel,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    struct sl_client_call **ret_call)
{
    struct sl_client_call *call = sl_calloc(1, sizeof(*call));
    if (call == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_channel_enter(channel);
    sl_channel_step(channel, false); /* a connection that ended meanwhile is seen first */
    init_call(call, channel, method);
    enum sl_status status = set_options(call, options);
    set_method_config(call);
    if (status == SL_OK) {
        status = follow_parent(call);
    }
    if (status != SL_OK) {
        free_call(call);
        return status;
    }
    start_call(call);
    *ret_call = call;
    return SL_OK;
}

void sl_client_call_release(struct sl_client_call *call)
{
    if (call->own.is_user_gone && call->own.stream == NULL) {
        free_call(call);
    }
}

void sl_client_call_orphan(struct sl_client_call *call)
{
    sl_client_call_end(call, SL_CANCELLED, SL_ORIGIN_LOCAL, true, "the channel was freed");
    sl_list_remove(&call->own.node);
    if (call->own.channel->transport->owns_loop) {
        sl_loop_undefer(call->loop, &call->own.notify);
        call->loop = NULL; /* it goes with the channel */
    }
    call->own.channel = NULL;
}

/* All of the answer is here, and its end was not asked for: whether it came first must not decide
 * what a user who cancels sees. */
static void drop_unread(struct sl_client_call *call)
{
    call->own.status = sl_fail(&call->own.error, SL_CANCELLED, "cancelled");
    call->own.error.origin = SL_ORIGIN_LOCAL;
    call->own.is_dropped = true;
    sl_frame_reader_done(&call->own.reader);
    sl_client_call_credit(call);
    sl_client_call_notify(call, true, true);
}

void sl_client_call_cancel(struct sl_client_call *call)
{
    struct sl_channel *channel = call->own.channel;
    sl_channel_enter(channel);
    if (call->own.status == SL_PENDING) {
        sl_client_call_end(call, SL_CANCELLED, SL_ORIGIN_LOCAL, true, "cancelled");
    } else if (!call->own.is_end_given && !call->own.is_dropped) {
        drop_unread(call);
    }
    if (channel != NULL) {
        sl_channel_step(channel, false); /* RST_STREAM goes out now */
    }
}

struct sl_client_call *sl_client_call_free(struct sl_client_call *call)
{
    if (call == NULL) {
        return NULL;
    }
    sl_channel_enter(call->own.channel);
    if (call->own.status == SL_PENDING) {
        sl_client_call_cancel(call);
    }
    call->own.is_user_gone = true;
    call->own.is_dropped = true;
    if (call->loop != NULL) {
        sl_loop_undefer(call->loop, &call->own.notify);
    }
    sl_client_call_release(call);
    return NULL;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static size_t n_queued(const struct sl_client_call *call)
{
    return call->own.out.size - call->own.out_at;
}

static bool is_single_answer(const struct sl_client_call *call)
{
    return call->method->kind == SL_UNARY || call->method->kind == SL_CLIENT_STREAMING;
}

/* What a call that is over gives. */
static enum sl_status final_status(struct sl_client_call *call)
{
    call->own.is_end_given = true;
    return call->own.status == SL_OK ? SL_END : call->own.status;
}

/* Room for a prefix and the message, plain. Nothing is sent before _queue(). */
static enum sl_status reserve_plain(struct sl_client_call *call, size_t size, uint8_t **ret_room)
{
    uint8_t *room;
    if (size > MAX_MESSAGE_BYTES) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(sl_buf_reserve(&call->own.out, SL_FRAME_PREFIX_BYTES + size, &room));
    sl_frame_write_prefix(room, false, (uint32_t)size);
    *ret_room = room + SL_FRAME_PREFIX_BYTES;
    return SL_OK;
}

/* Replaces the plain message at the end of the queue by its compressed form. */
static enum sl_status compress_last(struct sl_client_call *call, size_t at)
{
    struct sl_buf *out = &call->own.out;
    const size_t size = out->size - at - SL_FRAME_PREFIX_BYTES;
    if (call->encoding == SL_ENCODING_IDENTITY || call->own.is_plain || size == 0) {
        return SL_OK;
    }
    struct sl_buf packed;
    sl_buf_init(&packed, MAX_MESSAGE_BYTES);
    const struct sl_slice plain = sl_slice_of(out->data + at + SL_FRAME_PREFIX_BYTES, size);
    enum sl_status status = sl_compress(call->encoding, plain, &packed);
    if (status == SL_OK) {
        out->size = at + SL_FRAME_PREFIX_BYTES;
        sl_frame_write_prefix(out->data + at, true, (uint32_t)packed.size);
        status = sl_buf_add(out, sl_buf_slice(&packed));
    }
    sl_buf_done(&packed);
    return status;
}

/* Waits for room in the queue, or says that there is none. */
static enum sl_status wait_for_room(struct sl_client_call *call, size_t size)
{
    for (;;) {
        if (call->own.status != SL_PENDING) {
            return final_status(call);
        }
        if (call->own.is_send_closed) {
            return SL_FAILED_PRECONDITION;
        }
        if (n_queued(call) == 0 || n_queued(call) + size <= SL_CLIENT_QUEUE_BYTES) {
            return SL_OK;
        }
        if (!sl_channel_may_wait(call->own.channel)) {
            call->own.is_send_full = true;
            return SL_AGAIN;
        }
        sl_channel_step(call->own.channel, true);
    }
}

/* A queue that is never quite empty must not keep what it has sent. */
static void drop_sent(struct sl_client_call *call)
{
    if (!call->own.is_kept && call->own.out_at > SL_CLIENT_SENT_BYTES &&
        call->own.out_at > call->own.out.size / 2) {
        sl_buf_consume(&call->own.out, call->own.out_at);
        call->own.out_at = 0;
    }
}

typedef void(put_fn)(const void *source, size_t size, uint8_t *room);

static void put_bytes(const void *source, size_t size, uint8_t *room)
{
    if (size > 0) {
        memcpy(room, source, size);
    }
}

static void put_message(const void *source, size_t size, uint8_t *room)
{
    (void)size;
    sl_codec_proto.encode(source, room);
}

static enum sl_status
queue(struct sl_client_call *call, put_fn *put, const void *source, size_t size)
{
    sl_channel_enter(call->own.channel);
    SL_TRY(wait_for_room(call, size));
    drop_sent(call);
    const size_t at = call->own.out.size;
    uint8_t *room;
    enum sl_status status = reserve_plain(call, size, &room);
    if (status == SL_OK) {
        put(source, size, room);
        sl_buf_commit(&call->own.out, SL_FRAME_PREFIX_BYTES + size);
        sl_client_chain_message(call, sl_slice_of(room, size), false);
        status = compress_last(call, at);
    }
    if (status != SL_OK) {
        sl_client_call_end(
            call, SL_RESOURCE_EXHAUSTED, SL_ORIGIN_LOCAL, true,
            "no memory for a message of %zu bytes", size);
        return call->own.status;
    }
    sl_client_retry_count(call);
    if (call->own.stream != NULL) {
        sl_h2_stream_resume(call->own.stream);
    }
    return SL_OK;
}

enum sl_status sl_client_call_send(struct sl_client_call *call, const void *message)
{
    SL_TRY(queue(call, put_message, message, sl_codec_proto.encoded_size(message)));
    sl_channel_step(call->own.channel, false);
    return SL_OK;
}

enum sl_status sl_client_call_send_bytes(struct sl_client_call *call, struct sl_slice message)
{
    SL_TRY(queue(call, put_bytes, message.data, message.size));
    sl_channel_step(call->own.channel, false);
    return SL_OK;
}

void sl_client_call_set_compressing(struct sl_client_call *call, bool is_compressing)
{
    call->own.is_plain = !is_compressing;
}

void sl_client_call_close_send(struct sl_client_call *call)
{
    if (call->own.status != SL_PENDING || call->own.is_send_closed) {
        return;
    }
    sl_channel_enter(call->own.channel);
    call->own.is_send_closed = true;
    if (call->own.stream != NULL) {
        sl_h2_stream_resume(call->own.stream);
    }
    sl_channel_step(call->own.channel, false);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

/* Ends the call because of what was received. A status of the server's other than OK is the better
 * answer. */
static enum sl_status
refuse_answer(struct sl_client_call *call, enum sl_status status, const char *text)
{
    if (call->own.status == SL_OK) {
        call->own.status = sl_fail(&call->own.error, status, "%s", text);
        call->own.error.origin = SL_ORIGIN_PEER;
        call->own.is_dropped = true;
    }
    sl_client_call_end(call, status, SL_ORIGIN_PEER, true, "%s", text);
    return final_status(call);
}

static enum sl_status next_bytes(struct sl_client_call *call, struct sl_slice *ret_message)
{
    if (call->own.is_dropped) {
        return final_status(call);
    }
    struct sl_error err = { 0 };
    const enum sl_status status = sl_frame_reader_next(&call->own.reader, ret_message, &err);
    sl_client_call_credit(call);
    if (status == SL_OK && is_single_answer(call) && call->own.n_messages > 0) {
        return refuse_answer(
            call, SL_UNIMPLEMENTED, "the server answered with more than one message");
    }
    if (status == SL_OK) {
        call->own.n_messages++;
        call->own.is_packed = sl_frame_reader_is_compressed(&call->own.reader);
        sl_client_chain_message(call, *ret_message, true);
        return SL_OK;
    }
    if (status == SL_AGAIN || status == SL_END) {
        return call->own.status == SL_PENDING ? SL_AGAIN : final_status(call);
    }
    /* An encoding that was never offered is the server's fault: nothing is missing here. */
    return refuse_answer(call, status == SL_UNIMPLEMENTED ? SL_INTERNAL : status, err.text);
}

static enum sl_status wait_for_bytes(struct sl_client_call *call, struct sl_slice *ret_message)
{
    sl_channel_enter(call->own.channel);
    for (;;) {
        const enum sl_status status = next_bytes(call, ret_message);
        if (status != SL_AGAIN || !sl_channel_may_wait(call->own.channel)) {
            return status;
        }
        sl_channel_step(call->own.channel, true);
    }
}

enum sl_status sl_client_call_recv_bytes(struct sl_client_call *call, struct sl_slice *ret_message)
{
    return wait_for_bytes(call, ret_message);
}

enum sl_status sl_client_call_recv(struct sl_client_call *call, void **ret_message)
{
    struct sl_slice bytes = { 0 };
    const enum sl_status status = wait_for_bytes(call, &bytes);
    if (status != SL_OK) {
        return status;
    }
    const struct sl_channel *channel = call->own.channel;
    struct sl_limits limits;
    if (channel == NULL) {
        sl_limits_init(&limits);
    }
    struct sl_error err = { 0 };
    sl_arena_done(&call->own.message_arena);
    const enum sl_status decoded = sl_codec_proto.decode(
        channel == NULL ? &limits : &channel->limits, call->method->response_type, bytes,
        &call->own.message_arena, ret_message, &err);
    return decoded == SL_OK ? SL_OK : refuse_answer(call, decoded, err.text);
}

bool sl_client_call_is_compressed(const struct sl_client_call *call)
{
    return call->own.is_packed;
}

/* ---- State ----------------------------------------------------------------------------------- */

enum sl_status sl_client_call_status(const struct sl_client_call *call)
{
    return call->own.status;
}

const struct sl_error *sl_client_call_error(const struct sl_client_call *call)
{
    return &call->own.error;
}

struct sl_slice sl_client_call_details(const struct sl_client_call *call)
{
    return call->own.details;
}

const struct sl_metadata *sl_client_call_headers(struct sl_client_call *call)
{
    sl_channel_enter(call->own.channel);
    while (!call->own.has_headers && call->own.status == SL_PENDING &&
           sl_channel_may_wait(call->own.channel)) {
        sl_channel_step(call->own.channel, true);
    }
    return call->own.has_headers ? &call->own.headers : NULL;
}

const struct sl_metadata *sl_client_call_trailers(const struct sl_client_call *call)
{
    return &call->own.trailers;
}

void *sl_client_call_user(const struct sl_client_call *call)
{
    return call->options.user_data;
}

const struct sl_method_desc *sl_client_call_method(const struct sl_client_call *call)
{
    return call->method;
}

uint32_t sl_client_call_previous_attempts(const struct sl_client_call *call)
{
    return call->own.retry.n_retries;
}

/* ---- Unary ----------------------------------------------------------------------------------- */

enum sl_status sl_client_unary(
    struct sl_channel *channel,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    const void *request,
    void **ret_reply,
    struct sl_client_call **ret_call)
{
    *ret_call = NULL;
    if (!sl_channel_may_wait(channel)) {
        return SL_FAILED_PRECONDITION;
    }
    struct sl_client_call *call;
    SL_TRY(sl_client_call_open(channel, method, options, &call));
    *ret_call = call;
    /* Message and END_STREAM in one frame. */
    SL_TRY(queue(call, put_message, request, sl_codec_proto.encoded_size(request)));
    return sl_client_call_finish(call, ret_reply);
}

enum sl_status sl_client_call_finish(struct sl_client_call *call, void **ret_reply)
{
    const enum sl_method_kind kind = call->method->kind;
    if (call->own.channel == NULL && call->own.status != SL_PENDING) {
        return call->own.status; /* the channel is freed */
    }
    if (call->own.channel == NULL || !sl_channel_may_wait(call->own.channel) ||
        (kind != SL_UNARY && kind != SL_CLIENT_STREAMING)) {
        return SL_FAILED_PRECONDITION;
    }
    sl_client_call_close_send(call);
    void *reply;
    enum sl_status status = sl_client_call_recv(call, &reply);
    if (status != SL_OK) {
        return status;
    }
    struct sl_slice more;
    status = wait_for_bytes(call, &more);
    if (status != SL_END) {
        return status;
    }
    *ret_reply = reply;
    return SL_OK;
}
