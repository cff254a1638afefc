#include "service/rpc/pool_call.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "service/rpc/call_impl.h"

enum {
    FULL_RETRY_MS = 1000,
    OUTBOX_BYTES = 32 * 1024 /* more than this is not handed over at once; one message always is */
};

/* What the handler wants of the loop. `run` may give SL_AGAIN: then it is asked again when the call
 * is readable, writable or over. */
struct order {
    enum sl_status (*run)(struct sl_call *call, void *arguments);
    void *arguments;
};

/* What stands before each message of the outbox. */
struct record {
    size_t size;
    bool is_plain; /* it is not compressed */
};

struct sl_pool_call {
    struct sl_pool_work work;
    struct sl_task task;  /* an order on its way to the loop, or the handler's return */
    struct sl_task flush; /* messages on their way; shared.is_flushing guards it */
    struct sl_call *call;
    bool has_timeout;
    struct {
        struct sl_arena arena;
        const void *request;
        void *reply;
        struct sl_slice reply_bytes;
        bool has_reply;
        struct sl_message *message; /* of the last recv */
        bool is_packed;             /* it, or the request, came compressed */
        bool is_plain;              /* what is sent from now on is not compressed */
        struct sl_error fault;
        enum sl_status result;
    } hand; /* the handler's thread; the loop while that does not run or waits for an order */
    struct {
        struct order order;   /* while `is_waiting` */
        bool is_waiting;      /* the order waits for the call */
        bool is_told;         /* of the call's end */
        bool is_return_owed;  /* the handler has returned, and `outbox` is not empty */
        struct sl_buf outbox; /* taken from the shared one; sent up to `outbox_at` */
        size_t outbox_at;
    } loop;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        struct order order; /* the handler's, until it is answered */
        enum sl_status answer;
        bool is_answered;
        bool is_returned;
        enum sl_status end;   /* SL_OK: the call goes on */
        struct sl_buf outbox; /* what a stream sends: records, each with its message */
        bool is_flushing;
        enum sl_status unsent; /* why a message of the outbox was not sent */
    } shared;
};

static _Thread_local struct sl_pool_call *current;

bool sl_pool_call_is_here(const struct sl_pool_call *pooled)
{
    return pooled == current;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static struct sl_pool_call *new_pool_call(struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_calloc(1, sizeof(*pooled));
    if (pooled == NULL) {
        return NULL;
    }
    pooled->call = call;
    pooled->has_timeout = call->has_timeout;
    pooled->hand.is_packed = call->is_packed;
    pooled->hand.is_plain = call->is_plain;
    sl_list_init(&pooled->work.node);
    sl_arena_init(&pooled->hand.arena, call->arena.max_bytes);
    sl_buf_init(&pooled->loop.outbox, (size_t)INT32_MAX + OUTBOX_BYTES);
    sl_buf_init(&pooled->shared.outbox, (size_t)INT32_MAX + OUTBOX_BYTES);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&pooled->shared.changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&pooled->shared.lock, NULL);
    return pooled;
}

static void free_pool_call(struct sl_pool_call *pooled)
{
    (void)sl_message_free(pooled->hand.message);
    sl_arena_done(&pooled->hand.arena);
    sl_buf_done(&pooled->loop.outbox);
    sl_buf_done(&pooled->shared.outbox);
    (void)pthread_cond_destroy(&pooled->shared.changed);
    (void)pthread_mutex_destroy(&pooled->shared.lock);
    (void)sl_free(pooled);
}

/* The call is its loop's alone again, and over; it may be gone afterwards. */
static void finish(struct sl_pool_call *pooled, const struct sl_call_status *status)
{
    struct sl_call *call = pooled->call;
    call->pooled = NULL;
    sl_call_set_callbacks(call, NULL, NULL);
    sl_call_finish(call, status); /* copies what it needs of the reply */
    free_pool_call(pooled);
}

/* ---- The loop's side ------------------------------------------------------------------------- */

static void answer(struct sl_pool_call *pooled, enum sl_status status)
{
    pooled->loop.is_waiting = false;
    (void)pthread_mutex_lock(&pooled->shared.lock);
    pooled->shared.answer = status;
    pooled->shared.is_answered = true;
    (void)pthread_cond_signal(&pooled->shared.changed);
    (void)pthread_mutex_unlock(&pooled->shared.lock);
}

