/* Retries of the client (gRFC A6), with a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/wire/client_rig.h"

static const struct sl_method_desc unary = { .path = "/test.Service/Unary",
                                             .name = "Unary",
                                             .kind = SL_UNARY };
static const struct sl_method_desc other = { .path = "/test.Service/Other",
                                             .name = "Other",
                                             .kind = SL_UNARY };
static const struct sl_method_desc talk = { .path = "/test.Service/Talk",
                                            .name = "Talk",
                                            .kind = SL_BIDIRECTIONAL };

static const struct sl_method_config methods[] = {
    { .struct_size = sizeof(methods[0]),
      .name = "/test.Service/",
      .retry = { .max_attempts = 4,
                 .initial_backoff_ms = 100,
                 .max_backoff_ms = 300,
                 .backoff_multiplier = 2,
                 .retryable = SL_RETRY_ON(SL_UNAVAILABLE) | SL_RETRY_ON(SL_ABORTED) } },
    { .struct_size = sizeof(methods[0]), .name = "/test.Service/Other" },
};
static const struct sl_service_config config = { .struct_size = sizeof(config),
                                                 .methods = methods,
                                                 .n_methods = SL_COUNT(methods) };

static const struct rig_answer unavailable = { .kind = RIG_TRAILERS_ONLY, .status = "14" };
static const struct rig_answer fine = { .kind = RIG_OK };

static struct client_rig rig;

static int setup(void **state)
{
    (void)state;
    client_rig_init(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_rig_done(&rig);
    return 0;
}

static void open_channel(void)
{
    const struct sl_channel_options options = { .service_config = &config };
    client_rig_channel(&rig, &options);
}

static void expect_end(struct sl_client_call *call, enum sl_status status)
{
    if (sl_client_call_status(call) != status) {
        print_error(
            "%s: %s\n", sl_status_name(sl_client_call_status(call)),
            sl_client_call_error(call)->text);
    }
    assert_int_equal(sl_client_call_status(call), status);
    (void)sl_client_call_free(call);
}

/* The n-th request comes no sooner and no later than so many milliseconds from now. */
static void expect_request(size_t n, uint64_t least_ms, uint64_t most_ms)
{
    assert_int_equal(rig.n_requests, n - 1);
    uint64_t ms = 0;
    for (; rig.n_requests < n && ms <= most_ms; ms++) {
        client_rig_advance_ms(&rig, 1);
    }
    assert_int_equal(rig.n_requests, n);
    assert_in_range(ms, least_ms, most_ms + 1);
}

/* ---- The policy ------------------------------------------------------------------------------ */

static void a_failed_call_is_tried_again_after_the_backoff_rt_5(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer answers[] = { unavailable, unavailable, unavailable, fine };
    client_rig_script(&rig, answers, SL_COUNT(answers));
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "hello");
    assert_null(strstr(client_rig_log(&rig), "grpc-previous-rpc-attempts"));
    expect_request(2, 80, 120);
    assert_non_null(strstr(client_rig_log(&rig), "grpc-previous-rpc-attempts=1"));
    expect_request(3, 160, 240);
    assert_non_null(strstr(client_rig_log(&rig), "grpc-previous-rpc-attempts=2"));
    expect_request(4, 240, 360); /* max_backoff_ms, with its jitter */
    assert_non_null(strstr(client_rig_log(&rig), "grpc-previous-rpc-attempts=3"));
    assert_int_equal(rig.conns[0]->n_body, 10);
    assert_memory_equal(rig.conns[0]->body, "\0\0\0\0\5hello", 10);
    assert_int_equal(sl_client_call_previous_attempts(call), 3);
    assert_int_equal(sl_channel_stats(rig.channel).n_retries, 3);
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_OK);
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_END);
    expect_end(call, SL_OK);
    assert_int_equal(sl_channel_stats(rig.channel).retry_bytes, 0);
}

static void attempts_are_counted_with_the_first(void **state)
{
    (void)state;
    open_channel();
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 60000);
    assert_int_equal(rig.n_requests, 4);
    expect_end(call, SL_UNAVAILABLE);
}

static void more_than_five_attempts_are_five(void **state)
{
    (void)state;
    struct sl_method_config many = methods[0];
    many.name = NULL;
    many.retry.max_attempts = 100;
    const struct sl_service_config all = { .struct_size = sizeof(all),
                                           .methods = &many,
                                           .n_methods = 1 };
    client_rig_channel(&rig, &(struct sl_channel_options){ .service_config = &all });
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 60000);
    assert_int_equal(rig.n_requests, 5);
    expect_end(call, SL_UNAVAILABLE);
}

