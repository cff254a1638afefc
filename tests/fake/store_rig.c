#include "tests/fake/store_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"

enum { PAYLOAD_BYTES = 100, MAX_TURNS = 10000, TURN_MS = 1000 };

/* ---- Files -------------------------------------------------------------------------------------
 */

void sl_store_rig_init(struct sl_store_rig *rig)
{
    *rig = (struct sl_store_rig){ 0 };
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/sluice-store-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    assert_true(
        snprintf(rig->path, sizeof(rig->path), "%s/s.db", rig->folder) < (int)sizeof(rig->path));
    assert_int_equal(sl_loop_uv_new(0, &rig->uv), SL_OK);
    rig->loop = sl_loop_uv_base(rig->uv);
    rig->options.path = rig->path;
    rig->options.min_free_percent = 101;
}

enum sl_status sl_store_rig_try_open(struct sl_store_rig *rig)
{
    assert_null(rig->store);
    return sl_sqlite_new(&rig->options, &sl_sqlite_schema, rig->vfs, &rig->store, &rig->err);
}

void sl_store_rig_open(struct sl_store_rig *rig)
{
    const enum sl_status status = sl_store_rig_try_open(rig);
    if (status != SL_OK) {
        print_error("%s\n", rig->err.text);
    }
    assert_int_equal(status, SL_OK);
}

void sl_store_rig_close(struct sl_store_rig *rig)
{
    rig->store = sl_store_free(rig->store);
}

void sl_store_rig_done(struct sl_store_rig *rig)
{
    sl_store_rig_close(rig);
    rig->uv = sl_loop_uv_free(rig->uv);
    DIR *folder = opendir(rig->folder);
    assert_non_null(folder);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] != '.') {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    (void)closedir(folder);
    assert_int_equal(rmdir(rig->folder), 0);
}

static void copy_file(const char *from, const char *to)
{
    uint8_t block[65536];
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        return;
    }
    const int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(out >= 0);
    ssize_t n = 0;
    while ((n = read(in, block, sizeof(block))) > 0) {
        assert_int_equal(write(out, block, (size_t)n), n);
    }
    (void)close(in);
    (void)close(out);
}

void sl_store_rig_copy_files(struct sl_store_rig *rig, const char *from_path)
{
    static const char *const endings[] = { "", "-wal", ".lock" };
    for (size_t i = 0; i < SL_COUNT(endings); i++) {
        char from[SL_RIG_PATH_BYTES + 16];
        char to[SL_RIG_PATH_BYTES + 16];
        (void)snprintf(from, sizeof(from), "%s%s", from_path, endings[i]);
        (void)snprintf(to, sizeof(to), "%s%s", rig->path, endings[i]);
        copy_file(from, to);
    }
}

/* ---- Events ------------------------------------------------------------------------------------
 */

static uint8_t byte_of(uint64_t sequence, size_t at, unsigned seed)
{
    return (uint8_t)(sequence * 31 + at * 7 + seed);
}

static void put_event(uint8_t *room, uint64_t sequence, size_t size, unsigned seed)
{
    room[0] = 0;
    room[1] = (uint8_t)(size >> 24);
    room[2] = (uint8_t)(size >> 16);
    room[3] = (uint8_t)(size >> 8);
    room[4] = (uint8_t)size;
    for (size_t i = 0; i < size; i++) {
        room[SL_EVENT_PREFIX_BYTES + i] = byte_of(sequence, i, seed);
    }
}

struct sl_segment *
sl_store_rig_events(uint64_t first_sequence, size_t n_events, size_t size, unsigned seed)
{
    const size_t event_bytes = SL_EVENT_PREFIX_BYTES + size;
    struct sl_segment *segment = sl_segment_new((uint32_t)(n_events * event_bytes));
    assert_non_null(segment);
    for (size_t i = 0; i < n_events; i++) {
        put_event(segment->bytes + i * event_bytes, first_sequence + i, size, seed);
    }
    segment->used = segment->capacity;
    return segment;
}

bool sl_store_rig_are_events(
    struct sl_slice bytes, uint64_t first_sequence, size_t n_events, size_t size, unsigned seed)
{
    struct sl_segment *segment = sl_store_rig_events(first_sequence, n_events, size, seed);
    const bool are = sl_slice_equal(bytes, sl_slice_of(segment->bytes, segment->used));
    (void)sl_segment_unref(segment);
    return are;
}

/* ---- Requests ----------------------------------------------------------------------------------
 */

static void note_done(struct sl_store_request *request)
{
    request->on_done = NULL;
}

