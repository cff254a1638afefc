/* One run of a session at a time (AL-6.6), and what the next one is told of the last: on one loop
 * and on two. */
#include <unistd.h>

#include "runtime/base/metrics.h"
#include "tests/unit/test_query_rig.h"

static const char agents_yaml[] = "name: talk\n"
                                  "provider: load\n"
                                  "model: load\n"
                                  "---\n"
                                  "name: other\n"
                                  "provider: load\n"
                                  "model: load\n"
                                  "memory: InMemory\n";

static void open_sessions(size_t n)
{
    char path[] = "/tmp/sluice-session-XXXXXX.yaml";
    struct sl_error err = { .text = "" };
    const int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, agents_yaml, sizeof(agents_yaml) - 1), sizeof(agents_yaml) - 1);
    assert_int_equal(close(fd), 0);
    open_runtime(n, "");
    if (sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(unlink(path), 0);
}

static struct sl_run_spec
spec_in(const char *session_id, const char *input, enum sl_run_session_policy policy)
{
    struct sl_run_spec spec = spec_of("talk", input);
    spec.session_id = session_id;
    spec.session_policy = policy;
    return spec;
}

static void start_in(struct reader *reader, const char *input, enum sl_run_session_policy policy)
{
    const struct sl_run_spec spec = spec_in("s", input, policy);
    start(reader, &spec);
}

/* ---- What a run has in its conversation -------------------------------------------------------
 */

/* Of the last answer, copied. */
static struct {
    char roles[64];          /* of its only run */
    enum sl_run_stage stage; /* of the first one, as all that follows */
    bool has_context;
    char run_id[SL_ID_BYTES], session_id[64];
} told;

static void copy_answer(void)
{
    static const char letters[] = "suat";
    told.roles[0] = '\0';
    for (size_t i = 0; answer.n_runs == 1 && i < answer.runs[0].n_messages; i++) {
        const struct sl_run_message *message = &answer.runs[0].messages[i];
        told.roles[i] = letters[message->role];
        told.roles[i + 1] = '\0';
    }
    if (answer.n_runs > 0) {
        told.stage = answer.runs[0].stage;
        told.has_context = answer.runs[0].context_absent == NULL;
        (void)snprintf(told.run_id, sizeof(told.run_id), "%s", answer.runs[0].run_id);
        (void)snprintf(told.session_id, sizeof(told.session_id), "%s", answer.runs[0].session_id);
    }
}

/* The answer is not held: a run may be forgotten at any time. */
static void ask(const struct sl_run_ask *question)
{
    (void)ask_for(question);
    copy_answer();
    end_asking();
}

static const char *roles_of(const struct reader *reader)
{
    const struct sl_run_ask question = { .kind = SL_RUN_ASK_CONTEXT, .run_id = reader->run_id };
    ask(&question);
    assert_int_equal(answer.status, SL_OK);
    return told.roles;
}

static void check_listed(enum sl_run_stage stage, const char *session_id, size_t n)
{
    const struct sl_run_ask question = {
        .kind = SL_RUN_ASK_LIST, .page_size = 10, .session_id = session_id, .stage = stage
    };
    ask(&question);
    assert_int_equal(answer.status, SL_OK);
    assert_int_equal(answer.n_runs, n);
}

/* Begins, says a word, and hangs. */
static void hang_in(struct reader *reader, const char *request_id)
{
    struct sl_run_spec spec = spec_in("s", "hang=true", SL_RUN_SESSION_REJECT);
    spec.request_id = request_id;
    start(reader, &spec);
    for (size_t n_events = 0; n_events < 3;) { /* RunStarted, IterationStart, TextDelta */
        step();
        n_events = 0;
        for (size_t at = 0; at + SL_EVENT_PREFIX_BYTES <= reader->bytes.size; n_events++) {
            const uint8_t *bytes = reader->bytes.data + at;
            at += SL_EVENT_PREFIX_BYTES + ((size_t)bytes[3] << 8 | bytes[4]);
        }
        assert_false(reader->is_refused);
    }
}

/* Runs to its end. */
static void run_in(struct reader *reader, const struct sl_run_spec *spec)
{
    reader->max_take = 0;
    start(reader, spec);
    wait_until(&reader->is_started);
    if (reader->is_refused) {
        fail_msg("%s", reader->refusal.text);
    }
    wait_until(&reader->is_last);
    finish(reader);
}

/* ---- Tests ------------------------------------------------------------------------------------
 */

