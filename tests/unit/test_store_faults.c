/* What the SQLite store promises when the disk fails, or the power does. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/fake/fault_vfs.h"
#include "tests/fake/store_rig.h"

enum { ROUNDS = 6, BATCH = 700, MAX_TRIES = 1000 };

static struct sl_store_rig rig;

static void open_faulty(void)
{
    sl_fault_vfs_init();
    sl_store_rig_init(&rig);
    rig.vfs = SL_FAULT_VFS;
}

/* ---- A disk that fails: RL-S1, RL-S2 -----------------------------------------------------------
 */

/* Appends again until the store takes it; how often it did not. */
static int insist(struct sl_store_log *log, uint64_t first_sequence, enum sl_status expected)
{
    for (int n_refused = 0; n_refused < MAX_TRIES; n_refused++) {
        const enum sl_status status = sl_store_rig_append(&rig, log, first_sequence, BATCH);
        if (status == SL_OK) {
            return n_refused;
        }
        /* The first time what failed; then that it has not been opened again. */
        assert_true(status == expected || status == SL_UNAVAILABLE);
        sl_fault_vfs_fail(0, SQLITE_OK, false);
        sl_loop_uv_step(rig.uv, 5);
    }
    fail_msg("the store does not come back");
    return 0;
}

/* One run, with a fault at the k-th call of its life. Gives how many calls there were. */
static uint64_t live_with_fault(uint64_t k, int rc, bool for_ever)
{
    const enum sl_status expected = sl_sqlite_status(rc);
    open_faulty();
    sl_store_rig_open(&rig);
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    sl_fault_vfs_fail(k, rc, for_ever);
    int n_refused = 0;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        n_refused += insist(&log, i * BATCH + 1, expected);
    }
    const uint64_t n_calls = sl_fault_vfs_count();
    sl_fault_vfs_fail(0, SQLITE_OK, false);
    enum sl_status status = sl_store_rig_end(&rig, &log, ROUNDS * BATCH + 1, 1);
    for (int i = 0; i < MAX_TRIES && status == SL_UNAVAILABLE; i++) {
        /* A checkpoint failed after the last append. */
        sl_loop_uv_step(rig.uv, 5);
        status = sl_store_rig_end(&rig, &log, ROUNDS * BATCH + 1, 1);
    }
    assert_int_equal(status, SL_OK);
    struct sl_store_stats stats;
    sl_store_stats(rig.store, &stats);
    assert_true(stats.failed_commits >= (uint64_t)n_refused);
    assert_int_equal(sl_store_n_open(rig.store), 0);
    for (int i = 0; i < 2; i++) { /* as it is, and opened again */
        assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), ROUNDS * BATCH + 1);
        assert_int_equal(status, SL_OK);
        sl_store_rig_close(&rig);
        rig.vfs = NULL;
        sl_store_rig_open(&rig);
    }
    sl_store_rig_done(&rig);
    return n_calls;
}

static void check_faults(int rc, bool for_ever)
{
    const uint64_t n_calls = live_with_fault(0, SQLITE_OK, false);
    assert_true(n_calls > 20);
    const uint64_t step = n_calls / 6 + 1;
    for (uint64_t k = 1; k <= n_calls; k += k < 4 ? 1 : step) {
        (void)live_with_fault(k, rc, for_ever);
    }
}

static void a_write_that_fails_once_is_told_and_done_again(void **state)
{
    (void)state;
    check_faults(SQLITE_IOERR_WRITE, false);
}

static void a_disk_that_stays_broken_takes_nothing_until_it_is_well(void **state)
{
    (void)state;
    check_faults(SQLITE_IOERR_FSYNC, true);
}

static void a_full_disk_is_told_as_that(void **state)
{
    (void)state;
    check_faults(SQLITE_FULL, true);
}

