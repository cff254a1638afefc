/* /debug/dump: what the process holds, as JSON. No content of runs, no secrets. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/send_total.h"
#include "runtime/base/utf8.h"
#include "runtime/base/version.h"
#include "runtime/runtime.h"
#include "service/ops/ops_impl.h"

enum { KINDS = 16, KIND_BYTES = 40, SHOWN_BYTES = 128 };

/* Where the visitors write; the first failure stays. */
struct list {
    struct sl_buf *out;
    enum sl_status status;
    bool has_items;
    uint64_t n;
    uint64_t sums[2];
};

SL_PRINTF(2, 3) static void put(struct list *list, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (list->status == SL_OK) {
        list->status = sl_buf_add_str(list->out, text);
    }
}

/* A string for JSON, cut; what JSON would have to escape is '?'. Gives `room`. */
static const char *quote(const char *text, char room[SHOWN_BYTES])
{
    size_t n = 0;
    room[n++] = '"';
    for (; text != NULL && *text != '\0' && n + 2 < SHOWN_BYTES; text++) {
        const unsigned char c = (unsigned char)*text;
        room[n++] = (char)(c < 0x20 || c > 0x7E || c == '"' || c == '\\' ? '?' : c);
    }
    room[n++] = '"';
    room[n] = '\0';
    return room;
}

#define QUOTE(text) quote((text), (char[SHOWN_BYTES]){ 0 })

static const char *comma(struct list *list)
{
    const bool had_items = list->has_items;
    list->has_items = true;
    return had_items ? "," : "";
}

static const char *yes(bool is_true)
{
    return is_true ? "true" : "false";
}

/* ---- One loop ----------------------------------------------------------------------------------
 */

static void put_memory(struct list *list, const struct sl_account *memory)
{
    static const char *const names[] = {
#define NAME(name) #name,
        SL_ACCOUNT_MAP(NAME)
#undef NAME
    };
    const uint64_t parts[] = {
#define PART(name) memory->name,
        SL_ACCOUNT_MAP(PART)
#undef PART
    };
    for (size_t i = 0; i < SL_COUNT(parts); i++) {
        put(list, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",", names[i], parts[i]);
    }
}

static void put_run(const struct sl_run_view *run, void *user_data)
{
    struct list *list = user_data;
    put(list,
        "%s\n{\"id\":%s,\"agent\":%s,\"peer\":%s,\"state\":\"%s\",\"on_disconnect\":\"%s\","
        "\"age_ms\":%" PRIu64 ",\"iteration\":%" PRIu32 ",\"unread_events\":%" PRIu64
        ",\"unread_bytes\":%" PRIu64 ",\"log_bytes\":%" PRIu64 ",\"paused\":%s,\"detached\":%s",
        comma(list), QUOTE(run->run_id), QUOTE(run->agent), QUOTE(run->peer), run->state,
        run->on_disconnect, run->age_ms, run->iteration, run->unread_events, run->unread_bytes,
        run->memory.log, yes(run->is_paused), yes(run->is_detached));
    put(list, ",\"memory_bytes\":%" PRIu64 ",\"memory\":{", sl_account_total(&run->memory));
    put_memory(list, &run->memory);
    put(list, "}}");
}

static void put_child(const struct sl_child_view *child, void *user_data)
{
    struct list *list = user_data;
    put(list, "%s\n{\"pid\":%d,\"tool\":%s,\"call\":%s,\"age_ms\":%" PRIu64 ",\"unreaped\":%s}",
        comma(list), child->pid, QUOTE(child->tool), QUOTE(child->call), child->age_ms,
        yes(child->is_unreaped));
}

static void put_conn(const struct sl_conn_view *conn, void *user_data)
{
    struct list *list = user_data;
    put(list,
        "%s\n{\"peer\":%s,\"tls\":%s,\"streams\":%zu,\"running\":%zu,\"age_ms\":%" PRIu64
        ",\"queued_bytes\":%" PRIu64 ",\"memory_bytes\":%" PRIu64 "}",
        comma(list), QUOTE(conn->peer), yes(conn->is_tls), conn->n_streams, conn->n_running,
        conn->age_ms, conn->queued_bytes, conn->memory_bytes);
}

enum sl_status sl_ops_dump_loop(struct sl_ops_loop *at, struct sl_buf *out)
{
    struct list list = { .out = out };
    const uint64_t due_ns = atomic_load_explicit(&at->last_lag_ns, memory_order_relaxed);
    const uint64_t now_ns = sl_loop_now_ns(at->loop);
    put(&list, "{\"index\":%" PRIu32 ",\"late_ms\":%" PRIu64 ",\"runs\":[", at->loop->index,
        now_ns > due_ns ? (now_ns - due_ns) / SL_NS_PER_MS : 0);
    sl_runtime_each_run(at->ops->runtime, at->loop, put_run, &list);
    list.has_items = false;
    put(&list, "],\"children\":[");
    sl_runtime_each_child(at->ops->runtime, at->loop, put_child, &list);
    list.has_items = false;
    put(&list, "],\"connections\":[");
    sl_server_each_conn(at->ops->server, at->loop, put_conn, &list);
    put(&list,
        "],\"memory\":{\"runs\":%" PRIu64 ",\"waiting\":%" PRIu64 ",\"kept\":%" PRIu64
        ",\"records\":%" PRIu64 "}}",
        at->memory.runs, at->memory.waiting, at->memory.kept, at->memory.records);
    return list.status;
}

