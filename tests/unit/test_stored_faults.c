/* A reader of a stored run whose store cannot be read: for a moment, for good, or not any more. */
#include "tests/fake/store_rig.h"
#include "tests/unit/test_runtime_rig.h"

static const char agents[] = "name: rec\nprovider: load\nmodel: load\nmemory: None\n";

static struct sl_store_rig files;

/* ---- A store that fails ------------------------------------------------------------------------
 */

static struct sl_store_ops real, failing;
static bool is_failing, is_later; /* with its answer, not with the call */
static enum sl_status failure;
static uint64_t until_ns; /* 0: it stays */

static enum sl_status submit_perhaps(struct sl_store *store, struct sl_store_request *request)
{
    if (request->kind != SL_STORE_READ || !is_failing ||
        (until_ns != 0 && sl_loop_now_ns(bases[0]) >= until_ns)) {
        return real.submit(store, request);
    }
    if (!is_later) {
        return failure;
    }
    sl_store_answer(request, failure, "the test says so");
    return SL_PENDING;
}

static void fail_with(enum sl_status status, bool later, uint64_t ms)
{
    failure = status;
    is_later = later;
    until_ns = ms == 0 ? 0 : sl_loop_now_ns(bases[0]) + ms * SL_NS_PER_MS;
    is_failing = true;
}

/* ---- A run that only the store has -------------------------------------------------------------
 */

static struct reader first;

static void open_with_run(void)
{
    char path[SL_RIG_PATH_BYTES + 16];
    struct sl_error err = { .text = "" };
    sl_limits_init(&limits);
    limits.window_keep = 0;
    sl_store_rig_init(&files);
    store_path = files.path;
    prepare_runtime(1, "");
    (void)snprintf(path, sizeof(path), "%s/a.yaml", files.folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(agents, 1, sizeof(agents) - 1, file), sizeof(agents) - 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err), SL_OK);
    real = *runtime->store->ops;
    failing = real;
    failing.submit = submit_perhaps;
    is_failing = false;
    runtime->store->ops = &failing;
    const struct sl_run_spec spec = spec_of("rec", "{\"events\":3000,\"bytes\":100}");
    first = (struct reader){ .max_take = 0 };
    start(&first, &spec);
    wait_until(&first.is_last);
    assert_true(first.bytes.size > (size_t)4 * SL_STORE_READ_BYTES);
}

static void close_with_run(void)
{
    is_failing = false;
    finish(&first);
    close_runtime();
    store_path = NULL;
    sl_store_rig_done(&files);
}

/* ---- Its reader --------------------------------------------------------------------------------
 */

static bool is_lost;
static struct sl_run_refusal loss;
static bool is_full; /* it takes no more than the first page */

static void
on_lost(struct sl_run_stream *stream, const struct sl_run_refusal *refusal, void *user_data)
{
    (void)stream;
    (void)user_data;
    assert_false(is_lost);
    is_lost = true;
    loss = *refusal;
}

/* Exactly one page: the next one is asked for when more is wanted. */
static void read_page(struct sl_run_stream *stream, void *user_data)
{
    struct reader *reader = user_data;
    if (!is_full) {
        on_readable(stream, user_data);
        return;
    }
    while (reader->bytes.size < SL_STORE_READ_BYTES / 2) {
        uint8_t *room = NULL;
        const size_t n = sl_run_stream_ready(stream, 1000, &reader->is_last);
        if (n == 0) {
            return;
        }
        assert_int_equal(sl_buf_reserve(&reader->bytes, n, &room), SL_OK);
        sl_run_stream_take(stream, room, n);
        sl_buf_commit(&reader->bytes, n);
    }
}