/* Each member of a transaction that is not committed is told, and none other. */
static void all_of_a_failed_transaction_are_told(void **state)
{
    (void)state;
    enum { N = 50 };
    static struct sl_store_log logs[N];
    static struct sl_store_run runs[N];
    static struct sl_store_begin begins[N];
    static char ids[N][16];
    open_faulty();
    sl_store_rig_open(&rig);
    sl_fault_vfs_fail(1, SQLITE_IOERR_WRITE, true);
    for (int i = 0; i < N; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "r%d", i);
        runs[i] = sl_store_rig_run(ids[i]);
        begins[i] = (struct sl_store_begin){ .request = sl_store_rig_request(&rig),
                                             .log = &logs[i],
                                             .run = &runs[i] };
        assert_int_equal(sl_store_begin_run(rig.store, &begins[i]), SL_PENDING);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(sl_store_rig_wait(&rig, &begins[i].request, SL_PENDING), SL_UNAVAILABLE);
        assert_non_null(begins[i].request.why);
        assert_int_equal(logs[i].number, 0);
    }
    assert_true(sl_fault_vfs_failed() > 0);
    assert_int_equal(sl_store_n_open(rig.store), 0);
    sl_fault_vfs_fail(0, SQLITE_OK, false);
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r7"), SL_NOT_FOUND);
    sl_store_rig_done(&rig);
}

/* RL-G6: a fault of the disk behind the last byte of the commit. Whoever begins again is told that
 * it is begun, and the run is there once. */
static void a_beginning_can_be_asked_for_again(void **state)
{
    (void)state;
    int n_committed = 0;
    uint64_t n_calls = UINT64_MAX;
    for (uint64_t k = 1; k <= n_calls; k++) {
        open_faulty();
        sl_store_rig_open(&rig);
        struct sl_store_run run = sl_store_rig_run("r1");
        struct sl_store_log log = { 0 };
        run.request_id = k % 2 == 0 ? "q1" : "";
        sl_fault_vfs_fail(k, SQLITE_IOERR_FSYNC, false);
        enum sl_status status = sl_store_rig_begin(&rig, &log, &run);
        n_calls = status == SL_OK ? k : n_calls;
        sl_fault_vfs_fail(0, SQLITE_OK, false);
        struct sl_store_get get = { .request = sl_store_rig_request(&rig) };
        for (int i = 0; i < MAX_TRIES && status == SL_UNAVAILABLE; i++) {
            sl_loop_uv_step(rig.uv, 5);
            status = sl_store_rig_get(&rig, &get, "r1");
            sl_store_request_done(&get.request);
            n_committed += status == SL_OK ? 1 : 0;
        }
        assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
        assert_int_equal(sl_store_rig_append(&rig, &log, 1, 1), SL_OK);
        struct sl_store_log other = { 0 }; /* with an event of it, it is somebody's */
        const enum sl_status again = sl_store_rig_begin(&rig, &other, &run);
        assert_int_equal(again, k % 2 == 0 ? SL_ALREADY_EXISTS : SL_INTERNAL);
        assert_int_equal(sl_store_rig_end(&rig, &log, 2, 1), SL_OK);
        assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 2);
        sl_store_rig_done(&rig);
    }
    assert_true(n_committed > 0);
}

static enum sl_status claim(struct sl_store_recover *recover, struct sl_store_log *log)
{
    *recover = (struct sl_store_recover){ .request = sl_store_rig_request(&rig), .log = log };
    return sl_store_rig_wait(&rig, &recover->request, sl_store_recover(rig.store, recover));
}

