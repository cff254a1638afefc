/* What is told of runs to those who ask, and the cancel from elsewhere. */
#include "tests/unit/test_query_rig.h"

/* Two loops: the first run is on this one, the second on the other. */
static void start_two(struct reader readers[2], const char *input)
{
    for (size_t i = 0; i < 2; i++) {
        struct sl_run_spec spec = spec_of("load", input);
        spec.metadata = &(struct sl_run_pair){ "key", i == 0 ? "here" : "there" };
        spec.n_metadata = 1;
        readers[i] = (struct reader){ .max_take = 0 };
        start(&readers[i], &spec);
        wait_until(&readers[i].is_started);
    }
}

static void a_run_is_shown_while_it_runs_and_afterwards(void **state)
{
    struct reader readers[2];
    (void)state;
    open_runtime(2, "");
    start_two(readers, "{\"hang\":true}");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ask_about(SL_RUN_ASK_GET, readers[i].run_id, NULL), SL_OK);
        assert_int_equal(answer.n_runs, 1);
        const struct sl_run_info *run = &answer.runs[0];
        assert_string_equal(run->run_id, readers[i].run_id);
        assert_string_equal(run->agent, "load");
        assert_int_equal(run->stage, SL_RUN_STAGE_RUNNING);
        assert_in_range(run->created_at_ms, 1, UINT64_MAX - 1);
        assert_int_equal(run->ended_at_ms, 0);
        assert_in_range(run->last_sequence, 1, 3);
        assert_int_equal(run->terminal.size, 0);
        assert_int_equal(run->n_metadata, 1);
        assert_string_equal(run->metadata[0].key, "key");
        assert_string_equal(run->metadata[0].value, i == 0 ? "here" : "there");
        assert_int_equal(run->n_messages, 0);
        sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[i].bytes);
        struct sl_run_ask ask = { .kind = SL_RUN_ASK_CANCEL,
                                  .run_id = readers[i].run_id,
                                  .wants_end = true };
        assert_int_equal(ask_for(&ask), SL_OK);
        assert_string_equal(answer.runs[0].run_id, readers[i].run_id);
        assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_CANCELLED);
        assert_int_equal(answer.runs[0].terminal.size, 0); /* which nobody has asked for */
        assert_int_equal(ask_about(SL_RUN_ASK_GET, readers[i].run_id, NULL), SL_OK);
        run = &answer.runs[0];
        assert_int_equal(run->stage, SL_RUN_STAGE_CANCELLED);
        assert_in_range(run->ended_at_ms, run->created_at_ms, UINT64_MAX - 1);
        Sluice__V1__StreamEvent *event =
            sluice__v1__stream_event__unpack(NULL, run->terminal.size, run->terminal.data);
        assert_non_null(event);
        assert_int_equal(event->event_case, SL_EVENT(ERROR));
        assert_int_equal(event->error->cancel_reason, SL_CANCEL_REASON(CLIENT_RESET));
        assert_int_equal(event->sequence, run->last_sequence);
        sluice__v1__stream_event__free_unpacked(event, NULL);
        assert_true(run->usage.is_estimated);
        assert_int_equal(run->usage.model_calls, 1);
    }
    end_asking();
    close_runtime();
}

/* AL-7.2 */
static void a_cancel_from_elsewhere_ends_the_run(void **state)
{
    struct reader readers[2];
    (void)state;
    open_runtime(2, "");
    start_two(readers, "{\"hang\":true}");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ask_about(SL_RUN_ASK_CANCEL, readers[i].run_id, NULL), SL_OK);
        wait_until(&readers[i].is_last);
        const struct sl_run_ending *ending = sl_run_stream_ending(readers[i].stream);
        assert_int_equal(ending->status, SL_CANCELLED);
        for (int again = 0; again < 2; again++) { /* nothing changes any more */
            assert_int_equal(ask_about(SL_RUN_ASK_CANCEL, readers[i].run_id, NULL), SL_OK);
            assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_CANCELLED);
        }
        finish(&readers[i]);
    }
    end_asking();
    close_runtime();
}

