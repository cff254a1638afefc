/* What a store keeps of a run that rests: all of it comes back, and nothing else is taken. */
#include "runtime/exec/resume.h"
#include "tests/unit/test_record_rig.h"

#define ASKING                                                                                     \
    "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add, asked]\n"                                    \
    "approval: {approvers: [ann], timeout_secs: 60}\n"

static struct sl_error err;

static void decide(bool is_approved)
{
    const struct sl_approval_answer answer = {
        .approval_id = rig.approval_id,
        .digest = sl_slice_of(rig.approval_digest, SL_SHA256_BYTES),
        .is_approved = is_approved,
        .principal = "ann",
        .comment = "as you like",
    };
    assert_int_equal(sl_run_decide(rig.run, &answer, &err), SL_OK);
}

/* A run with something of everything: two iterations, decisions of all kinds, a result, an input.
 */
static void make_run(void)
{
    prepare(SL_STORE_ASYNC);
    (void)sl_agents_free(rig.agents);
    const struct sl_agents_options options = { .models = &rig.models,
                                               .tools = &rig.tools,
                                               .limits = &rig.limits };
    assert_int_equal(sl_agents_new(&options, &rig.agents), SL_OK);
    assert_int_equal(
        sl_agents_add_yaml(rig.agents, sl_slice_str(ASKING), "a.yaml", NULL, NULL), SL_OK);
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH_FOR);
    rig.settings.detach_ttl_ms = 86400000;
    rig.settings.max_tokens = 5000;
    rig.settings.min_flush_ms = 1;
    rig.caller = "carl";
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_call(&rig.models, "p1", "asked", "{\"n\": 1}");
    sl_fake_model_usage(&rig.models, 100, 10);
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    decide(false);
    (void)trace();
    sl_fake_model_reasoning(&rig.models, "hm");
    sl_fake_model_call(&rig.models, "", "asked", "{\"n\": 2}");
    sl_fake_model_call(&rig.models, "p3", "add", "no json");
    sl_fake_model_call(&rig.models, "p4", "asked", "{\"n\": 4}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_EXIT_NONZERO, "\"out\"");
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("and more"), &err), SL_OK);
    (void)trace();
    assert_true(store.rests);
}

static void end_run(void)
{
    cancel();
    finish();
}

static void all_of_it_comes_back(void **state)
{
    struct sl_resume resume;
    struct sl_history history;
    struct sl_run_settings settings;
    (void)state;
    make_run();
    assert_int_equal(sl_resume_read(sl_buf_slice(&store.resume), &resume), SL_OK);
    const Sluice__Store__V1__Resume *message = resume.message;
    assert_int_equal(message->point, SL_RESUME_POINT(TOOLS));
    assert_int_equal(message->iteration, 2);
    assert_int_equal(message->attempt, 1);
    assert_string_equal(message->caller, "carl");
    assert_int_equal(message->budget->n_calls, 4);
    assert_int_equal(message->budget->input_tokens, sl_run_usage(rig.run)->input_tokens);
    assert_int_equal(message->n_calls, 3);
    assert_string_equal(message->calls[0]->call_id, "tool_2");
    assert_int_equal(message->calls[0]->state, SL_RESUME_CALL(PENDING));
    assert_int_equal(message->calls[1]->state, SL_RESUME_CALL(DONE));
    assert_true(message->calls[1]->is_error);
    assert_string_equal(message->calls[1]->arguments, "no json");
    assert_string_not_equal(message->calls[1]->arguments_json, "");
    assert_int_equal(message->calls[2]->state, SL_RESUME_CALL(PENDING));
    assert_int_equal(message->n_approvals, 3);
    assert_string_equal(message->approvals[2]->comment, "as you like");
    assert_int_equal(message->approvals[2]->decision, SL_DECISION(DENIED));
    assert_int_equal(message->n_inputs, 1);
    assert_string_equal(message->inputs[0], "and more");
    sl_resume_settings(&resume, &rig.limits, SL_STORE_ASYNC, &settings);
    assert_int_equal(settings.max_tokens, 5000);
    assert_int_equal(settings.detach_ttl_ms, 86400000);
    assert_int_equal(settings.on_disconnect, SL_DISCONNECT(DETACH_FOR));
    assert_int_equal(settings.mark_bytes, rig.settings.mark_bytes);
    assert_int_equal(settings.durability, SL_STORE_ASYNC);
    sl_history_init(&history, 1 << 20);
    assert_int_equal(sl_resume_conversation(&resume, &history), SL_OK);
    assert_int_equal(history.n_messages, sl_run_history(rig.run)->n_messages);
    assert_int_equal(history.turn_begin, 0);
    assert_string_equal(sl_resume_input(&resume, &history), "hello");
    sl_history_done(&history);
    sl_resume_done(&resume);
    end_run();
}

/* A run that is taken up from what it wrote writes the same, but for its times. */
static void it_is_written_again_as_it_was(void **state)
{
    (void)state;
    make_run();
    struct sl_buf before;
    sl_buf_init(&before, 1 << 20);
    assert_int_equal(sl_buf_add(&before, sl_buf_slice(&store.resume)), SL_OK);
    const uint64_t stored = store.stored;
    const size_t n_bytes = store.bytes.size;
    sl_exec_rig_crash(&rig);
    store.stored = stored;
    store.bytes.size = n_bytes;
    store.is_ended = false;
    sl_exec_rig_take_up(&rig, sl_buf_slice(&before), stored);
    assert_true(sl_run_park(rig.run));
    sl_exec_rig_turn(&rig);
    assert_true(rig.ending.is_parked);
    assert_int_equal(store.resume.size, before.size);
    assert_memory_equal(store.resume.data, before.data, before.size);
    sl_buf_done(&before);
    finish();
}