static void other_codes_and_methods_are_not_retried(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer refused = { .kind = RIG_TRAILERS_ONLY, .status = "9" };
    client_rig_script(&rig, &refused, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_FAILED_PRECONDITION);
    client_rig_script(&rig, &unavailable, 1);
    expect_end(client_rig_call(&rig, &other, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 1);
    static const struct sl_method_desc foreign = { .path = "/test.Services/Unary" };
    expect_end(client_rig_call(&rig, &foreign, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 2);
    const struct rig_answer lost = { .kind = RIG_LOSE };
    client_rig_script(&rig, &lost, 1);
    expect_end(client_rig_call(&rig, &other, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 1);
}

static void retries_can_be_switched_off(void **state)
{
    (void)state;
    const struct sl_channel_options options = { .service_config = &config, .disable_retry = true };
    client_rig_channel(&rig, &options);
    client_rig_script(&rig, &unavailable, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNAVAILABLE);
    const struct rig_answer answers[] = { { .kind = RIG_RESET, .code = SL_H2_REFUSED_STREAM },
                                          fine };
    client_rig_script(&rig, answers, 2);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK); /* it never ran */
}

static void headers_commit_the_call(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer late = { .kind = RIG_LATE, .status = "14" };
    client_rig_script(&rig, &late, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 1);
}

static void whatever_fails_before_headers_is_retried_by_its_status(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer answers[] = {
        { .kind = RIG_LOSE },                          /* UNAVAILABLE */
        { .kind = RIG_HTTP, .status = "503" },         /* UNAVAILABLE, ST-5 */
        { .kind = RIG_TRAILERS_ONLY, .status = "10" }, /* ABORTED */
        fine,
    };
    client_rig_script(&rig, answers, SL_COUNT(answers));
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 2000);
    expect_end(call, SL_OK);
    assert_int_equal(rig.n_conns, 2);
}

static void a_reset_is_retried_only_with_its_code(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer reset = { .kind = RIG_RESET, .code = SL_H2_CANCEL };
    client_rig_script(&rig, &reset, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_CANCELLED);
    assert_int_equal(rig.n_requests, 1);
}

static void an_early_answer_to_a_stream_is_retried_with_all_that_was_sent(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer answers[] = {
        { .kind = RIG_TRAILERS_ONLY, .status = "14", .at_once = true }, fine
    };
    client_rig_script(&rig, answers, 2);
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(rig.channel, &talk, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("one")), SL_OK);
    client_rig_turn(&rig);
    assert_int_equal(rig.n_requests, 1);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("two")), SL_OK); /* between */
    sl_client_call_close_send(call);
    client_rig_advance_ms(&rig, 200);
    assert_int_equal(rig.conns[0]->n_body, 16);
    assert_memory_equal(rig.conns[0]->body, "\0\0\0\0\3one\0\0\0\0\3two", 16);
    expect_end(call, SL_OK);
}

/* ---- Pushback -------------------------------------------------------------------------------- */

static void pushback_says_when(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer answers[] = {
        unavailable,
        { .kind = RIG_TRAILERS_ONLY,
          .status = "14",
          .fields = { "grpc-retry-pushback-ms", "7000" } },
        unavailable,
        fine,
    };
    client_rig_script(&rig, answers, SL_COUNT(answers));
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    expect_request(2, 80, 120);
    expect_request(3, 7000, 7000);
    expect_request(4, 80, 120); /* the backoff begins anew */
    expect_end(call, SL_OK);
}

static void pushback_may_forbid(void **state)
{
    (void)state;
    open_channel();
    static const char *const words[] = { "-1", "soon", "", "007", "+5", "99999999999", "1.5" };
    for (size_t i = 0; i < SL_COUNT(words); i++) {
        const struct rig_answer answer = { .kind = RIG_TRAILERS_ONLY,
                                           .status = "14",
                                           .fields = { "grpc-retry-pushback-ms", words[i] } };
        client_rig_script(&rig, &answer, 1);
        expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNAVAILABLE);
        assert_int_equal(rig.n_requests, 1);
    }
    const struct rig_answer twice = { .kind = RIG_TRAILERS_ONLY,
                                      .status = "14",
                                      .fields = { "grpc-retry-pushback-ms", "1",
                                                  "grpc-retry-pushback-ms", "1" } };
    client_rig_script(&rig, &twice, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 1);
}

static void pushback_needs_a_policy_and_attempts(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer zero = { .kind = RIG_TRAILERS_ONLY,
                                     .status = "14",
                                     .fields = { "grpc-retry-pushback-ms", "0" } };
    client_rig_script(&rig, &zero, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 4);
    expect_end(client_rig_call(&rig, &other, NULL, "x"), SL_UNAVAILABLE);
    assert_int_equal(rig.n_requests, 5);
}

