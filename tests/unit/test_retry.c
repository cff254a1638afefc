#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/retry.h"

#define NOW_MS UINT64_C(784111777000) /* Sun, 06 Nov 1994 08:49:37 GMT */

static int64_t after(const char *ms, const char *seconds)
{
    int64_t wait_ms = -1;
    return sl_retry_after_parse(ms, seconds, NOW_MS, &wait_ms) ? wait_ms : -1;
}

static void retry_after_is_read_in_every_form(void **state)
{
    (void)state;
    assert_int_equal(after(NULL, "2"), 2000);
    assert_int_equal(after(NULL, " 0.25 "), 250);
    assert_int_equal(after(NULL, "0"), 0);
    assert_int_equal(after("1500", "7"), 1500);
    assert_int_equal(after("x", "7"), 7000);
    assert_int_equal(after(NULL, "Sun, 06 Nov 1994 08:49:47 GMT"), 10000);
    assert_int_equal(after(NULL, "Sunday, 06-Nov-94 08:49:47 GMT"), 10000);
    assert_int_equal(after(NULL, "Sun Nov  6 08:49:47 1994"), 10000);
    assert_int_equal(after(NULL, "1000000000000"), INT64_C(1000000000000000));
    assert_int_equal(after(NULL, "1e300"), INT64_MAX);
}

static void nonsense_counts_as_absent(void **state)
{
    static const char *const texts[] = {
        "",
        "-1",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1s",
        "soon",
        "Sun, 06 Nov 1994 08:49:36 GMT",
        "Sun, 06 Nov 1994 08:49:47",
        "Sun, 6 Nov 1994 08:49:47 GMT",
        "Sun, 06 Foo 1994 08:49:47 GMT",
        "Sun, 06 Nov 1994 25:49:47 GMT",
        "Sun",
        "Sunday",
        "Sun, ",
        "Sun ",
        "Sunday, 06-Nov-9",
    };
    (void)state;
    assert_int_equal(after(NULL, NULL), -1);
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        assert_int_equal(after(NULL, texts[i]), -1);
        assert_int_equal(after(texts[i], NULL), -1);
    }
}

static void dates_know_leap_years(void **state)
{
    int64_t seconds = 0;
    (void)state;
    assert_int_equal(
        sl_retry_date_parse(sl_slice_str("Thu, 29 Feb 2024 00:00:00 GMT"), &seconds), SL_OK);
    assert_int_equal(seconds, 1709164800);
    assert_int_equal(
        sl_retry_date_parse(sl_slice_str("Thu, 01 Jan 1970 00:00:00 GMT"), &seconds), SL_OK);
    assert_int_equal(seconds, 0);
    assert_int_equal(
        sl_retry_date_parse(sl_slice_str("Friday, 31-Dec-99 23:59:60 GMT"), &seconds), SL_OK);
    assert_int_equal(seconds, 946684800);
}

static void back_off_doubles_to_eight_seconds_less_a_quarter(void **state)
{
    static const uint64_t most[] = { 500, 1000, 2000, 4000, 8000, 8000 };
    (void)state;
    for (unsigned n = 0; n < SL_COUNT(most); n++) {
        assert_int_equal(sl_retry_backoff_ms(n, 0), most[n]);
        for (uint64_t random = 0; random < 5000; random += 7) {
            assert_in_range(sl_retry_backoff_ms(n, random), most[n] * 3 / 4, most[n]);
        }
    }
}

static void the_budget_allows_five_in_a_row_and_refills_slowly(void **state)
{
    struct sl_retry_budget budget;
    (void)state;
    sl_retry_budget_init(&budget);
    for (int i = 0; i < 5; i++) {
        assert_true(sl_retry_budget_take(&budget));
    }
    assert_false(sl_retry_budget_take(&budget));
    sl_retry_budget_succeed(&budget);
    assert_true(sl_retry_budget_take(&budget));
    assert_false(sl_retry_budget_take(&budget));
    for (int i = 0; i < 1000; i++) {
        sl_retry_budget_succeed(&budget);
    }
    for (int i = 0; i < 5; i++) {
        assert_true(sl_retry_budget_take(&budget));
    }
    assert_false(sl_retry_budget_take(&budget));
}

static enum sl_retry_answer decide(struct sl_retry_question question, uint64_t *ret_wait_ms)
{
    struct sl_retry_budget budget;
    sl_retry_budget_init(&budget);
    return sl_retry_decide(&question, &budget, ret_wait_ms);
}

static void the_decision_follows_the_rules(void **state)
{
    const struct sl_retry_question good = {
        .is_retryable = true,
        .max_retries = 2,
        .max_wait_ms = 60000,
        .asked_ms = -1,
        .remaining_ms = 100000,
    };
    struct sl_retry_question question = good;
    uint64_t wait_ms = 0;
    (void)state;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_WAIT);
    assert_int_equal(wait_ms, 500);
    question.asked_ms = 0;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_WAIT);
    assert_int_equal(wait_ms, 0);
    question.asked_ms = 60000;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_WAIT);
    question.asked_ms = 60001;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_TOO_LONG);
    question.asked_ms = 5000;
    question.remaining_ms = 5000;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_TOO_LONG);
    question = good;
    question.remaining_ms = 500;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_NO);
    question = good;
    question.n_retries = 2;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_NO);
    question = good;
    question.has_output = true;
    question.should_retry = "true";
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_NO);
    question = good;
    question.should_retry = "false";
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_NO);
    question = good;
    question.is_retryable = false;
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_NO);
    question.should_retry = "TRUE";
    assert_int_equal(decide(question, &wait_ms), SL_RETRY_WAIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retry_after_is_read_in_every_form),
        cmocka_unit_test(nonsense_counts_as_absent),
        cmocka_unit_test(dates_know_leap_years),
        cmocka_unit_test(back_off_doubles_to_eight_seconds_less_a_quarter),
        cmocka_unit_test(the_budget_allows_five_in_a_row_and_refills_slowly),
        cmocka_unit_test(the_decision_follows_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
