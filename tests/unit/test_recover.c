/* Runs that lost their owner get an end at the start: what each of them looked like, and what
 * closes it. RL-X1, AL-5.27. */
#include <unistd.h>

#include "runtime/exec/closing.h"
#include "runtime/exec/session_codec.h"
#include "runtime/exec/terminal.h"
#include "tests/fake/store_rig.h"
#include "tests/unit/test_runtime_rig.h"

static struct sl_store_rig rig;
static uint64_t now_ms;

static int new_rig(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_store_rig_init(&rig);
    now_ms = 1000;
    return 0;
}

static int end_rig(void **state)
{
    (void)state;
    sl_store_rig_done(&rig);
    return 0;
}

/* ---- Logs --------------------------------------------------------------------------------------
 */

/* "S" RunStarted, "I" IterationStart, "t" text, "c" ToolCallStart (its id is c1, c2, …), "T", "E"
 * IterationComplete with TOOL_USE or END_TURN, "a" ApprovalRequested of the last call, "d" its
 * decision, "r" ToolCallComplete of the first open call, "p" ToolProgress of it. */
struct script {
    struct sl_buf bytes;
    uint64_t sequence;
    unsigned n_calls, n_results, n_iterations, n_approvals;
};

static void add(struct script *script, Sluice__V1__StreamEvent *event)
{
    event->sequence = ++script->sequence;
    event->timestamp_ms = now_ms += 10;
    assert_int_equal(sl_encode_into(&script->bytes, event), SL_OK);
}

static void add_call(struct script *script, char step)
{
    Sluice__V1__StreamEvent event;
    static char id[16];
    Sluice__V1__ToolCallStart start;
    Sluice__V1__ToolCallComplete complete;
    Sluice__V1__ToolProgress progress;
    sluice__v1__stream_event__init(&event);
    sluice__v1__tool_call_start__init(&start);
    sluice__v1__tool_call_complete__init(&complete);
    sluice__v1__tool_progress__init(&progress);
    start.tool_name = complete.tool_name = sl_pb_text("lookup");
    start.arguments_json = sl_pb_text("{\"q\":1}");
    start.tool_id = complete.tool_id = progress.tool_id = id;
    script->n_calls += step == 'c';
    script->n_results += step == 'r';
    (void)snprintf(
        id, sizeof(id), "c%u",
        step == 'c'   ? script->n_calls
        : step == 'r' ? script->n_results
                      : script->n_results + 1);
    event.event_case = step == 'c'   ? SL_EVENT(TOOL_CALL_START)
                       : step == 'r' ? SL_EVENT(TOOL_CALL_COMPLETE)
                                     : SL_EVENT(TOOL_PROGRESS);
    if (step == 'c') {
        event.tool_call_start = &start;
    } else if (step == 'r') {
        event.tool_call_complete = &complete;
    } else {
        event.tool_progress = &progress;
    }
    add(script, &event);
}

static void add_approval(struct script *script, char step)
{
    Sluice__V1__StreamEvent event;
    char id[16];
    char call[16];
    Sluice__V1__ApprovalRequested requested;
    Sluice__V1__ApprovalDecided decided;
    sluice__v1__stream_event__init(&event);
    sluice__v1__approval_requested__init(&requested);
    sluice__v1__approval_decided__init(&decided);
    script->n_approvals += step == 'a';
    (void)snprintf(id, sizeof(id), "a%u", script->n_approvals);
    (void)snprintf(call, sizeof(call), "c%u", script->n_calls);
    requested.approval_id = decided.approval_id = id;
    requested.tool_id = decided.tool_id = call;
    decided.decision = SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED;
    if (step == 'a') {
        event.event_case = SL_EVENT(APPROVAL_REQUESTED);
        event.approval_requested = &requested;
    } else {
        event.event_case = SL_EVENT(APPROVAL_DECIDED);
        event.approval_decided = &decided;
    }
    add(script, &event);
}