/* ---- Deadline and cancel --------------------------------------------------------------------- */

static void the_deadline_is_that_of_all_attempts(void **state)
{
    (void)state;
    open_channel();
    client_rig_script(&rig, &unavailable, 1);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 250 };
    struct sl_client_call *call = client_rig_call(&rig, &unary, &options, "x");
    assert_non_null(strstr(client_rig_log(&rig), "grpc-timeout=250000u"));
    client_rig_advance_ms(&rig, 121);
    assert_int_equal(rig.n_requests, 2);
    assert_null(strstr(client_rig_log(&rig), "grpc-timeout=250000u")); /* what is left */
    client_rig_advance_ms(&rig, 129);
    assert_int_equal(rig.n_requests, 2);
    expect_end(call, SL_DEADLINE_EXCEEDED);
}

static void a_call_can_be_cancelled_between_attempts(void **state)
{
    (void)state;
    open_channel();
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    sl_client_call_cancel(call);
    client_rig_advance_ms(&rig, 60000);
    assert_int_equal(rig.n_requests, 1);
    expect_end(call, SL_CANCELLED);
    call = client_rig_call(&rig, &unary, NULL, "x");
    (void)sl_client_call_free(call);
    client_rig_advance_ms(&rig, 60000);
    assert_int_equal(rig.n_requests, 2);
}

static void a_channel_may_go_between_attempts(void **state)
{
    (void)state;
    open_channel();
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    rig.channel = sl_channel_free(rig.channel);
    client_rig_advance_ms(&rig, 60000);
    expect_end(call, SL_CANCELLED);
}

/* ---- What never ran -------------------------------------------------------------------------- */

static void what_was_refused_is_sent_again_once_and_then_by_policy_rt_4(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer refused = { .kind = RIG_RESET, .code = SL_H2_REFUSED_STREAM };
    client_rig_script(&rig, &refused, 1);
    struct sl_client_call *call = client_rig_call(&rig, &other, NULL, "x");
    assert_int_equal(rig.n_requests, 2); /* at once */
    assert_null(strstr(client_rig_log(&rig), "grpc-previous-rpc-attempts"));
    expect_end(call, SL_UNAVAILABLE);
    call = client_rig_call(&rig, &unary, NULL, "x");
    assert_int_equal(rig.n_requests, 4);
    client_rig_advance_ms(&rig, 60000);
    assert_int_equal(rig.n_requests, 7); /* the first and its repeat count as one */
    expect_end(call, SL_UNAVAILABLE);
}

static void a_stream_above_the_last_id_goes_to_the_next_connection_rt_4(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer answers[] = { { .kind = RIG_LEAVE, .at_once = true }, fine };
    rig.answers = answers;
    rig.n_answers = 2;
    rig.n_requests = 0;
    struct sl_client_call *call = client_rig_call(&rig, &other, NULL, "x");
    client_rig_advance_ms(&rig, 1);
    expect_end(call, SL_OK);
    assert_int_equal(rig.n_conns, 2);
    assert_int_equal(sl_channel_stats(rig.channel).n_transparent, 1);
}

/* Connections that greet and go before the request was written: none counts as an attempt. */
static void what_never_left_is_sent_again_any_number_of_times(void **state)
{
    (void)state;
    open_channel();
    client_rig_script(&rig, &fine, 1);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .wait_for_ready = true };
    rig.manner = RIG_DROPS;
    struct sl_client_call *call = client_rig_call(&rig, &other, &options, "x");
    client_rig_advance_ms(&rig, 10000);
    assert_true(sl_channel_stats(rig.channel).n_transparent > 3);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    assert_int_equal(rig.n_requests, 0);
    rig.manner = RIG_STAYS;
    client_rig_advance_ms(&rig, 2000);
    expect_end(call, SL_OK);
    assert_int_equal(rig.n_requests, 1);
}

static void no_connection_is_a_failure_like_another(void **state)
{
    (void)state;
    open_channel();
    client_rig_script(&rig, &fine, 1);
    rig.door = RIG_CLOSED;
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 130);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    client_rig_advance_ms(&rig, 3000); /* one backoff of the connection outlives the attempts */
    expect_end(call, SL_UNAVAILABLE);
    expect_end(client_rig_call(&rig, &other, NULL, "x"), SL_UNAVAILABLE);
}

