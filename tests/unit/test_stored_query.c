/* What is told of runs that are in the store: alone, and in a list with those of memory. */
#include <unistd.h>

#include "runtime/exec/session_codec.h"
#include "tests/fake/store_rig.h"
#include "tests/unit/test_query_rig.h"

static struct sl_store_rig rig;

static int new_rig(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_store_rig_init(&rig);
    store_path = rig.path;
    return 0;
}

static int end_rig(void **state)
{
    (void)state;
    sl_store_rig_done(&rig);
    return 0;
}

static void close_all(void)
{
    end_asking();
    close_runtime();
}

/* ---- Runs of the store -------------------------------------------------------------------------
 */

/* "RunDone" or "RunError" as event number 1, of a run with nothing else. */
static struct sl_segment *terminal_of(bool is_error)
{
    struct sl_buf bytes;
    Sluice__V1__StreamEvent event;
    Sluice__V1__RunDone done;
    Sluice__V1__RunError error;
    Sluice__V1__Usage usage;
    sluice__v1__stream_event__init(&event);
    sluice__v1__run_done__init(&done);
    sluice__v1__run_error__init(&error);
    sluice__v1__usage__init(&usage);
    usage.input_tokens = 21;
    done.usage = error.usage = &usage;
    error.code = SL_CODE(MAX_ITERATIONS);
    error.message = sl_pb_text("Exceeded max iterations (1)");
    event.sequence = 1;
    if (is_error) {
        event.event_case = SL_EVENT(ERROR);
        event.error = &error;
    } else {
        event.event_case = SL_EVENT(DONE);
        event.done = &done;
    }
    sl_buf_init(&bytes, LOG_BYTES);
    assert_int_equal(sl_encode_into(&bytes, &event), SL_OK);
    struct sl_segment *segment = sl_segment_new((uint32_t)bytes.size);
    assert_non_null(segment);
    memcpy(segment->bytes, bytes.data, bytes.size);
    segment->used = (uint32_t)bytes.size;
    sl_buf_done(&bytes);
    return segment;
}

/* `context`: of the end. */
static void
add_run_with(const struct sl_store_run *run, enum sl_store_state state, struct sl_slice context)
{
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, run), SL_OK);
    struct sl_segment *segment = terminal_of(state == SL_STORE_STATE_FAILED);
    struct sl_store_end end = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .sequence = 1,
        .range = { .segment = segment, .to = segment->used },
        .state = state,
        .ended_ms = run->created_ms + 5,
        .context = context,
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &end.request, sl_store_end_run(rig.store, &end)), SL_OK);
    (void)sl_segment_unref(segment);
}

static void add_run(const struct sl_store_run *run, enum sl_store_state state)
{
    add_run_with(run, state, sl_slice_of(NULL, 0));
}

static void a_stored_run_is_shown(void **state)
{
    static const struct sl_store_pair pair = { "team", "blue" };
    (void)state;
    struct sl_store_run run = sl_store_rig_run("00000000000000000000000000000001");
    run.metadata = &pair;
    run.n_metadata = 1;
    sl_store_rig_open(&rig);
    add_run(&run, SL_STORE_STATE_DONE);
    run.run_id = "00000000000000000000000000000002";
    add_run(&run, SL_STORE_STATE_FAILED);
    sl_store_rig_close(&rig);
    open_runtime(2, "");
    assert_int_equal(
        ask_about(SL_RUN_ASK_CONTEXT, "00000000000000000000000000000001", "acme"), SL_OK);
    assert_int_equal(answer.n_runs, 1);
    const struct sl_run_info *info = &answer.runs[0];
    assert_string_equal(info->run_id, "00000000000000000000000000000001");
    assert_string_equal(info->agent, "helper");
    assert_int_equal(info->stage, SL_RUN_STAGE_DONE);
    assert_int_equal(info->created_at_ms, run.created_ms);
    assert_int_equal(info->ended_at_ms, run.created_ms + 5);
    assert_int_equal(info->last_sequence, 1);
    assert_int_equal(info->usage.input_tokens, 21);
    assert_int_equal(info->n_metadata, 1);
    assert_string_equal(info->metadata[0].value, "blue");
    assert_int_equal(info->n_messages, 0);
    assert_non_null(info->context_absent); /* that it had none would be another thing to say */
    Sluice__V1__StreamEvent *event =
        sluice__v1__stream_event__unpack(NULL, info->terminal.size, info->terminal.data);
    assert_non_null(event);
    assert_int_equal(event->event_case, SL_EVENT(DONE));
    sluice__v1__stream_event__free_unpacked(event, NULL);
    /* AL-7.2: the cancel of a run that has ended tells its state. */
    const struct sl_run_ask cancel = { .kind = SL_RUN_ASK_CANCEL,
                                       .run_id = "00000000000000000000000000000002",
                                       .tenant = "acme",
                                       .wants_end = true };
    assert_int_equal(ask_for(&cancel), SL_OK);
    assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_FAILED);
    assert_int_equal(
        ask_about(SL_RUN_ASK_GET, "00000000000000000000000000000001", "beta"), SL_NOT_FOUND);
    assert_int_equal(
        ask_about(SL_RUN_ASK_CANCEL, "00000000000000000000000000000003", "acme"), SL_NOT_FOUND);
    close_all();
}

