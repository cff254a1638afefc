#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tool/kind.h"
#include "tests/fake/fake_loop.h"

/* A kind that does what the test says: each attempt waits for the test, or ends by the script. */
static struct {
    size_t n_starts, n_stops, n_frees;
    struct sl_attempt *open;
    uint64_t timeout_ms;
    bool fails_to_start;
    bool is_slow_to_stop;
} kind_log;

static void end_attempt(const struct sl_tool_outcome *outcome)
{
    struct sl_tool_outcome copy = *outcome;
    struct sl_attempt *attempt = kind_log.open;
    kind_log.open = NULL;
    sl_attempt_ended(attempt, &copy);
}

static struct sl_attempt *
start_attempt(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome);

static void stop_attempt(struct sl_attempt *attempt)
{
    (void)attempt;
    kind_log.n_stops++;
}

static void free_attempt(struct sl_attempt *attempt)
{
    kind_log.n_frees++;
    sl_free(attempt);
}

static const struct sl_tool_kind scripted = {
    .name = "scripted", .start = start_attempt, .stop = stop_attempt, .free = free_attempt
};

static struct sl_attempt *
start_attempt(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome)
{
    kind_log.n_starts++;
    kind_log.timeout_ms = options->timeout_ms;
    assert_string_equal(options->key, "r:t");
    if (kind_log.fails_to_start) {
        sl_outcome_fail(outcome, SL_TOOL_SPAWN_FAILED, "no");
        return NULL;
    }
    struct sl_attempt *attempt = sl_calloc(1, sizeof *attempt);
    assert_non_null(attempt);
    attempt->kind = &scripted;
    attempt->call = options->call;
    kind_log.open = attempt;
    return attempt;
}

/* ---- Room ---------------------------------------------------------------------------------------
 */

struct seen {
    struct sl_tool_call *call;
    int n_done;
    enum sl_tool_code code;
    uint32_t attempts;
    uint64_t ms;
    char json[256];
    char error[256];
};

static struct sl_fake_loop fake;
static struct sl_limits limits;
static struct sl_tools *tools;
static struct sl_tool *tool;

static int set_up(void **state)
{
    (void)state;
    memset(&kind_log, 0, sizeof kind_log);
    sl_limits_init(&limits);
    sl_fake_loop_init(&fake);
    struct sl_loop *loop = &fake.base;
    const struct sl_tools_options options = { .loops = &loop, .n_loops = 1, .limits = &limits };
    assert_int_equal(sl_tools_new(&options, &tools, NULL), SL_OK);
    tool = sl_tool_new(&scripted);
    tool->info = (struct sl_tool_info){ .name = "x", .timeout_ms = 5000 };
    tool->max_arguments_bytes = 1024;
    tool->parameters = json_loads(
        "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},"
        "\"additionalProperties\":false}",
        0, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tool = sl_tool_unref(tool);
    assert_int_equal(sl_tools_n_calls(tools), 0);
    assert_int_equal(tools->slots->n_running, 0);
    assert_int_equal(
        kind_log.n_frees + (kind_log.fails_to_start ? kind_log.n_starts : 0), kind_log.n_starts);
    tools = sl_tools_free(tools);
    sl_fake_loop_done(&fake);
    return 0;
}

static void on_done(struct sl_tool_call *call, const struct sl_tool_result *result, void *user_data)
{
    struct seen *seen = user_data;
    seen->n_done++;
    seen->code = result->code;
    seen->attempts = result->attempts;
    seen->ms = result->execution_time_ms;
    (void)snprintf(seen->json, sizeof seen->json, "%.*s", SL_SLICE_FMT(result->result_json));
    (void)snprintf(seen->error, sizeof seen->error, "%s", result->error);
    seen->call = sl_tool_call_free(call);
}

static void start_for(struct seen *seen, const char *arguments, uint64_t remaining_ms)
{
    *seen = (struct seen){ 0 };
    const struct sl_tool_call_options options = { .tool = tool,
                                                  .arguments_json = sl_slice_str(arguments),
                                                  .run_id = "r",
                                                  .tool_id = "t",
                                                  .remaining_ms = remaining_ms,
                                                  .on_done = on_done,
                                                  .user_data = seen };
    assert_int_equal(sl_tool_call_start(tools, &fake.base, &options, &seen->call), SL_OK);
    assert_int_equal(seen->n_done, 0);
}

static void start(struct seen *seen)
{
    start_for(seen, "{}", 60000);
}

static const struct sl_tool_outcome good = { .code = SL_TOOL_OK };
static const struct sl_tool_outcome busy = { .code = SL_TOOL_HTTP_ERROR, .is_retryable = true };
static const struct sl_tool_outcome broken = { .code = SL_TOOL_EXIT_NONZERO };

/* ---- Cases --------------------------------------------------------------------------------------
 */

static void the_result_comes_once_and_later(void **state)
{
    (void)state;
    struct seen seen;
    start(&seen);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.n_done, 0);
    struct sl_tool_outcome outcome = good;
    outcome.result = json_pack("{s:i}", "a", 1);
    sl_fake_loop_advance_ms(&fake, 70);
    end_attempt(&outcome);
    assert_int_equal(seen.n_done, 0);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.n_done, 1);
    assert_int_equal(seen.code, SL_TOOL_OK);
    assert_string_equal(seen.json, "{\"a\":1}");
    assert_int_equal(seen.ms, 70);
}

