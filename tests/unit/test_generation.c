/* Generations of the configuration: runs keep theirs, and the last one that leaves closes it. */
#include <unistd.h>

#include "tests/unit/test_runtime_rig.h"

enum { MANY = 50 };

static char path[64];

/* The file of the agent "mine", with this model. */
static void write_agent(const char *model)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "name: mine\nmodel: echo:%s\n", model);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    (void)snprintf(path, sizeof(path), "/tmp/sluice-generation-%d.yaml", (int)getpid());
    write_agent("one");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

static void open_with_agent(size_t n)
{
    struct sl_error err = { .text = "" };
    open_runtime(n, "");
    assert_int_equal(sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err), SL_OK);
}

static struct sl_generation *draft(void)
{
    struct sl_error err = { .text = "" };
    struct sl_generation *fresh = NULL;
    assert_int_equal(sl_runtime_draft_new(runtime, &limits, &fresh, &err), SL_OK);
    sl_runtime_draft_configure(fresh, NULL, NULL);
    assert_int_equal(sl_runtime_draft_load_agents(fresh, path, fail_on_problem, NULL, &err), SL_OK);
    return fresh;
}

static struct sl_runtime_change reload(void)
{
    struct sl_runtime_change change;
    sl_runtime_draft_commit(draft(), &change);
    return change;
}

static uint64_t n_generations(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.generations;
}

static void wait_generations(uint64_t n)
{
    for (int n_steps = 0; n_generations() != n; n_steps++) {
        step();
        assert_true(n_steps < MAX_STEPS);
    }
}

static void keep_model(const Sluice__V1__StreamEvent *event, void *user_data)
{
    if (event->event_case == SL_EVENT(RUN_STARTED)) {
        (void)snprintf(user_data, 32, "%s", event->run_started->model);
    }
}

/* Reads to the end. */
static void check_model(struct reader *reader, const char *model)
{
    char seen[32] = "";
    wait_until(&reader->is_last);
    (void)each_event(reader, keep_model, seen);
    assert_string_equal(seen, model);
    finish(reader);
}

static void a_run_keeps_what_it_started_with(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        write_agent("one");
        open_with_agent(n);
        struct reader first = { .max_take = 0 };
        struct reader second = { .max_take = 0 };
        struct sl_run_spec spec = spec_of("mine", "x");
        start(&first, &spec); /* not begun yet: it counts when it was asked for */
        write_agent("two");
        const struct sl_runtime_change change = reload();
        assert_int_equal(change.n_changed, 1);
        assert_int_equal(change.n_agents, 4);
        assert_int_equal(n_generations(), 2);
        step();
        start(&second, &spec);
        check_model(&first, "one");
        check_model(&second, "two");
        wait_generations(1);
        close_runtime();
    }
}

static void a_run_without_an_end_holds_its_generation_alone(void **state)
{
    (void)state;
    open_with_agent(2);
    struct reader hanging = { .max_take = 0 };
    const struct sl_run_spec spec = spec_of("load", "hang=true");
    start(&hanging, &spec);
    wait_until(&hanging.is_started);
    for (int i = 0; i < MANY; i++) {
        (void)reload();
        step();
    }
    wait_generations(2); /* those in between are gone */
    sl_run_stream_close(hanging.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&hanging.bytes);
    wait_generations(1);
    close_runtime();
}

static void a_draft_that_is_dropped_changes_nothing(void **state)
{
    (void)state;
    open_with_agent(1);
    write_agent("two");
    assert_null(sl_runtime_draft_drop(draft()));
    assert_null(sl_runtime_draft_drop(NULL));
    step();
    struct reader reader = { .max_take = 0 };
    const struct sl_run_spec spec = spec_of("mine", "x");
    start(&reader, &spec);
    check_model(&reader, "one");
    assert_int_equal(n_generations(), 1);
    close_runtime();
}

