#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/limits.h"
#include "service/rpc/limits.h"

static void limits_have_their_defaults_until_they_are_set(void **state)
{
    (void)state;
    struct sl_limits *limits = NULL;
    assert_int_equal(sl_limits_new(&limits), SL_OK);
    uint64_t value = 0;
    assert_int_equal(sl_limits_get(limits, "message_recv", &value), SL_OK);
    assert_int_equal(value, 4194304);
    assert_int_equal(sl_limits_get(limits, "running_calls", &value), SL_OK);
    assert_int_equal(value, 1024); /* of the library; sluiced counts its runs */
    assert_int_equal(sl_limits_set(limits, "message_recv", 8192, NULL), SL_OK);
    assert_int_equal(sl_limits_get(limits, "message_recv", &value), SL_OK);
    assert_int_equal(value, 8192);
    assert_int_equal(limits->message_recv, 8192);
    assert_null(sl_limits_free(limits));
    assert_null(sl_limits_free(NULL));
}

static void a_value_out_of_range_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct sl_limits *limits = NULL;
    struct sl_error err = { 0 };
    assert_int_equal(sl_limits_new(&limits), SL_OK);
    assert_int_equal(sl_limits_set(limits, "message_depth", 3, &err), SL_OUT_OF_RANGE);
    assert_string_equal(err.text, "limit message_depth: 3 is not between 4 and 1000");
    assert_int_equal(sl_limits_set(limits, "message_depth", 1001, NULL), SL_OUT_OF_RANGE);
    assert_int_equal(limits->message_depth, 100);
    (void)sl_limits_free(limits);
}

static void limits_of_runs_are_not_the_librarys(void **state)
{
    (void)state;
    struct sl_limits *limits = NULL;
    struct sl_error err = { 0 };
    uint64_t value = 0;
    assert_int_equal(sl_limits_new(&limits), SL_OK);
    assert_int_equal(sl_limits_set(limits, "model_retries", 1, &err), SL_NOT_FOUND);
    assert_string_equal(err.text, "there is no limit 'model_retries'");
    assert_int_equal(sl_limits_get(limits, "no_such", &value), SL_NOT_FOUND);
    /* a library's server has no observers */
    assert_int_equal(sl_limits_get(limits, "observers_per_connection", &value), SL_NOT_FOUND);
    (void)sl_limits_free(limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_have_their_defaults_until_they_are_set),
        cmocka_unit_test(a_value_out_of_range_is_refused_and_changes_nothing),
        cmocka_unit_test(limits_of_runs_are_not_the_librarys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