/* ---- Conversations -----------------------------------------------------------------------------
 */

static void add_message(struct sl_history *history, const struct sl_chat_message *message)
{
    assert_int_equal(sl_history_add(history, message), SL_OK);
}

static void write_conversation(struct sl_buf *ret_bytes)
{
    static const struct sl_chat_call call = { "c1", "add", "{\"a\":1}", NULL };
    struct sl_history history;
    sl_history_init(&history, 1 << 20);
    const struct sl_chat_message messages[] = {
        { .role = SL_CHAT_USER, .content = sl_slice_str("one and one?") },
        { .role = SL_CHAT_ASSISTANT, .calls = &call, .n_calls = 1 },
        { .role = SL_CHAT_TOOL, .content = sl_slice_str("2"), .call_id = "c1", .tool_name = "add" },
    };
    for (size_t i = 0; i < SL_COUNT(messages); i++) {
        add_message(&history, &messages[i]);
    }
    sl_buf_init(ret_bytes, 1 << 20);
    assert_int_equal(sl_session_write(history.messages, history.n_messages, ret_bytes), SL_OK);
    sl_history_done(&history);
}

static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* AL-6.6; RL-S4: what is damaged is told, and what is absent is not told as empty. */
static void the_conversation_of_a_stored_run_is_told_or_why_not(void **state)
{
    (void)state;
    struct sl_buf bytes;
    const char *id = "00000000000000000000000000000001";
    const char *damaged = "00000000000000000000000000000002";
    const char *newer = "00000000000000000000000000000003";
    const char *half = "00000000000000000000000000000004";
    const char *garbage = "00000000000000000000000000000005";
    write_conversation(&bytes);
    const struct sl_slice whole = sl_buf_slice(&bytes);
    sl_store_rig_open(&rig);
    struct sl_store_run run = sl_store_rig_run(id);
    add_run_with(&run, SL_STORE_STATE_DONE, whole);
    run.run_id = damaged;
    add_run_with(&run, SL_STORE_STATE_DONE, whole);
    run.run_id = newer;
    add_run_with(&run, SL_STORE_STATE_DONE, sl_slice_str("\177of another form"));
    run.run_id = half;
    run.context = whole; /* and the end has none */
    add_run(&run, SL_STORE_STATE_DONE);
    run.run_id = garbage;
    add_run_with(&run, SL_STORE_STATE_DONE, sl_slice_str("\001\011what is this"));
    sl_store_rig_close(&rig);
    run_sql("UPDATE contexts SET bytes = 'x' WHERE run = 2");
    open_runtime(2, "");
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, id, "acme"), SL_OK);
    const struct sl_run_info *info = &answer.runs[0];
    assert_null(info->context_absent);
    assert_int_equal(info->n_messages, 3);
    assert_int_equal(info->messages[0].role, SL_RUN_USER);
    assert_string_equal(info->messages[0].content.data, "one and one?");
    assert_string_equal(info->messages[1].calls[0].arguments_json, "{\"a\":1}");
    assert_int_equal(info->messages[2].role, SL_RUN_TOOL);
    assert_string_equal(info->messages[2].call_id, "c1");
    assert_int_equal(ask_about(SL_RUN_ASK_GET, id, "acme"), SL_OK);
    assert_int_equal(answer.runs[0].n_messages, 0);
    assert_null(answer.runs[0].context_absent); /* nobody has asked */
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, id, "beta"), SL_NOT_FOUND);
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, damaged, "acme"), SL_DATA_LOSS);
    assert_int_equal(ask_about(SL_RUN_ASK_GET, damaged, "acme"), SL_OK);
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, garbage, "acme"), SL_DATA_LOSS);
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, newer, "acme"), SL_OK);
    assert_non_null(strstr(answer.runs[0].context_absent, "newer"));
    assert_int_equal(ask_about(SL_RUN_ASK_CONTEXT, half, "acme"), SL_OK);
    assert_non_null(strstr(answer.runs[0].context_absent, "run_context"));
    assert_int_equal(answer.runs[0].n_messages, 0);
    sl_buf_done(&bytes);
    close_all();
}

