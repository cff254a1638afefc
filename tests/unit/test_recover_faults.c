/* A recovery whose store fails: for a moment, or for good. */
#include "tests/fake/store_rig.h"
#include "tests/unit/test_runtime_rig.h"

enum { N_RUNS = 10, FOR_A_WHILE = 150, FOR_EVER = 1000000 }; /* milliseconds */

static struct sl_store_rig rig;

/* ---- A store that fails ------------------------------------------------------------------------
 */

static struct sl_store_ops real, failing;
static enum sl_store_kind failing_kind;
static uint64_t failing_ms;
static uint64_t since_ns; /* the first failure; 0: there was none */
static bool is_later;     /* they are answers, not what the call says */

static enum sl_status submit_perhaps(struct sl_store *store, struct sl_store_request *request)
{
    const uint64_t now_ns = sl_loop_now_ns(bases[0]);
    if (request->kind != failing_kind ||
        (since_ns != 0 && now_ns - since_ns >= failing_ms * SL_NS_PER_MS)) {
        return real.submit(store, request);
    }
    since_ns = since_ns == 0 ? now_ns : since_ns;
    if (!is_later) {
        return SL_UNAVAILABLE;
    }
    sl_store_answer(request, SL_UNAVAILABLE, "the test says so");
    return SL_PENDING;
}

static void fail_some(enum sl_store_kind kind, uint64_t ms)
{
    real = *runtime->store->ops;
    failing = real;
    failing.submit = submit_perhaps;
    failing_kind = kind;
    failing_ms = ms;
    since_ns = 0;
    runtime->store->ops = &failing;
}

/* ---- Recovery ----------------------------------------------------------------------------------
 */

static const char *id_of(int i)
{
    static char id[16];
    (void)snprintf(id, sizeof(id), "r%d", i);
    return id;
}

/* Every second one has nothing but its beginning. The events of the others are none: a recovery
 * that has read them says DATA_LOSS. */
static void leave_runs(void)
{
    sl_limits_init(&limits);
    sl_store_rig_init(&rig);
    sl_store_rig_open(&rig);
    for (int i = 0; i < N_RUNS; i++) {
        struct sl_store_log log = { 0 };
        const struct sl_store_run run = sl_store_rig_run(id_of(i));
        assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
        if (i % 2 == 1) {
            assert_int_equal(sl_store_rig_append(&rig, &log, 1, 3), SL_OK);
        }
    }
    sl_store_rig_close(&rig);
}

struct verdict {
    bool is_there;
    enum sl_status status;
};

static void on_recovered(enum sl_status status, void *user_data)
{
    *(struct verdict *)user_data = (struct verdict){ .is_there = true, .status = status };
}

/* Gives how it went; `*ret_n_ended`: how many runs have an end. */
static enum sl_status recover(enum sl_store_kind kind, uint64_t ms, uint64_t *ret_n_ended)
{
    struct verdict verdict = { .is_there = false };
    store_path = rig.path;
    open_runtime(1, "");
    fail_some(kind, ms);
    assert_int_equal(sl_runtime_recover(runtime, bases[0], on_recovered, &verdict), SL_OK);
    wait_until(&verdict.is_there);
    assert_int_equal(sl_store_n_open(runtime->store), 0); /* none is held that nobody has */
    *ret_n_ended = runtime->n_recovered;
    runtime->store->ops = &real;
    close_runtime();
    store_path = NULL;
    return verdict.status;
}

static void check_ended(int i)
{
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, id_of(i)), SL_OK);
    assert_int_equal(get.run.state, SL_STORE_STATE_FAILED);
    assert_true(get.run.is_recovered);
    assert_int_equal(get.run.last_sequence, i % 2 == 1 ? 4 : 2);
    sl_store_request_done(&get.request);
}

static void check_all_ended(void)
{
    sl_store_rig_open(&rig);
    for (int i = 0; i < N_RUNS; i++) {
        check_ended(i);
    }
    sl_store_rig_done(&rig);
}

static const enum sl_store_kind kinds[] = { SL_STORE_RECOVER, SL_STORE_READ, SL_STORE_APPEND,
                                            SL_STORE_END };

/* RL-S2: it is asked again, and not at once: the store needs a moment to open its file. */
static void a_fault_that_passes_is_not_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(kinds) * 2; i++) {
        uint64_t n_ended = 0;
        is_later = i % 2 == 1;
        leave_runs();
        assert_int_equal(recover(kinds[i / 2], FOR_A_WHILE, &n_ended), SL_OK);
        assert_true(since_ns > 0);
        assert_int_equal(n_ended, N_RUNS);
        check_all_ended();
    }
}

/* Who cannot claim them does not serve. What is claimed and cannot be ended waits for the next
 * start, and none is forgotten. */
static void a_fault_that_stays_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(kinds); i++) {
        uint64_t n_ended = 0;
        is_later = i % 2 == 1;
        leave_runs();
        /* Half of them have nothing to read, the others nothing to append. */
        const bool is_half = kinds[i] == SL_STORE_READ || kinds[i] == SL_STORE_APPEND;
        const uint64_t n_expected = is_half ? N_RUNS / 2 : 0;
        const enum sl_status status = recover(kinds[i], FOR_EVER, &n_ended);
        assert_int_equal(status, kinds[i] == SL_STORE_RECOVER ? SL_UNAVAILABLE : SL_OK);
        assert_int_equal(n_ended, n_expected);
        assert_int_equal(recover(kinds[i], 1, &n_ended), SL_OK);
        assert_int_equal(n_ended, N_RUNS - n_expected);
        check_all_ended();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fault_that_passes_is_not_seen),
        cmocka_unit_test(a_fault_that_stays_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
