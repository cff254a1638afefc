/* What is kept of runs, and what that may cost. */
#include "runtime/base/log.h"
#include "runtime/query.h"
#include "tests/unit/test_runtime_rig.h"

static uint64_t kept_bytes(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.kept_bytes;
}

/* Reads a run to its end. Gives its id. */
static const char *run_to_end(const struct sl_run_spec *spec)
{
    static struct reader reader;
    reader = (struct reader){ .max_take = 0 };
    start(&reader, spec);
    wait_until(&reader.is_last);
    finish(&reader);
    sl_loop_uv_step(loops[0], 0);
    return reader.run_id;
}

static struct sl_known_run *nth_known(size_t n)
{
    struct sl_list *node = sl_list_first(&runtime->loops[0].loop.known);
    for (size_t i = 0; i < n; i++) {
        node = node->next;
    }
    return SL_CONTAINER(node, struct sl_known_run, node);
}

static void the_places_of_a_conversation_count_as_kept(void **state)
{
    enum { MESSAGES = 2000 };
    static struct sl_run_message messages[MESSAGES];
    (void)state;
    open_runtime(1, "");
    for (size_t i = 0; i < MESSAGES; i++) {
        messages[i] = (struct sl_run_message){ .role = i % 2 == 0 ? SL_RUN_USER : SL_RUN_ASSISTANT,
                                               .content = sl_slice_str("x") };
    }
    struct sl_run_spec spec = spec_of("echo", "one");
    (void)run_to_end(&spec);
    const uint64_t before = kept_bytes();
    spec.messages = messages;
    spec.n_messages = MESSAGES;
    (void)run_to_end(&spec);
    assert_true(kept_bytes() - 2 * before > MESSAGES * sizeof(struct sl_chat_message));
    close_runtime();
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void a_run_that_ends_without_memory_stays_known(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    open_runtime(1, "");
    const struct sl_run_spec spec = spec_of("load", "{\"hang\":true}");
    start(&reader, &spec);
    wait_until(&reader.is_started);
    const struct sl_known_run *known = sl_known_find(&runtime->loops[0], reader.run_id, "");
    assert_non_null(known);
    sl_mem_set_gate(refuse_all);
    sl_run_cancel(known->run, &ending);
    sl_mem_set_gate(NULL);
    wait_until(&reader.is_last);
    sl_loop_uv_step(loops[0], 0);
    known = sl_known_find(&runtime->loops[0], reader.run_id, "");
    assert_non_null(known);
    assert_null(known->run);
    assert_int_equal(sl_run_info_stage(known), SL_RUN_STAGE_CANCELLED);
    finish(&reader);
    close_runtime();
}

static void stop_hanging(struct reader *reader)
{
    sl_run_stream_close(reader->stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&reader->bytes);
}

/* The window of a run that begins is taken from what is kept, wherever that is. */
static void a_run_that_begins_takes_its_room_from_what_is_kept(void **state) /* window_total */
{
    enum { KEPT = 8, TOTAL = 128 * 1024, SHARE = TOTAL / 8 };
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader reader = { .max_take = 0 };
        struct sl_runtime_stats stats;
        sl_limits_init(&limits);
        limits.runs = 4;
        limits.window_total = TOTAL;
        limits.window = TOTAL / 2;
        open_runtime(n, "");
        struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
        const struct sl_run_spec spec = spec_of("load", "{\"events\":200,\"bytes\":100}");
        start(&reader, &hang); /* with two loops the others are on the second one then */
        wait_until(&reader.is_started);
        for (size_t i = 0; i < KEPT; i++) {
            (void)run_to_end(&spec);
        }
        stop_hanging(&reader);
        do {
            step();
            sl_runtime_stats(runtime, &stats);
        } while (stats.runs_running > 0);
        assert_in_range(kept_bytes(), TOTAL / 2, TOTAL);
        hang.on_disconnect = SL_RUN_DETACH;
        reader = (struct reader){ .max_take = 0 };
        start(&reader, &hang);
        wait_until(&reader.is_started);
        for (int n_steps = 0; kept_bytes() > TOTAL / 2 - SHARE; n_steps++) {
            assert_true(n_steps < 100);
            step();
        }
        assert_true(kept_bytes() > 0);
        stop_runtime();
        finish(&reader);
        free_runtime();
    }
}

/* RT-3: between the look at the request id and the look at the run. */
static void a_repeat_whose_run_is_forgotten_in_that_instant_is_told_so(void **state)
{
    static const struct {
        bool is_ended;
        enum sl_status status;
        const char *reason;
    } rows[] = { { true, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED" },
                 { false, SL_UNAVAILABLE, "REQUEST_PENDING" } };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        struct reader first = { .max_take = 0 };
        struct reader again = { .max_take = 0 };
        open_runtime(1, "");
        struct sl_run_spec spec = spec_of("echo", "one");
        spec.request_id = "mine";
        start(&first, &spec);
        wait_until(&first.is_last);
        sl_loop_uv_step(loops[0], 0);
        start(&again, &spec);
        again.stream->attach.was_over &= rows[i].is_ended;
        (void)sl_known_drop(nth_known(0));
        wait_until(&again.is_started);
        assert_true(again.is_refused);
        assert_int_equal(again.refusal.status, rows[i].status);
        assert_string_equal(again.refusal.reason, rows[i].reason);
        finish(&again);
        finish(&first);
        close_runtime();
    }
}