static void a_cancel_of_an_ended_run_changes_nothing(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    open_runtime(1, "");
    const struct sl_run_spec spec = spec_of("echo", "one");
    start(&reader, &spec);
    wait_until(&reader.is_last);
    const struct sl_run_ask ask = { .kind = SL_RUN_ASK_CANCEL,
                                    .run_id = reader.run_id,
                                    .wants_end = true };
    assert_int_equal(ask_for(&ask), SL_OK);
    assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_DONE);
    finish(&reader);
    end_asking();
    close_runtime();
}

/* RL-C18 */
static void nobody_sees_the_runs_of_another_tenant(void **state)
{
    static const enum sl_run_ask_kind kinds[] = { SL_RUN_ASK_GET, SL_RUN_ASK_CONTEXT,
                                                  SL_RUN_ASK_CANCEL };
    (void)state;
    struct reader reader = { .max_take = 0 };
    open_runtime(2, "");
    struct sl_run_spec spec = spec_of("load", "{\"hang\":true}");
    spec.tenant = "acme";
    start(&reader, &spec);
    wait_until(&reader.is_started);
    for (size_t i = 0; i < SL_COUNT(kinds); i++) {
        struct sl_run_ask ask = { .kind = kinds[i], .run_id = reader.run_id, .tenant = "beta" };
        assert_int_equal(ask_for(&ask), SL_NOT_FOUND);
        assert_int_equal(answer.n_runs, 0);
        ask.tenant = "acme";
        ask.run_id = "00000000000000000000000000000000";
        assert_int_equal(ask_for(&ask), SL_NOT_FOUND);
    }
    struct sl_run_ask list = { .kind = SL_RUN_ASK_LIST, .page_size = 10, .tenant = "beta" };
    assert_int_equal(ask_for(&list), SL_OK);
    assert_int_equal(answer.n_runs, 0);
    list.tenant = "acme";
    assert_int_equal(ask_for(&list), SL_OK);
    assert_int_equal(answer.n_runs, 1);
    assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_RUNNING); /* it was not cancelled */
    sl_run_stream_close(reader.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&reader.bytes);
    end_asking();
    close_runtime();
}

/* AL-6.6: the conversation ends with what the run has said. */
static void the_conversation_is_shown(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        static const struct sl_run_message messages[] = {
            { .role = SL_RUN_USER, .content = { (const uint8_t *)"before", 6 } },
            { .role = SL_RUN_ASSISTANT, .content = { (const uint8_t *)"yes", 3 } },
        };
        struct reader reader = { .max_take = 0 };
        open_runtime(n, "");
        struct sl_run_spec spec = spec_of("echo", "one two");
        spec.messages = messages;
        spec.n_messages = SL_COUNT(messages);
        start(&reader, &spec);
        wait_until(&reader.is_last);
        assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, reader.run_id, NULL), SL_OK);
        static const struct {
            enum sl_run_role role;
            const char *text;
        } rows[] = { { SL_RUN_USER, "before" },
                     { SL_RUN_ASSISTANT, "yes" },
                     { SL_RUN_USER, "one two" },
                     { SL_RUN_ASSISTANT, "one two" } };
        assert_int_equal(answer.runs[0].n_messages, SL_COUNT(rows));
        for (size_t i = 0; i < SL_COUNT(rows); i++) {
            const struct sl_run_message *message = &answer.runs[0].messages[i];
            assert_int_equal(message->role, rows[i].role);
            assert_true(sl_slice_equal(message->content, sl_slice_str(rows[i].text)));
        }
        assert_int_equal(ask_about(SL_RUN_ASK_GET, reader.run_id, NULL), SL_OK);
        assert_int_equal(answer.runs[0].n_messages, 0);
        finish(&reader);
        end_asking();
        close_runtime();
    }
}

static void calls_and_results_are_shown(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    size_t n_calls = 0;
    size_t n_results = 0;
    open_runtime(1, "");
    const struct sl_run_spec spec = spec_of("load", "{\"events\":1,\"tools\":3}");
    start(&reader, &spec);
    wait_until(&reader.is_last);
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, reader.run_id, NULL), SL_OK);
    for (size_t i = 0; i < answer.runs[0].n_messages; i++) {
        const struct sl_run_message *message = &answer.runs[0].messages[i];
        n_calls += message->n_calls;
        n_results += message->role == SL_RUN_TOOL ? 1 : 0;
        if (message->n_calls > 0) {
            assert_int_equal(message->role, SL_RUN_ASSISTANT);
            assert_int_equal(message->calls[0].arguments_json[0], '{');
            assert_string_equal(message->calls[0].id, message[1].call_id);
        }
    }
    assert_int_equal(n_calls, 3);
    assert_int_equal(n_results, 3);
    finish(&reader);
    end_asking();
    close_runtime();
}