/* The next turn may come as soon as the end of the last one is seen: nobody is refused then. */
static void a_run_knows_the_turns_before_it(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader reader;
        open_sessions(n);
        const struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_REJECT);
        run_in(&reader, &spec);
        assert_string_equal(roles_of(&reader), "ua");
        run_in(&reader, &spec);
        assert_string_equal(roles_of(&reader), "uaua");
        assert_string_equal(told.session_id, "s");
        for (int i = 0; i < 30; i++) {
            run_in(&reader, &spec);
        }
        assert_string_equal(roles_of(&reader), "uauauauauaua"); /* ten old ones, and the turn */
        struct sl_runtime_stats stats;
        sl_runtime_stats(runtime, &stats);
        assert_int_equal(stats.sessions, 1);
        close_runtime();
    }
}

static void sessions_do_not_mix(void **state)
{
    (void)state;
    struct reader reader;
    open_sessions(1);
    struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_REJECT);
    run_in(&reader, &spec);
    spec.tenant = "acme";
    run_in(&reader, &spec);
    const struct sl_run_ask question = { .kind = SL_RUN_ASK_CONTEXT,
                                         .run_id = reader.run_id,
                                         .tenant = "acme" };
    ask(&question);
    assert_string_equal(told.roles, "ua");
    spec.tenant = NULL;
    spec.agent = "other";
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "ua");
    spec.agent = "talk";
    spec.session_id = "S";
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "ua");
    spec.session_id = NULL;
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "ua");
    const struct sl_run_ask list = { .kind = SL_RUN_ASK_LIST, .page_size = 10, .session_id = "S" };
    ask(&list);
    assert_int_equal(answer.n_runs, 1);
    assert_string_equal(told.session_id, "S");
    close_runtime();
}

static void what_is_given_follows_or_replaces_what_is_stored(void **state)
{
    (void)state;
    struct reader reader;
    const struct sl_run_message given[] = {
        { .role = SL_RUN_USER, .content = sl_slice_str("one") },
        { .role = SL_RUN_ASSISTANT, .content = sl_slice_str("two") },
        { .role = SL_RUN_SYSTEM, .content = sl_slice_str("three") },
    };
    open_sessions(1);
    struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_REJECT);
    run_in(&reader, &spec);
    spec.messages = given;
    spec.n_messages = 3;
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "uauasua");
    spec.replaces_session = true;
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "uasua");
    spec.replaces_session = false;
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "uasuauaua");
    close_runtime();
}

/* AL-5.3: SESSION_BUSY */
static void a_session_that_is_busy_refuses(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader first = { .max_take = 0 };
        struct reader elsewhere;
        open_sessions(n);
        hang_in(&first, NULL);
        struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_REJECT);
        check_refusal(&spec, SL_ABORTED, "SESSION_BUSY", "has not ended");
        spec.session_id = "t";
        run_in(&elsewhere, &spec);
        spec.session_id = "s";
        spec.agent = "other";
        run_in(&elsewhere, &spec);
        sl_run_stream_close(first.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&first.bytes);
        spec = spec_in("s", "events=1", SL_RUN_SESSION_ENQUEUE);
        run_in(&elsewhere, &spec);
        assert_string_equal(roles_of(&elsewhere), "uaua"); /* the first one had said something */
        close_runtime();
    }
}

/* limits.session_queue */
static void those_that_wait_come_in_their_order(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[4] = { { .max_take = 0 } };
        const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_session_queue);
        limits.session_queue = 3;
        open_sessions(n);
        hang_in(&readers[0], NULL);
        for (size_t i = 1; i < 4; i++) {
            start_in(&readers[i], "events=1", SL_RUN_SESSION_ENQUEUE);
        }
        struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_ENQUEUE);
        check_refusal(&spec, SL_RESOURCE_EXHAUSTED, "SESSION_FULL", "as may");
        assert_int_equal(sl_limit_n_reached(SL_LIMIT_session_queue), n_before + 1);
        struct sl_runtime_stats stats;
        sl_runtime_stats(runtime, &stats);
        assert_int_equal(stats.runs_queued, 3);
        check_listed(SL_RUN_STAGE_QUEUED, "s", 3);
        check_listed(SL_RUN_STAGE_ANY, "s", 4);
        check_listed(SL_RUN_STAGE_RUNNING, "s", 1);
        check_listed(SL_RUN_STAGE_QUEUED, "t", 0);
        sl_run_stream_close(readers[2].stream, SL_RUN_CLOSE_RESET, 8); /* leaves the queue */
        sl_buf_done(&readers[2].bytes);
        sl_runtime_stats(runtime, &stats);
        assert_int_equal(stats.runs_queued, 2);
        check_listed(SL_RUN_STAGE_QUEUED, "", 2);
        assert_false(readers[1].is_started || readers[3].is_started);
        sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&readers[0].bytes);
        wait_until(&readers[3].is_last);
        assert_true(readers[1].is_last);
        assert_string_equal(roles_of(&readers[1]), "uaua");
        assert_string_equal(roles_of(&readers[3]), "uauaua");
        check_listed(SL_RUN_STAGE_QUEUED, "", 0);
        finish(&readers[1]);
        finish(&readers[3]);
        close_runtime();
    }
}

