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

/* PB-13: protobuf-c counts lengths in int; gRPC's prefix has 32 bits. */
static void no_message_is_longer_than_protobuf_can_count(void **state)
{
    (void)state;
    static const char *const messages[] = { "message_recv", "input", "context", "event" };
    size_t n_found = 0;
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        for (size_t k = 0; k < sizeof(messages) / sizeof(messages[0]); k++) {
            if (strcmp(sl_limit_infos[i].name, messages[k]) == 0) {
                n_found++;
                assert_true(sl_limit_infos[i].greatest < UINT64_C(1) << 31U);
            }
        }
    }
    assert_int_equal(n_found, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_is_inside_its_bounds),
        cmocka_unit_test(a_field_is_the_one_of_its_name),
        cmocka_unit_test(no_message_is_longer_than_protobuf_can_count),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
