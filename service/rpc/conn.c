#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/send_total.h"
#include "runtime/base/sized.h"
#include "service/rpc/call_impl.h"
#include "service/rpc/conn_impl.h"

enum { MEMORY_STEP = 4096 }; /* less is not worth a count */
enum { MAX_QUEUED = 1000 };  /* frames; as many as nghttp2 allows acknowledgements */

/* ---- Events ---------------------------------------------------------------------------------- */

uint64_t sl_conn_now_ns(const struct sl_conn *conn)
{
    return conn->own_loop != NULL ? conn->now_ns : sl_loop_now_ns(conn->loop);
}

void sl_conn_notify(struct sl_conn *conn)
{
    if (!conn->is_inside && conn->h2 != NULL && conn->on_output != NULL) {
        conn->on_output(conn->user_data);
    }
}

void sl_conn_dispatch(struct sl_conn *conn)
{
    sl_conn_ref(conn);
    while (conn->ready_first != NULL) {
        struct sl_call *call = conn->ready_first;
        conn->ready_first = call->next_ready;
        if (conn->ready_first == NULL) {
            conn->ready_last = NULL;
        }
        call->is_ready = false;
        sl_call_dispatch(call);
    }
    sl_conn_unref(conn);
}

/* The calls stay in the list, which keeps their records: sl_conn_dispatch() finds nothing to do. */
void sl_conn_dispatch_ended(struct sl_conn *conn)
{
    for (struct sl_call *call = conn->ready_first; call != NULL; call = call->next_ready) {
        if (call->stream == NULL && call->events != 0) {
            sl_call_dispatch(call);
        }
    }
}

static void run_ready(struct sl_task *task)
{
    sl_conn_dispatch(SL_CONTAINER(task, struct sl_conn, ready_task));
}

/* ---- What HTTP/2 says ------------------------------------------------------------------------ */

static void
on_headers(void *session_user, struct sl_h2_stream *stream, const struct sl_h2_headers *headers)
{
    struct sl_conn *conn = session_user;
    if (headers->kind == SL_H2_REQUEST) {
        sl_conn_admit(conn, stream, headers);
    }
    /* A request's trailers mean nothing in gRPC; their END_STREAM comes as on_end_stream. */
}

static void on_data(void *session_user, struct sl_h2_stream *stream, struct sl_slice bytes)
{
    (void)session_user;
    struct sl_call *call = sl_h2_stream_user(stream);
    if (call == NULL) {
        sl_h2_stream_consume(stream, bytes.size);
        return;
    }
    sl_call_on_data(call, bytes);
}

static void on_end_stream(void *session_user, struct sl_h2_stream *stream)
{
    struct sl_call *call = sl_h2_stream_user(stream);
    if (call != NULL) {
        sl_call_on_end_stream(call);
    } else {
        sl_plain_on_end_stream(session_user, stream);
    }
}

static void
on_closed(void *session_user, struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code)
{
    struct sl_conn *conn = session_user;
    struct sl_call *call = sl_h2_stream_user(stream);
    if (call != NULL) {
        sl_h2_stream_set_user(stream, NULL);
        sl_call_on_closed(call, how, code);
        if (sl_list_is_empty(&conn->calls)) {
            conn->idle_since_ns = sl_conn_now_ns(conn);
        }
    } else {
        sl_plain_on_closed(conn, stream);
    }
}

/* RS-7, telling the client not to send the rest of its request, is the session's. */
static void on_sent_end(void *session_user, struct sl_h2_stream *stream)
{
    (void)session_user;
    struct sl_call *call = sl_h2_stream_user(stream);
    if (call != NULL) {
        call->is_trailed = true;
    }
}

static void on_ping_ack(void *session_user, uint64_t payload)
{
    sl_conn_ping_acked(session_user, payload);
}

static void on_h2_output(void *session_user)
{
    sl_conn_notify(session_user);
}

static const struct sl_h2_callbacks h2_callbacks = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end_stream = on_end_stream,
    .on_closed = on_closed,
    .on_sent_end = on_sent_end,
    .on_ping_ack = on_ping_ack,
    .on_output = on_h2_output,
};