/* It has half of the first page, and wants no more yet. */
static void attach_and_take_some(struct reader *reader)
{
    const struct sl_run_callbacks callbacks = {
        .on_started = on_started, .on_readable = read_page, .on_lost = on_lost, .user_data = reader
    };
    const struct sl_run_attach_spec spec = { .run_id = first.run_id };
    *reader = (struct reader){ .max_take = 0 };
    is_lost = false;
    is_full = true;
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_attach(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
    for (int n = 0; reader->bytes.size < SL_STORE_READ_BYTES / 2; n++) {
        assert_true(n < MAX_STEPS);
        step();
    }
    assert_false(reader->is_refused);
    is_full = false;
}

/* RL-S2: it sees nothing of it, and may ask as often as it likes meanwhile. */
static void a_reader_waits_for_a_store_that_comes_back(void **state)
{
    (void)state;
    for (int later = 0; later <= 1; later++) {
        struct reader reader;
        open_with_run();
        attach_and_take_some(&reader);
        fail_with(later == 0 ? SL_UNAVAILABLE : SL_RESOURCE_EXHAUSTED, later == 1, 400);
        read_some(&reader); /* the rest of the page */
        const size_t n_bytes = reader.bytes.size;
        while (sl_loop_now_ns(bases[0]) < until_ns) {
            assert_int_equal(sl_run_stream_ready(reader.stream, SIZE_MAX, &reader.is_last), 0);
            assert_false(reader.is_last);
            step();
        }
        assert_true(n_bytes <= SL_STORE_READ_BYTES);
        wait_until(&reader.is_last);
        assert_false(is_lost);
        assert_int_equal(reader.bytes.size, first.bytes.size);
        assert_memory_equal(reader.bytes.data, first.bytes.data, first.bytes.size);
        assert_int_equal(sl_run_stream_ending(reader.stream)->status, SL_OK);
        finish(&reader);
        close_with_run();
    }
}

static void check_loss(
    enum sl_status status, bool later, enum sl_status expected, const char *reason, bool at_once)
{
    struct reader reader;
    open_with_run();
    attach_and_take_some(&reader);
    const uint64_t begun_ns = sl_loop_now_ns(bases[0]);
    fail_with(status, later, 0);
    read_some(&reader);
    wait_until(&is_lost);
    assert_int_equal(loss.status, expected);
    assert_string_equal(loss.reason, reason);
    assert_true(at_once || sl_loop_now_ns(bases[0]) - begun_ns >= SL_NS_PER_S);
    assert_true(sl_run_stream_at_border(reader.stream));
    assert_true(sl_run_stream_sequence(reader.stream) > 100);
    finish(&reader);
    close_with_run();
}

/* AL-5.1: never UNAVAILABLE, which a client's library would repeat from the start. */
static void a_store_that_stays_away_ends_a_stream_with_aborted(void **state)
{
    (void)state;
    check_loss(SL_UNAVAILABLE, false, SL_ABORTED, "STORE_UNAVAILABLE", false);
    check_loss(SL_UNAVAILABLE, true, SL_ABORTED, "STORE_UNAVAILABLE", false);
}

/* A run that is removed under its reader was there: that is no NOT_FOUND. */
static void what_is_gone_or_damaged_is_told_at_once(void **state)
{
    (void)state;
    for (int later = 0; later <= 1; later++) {
        check_loss(SL_NOT_FOUND, later == 1, SL_OUT_OF_RANGE, "BELOW_RETENTION", true);
        check_loss(SL_OUT_OF_RANGE, later == 1, SL_OUT_OF_RANGE, "BELOW_RETENTION", true);
        check_loss(SL_DATA_LOSS, later == 1, SL_DATA_LOSS, "DATA_LOSS", true);
    }
}

/* Whoever goes while it is waited for leaves nothing behind. */
static void a_reader_may_go_while_the_store_is_away(void **state)
{
    (void)state;
    for (int later = 0; later <= 1; later++) {
        struct reader reader;
        open_with_run();
        attach_and_take_some(&reader);
        fail_with(SL_UNAVAILABLE, later == 1, 0);
        read_some(&reader);
        for (int i = 0; i < 3; i++) {
            step();
        }
        finish(&reader);
        assert_false(is_lost);
        close_with_run();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_waits_for_a_store_that_comes_back),
        cmocka_unit_test(a_store_that_stays_away_ends_a_stream_with_aborted),
        cmocka_unit_test(what_is_gone_or_damaged_is_told_at_once),
        cmocka_unit_test(a_reader_may_go_while_the_store_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
