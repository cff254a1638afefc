/* Properties of a whole server connection that is fed hostile bytes: every handler that was started
 * hears of its end at most once, and never after it has finished; each call is counted as started
 * once and as finished once; nothing runs and no stream is open when the connection has gone.
 *
 * Input: the step (0: all at once), a byte of flags, then HTTP/2 without the preface. */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "service/rpc/call.h"
#include "service/rpc/conn.h"
#include "tests/fuzz/fuzz.h"

enum { ROOM = 64 * 1024, MAX_PULLS = 200, SOURCE_BYTES = 3000, FLAG_LATE = 1, FLAG_DRAIN = 2 };

/* With empty SETTINGS; the last of their nine bytes is the end of the literal. */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

struct task {
    struct sl_call_source source;
    struct sl_call *call;
    struct task *next;
    size_t n_taken;
    bool is_ended;
};

static struct task *tasks; /* handlers that are pending */
static uint64_t n_started;

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* The handler finishes, and forgets the call. */
static void finish(struct task *task, enum sl_status status)
{
    struct task **link = &tasks;
    while (*link != task) {
        check(*link != NULL);
        link = &(*link)->next;
    }
    *link = task->next;
    struct sl_call *call = task->call;
    free(task);
    sl_call_finishf(call, status, "\xC3(%d%%", 7);
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct task *task = user_data;
    check(task->call == call && !task->is_ended);
    task->is_ended = true;
    if (end->code % 2 == 0) {
        finish(task, SL_CANCELLED);
    } /* else later, when everything is gone */
}

static void on_readable(struct sl_call *call, void *user_data)
{
    struct task *task = user_data;
    struct sl_slice message;
    check(task->call == call && !task->is_ended);
    const enum sl_status status = sl_call_recv_bytes(call, &message);
    if (status == SL_OK) {
        const enum sl_status sent = sl_call_send_bytes(call, message);
        /* The last: the peer allows no headers. */
        check(
            sent == SL_OK || sent == SL_AGAIN || sent == SL_FAILED_PRECONDITION ||
            sent == SL_RESOURCE_EXHAUSTED);
        (void)sl_message_free(message.size % 3 == 0 ? sl_message_take(call) : NULL);
    } else if (status != SL_AGAIN) {
        finish(task, status == SL_END ? SL_OK : status);
    }
}

static size_t ready(struct sl_call_source *source, size_t max, bool *ret_is_last)
{
    const struct task *task = SL_CONTAINER(source, struct task, source);
    const size_t left = SOURCE_BYTES - task->n_taken;
    const size_t n = left < max ? left : max;
    *ret_is_last = n == left;
    return n;
}

/* Messages of 10 bytes, with their prefixes. */
static void take(struct sl_call_source *source, uint8_t *dst, size_t n)
{
    static const uint8_t message[15] = "\0\0\0\0\12aaaaaaaaaa";
    struct task *task = SL_CONTAINER(source, struct task, source);
    check(!task->is_ended && n <= SOURCE_BYTES - task->n_taken);
    for (size_t i = 0; i < n; i++) {
        dst[i] = message[task->n_taken++ % sizeof(message)];
    }
}

static bool at_border(const struct sl_call_source *source)
{
    (void)source;
    return true;
}

static void on_finished(struct sl_call_source *source)
{
    finish(SL_CONTAINER(source, struct task, source), SL_OK);
}

static struct task *new_task(struct sl_call *call)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = on_readable,
                                                        .on_ended = on_ended };
    struct task *task = calloc(1, sizeof(*task));
    check(task != NULL);
    task->call = call;
    task->source = (struct sl_call_source){
        .ready = ready, .take = take, .at_border = at_border, .on_finished = on_finished
    };
    task->next = tasks;
    tasks = task;
    n_started++;
    sl_call_set_callbacks(call, &callbacks, task);
    return task;
}

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    struct sl_slice value;
    for (size_t i = 0; i < sl_call_metadata(call)->n_items; i++) {
        const struct sl_metadatum *item = &sl_call_metadata(call)->items[i];
        (void)!sl_call_add_header(call, item->key, item->value);
        (void)!sl_call_add_trailer(call, item->key, item->value);
    }
    check(!sl_metadata_get(sl_call_metadata(call), "te", 0, &value));
    (void)!sl_call_set_encoding(call, "gzip");
    return sl_call_reply_bytes(call, request);
}

