/* Lists of runs that are recorded, while they run, end and are forgotten between the pages. */
#include "tests/fake/store_rig.h"
#include "tests/unit/test_query_rig.h"

enum { N_RECORDED = 7, N_ALL = 9, MAX_PAGES = 40 }; /* the others are in memory only */

static const char agents[] = "name: rec\nprovider: load\nmodel: load\nmemory: None\n";

static struct sl_store_rig files;
static struct reader readers[N_ALL];

static void open_all(size_t n, bool is_forgotten)
{
    char path[SL_RIG_PATH_BYTES + 16];
    struct sl_error err = { .text = "" };
    sl_limits_init(&limits);
    limits.window_keep = is_forgotten ? 0 : limits.window_keep;
    sl_store_rig_init(&files);
    store_path = files.path;
    prepare_runtime(n, "");
    (void)snprintf(path, sizeof(path), "%s/a.yaml", files.folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(agents, 1, sizeof(agents) - 1, file), sizeof(agents) - 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err), SL_OK);
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
    for (size_t i = 0; i < N_ALL; i++) { /* all of them go on */
        struct sl_run_spec spec = spec_of(i < N_RECORDED ? "rec" : "load", "{\"hang\":true}");
        spec.on_disconnect = SL_RUN_DETACH;
        readers[i] = (struct reader){ .max_take = 0 };
        start(&readers[i], &spec);
        wait_until(&readers[i].is_started);
        assert_false(readers[i].is_refused);
    }
}

static void close_all(void)
{
    end_asking();
    stop_runtime();
    for (size_t i = 0; i < N_ALL; i++) {
        finish(&readers[i]);
    }
    free_runtime();
    store_path = NULL;
    sl_store_rig_done(&files);
}

/* Its end is stored, and told. */
static void end_run(size_t i)
{
    struct sl_run_query *query = answer.query; /* the page is still looked at */
    answer.query = NULL;
    const struct sl_run_ask ask = {
        .kind = SL_RUN_ASK_CANCEL, .run_id = readers[i].run_id, .tenant = "", .wants_end = true
    };
    assert_int_equal(ask_for(&ask), SL_OK);
    assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_CANCELLED);
    wait_until(&readers[i].is_last);
    answer.query = sl_run_query_close(answer.query);
    answer.query = query;
}

static size_t number_of(const char *run_id)
{
    size_t i = 0;
    while (i < N_ALL && strcmp(readers[i].run_id, run_id) != 0) {
        i++;
    }
    assert_true(i < N_ALL);
    return i;
}

/* Goes through all pages; before each but the first two runs end, one that was there, and one that
 * comes. `ret_seen`: how often each was there. Gives the number of pages. */
static int
list_while_runs_end(const struct sl_run_ask *given, bool do_end, unsigned ret_seen[N_ALL])
{
    struct sl_run_ask ask = *given;
    bool has_ended[N_ALL] = { false };
    memset(ret_seen, 0, N_ALL * sizeof(ret_seen[0]));
    ask.kind = SL_RUN_ASK_LIST;
    ask.tenant = "";
    ask.page_token = "";
    for (int n_pages = 1;; n_pages++) {
        assert_true(n_pages < MAX_PAGES);
        assert_int_equal(ask_for(&ask), SL_OK);
        assert_true(answer.n_runs <= ask.page_size);
        for (size_t i = 0; i < answer.n_runs; i++) {
            const struct sl_run_info *info = &answer.runs[i];
            const size_t number = number_of(info->run_id);
            ret_seen[number]++;
            if (ask.stage == SL_RUN_STAGE_ANY && do_end) {
                assert_int_equal(
                    info->stage, has_ended[number] ? SL_RUN_STAGE_CANCELLED : SL_RUN_STAGE_RUNNING);
            }
        }
        if (!turn_page(&ask)) {
            return n_pages;
        }
        for (size_t i = 0; do_end && i < 2; i++) {
            const size_t number = i == 0 ? (size_t)n_pages - 1 : N_ALL - (size_t)n_pages;
            if (number < N_ALL && !has_ended[number]) {
                end_run(number);
                has_ended[number] = true;
            }
        }
    }
}

static void check_seen(const unsigned seen[N_ALL], unsigned of_recorded, unsigned of_others)
{
    for (size_t i = 0; i < N_ALL; i++) {
        assert_int_equal(seen[i], i < N_RECORDED ? of_recorded : of_others);
    }
}