static void an_attempt_that_is_over_is_not_reset_ng_1(void **state)
{
    (void)state;
    open_channel();
    const struct rig_answer answers[] = { unavailable, fine };
    client_rig_script(&rig, answers, 2);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 60000);
    expect_end(call, SL_OK);
    assert_int_equal(rig.n_requests, 2);
    struct sl_h2_stats stats;
    sl_h2_session_stats(rig.conns[0]->side->session, &stats);
    assert_int_equal(stats.resets_in, 0);
}

/* ---- What is kept ---------------------------------------------------------------------------- */

static void a_call_larger_than_what_is_kept_is_committed(void **state)
{
    (void)state;
    const struct sl_channel_options options = { .service_config = &config,
                                                .retry_call_bytes = 100 };
    client_rig_channel(&rig, &options);
    client_rig_script(&rig, &unavailable, 1);
    char text[120];
    memset(text, 'x', sizeof(text));
    text[95] = '\0'; /* 100 bytes with the prefix */
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, text);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    assert_int_equal(sl_channel_stats(rig.channel).retry_bytes, 100);
    (void)sl_client_call_free(call);
    assert_int_equal(sl_channel_stats(rig.channel).retry_bytes, 0);
    text[95] = 'x';
    text[96] = '\0';
    expect_end(client_rig_call(&rig, &unary, NULL, text), SL_UNAVAILABLE);
}

static void all_calls_share_what_may_be_kept(void **state)
{
    (void)state;
    const struct sl_channel_options options = { .service_config = &config,
                                                .retry_channel_bytes = 100 };
    client_rig_channel(&rig, &options);
    client_rig_script(&rig, &unavailable, 1);
    char text[60];
    memset(text, 'x', sizeof(text));
    text[45] = '\0'; /* 50 bytes with the prefix */
    struct sl_client_call *calls[2];
    for (int i = 0; i < 2; i++) {
        calls[i] = client_rig_call(&rig, &unary, NULL, text);
        assert_int_equal(sl_client_call_status(calls[i]), SL_PENDING);
    }
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNAVAILABLE);
    (void)sl_client_call_free(calls[0]);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    (void)sl_client_call_free(call);
    (void)sl_client_call_free(calls[1]);
    assert_int_equal(sl_channel_stats(rig.channel).retry_bytes, 0);
}

static void a_stream_that_outgrows_its_room_goes_on_and_is_not_retried(void **state)
{
    (void)state;
    const struct sl_channel_options options = { .service_config = &config,
                                                .retry_call_bytes = 100 };
    client_rig_channel(&rig, &options);
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(rig.channel, &talk, NULL, &call), SL_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("0123456789")), SL_OK);
        client_rig_turn(&rig);
    }
    assert_int_equal(rig.conns[0]->n_body, 300);
    sl_client_call_close_send(call);
    client_rig_turn(&rig);
    expect_end(call, SL_UNAVAILABLE);
}

/* ---- Throttling ------------------------------------------------------------------------------ */

static void failures_throttle_and_successes_release(void **state)
{
    (void)state;
    struct sl_service_config throttled = config;
    throttled.max_tokens = 4;
    throttled.token_ratio = 0.5;
    client_rig_channel(&rig, &(struct sl_channel_options){ .service_config = &throttled });
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x"); /* 3 tokens */
    client_rig_advance_ms(&rig, 121);                                       /* 2: one half */
    assert_int_equal(rig.n_requests, 2);
    expect_end(call, SL_UNAVAILABLE);
    assert_int_equal(sl_channel_stats(rig.channel).n_throttled, 1);
    client_rig_script(&rig, &fine, 1);
    for (int i = 0; i < 3; i++) { /* 3.5 */
        expect_end(client_rig_call(&rig, &other, NULL, "x"), SL_OK);
    }
    client_rig_script(&rig, &unavailable, 1);
    call = client_rig_call(&rig, &unary, NULL, "x"); /* 2.5 */
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    client_rig_advance_ms(&rig, 121); /* 1.5 */
    expect_end(call, SL_UNAVAILABLE);
    assert_int_equal(sl_channel_stats(rig.channel).n_throttled, 2);
}

static void what_never_ran_costs_no_token(void **state)
{
    (void)state;
    struct sl_service_config throttled = config;
    throttled.max_tokens = 4;
    throttled.token_ratio = 0.001;
    client_rig_channel(&rig, &(struct sl_channel_options){ .service_config = &throttled });
    const struct rig_answer answers[] = {
        { .kind = RIG_RESET, .code = SL_H2_REFUSED_STREAM }, fine,
        { .kind = RIG_RESET, .code = SL_H2_REFUSED_STREAM }, fine,
        { .kind = RIG_RESET, .code = SL_H2_REFUSED_STREAM }, fine,
    };
    client_rig_script(&rig, answers, SL_COUNT(answers));
    for (int i = 0; i < 3; i++) {
        expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK);
    }
    const struct rig_answer other_fault = { .kind = RIG_TRAILERS_ONLY, .status = "3" };
    client_rig_script(&rig, &other_fault, 1);
    for (int i = 0; i < 3; i++) {
        expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_INVALID_ARGUMENT);
    }
    client_rig_script(&rig, &unavailable, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    (void)sl_client_call_free(call);
}