/* Who was told of the end is not told again, so nothing may wait any more. */
static void carry_out(struct sl_pool_call *pooled)
{
    const struct order *order = &pooled->loop.order;
    const enum sl_status status = order->run(pooled->call, order->arguments);
    if (status == SL_AGAIN && !pooled->loop.is_told) {
        pooled->loop.is_waiting = true;
        return;
    }
    answer(pooled, status == SL_AGAIN ? SL_UNAVAILABLE : status);
}

/* ---- The loop's side: what a stream sends ------------------------------------------------------
 */

/* A stream has no holes: behind a message that was not sent, none is. */
static enum sl_status send_one(struct sl_call *call, struct sl_slice message, bool is_plain)
{
    const enum sl_status unsent = call->pooled->shared.unsent; /* only the loop changes it */
    call->is_plain = is_plain;
    return unsent != SL_OK ? unsent : sl_call_send_bytes(call, message);
}

/* SL_AGAIN: the rest waits for room. */
static enum sl_status send_outbox(struct sl_pool_call *pooled)
{
    struct sl_buf *outbox = &pooled->loop.outbox;
    while (pooled->loop.outbox_at < outbox->size) {
        struct record record;
        const uint8_t *from = outbox->data + pooled->loop.outbox_at;
        memcpy(&record, from, sizeof(record));
        const struct sl_slice message = sl_slice_of(from + sizeof(record), record.size);
        SL_TRY(send_one(pooled->call, message, record.is_plain));
        pooled->loop.outbox_at += sizeof(record) + record.size;
    }
    return SL_OK;
}

/* Takes what the handler has given meanwhile, whose room is free then. False: nothing. */
static bool refill_outbox(struct sl_pool_call *pooled, enum sl_status unsent)
{
    sl_buf_clear(&pooled->loop.outbox);
    pooled->loop.outbox_at = 0;
    (void)pthread_mutex_lock(&pooled->shared.lock);
    const struct sl_buf empty = pooled->loop.outbox;
    pooled->loop.outbox = pooled->shared.outbox;
    pooled->shared.outbox = empty;
    if (unsent != SL_OK) {
        pooled->shared.unsent = unsent;
    }
    (void)pthread_cond_signal(&pooled->shared.changed);
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    return pooled->loop.outbox.size > 0;
}

/* True: nothing is left that could be sent. */
static bool flush(struct sl_pool_call *pooled)
{
    enum sl_status status = SL_OK;
    do {
        status = send_outbox(pooled);
        if (status == SL_AGAIN && !pooled->loop.is_told) {
            return false;
        }
        status = status == SL_AGAIN ? SL_UNAVAILABLE : status;
    } while (refill_outbox(pooled, status));
    return true;
}

static void run_flush(struct sl_task *task)
{
    struct sl_pool_call *pooled = SL_CONTAINER(task, struct sl_pool_call, flush);
    (void)pthread_mutex_lock(&pooled->shared.lock);
    pooled->shared.is_flushing = false;
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    (void)flush(pooled);
}

static void on_returned(struct sl_pool_call *pooled);

static void on_progress(struct sl_call *call, void *user_data)
{
    (void)call;
    struct sl_pool_call *pooled = user_data;
    const bool is_flushed = flush(pooled);
    if (pooled->loop.is_return_owed && is_flushed) {
        on_returned(pooled);
    } else if (pooled->loop.is_waiting) {
        carry_out(pooled);
    }
}

static enum sl_status status_of(enum sl_call_end_kind kind)
{
    switch (kind) {
    case SL_CALL_RESET:
        return SL_CANCELLED;
    case SL_CALL_DEADLINE:
        return SL_DEADLINE_EXCEEDED;
    case SL_CALL_LOST:
    case SL_CALL_DRAIN:
        break;
    }
    return SL_UNAVAILABLE;
}