/* RL-G6, RL-X1: a claim that was committed all the same is no run that nobody has. */
static void a_claim_can_be_asked_for_again(void **state)
{
    (void)state;
    static const char *const ids[] = { "r1", "r2" };
    uint64_t n_calls = UINT64_MAX;
    for (uint64_t k = 1; k <= n_calls; k++) {
        open_faulty();
        sl_store_rig_open(&rig);
        for (size_t i = 0; i < SL_COUNT(ids); i++) {
            const struct sl_store_run run = sl_store_rig_run(ids[i]);
            struct sl_store_log log = { 0 };
            assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
            assert_int_equal(sl_store_rig_append(&rig, &log, 1, 3), SL_OK);
        }
        sl_store_rig_close(&rig);
        sl_store_rig_open(&rig);
        sl_fault_vfs_fail(k, SQLITE_IOERR_FSYNC, false);
        struct sl_store_log logs[SL_COUNT(ids)] = { { 0 } };
        for (size_t i = 0; i < SL_COUNT(ids); i++) {
            struct sl_store_recover recover;
            enum sl_status status = claim(&recover, &logs[i]);
            n_calls = i == 0 && status == SL_OK ? k : n_calls;
            for (int n = 0; n < MAX_TRIES && status == SL_UNAVAILABLE; n++) {
                sl_store_request_done(&recover.request);
                sl_loop_uv_step(rig.uv, 5);
                status = claim(&recover, &logs[i]);
            }
            assert_int_equal(status, SL_OK);
            assert_string_equal(recover.run.run_id, ids[i]);
            assert_int_equal(recover.run.recovered_after, 3);
            sl_store_request_done(&recover.request);
        }
        struct sl_store_recover none;
        struct sl_store_log no_log = { 0 };
        assert_int_equal(claim(&none, &no_log), SL_END);
        sl_fault_vfs_fail(0, SQLITE_OK, false);
        for (size_t i = 0; i < SL_COUNT(ids); i++) {
            assert_int_equal(sl_store_rig_end(&rig, &logs[i], 4, 1), SL_OK);
        }
        sl_store_rig_done(&rig);
    }
    assert_true(n_calls < 40);
}

/* One that cannot be written by itself does not take its neighbours with it. */
static void one_that_is_too_large_fails_alone(void **state)
{
    (void)state;
    static struct sl_store_pair pairs[40];
    static char value[60001];
    memset(value, 'x', sizeof(value) - 1);
    for (size_t i = 0; i < SL_COUNT(pairs); i++) {
        pairs[i] = (struct sl_store_pair){ "key", value };
    }
    open_faulty();
    sl_store_rig_open(&rig);
    struct sl_store_run runs[3] = { sl_store_rig_run("r0"), sl_store_rig_run("r1"),
                                    sl_store_rig_run("r2") };
    struct sl_store_log logs[3] = { { 0 } };
    struct sl_store_begin begins[3];
    runs[1].metadata = pairs;
    runs[1].n_metadata = SL_COUNT(pairs);
    for (int i = 0; i < 3; i++) {
        begins[i] = (struct sl_store_begin){ .request = sl_store_rig_request(&rig),
                                             .log = &logs[i],
                                             .run = &runs[i] };
        assert_int_equal(sl_store_begin_run(rig.store, &begins[i]), SL_PENDING);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            sl_store_rig_wait(&rig, &begins[i].request, SL_PENDING),
            i == 1 ? SL_RESOURCE_EXHAUSTED : SL_OK);
    }
    sl_store_rig_done(&rig);
}

/* Opening fails, or it does not; the next one succeeds, and nothing is missing. */
static void a_store_that_could_not_be_opened_can_be_opened_later(void **state)
{
    (void)state;
    uint64_t n_calls = UINT64_MAX;
    int n_failed = 0;
    for (uint64_t k = 1; k <= n_calls; k++) {
        open_faulty();
        sl_fault_vfs_fail(k, SQLITE_IOERR_WRITE, true);
        const enum sl_status status = sl_store_rig_try_open(&rig);
        if (status == SL_OK) {
            n_calls = sl_fault_vfs_count() < k ? k : n_calls;
        } else {
            assert_int_equal(status, SL_UNAVAILABLE);
            assert_non_null(strstr(rig.err.text, rig.path));
            n_failed++;
        }
        sl_fault_vfs_fail(0, SQLITE_OK, false);
        sl_store_rig_close(&rig);
        sl_store_rig_open(&rig);
        sl_store_rig_whole_run(&rig, "r1", 3, 1);
        sl_store_rig_done(&rig);
    }
    assert_true(n_failed > 5);
}

