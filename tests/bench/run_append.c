/* How many events a second go through runs into the store: one loop, runs of the provider `load`,
 * and a reader for each that takes what comes. Prints a line; asserts nothing but success.
 *
 *   run_append FOLDER [none|async|sync [runs [events of a run [bytes]]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/conf.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/runtime_private.h"

enum { MAX_RUNS = 4096, PATH_BYTES = 4096, TAKE_BYTES = 65536 };

static const char agent_yaml[] =
    "name: rec\nprovider: load\nmodel: load\nmemory: None\nheartbeat_ms: 0\n";

static struct sl_loop_uv *uv;
static struct sl_runtime *runtime;
static size_t n_busy;
static uint64_t n_bytes;
static bool is_idle;

static void give_up(const char *what, const char *why)
{
    (void)fprintf(stderr, "run_append: %s: %s\n", what, why);
    exit(1); // NOLINT(concurrency-mt-unsafe): the process is over
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now = { 0 };
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SL_NS_PER_S + (uint64_t)now.tv_nsec;
}

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void on_problem(const char *line, void *user_data)
{
    (void)user_data;
    give_up("agent", line);
}

static void on_idle(void *user_data)
{
    (void)user_data;
    is_idle = true;
}

/* ---- The readers -------------------------------------------------------------------------------
 */

static void read_all(struct sl_run_stream *stream)
{
    static uint8_t room[TAKE_BYTES];
    bool is_last = false;
    size_t n = sl_run_stream_ready(stream, sizeof(room), &is_last);
    while (n > 0 && !is_last) {
        sl_run_stream_take(stream, room, n);
        n_bytes += n;
        n = sl_run_stream_ready(stream, sizeof(room), &is_last);
    }
    if (is_last) {
        sl_run_stream_take(stream, room, n);
        if (sl_run_stream_ending(stream)->status != SL_OK) {
            give_up("run", sl_run_stream_ending(stream)->message);
        }
        n_busy--;
        sl_run_stream_close(stream, SL_RUN_CLOSE_READ, 0);
    }
}

static void on_readable(struct sl_run_stream *stream, void *user_data)
{
    (void)user_data;
    read_all(stream);
}

static void on_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    (void)run_id;
    (void)user_data;
    if (refusal != NULL) {
        give_up("start", refusal->text);
    }
    read_all(stream);
}

static void start(const struct sl_run_spec *spec)
{
    static const struct sl_run_callbacks callbacks = { .on_started = on_started,
                                                       .on_readable = on_readable };
    struct sl_run_stream *stream = NULL;
    n_busy++;
    if (sl_run_start(runtime, sl_loop_uv_base(uv), spec, &callbacks, &stream) != SL_OK) {
        give_up("start", "no memory");
    }
}

/* ---- The whole ---------------------------------------------------------------------------------
 */

static void load_agent(const char *folder)
{
    char path[PATH_BYTES];
    struct sl_error err;
    (void)snprintf(path, sizeof(path), "%s/agent.yaml", folder);
    FILE *file = fopen(path, "we");
    if (file == NULL || fwrite(agent_yaml, 1, sizeof(agent_yaml) - 1, file) == 0 ||
        fclose(file) != 0) {
        give_up(path, "cannot be written");
    }
    if (sl_runtime_load_agents(runtime, path, on_problem, NULL, &err) != SL_OK) {
        give_up("agents", err.text);
    }
}

static void open_store(const char *folder)
{
    char path[PATH_BYTES];
    struct sl_error err;
    (void)snprintf(path, sizeof(path), "%s/run_append.db", folder);
    const struct sl_store_sqlite_options options = { .path = path };
    (void)sl_store_free(runtime->store);
    if (sl_store_sqlite_new(&options, &runtime->store, &err) != SL_OK) {
        give_up("store", err.text);
    }
    runtime->newest->loops[0].env.store = runtime->store;
}

static void open_runtime(const char *folder)
{
    static const char *const environment[] = { NULL };
    static struct sl_limits limits;
    struct sl_error err;
    sl_limits_init(&limits);
    if (sl_loop_uv_new(0, &uv) != SL_OK) {
        give_up("loop", "cannot be made");
    }
    struct sl_loop *loops[] = { sl_loop_uv_base(uv) };
    const struct sl_runtime_options options = {
        .loops = loops, .n_loops = 1, .limits = &limits, .env = no_env, .environment = environment
    };
    if (sl_runtime_new(&options, &runtime, &err) != SL_OK) {
        give_up("runtime", err.text);
    }
    struct sl_conf *conf = NULL;
    if (sl_conf_parse(sl_slice_str("{}"), "none", &conf) != SL_OK) {
        give_up("configuration", "cannot be made");
    }
    sl_runtime_configure(runtime, conf, sl_conf_document(conf, 0));
    (void)sl_conf_free(conf);
    load_agent(folder);
    open_store(folder);
}

static uint64_t number(int argc, char **argv, int index, uint64_t otherwise)
{
    uint64_t value = otherwise;
    if (argc > index && sl_parse_u64(sl_slice_str(argv[index]), 1, UINT32_MAX, &value) != SL_OK) {
        give_up(argv[index], "not a number");
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(
            stderr, "usage: run_append FOLDER [none|async|sync [runs [events [bytes]]]]\n");
        return 2;
    }
    const char *mode = argc > 2 ? argv[2] : "async";
    const uint64_t n_runs = number(argc, argv, 3, 16);
    const uint64_t n_events = number(argc, argv, 4, 50000);
    char input[128];
    (void)snprintf(
        input, sizeof(input), "events=%llu bytes=%llu rate=0", (unsigned long long)n_events,
        (unsigned long long)number(argc, argv, 5, 64));
    const struct sl_run_spec spec = {
        .agent = "rec",
        .input = sl_slice_str(input),
        .durability = strcmp(mode, "sync") == 0    ? SL_RUN_DURABILITY_SYNC
                      : strcmp(mode, "async") == 0 ? SL_RUN_DURABILITY_ASYNC
                                                   : SL_RUN_DURABILITY_NONE,
        .peer = "bench",
    };
    open_runtime(argv[1]);
    const uint64_t begun_ns = now_ns(CLOCK_MONOTONIC);
    const uint64_t loop_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    const uint64_t cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t i = 0; i < n_runs && i < MAX_RUNS; i++) {
        start(&spec);
    }
    while (n_busy > 0) {
        sl_loop_uv_step(uv, 1000);
    }
    const double took = (double)(now_ns(CLOCK_MONOTONIC) - begun_ns) / 1e9;
    const double loop_cpu = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - loop_cpu_ns) / 1e9;
    const double cpu = (double)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns) / 1e9;
    struct sl_store_stats stats;
    sl_store_stats(runtime->store, &stats);
    const double total = (double)(n_runs * n_events);
    (void)printf(
        "mode=%s runs=%llu events=%.0f seconds=%.2f events_per_s=%.0f mb_per_s=%.1f appends=%llu "
        "commits=%llu cpu_per_M=%.3f loop_cpu_per_M=%.3f\n",
        mode, (unsigned long long)n_runs, total, took, total / took, (double)n_bytes / took / 1e6,
        (unsigned long long)stats.appends, (unsigned long long)stats.commits, cpu / (total / 1e6),
        loop_cpu / (total / 1e6));
    sl_runtime_stop(runtime, on_idle, NULL);
    while (!is_idle) {
        sl_loop_uv_step(uv, 1000);
    }
    (void)sl_runtime_free(runtime);
    (void)sl_loop_uv_free(uv);
    return 0;
}