/* Who asks may go at any time. */
static void a_question_may_be_closed_while_the_store_is_asked(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("00000000000000000000000000000001");
    sl_store_rig_open(&rig);
    add_run(&run, SL_STORE_STATE_DONE);
    sl_store_rig_close(&rig);
    open_runtime(2, "");
    for (int i = 0; i < 10; i++) {
        const struct sl_run_ask ask = { .kind = i % 2 == 0 ? SL_RUN_ASK_GET : SL_RUN_ASK_LIST,
                                        .run_id = run.run_id,
                                        .tenant = "acme",
                                        .page_size = 10 };
        ask_without_wait(&ask);
        for (int n = 0; n < i / 2 && !answer.is_there; n++) {
            sl_loop_uv_step(loops[0], 1);
        }
    }
    close_all();
}

/* ---- Lists -------------------------------------------------------------------------------------
 */

enum { N_STORED = 7 };

/* Seven ended runs, a second apart, from long ago to now; every third one has failed, the last two
 * are of another agent, and the fourth has a session. */
static void add_seven(uint64_t first_ms)
{
    for (unsigned i = 0; i < N_STORED; i++) {
        char run_id[SL_ID_BYTES];
        (void)snprintf(run_id, sizeof(run_id), "%032u", i);
        struct sl_store_run run = sl_store_rig_run(run_id);
        run.created_ms = first_ms + (uint64_t)i * 1000;
        run.agent = i < 5 ? "helper" : "writer";
        run.session_id = i == 3 ? "s1" : "";
        add_run(&run, i % 3 == 2 ? SL_STORE_STATE_FAILED : SL_STORE_STATE_DONE);
    }
}

/* The ids of all pages, last two digits each; "*" for a run of memory. */
static void list_all(const struct sl_run_ask *given, char *ret_text, size_t size)
{
    struct sl_run_ask ask = *given;
    size_t n = 0;
    ask.kind = SL_RUN_ASK_LIST;
    ask.tenant = "acme";
    ask.page_token = "";
    ret_text[0] = '\0';
    for (int n_pages = 0;; n_pages++) {
        assert_true(n_pages < 30);
        assert_int_equal(ask_for(&ask), SL_OK);
        assert_true(answer.n_runs <= ask.page_size);
        for (size_t i = 0; i < answer.n_runs; i++) {
            const struct sl_run_info *info = &answer.runs[i];
            const bool is_stored = strcmp(info->agent, "echo") != 0;
            n += (size_t)snprintf(
                ret_text + n, size - n, "%s ", is_stored ? info->run_id + 30 : "*");
        }
        if (!turn_page(&ask)) {
            return;
        }
    }
}

static void check_list(const struct sl_run_ask *ask, const char *expected)
{
    char text[256];
    for (size_t page_size = 1; page_size <= 12; page_size += page_size < 4 ? 1 : 4) {
        struct sl_run_ask sized = *ask;
        sized.page_size = page_size;
        list_all(&sized, text, sizeof(text));
        assert_string_equal(text, expected);
    }
}