/* ---- Life ------------------------------------------------------------------------------------ */

/* Level 1 has no loop that waits. */
static void ignore_wake(struct sl_loop *loop)
{
    (void)loop;
}

static void ignore_arm(struct sl_loop *loop, uint64_t due_ns)
{
    (void)loop;
    (void)due_ns;
}

static const struct sl_loop_backend no_backend = { .wake = ignore_wake, .arm = ignore_arm };

void sl_conn_ref(struct sl_conn *conn)
{
    conn->n_refs++;
}

void sl_conn_unref(struct sl_conn *conn)
{
    if (--conn->n_refs > 0) {
        return;
    }
    if (conn->loop != NULL) {
        sl_loop_undefer(conn->loop, &conn->ready_task);
        sl_timer_stop(&conn->tick);
    }
    if (conn->own_loop != NULL) {
        sl_loop_done(conn->own_loop);
        (void)sl_free(conn->own_loop);
    }
    sl_chain_pool_done(&conn->pool);
    sl_send_total_set(&conn->send_share, 0);
    (void)sl_limits_shot_unref(conn->shot);
    (void)sl_free(conn->peer);
    (void)sl_free(conn->peer_names);
    void (*on_released)(void *user_data) = conn->on_released;
    void *released_user = conn->released_user;
    (void)sl_free(conn);
    if (on_released != NULL) {
        on_released(released_user);
    }
}

void sl_conn_set_released(
    struct sl_conn *conn, void (*on_released)(void *user_data), void *user_data)
{
    conn->on_released = on_released;
    conn->released_user = user_data;
}