static void add_iteration(struct script *script, char step)
{
    Sluice__V1__StreamEvent event;
    Sluice__V1__IterationStart start;
    Sluice__V1__IterationComplete complete;
    Sluice__V1__Usage usage;
    sluice__v1__stream_event__init(&event);
    sluice__v1__iteration_start__init(&start);
    sluice__v1__iteration_complete__init(&complete);
    sluice__v1__usage__init(&usage);
    usage.input_tokens = 100;
    usage.output_tokens = 7;
    usage.model_calls = 1;
    complete.usage = &usage;
    complete.stop_reason = step == 'T' ? SL_STOP_REASON(TOOL_USE) : SL_STOP_REASON(END_TURN);
    script->n_iterations += step == 'I';
    start.iteration = complete.iteration = script->n_iterations;
    start.attempt = 1;
    if (step == 'I') {
        event.event_case = SL_EVENT(ITERATION_START);
        event.iteration_start = &start;
    } else {
        event.event_case = SL_EVENT(ITERATION_COMPLETE);
        event.iteration_complete = &complete;
    }
    add(script, &event);
}

static void add_step(struct script *script, char step)
{
    Sluice__V1__StreamEvent event;
    Sluice__V1__RunStarted started;
    Sluice__V1__TextDelta text;
    sluice__v1__stream_event__init(&event);
    sluice__v1__run_started__init(&started);
    sluice__v1__text_delta__init(&text);
    started.provider = sl_pb_text("openai");
    started.model = sl_pb_text("mock-1");
    text.delta = sl_pb_text("twelve bytes");
    if (step == 'S') {
        event.event_case = SL_EVENT(RUN_STARTED);
        event.run_started = &started;
        add(script, &event);
    } else if (step == 't') {
        event.event_case = SL_EVENT(TEXT_DELTA);
        event.text_delta = &text;
        add(script, &event);
    } else if (strchr("ITE", step) != NULL) {
        add_iteration(script, step);
    } else if (strchr("ad", step) != NULL) {
        add_approval(script, step);
    } else {
        add_call(script, step);
    }
}

static void leave(const struct sl_store_run *given, const char *steps)
{
    struct sl_store_run run = *given;
    struct sl_store_log log = { 0 };
    struct script script = { .sequence = 0 };
    run.created_ms = now_ms;
    run.durability = SL_STORE_ASYNC;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    sl_buf_init(&script.bytes, LOG_BYTES);
    for (const char *step = steps; *step != '\0'; step++) {
        add_step(&script, *step);
    }
    struct sl_segment *segment = sl_segment_new((uint32_t)script.bytes.size + 1);
    assert_non_null(segment);
    segment->used = (uint32_t)script.bytes.size;
    if (segment->used > 0) {
        memcpy(segment->bytes, script.bytes.data, segment->used);
        struct sl_store_append append = {
            .request = sl_store_rig_request(&rig),
            .log = &log,
            .first_sequence = 1,
            .last_sequence = script.sequence,
            .ranges = { { .segment = segment, .to = segment->used } },
            .n_ranges = 1,
        };
        assert_int_equal(
            sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)), SL_OK);
    }
    (void)sl_segment_unref(segment);
    sl_buf_done(&script.bytes);
    sl_store_log_drop(rig.store, &log);
}

/* A run that was begun and left, with the events of `steps`. */
static void leave_run(const char *run_id, const char *steps)
{
    const struct sl_store_run run = sl_store_rig_run(run_id);
    leave(&run, steps);
}

/* ---- Recovery ----------------------------------------------------------------------------------
 */

struct outcome {
    bool is_done;
    enum sl_status status;
};

static void on_done(enum sl_status status, void *user_data)
{
    struct outcome *outcome = user_data;
    assert_false(outcome->is_done);
    outcome->is_done = true;
    outcome->status = status;
}

/* The store is closed, as by a crash of its owner, and a runtime starts on it. */
static void restart(uint64_t n_expected)
{
    struct outcome outcome = { .is_done = false };
    struct sl_error err = { .text = "" };
    struct sl_runtime_store_stats stats;
    sl_store_rig_close(&rig);
    open_runtime(1, "");
    const struct sl_runtime_store options = { .path = rig.path };
    assert_int_equal(sl_runtime_open_store(runtime, &options, &err), SL_OK);
    assert_int_equal(sl_runtime_recover(runtime, bases[0], on_done, &outcome), SL_OK);
    wait_until(&outcome.is_done);
    assert_int_equal(outcome.status, SL_OK);
    sl_runtime_store_stats(runtime, &stats);
    assert_int_equal(stats.runs_recovered, n_expected);
    assert_int_equal(stats.runs_open, 0);
    close_runtime();
    sl_store_rig_open(&rig);
}

