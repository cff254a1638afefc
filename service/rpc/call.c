#include <inttypes.h>

#include "runtime/base/mem.h"
#include "runtime/base/sized.h"
#include "service/rpc/call_impl.h"
#include "service/rpc/deadline.h"

enum {
    CALL_MAGIC = 0x63616c6c,
    /* A message may take message_memory times its size and 64 KiB (WS-6); the rest is the
     * handler's. */
    ARENA_FACTOR = 16,
    ARENA_BYTES = 1024 * 1024
};

static atomic_uint_least64_t last_id;

/* ---- Life ------------------------------------------------------------------------------------ */

static void on_deadline(void *user_data)
{
    sl_call_deadline_passed(user_data);
}

struct sl_call *
sl_call_new(struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_route *route)
{
    struct sl_call *call = sl_calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->magic = CALL_MAGIC;
    call->conn = conn;
    sl_conn_ref(conn);
    call->stream = stream;
    call->route = route;
    call->id = 1 + atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed);
    call->deadline_ns = SL_NEVER_NS;
    sl_list_add_last(&conn->calls, &call->in_conn);
    sl_list_init(&call->in_stalled);
    sl_list_init(&call->in_gaps);
    sl_list_init(&call->in_waiting);
    sl_list_init(&call->watches);
    sl_timer_init(&call->deadline, conn->loop, on_deadline, call);
    const uint64_t factor = conn->limits->message_memory + ARENA_FACTOR;
    sl_arena_init(&call->arena, (size_t)(conn->limits->message_recv * factor) + ARENA_BYTES);
    sl_call_send_init(call);
    sl_h2_stream_set_user(stream, call);
    call->started_ns = sl_conn_now_ns(conn);
    SL_RPC_COUNT(conn->counters, calls_started, 1);
    sl_metric_add(route->metrics.started, 1);
    SL_RPC_COUNT(conn->counters, calls_running, 1);
    call->has_slot = true;
    conn->n_running[route->call_class]++;
    return call;
}

/* The handler has finished, or never will be started. */
static void give_slot_back(struct sl_call *call)
{
    if (!call->has_slot) {
        return;
    }
    call->has_slot = false;
    SL_RPC_COUNT(call->conn->counters, calls_running, -1);
    sl_server_give_place(call->conn->server, call->route);
    call->conn->n_running[call->route->call_class]--;
}

void sl_call_release(struct sl_call *call)
{
    if (call->stage != SL_STAGE_FINISHED) {
        return;
    }
    give_slot_back(call);
    sl_list_remove(&call->in_waiting);
    call->events = 0;
    if (call->stream != NULL || call->is_ready || call->is_dispatching) {
        return;
    }
    struct sl_conn *conn = call->conn;
    sl_timer_stop(&call->deadline);
    sl_list_remove(&call->in_conn);
    sl_list_remove(&call->in_stalled);
    sl_list_remove(&call->in_gaps);
    sl_call_send_drop(call);
    sl_call_recv_done(call);
    sl_buf_done(&call->in.bytes);
    (void)sl_message_free(call->in.message);
    sl_arena_done(&call->arena);
    call->magic = 0;
    (void)sl_free(call);
    sl_conn_unref(conn);
}

/* ---- Events ---------------------------------------------------------------------------------- */

void sl_call_raise(struct sl_call *call, enum sl_call_event event)
{
    if (call->stage == SL_STAGE_FINISHED) {
        return;
    }
    call->events |= (uint32_t)event;
    if (call->is_ready) {
        return;
    }
    struct sl_conn *conn = call->conn;
    call->is_ready = true;
    call->next_ready = NULL;
    if (conn->ready_last == NULL) {
        conn->ready_first = call;
    } else {
        conn->ready_last->next_ready = call;
    }
    conn->ready_last = call;
    if (!conn->is_inside) {
        sl_loop_defer(conn->loop, &conn->ready_task);
    }
}

