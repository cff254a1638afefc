/* Every wait of a connection has a timer (CM-13). One timer per connection runs; when it fires,
 * what is due is looked up at the heads of ordered lists, so that its cost does not grow with the
 * number of streams. Traffic does not move the timer: it fires early, finds nothing due and sleeps
 * on. */
#include "runtime/base/metrics.h"
#include "runtime/base/random.h"
#include "service/rpc/call_impl.h"
#include "service/rpc/conn_impl.h"

/* PINGs of ours are told apart by what they carry. */
#define DRAIN_PING     UINT64_C(0x0106010800030309)
#define KEEPALIVE_PING UINT64_C(0x736c756963650001)

/* What handlers get at the end of a drain to finish by themselves, and what their output gets to
 * leave after that. */
#define DRAIN_GRACE_NS UINT64_C(1000000000)

static uint64_t after(uint64_t ns, uint64_t ms)
{
    const uint64_t delay =
        ms > (SL_NEVER_NS - 1) / SL_NS_PER_MS ? SL_NEVER_NS - 1 : ms * SL_NS_PER_MS;
    return ns > SL_NEVER_NS - 1 - delay ? SL_NEVER_NS - 1 : ns + delay;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The connection is given up without a word: the peer does not listen, or was told long ago. */
static void give_up(struct sl_conn *conn)
{
    conn->is_dead = true;
    sl_h2_session_lost(conn->h2);
    sl_conn_notify(conn);
}

/* ---- When ------------------------------------------------------------------------------------ */

/* A call, or a request that is not gRPC's. */
static bool has_open_call(const struct sl_conn *conn)
{
    return !sl_list_is_empty(&conn->calls) || !sl_list_is_empty(&conn->plains);
}

static uint64_t keepalive_due(const struct sl_conn *conn)
{
    if (conn->ping_sent_ns != SL_NEVER_NS) {
        return after(conn->ping_sent_ns, conn->limits->keepalive_timeout);
    }
    return after(
        conn->last_read_ns,
        has_open_call(conn) ? conn->limits->keepalive_time : conn->limits->keepalive_idle);
}

static uint64_t idle_due(const struct sl_conn *conn)
{
    return has_open_call(conn) || conn->limits->connection_idle == 0
               ? SL_NEVER_NS
               : after(conn->idle_since_ns, conn->limits->connection_idle);
}

static uint64_t drain_due(const struct sl_conn *conn)
{
    switch (conn->drain) {
    case SL_DRAIN_NONE:
        return least(conn->age_due_ns, idle_due(conn));
    case SL_DRAIN_ANNOUNCED:
        return least(conn->drain_step_ns, conn->drain_force_ns);
    case SL_DRAIN_FINAL:
        return conn->drain_force_ns;
    case SL_DRAIN_ENDING:
    case SL_DRAIN_FORCED:
        return conn->drain_step_ns;
    }
    return SL_NEVER_NS;
}

static struct sl_call *stalled_head(const struct sl_conn *conn)
{
    struct sl_list *node = sl_list_first(&conn->stalled);
    return node == NULL ? NULL : SL_CONTAINER(node, struct sl_call, in_stalled);
}

static struct sl_call *gap_head(const struct sl_conn *conn)
{
    struct sl_list *node = sl_list_first(&conn->gaps);
    return node == NULL ? NULL : SL_CONTAINER(node, struct sl_call, in_gaps);
}

static uint64_t stall_due(const struct sl_conn *conn)
{
    const struct sl_call *call = stalled_head(conn);
    return call == NULL ? SL_NEVER_NS : after(call->out.progress_ns, conn->limits->stall);
}

static uint64_t gap_due(const struct sl_conn *conn)
{
    const struct sl_call *call = gap_head(conn);
    return call == NULL ? SL_NEVER_NS : after(call->in.gap_since_ns, conn->limits->message_gap);
}

static uint64_t opening_due(const struct sl_conn *conn)
{
    if (!sl_h2_session_is_ready(conn->h2)) {
        return after(conn->created_ns, conn->limits->preface);
    }
    return conn->headers_since_ns == SL_NEVER_NS
               ? SL_NEVER_NS
               : after(conn->headers_since_ns, conn->limits->header_block);
}

static uint64_t next_due(const struct sl_conn *conn)
{
    uint64_t due = least(opening_due(conn), keepalive_due(conn));
    due = least(due, least(drain_due(conn), conn->grace_due_ns));
    due = least(due, least(stall_due(conn), sl_plain_due_ns(conn)));
    return least(due, least(gap_due(conn), conn->room_due_ns));
}

void sl_conn_timers_arm(struct sl_conn *conn)
{
    if (conn->is_dead || conn->h2 == NULL) {
        sl_timer_stop(&conn->tick);
        return;
    }
    if (!sl_h2_session_in_headers(conn->h2)) {
        conn->headers_since_ns = SL_NEVER_NS;
    } else if (
        conn->headers_since_ns == SL_NEVER_NS ||
        conn->n_header_blocks != sl_h2_session_n_header_blocks(conn->h2)) {
        conn->headers_since_ns = sl_conn_now_ns(conn);
        conn->n_header_blocks = sl_h2_session_n_header_blocks(conn->h2);
    }
    const uint64_t due = next_due(conn);
    if (due != SL_NEVER_NS && due < conn->tick.due_ns) {
        sl_timer_start(&conn->tick, due);
    }
}

/* ---- Drain ----------------------------------------------------------------------------------- */

static void announce(struct sl_conn *conn, const char *why)
{
    conn->drain = SL_DRAIN_ANNOUNCED;
    conn->drain_why = why; /* the first GOAWAY carries no text */
    conn->drain_step_ns = after(sl_conn_now_ns(conn), conn->limits->drain_ping);
    sl_h2_session_goaway(conn->h2, true, SL_H2_NO_ERROR, why);
    if (sl_h2_session_ping(conn->h2, DRAIN_PING) != SL_OK) {
        conn->drain_step_ns = sl_conn_now_ns(conn); /* do not wait for what was never asked */
    }
}

static void announce_final(struct sl_conn *conn)
{
    conn->drain = SL_DRAIN_FINAL;
    sl_h2_session_goaway(conn->h2, false, SL_H2_NO_ERROR, conn->drain_why);
}

/* Calls `act` for each call that has a stream; the list may lose that call meanwhile. */
static void each_call(struct sl_conn *conn, void (*act)(struct sl_call *call))
{
    SL_LIST_EACH(node, &conn->calls) {
        act(SL_CONTAINER(node, struct sl_call, in_conn));
    }
}

/* CM-4: it is too old, or was idle for too long. */
static void retire(struct sl_conn *conn, uint64_t now_ns)
{
    const bool is_old = conn->age_due_ns <= now_ns;
    if (is_old && conn->limits->connection_grace > 0) {
        conn->grace_due_ns = after(now_ns, conn->limits->connection_grace);
    }
    sl_limit_reached(is_old ? SL_LIMIT_connection_age : SL_LIMIT_connection_idle);
    announce(conn, is_old ? "max_age" : "max_idle");
}

static void step_drain(struct sl_conn *conn, uint64_t now_ns)
{
    if (conn->drain == SL_DRAIN_NONE) {
        retire(conn, now_ns);
    } else if (conn->drain <= SL_DRAIN_FINAL && conn->drain_force_ns <= now_ns) {
        if (conn->drain == SL_DRAIN_ANNOUNCED) {
            announce_final(conn);
        }
        conn->drain = SL_DRAIN_ENDING;
        conn->drain_step_ns = now_ns + DRAIN_GRACE_NS;
        each_call(conn, sl_call_drain);
    } else if (conn->drain == SL_DRAIN_ANNOUNCED) {
        sl_limit_reached(SL_LIMIT_drain_ping);
        announce_final(conn);
    } else if (conn->drain == SL_DRAIN_ENDING) {
        conn->drain = SL_DRAIN_FORCED;
        conn->drain_step_ns = now_ns + DRAIN_GRACE_NS;
        each_call(conn, sl_call_force);
    } else if (conn->drain == SL_DRAIN_FORCED) {
        give_up(conn); /* the peer does not take the last trailers */
    }
}

void sl_conn_drain(struct sl_conn *conn, uint64_t timeout_ms)
{
    if (conn->is_dead) {
        return;
    }
    const uint64_t force_ns = after(sl_conn_now_ns(conn), timeout_ms);
    conn->drain_force_ns = least(conn->drain_force_ns, force_ns);
    if (conn->drain == SL_DRAIN_NONE) {
        announce(conn, "drain");
    }
    sl_conn_timers_arm(conn);
    sl_conn_notify(conn);
}

/* ---- What happens ---------------------------------------------------------------------------- */

static void keep_alive(struct sl_conn *conn, uint64_t now_ns)
{
    if (conn->ping_sent_ns != SL_NEVER_NS) {
        sl_limit_reached(SL_LIMIT_keepalive_timeout);
        sl_conn_count_fault(conn, "ping_timeout");
        give_up(conn);
        return;
    }
    if (sl_h2_session_ping(conn->h2, KEEPALIVE_PING) == SL_OK) {
        conn->ping_sent_ns = now_ns;
    } else {
        conn->last_read_ns = now_ns; /* no memory for a PING: ask again after another silence */
    }
}

static void end_due_calls(struct sl_conn *conn, uint64_t now_ns)
{
    while (stall_due(conn) <= now_ns) {
        struct sl_call *call = stalled_head(conn);
        sl_list_remove(&call->in_stalled);
        sl_call_stalled(call);
    }
    while (gap_due(conn) <= now_ns) {
        struct sl_call *call = gap_head(conn);
        sl_list_remove(&call->in_gaps);
        sl_call_gap_passed(call);
    }
    sl_plain_end_due(conn, now_ns);
}

static void on_tick(void *user_data)
{
    struct sl_conn *conn = user_data;
    const uint64_t now_ns = sl_conn_now_ns(conn);
    if (conn->is_dead) {
        return;
    }
    end_due_calls(conn, now_ns);
    if (conn->room_due_ns <= now_ns) {
        sl_conn_ask_again(conn);
    }
    if (drain_due(conn) <= now_ns) {
        step_drain(conn, now_ns);
    }
    if (!conn->is_dead && conn->grace_due_ns <= now_ns) {
        sl_limit_reached(SL_LIMIT_connection_grace);
        give_up(conn);
    }
    if (!conn->is_dead && keepalive_due(conn) <= now_ns) {
        keep_alive(conn, now_ns);
    }
    if (!conn->is_dead && opening_due(conn) <= now_ns) {
        const bool is_ready = sl_h2_session_is_ready(conn->h2);
        sl_limit_reached(is_ready ? SL_LIMIT_header_block : SL_LIMIT_preface);
        sl_conn_count_fault(conn, is_ready ? "header_block_timeout" : "preface_timeout");
        give_up(conn);
    }
    sl_conn_timers_arm(conn);
}

void sl_conn_ping_acked(struct sl_conn *conn, uint64_t payload)
{
    if (payload == DRAIN_PING && conn->drain == SL_DRAIN_ANNOUNCED) {
        announce_final(conn);
    }
}

/* CM-4: +-10 %, so that connections that began together do not end together. */
static uint64_t aged(uint64_t now_ns, uint64_t age_ms)
{
    if (age_ms == 0) {
        return SL_NEVER_NS;
    }
    return after(now_ns, age_ms - age_ms / 10 + sl_random_below(age_ms / 5 + 1));
}

void sl_conn_timers_init(struct sl_conn *conn)
{
    const uint64_t now_ns = sl_conn_now_ns(conn);
    conn->created_ns = conn->last_read_ns = conn->idle_since_ns = now_ns;
    conn->headers_since_ns = conn->ping_sent_ns = SL_NEVER_NS;
    conn->age_due_ns = aged(now_ns, conn->limits->connection_age);
    conn->drain_force_ns = conn->grace_due_ns = conn->room_due_ns = SL_NEVER_NS;
    sl_timer_init(&conn->tick, conn->loop, on_tick, conn);
}