enum { LISTED = 25 };

static void start_many(struct reader *readers)
{
    for (size_t i = 0; i < LISTED; i++) {
        const struct sl_run_spec spec =
            i % 5 == 0 ? spec_of("echo", "one two three") : spec_of("load", "{\"hang\":true}");
        readers[i] = (struct reader){ .max_take = 0 };
        start(&readers[i], &spec);
        wait_until(i % 5 == 0 ? &readers[i].is_last : &readers[i].is_started);
    }
}

static void stop_many(struct reader *readers)
{
    for (size_t i = 0; i < LISTED; i++) {
        sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[i].bytes);
    }
}

/* Counts the runs of all pages; checks that they come newest first, each once. */
static size_t count_pages(struct sl_run_ask *ask)
{
    char last_id[SL_ID_BYTES] = "";
    uint64_t last_ms = UINT64_MAX;
    size_t n = 0;
    ask->page_token = "";
    do {
        assert_int_equal(ask_for(ask), SL_OK);
        assert_true(answer.n_runs <= ask->page_size);
        for (size_t i = 0; i < answer.n_runs; i++) {
            const struct sl_run_info *run = &answer.runs[i];
            assert_true(
                run->created_at_ms < last_ms ||
                (run->created_at_ms == last_ms && strcmp(run->run_id, last_id) < 0));
            assert_true(ask->agent == NULL || strcmp(run->agent, ask->agent) == 0);
            assert_true(ask->stage == SL_RUN_STAGE_ANY || run->stage == ask->stage);
            last_ms = run->created_at_ms;
            (void)snprintf(last_id, sizeof(last_id), "%s", run->run_id);
        }
        n += answer.n_runs;
        assert_true(n <= LISTED);
    } while (turn_page(ask));
    return n;
}

static void runs_are_listed_newest_first_page_by_page(void **state)
{
    static struct reader readers[LISTED];
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        open_runtime(n, "");
        start_many(readers);
        struct sl_run_ask ask = { .kind = SL_RUN_ASK_LIST };
        for (ask.page_size = 1; ask.page_size <= LISTED + 1; ask.page_size += 3) {
            assert_int_equal(count_pages(&ask), LISTED);
        }
        ask.page_size = LISTED; /* a full page that is the last one */
        assert_int_equal(count_pages(&ask), LISTED);
        ask.page_size = 2;
        ask.agent = "echo";
        assert_int_equal(count_pages(&ask), 5);
        ask.agent = "nobody";
        assert_int_equal(count_pages(&ask), 0);
        ask.agent = NULL;
        ask.stage = SL_RUN_STAGE_RUNNING;
        assert_int_equal(count_pages(&ask), 20);
        ask.stage = SL_RUN_STAGE_DONE;
        assert_int_equal(count_pages(&ask), 5);
        ask.stage = SL_RUN_STAGE_FAILED;
        assert_int_equal(count_pages(&ask), 0);
        stop_many(readers);
        end_asking();
        close_runtime();
    }
}

static void a_page_token_that_is_none_is_refused(void **state)
{
    static const char *const tokens[] = { "x",
                                          "1.",
                                          ".",
                                          "1.0123",
                                          "x.0123456789abcdef0123456789abcdef",
                                          "1.0123456789abcdef0123456789abcdef0",
                                          "99999999999999999999.0123456789abcdef0123456789abcdef" };
    (void)state;
    open_runtime(1, "");
    for (size_t i = 0; i < SL_COUNT(tokens); i++) {
        const struct sl_run_ask ask = { .kind = SL_RUN_ASK_LIST,
                                        .page_size = 1,
                                        .page_token = tokens[i] };
        assert_int_equal(ask_for(&ask), SL_INVALID_ARGUMENT);
    }
    end_asking();
    close_runtime();
}