static enum sl_status
ask_of(enum sl_run_ask_kind kind, const struct reader *reader, const char *tenant)
{
    const struct sl_run_ask question = { .kind = kind,
                                         .run_id = reader->stream->run_id,
                                         .tenant = tenant };
    ask(&question);
    return answer.status;
}

static void check_queued(const struct reader *reader)
{
    assert_int_equal(ask_of(SL_RUN_ASK_GET, reader, NULL), SL_OK);
    assert_int_equal(answer.n_runs, 1);
    assert_int_equal(told.stage, SL_RUN_STAGE_QUEUED);
    assert_string_equal(told.run_id, reader->stream->run_id);
    assert_int_equal(ask_of(SL_RUN_ASK_CONTEXT, reader, NULL), SL_OK);
    assert_false(told.has_context);
    assert_int_equal(ask_of(SL_RUN_ASK_GET, reader, "acme"), SL_NOT_FOUND);
    assert_int_equal(ask_of(SL_RUN_ASK_CANCEL, reader, "acme"), SL_NOT_FOUND);
    assert_int_equal(ask_of(SL_RUN_ASK_USER_INPUT, reader, NULL), SL_NOT_FOUND);
    assert_false(reader->is_started);
}

static void check_dropped(struct reader *reader)
{
    struct sl_run_ask question = { .kind = SL_RUN_ASK_CANCEL,
                                   .run_id = reader->stream->run_id,
                                   .wants_end = true };
    ask(&question);
    assert_int_equal(answer.status, SL_OK);
    assert_int_equal(told.stage, SL_RUN_STAGE_CANCELLED);
    wait_until(&reader->is_started);
    assert_true(reader->is_refused);
    assert_int_equal(reader->refusal.status, SL_CANCELLED);
    assert_string_equal(reader->refusal.reason, "CANCELLED");
    assert_int_equal(ask_of(SL_RUN_ASK_GET, reader, NULL), SL_NOT_FOUND);
    finish(reader);
}

/* AL-7.2: for its session. */
static void a_run_that_waits_is_known_to_its_owner_and_can_be_dropped(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[3] = { { .max_take = 0 } };
        struct sl_runtime_stats stats;
        open_sessions(n);
        hang_in(&readers[0], NULL);
        start_in(&readers[1], "events=1", SL_RUN_SESSION_ENQUEUE);
        start_in(&readers[2], "events=1", SL_RUN_SESSION_ENQUEUE);
        check_queued(&readers[1]);
        check_queued(&readers[2]);
        check_dropped(&readers[1]);
        sl_runtime_stats(runtime, &stats);
        assert_int_equal(stats.runs_queued, 1);
        check_queued(&readers[2]);
        sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[0].bytes);
        wait_until(&readers[2].is_last);
        assert_string_equal(roles_of(&readers[2]), "uaua"); /* nothing of the one in between */
        finish(&readers[2]);
        close_runtime();
    }
}

static void a_run_that_waits_for_a_slot_is_known_and_can_be_dropped(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[3] = { { .max_take = 0 } };
        limits.runs = 1;
        open_sessions(n);
        hang_in(&readers[0], NULL);
        const struct sl_run_spec spec = spec_of("load", "events=1"); /* it has no session */
        start(&readers[1], &spec);
        start(&readers[2], &spec);
        check_queued(&readers[1]);
        check_listed(SL_RUN_STAGE_QUEUED, "", 2);
        check_listed(SL_RUN_STAGE_QUEUED, "s", 0);
        check_dropped(&readers[1]);
        check_listed(SL_RUN_STAGE_QUEUED, "", 1);
        sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[0].bytes);
        wait_until(&readers[2].is_last);
        check_listed(SL_RUN_STAGE_QUEUED, "", 0);
        finish(&readers[2]);
        close_runtime();
    }
}