/* A handler that has not begun never will. */
static bool take_back(struct sl_pool_call *pooled)
{
    struct sl_pool *pool = pooled->call->conn->server->pool;
    if (!pool->take_back(pool, &pooled->work)) {
        return false;
    }
    const struct sl_call_status status = { .code = SL_UNAVAILABLE,
                                           .message = "the server is shutting down",
                                           .reason = "DRAINING",
                                           .retry_delay_ms = SL_DRAIN_RETRY_MS };
    finish(pooled, &status); /* is heard after a drain only; every other end is decided */
    return true;
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct sl_pool_call *pooled = user_data;
    if (take_back(pooled)) {
        return;
    }
    pooled->loop.is_told = true;
    (void)pthread_mutex_lock(&pooled->shared.lock);
    pooled->shared.end = status_of(end->kind);
    (void)pthread_cond_signal(&pooled->shared.changed);
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    on_progress(call, pooled);
}

/* A handler that is content although a message was not sent has not seen it. */
static void on_returned(struct sl_pool_call *pooled)
{
    if (!flush(pooled)) {
        pooled->loop.is_return_owed = true;
        return;
    }
    struct sl_call *call = pooled->call;
    const bool is_lacking = pooled->hand.result == SL_OK && pooled->shared.unsent != SL_OK;
    struct sl_call_status status = { .code =
                                         is_lacking ? pooled->shared.unsent : pooled->hand.result };
    if (call->has_failure && call->failure.code == status.code) {
        status = call->failure;
    }
    call->is_plain = pooled->hand.is_plain;
    if (pooled->hand.has_reply) {
        call->out.reply_bytes = pooled->hand.reply_bytes;
        call->is_reply_raw = true;
    }
    if (pooled->hand.fault.status != SL_OK) {
        (void)sl_call_keep_fault(call, &pooled->hand.fault);
    }
    finish(pooled, &status);
}

static void run_task(struct sl_task *task)
{
    struct sl_pool_call *pooled = SL_CONTAINER(task, struct sl_pool_call, task);
    (void)pthread_mutex_lock(&pooled->shared.lock);
    const bool is_returned = pooled->shared.is_returned;
    pooled->loop.order = pooled->shared.order;
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    if (is_returned) {
        on_returned(pooled);
    } else {
        carry_out(pooled);
    }
}

/* ---- The handler's side ---------------------------------------------------------------------- */

/* Waits until the loop has carried the order out, and gives its status. */
static enum sl_status
ask(struct sl_pool_call *pooled,
    enum sl_status (*run)(struct sl_call *call, void *arguments),
    void *arguments)
{
    (void)pthread_mutex_lock(&pooled->shared.lock);
    pooled->shared.order = (struct order){ .run = run, .arguments = arguments };
    pooled->shared.is_answered = false;
    sl_loop_post(pooled->call->conn->loop, &pooled->task);
    while (!pooled->shared.is_answered) {
        (void)pthread_cond_wait(&pooled->shared.changed, &pooled->shared.lock);
    }
    const enum sl_status status = pooled->shared.answer;
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    return status;
}

/* Without memory the reply cannot be sent. */
static enum sl_status pack_reply(struct sl_pool_call *pooled)
{
    if (pooled->hand.has_reply || pooled->hand.reply == NULL) {
        return SL_OK;
    }
    const size_t size = sl_codec_proto.encoded_size(pooled->hand.reply);
    uint8_t *room = sl_arena_alloc(&pooled->hand.arena, size + 1);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_codec_proto.encode(pooled->hand.reply, room);
    pooled->hand.reply_bytes = sl_slice_of(room, size);
    pooled->hand.has_reply = true;
    return SL_OK;
}

static void run_handler(struct sl_pool_work *work)
{
    struct sl_pool_call *pooled = SL_CONTAINER(work, struct sl_pool_call, work);
    struct sl_call *call = pooled->call;
    const struct sl_route *route = call->route;
    current = pooled;
    enum sl_status status = route->start != NULL
                                ? route->start(call, route->handlers, route->user_data)
                                : route->raw(call, call->in.request, route->user_data);
    current = NULL;
    if (status == SL_OK) {
        status = pack_reply(pooled);
    }
    pooled->hand.result = status;
}