/* T8, AL-6.1 */
static void bad_arguments_never_start_the_tool(void **state)
{
    (void)state;
    static const char *const bad[] = { "[]",        "{",   "{\"n\":\"x\"}",
                                       "{\"m\":1}", "nul", "{\"n\":1,\"n\":2}" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        struct seen seen;
        start_for(&seen, bad[i], 60000);
        (void)sl_fake_loop_run(&fake);
        assert_int_equal(seen.n_done, 1);
        assert_int_equal(seen.code, SL_TOOL_INVALID_ARGS);
        assert_true(seen.error[0] != '\0');
        assert_int_equal(seen.attempts, 0);
    }
    assert_int_equal(kind_log.n_starts, 0);
}

/* ---- Large arguments (PM-1.6, AL-7.4) ------------------------------------------------------- */

/* Arguments of over 256 KiB: blanks, and what the schema wants, or not. */
static const char *large(const char *tail)
{
    static char text[SL_JOB_DOCUMENT_BYTES + 64];
    (void)snprintf(text, sizeof text, "{%*s%s", SL_JOB_DOCUMENT_BYTES, "", tail);
    return text;
}

static void large_arguments_are_checked_on_the_pool(void **state)
{
    (void)state;
    struct seen seen;
    fake.holds_jobs = true;
    start_for(&seen, "{\"n\":1}", 60000);
    assert_int_equal(fake.n_jobs, 0); /* small ones are not */
    assert_int_equal(kind_log.n_starts, 1);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    start_for(&seen, large("\"n\":1}"), 60000);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(fake.n_jobs, 1);
    assert_int_equal(kind_log.n_starts, 1);
    sl_fake_loop_end_jobs(&fake);
    assert_int_equal(kind_log.n_starts, 2);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_OK);
    assert_int_equal(fake.n_jobs, 2); /* they are freed there, too */
    start_for(&seen, large("\"n\":\"x\"}"), 60000);
    sl_fake_loop_end_jobs(&fake);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_INVALID_ARGS);
    assert_non_null(strstr(seen.error, "must be integer"));
    start_for(&seen, large(""), 60000);
    sl_fake_loop_end_jobs(&fake);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_INVALID_ARGS);
    assert_int_equal(kind_log.n_starts, 2);
}