bool sl_call_is_streaming_in(const struct sl_call *call)
{
    return call->route->kind == SL_CLIENT_STREAMING || call->route->kind == SL_BIDIRECTIONAL;
}

static void start(struct sl_call *call)
{
    const struct sl_route *route = call->route;
    call->stage = SL_STAGE_RUNNING;
    if (route->is_on_pool) {
        sl_pool_call_start(call);
        return;
    }
    const enum sl_status status = route->start != NULL
                                      ? route->start(call, route->handlers, route->user_data)
                                      : route->raw(call, call->in.request, route->user_data);
    if (status == SL_PENDING || call->stage == SL_STAGE_FINISHED) {
        return;
    }
    struct sl_call_status end = { .code = status };
    if (call->has_failure && call->failure.code == status) {
        end = call->failure;
    }
    sl_call_finish(call, &end);
}

static void run_event(struct sl_call *call, enum sl_call_event event)
{
    const struct sl_call_callbacks *on = &call->callbacks;
    switch (event) {
    case SL_EVENT_START:
        if (call->outcome == SL_OUTCOME_NONE && sl_call_may_start(call)) {
            start(call);
        }
        return;
    case SL_EVENT_ENDED:
        call->is_told = true;
        if (on->on_ended != NULL) {
            on->on_ended(call, &call->end, call->user_data);
        }
        return;
    case SL_EVENT_SOURCE_DONE: {
        struct sl_call_source *source = call->out.source;
        call->out.source = NULL;
        if (source != NULL && source->on_finished != NULL) {
            source->on_finished(source);
        }
        return;
    }
    case SL_EVENT_READABLE:
        if (on->on_readable != NULL) {
            on->on_readable(call, call->user_data);
        }
        return;
    case SL_EVENT_WRITABLE:
        if (on->on_writable != NULL) {
            on->on_writable(call, call->user_data);
        }
        return;
    }
}

void sl_call_dispatch(struct sl_call *call)
{
    if (call->is_dispatching) {
        return;
    }
    call->is_dispatching = true;
    /* Only what is raised now: a handler that raises events for itself lets the others go first. */
    uint32_t events = call->events;
    call->events = 0;
    for (uint32_t bit = SL_EVENT_START; bit <= SL_EVENT_WRITABLE; bit <<= 1U) {
        const bool is_open = call->stage != SL_STAGE_FINISHED;
        if ((events & bit) != 0 && is_open) {
            run_event(call, (enum sl_call_event)bit);
        }
    }
    call->is_dispatching = false;
    sl_call_release(call);
}

void sl_call_set_callbacks(
    struct sl_call *call, const struct sl_call_callbacks *callbacks, void *user_data)
{
    if (sl_call_hand(call) != NULL) {
        return; /* a handler that may block needs none */
    }
    call->callbacks = (struct sl_call_callbacks){ 0 };
    if (callbacks != NULL) {
        (void)sl_sized_read(
            &call->callbacks, sizeof(call->callbacks), callbacks, callbacks->struct_size,
            sizeof(*callbacks));
    }
    call->user_data = user_data;
}

/* ---- Messages, for interceptors ---------------------------------------------------------------
 */

enum sl_status sl_call_show_in(struct sl_call *call, struct sl_slice message)
{
    const struct sl_server *server = call->conn->server;
    const size_t n = server->sees_messages ? call->n_intercepted : 0;
    enum sl_status status = SL_OK;
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        const struct sl_interceptor *one = &server->interceptors[i];
        if (one->on_message_in != NULL) {
            status = one->on_message_in(call, message, one->user_data);
        }
    }
    return status;
}

void sl_call_show_out(struct sl_call *call, struct sl_slice message)
{
    const struct sl_server *server = call->conn->server;
    for (size_t i = server->sees_messages ? call->n_intercepted : 0; i > 0; i--) {
        const struct sl_interceptor *one = &server->interceptors[i - 1];
        if (one->on_message_out != NULL) {
            one->on_message_out(call, message, one->user_data);
        }
    }
}