static void each_run_is_there_once_wherever_it_is(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (size_t page_size = 1; page_size <= 10; page_size += 3) {
            unsigned seen[N_ALL];
            open_all(n, false);
            const struct sl_run_ask ask = { .page_size = page_size };
            (void)list_while_runs_end(&ask, true, seen);
            check_seen(seen, 1, 1);
            close_all();
        }
    }
}

/* What memory forgets at once is in the store; runs that only memory had are gone. */
static void a_recorded_run_that_is_forgotten_is_there_once(void **state)
{
    (void)state;
    for (size_t page_size = 1; page_size <= 4; page_size++) {
        unsigned seen[N_ALL];
        open_all(MAX_LOOPS, true);
        const struct sl_run_ask ask = { .page_size = page_size, .agent = "rec" };
        (void)list_while_runs_end(&ask, true, seen);
        check_seen(seen, 1, 0);
        close_all();
    }
}

/* A page of one stage has no other, and what has changed its stage leaves no hole in it. */
static void stages_are_those_of_memory_and_of_the_store(void **state)
{
    (void)state;
    open_all(MAX_LOOPS, false);
    for (size_t i = 0; i < N_ALL; i += 2) {
        end_run(i);
    }
    for (size_t page_size = 1; page_size <= 10; page_size += 3) {
        unsigned seen[N_ALL];
        struct sl_run_ask ask = { .page_size = page_size, .stage = SL_RUN_STAGE_RUNNING };
        (void)list_while_runs_end(&ask, false, seen);
        for (size_t i = 0; i < N_ALL; i++) {
            assert_int_equal(seen[i], i % 2 == 1 ? 1 : 0);
        }
        ask.stage = SL_RUN_STAGE_CANCELLED;
        (void)list_while_runs_end(&ask, false, seen);
        for (size_t i = 0; i < N_ALL; i++) {
            assert_int_equal(seen[i], i % 2 == 0 ? 1 : 0);
        }
        ask.stage = SL_RUN_STAGE_WAITING_APPROVAL;
        (void)list_while_runs_end(&ask, false, seen);
        check_seen(seen, 0, 0);
    }
    close_all();
}

/* A store that only they are in has the same of them, and what the runs were begun with. */
static void the_store_alone_has_the_same_stages(void **state)
{
    (void)state;
    open_all(1, true);
    for (size_t i = 0; i < N_RECORDED; i++) {
        end_run(i);
    }
    unsigned seen[N_ALL];
    const struct sl_run_ask ask = { .page_size = 3, .stage = SL_RUN_STAGE_CANCELLED };
    (void)list_while_runs_end(&ask, false, seen);
    check_seen(seen, 1, 0);
    const struct sl_run_ask about = { .kind = SL_RUN_ASK_GET,
                                      .run_id = readers[0].run_id,
                                      .tenant = "" };
    assert_int_equal(ask_for(&about), SL_OK);
    assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_CANCELLED);
    const char *const run_id = readers[0].run_id;
    const struct sl_run_ask decision = { .kind = SL_RUN_ASK_DECIDE,
                                         .run_id = run_id,
                                         .tenant = "",
                                         .approval_id = "a",
                                         .is_approved = true };
    assert_int_equal(ask_for(&decision), SL_NOT_FOUND); /* nobody is there to hear it */
    end_asking();
    stop_runtime();
    for (size_t i = 0; i < N_ALL; i++) {
        finish(&readers[i]);
    }
    free_runtime();
    store_path = NULL;
    sl_store_rig_open(&files);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&files, &get, run_id), SL_OK);
    assert_int_equal(get.run.on_disconnect, SL_DISCONNECT(DETACH));
    assert_int_equal(get.run.durability, SL_STORE_ASYNC);
    assert_int_equal(get.run.state, SL_STORE_STATE_CANCELLED);
    sl_store_request_done(&get.request);
    sl_store_rig_done(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_run_is_there_once_wherever_it_is),
        cmocka_unit_test(a_recorded_run_that_is_forgotten_is_there_once),
        cmocka_unit_test(stages_are_those_of_memory_and_of_the_store),
        cmocka_unit_test(the_store_alone_has_the_same_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