static Sluice__V1__StreamEvent *unpack(struct sl_slice *bytes)
{
    const size_t size = (size_t)bytes->data[3] << 8 | bytes->data[4];
    Sluice__V1__StreamEvent *event =
        sluice__v1__stream_event__unpack(NULL, size, bytes->data + SL_EVENT_PREFIX_BYTES);
    assert_non_null(event);
    *bytes = sl_slice_of(
        bytes->data + SL_EVENT_PREFIX_BYTES + size, bytes->size - SL_EVENT_PREFIX_BYTES - size);
    return event;
}

/* How an event stands in `expected`: "i" IterationComplete(INTERRUPTED), "d" ApprovalDecided, "r"
 * ToolCallComplete, "X" RunError, "S" RunStarted; both of the right kind. */
static char letter_of(const Sluice__V1__StreamEvent *event)
{
    switch ((int)event->event_case) {
    case SL_EVENT(RUN_STARTED):
        assert_string_equal(event->run_started->agent_name, "helper");
        return 'S';
    case SL_EVENT(ITERATION_COMPLETE):
        assert_int_equal(event->iteration_complete->stop_reason, SL_STOP_REASON(INTERRUPTED));
        assert_true(event->iteration_complete->usage->estimated);
        assert_true(event->iteration_complete->usage->input_tokens > 0);
        assert_string_equal(event->iteration_complete->model, "mock-1");
        return 'i';
    case SL_EVENT(APPROVAL_DECIDED):
        assert_int_equal(
            event->approval_decided->decision,
            SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_CANCELLED);
        return 'd';
    case SL_EVENT(TOOL_CALL_COMPLETE):
        assert_false(event->tool_call_complete->success);
        assert_int_equal(
            event->tool_call_complete->error_code,
            SLUICE__V1__TOOL_ERROR_CODE__TOOL_ERROR_CODE_OUTCOME_UNKNOWN);
        assert_string_equal(event->tool_call_complete->tool_name, "lookup");
        return 'r';
    case SL_EVENT(ERROR):
        assert_int_equal(event->error->code, SL_CODE(WORKER_LOST));
        assert_true(event->error->retryable);
        assert_int_equal(strlen(event->error->error_id), SL_ID_BYTES - 1);
        return 'X';
    default:
        return '?';
    }
}

/* Reads the whole log: it is in order, ends, and has `expected` behind its first `n_before`. */
static struct sl_terminal check_log(const char *run_id, uint64_t n_before, const char *expected)
{
    struct sl_event_order order = { 0 };
    struct sl_error err = { .text = "" };
    struct sl_terminal terminal = { 0 };
    char letters[64] = "";
    size_t n_letters = 0;
    struct sl_store_read read = { .request = sl_store_rig_request(&rig), .run_id = run_id };
    assert_int_equal(
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_OK);
    struct sl_slice bytes = read.bytes;
    while (bytes.size > 0) {
        const struct sl_slice before = bytes;
        Sluice__V1__StreamEvent *event = unpack(&bytes);
        if (sl_event_order_check(&order, event, &err) != SL_OK) {
            fail_msg("%s: %s", run_id, err.text);
        }
        if (event->sequence > n_before) {
            letters[n_letters++] = letter_of(event);
        }
        if (bytes.size == 0) {
            assert_int_equal(
                sl_terminal_read(
                    sl_slice_of(
                        before.data + SL_EVENT_PREFIX_BYTES, before.size - SL_EVENT_PREFIX_BYTES),
                    &terminal),
                SL_OK);
        }
        sluice__v1__stream_event__free_unpacked(event, NULL);
    }
    assert_int_equal(sl_event_order_finish(&order, &err), SL_OK);
    sl_event_order_done(&order);
    assert_string_equal(letters, expected);
    assert_int_equal(read.run.state, SL_STORE_STATE_FAILED);
    assert_true(read.run.is_recovered);
    sl_store_request_done(&read.request);
    return terminal;
}