/* ---- What is known of it --------------------------------------------------------------------- */

const struct sl_method_desc *sl_call_method(const struct sl_call *call)
{
    return call->route->method;
}

const char *sl_call_path(const struct sl_call *call)
{
    return call->path != NULL ? call->path : call->route->path;
}

struct sl_loop *sl_call_loop(const struct sl_call *call)
{
    return call->conn->own_loop != NULL ? NULL : call->conn->loop;
}

const struct sl_metadata *sl_call_metadata(const struct sl_call *call)
{
    return &call->metadata;
}

struct sl_arena *sl_call_arena(struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_arena(pooled);
    }
    return &call->arena;
}

uint64_t sl_call_id(const struct sl_call *call)
{
    return call->id;
}

const char *sl_call_peer(const struct sl_call *call)
{
    return call->conn->peer;
}

const char *sl_call_peer_names(const struct sl_call *call)
{
    return call->conn->peer_names;
}

void sl_call_set_identity(struct sl_call *call, const struct sl_call_identity *identity)
{
    call->identity = identity;
}

const struct sl_call_identity *sl_call_identity(const struct sl_call *call)
{
    return call->identity;
}

struct sl_slice sl_call_user_agent(const struct sl_call *call)
{
    struct sl_slice value = { 0 };
    (void)sl_metadata_get(&call->metadata, "user-agent", 0, &value);
    return value;
}

uint32_t sl_call_previous_attempts(const struct sl_call *call)
{
    return call->previous_attempts;
}

bool sl_call_timeout_ns(const struct sl_call *call, uint64_t *ret_timeout_ns)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_timeout_ns(pooled, ret_timeout_ns);
    }
    if (call->has_timeout) {
        *ret_timeout_ns = call->timeout_ns;
    }
    return call->has_timeout;
}

uint64_t sl_call_remaining_ns(const struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_remaining_ns(pooled);
    }
    return sl_deadline_remaining(call->deadline_ns, sl_conn_now_ns(call->conn));
}

size_t sl_call_n_streams(const struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_n_streams(pooled);
    }
    return call->conn->h2 == NULL ? 0 : sl_h2_session_n_streams(call->conn->h2);
}

const struct sl_limits *sl_call_limits(const struct sl_call *call)
{
    return call->conn->limits;
}

enum sl_status sl_call_watch(struct sl_call *call, struct sl_call_watch *watch)
{
    if (call->outcome != SL_OUTCOME_NONE && !call->is_drain_grace) {
        return SL_CANCELLED;
    }
    sl_list_add_last(&call->watches, &watch->node);
    return SL_OK;
}

void sl_call_unwatch(struct sl_call_watch *watch)
{
    sl_list_remove(&watch->node);
}

bool sl_call_is_ended(const struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_is_ended(pooled);
    }
    return sl_call_check_open(call) != SL_OK;
}

enum sl_status sl_call_wait_ms(struct sl_call *call, uint64_t wait_ms)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    return pooled == NULL ? SL_FAILED_PRECONDITION : sl_pool_call_wait_ms(pooled, wait_ms);
}

enum sl_status sl_call_check_open(const struct sl_call *call)
{
    switch (call->outcome) {
    case SL_OUTCOME_NONE:
        return call->is_cut ? SL_CANCELLED : SL_OK;
    case SL_OUTCOME_DEADLINE:
        return SL_DEADLINE_EXCEEDED;
    case SL_OUTCOME_LOST:
        return SL_UNAVAILABLE;
    case SL_OUTCOME_DRAIN:
        return call->is_drain_grace ? SL_OK : SL_UNAVAILABLE;
    case SL_OUTCOME_COMPLETED:
    case SL_OUTCOME_RESET:
        break;
    }
    return SL_CANCELLED;
}
