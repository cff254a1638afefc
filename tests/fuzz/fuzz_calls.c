#include "tests/fuzz/fuzz_calls.h"

#include <stdlib.h>

#include "runtime/base/mem.h"
#include "service/rpc/call.h"

enum { SOURCE_BYTES = 3000 };

struct task {
    struct sl_call_source source;
    struct sl_call *call;
    struct task *next;
    size_t n_taken;
    bool is_ended;
    bool is_patient; /* finishes only when everything is gone */
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
    if (end->code % 2 == 0 && !task->is_patient) {
        finish(task, SL_CANCELLED);
    }
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
    task->is_patient = n_started % 3 == 2;
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

struct sl_server *fuzz_calls_server(void)
{
    struct sl_server *server = NULL;
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.message_recv = 1 << 16;
    limits.runs_per_connection = 20;
    const struct sl_server_options options = { .limits = &limits };
    n_started = 0;
    check(sl_server_new(&options, &server) == SL_OK);
    check(sl_server_add_raw(server, "/a/e", SL_UNARY, echo, NULL) == SL_OK);
    check(sl_server_add_raw(server, "/a/f", SL_SERVER_STREAMING, follow, NULL) == SL_OK);
    check(sl_server_add_raw(server, "/a/c", SL_BIDIRECTIONAL, chat, NULL) == SL_OK);
    check(sl_server_add_raw(server, "/a/u", SL_CLIENT_STREAMING, chat, NULL) == SL_OK);
    check(sl_server_add_raw(server, NULL, SL_UNARY, chat, NULL) == SL_OK);
    return server;
}

void fuzz_calls_free(struct sl_server *server)
{
    struct sl_server_stats stats;
    while (tasks != NULL) {
        check(tasks->is_ended && sl_call_is_ended(tasks->call));
        finish(tasks, SL_OK);
    }
    sl_server_stats(server, &stats);
    check(stats.calls_started == stats.calls_finished && stats.calls_started >= n_started);
    check(stats.calls_running == 0 && stats.streams == 0 && stats.connections == 0);
    (void)sl_server_free(server);
}