struct sl_store_request sl_store_rig_request(struct sl_store_rig *rig)
{
    return (struct sl_store_request){ .loop = rig->loop, .on_done = note_done };
}

enum sl_status
sl_store_rig_wait(struct sl_store_rig *rig, struct sl_store_request *request, enum sl_status said)
{
    if (said != SL_PENDING && said != SL_AGAIN) {
        return said;
    }
    for (int i = 0; request->on_done != NULL; i++) {
        assert_true(i < MAX_TURNS);
        sl_loop_uv_step(rig->uv, TURN_MS);
    }
    return request->status;
}

struct sl_store_run sl_store_rig_run(const char *run_id)
{
    return (struct sl_store_run){
        .run_id = run_id,
        .tenant = "acme",
        .agent = "helper",
        .durability = SL_STORE_SYNC,
        .created_ms = 1700000000000,
    };
}

enum sl_status sl_store_rig_begin(
    struct sl_store_rig *rig, struct sl_store_log *log, const struct sl_store_run *run)
{
    struct sl_store_begin begin = {
        .request = sl_store_rig_request(rig),
        .log = log,
        .run = run,
    };
    return sl_store_rig_wait(rig, &begin.request, sl_store_begin_run(rig->store, &begin));
}

enum sl_status sl_store_rig_append(
    struct sl_store_rig *rig, struct sl_store_log *log, uint64_t first_sequence, size_t n_events)
{
    struct sl_segment *segment = sl_store_rig_events(first_sequence, n_events, PAYLOAD_BYTES, 0);
    struct sl_store_append append = {
        .request = sl_store_rig_request(rig),
        .log = log,
        .first_sequence = first_sequence,
        .last_sequence = first_sequence + n_events - 1,
        .ranges = { { .segment = segment, .from = 0, .to = segment->used } },
        .n_ranges = 1,
    };
    const enum sl_status status =
        sl_store_rig_wait(rig, &append.request, sl_store_append(rig->store, &append));
    (void)sl_segment_unref(segment);
    return status;
}

enum sl_status sl_store_rig_end(
    struct sl_store_rig *rig, struct sl_store_log *log, uint64_t sequence, uint64_t ended_ms)
{
    struct sl_segment *segment = sl_store_rig_events(sequence, 1, PAYLOAD_BYTES, 0);
    struct sl_store_end end = {
        .request = sl_store_rig_request(rig),
        .log = log,
        .sequence = sequence,
        .range = { .segment = segment, .from = 0, .to = segment->used },
        .state = SL_STORE_STATE_DONE,
        .ended_ms = ended_ms,
    };
    const enum sl_status status =
        sl_store_rig_wait(rig, &end.request, sl_store_end_run(rig->store, &end));
    (void)sl_segment_unref(segment);
    return status;
}

void sl_store_rig_whole_run(
    struct sl_store_rig *rig, const char *run_id, size_t n_events, uint64_t ended_ms)
{
    const struct sl_store_run run = sl_store_rig_run(run_id);
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(rig, &log, &run), SL_OK);
    if (n_events > 1) {
        assert_int_equal(sl_store_rig_append(rig, &log, 1, n_events - 1), SL_OK);
    }
    assert_int_equal(sl_store_rig_end(rig, &log, n_events, ended_ms), SL_OK);
}

enum sl_status
sl_store_rig_get(struct sl_store_rig *rig, struct sl_store_get *get, const char *run_id)
{
    *get = (struct sl_store_get){ .request = sl_store_rig_request(rig), .run_id = run_id };
    return sl_store_rig_wait(rig, &get->request, sl_store_get(rig->store, get));
}

uint64_t
sl_store_rig_read_all(struct sl_store_rig *rig, const char *run_id, enum sl_status *ret_status)
{
    uint64_t sequence = 0;
    for (int i = 0; i < MAX_TURNS; i++) {
        struct sl_store_read read = {
            .request = sl_store_rig_request(rig),
            .run_id = run_id,
            .after_sequence = sequence,
        };
        *ret_status = sl_store_rig_wait(rig, &read.request, sl_store_read(rig->store, &read));
        const uint64_t first = read.first_sequence;
        const uint64_t last = read.last_sequence;
        if (*ret_status == SL_OK && last > 0) {
            assert_int_equal(first, sequence + 1);
            assert_true(
                sl_store_rig_are_events(read.bytes, first, last - first + 1, PAYLOAD_BYTES, 0));
            sequence = last;
        }
        const uint64_t stored = read.run.last_sequence;
        sl_store_request_done(&read.request);
        if (*ret_status != SL_OK || last == 0 || sequence == stored) {
            break;
        }
    }
    return sequence;
}