/* ---- Without memory ----------------------------------------------------------------------------
 */

static atomic_uint_least64_t n_left; /* allocations that succeed */

static bool allow_some(size_t size)
{
    (void)size;
    if (atomic_load(&n_left) == 0) {
        return false;
    }
    (void)atomic_fetch_sub(&n_left, 1);
    return true;
}

static bool is_told(enum sl_status status)
{
    return status == SL_OK || status == SL_RESOURCE_EXHAUSTED;
}

/* Each of these says so when it has no memory, and nothing is lost by it. */
static void use_without_memory(uint64_t n_allocations)
{
    static const struct sl_store_pair pairs[] = { { "team", "docs" } };
    struct sl_store_run run = sl_store_rig_run("r2");
    struct sl_store_log log = { 0 };
    struct sl_store_begin begin = { .request = sl_store_rig_request(&rig),
                                    .log = &log,
                                    .run = &run };
    struct sl_store_get get = { .request = sl_store_rig_request(&rig), .run_id = "r1" };
    struct sl_store_read read = { .request = sl_store_rig_request(&rig), .run_id = "r1" };
    struct sl_store_list list = { .request = sl_store_rig_request(&rig),
                                  .tenant = "acme",
                                  .page_size = 10 };
    run.metadata = pairs;
    run.n_metadata = 1;
    atomic_store(&n_left, n_allocations);
    sl_mem_set_gate(allow_some);
    const enum sl_status begun =
        sl_store_rig_wait(&rig, &begin.request, sl_store_begin_run(rig.store, &begin));
    const enum sl_status got = sl_store_rig_wait(&rig, &get.request, sl_store_get(rig.store, &get));
    const enum sl_status were_read =
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read));
    const enum sl_status listed =
        sl_store_rig_wait(&rig, &list.request, sl_store_list(rig.store, &list));
    sl_mem_set_gate(NULL);
    sl_store_request_done(&get.request);
    sl_store_request_done(&read.request);
    sl_store_request_done(&list.request);
    assert_true(is_told(begun) && is_told(got) && is_told(were_read) && is_told(listed));
    assert_true(n_allocations > 0 || begun + got + were_read + listed > 0);
}

static void without_memory_each_request_says_so(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 24; n++) {
        enum sl_status status = SL_OK;
        open_faulty();
        rig.vfs = NULL;
        /* Opening itself: whatever is half made goes again. */
        atomic_store(&n_left, n);
        sl_mem_set_gate(allow_some);
        const enum sl_status opened = sl_store_rig_try_open(&rig);
        sl_mem_set_gate(NULL);
        assert_true(is_told(opened));
        assert_true(n > 0 || opened != SL_OK);
        sl_store_rig_close(&rig);
        sl_store_rig_open(&rig);
        sl_store_rig_whole_run(&rig, "r1", 50, 1);
        use_without_memory(n);
        assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 50);
        sl_store_rig_done(&rig);
    }
}

/* ---- A power cut: RL-S5 ------------------------------------------------------------------------
 */

struct stream {
    struct sl_store_append append;
    struct sl_store_log log;
    uint64_t acknowledged;
    bool must_stop;
};

static void send_next(struct stream *stream);

static void on_appended(struct sl_store_request *request)
{
    struct stream *stream = SL_CONTAINER(request, struct stream, append.request);
    assert_int_equal(request->status, SL_OK);
    stream->acknowledged = stream->append.last_sequence;
    (void)sl_segment_unref(stream->append.ranges[0].segment);
    stream->append.n_ranges = 0;
    if (!stream->must_stop) {
        send_next(stream);
    }
}