/* Final texts of half a MiB: a page has as many as a reply can hold, and at least one. */
static void a_page_is_not_larger_than_a_reply(void **state)
{
    static char input[700 * 1024];
    (void)state;
    memset(input, 'x', sizeof(input) - 1);
    sl_limits_init(&limits);
    limits.runs = 4;
    open_runtime(2, "");
    for (size_t i = 0; i < 6; i++) {
        struct reader reader = { .max_take = 0 };
        const struct sl_run_spec spec = spec_of("echo", input);
        start(&reader, &spec);
        wait_until(&reader.is_last);
        finish(&reader);
    }
    struct sl_run_ask ask = { .kind = SL_RUN_ASK_LIST, .page_size = 100 };
    assert_int_equal(ask_for(&ask), SL_OK);
    assert_int_equal(answer.n_runs, 2);
    assert_int_equal(count_pages(&ask), 6);
    end_asking();
    close_runtime();
}

/* Nobody waits for the answer any more: it is thrown away, and the cancel is done all the same. */
static void a_query_may_be_closed_before_its_answer(void **state)
{
    struct reader readers[2];
    (void)state;
    open_runtime(2, "");
    start_two(readers, "{\"hang\":true}");
    for (size_t i = 0; i < 2; i++) {
        const struct sl_run_ask cancel = { .kind = SL_RUN_ASK_CANCEL,
                                           .run_id = readers[i].run_id,
                                           .wants_end = true };
        ask_without_wait(&cancel);
        end_asking();
        wait_until(&readers[i].is_last);
        assert_int_equal(sl_run_stream_ending(readers[i].stream)->status, SL_CANCELLED);
        finish(&readers[i]);
    }
    const struct sl_run_ask list = { .kind = SL_RUN_ASK_LIST, .page_size = 10 };
    ask_without_wait(&list);
    end_asking();
    close_runtime();
    assert_false(answer.is_there);
}

/* Who waits for the end of a run and goes is not kept until then. */
static void a_query_that_is_closed_does_not_wait_any_more(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[2];
        open_runtime(n, "");
        start_two(readers, "{\"hang\":true}"); /* with two loops one of them is elsewhere */
        for (size_t i = 0; i < 2 * SL_COUNT(readers); i++) {
            const char *run_id = readers[i / 2].run_id;
            struct sl_run_ask wait = { .kind = SL_RUN_ASK_GET,
                                       .run_id = run_id,
                                       .wants_end = true };
            const uint64_t n_holds = runtime->n_holds;
            ask_without_wait(&wait);
            for (size_t k = 0; k < 2 * (i % 2); k++) {
                step(); /* so that it waits */
            }
            end_asking();
            for (int n_steps = 0; runtime->n_holds > n_holds; n_steps++) {
                assert_true(n_steps < 100);
                step();
            }
            assert_false(readers[i / 2].is_last);
        }
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
            sl_buf_done(&readers[i].bytes);
        }
        close_runtime();
    }
}

static void a_runtime_that_stops_answers_what_was_asked(void **state)
{
    struct reader readers[2];
    (void)state;
    open_runtime(2, "");
    start_two(readers, "{\"hang\":true}");
    const struct sl_run_ask get = { .kind = SL_RUN_ASK_GET, .run_id = readers[1].run_id };
    ask_without_wait(&get);
    stop_runtime();
    wait_until(&answer.is_there);
    end_asking();
    assert_int_equal(
        sl_run_ask(runtime, bases[0], &get, on_answer, &answer, &answer.query), SL_UNAVAILABLE);
    for (size_t i = 0; i < 2; i++) {
        wait_until(&readers[i].is_last);
        finish(&readers[i]);
    }
    free_runtime();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_shown_while_it_runs_and_afterwards),
        cmocka_unit_test(a_cancel_from_elsewhere_ends_the_run),
        cmocka_unit_test(a_cancel_of_an_ended_run_changes_nothing),
        cmocka_unit_test(nobody_sees_the_runs_of_another_tenant),
        cmocka_unit_test(the_conversation_is_shown),
        cmocka_unit_test(calls_and_results_are_shown),
        cmocka_unit_test(runs_are_listed_newest_first_page_by_page),
        cmocka_unit_test(a_page_token_that_is_none_is_refused),
        cmocka_unit_test(a_page_is_not_larger_than_a_reply),
        cmocka_unit_test(a_query_may_be_closed_before_its_answer),
        cmocka_unit_test(a_query_that_is_closed_does_not_wait_any_more),
        cmocka_unit_test(a_runtime_that_stops_answers_what_was_asked),
    };
    sl_limits_init(&limits);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