/* PM-1.6; a cancel that comes meanwhile changes nothing: the tool has ended. */
static void a_large_result_is_written_on_the_pool(void **state)
{
    (void)state;
    static char text[SL_JOB_DOCUMENT_BYTES + 1];
    memset(text, 'r', sizeof text);
    for (int over = 0; over < 2; over++) {
        struct seen seen;
        fake.n_jobs = 0;
        fake.holds_jobs = true;
        start_for(&seen, "{\"n\":1}", 60000);
        struct sl_tool_outcome large = { .code = SL_TOOL_OK, .result = json_object() };
        (void)json_object_set_new(
            large.result, "stdout", json_stringn(text, SL_JOB_DOCUMENT_BYTES + (size_t)over));
        end_attempt(&large);
        (void)sl_fake_loop_run(&fake);
        assert_int_equal(fake.n_jobs, over);
        assert_int_equal(seen.n_done, 1 - over);
        if (over == 1) {
            sl_tool_call_cancel(seen.call);
            sl_fake_loop_begin_jobs(&fake);
        }
        sl_fake_loop_end_jobs(&fake);
        (void)sl_fake_loop_run(&fake);
        assert_int_equal(seen.n_done, 1);
        assert_int_equal(seen.code, SL_TOOL_OK);
    }
}

static void a_call_may_be_cancelled_while_its_arguments_are_checked(void **state)
{
    (void)state;
    struct seen seen;
    fake.holds_jobs = true;
    for (int is_begun = 0; is_begun < 2; is_begun++) {
        start_for(&seen, large("}"), 60000);
        if (is_begun == 1) {
            sl_fake_loop_begin_jobs(&fake);
        }
        sl_tool_call_cancel(seen.call);
        (void)sl_fake_loop_run(&fake);
        assert_int_equal(seen.n_done, 1); /* it does not wait for the pool */
        assert_int_equal(seen.code, SL_TOOL_CANCELLED);
        sl_fake_loop_end_jobs(&fake);
    }
    assert_int_equal(kind_log.n_starts, 0);
}

static void the_runs_time_passes_while_arguments_are_checked(void **state)
{
    (void)state;
    struct seen seen;
    fake.holds_jobs = true;
    start_for(&seen, large("}"), 100);
    sl_fake_loop_advance_ms(&fake, 99);
    assert_int_equal(seen.n_done, 0);
    sl_fake_loop_advance_ms(&fake, 1);
    assert_int_equal(seen.code, SL_TOOL_TIMEOUT);
    assert_int_equal(seen.attempts, 0);
    assert_int_equal(kind_log.n_starts, 0);
}

/* T8, AL-6.1 */
static void arguments_over_the_limit_are_refused(void **state)
{
    (void)state;
    struct seen seen;
    limits.tool_arguments = 4;
    start_for(&seen, "{   }", 60000);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_INVALID_ARGS);
    start_for(&seen, "{  }", 60000);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_OK);
}

/* AL-6.7 */
static void deny_and_ask_are_denied(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.policy = SL_TOOL_DENY;
    start(&seen);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_DENIED);
    tool->info.policy = SL_TOOL_ASK;
    start(&seen);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_DENIED);
    assert_non_null(strstr(seen.error, "approval"));
    assert_int_equal(kind_log.n_starts, 0);
}

static void a_start_that_fails_is_reported(void **state)
{
    (void)state;
    struct seen seen;
    kind_log.fails_to_start = true;
    start(&seen);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_SPAWN_FAILED);
    assert_int_equal(seen.attempts, 1);
}

static void the_time_limit_stops_the_attempt_and_waits_for_its_end(void **state)
{
    (void)state;
    struct seen seen;
    start(&seen);
    sl_fake_loop_advance_ms(&fake, 4999);
    assert_int_equal(kind_log.n_stops, 0);
    sl_fake_loop_advance_ms(&fake, 1);
    assert_int_equal(kind_log.n_stops, 1);
    assert_int_equal(seen.n_done, 0);
    end_attempt(&good); /* whatever it says */
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_TIMEOUT);
    assert_int_equal(seen.attempts, 1);
}

