/* --fail-if: what is understood, what is refused and where, and what fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/gate.h"

static bool has_name(const char *name)
{
    return strcmp(name, "errors") == 0 || strcmp(name, "p99_first_ms") == 0;
}

static struct sl_bench_gate parse(const char *text)
{
    struct sl_bench_gate gate = { 0 };
    struct sl_error err = { 0 };
    assert_int_equal(sl_bench_gate_parse(text, has_name, &gate, &err), SL_OK);
    assert_ptr_equal(gate.text, text);
    return gate;
}

static void each_operator_fails_on_its_side(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool below, equal, above; /* fails at 1.5, 2 and 2.5 */
    } cases[] = {
        { "errors>2", false, false, true },  { "errors>=2", false, true, true },
        { "errors<2", true, false, false },  { "errors<=2", true, true, false },
        { "errors==2", false, true, false }, { "errors!=2", true, false, true },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        const struct sl_bench_gate gate = parse(cases[i].text);
        assert_string_equal(gate.name, "errors");
        assert_int_equal(sl_bench_gate_fails(&gate, 1.5), cases[i].below);
        assert_int_equal(sl_bench_gate_fails(&gate, 2), cases[i].equal);
        assert_int_equal(sl_bench_gate_fails(&gate, 2.5), cases[i].above);
    }
}

static void blanks_signs_and_fractions_are_taken(void **state)
{
    (void)state;
    const struct sl_bench_gate gate = parse("  p99_first_ms  >=  -1.25e1 ");
    assert_string_equal(gate.name, "p99_first_ms");
    assert_int_equal(gate.how, SL_BENCH_AT_LEAST);
    assert_true(gate.value >= -12.5 && gate.value <= -12.5);
}

static void a_wrong_expression_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *fault;
    } cases[] = {
        { "", "character 1: the name" },
        { "> 3", "character 1: the name" },
        { "p99_frist_ms>3", "character 1: no figure" },
        { "  nonsense > 3", "character 3: no figure" },
        { "a_name_that_is_longer_than_every_figure>3", "character 1: no figure" },
        { "errors", "character 7: one of" },
        { "errors 3", "character 8: one of" },
        { "errors=3", "character 7: one of" },
        { "errors>", "character 8: a number" },
        { "errors > x", "character 10: a number" },
        { "errors>3ms", "character 8: a number" },
        { "errors>>3", "character 8: a number" },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_bench_gate gate = { 0 };
        struct sl_error err = { 0 };
        assert_int_equal(
            sl_bench_gate_parse(cases[i].text, has_name, &gate, &err), SL_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, cases[i].fault));
        assert_null(gate.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operator_fails_on_its_side),
        cmocka_unit_test(blanks_signs_and_fractions_are_taken),
        cmocka_unit_test(a_wrong_expression_is_refused_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