static void handler_done(struct sl_pool_work *work)
{
    struct sl_pool_call *pooled = SL_CONTAINER(work, struct sl_pool_call, work);
    (void)pthread_mutex_lock(&pooled->shared.lock);
    pooled->shared.is_returned = true;
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    sl_loop_post(pooled->call->conn->loop, &pooled->task); /* last: the loop may free all */
}

void sl_pool_call_start(struct sl_call *call)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = on_progress,
                                                        .on_writable = on_progress,
                                                        .on_ended = on_ended };
    struct sl_pool *pool = call->conn->server->pool;
    if (pool == NULL || sl_call_loop(call) == NULL) {
        sl_call_finishf(call, SL_UNIMPLEMENTED, "the method needs a pool, and there is none here");
        return;
    }
    struct sl_pool_call *pooled = new_pool_call(call);
    if (pooled == NULL) {
        sl_call_finishf(call, SL_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    pooled->work.run = run_handler;
    pooled->work.done = handler_done;
    pooled->task.run = run_task;
    pooled->flush.run = run_flush;
    call->pooled = pooled;
    sl_call_set_callbacks(call, &callbacks, pooled);
    if (!pool->add(pool, &pooled->work, call->conn->limits->pool_queue)) {
        sl_limit_reached(SL_LIMIT_pool_queue);
        const struct sl_call_status full = { .code = SL_RESOURCE_EXHAUSTED,
                                             .message = "too many calls wait for a thread",
                                             .reason = sl_server_reason(
                                                 call->conn->server, "SERVER_FULL"),
                                             .retry_delay_ms = FULL_RETRY_MS };
        finish(pooled, &full);
    }
}

/* ---- What it knows without the loop ---------------------------------------------------------- */

struct sl_arena *sl_pool_call_arena(struct sl_pool_call *pooled)
{
    return &pooled->hand.arena;
}

bool sl_pool_call_timeout_ns(const struct sl_pool_call *pooled, uint64_t *ret_timeout_ns)
{
    if (pooled->has_timeout) {
        *ret_timeout_ns = pooled->call->timeout_ns;
    }
    return pooled->has_timeout;
}

bool sl_pool_call_is_ended(struct sl_pool_call *pooled)
{
    (void)pthread_mutex_lock(&pooled->shared.lock);
    const bool is_ended = pooled->shared.end != SL_OK;
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    return is_ended;
}

enum sl_status sl_pool_call_wait_ms(struct sl_pool_call *pooled, uint64_t wait_ms)
{
    struct timespec until = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    const uint64_t wait_s = wait_ms / 1000 < INT32_MAX ? wait_ms / 1000 : INT32_MAX;
    const uint64_t until_ns = (uint64_t)until.tv_nsec + wait_ms % 1000 * SL_NS_PER_MS;
    until.tv_sec += (time_t)(wait_s + until_ns / SL_NS_PER_S);
    until.tv_nsec = (long)(until_ns % SL_NS_PER_S);
    int waited = wait_ms == 0 ? ETIMEDOUT : 0;
    (void)pthread_mutex_lock(&pooled->shared.lock);
    while (pooled->shared.end == SL_OK && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&pooled->shared.changed, &pooled->shared.lock, &until);
    }
    const enum sl_status end = pooled->shared.end;
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    return end;
}

bool sl_pool_call_is_compressed(const struct sl_pool_call *pooled)
{
    return pooled->hand.is_packed;
}

void sl_pool_call_set_compressing(struct sl_pool_call *pooled, bool is_compressing)
{
    pooled->hand.is_plain = !is_compressing;
}

/* ---- Messages -------------------------------------------------------------------------------- */

static enum sl_status decode(
    struct sl_pool_call *pooled, struct sl_slice bytes, struct sl_arena *arena, void **ret_message)
{
    struct sl_error err = { 0 };
    const enum sl_status status = sl_call_decode(pooled->call, bytes, arena, ret_message, &err);
    if (err.status != SL_OK) {
        pooled->hand.fault = err;
    }
    return status;
}

enum sl_status sl_pool_call_request(struct sl_pool_call *pooled, const void **ret_message)
{
    if (pooled->hand.request == NULL) {
        void *message = NULL;
        SL_TRY(decode(pooled, pooled->call->in.request, &pooled->hand.arena, &message));
        pooled->hand.request = message;
    }
    *ret_message = pooled->hand.request;
    return SL_OK;
}

