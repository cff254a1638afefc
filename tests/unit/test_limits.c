#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/limits.h"

static void every_default_is_inside_its_bounds(void **state)
{
    (void)state;
    struct sl_limits limits;
    memset(&limits, 0xFF, sizeof(limits));
    sl_limits_init(&limits);
    assert_int_equal(sl_limit_n_infos * sizeof(uint64_t), sizeof(limits));
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        const struct sl_limit_info *info = &sl_limit_infos[i];
        assert_true(info->least <= info->value && info->value <= info->greatest);
        assert_int_equal(*sl_limits_field(&limits, info), info->value);
        assert_true(strlen(info->name) > 0 && strlen(info->text) > 0);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(info->name, sl_limit_infos[k].name);
        }
    }
}

static void a_field_is_the_one_of_its_name(void **state)
{
    (void)state;
    struct sl_limits limits;
    sl_limits_init(&limits);
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        if (strcmp(sl_limit_infos[i].name, "heartbeat") == 0) {
            *sl_limits_field(&limits, &sl_limit_infos[i]) = 77;
            assert_int_equal(sl_limit_infos[i].unit, SL_UNIT_MS);
        }
    }
    assert_int_equal(limits.heartbeat, 77);
    assert_int_equal(limits.message_recv, 4194304);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_is_inside_its_bounds),
        cmocka_unit_test(a_field_is_the_one_of_its_name),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
