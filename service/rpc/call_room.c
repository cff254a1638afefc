/* Room for what a call sends, and for a request that comes.
 *
 * For what it sends there are three bounds, of which the innermost is a call's own:
 *
 *   call        `buffer` and `buffer_events`, or its share of the connection's; one message always
 *               fits into an empty queue (FC-3)
 *   connection  `connection_send`: above it streams have less, and no call starts that would add a
 *               further reply to as many bytes of replies
 *   process     `send_total`: above it no message over SL_SEND_LEAST_MARK is queued
 *
 * A reply cannot wait, because its handler has finished: so calls are held back before they start,
 * and a large reply that the process has no room for is refused.
 *
 * A request that is not complete costs its client nothing but its bytes, and every stream may have
 * one: above `receive_total`, those of more than RECEIVE_LEAST are refused. */
#include "runtime/base/send_total.h"
#include "service/rpc/call_impl.h"

enum { ASK_AGAIN_NS = 100 * 1000 * 1000, RECEIVE_LEAST = 16 * 1024, RECEIVE_STEP = 4096 };

/* ---- The connection and the process -----------------------------------------------------------
 */

static bool has_process_room(const struct sl_call *call, size_t size)
{
    const uint64_t queued = sl_send_total_bytes();
    return size <= SL_SEND_LEAST_MARK || queued == 0 ||
           queued + size <= call->conn->limits->send_total;
}

/* Room on another connection is not told of: those who wait for it ask from time to time. */
static void wait_for_room(struct sl_call *call)
{
    struct sl_conn *conn = call->conn;
    if (sl_list_is_empty(&call->in_waiting)) {
        sl_list_add_last(&conn->waiting, &call->in_waiting);
    }
    if (conn->room_due_ns == SL_NEVER_NS) {
        conn->room_due_ns = sl_conn_now_ns(conn) + ASK_AGAIN_NS;
        sl_conn_timers_arm(conn);
    }
}

void sl_conn_ask_again(struct sl_conn *conn)
{
    conn->room_due_ns = SL_NEVER_NS;
    for (struct sl_list *node; (node = sl_list_first(&conn->waiting)) != NULL;) {
        struct sl_call *call = SL_CONTAINER(node, struct sl_call, in_waiting);
        sl_list_remove(node);
        if (call->stage == SL_STAGE_REQUEST) {
            sl_call_raise(call, SL_EVENT_START);
            if (sl_call_is_streaming_in(call)) { /* requests came before anybody could be told */
                sl_call_raise(call, SL_EVENT_READABLE);
            }
        } else {
            call->is_blocked = false;
            sl_call_raise(call, SL_EVENT_WRITABLE);
        }
    }
}

bool sl_call_may_start(struct sl_call *call)
{
    const struct sl_conn *conn = call->conn;
    if (!sl_call_has_one_reply(call) || conn->reply_bytes <= conn->limits->connection_send) {
        call->is_blocked = false;
        return true;
    }
    if (!call->is_blocked) {
        sl_limit_reached(SL_LIMIT_connection_send);
    }
    call->is_blocked = true;
    wait_for_room(call);
    return false;
}

bool sl_call_has_reply_room(const struct sl_call *call, size_t size)
{
    if (!has_process_room(call, size)) {
        sl_limit_reached(SL_LIMIT_send_total);
        return false;
    }
    return true;
}

/* ---- The call ---------------------------------------------------------------------------------
 */

/* FC-3. The streams that came first may have queued more than their share is now, so connection and
 * process have bounds of their own: with `size` more above one of them, a stream has the least. */
static size_t mark_bytes(const struct sl_call *call, size_t size)
{
    const struct sl_limits *limits = call->conn->limits;
    const size_t n_streams = sl_call_n_streams(call);
    const uint64_t share = limits->connection_send / (n_streams == 0 ? 1 : n_streams);
    if (share < SL_SEND_LEAST_MARK || call->conn->queued_bytes + size > limits->connection_send ||
        sl_send_total_is_over(limits->send_total)) {
        return SL_SEND_LEAST_MARK;
    }
    return (size_t)(share > limits->buffer ? limits->buffer : share);
}