/* AL-6.2 */
static void the_run_s_remaining_time_is_the_shorter_limit(void **state)
{
    (void)state;
    struct seen seen;
    start_for(&seen, "", 700);
    assert_int_equal(kind_log.timeout_ms, 700);
    sl_fake_loop_advance_ms(&fake, 700);
    assert_int_equal(kind_log.n_stops, 1);
    end_attempt(&broken);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_TIMEOUT);
    start_for(&seen, "", 0);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_TIMEOUT);
    assert_int_equal(kind_log.n_starts, 1);
}

/* AL-6.2 */
static void an_idempotent_tool_is_tried_three_times(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.is_idempotent = true;
    start(&seen);
    end_attempt(&busy);
    sl_fake_loop_advance_ms(&fake, 799);
    assert_int_equal(kind_log.n_starts, 1);
    sl_fake_loop_advance_ms(&fake, 401);
    assert_int_equal(kind_log.n_starts, 2);
    end_attempt(&busy);
    sl_fake_loop_advance_ms(&fake, 1599);
    assert_int_equal(kind_log.n_starts, 2);
    sl_fake_loop_advance_ms(&fake, 801);
    assert_int_equal(kind_log.n_starts, 3);
    end_attempt(&busy);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.n_done, 1);
    assert_int_equal(seen.code, SL_TOOL_HTTP_ERROR);
    assert_int_equal(seen.attempts, 3);
}

/* AL-6.2 */
static void a_timeout_is_retried_when_idempotent(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.is_idempotent = true;
    start(&seen);
    sl_fake_loop_advance_ms(&fake, 5000);
    end_attempt(&broken);
    sl_fake_loop_advance_ms(&fake, 1200);
    assert_int_equal(kind_log.n_starts, 2);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_OK);
    assert_int_equal(seen.attempts, 2);
}

/* AL-6.2 */
static void nothing_else_is_retried(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.is_idempotent = true;
    start(&seen);
    end_attempt(&broken);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_EXIT_NONZERO);
    tool->info.is_idempotent = false;
    start(&seen);
    end_attempt(&busy);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_HTTP_ERROR);
    assert_int_equal(kind_log.n_starts, 2);
}

static void no_retry_begins_after_the_run_s_end(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.is_idempotent = true;
    start_for(&seen, "", 700);
    end_attempt(&busy);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_HTTP_ERROR);
}

static void cancel_while_running_waits_for_the_end(void **state)
{
    (void)state;
    struct seen seen;
    start(&seen);
    sl_tool_call_cancel(seen.call);
    sl_tool_call_cancel(seen.call);
    assert_true(kind_log.n_stops >= 1);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.n_done, 0);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_CANCELLED);
}

static void cancel_after_a_timeout_is_a_cancel(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.is_idempotent = true;
    start(&seen);
    sl_fake_loop_advance_ms(&fake, 5000);
    sl_tool_call_cancel(seen.call);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_CANCELLED);
    assert_int_equal(kind_log.n_starts, 1);
}

/* AL-7.4 */
static void cancel_between_attempts_ends_at_once(void **state)
{
    (void)state;
    struct seen seen;
    tool->info.is_idempotent = true;
    start(&seen);
    end_attempt(&busy);
    (void)sl_fake_loop_run(&fake);
    sl_tool_call_cancel(seen.call);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.code, SL_TOOL_CANCELLED);
    assert_int_equal(seen.attempts, 1);
}

static void cancel_after_the_end_changes_nothing(void **state)
{
    (void)state;
    struct seen seen;
    start(&seen);
    end_attempt(&good);
    sl_tool_call_cancel(seen.call);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen.n_done, 1);
    assert_int_equal(seen.code, SL_TOOL_OK);
}