/* Its turn, or its slot, is on the way to it when it is dropped: the next one gets it. */
static void one_that_is_dropped_in_its_turn_gives_it_back(void **state)
{
    (void)state;
    for (int has_slot = 0; has_slot < 2; has_slot++) {
        struct reader readers[3] = { { .max_take = 0 } };
        limits.runs = has_slot == 0 ? 10 : 1;
        open_sessions(1);
        hang_in(&readers[0], NULL);
        const struct sl_run_spec spec = has_slot == 0
                                            ? spec_in("s", "events=1", SL_RUN_SESSION_ENQUEUE)
                                            : spec_of("load", "events=1");
        start(&readers[1], &spec);
        start(&readers[2], &spec);
        const struct sl_directory_options more = {
            .n_loops = 1, .max_runs = 2, .max_waiting = 10, .max_session_queue = 10
        };
        sl_directory_set_options(runtime->directory, &more);
        struct sl_ticket *next =
            has_slot == 0
                ? sl_directory_leave_session(runtime->directory, &readers[0].stream->ticket)
                : sl_directory_admit_waiting(runtime->directory);
        assert_ptr_equal(sl_run_stream_of(next), readers[1].stream);
        sl_run_stream_drop(readers[1].stream);
        sl_loop_post(bases[0], &readers[1].stream->admit_task);
        wait_until(&readers[1].is_started);
        assert_true(readers[1].is_refused);
        assert_string_equal(readers[1].refusal.reason, "CANCELLED");
        wait_until(&readers[2].is_last);
        for (size_t i = 0; i < 3; i++) {
            sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
            sl_buf_done(&readers[i].bytes);
        }
        close_runtime();
    }
}

static void look_for_interrupt(const Sluice__V1__StreamEvent *event, void *user_data)
{
    bool *is_interrupted = user_data;
    if (event->event_case == SL_EVENT(ERROR)) {
        assert_int_equal(event->error->code, SL_CODE(CANCELLED));
        *is_interrupted = event->error->cancel_reason == SL_CANCEL_REASON(SESSION_INTERRUPTED);
    }
}

/* AL-5.24 */
static void a_newer_run_takes_the_session(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[4] = { { .max_take = 0 } };
        open_sessions(n);
        hang_in(&readers[0], NULL);
        start_in(&readers[1], "events=1", SL_RUN_SESSION_ENQUEUE);
        start_in(&readers[2], "hang=true", SL_RUN_SESSION_INTERRUPT);
        start_in(&readers[3], "events=1", SL_RUN_SESSION_INTERRUPT); /* interrupts that one, too */
        wait_until(&readers[1].is_last);
        assert_true(readers[0].is_last && readers[2].is_last && readers[3].is_last);
        for (size_t i = 0; i < 4; i++) {
            bool is_interrupted = false;
            (void)each_event(&readers[i], look_for_interrupt, &is_interrupted);
            assert_int_equal(is_interrupted, i % 2 == 0);
        }
        const size_t n_messages = strlen(roles_of(&readers[3]));
        assert_in_range(n_messages, 4, 6); /* the second one was cut before or after a word */
        assert_int_equal(strlen(roles_of(&readers[1])), n_messages + 2); /* it was overtaken */
        for (size_t i = 0; i < 4; i++) {
            finish(&readers[i]);
        }
        close_runtime();
    }
}

static void a_deadline_ends_the_wait_for_a_session(void **state)
{
    (void)state;
    struct reader first = { .max_take = 0 };
    open_sessions(1);
    hang_in(&first, NULL);
    struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_ENQUEUE);
    spec.deadline_ns = sl_loop_now_ns(bases[0]) + 20 * SL_NS_PER_MS;
    check_refusal(&spec, SL_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the session");
    sl_run_stream_close(first.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&first.bytes);
    close_runtime();
}

static void a_session_that_becomes_free_waits_for_a_slot(void **state)
{
    (void)state;
    struct reader readers[3] = { { .max_take = 0 } };
    limits.runs = 1;
    limits.run_queue = 2;
    open_sessions(1);
    hang_in(&readers[0], NULL);
    start_in(&readers[1], "events=1", SL_RUN_SESSION_ENQUEUE);
    struct sl_run_spec spec = spec_of("load", "events=1");
    start(&readers[2], &spec); /* it waits for the slot only, and so it comes first */
    check_refusal(&spec, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "waiting");
    sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&readers[0].bytes);
    wait_until(&readers[1].is_last);
    assert_true(readers[2].is_last);
    finish(&readers[1]);
    finish(&readers[2]);
    close_runtime();
}

