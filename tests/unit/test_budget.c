/* Usage (AL-2.3) and the guards of a run (AL-4.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/exec/budget.h"

static void reported_usage_is_exact(void **state)
{
    (void)state;
    const struct sl_usage_facts facts = { .reported = { .has_input = true,
                                                        .has_output = true,
                                                        .input_tokens = 5,
                                                        .output_tokens = 0,
                                                        .cache_read_tokens = 3 },
                                          .request_bytes = 1000,
                                          .received_bytes = 1000,
                                          .n_requests = 2 };
    const struct sl_usage usage = sl_usage_of(&facts);
    assert_int_equal(usage.input_tokens, 5);
    assert_int_equal(usage.output_tokens, 0);
    assert_int_equal(usage.cache_read_tokens, 3);
    assert_int_equal(usage.model_calls, 2);
    assert_false(usage.is_estimated);
}

/* AL-2.3 */
static void what_is_missing_is_estimated_and_never_zero(void **state)
{
    (void)state;
    struct sl_usage_facts facts = { .request_bytes = 401, .received_bytes = 1, .n_requests = 1 };
    struct sl_usage usage = sl_usage_of(&facts);
    assert_int_equal(usage.input_tokens, 101);
    assert_int_equal(usage.output_tokens, 1);
    assert_true(usage.is_estimated);
    facts.reported.has_input = true;
    facts.reported.input_tokens = 7;
    usage = sl_usage_of(&facts);
    assert_int_equal(usage.input_tokens, 7);
    assert_int_equal(usage.output_tokens, 1);
    assert_true(usage.is_estimated);
    facts.reported.has_output = true;
    facts.lost_bytes = 200; /* an attempt that nobody reported on */
    usage = sl_usage_of(&facts);
    assert_int_equal(usage.input_tokens, 57);
    assert_int_equal(usage.output_tokens, 0);
    assert_true(usage.is_estimated);
    facts = (struct sl_usage_facts){ .request_bytes = 400, .is_unused = true };
    usage = sl_usage_of(&facts);
    assert_int_equal(usage.input_tokens, 0);
    assert_false(usage.is_estimated);
}

/* AL-2.3 */
static void counters_saturate(void **state)
{
    (void)state;
    struct sl_usage total = { .input_tokens = UINT64_MAX - 1, .model_calls = UINT32_MAX };
    const struct sl_usage part = { .input_tokens = 5, .model_calls = 1, .is_estimated = true };
    sl_usage_add(&total, &part);
    assert_int_equal(total.input_tokens, UINT64_MAX);
    assert_int_equal(total.model_calls, UINT32_MAX);
    assert_true(total.is_estimated);
    const struct sl_budget budget = { .max_tokens = UINT64_MAX,
                                      .used = { .input_tokens = UINT64_MAX, .output_tokens = 1 } };
    assert_true(sl_budget_is_spent(&budget));
}

static enum sl_budget_verdict ask(struct sl_budget *budget, const char *name, const char *arguments)
{
    uint8_t digest[SL_SHA256_BYTES];
    assert_int_equal(sl_budget_digest(name, sl_slice_str(arguments), digest), SL_OK);
    return sl_budget_call(budget, digest);
}

static void calls_are_counted(void **state)
{
    (void)state;
    struct sl_budget budget = { .max_calls = 3, .max_same = 100 };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_OK);
    }
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_CALLS);
}

/* AL-4.2 */
static void only_the_same_call_in_a_row_is_a_loop(void **state)
{
    (void)state;
    struct sl_budget budget = { .max_calls = 100, .max_same = 3 };
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n", "{\"a\":1}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n{", "}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_OK);
    assert_int_equal(ask(&budget, "n", "{}"), SL_BUDGET_LOOP);
}

/* AL-2.3: cached tokens are a part of the input, reasoning is one of the output. */
static void a_cost_is_that_of_each_kind_of_token(void **state)
{
    (void)state;
    const struct sl_model_price price = { .is_known = true,
                                          .currency = "EUR",
                                          .input_picos = 3000000,
                                          .output_picos = 15000000,
                                          .cache_read_picos = 300000,
                                          .cache_write_picos = 3750000 };
    struct sl_usage usage = { .input_tokens = 100,
                              .output_tokens = 10,
                              .cache_read_tokens = 60,
                              .cache_write_tokens = 20,
                              .reasoning_tokens = 5 };
    sl_usage_price(&usage, &price);
    assert_true(usage.has_cost);
    assert_int_equal(usage.cost_micros, 20 * 3 + 18 + 75 + 150);
    assert_string_equal(usage.currency, "EUR");
    usage = (struct sl_usage){ .cache_read_tokens = 1 }; /* 0.3, rounded up; never below zero */
    sl_usage_price(&usage, &price);
    assert_int_equal(usage.cost_micros, 1);
    usage = (struct sl_usage){ .input_tokens = 0 };
    sl_usage_price(&usage, &price);
    assert_true(usage.has_cost);
    assert_int_equal(usage.cost_micros, 0);
    usage =
        (struct sl_usage){ .input_tokens = UINT64_C(1) << 62 }; /* 2^62 * 3,000,000 wraps to 0 */
    sl_usage_price(&usage, &price);
    assert_true(usage.cost_micros == UINT64_MAX / 1000000 + 1);
}

static void without_prices_there_is_no_cost(void **state)
{
    (void)state;
    const struct sl_model_price price = { .input_picos = 1000000 };
    struct sl_usage usage = { .input_tokens = 100 };
    sl_usage_price(&usage, &price);
    assert_false(usage.has_cost);
    struct sl_usage total = { .input_tokens = 1 };
    sl_usage_add(&total, &usage);
    assert_false(total.has_cost);
}

static void costs_are_added_and_bounded(void **state)
{
    (void)state;
    const struct sl_usage part = { .has_cost = true, .cost_micros = 40, .currency = "USD" };
    struct sl_budget budget = { .max_cost_micros = 80 };
    sl_usage_add(&budget.used, &part);
    assert_false(sl_budget_is_spent(&budget));
    sl_usage_add(&budget.used, &part);
    assert_true(sl_budget_is_spent(&budget));
    assert_true(budget.used.has_cost);
    assert_int_equal(budget.used.cost_micros, 80);
    assert_string_equal(budget.used.currency, "USD");
}

static void no_bound_is_never_spent(void **state)
{
    (void)state;
    struct sl_budget budget = { .used = { .input_tokens = 1000 } };
    assert_false(sl_budget_is_spent(&budget));
    budget.max_tokens = 1001;
    assert_false(sl_budget_is_spent(&budget));
    budget.used.output_tokens = 1;
    assert_true(sl_budget_is_spent(&budget));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cost_is_that_of_each_kind_of_token),
        cmocka_unit_test(without_prices_there_is_no_cost),
        cmocka_unit_test(costs_are_added_and_bounded),
        cmocka_unit_test(reported_usage_is_exact),
        cmocka_unit_test(what_is_missing_is_estimated_and_never_zero),
        cmocka_unit_test(counters_saturate),
        cmocka_unit_test(calls_are_counted),
        cmocka_unit_test(only_the_same_call_in_a_row_is_a_loop),
        cmocka_unit_test(no_bound_is_never_spent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