static void a_repeat_keeps_nothing_of_its_request(void **state)
{
    static const struct sl_run_pair credential = { "token", "secret" };
    (void)state;
    struct reader first = { .max_take = 0 };
    struct reader again = { .max_take = 0 };
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("echo", "one");
    spec.request_id = "mine";
    spec.credentials = &credential;
    spec.n_credentials = 1;
    start(&first, &spec);
    wait_until(&first.is_last);
    start(&again, &spec);
    assert_int_equal(again.stream->start.history.arena.used_bytes, 0);
    assert_null(again.stream->start.credentials);
    wait_until(&again.is_last);
    assert_int_equal(again.bytes.size, first.bytes.size);
    finish(&again);
    finish(&first);
    close_runtime();
}

/* ---- Lists ------------------------------------------------------------------------------------
 */

static struct {
    struct sl_run_query *query;
    bool is_there;
    size_t n_runs;
    uint64_t newest_ms, oldest_ms;
    char token[64];
} page;

static void on_page(const struct sl_run_answer *answer, void *user_data)
{
    (void)user_data;
    assert_int_equal(answer->status, SL_OK);
    page.is_there = true;
    page.n_runs = answer->n_runs;
    page.newest_ms = answer->n_runs == 0 ? 0 : answer->runs[0].created_at_ms;
    page.oldest_ms = answer->n_runs == 0 ? 0 : answer->runs[answer->n_runs - 1].created_at_ms;
    (void)snprintf(page.token, sizeof(page.token), "%s", answer->next_page_token);
}

static void ask_list(size_t page_size, const char *token)
{
    const struct sl_run_ask ask = { .kind = SL_RUN_ASK_LIST,
                                    .page_size = page_size,
                                    .page_token = token };
    page.is_there = false;
    assert_int_equal(sl_run_ask(runtime, bases[0], &ask, on_page, NULL, &page.query), SL_OK);
}

static void close_list(void)
{
    page.query = sl_run_query_close(page.query);
}

static void a_clock_that_was_set_back_hides_no_run_from_a_list(void **state)
{
    enum { RUNS = 9 };
    (void)state;
    open_runtime(1, "");
    const struct sl_run_spec spec = spec_of("echo", "one");
    for (size_t i = 0; i < RUNS; i++) {
        (void)run_to_end(&spec);
        nth_known(i)->created_ms = 1000 + i * 5 % RUNS;
    }
    for (size_t page_size = 1; page_size <= RUNS; page_size++) {
        char token[64] = "";
        uint64_t expected_ms = 1000 + RUNS - 1;
        size_t n = 0;
        do {
            ask_list(page_size, token);
            wait_until(&page.is_there);
            assert_int_equal(page.newest_ms, expected_ms);
            expected_ms = page.oldest_ms - 1;
            n += page.n_runs;
            memcpy(token, page.token, sizeof(token));
            close_list();
        } while (token[0] != '\0' && n <= RUNS);
        assert_int_equal(n, RUNS);
    }
    close_runtime();
}

static void a_long_list_is_made_in_several_tasks(void **state)
{
    enum { RUNS = 2500, PAGE = 1000 };
    (void)state;
    open_runtime(1, "");
    sl_log_setup(-1, SL_INFO, SL_LOG_LOGFMT);
    const struct sl_run_spec spec = spec_of("echo", "one");
    for (size_t i = 0; i < RUNS; i++) {
        (void)run_to_end(&spec);
    }
    ask_list(PAGE, "");
    size_t n_steps = 0;
    while (!page.is_there) {
        step(); /* runs what was posted before */
        n_steps++;
        assert_true(n_steps < MAX_STEPS);
        if (n_steps == 1) { /* those that come next, and some behind them */
            for (size_t i = 0; i < PAGE; i++) {
                (void)sl_known_drop(nth_known(RUNS - PAGE - 1 - i));
            }
        }
    }
    assert_in_range(n_steps, 4, 10);
    assert_int_equal(page.n_runs, PAGE);
    assert_true(page.token[0] != '\0');
    close_list();
    close_runtime();
}

/* Half a MiB each, which they had not when the page was made. */
static void runs_that_end_while_they_are_listed_do_not_make_the_page_too_large(void **state)
{
    enum { RUNS = 6 };
    static char input[700 * 1024];
    (void)state;
    memset(input, 'x', sizeof(input) - 1);
    sl_limits_init(&limits);
    limits.runs = 4;
    open_runtime(1, "");
    const struct sl_run_spec spec = spec_of("echo", input);
    for (size_t i = 0; i < RUNS; i++) {
        (void)run_to_end(&spec);
        nth_known(i)->has_ended = false;
        nth_known(i)->created_ms = 1000 + i;
    }
    ask_list(RUNS, "");
    step(); /* which ones: all */
    for (size_t i = 0; i < RUNS; i++) {
        nth_known(i)->has_ended = true;
    }
    wait_until(&page.is_there);
    assert_int_equal(page.n_runs, 2);
    assert_int_equal(page.newest_ms, 1000 + RUNS - 1);
    char token[64];
    memcpy(token, page.token, sizeof(token));
    close_list();
    ask_list(RUNS, token);
    wait_until(&page.is_there);
    assert_int_equal(page.newest_ms, 1000 + RUNS - 3);
    close_list();
    close_runtime();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_places_of_a_conversation_count_as_kept),
        cmocka_unit_test(a_run_that_begins_takes_its_room_from_what_is_kept),
        cmocka_unit_test(a_run_that_ends_without_memory_stays_known),
        cmocka_unit_test(a_repeat_whose_run_is_forgotten_in_that_instant_is_told_so),
        cmocka_unit_test(a_repeat_keeps_nothing_of_its_request),
        cmocka_unit_test(a_clock_that_was_set_back_hides_no_run_from_a_list),
        cmocka_unit_test(runs_that_end_while_they_are_listed_do_not_make_the_page_too_large),
        cmocka_unit_test(a_long_list_is_made_in_several_tasks),
    };
    sl_limits_init(&limits);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