/* ---- The config ------------------------------------------------------------------------------ */

static void a_wrong_config_is_refused(void **state)
{
    (void)state;
    open_channel();
    const struct sl_retry_policy good = methods[0].retry;
    struct sl_method_config cases[10];
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        cases[i] = methods[0];
    }
    cases[0].retry.max_attempts = 1;
    cases[1].retry.initial_backoff_ms = 0;
    cases[2].retry.max_backoff_ms = 0;
    cases[3].retry.backoff_multiplier = 0;
    cases[4].retry.retryable = 0;
    cases[5].retry.retryable = good.retryable | SL_RETRY_ON(SL_OK);
    cases[6].retry.retryable = UINT32_C(1) << 17;
    cases[7].name = "test.Service/Unary";
    cases[8].name = "/test.Service";
    cases[9].struct_size = 0;
    struct sl_error err;
    struct sl_channel *channel;
    struct sl_channel_options options = { .struct_size = sizeof(options), .loop = &rig.loop.base };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        const struct sl_service_config one = { .struct_size = sizeof(one),
                                               .methods = &cases[i],
                                               .n_methods = 1 };
        options.service_config = &one;
        assert_int_equal(sl_channel_new("memory:1", &options, &channel, &err), SL_INVALID_ARGUMENT);
    }
    struct sl_service_config tokens[] = { config, config, config };
    tokens[0].max_tokens = 1001;
    tokens[0].token_ratio = 1;
    tokens[1].max_tokens = 10;
    tokens[2].struct_size = 0;
    for (size_t i = 0; i < SL_COUNT(tokens); i++) {
        options.service_config = &tokens[i];
        assert_int_equal(sl_channel_new("memory:1", &options, &channel, &err), SL_INVALID_ARGUMENT);
    }
}

static void a_method_config_can_bound_the_time_and_wait(void **state)
{
    (void)state;
    const struct sl_method_config slow = { .struct_size = sizeof(slow),
                                           .timeout_ms = 500,
                                           .wait_for_ready = true };
    const struct sl_service_config all = { .struct_size = sizeof(all),
                                           .methods = &slow,
                                           .n_methods = 1 };
    client_rig_channel(&rig, &(struct sl_channel_options){ .service_config = &all });
    rig.door = RIG_CLOSED;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 900 };
    struct sl_client_call *call = client_rig_call(&rig, &unary, &options, "x");
    client_rig_advance_ms(&rig, 499);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    client_rig_advance_ms(&rig, 1);
    expect_end(call, SL_DEADLINE_EXCEEDED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_failed_call_is_tried_again_after_the_backoff_rt_5),
        T(attempts_are_counted_with_the_first),
        T(more_than_five_attempts_are_five),
        T(other_codes_and_methods_are_not_retried),
        T(retries_can_be_switched_off),
        T(headers_commit_the_call),
        T(whatever_fails_before_headers_is_retried_by_its_status),
        T(a_reset_is_retried_only_with_its_code),
        T(an_early_answer_to_a_stream_is_retried_with_all_that_was_sent),
        T(pushback_says_when),
        T(pushback_may_forbid),
        T(pushback_needs_a_policy_and_attempts),
        T(the_deadline_is_that_of_all_attempts),
        T(a_call_can_be_cancelled_between_attempts),
        T(a_channel_may_go_between_attempts),
        T(what_was_refused_is_sent_again_once_and_then_by_policy_rt_4),
        T(a_stream_above_the_last_id_goes_to_the_next_connection_rt_4),
        T(what_never_left_is_sent_again_any_number_of_times),
        T(no_connection_is_a_failure_like_another),
        T(an_attempt_that_is_over_is_not_reset_ng_1),
        T(a_call_larger_than_what_is_kept_is_committed),
        T(all_calls_share_what_may_be_kept),
        T(a_stream_that_outgrows_its_room_goes_on_and_is_not_retried),
        T(failures_throttle_and_successes_release),
        T(what_never_ran_costs_no_token),
        T(a_wrong_config_is_refused),
        T(a_method_config_can_bound_the_time_and_wait),
    };
    return cmocka_run_group_tests_name("rpc_client_retry", tests, NULL, NULL);
}