static void a_drain_empties_the_queues_of_sessions(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[3] = { { .max_take = 0 } };
        open_sessions(n);
        hang_in(&readers[0], NULL);
        start_in(&readers[1], "events=1", SL_RUN_SESSION_ENQUEUE);
        start_in(&readers[2], "events=1", SL_RUN_SESSION_INTERRUPT);
        sl_runtime_refuse_new(runtime);
        for (size_t i = 1; i < 3; i++) {
            wait_until(&readers[i].is_started);
            assert_true(readers[i].is_refused);
            assert_string_equal(readers[i].refusal.reason, "DRAINING");
            assert_int_equal(readers[i].refusal.status, SL_UNAVAILABLE);
            finish(&readers[i]);
        }
        sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[0].bytes);
        close_runtime();
    }
}

/* AL-4.1: the request id comes first. */
static void a_repeat_does_not_wait_for_its_own_session(void **state)
{
    (void)state;
    struct reader readers[2] = { { .max_take = 0 } };
    open_sessions(2);
    struct sl_run_spec spec = spec_in("s", "hang=true", SL_RUN_SESSION_REJECT);
    spec.request_id = "r";
    hang_in(&readers[0], "r");
    start(&readers[1], &spec);
    wait_until(&readers[1].is_started);
    assert_false(readers[1].is_refused);
    assert_true(sl_run_stream_is_observer(readers[1].stream));
    spec.session_policy = SL_RUN_SESSION_INTERRUPT; /* another request */
    check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", "");
    sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&readers[0].bytes);
    wait_until(&readers[1].is_last);
    finish(&readers[1]);
    close_runtime();
}

/* ---- Loads that fail --------------------------------------------------------------------------
 */

/* Stands before the runtime's own store: loads fail as they are told. */
static struct {
    struct sl_store base;
    enum sl_status says;
    struct sl_slice bytes;
    struct sl_store_request *pending;
    bool is_asked;
} failing;

static enum sl_status failing_submit(struct sl_store *base, struct sl_store_request *request)
{
    (void)base;
    if (request->kind == SL_STORE_LOAD && failing.says == SL_PENDING) {
        failing.pending = request;
        failing.is_asked = true;
    } else if (request->kind == SL_STORE_LOAD) {
        SL_CONTAINER(request, struct sl_store_load, request)->messages = failing.bytes;
        return failing.says;
    }
    return request->kind == SL_STORE_LOAD ? SL_PENDING : SL_OK;
}

static void failing_free(struct sl_store *base)
{
    (void)base;
}

static bool failing_has(const struct sl_store *base, enum sl_store_durability durability)
{
    (void)base;
    (void)durability;
    return true;
}

static const struct sl_store_ops failing_ops = { .submit = failing_submit,
                                                 .free = failing_free,
                                                 .has_durability = failing_has };

static void open_failing(enum sl_status says)
{
    memset(&failing, 0, sizeof(failing));
    failing.base.ops = &failing_ops;
    failing.says = says;
    open_sessions(1);
    (void)sl_store_free(runtime->memory);
    runtime->memory = &failing.base;
}

static void a_session_that_cannot_be_loaded_starts_nothing(void **state)
{
    (void)state;
    const struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_REJECT);
    open_failing(SL_DATA_LOSS);
    check_refusal(&spec, SL_DATA_LOSS, "DATA_LOSS", "session 's' is damaged");
    failing.says = SL_UNAVAILABLE;
    check_refusal(&spec, SL_UNAVAILABLE, "STORE_UNAVAILABLE", "session 's'");
    failing.says = SL_RESOURCE_EXHAUSTED;
    check_refusal(&spec, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "session 's'");
    failing.says = SL_OK;
    failing.bytes = sl_slice_of("\x01\x01\x01\x05", 4);
    check_refusal(&spec, SL_DATA_LOSS, "DATA_LOSS", "session 's' is damaged");
    failing.bytes = sl_slice_of("\x07", 1);
    check_refusal(&spec, SL_FAILED_PRECONDITION, "SESSION_FORMAT", "newer");
    struct sl_run_spec anew = spec;
    anew.replaces_session = true; /* the way out */
    struct reader reader;
    run_in(&reader, &anew);
    close_runtime();
}