/* AL-6.2 */
static void calls_over_the_cap_wait_in_order(void **state)
{
    (void)state;
    struct seen seen[4];
    sl_tool_slots_set_max(tools->slots, 1);
    for (size_t i = 0; i < SL_COUNT(seen); i++) {
        start(&seen[i]);
    }
    assert_int_equal(kind_log.n_starts, 1);
    sl_tool_call_cancel(seen[2].call);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen[2].code, SL_TOOL_CANCELLED);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(kind_log.n_starts, 2);
    assert_true(kind_log.open->call == seen[1].call);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_true(kind_log.open->call == seen[3].call);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(seen[3].code, SL_TOOL_OK);
}

static void the_cap_may_change_while_calls_wait(void **state)
{
    (void)state;
    struct seen seen[3];
    sl_tool_slots_set_max(tools->slots, 1);
    for (size_t i = 0; i < SL_COUNT(seen); i++) {
        start(&seen[i]);
    }
    struct sl_attempt *first = kind_log.open;
    assert_int_equal(kind_log.n_starts, 1);
    sl_tool_slots_set_max(tools->slots, 2);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(kind_log.n_starts, 2);
    sl_tool_slots_set_max(tools->slots, 1);
    end_attempt(&good); /* one runs on, so nobody comes in its place */
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(kind_log.n_starts, 2);
    kind_log.open = first;
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(kind_log.n_starts, 3);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    for (size_t i = 0; i < SL_COUNT(seen); i++) {
        assert_int_equal(seen[i].n_done, 1);
    }
}

/* The slot is given away, but the news has not arrived yet. */
static void cancel_of_a_call_whose_slot_is_on_its_way(void **state)
{
    (void)state;
    struct seen first;
    struct seen second;
    struct seen third;
    sl_tool_slots_set_max(tools->slots, 1);
    start(&first);
    start(&second);
    start(&third);
    end_attempt(&good);
    sl_tool_call_cancel(second.call);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(second.n_done, 1);
    assert_int_equal(second.code, SL_TOOL_CANCELLED);
    assert_true(kind_log.open->call == third.call);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
}

static void a_call_that_waits_ends_with_its_run(void **state)
{
    (void)state;
    struct seen first;
    struct seen second;
    sl_tool_slots_set_max(tools->slots, 1);
    start(&first);
    start_for(&second, "", 500);
    sl_fake_loop_advance_ms(&fake, 500);
    assert_int_equal(second.code, SL_TOOL_TIMEOUT);
    assert_int_equal(second.attempts, 0);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
}

static void the_queue_goes_across_loops(void **state)
{
    (void)state;
    struct sl_fake_loop other;
    struct seen here;
    struct seen there;
    struct seen last;
    sl_tool_slots_set_max(tools->slots, 1);
    sl_fake_loop_init(&other);
    start(&here);
    there = (struct seen){ 0 };
    const struct sl_tool_call_options options = { .tool = tool,
                                                  .run_id = "r",
                                                  .tool_id = "t",
                                                  .remaining_ms = 60000,
                                                  .on_done = on_done,
                                                  .user_data = &there };
    sl_loop_enter(&other.base);
    assert_int_equal(sl_tool_call_start(tools, &other.base, &options, &there.call), SL_OK);
    sl_loop_enter(&fake.base);
    start(&last);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(here.n_done, 1);
    assert_null(kind_log.open); /* the other loop has not turned yet */
    (void)sl_fake_loop_run(&other);
    assert_true(kind_log.open->call == there.call);
    end_attempt(&good);
    (void)sl_fake_loop_run(&other);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(there.n_done, 1);
    assert_true(kind_log.open->call == last.call);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
    sl_fake_loop_done(&other);
    sl_loop_enter(&fake.base);
}