void sl_call_count_queued(struct sl_call *call, size_t size_before)
{
    struct sl_conn *conn = call->conn;
    conn->queued_bytes += call->out.queue.size;
    conn->queued_bytes -= size_before;
    sl_send_total_note(&conn->send_share, conn->queued_bytes);
    if (!sl_call_has_one_reply(call)) {
        return;
    }
    conn->reply_bytes += call->out.queue.size;
    conn->reply_bytes -= size_before;
    /* At once, and not at a lower mark: calls that come meanwhile would go first. */
    if (!sl_list_is_empty(&conn->waiting) && conn->reply_bytes <= conn->limits->connection_send) {
        sl_conn_ask_again(conn);
    }
}

/* Which bound holds the call back; none: there is room. */
static bool find_bound(const struct sl_call *call, size_t size, enum sl_limit *ret_bound)
{
    const struct sl_limits *limits = call->conn->limits;
    if (call->out.queue.size == 0) {
        *ret_bound = SL_LIMIT_send_total;
        return !has_process_room(call, size);
    }
    const size_t mark = mark_bytes(call, size);
    const bool fits = call->out.queue.size + size <= mark;
    *ret_bound = fits                                        ? SL_LIMIT_buffer_events
                 : mark == limits->buffer                    ? SL_LIMIT_buffer
                 : sl_send_total_is_over(limits->send_total) ? SL_LIMIT_send_total
                                                             : SL_LIMIT_connection_send;
    return !fits || call->out.n_queued >= limits->buffer_events;
}

enum sl_status sl_call_ask_room(struct sl_call *call, size_t size)
{
    enum sl_limit bound = SL_LIMIT_buffer;
    if (!find_bound(call, size, &bound)) {
        return SL_OK;
    }
    if (!call->is_blocked) {
        sl_limit_reached(bound);
    }
    call->is_blocked = true;
    if (call->out.queue.size == 0) {
        wait_for_room(call);
    }
    return SL_AGAIN;
}

void sl_call_tell_writable(struct sl_call *call)
{
    if (call->is_blocked && call->out.queue.size <= mark_bytes(call, 0) / 2 &&
        call->out.n_queued <= call->conn->limits->buffer_events / 2) {
        call->is_blocked = false;
        sl_call_raise(call, SL_EVENT_WRITABLE);
    }
}

/* ---- Requests ---------------------------------------------------------------------------------
 */

static void hand_over_received(struct sl_conn *conn)
{
    const uint64_t more = conn->received_bytes - conn->received_share; /* or less */
    const uint64_t apart = conn->received_bytes > conn->received_share ? more : 0 - more;
    if (apart >= RECEIVE_STEP || (conn->received_bytes == 0 && apart > 0)) {
        (void)atomic_fetch_add_explicit(&conn->server->received_bytes, more, memory_order_relaxed);
        conn->received_share = conn->received_bytes;
    }
}

void sl_call_count_received(struct sl_call *call)
{
    struct sl_frame_reader *reader = call->in.reader;
    const size_t n_held = sl_frame_reader_n_held(reader);
    call->conn->received_bytes += n_held;
    call->conn->received_bytes -= reader->n_counted;
    reader->n_counted = n_held;
    hand_over_received(call->conn);
}

bool sl_call_has_receive_room(const struct sl_call *call)
{
    const struct sl_conn *conn = call->conn;
    if (sl_frame_reader_n_held(call->in.reader) <= RECEIVE_LEAST ||
        atomic_load_explicit(&conn->server->received_bytes, memory_order_relaxed) <=
            conn->limits->receive_total) {
        return true;
    }
    sl_limit_reached(SL_LIMIT_receive_total);
    return false;
}