static void agents_are_compared_by_name_and_version(void **state)
{
    (void)state;
    open_with_agent(1);
    struct sl_runtime_change change = reload();
    assert_int_equal(change.n_added + change.n_removed + change.n_changed, 0);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs("name: aaa\nmodel: echo:x\n---\nname: zzz\nmodel: echo:x\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    change = reload();
    assert_int_equal(change.n_agents, 5);
    assert_int_equal(change.n_added, 2);
    assert_int_equal(change.n_removed, 1);
    assert_int_equal(change.n_changed, 0);
    step();
    assert_int_equal(sl_runtime_n_agents(runtime, bases[0]), 5);
    assert_string_equal(sl_runtime_agent_at(runtime, bases[0], 0)->name, "aaa");
    const struct sl_run_spec spec = spec_of("mine", "x");
    check_refusal(&spec, SL_NOT_FOUND, "AGENT_NOT_FOUND", "mine");
    close_runtime();
}

static void more_slots_are_given_to_those_that_wait(void **state)
{
    (void)state;
    limits.runs = 1;
    open_with_agent(1);
    struct reader hanging = { .max_take = 0 };
    struct reader waiting[3] = { { .max_take = 0 } };
    const struct sl_run_spec spec = spec_of("load", "hang=true");
    const struct sl_run_spec soon = spec_of("mine", "x");
    start(&hanging, &spec);
    wait_until(&hanging.is_started);
    for (size_t i = 0; i < 3; i++) {
        start(&waiting[i], &soon);
    }
    step();
    assert_false(waiting[0].is_started);
    limits.runs = 3;
    write_agent("two");
    (void)reload();
    for (size_t i = 0; i < 3; i++) {
        check_model(&waiting[i], "one"); /* as they were asked for */
    }
    sl_run_stream_close(hanging.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&hanging.bytes);
    wait_generations(1);
    close_runtime();
}

static void fewer_slots_wait_for_runs_to_end(void **state)
{
    (void)state;
    limits.runs = 2;
    open_with_agent(1);
    struct reader hanging[2] = { { .max_take = 0 } };
    const struct sl_run_spec spec = spec_of("load", "hang=true");
    for (size_t i = 0; i < 2; i++) {
        start(&hanging[i], &spec);
        wait_until(&hanging[i].is_started);
    }
    limits.runs = 1;
    (void)reload();
    struct reader waiting = { .max_take = 0 };
    const struct sl_run_spec soon = spec_of("mine", "x");
    start(&waiting, &soon);
    for (size_t i = 0; i < 2; i++) {
        for (int k = 0; k < 10; k++) {
            sl_loop_uv_step(loops[0], 0);
        }
        assert_false(waiting.is_started);
        sl_run_stream_close(hanging[i].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&hanging[i].bytes);
    }
    check_model(&waiting, "one");
    close_runtime();
}

static void a_new_limit_is_for_runs_that_start(void **state)
{
    (void)state;
    open_with_agent(1);
    limits.input = 3;
    (void)reload();
    step();
    assert_int_equal(sl_runtime_limits(runtime, bases[0])->input, 3);
    const struct sl_run_spec spec = spec_of("mine", "1234");
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "larger than 3");
    close_runtime();
}

static void the_end_waits_for_every_generation(void **state)
{
    (void)state;
    open_with_agent(2);
    struct reader readers[3] = { { .max_take = 0 } };
    const struct sl_run_spec spec = spec_of("load", "hang=true");
    for (size_t i = 0; i < 3; i++) {
        start(&readers[i], &spec);
        wait_until(&readers[i].is_started);
        (void)reload();
        step();
    }
    stop_runtime();
    assert_int_equal(n_generations(), 0);
    assert_null(sl_runtime_limits(runtime, bases[0]));
    assert_int_equal(sl_runtime_n_agents(runtime, bases[0]), 0);
    check_refusal(&spec, SL_UNAVAILABLE, "DRAINING", "going down");
    for (size_t i = 0; i < 3; i++) {
        finish(&readers[i]);
    }
    free_runtime();
}

static void keep_line(const char *line, void *user_data)
{
    (void)snprintf(user_data, 256, "%s", line);
}

static const char *has_key(const char *name)
{
    return strcmp(name, "OPENAI_API_KEY") == 0 ? "planted-secret-key-0123456789" : NULL;
}

static void an_agent_that_could_not_run_any_more_is_told(void **state)
{
    (void)state;
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs("name: mine\nmodel: openai:x\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    open_with_agent(1); /* without a key: it is listed, and cannot run */
    char line[256] = "";
    struct sl_generation *fresh = draft();
    sl_runtime_draft_check(fresh, keep_line, line);
    assert_string_equal(line, "");
    assert_null(sl_runtime_draft_drop(fresh));
    runtime->env = has_key;
    (void)reload();
    runtime->env = no_env;
    fresh = draft();
    sl_runtime_draft_check(fresh, keep_line, line);
    assert_non_null(strstr(line, "agent 'mine' could not run any more: provider 'openai'"));
    (void)sl_runtime_draft_drop(fresh);
    close_runtime();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_keeps_what_it_started_with),
        TEST(a_run_without_an_end_holds_its_generation_alone),
        TEST(a_draft_that_is_dropped_changes_nothing),
        TEST(agents_are_compared_by_name_and_version),
        TEST(more_slots_are_given_to_those_that_wait),
        TEST(fewer_slots_wait_for_runs_to_end),
        TEST(a_new_limit_is_for_runs_that_start),
        TEST(the_end_waits_for_every_generation),
        TEST(an_agent_that_could_not_run_any_more_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
