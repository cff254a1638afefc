/* Appends to a store until it is killed, and says on its standard output what was acknowledged:
 * "RUN LAST" and "RUN LAST end", a line each. For the test that kills it.
 *
 *   store_victim PATH */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/store/store.h"

enum { RUNS = 8, APPENDS = 12, PAYLOAD_BYTES = 100, ID_BYTES = 32, LINE_BYTES = 80 };

struct writer {
    struct sl_store_run run;
    struct sl_store_log log;
    struct sl_store_begin begin;
    struct sl_store_append append;
    struct sl_store_end end;
    struct sl_segment *segment;
    char run_id[ID_BYTES];
    uint64_t n_appends;
    unsigned index, n_runs;
};

static struct writer writers[RUNS];
static struct sl_store *store;
static struct sl_loop *loop;

/* NOLINTBEGIN(concurrency-mt-unsafe): exit ends it all, and should */

static void give_up(const char *what, enum sl_status status)
{
    (void)fprintf(stderr, "store_victim: %s: %s\n", what, sl_status_name(status));
    exit(1);
}

static void say(const struct writer *writer, uint64_t last_sequence, const char *end)
{
    char line[LINE_BYTES];
    const int n = snprintf(
        line, sizeof(line), "%s %llu%s\n", writer->run_id, (unsigned long long)last_sequence, end);
    if (write(STDOUT_FILENO, line, (size_t)n) != n) {
        exit(0);
    }
}

/* The same bytes as those of tests/fake/store_rig.c. */
static struct sl_segment *make_events(uint64_t first_sequence, uint64_t n_events)
{
    const uint32_t size = SL_EVENT_PREFIX_BYTES + PAYLOAD_BYTES;
    struct sl_segment *segment = sl_segment_new((uint32_t)n_events * size);
    if (segment == NULL) {
        exit(1);
    }
    for (uint64_t i = 0; i < n_events; i++) {
        uint8_t *event = segment->bytes + i * size;
        memset(event, 0, SL_EVENT_PREFIX_BYTES);
        event[4] = PAYLOAD_BYTES;
        for (size_t k = 0; k < PAYLOAD_BYTES; k++) {
            event[SL_EVENT_PREFIX_BYTES + k] = (uint8_t)((first_sequence + i) * 31 + k * 7);
        }
    }
    segment->used = segment->capacity;
    return segment;
}

static void begin_next(struct writer *writer);

static void on_ended(struct sl_store_request *request)
{
    struct writer *writer = SL_CONTAINER(request, struct writer, end.request);
    if (request->status != SL_OK) {
        give_up("end", request->status);
    }
    writer->segment = sl_segment_unref(writer->segment);
    say(writer, writer->end.sequence, " end");
    begin_next(writer);
}

static void end_it(struct writer *writer)
{
    static const struct sl_store_session session = { "", "victim", "s", { NULL, 0 } };
    writer->segment = make_events(writer->log.stored + 1, 1);
    writer->end = (struct sl_store_end){
        .request = { .loop = loop, .on_done = on_ended },
        .log = &writer->log,
        .sequence = writer->log.stored + 1,
        .range = { writer->segment, 0, writer->segment->used },
        .state = SL_STORE_STATE_DONE,
        .ended_ms = 1,
        .session = &session,
    };
    if (sl_store_end_run(store, &writer->end) != SL_PENDING) {
        give_up("end", SL_UNKNOWN);
    }
}

static void append_next(struct writer *writer);

static void on_appended(struct sl_store_request *request)
{
    struct writer *writer = SL_CONTAINER(request, struct writer, append.request);
    if (request->status != SL_OK) {
        give_up("append", request->status);
    }
    writer->segment = sl_segment_unref(writer->segment);
    say(writer, writer->log.stored, "");
    if (++writer->n_appends < APPENDS) {
        append_next(writer);
    } else {
        end_it(writer);
    }
}

static void append_next(struct writer *writer)
{
    const uint64_t first = writer->log.stored + 1;
    const uint64_t n_events = 1 + (first * 13 + writer->index) % 300;
    writer->segment = make_events(first, n_events);
    writer->append = (struct sl_store_append){
        .request = { .loop = loop, .on_done = on_appended },
        .log = &writer->log,
        .first_sequence = first,
        .last_sequence = first + n_events - 1,
        .ranges = { { writer->segment, 0, writer->segment->used } },
        .n_ranges = 1,
    };
    if (sl_store_append(store, &writer->append) != SL_PENDING) {
        give_up("append", SL_UNKNOWN);
    }
}

static void on_begun(struct sl_store_request *request)
{
    struct writer *writer = SL_CONTAINER(request, struct writer, begin.request);
    if (request->status != SL_OK) {
        give_up("begin", request->status);
    }
    say(writer, 0, "");
    append_next(writer);
}

static void begin_next(struct writer *writer)
{
    (void)snprintf(
        writer->run_id, sizeof(writer->run_id), "e%llu-%u-%u",
        (unsigned long long)sl_store_epoch(store), writer->index, writer->n_runs++);
    writer->n_appends = 0;
    writer->run = (struct sl_store_run){ .run_id = writer->run_id, .durability = SL_STORE_SYNC };
    writer->begin = (struct sl_store_begin){ .request = { .loop = loop, .on_done = on_begun },
                                             .log = &writer->log,
                                             .run = &writer->run };
    if (sl_store_begin_run(store, &writer->begin) != SL_PENDING) {
        give_up("begin", SL_UNKNOWN);
    }
}

int main(int argc, char **argv)
{
    struct sl_error err;
    struct sl_loop_uv *uv = NULL;
    if (argc < 2 || sl_loop_uv_new(0, &uv) != SL_OK) {
        return 2;
    }
    const struct sl_store_sqlite_options options = { .path = argv[1], .min_free_percent = 101 };
    if (sl_store_sqlite_new(&options, &store, &err) != SL_OK) {
        (void)fprintf(stderr, "store_victim: %s\n", err.text);
        return 1;
    }
    loop = sl_loop_uv_base(uv);
    for (unsigned i = 0; i < RUNS; i++) {
        writers[i].index = i;
        begin_next(&writers[i]);
    }
    for (;;) {
        sl_loop_uv_step(uv, 1000);
    }
}

/* NOLINTEND(concurrency-mt-unsafe) */