static void a_caller_may_go_while_his_session_is_loaded(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    open_failing(SL_PENDING);
    for (int i = 0; i < 2; i++) {
        const struct sl_run_spec spec = spec_in("s", "events=1", SL_RUN_SESSION_REJECT);
        failing.is_asked = false;
        start(&reader, &spec);
        wait_until(&failing.is_asked);
        assert_false(reader.is_started);
        if (i == 0) {
            sl_run_stream_leave(reader.stream, SL_RUN_CLOSE_RESET, 8);
            check_refusal(&spec, SL_ABORTED, "SESSION_BUSY", "");
        }
        sl_store_answer(failing.pending, SL_NOT_FOUND, NULL);
        wait_until(i == 0 ? &reader.is_gone : &reader.is_last);
        if (i == 0) {
            sl_buf_done(&reader.bytes);
        } else {
            finish(&reader);
        }
    }
    close_runtime();
}

/* limits.sessions and limits.sessions_total: the one that was used last stays. */
static void old_sessions_go(void **state)
{
    (void)state;
    struct reader reader;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_sessions);
    limits.sessions = 2;
    open_sessions(1);
    static const char *const ids[] = { "a", "b", "a", "c" };
    for (size_t i = 0; i < SL_COUNT(ids); i++) {
        const struct sl_run_spec spec = spec_in(ids[i], "events=1", SL_RUN_SESSION_REJECT);
        run_in(&reader, &spec);
    }
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_sessions), n_before + 1);
    struct sl_run_spec spec = spec_in("a", "events=1", SL_RUN_SESSION_REJECT);
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "uauaua");
    spec.session_id = "b";
    run_in(&reader, &spec);
    assert_string_equal(roles_of(&reader), "ua");
    close_runtime();
}

/* ---- A race -----------------------------------------------------------------------------------
 */

enum { N_RACERS = 40 };

static void start_racer(struct reader *reader, size_t i)
{
    struct sl_run_spec spec = spec_in(
        i % 4 == 0 ? "s" : "t", i % 5 == 0 ? "hang=true" : "events=20",
        i % 7 == 0 ? SL_RUN_SESSION_INTERRUPT : SL_RUN_SESSION_ENQUEUE);
    spec.deadline_ns = sl_loop_now_ns(bases[0]) + 300 * SL_NS_PER_MS;
    reader->max_take = 0;
    start(reader, &spec);
    if (i % 3 == 0) {
        step();
    }
    if (i % 11 == 0) {
        sl_run_stream_leave(reader->stream, SL_RUN_CLOSE_RESET, 8);
    }
}

static void end_racer(struct reader *reader, size_t i)
{
    if (i % 11 == 0) {
        wait_until(&reader->is_gone);
        sl_buf_done(&reader->bytes);
        return;
    }
    wait_until(&reader->is_started);
    if (!reader->is_refused) {
        wait_until(&reader->is_last);
    }
    finish(reader);
}

/* All policies at once, on two loops, with readers that go at any time; TSan looks on. */
static void many_want_the_same_session(void **state)
{
    (void)state;
    struct reader readers[N_RACERS] = { { .max_take = 0 } };
    limits.session_queue = 1000;
    open_sessions(2);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < N_RACERS; i++) {
            start_racer(&readers[i], i);
        }
        for (size_t i = 0; i < N_RACERS; i++) {
            end_racer(&readers[i], i);
        }
    }
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_queued, 0);
    close_runtime();
}

int main(void)
{
    sl_limits_init(&limits);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_knows_the_turns_before_it),
        cmocka_unit_test(sessions_do_not_mix),
        cmocka_unit_test(what_is_given_follows_or_replaces_what_is_stored),
        cmocka_unit_test(a_session_that_is_busy_refuses),
        cmocka_unit_test(a_run_that_waits_is_known_to_its_owner_and_can_be_dropped),
        cmocka_unit_test(a_run_that_waits_for_a_slot_is_known_and_can_be_dropped),
        cmocka_unit_test(one_that_is_dropped_in_its_turn_gives_it_back),
        cmocka_unit_test(those_that_wait_come_in_their_order),
        cmocka_unit_test(a_newer_run_takes_the_session),
        cmocka_unit_test(a_deadline_ends_the_wait_for_a_session),
        cmocka_unit_test(a_session_that_becomes_free_waits_for_a_slot),
        cmocka_unit_test(a_drain_empties_the_queues_of_sessions),
        cmocka_unit_test(a_repeat_does_not_wait_for_its_own_session),
        cmocka_unit_test(a_session_that_cannot_be_loaded_starts_nothing),
        cmocka_unit_test(a_caller_may_go_while_his_session_is_loaded),
        cmocka_unit_test(old_sessions_go),
        cmocka_unit_test(many_want_the_same_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