static void send_next(struct stream *stream)
{
    const uint64_t first = stream->acknowledged + 1;
    const size_t n_events = 1 + first % 97;
    struct sl_segment *segment = sl_store_rig_events(first, n_events, 100, 0);
    stream->append = (struct sl_store_append){
        .request = { .loop = rig.loop, .on_done = on_appended },
        .log = &stream->log,
        .first_sequence = first,
        .last_sequence = first + n_events - 1,
        .ranges = { { .segment = segment, .to = segment->used } },
        .n_ranges = 1,
    };
    assert_int_equal(sl_store_append(rig.store, &stream->append), SL_PENDING);
}

static void check_what_is_left(const uint64_t *acknowledged, size_t n_streams, bool is_full)
{
    const struct sl_store_rig first = rig;
    rig = (struct sl_store_rig){ 0 };
    sl_store_rig_init(&rig);
    char lock_path[SL_RIG_PATH_BYTES + 8];
    (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", rig.path);
    static uint64_t seed = 77;
    sl_fault_vfs_cut(rig.path, sl_random_next(&seed));
    const int fd = open(lock_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "o", 1), 1);
    (void)close(fd);
    sl_store_rig_open(&rig);
    for (size_t i = 0; i < n_streams; i++) {
        char run_id[32];
        enum sl_status status = SL_OK;
        (void)snprintf(run_id, sizeof(run_id), "r%zu", i);
        const uint64_t n_events = sl_store_rig_read_all(&rig, run_id, &status);
        assert_int_equal(status, SL_OK); /* without a gap, the same bytes */
        if (is_full) {
            assert_true(n_events >= acknowledged[i]);
        }
    }
    sl_store_rig_done(&rig);
    rig = first;
    rig.options.path = rig.path;
}

static void check_power_cuts(bool is_full)
{
    enum { N = 3, CUTS = 8 };
    static struct stream streams[N];
    open_faulty();
    rig.options.is_normal = !is_full;
    sl_store_rig_open(&rig);
    memset(streams, 0, sizeof(streams));
    for (int i = 0; i < N; i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%d", i);
        const struct sl_store_run run = sl_store_rig_run(run_id);
        assert_int_equal(sl_store_rig_begin(&rig, &streams[i].log, &run), SL_OK);
    }
    sl_fault_vfs_watch(rig.path);
    for (int i = 0; i < N; i++) {
        send_next(&streams[i]);
    }
    for (int cut = 0; cut < CUTS; cut++) {
        for (int i = 0; i < 12; i++) {
            sl_loop_uv_step(rig.uv, 100);
        }
        uint64_t acknowledged[N];
        for (int i = 0; i < N; i++) {
            acknowledged[i] = streams[i].acknowledged;
        }
        check_what_is_left(acknowledged, N, is_full); /* the writer goes on meanwhile */
    }
    for (int i = 0; i < N; i++) {
        streams[i].must_stop = true;
    }
    for (int i = 0; i < N; i++) {
        while (streams[i].append.n_ranges > 0) {
            sl_loop_uv_step(rig.uv, 100);
        }
    }
    sl_store_rig_done(&rig);
    sl_fault_vfs_init();
}

static void what_was_acknowledged_outlives_a_power_cut(void **state)
{
    (void)state;
    check_power_cuts(true);
}

/* With synchronous=NORMAL the last commits may be missing, but nothing is torn. */
static void after_a_power_cut_nothing_is_torn(void **state)
{
    (void)state;
    check_power_cuts(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_once_is_told_and_done_again),
        cmocka_unit_test(a_disk_that_stays_broken_takes_nothing_until_it_is_well),
        cmocka_unit_test(a_full_disk_is_told_as_that),
        cmocka_unit_test(all_of_a_failed_transaction_are_told),
        cmocka_unit_test(a_beginning_can_be_asked_for_again),
        cmocka_unit_test(a_claim_can_be_asked_for_again),
        cmocka_unit_test(one_that_is_too_large_fails_alone),
        cmocka_unit_test(a_store_that_could_not_be_opened_can_be_opened_later),
        cmocka_unit_test(without_memory_each_request_says_so),
        cmocka_unit_test(what_was_acknowledged_outlives_a_power_cut),
        cmocka_unit_test(after_a_power_cut_nothing_is_torn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