/* ---- The process -------------------------------------------------------------------------------
 */

struct kind {
    char name[KIND_BYTES];
    uint64_t n;
};

/* "socket:[123]" is "socket", "anon_inode:[eventfd]" is "eventfd", a path is "file". */
static void kind_of(const char *target, char name[KIND_BYTES])
{
    static const char anonymous[] = "anon_inode:";
    const bool is_anonymous = strncmp(target, anonymous, sizeof(anonymous) - 1) == 0;
    const char *from = is_anonymous ? target + sizeof(anonymous) - 1 : target;
    from += *from == '[' ? 1 : 0;
    const size_t size = is_anonymous ? strcspn(from, "]") : strcspn(from, ":");
    (void)snprintf(
        name, KIND_BYTES, "%.*s", target[0] == '/' ? 4 : (int)size,
        target[0] == '/' ? "file" : from);
}

static void count_kind(struct kind kinds[KINDS], const char *name)
{
    size_t i = 0;
    while (i + 1 < KINDS && kinds[i].n > 0 && strcmp(kinds[i].name, name) != 0) {
        i++;
    }
    (void)snprintf(kinds[i].name, KIND_BYTES, "%s", i + 1 < KINDS ? name : "other");
    kinds[i].n++;
}

static void put_descriptors(struct list *list)
{
    struct kind kinds[KINDS] = { 0 };
    DIR *folder = opendir("/proc/self/fd");
    const int own = folder == NULL ? -1 : dirfd(folder);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the folder is ours
    for (const struct dirent *it = NULL; folder != NULL && (it = readdir(folder)) != NULL;) {
        char target[256];
        char name[KIND_BYTES];
        char self[16];
        (void)snprintf(self, sizeof(self), "%d", own);
        const ssize_t n = readlinkat(own, it->d_name, target, sizeof(target) - 1);
        if (n > 0 && strcmp(self, it->d_name) != 0) {
            target[n] = '\0';
            kind_of(target, name);
            count_kind(kinds, name);
        }
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    put(list, ",\n\"descriptors\":{");
    list->has_items = false;
    for (size_t i = 0; i < KINDS && kinds[i].n > 0; i++) {
        put(list, "%s%s:%" PRIu64, comma(list), QUOTE(kinds[i].name), kinds[i].n);
    }
    put(list, "}");
}

static void put_limits(struct list *list)
{
    put(list, ",\n\"limits_reached\":{");
    list->has_items = false;
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        const uint64_t n = sl_limit_n_reached((enum sl_limit)i);
        if (n > 0) {
            put(list, "%s\"%s\":%" PRIu64, comma(list), sl_limit_infos[i].name, n);
        }
    }
    put(list, "}");
}

static void put_totals(struct list *list, const struct sl_ops *ops)
{
    struct sl_server_stats server;
    struct sl_runtime_stats runtime;
    sl_server_stats(ops->server, &server);
    sl_runtime_stats(ops->runtime, &runtime);
    put(list,
        "{\"version\":\"" SL_VERSION "\",\n\"totals\":{\"runs_running\":%" PRIu64
        ",\"runs_waiting\":%" PRIu64 ",\"children\":%" PRIu64 ",\"connections\":%" PRIu64
        ",\"streams\":%" PRIu64 ",\"calls_running\":%" PRIu64 ",\"connection_bytes\":%" PRIu64
        ",\"send_queue_bytes\":%" PRIu64 ",\"log_bytes\":%" PRIu64 ",\"runs_kept\":%" PRIu64
        ",\"kept_bytes\":%" PRIu64 ",\"runs_memory_bytes\":%" PRIu64 "}",
        runtime.runs_running, runtime.runs_waiting, runtime.tool_children, server.connections,
        server.streams, server.calls_running, server.connection_bytes, sl_send_total_bytes(),
        sl_metric_value(sl_metric_series(SL_M_sluice_log_bytes, NULL)), runtime.runs_kept,
        runtime.kept_bytes, sl_ops_runs_memory(ops));
}

/* A loop that has not answered is named, without its part. */
static void put_loop(struct list *list, const struct sl_ops_loop *at)
{
    if (at->own.is_out || at->is_dump_cut) {
        put(list, "%s\n{\"index\":%" PRIu32 ",\"error\":\"%s\"}", comma(list), at->loop->index,
            at->own.is_out ? "no answer" : "too large");
        return;
    }
    put(list, "%s\n", comma(list));
    if (list->status == SL_OK) {
        list->status = sl_buf_add(list->out, sl_buf_slice(&at->dump));
    }
}

enum sl_status sl_ops_dump(struct sl_ops *ops, struct sl_buf *out)
{
    struct list list = { .out = out };
    put_totals(&list, ops);
    put_descriptors(&list);
    put_limits(&list);
    put(&list, ",\n\"loops\":[");
    list.has_items = false;
    for (size_t i = 0; i < ops->n_loops; i++) {
        put_loop(&list, &ops->loops[i]);
    }
    put(&list, "]}\n");
    return list.status;
}