enum sl_status sl_pool_call_reply(struct sl_pool_call *pooled, void **ret_message)
{
    const struct sl_method_desc *method = pooled->call->route->method;
    if (method == NULL) {
        return SL_FAILED_PRECONDITION;
    }
    if (pooled->hand.reply == NULL) {
        pooled->hand.reply = sl_codec_proto.create(method->response_type, &pooled->hand.arena);
    }
    *ret_message = pooled->hand.reply;
    return pooled->hand.reply == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

enum sl_status sl_pool_call_reply_bytes(struct sl_pool_call *pooled, struct sl_slice message)
{
    const char *copy = sl_arena_dup(&pooled->hand.arena, message);
    if (copy == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    pooled->hand.reply_bytes = sl_slice_of(copy, message.size);
    pooled->hand.has_reply = true;
    return SL_OK;
}

static enum sl_status run_recv(struct sl_call *call, void *arguments)
{
    SL_TRY(sl_call_recv_bytes(call, arguments));
    call->pooled->hand.is_packed = call->is_packed;
    return SL_OK;
}

enum sl_status sl_pool_call_recv_bytes(struct sl_pool_call *pooled, struct sl_slice *ret_message)
{
    return ask(pooled, run_recv, ret_message);
}

enum sl_status sl_pool_call_recv(struct sl_pool_call *pooled, void **ret_message)
{
    struct sl_slice bytes = { 0 };
    SL_TRY(ask(pooled, run_recv, &bytes));
    SL_TRY(sl_call_ready_message(pooled->call, &pooled->hand.message));
    return decode(pooled, bytes, &pooled->hand.message->arena, ret_message);
}

static enum sl_status run_take(struct sl_call *call, void *arguments)
{
    struct sl_message **ret_message = arguments;
    *ret_message = sl_message_take(call);
    return SL_OK;
}

struct sl_message *sl_pool_call_take(struct sl_pool_call *pooled)
{
    struct sl_message *taken = NULL;
    (void)ask(pooled, run_take, &taken);
    if (taken != NULL && pooled->hand.message != NULL) {
        taken->arena = pooled->hand.message->arena; /* where its decoded form lives */
        pooled->hand.message = sl_free(pooled->hand.message);
    }
    return taken;
}

static enum sl_status run_send(struct sl_call *call, void *arguments)
{
    const struct sl_slice *message = arguments;
    return send_one(call, *message, call->pooled->hand.is_plain);
}

/* With the lock. Waits until the message has room. */
static enum sl_status wait_for_room(struct sl_pool_call *pooled, size_t size)
{
    while (pooled->shared.end == SL_OK && pooled->shared.unsent == SL_OK &&
           pooled->shared.outbox.size > 0 && pooled->shared.outbox.size + size > OUTBOX_BYTES) {
        (void)pthread_cond_wait(&pooled->shared.changed, &pooled->shared.lock);
    }
    return pooled->shared.unsent;
}

/* With the lock. Both parts, or none. */
static enum sl_status put(struct sl_buf *outbox, struct sl_slice message, bool is_plain)
{
    const struct record record = { .size = message.size, .is_plain = is_plain };
    uint8_t *room = NULL;
    SL_TRY(sl_buf_reserve(outbox, sizeof(record) + message.size, &room));
    memcpy(room, &record, sizeof(record));
    if (message.size > 0) {
        memcpy(room + sizeof(record), message.data, message.size);
    }
    sl_buf_commit(outbox, sizeof(record) + message.size);
    return SL_OK;
}

/* A stream does not wait for each of its messages, only for room. */
static enum sl_status put_in_outbox(struct sl_pool_call *pooled, struct sl_slice message)
{
    (void)pthread_mutex_lock(&pooled->shared.lock);
    enum sl_status status = wait_for_room(pooled, sizeof(struct record) + message.size);
    if (status == SL_OK) {
        status = put(&pooled->shared.outbox, message, pooled->hand.is_plain);
    }
    if (status == SL_OK && !pooled->shared.is_flushing) {
        pooled->shared.is_flushing = true;
        sl_loop_post(pooled->call->conn->loop, &pooled->flush);
    }
    (void)pthread_mutex_unlock(&pooled->shared.lock);
    return status;
}

enum sl_status sl_pool_call_send_bytes(struct sl_pool_call *pooled, struct sl_slice message)
{
    const enum sl_method_kind kind = pooled->call->route->kind;
    const bool is_stream = kind == SL_SERVER_STREAMING || kind == SL_BIDIRECTIONAL;
    /* Behind the end the call itself says whether it takes something: a drain leaves it open. */
    return is_stream && !sl_pool_call_is_ended(pooled) ? put_in_outbox(pooled, message)
                                                       : ask(pooled, run_send, &message);
}

enum sl_status sl_pool_call_send(struct sl_pool_call *pooled, const void *message)
{
    const size_t size = sl_codec_proto.encoded_size(message);
    uint8_t *room = sl_alloc(size + 1);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_codec_proto.encode(message, room);
    const enum sl_status status = sl_pool_call_send_bytes(pooled, sl_slice_of(room, size));
    (void)sl_free(room);
    return status;
}

/* ---- The rest is short orders ---------------------------------------------------------------- */

struct field {
    struct sl_slice key, value;
};

static enum sl_status run_add_header(struct sl_call *call, void *arguments)
{
    const struct field *field = arguments;
    return sl_call_add_header(call, field->key, field->value);
}

enum sl_status
sl_pool_call_add_header(struct sl_pool_call *pooled, struct sl_slice key, struct sl_slice value)
{
    return ask(pooled, run_add_header, &(struct field){ key, value });
}

static enum sl_status run_add_trailer(struct sl_call *call, void *arguments)
{
    const struct field *field = arguments;
    return sl_call_add_trailer(call, field->key, field->value);
}

enum sl_status
sl_pool_call_add_trailer(struct sl_pool_call *pooled, struct sl_slice key, struct sl_slice value)
{
    return ask(pooled, run_add_trailer, &(struct field){ key, value });
}

static enum sl_status run_set_encoding(struct sl_call *call, void *arguments)
{
    const char **encoding = arguments;
    return sl_call_set_encoding(call, *encoding);
}

enum sl_status sl_pool_call_set_encoding(struct sl_pool_call *pooled, const char *encoding)
{
    return ask(pooled, run_set_encoding, &encoding);
}

static enum sl_status run_send_headers(struct sl_call *call, void *arguments)
{
    (void)arguments;
    return sl_call_send_headers(call);
}

enum sl_status sl_pool_call_send_headers(struct sl_pool_call *pooled)
{
    return ask(pooled, run_send_headers, NULL);
}

static enum sl_status run_fail(struct sl_call *call, void *arguments)
{
    const struct sl_call_status **status = arguments;
    (void)sl_call_fail(call, *status);
    return SL_OK;
}

enum sl_status sl_pool_call_fail(struct sl_pool_call *pooled, const struct sl_call_status *status)
{
    (void)ask(pooled, run_fail, &status);
    return status->code;
}

/* What the loop knows of a call; asked for together, as each answer is cheap beside the turn. */
struct view {
    uint64_t remaining_ns;
    size_t n_streams;
    bool is_idle;
};

static enum sl_status run_look(struct sl_call *call, void *arguments)
{
    const struct sl_buf *outbox = &call->pooled->loop.outbox;
    struct view *ret_view = arguments;
    *ret_view = (struct view){
        .remaining_ns = sl_call_remaining_ns(call),
        .n_streams = sl_call_n_streams(call),
        .is_idle = outbox->size == call->pooled->loop.outbox_at && sl_call_is_idle(call),
    };
    return SL_OK;
}

static struct view look(struct sl_pool_call *pooled)
{
    struct view view = { 0 };
    (void)ask(pooled, run_look, &view);
    return view;
}

uint64_t sl_pool_call_remaining_ns(struct sl_pool_call *pooled)
{
    return look(pooled).remaining_ns;
}

size_t sl_pool_call_n_streams(struct sl_pool_call *pooled)
{
    return look(pooled).n_streams;
}

bool sl_pool_call_is_idle(struct sl_pool_call *pooled)
{
    return look(pooled).is_idle;
}