static enum sl_status follow(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    struct task *task = new_task(call);
    (void)!sl_call_set_encoding(call, request.size % 2 == 0 ? "gzip" : "identity");
    (void)!sl_call_send_bytes(call, request);
    (void)!sl_call_set_source(call, &task->source);
    (void)!sl_call_send_bytes(call, request);
    return SL_PENDING;
}

static enum sl_status chat(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    (void)new_task(call);
    return SL_PENDING;
}

static struct sl_server *make_server(void)
{
    struct sl_server *server = NULL;
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.message_recv = 1 << 16;
    limits.runs_per_connection = 20;
    const struct sl_server_options options = { .limits = &limits };
    check(sl_server_new(&options, &server) == SL_OK);
    check(sl_server_add_raw(server, "/a/e", SL_UNARY, echo, NULL) == SL_OK);
    check(sl_server_add_raw(server, "/a/f", SL_SERVER_STREAMING, follow, NULL) == SL_OK);
    check(sl_server_add_raw(server, "/a/c", SL_BIDIRECTIONAL, chat, NULL) == SL_OK);
    check(sl_server_add_raw(server, "/a/u", SL_CLIENT_STREAMING, chat, NULL) == SL_OK);
    check(sl_server_add_raw(server, NULL, SL_UNARY, chat, NULL) == SL_OK);
    return server;
}

static void pull(struct sl_conn *conn, uint64_t now_ns)
{
    static uint8_t room[ROOM];
    for (int i = 0; i < MAX_PULLS; i++) {
        if (sl_conn_pull(conn, room, sizeof(room), now_ns) == 0) {
            return;
        }
    }
}

static void feed(struct sl_conn *conn, struct sl_slice bytes, size_t step, uint64_t *now_ns)
{
    while (bytes.size > 0) {
        const size_t n = step == 0 || bytes.size < step ? bytes.size : step;
        *now_ns += SL_NS_PER_MS;
        if (sl_conn_feed(conn, sl_slice_of(bytes.data, n), *now_ns, NULL) != SL_OK) {
            break;
        }
        pull(conn, *now_ns);
        bytes.data += n;
        bytes.size -= n;
    }
}

/* Time passes: stalls, gaps, keepalive, the end of a drain. */
static void wait_long(struct sl_conn *conn, uint64_t now_ns)
{
    for (int i = 0; i < 100 && !sl_conn_wants_close(conn); i++) {
        const uint64_t due_ns = sl_conn_due_ns(conn);
        if (due_ns == SL_NEVER_NS) {
            break;
        }
        now_ns = due_ns > now_ns ? due_ns : now_ns;
        (void)!sl_conn_feed(conn, (struct sl_slice){ 0 }, now_ns, NULL);
        pull(conn, now_ns);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct sl_server *server = make_server();
    struct sl_conn *conn = NULL;
    uint64_t now_ns = SL_NS_PER_S;
    check(sl_conn_new(server, NULL, &conn) == SL_OK);
    n_started = 0;
    feed(conn, sl_slice_of(preface, sizeof(preface)), 0, &now_ns);
    feed(conn, sl_slice_of(data + 2, size - 2), data[0], &now_ns);
    if ((data[1] & FLAG_DRAIN) != 0) {
        sl_conn_drain(conn, 1000);
    }
    if ((data[1] & FLAG_LATE) != 0) {
        wait_long(conn, now_ns);
    }
    conn = sl_conn_free(conn);
    while (tasks != NULL) {
        check(tasks->is_ended && sl_call_is_ended(tasks->call));
        finish(tasks, SL_OK);
    }
    struct sl_server_stats stats;
    sl_server_stats(server, &stats);
    check(stats.calls_started == stats.calls_finished && stats.calls_started >= n_started);
    check(stats.calls_running == 0 && stats.streams == 0 && stats.connections == 0);
    (void)sl_server_free(server);
    return 0;
}