static enum sl_status set_loop(struct sl_conn *conn, struct sl_loop *loop)
{
    if (loop == NULL) {
        conn->own_loop = sl_calloc(1, sizeof(*conn->own_loop));
        if (conn->own_loop == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        sl_loop_init(conn->own_loop, &no_backend, 0);
        loop = conn->own_loop;
    }
    conn->loop = loop;
    return SL_OK;
}

/* A block of terminated texts with an empty one at its end. */
static enum sl_status set_peer_names(struct sl_conn *conn, const struct sl_conn_options *options)
{
    if (options->peer_names == NULL) {
        return SL_OK;
    }
    const char *end = options->peer_names;
    while (end[0] != '\0') {
        end += strlen(end) + 1;
    }
    const size_t size = (size_t)(end - options->peer_names) + 1;
    conn->peer_names = sl_alloc(size);
    if (conn->peer_names == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(conn->peer_names, options->peer_names, size);
    return SL_OK;
}

/* What needs memory. */
static enum sl_status
fill(struct sl_conn *conn, struct sl_server *server, const struct sl_conn_options *options)
{
    conn->peer = sl_strdup(options->peer == NULL ? "" : options->peer);
    if (conn->peer == NULL || set_loop(conn, options->loop) != SL_OK ||
        set_peer_names(conn, options) != SL_OK) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const struct sl_h2_options h2_options = { .limits = conn->limits,
                                              .allow_pings_without_calls =
                                                  server->allow_pings_without_calls,
                                              .reserve = sl_loop_reserve(conn->loop) };
    return sl_h2_session_new(&h2_options, &h2_callbacks, conn, &conn->h2);
}

enum sl_status sl_conn_new(
    struct sl_server *server, const struct sl_conn_options *options, struct sl_conn **ret_conn)
{
    struct sl_conn_options all = { 0 };
    if (options != NULL &&
        !sl_sized_read(&all, sizeof(all), options, options->struct_size, sizeof(*options))) {
        return SL_INVALID_ARGUMENT;
    }
    options = &all;
    struct sl_conn *conn = sl_calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    conn->n_refs = 1;
    conn->server = server;
    conn->shot = sl_server_limits(server);
    conn->limits = &conn->shot->limits;
    conn->counters = sl_server_counters(server, options->loop);
    conn->on_output = options->on_output;
    conn->user_data = options->user_data;
    sl_list_init(&conn->calls);
    sl_list_init(&conn->unwinding);
    sl_list_init(&conn->plains);
    sl_list_init(&conn->stalled);
    sl_list_init(&conn->gaps);
    sl_list_init(&conn->waiting);
    conn->ready_task.run = run_ready;
    conn->is_inside = true;
    if (fill(conn, server, options) != SL_OK) {
        sl_conn_unref(conn);
        return SL_RESOURCE_EXHAUSTED;
    }
    conn->is_inside = false;
    SL_RPC_COUNT(conn->counters, connections, 1);
    SL_RPC_COUNT(conn->counters, connections_total, 1);
    sl_conn_timers_init(conn);
    if (options->loop != NULL) {
        sl_conn_timers_arm(conn);
    }
    *ret_conn = conn;
    return SL_OK;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static void count_memory(struct sl_conn *conn)
{
    const uint64_t bytes = sl_conn_memory_bytes(conn);
    const uint64_t apart = bytes > conn->n_counted_bytes ? bytes - conn->n_counted_bytes
                                                         : conn->n_counted_bytes - bytes;
    if (apart >= MEMORY_STEP || bytes == 0) {
        SL_RPC_COUNT(conn->counters, connection_bytes, bytes - conn->n_counted_bytes);
        conn->n_counted_bytes = bytes;
    }
}

/* Whoever has a share of the connection hears of it, but not for each stream that comes or goes:
 * that takes as long as there are streams. */
static void tell_streams(struct sl_conn *conn, size_t n_streams)
{
    if (conn->is_dead || n_streams == 0 ||
        (n_streams < 2 * conn->n_told && n_streams > conn->n_told / 2)) {
        return;
    }
    conn->n_told = n_streams;
    SL_LIST_EACH(node, &conn->calls) {
        sl_call_tell_streams(SL_CONTAINER(node, struct sl_call, in_conn), n_streams);
    }
}

static void count_streams(struct sl_conn *conn)
{
    count_memory(conn);
    const size_t n_streams = conn->h2 == NULL ? 0 : sl_h2_session_n_streams(conn->h2);
    if (n_streams != conn->n_counted) {
        SL_RPC_COUNT(conn->counters, streams, (int64_t)n_streams - (int64_t)conn->n_counted);
        conn->n_counted = n_streams;
        tell_streams(conn, n_streams);
    }
    const bool is_at_limit = n_streams >= conn->limits->streams_per_connection ||
                             sl_conn_is_full(conn, SL_CLASS_TASK) ||
                             sl_conn_is_full(conn, SL_CLASS_OBSERVER);
    if (is_at_limit != conn->is_at_limit) {
        SL_RPC_COUNT(conn->counters, at_stream_limit, is_at_limit ? 1 : -1);
        conn->is_at_limit = is_at_limit;
    }
}

void sl_conn_count_fault(struct sl_conn *conn, const char *reason)
{
    if (!conn->is_fault_counted && reason != NULL) {
        conn->is_fault_counted = true;
        SL_METRIC_ADD(sluice_faults, 1, reason);
    }
}

/* At level 1 the caller's clock is the only one. */
static void begin(struct sl_conn *conn, uint64_t now_ns)
{
    conn->is_inside = true;
    const bool is_first = conn->now_ns == 0;
    if (now_ns > conn->now_ns) {
        conn->now_ns = now_ns;
    }
    if (conn->own_loop != NULL) {
        sl_loop_turn_begin(conn->own_loop, conn->now_ns, 0);
        if (is_first) {
            sl_conn_timers_init(conn);
        }
    }
}

/* True: handlers ran. */
static bool end(struct sl_conn *conn)
{
    const bool has_work = conn->ready_first != NULL;
    sl_conn_dispatch(conn);
    if (conn->own_loop != NULL) {
        sl_loop_turn_end(conn->own_loop);
    }
    sl_conn_timers_arm(conn);
    count_streams(conn);
    sl_conn_count_fault(conn, sl_h2_session_fault(conn->h2));
    conn->is_inside = false;
    return has_work;
}

enum sl_status
sl_conn_feed(struct sl_conn *conn, struct sl_slice bytes, uint64_t now_ns, struct sl_error *err)
{
    begin(conn, now_ns);
    if (conn->own_loop != NULL) {
        sl_loop_turn_work(conn->own_loop);
    }
    enum sl_status status = SL_OK;
    if (conn->is_dead) {
        status = sl_fail(err, SL_UNAVAILABLE, "the connection is over");
    } else if (bytes.size > 0) {
        conn->last_read_ns = conn->now_ns;
        conn->ping_sent_ns = SL_NEVER_NS;
        SL_RPC_COUNT(conn->counters, bytes_in, bytes.size);
        status = sl_h2_session_feed(conn->h2, bytes, conn->now_ns, err);
    }
    if (status != SL_OK && !conn->is_attack_counted && sl_h2_session_fault(conn->h2) != NULL) {
        conn->is_attack_counted = true;
        SL_RPC_COUNT(conn->counters, attacks, 1);
    }
    (void)end(conn);
    return status;
}

size_t sl_conn_pull(struct sl_conn *conn, uint8_t *room, size_t room_bytes, uint64_t now_ns)
{
    size_t n = 0;
    bool is_again = true;
    while (n == 0 && is_again && !conn->is_dead) { /* 0 means that there is really nothing */
        begin(conn, now_ns);
        n = sl_h2_session_pull(conn->h2, room, room_bytes, conn->now_ns);
        is_again = end(conn);
    }
    SL_RPC_COUNT(conn->counters, bytes_out, n);
    return n;
}

uint64_t sl_conn_due_ns(const struct sl_conn *conn)
{
    if (conn->own_loop == NULL) {
        return SL_NEVER_NS;
    }
    return conn->ready_first != NULL ? 0 : sl_loop_next_due_ns(conn->own_loop);
}

bool sl_conn_wants_close(const struct sl_conn *conn)
{
    return conn->is_dead || sl_h2_session_wants_close(conn->h2);
}

bool sl_conn_is_congested(const struct sl_conn *conn)
{
    return !conn->is_dead && sl_h2_session_n_queued(conn->h2) > MAX_QUEUED;
}

const char *sl_conn_fault(const struct sl_conn *conn)
{
    return sl_h2_session_fault(conn->h2);
}

uint64_t sl_conn_memory_bytes(const struct sl_conn *conn)
{
    struct sl_h2_stats stats = { 0 };
    if (conn->h2 != NULL) {
        sl_h2_session_stats(conn->h2, &stats);
    }
    return stats.memory_bytes + conn->queued_bytes;
}

void sl_conn_lost(struct sl_conn *conn)
{
    conn->is_dead = true;
    conn->is_inside = true;
    sl_h2_session_lost(conn->h2);
    sl_conn_dispatch(conn);
    count_streams(conn);
    conn->is_inside = false;
}

struct sl_conn *sl_conn_free(struct sl_conn *conn)
{
    if (conn == NULL) {
        return NULL;
    }
    conn->is_dead = true;
    conn->is_inside = true;
    conn->on_output = NULL;
    struct sl_h2_session *h2 = conn->h2;
    sl_h2_session_lost(h2); /* every queue is dropped with its stream */
    conn->h2 = NULL;
    (void)sl_h2_session_free(h2);
    sl_timer_stop(&conn->tick);
    SL_RPC_COUNT(conn->counters, connections, -1);
    count_streams(conn);
    sl_conn_dispatch(conn);
    if (conn->is_at_limit) {
        conn->is_at_limit = false;
        SL_RPC_COUNT(conn->counters, at_stream_limit, -1);
    }
    sl_conn_unref(conn);
    return NULL;
}

size_t sl_conn_give_up_handlers(struct sl_conn *conn)
{
    size_t n_given_up = 0;
    sl_conn_ref(conn);
    SL_LIST_EACH(node, &conn->unwinding) {
        struct sl_call *call = SL_CONTAINER(node, struct sl_call, in_conn);
        call->stage = SL_STAGE_FINISHED;
        n_given_up++;
        sl_call_release(call);
    }
    sl_conn_dispatch(conn); /* releases those that were ready */
    sl_conn_unref(conn);
    return n_given_up;
}
