/* How many events a second the store takes: runs that append a batch each, one at a time, as
 * executors do. Prints a line; asserts nothing but success.
 *
 *   store_append PATH [runs [events of a batch [payload bytes [seconds [full|normal]]]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/store/store.h"

enum { MAX_RUNS = 4096, SEGMENT_BYTES = 16384 };

struct writer {
    struct sl_store_run run;
    struct sl_store_log log;
    struct sl_store_begin begin;
    struct sl_store_append append;
    char run_id[40];
    uint64_t sent;
};

static struct writer writers[MAX_RUNS];
static struct sl_store *store;
static uint64_t batch_events, end_ns, n_events;
static size_t n_busy;
static struct sl_segment *segments[SL_STORE_RANGES];
static struct sl_store_range ranges[SL_STORE_RANGES];
static uint32_t n_ranges;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now = { 0 };
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SL_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The same bytes for each append: the store does not look into them. */
static void make_events(uint64_t count, uint32_t payload)
{
    const uint32_t size = SL_EVENT_PREFIX_BYTES + payload;
    uint64_t left = count;
    while (left > 0 && n_ranges < SL_STORE_RANGES) {
        struct sl_segment *segment = sl_segment_new(size > SEGMENT_BYTES ? size : SEGMENT_BYTES);
        if (segment == NULL) {
            exit(1); // NOLINT(concurrency-mt-unsafe): nothing runs yet
        }
        while (left > 0 && segment->capacity - segment->used >= size) {
            uint8_t *event = segment->bytes + segment->used;
            memset(event, 'x', size);
            event[0] = 0;
            event[1] = (uint8_t)(payload >> 24);
            event[2] = (uint8_t)(payload >> 16);
            event[3] = (uint8_t)(payload >> 8);
            event[4] = (uint8_t)payload;
            segment->used += size;
            left--;
        }
        segments[n_ranges] = segment;
        ranges[n_ranges++] = (struct sl_store_range){ segment, 0, segment->used };
    }
    batch_events = count - left;
}

static void give_up(const char *what, enum sl_status status, const char *why)
{
    (void)fprintf(
        stderr, "store_append: %s: %s (%s)\n", what, sl_status_name(status),
        why == NULL ? "" : why);
    exit(1); // NOLINT(concurrency-mt-unsafe): the process is over
}

static void send_next(struct writer *writer)
{
    writer->append.first_sequence = writer->sent + 1;
    writer->append.last_sequence = writer->sent + batch_events;
    memcpy(writer->append.ranges, ranges, sizeof(ranges));
    writer->append.n_ranges = n_ranges;
    const enum sl_status said = sl_store_append(store, &writer->append);
    if (said != SL_PENDING && said != SL_AGAIN) {
        give_up("append", said, NULL);
    }
}

static void on_appended(struct sl_store_request *request)
{
    struct writer *writer = SL_CONTAINER(request, struct writer, append.request);
    if (request->status != SL_OK) {
        give_up("append", request->status, request->why);
    }
    writer->sent += batch_events;
    n_events += batch_events;
    if (now_ns(CLOCK_MONOTONIC) < end_ns) {
        send_next(writer);
    } else {
        n_busy--;
    }
}

static void on_begun(struct sl_store_request *request)
{
    struct writer *writer = SL_CONTAINER(request, struct writer, begin.request);
    if (request->status != SL_OK) {
        give_up("begin", request->status, request->why);
    }
    send_next(writer);
}

static void start(struct writer *writer, struct sl_loop *loop, size_t index)
{
    (void)snprintf(writer->run_id, sizeof(writer->run_id), "%032zx", index);
    writer->run = (struct sl_store_run){
        .run_id = writer->run_id, .agent = "load", .durability = SL_STORE_ASYNC, .created_ms = 1
    };
    writer->append = (struct sl_store_append){ .request = { .loop = loop, .on_done = on_appended },
                                               .log = &writer->log };
    writer->begin = (struct sl_store_begin){ .request = { .loop = loop, .on_done = on_begun },
                                             .log = &writer->log,
                                             .run = &writer->run };
    n_busy++;
    const enum sl_status said = sl_store_begin_run(store, &writer->begin);
    if (said != SL_PENDING) {
        give_up("begin", said, NULL);
    }
}

static uint64_t number(int argc, char **argv, int index, uint64_t otherwise)
{
    uint64_t value = otherwise;
    if (argc > index && sl_parse_u64(sl_slice_str(argv[index]), 1, UINT32_MAX, &value) != SL_OK) {
        (void)fprintf(stderr, "store_append: not a number: %s\n", argv[index]);
        exit(2); // NOLINT(concurrency-mt-unsafe): nothing runs yet
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(
            stderr, "usage: store_append PATH [runs [events [bytes [seconds [mode]]]]]\n");
        return 2;
    }
    size_t n_runs = number(argc, argv, 2, 16);
    n_runs = n_runs < MAX_RUNS ? n_runs : MAX_RUNS;
    const uint64_t seconds = number(argc, argv, 5, 5);
    make_events(number(argc, argv, 3, 256), (uint32_t)number(argc, argv, 4, 100));
    const struct sl_store_sqlite_options options = {
        .path = argv[1],
        .is_normal = argc > 6 && strcmp(argv[6], "normal") == 0,
    };
    struct sl_error err;
    if (sl_store_sqlite_new(&options, &store, &err) != SL_OK) {
        (void)fprintf(stderr, "store_append: %s\n", err.text);
        return 1;
    }
    struct sl_loop_uv *uv = NULL;
    if (sl_loop_uv_new(0, &uv) != SL_OK) {
        return 1;
    }
    const uint64_t begun_ns = now_ns(CLOCK_MONOTONIC);
    end_ns = begun_ns + seconds * SL_NS_PER_S;
    for (size_t i = 0; i < n_runs; i++) {
        start(&writers[i], sl_loop_uv_base(uv), i);
    }
    const uint64_t loop_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    while (n_busy > 0) {
        sl_loop_uv_step(uv, 1000);
    }
    const double took = (double)(now_ns(CLOCK_MONOTONIC) - begun_ns) / 1e9;
    const double loop_cpu = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - loop_cpu_ns) / 1e9;
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    const double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    struct sl_store_stats stats;
    sl_store_stats(store, &stats);
    (void)printf(
        "runs=%zu batch=%llu events=%llu seconds=%.2f events_per_s=%.0f mb_per_s=%.1f "
        "commits_per_s=%.0f commit_ms=%.3f longest_ms=%.1f cpu_per_M=%.3f loop_cpu_per_M=%.4f\n",
        n_runs, (unsigned long long)batch_events, (unsigned long long)n_events, took,
        (double)n_events / took, (double)stats.event_bytes / took / 1e6,
        (double)stats.commits / took,
        (double)stats.commit_ns / 1e6 / (double)(stats.commits == 0 ? 1 : stats.commits),
        (double)stats.longest_commit_ns / 1e6, cpu / ((double)n_events / 1e6),
        loop_cpu / ((double)n_events / 1e6));
    (void)sl_store_free(store);
    (void)sl_loop_uv_free(uv);
    for (uint32_t i = 0; i < n_ranges; i++) {
        (void)sl_segment_unref(segments[i]);
    }
    return 0;
}