/* AL-3.3.2 */
static void whatever_is_open_is_closed(void **state)
{
    static const struct {
        const char *steps, *expected;
        uint64_t input_tokens, output_tokens;
    } cases[] = {
        { "", "SX", 0, 0 },           { "S", "X", 0, 0 },          { "SI", "iX", 1, 0 },
        { "SItt", "iX", 1, 6 },       { "SItc", "irX", 1, 5 },     { "SItE", "X", 100, 7 },
        { "SIccT", "rrX", 100, 7 },   { "SIccTpr", "rX", 100, 7 }, { "SIccTrr", "X", 100, 7 },
        { "SIcTrIt", "iX", 207, 10 }, { "SIcTa", "drX", 100, 7 },  { "SIcTad", "rX", 100, 7 },
        { "SIcTadr", "X", 100, 7 },
    };
    (void)state;
    sl_store_rig_open(&rig);
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%zu", i);
        leave_run(run_id, cases[i].steps);
    }
    restart(SL_COUNT(cases));
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%zu", i);
        const struct sl_terminal terminal =
            check_log(run_id, strlen(cases[i].steps), cases[i].expected);
        assert_string_equal(terminal.ending.reason, "WORKER_LOST");
        assert_int_equal(terminal.ending.status, SL_ABORTED);
        assert_int_equal(terminal.used.input_tokens, cases[i].input_tokens);
        assert_int_equal(terminal.used.output_tokens, cases[i].output_tokens);
    }
    restart(0);
}

/* More of them than are read at once, and one whose log is long. */
static void many_runs_are_ended_whatever_their_length(void **state)
{
    (void)state;
    enum { N = 100, LONG = 6000 };
    static char steps[LONG + 1];
    memset(steps, 't', LONG);
    steps[0] = 'S';
    steps[1] = 'I';
    sl_store_rig_open(&rig);
    for (int i = 0; i < N; i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%d", i);
        leave_run(run_id, "SIt");
    }
    leave_run("long", steps);
    restart(N + 1);
    for (int i = 0; i < N; i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%d", i);
        (void)check_log(run_id, 3, "iX");
    }
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "long"), SL_OK);
    assert_int_equal(get.run.last_sequence, LONG + 2);
    sl_store_request_done(&get.request);
}

/* AL-5.29: nobody knows what is open there, and the others are ended all the same. */
static void a_damaged_log_ends_with_data_loss(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    leave_run("r1", "SItt");
    leave_run("r2", "SI");
    sl_store_rig_close(&rig);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db, "UPDATE events SET crc = crc + 1 WHERE run = (SELECT min(run) FROM events)", NULL,
            NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    sl_store_rig_open(&rig);
    restart(2);
    struct sl_store_get get;
    struct sl_terminal terminal = { 0 };
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_int_equal(
        sl_terminal_read(
            sl_slice_of(
                get.run.terminal.data + SL_EVENT_PREFIX_BYTES,
                get.run.terminal.size - SL_EVENT_PREFIX_BYTES),
            &terminal),
        SL_OK);
    assert_string_equal(terminal.ending.reason, "DATA_LOSS");
    sl_store_request_done(&get.request);
    (void)check_log("r2", 2, "iX");
}

/* ---- Conversations -----------------------------------------------------------------------------
 */

static struct sl_buf write_one(const char *text)
{
    struct sl_history history;
    struct sl_buf bytes;
    const struct sl_chat_message message = { .role = SL_CHAT_USER, .content = sl_slice_str(text) };
    sl_history_init(&history, LOG_BYTES);
    sl_buf_init(&bytes, LOG_BYTES);
    assert_int_equal(sl_history_add(&history, &message), SL_OK);
    assert_int_equal(sl_session_write(history.messages, history.n_messages, &bytes), SL_OK);
    sl_history_done(&history);
    return bytes;
}