static enum sl_status read_bytes(struct sl_slice bytes)
{
    struct sl_resume resume;
    struct sl_history history;
    sl_history_init(&history, 1 << 20);
    enum sl_status status = sl_resume_read(bytes, &resume);
    if (status == SL_OK) {
        status = sl_resume_conversation(&resume, &history);
        sl_resume_done(&resume);
    }
    assert_null(resume.message);
    sl_history_done(&history);
    return status;
}

static void what_is_cut_or_changed_does_no_harm(void **state)
{
    (void)state;
    make_run();
    size_t n_read = 0;
    for (size_t size = 0; size < store.resume.size; size++) {
        n_read += read_bytes(sl_slice_of(store.resume.data, size)) == SL_OK;
    }
    assert_in_range(n_read, 0, 2); /* without its last fields: the input is one */
    for (size_t at = 0; at < store.resume.size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            store.resume.data[at] ^= (uint8_t)(1U << bit);
            (void)read_bytes(sl_buf_slice(&store.resume));
            store.resume.data[at] ^= (uint8_t)(1U << bit);
        }
    }
    assert_int_equal(read_bytes(sl_buf_slice(&store.resume)), SL_OK);
    end_run();
}

/* Each of these contradicts itself, or is a bound of ours. */
enum mistake {
    NO_MISTAKE,
    NEWER,
    NO_VERSION,
    NO_POINT,
    CALLS_OF_NO_ITERATION,
    NO_CALLS,
    WITH_ITS_READER,
    TOO_FAR,
    NO_BUDGET,
    OPEN_APPROVAL_OF_NOBODY,
    SHARED_APPROVAL,
    UNKNOWN_APPROVAL,
    DECIDED_AND_PENDING,
    ASKED_BEFORE_DONE,
    SHORT_DIGEST,
    LONG_ID,
    NO_OBJECT,
    UNKNOWN_STATE,
    N_MISTAKES
};

static void make_call_mistake(enum mistake mistake, Sluice__Store__V1__Resume *message)
{
    static char unknown[] = "nobody";
    static char array[] = "[1]";
    static char longer[] = "tool_that_has_a_much_longer_id";
    Sluice__Store__V1__ResumeCall *call = message->calls[0];
    call->approval_id = mistake == UNKNOWN_APPROVAL  ? unknown
                        : mistake == SHARED_APPROVAL ? message->calls[2]->approval_id
                                                     : call->approval_id;
    call->tool_id = mistake == LONG_ID ? longer : call->tool_id;
    call->arguments_json = mistake == NO_OBJECT ? array : call->arguments_json;
    call->digest.len -= mistake == SHORT_DIGEST;
    call->state = mistake == UNKNOWN_STATE ? (Sluice__Store__V1__ResumeCallState)77 : call->state;
    message->approvals[1]->decision =
        mistake == DECIDED_AND_PENDING ? SL_DECISION(APPROVED) : message->approvals[1]->decision;
    message->approvals[2]->decision = mistake == OPEN_APPROVAL_OF_NOBODY
                                          ? SL_DECISION(UNSPECIFIED)
                                          : message->approvals[2]->decision;
    if (mistake == ASKED_BEFORE_DONE) {
        static char none[] = "";
        call->state = SL_RESUME_CALL(ASKED);
        call->approval_id = none;
        message->approvals[1]->decision = SL_DECISION(DENIED);
    }
}

static void make_mistake(enum mistake mistake, Sluice__Store__V1__Resume *message)
{
    message->version = mistake == NEWER ? 2 : mistake == NO_VERSION ? 0 : message->version;
    message->point = mistake == NO_POINT                ? SL_RESUME_POINT(UNSPECIFIED)
                     : mistake == CALLS_OF_NO_ITERATION ? SL_RESUME_POINT(NEXT)
                                                        : message->point;
    message->n_calls = mistake == NO_CALLS ? 0 : message->n_calls;
    message->iteration = mistake == TOO_FAR ? 11 : message->iteration;
    message->budget = mistake == NO_BUDGET ? NULL : message->budget;
    message->settings->on_disconnect =
        mistake == WITH_ITS_READER ? SL_DISCONNECT(CANCEL) : message->settings->on_disconnect;
    make_call_mistake(mistake, message);
}

static void what_contradicts_itself_is_refused(void **state)
{
    (void)state;
    make_run();
    for (enum mistake mistake = NO_MISTAKE; mistake < N_MISTAKES; mistake++) {
        struct sl_resume resume;
        uint8_t room[8192];
        assert_int_equal(sl_resume_read(sl_buf_slice(&store.resume), &resume), SL_OK);
        Sluice__Store__V1__Resume changed = *resume.message; /* and what it points to, in place */
        Sluice__Store__V1__ResumeCall call = *resume.message->calls[0];
        Sluice__Store__V1__ResumeCall *calls[] = { &call, resume.message->calls[1],
                                                   resume.message->calls[2] };
        changed.calls = calls;
        make_mistake(mistake, &changed);
        const size_t size = sluice__store__v1__resume__get_packed_size(&changed);
        assert_in_range(size, 1, sizeof(room));
        (void)sluice__store__v1__resume__pack(&changed, room);
        sl_resume_done(&resume);
        const enum sl_status expected = mistake == NO_MISTAKE ? SL_OK
                                        : mistake == NEWER    ? SL_UNIMPLEMENTED
                                                              : SL_DATA_LOSS;
        if (read_bytes(sl_slice_of(room, size)) != expected) {
            fail_msg("mistake %d", (int)mistake);
        }
    }
    end_run();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_comes_back),
        cmocka_unit_test(it_is_written_again_as_it_was),
        cmocka_unit_test(what_is_cut_or_changed_does_no_harm),
        cmocka_unit_test(what_contradicts_itself_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