static void a_list_has_the_runs_of_memory_and_of_the_store_once(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        sl_store_rig_open(&rig);
        if (n == 1) {
            add_seven(1700000000000);
        }
        sl_store_rig_close(&rig);
        open_runtime(n, "");
        struct reader readers[3];
        for (size_t i = 0; i < SL_COUNT(readers); i++) { /* newer than any of the store */
            struct sl_run_spec spec = spec_of("echo", "x");
            spec.tenant = "acme";
            readers[i] = (struct reader){ .max_take = 0 };
            start(&readers[i], &spec);
            wait_until(&readers[i].is_last);
        }
        check_list(&(struct sl_run_ask){ .agent = NULL }, "* * * 06 05 04 03 02 01 00 ");
        check_list(&(struct sl_run_ask){ .agent = "helper" }, "04 03 02 01 00 ");
        check_list(&(struct sl_run_ask){ .agent = "echo" }, "* * * ");
        check_list(&(struct sl_run_ask){ .stage = SL_RUN_STAGE_FAILED }, "05 02 ");
        check_list(&(struct sl_run_ask){ .stage = SL_RUN_STAGE_DONE }, "* * * 06 04 03 01 00 ");
        check_list(&(struct sl_run_ask){ .stage = SL_RUN_STAGE_RUNNING }, "");
        check_list(&(struct sl_run_ask){ .session_id = "s1" }, "03 ");
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            finish(&readers[i]);
        }
        close_all();
    }
}

/* Runs of memory between those of the store, and older. */
static void the_two_are_in_one_order(void **state)
{
    (void)state;
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("echo", "x");
    spec.tenant = "acme";
    struct reader reader = { .max_take = 0 };
    start(&reader, &spec);
    wait_until(&reader.is_last);
    const uint64_t now_ms = sl_loop_wall_ms(bases[0]);
    for (unsigned i = 0; i < N_STORED; i++) { /* three before it, four behind it */
        char run_id[SL_ID_BYTES];
        (void)snprintf(run_id, sizeof(run_id), "%032u", i);
        struct sl_store_run run = sl_store_rig_run(run_id);
        run.created_ms = now_ms - 3500000 + (uint64_t)i * 1000000;
        rig.store = runtime->store;
        rig.loop = bases[0];
        struct sl_loop_uv *uv = rig.uv;
        rig.uv = loops[0];
        add_run(&run, SL_STORE_STATE_DONE);
        rig.uv = uv;
        rig.loop = sl_loop_uv_base(uv);
        rig.store = NULL;
    }
    check_list(&(struct sl_run_ask){ .agent = NULL }, "06 05 04 * 03 02 01 00 ");
    finish(&reader);
    close_all();
}

static void a_wrong_token_is_refused(void **state)
{
    static const char *const tokens[] = { "x",
                                          ".",
                                          "1.",
                                          "1.0123456789abcdef0123456789abcdef",
                                          "1.0123456789abcdef0123456789abcdef.",
                                          "1.0123456789abcdef0123456789abcdef.x",
                                          "1.0123.5",
                                          "x.0123456789abcdef0123456789abcdef.5",
                                          "1.0123456789abcdef0123456789abcde.f.5" };
    (void)state;
    open_runtime(1, "");
    for (size_t i = 0; i < SL_COUNT(tokens); i++) {
        const struct sl_run_ask ask = { .kind = SL_RUN_ASK_LIST,
                                        .page_size = 10,
                                        .page_token = tokens[i] };
        assert_int_equal(ask_for(&ask), SL_INVALID_ARGUMENT);
    }
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, new_rig, end_rig)
        TEST(a_stored_run_is_shown),
        TEST(the_conversation_of_a_stored_run_is_told_or_why_not),
        TEST(a_question_may_be_closed_while_the_store_is_asked),
        TEST(a_list_has_the_runs_of_memory_and_of_the_store_once),
        TEST(the_two_are_in_one_order),
        TEST(a_wrong_token_is_refused),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