/* "u hello|a twelve bytes": roles and texts. */
static void check_messages(struct sl_slice bytes, const char *expected)
{
    char text[256] = "";
    size_t used = 0;
    struct sl_history history;
    sl_history_init(&history, LOG_BYTES);
    assert_int_equal(sl_session_read(bytes, &history), SL_OK);
    for (size_t i = 0; i < history.n_messages; i++) {
        const struct sl_chat_message *message = &history.messages[i];
        used += (size_t)snprintf(
            text + used, sizeof(text) - used, "%s%c%s %.*s", i == 0 ? "" : "|",
            "suat"[message->role], message -> n_calls > 0 ? "+" : "",
            (int)(message->content.size > 12 ? 12 : message->content.size),
            message->content.size == 0 ? "" : (const char *)message->content.data);
    }
    sl_history_done(&history);
    assert_string_equal(text, expected);
}

static void check_session(const char *session_id, const char *expected)
{
    struct sl_store_load load = { .request = sl_store_rig_request(&rig),
                                  .tenant = "acme",
                                  .agent = "helper",
                                  .session_id = session_id };
    const enum sl_status status =
        sl_store_rig_wait(&rig, &load.request, sl_store_load(rig.store, &load));
    assert_int_equal(status, expected == NULL ? SL_NOT_FOUND : SL_OK);
    if (expected != NULL) {
        check_messages(load.messages, expected);
    }
    sl_store_request_done(&load.request);
}

static void check_context(const char *run_id, const char *expected)
{
    struct sl_store_get get = { .request = sl_store_rig_request(&rig),
                                .run_id = run_id,
                                .wants_context = true };
    assert_int_equal(sl_store_rig_wait(&rig, &get.request, sl_store_get(rig.store, &get)), SL_OK);
    assert_int_equal(
        get.run.context_state, expected == NULL ? SL_STORE_CONTEXT_NONE : SL_STORE_CONTEXT_FINAL);
    if (expected != NULL) {
        check_messages(get.run.context, expected);
    }
    sl_store_request_done(&get.request);
}

/* AL-5.27 "cut", AL-6.6: the conversation of the run, and with it what its session is. */
static void a_lost_run_leaves_its_conversation(void **state)
{
    static const struct {
        const char *steps;
        bool keeps_session;
        const char *context, *session; /* NULL: there is none */
    } cases[] = {
        { "", true, "u hello", NULL },
        { "SI", true, "u hello", NULL },
        { "SItt", true, "u hello|a twelve bytes", "u hello|a twelve bytes" },
        { "SItt", false, "u hello|a twelve bytes", NULL },
        { "SItccTr", true, "u hello|a+ twelve bytes|t null|t {\"error\":{\"c",
          "u hello|a+ twelve bytes|t null|t {\"error\":{\"c" },
    };
    (void)state;
    struct sl_buf hello = write_one("hello");
    sl_store_rig_open(&rig);
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "r%zu", i);
        struct sl_store_run run = sl_store_rig_run(id);
        run.session_id = id;
        run.context = sl_buf_slice(&hello);
        run.keeps_session = cases[i].keeps_session;
        leave(&run, cases[i].steps);
    }
    leave_run("old", "SItt"); /* of a version that kept no conversation */
    restart(SL_COUNT(cases) + 1);
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "r%zu", i);
        check_context(id, cases[i].context);
        check_session(id, cases[i].session);
    }
    check_context("old", NULL);
    sl_buf_done(&hello);
}

/* A session that is too large for its limit stays as it was: whole turns only. */
static void a_session_does_not_grow_over_its_limit_by_a_crash(void **state)
{
    (void)state;
    static char text[1020];
    memset(text, 'x', sizeof(text) - 1);
    struct sl_buf large = write_one(text);
    limits.session_size = 1024;
    struct sl_store_run run = sl_store_rig_run("r1");
    run.session_id = "s1";
    run.context = sl_buf_slice(&large);
    run.keeps_session = true;
    sl_store_rig_open(&rig);
    leave(&run, "SIt");
    restart(1);
    check_context("r1", "u xxxxxxxxxxxx|a twelve bytes");
    check_session("s1", NULL);
    sl_buf_done(&large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whatever_is_open_is_closed, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(
            many_runs_are_ended_whatever_their_length, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(a_lost_run_leaves_its_conversation, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(
            a_session_does_not_grow_over_its_limit_by_a_crash, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(a_damaged_log_ends_with_data_loss, new_rig, end_rig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
