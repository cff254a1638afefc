/* Does an answer fit its schema (AL-9, output_schema)? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/output.h"
#include "tests/fake/fake_loop.h"

#define GOOD "{\"n\": 1}"

static struct sl_output output;

static int open_output(void **state)
{
    (void)state;
    output = (struct sl_output){
        .schema = json_pack(
            "{s:s,s:{s:{s:s}},s:[s]}", "type", "object", "properties", "n", "type", "integer",
            "required", "n"),
    };
    return output.schema == NULL ? -1 : 0;
}

static int close_output(void **state)
{
    (void)state;
    json_decref(output.schema);
    return 0;
}

static bool fits(const char *text, const char *why)
{
    struct sl_error err = { .text = "" };
    const enum sl_status status = sl_output_check(&output, sl_slice_str(text), &err);
    if (status != SL_OK && strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
    return status == SL_OK;
}

static void a_strict_answer_is_json_and_nothing_else(void **state)
{
    (void)state;
    assert_true(fits(GOOD, ""));
    assert_true(fits("\n " GOOD " \n", ""));
    assert_false(fits("", "it is not JSON"));
    assert_false(fits("It is 1.", "it is not JSON: line 1"));
    assert_false(fits(GOOD " That is all.", "it is not JSON"));
    assert_false(fits("```json\n" GOOD "\n```", "it is not JSON"));
    assert_false(fits("{\"n\": 1, \"n\": 1}", "it is not JSON"));
    assert_false(fits("{\"n\": 1", "it is not JSON"));
}

static void what_does_not_fit_is_named(void **state)
{
    (void)state;
    assert_false(fits("{\"n\": \"one\"}", "n"));
    assert_false(fits("{}", "n"));
    assert_false(fits("1", ""));
}

static void a_lenient_answer_may_stand_in_a_code_block(void **state)
{
    (void)state;
    output.is_lenient = true;
    assert_true(fits(GOOD, ""));
    assert_true(fits("```json\n" GOOD "\n```", ""));
    assert_true(fits("Here it is:\n```\n" GOOD "\n```\nAnything else?", ""));
    assert_true(fits("```json\n" GOOD, "")); /* the model forgot to close it */
    assert_true(fits("```\n" GOOD "\n```\n```\n{}\n```", ""));
    assert_false(fits("```\n{}\n```\n```\n" GOOD "\n```", "n"));
    assert_false(fits("```", "it is not JSON"));
    assert_false(fits("```\n", "it is not JSON"));
    assert_false(fits("It is 1.", "it is not JSON"));
    output.is_lenient = false;
}

/* A schema without anything takes every value. */
static void any_json_will_do_for_an_empty_schema(void **state)
{
    (void)state;
    json_t *schema = output.schema;
    output.schema = json_object();
    assert_true(fits("1", ""));
    assert_true(fits("[\"a\"]", ""));
    assert_false(fits("a", "it is not JSON"));
    json_decref(output.schema);
    output.schema = schema;
}

/* ---- On the pool ------------------------------------------------------------------------------
 */

static size_t n_checked;
static enum sl_status verdict;

static void on_checked(void *user_data, enum sl_status status, const struct sl_error *err)
{
    (void)user_data;
    n_checked++;
    verdict = status;
    assert_int_equal(status == SL_OK, err->text[0] == '\0');
}

static void the_pool_says_the_same(void **state)
{
    (void)state;
    static const char *const texts[] = { GOOD, "{}" };
    struct sl_fake_loop loop;
    sl_fake_loop_init(&loop);
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        n_checked = 0;
        assert_non_null(
            sl_output_start(&loop.base, &output, sl_slice_str(texts[i]), on_checked, NULL));
        assert_int_equal(n_checked, 0);
        assert_true(sl_fake_loop_run(&loop));
        assert_int_equal(n_checked, 1);
        assert_int_equal(verdict, i == 0 ? SL_OK : SL_INVALID_ARGUMENT);
    }
    sl_fake_loop_done(&loop);
}

/* The schema may go while the pool has it. */
static void a_job_that_is_dropped_tells_nobody(void **state)
{
    (void)state;
    struct sl_fake_loop loop;
    struct sl_output own = { .schema = json_pack("{s:s}", "type", "object") };
    sl_fake_loop_init(&loop);
    for (int has_begun = 0; has_begun < 2; has_begun++) {
        n_checked = 0;
        loop.holds_jobs = true;
        (void)json_incref(own.schema);
        struct sl_output_job *job =
            sl_output_start(&loop.base, &own, sl_slice_str("{}"), on_checked, NULL);
        assert_non_null(job);
        if (has_begun == 1) {
            sl_fake_loop_begin_jobs(&loop);
        }
        assert_null(sl_output_drop(job));
        json_decref(own.schema);
        loop.holds_jobs = false;
        assert_true(sl_fake_loop_run(&loop));
        assert_int_equal(n_checked, 0);
    }
    json_decref(own.schema);
    assert_null(sl_output_drop(NULL));
    sl_fake_loop_done(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_strict_answer_is_json_and_nothing_else),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(a_lenient_answer_may_stand_in_a_code_block),
        cmocka_unit_test(any_json_will_do_for_an_empty_schema),
        cmocka_unit_test(the_pool_says_the_same),
        cmocka_unit_test(a_job_that_is_dropped_tells_nobody),
    };
    return cmocka_run_group_tests(tests, open_output, close_output);
}