/* AL-7.3 */
static void a_process_that_does_not_die_keeps_its_slot(void **state)
{
    (void)state;
    struct seen first;
    struct seen second;
    sl_tool_slots_set_max(tools->slots, 1);
    start(&first);
    start(&second);
    struct sl_tool_outcome stuck = good;
    stuck.is_unreaped = true;
    sl_tool_call_cancel(first.call);
    end_attempt(&stuck);
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(first.code, SL_TOOL_CANCELLED);
    assert_int_equal(kind_log.n_starts, 1);
    sl_tools_give_back_slot(tools); /* it has died */
    (void)sl_fake_loop_run(&fake);
    assert_int_equal(kind_log.n_starts, 2);
    end_attempt(&good);
    (void)sl_fake_loop_run(&fake);
}

static void an_error_text_is_clean(void **state)
{
    (void)state;
    struct seen seen;
    struct sl_tool_outcome outcome = broken;
    (void)snprintf(outcome.error, sizeof outcome.error, "a\xC3");
    start(&seen);
    end_attempt(&outcome);
    (void)sl_fake_loop_run(&fake);
    assert_string_equal(seen.error, "a\xEF\xBF\xBD");
}

static size_t n_allowed;

static bool allow_some(size_t size)
{
    (void)size;
    return n_allowed-- > 0;
}

static void no_memory_at_the_start_is_told(void **state)
{
    (void)state;
    for (size_t n = 0; n < 2; n++) {
        struct sl_tool_call *call = NULL;
        const struct sl_tool_call_options options = {
            .tool = tool, .run_id = "r", .tool_id = "t", .on_done = on_done
        };
        n_allowed = n;
        sl_mem_set_gate(allow_some);
        const enum sl_status status = sl_tool_call_start(tools, &fake.base, &options, &call);
        sl_mem_set_gate(NULL);
        assert_int_equal(status, SL_RESOURCE_EXHAUSTED);
        assert_null(call);
    }
}

static void every_code_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(sl_tool_code_name(SL_TOOL_OK), "OK");
    assert_string_equal(sl_tool_code_name(SL_TOOL_OUTCOME_UNKNOWN), "OUTCOME_UNKNOWN");
    for (int code = SL_TOOL_OK; code <= SL_TOOL_INTERNAL; code++) {
        assert_non_null(sl_tool_code_name((enum sl_tool_code)code));
    }
    assert_string_equal(sl_tool_code_name((enum sl_tool_code)99), "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_result_comes_once_and_later),
        TEST(bad_arguments_never_start_the_tool),
        TEST(large_arguments_are_checked_on_the_pool),
        TEST(a_large_result_is_written_on_the_pool),
        TEST(a_call_may_be_cancelled_while_its_arguments_are_checked),
        TEST(the_runs_time_passes_while_arguments_are_checked),
        TEST(arguments_over_the_limit_are_refused),
        TEST(deny_and_ask_are_denied),
        TEST(a_start_that_fails_is_reported),
        TEST(the_time_limit_stops_the_attempt_and_waits_for_its_end),
        TEST(the_run_s_remaining_time_is_the_shorter_limit),
        TEST(an_idempotent_tool_is_tried_three_times),
        TEST(a_timeout_is_retried_when_idempotent),
        TEST(nothing_else_is_retried),
        TEST(no_retry_begins_after_the_run_s_end),
        TEST(cancel_while_running_waits_for_the_end),
        TEST(cancel_after_a_timeout_is_a_cancel),
        TEST(cancel_between_attempts_ends_at_once),
        TEST(cancel_after_the_end_changes_nothing),
        TEST(calls_over_the_cap_wait_in_order),
        TEST(the_cap_may_change_while_calls_wait),
        TEST(cancel_of_a_call_whose_slot_is_on_its_way),
        TEST(a_call_that_waits_ends_with_its_run),
        TEST(the_queue_goes_across_loops),
        TEST(a_process_that_does_not_die_keeps_its_slot),
        TEST(an_error_text_is_clean),
        TEST(no_memory_at_the_start_is_told),
        TEST(every_code_has_its_name),
    };
    return cmocka_run_group_tests_name("tool_call", tests, NULL, NULL);
}
