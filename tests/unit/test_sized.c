#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/sized.h"
#include "service/rpc/server.h"

struct options {
    size_t struct_size;
    uint32_t old;
    uint32_t added; /* not in the first version */
};

enum { FIRST_SIZE = offsetof(struct options, added) };

static bool read_options(const struct options *given, struct options *ret_options)
{
    memset(ret_options, 0xAA, sizeof(*ret_options));
    return sl_sized_read(ret_options, sizeof(*ret_options), given, given->struct_size, FIRST_SIZE);
}

/* LR-8. */
static void fields_behind_the_callers_struct_are_zero_and_not_read(void **state)
{
    (void)state;
    struct options all;
    const struct options older = { .struct_size = FIRST_SIZE, .old = 7, .added = 9 };
    assert_true(read_options(&older, &all));
    assert_int_equal(all.old, 7);
    assert_int_equal(all.added, 0);
    const struct options now = { .struct_size = sizeof(now), .old = 7, .added = 9 };
    assert_true(read_options(&now, &all));
    assert_int_equal(all.added, 9);
}

static void whoever_does_not_say_a_size_has_the_first_one(void **state)
{
    (void)state;
    struct options all;
    const struct options silent = { .old = 7, .added = 9 };
    assert_true(read_options(&silent, &all));
    assert_int_equal(all.old, 7);
    assert_int_equal(all.added, 0);
}

static void a_struct_of_a_newer_header_is_told_apart(void **state)
{
    (void)state;
    struct {
        struct options known;
        uint64_t unknown;
    } newer = { .known = { .struct_size = sizeof(newer), .old = 7, .added = 9 }, .unknown = 1 };
    struct options all;
    assert_false(read_options(&newer.known, &all));
    assert_int_equal(all.added, 9);
}

/* LR-8: a server of an older header, whose options end before the last field. */
static void the_server_reads_no_further_than_its_callers_options(void **state)
{
    (void)state;
    struct sl_loop *const no_loop = NULL; /* one, and not a thousand */
    struct sl_server_options options = { .struct_size = offsetof(struct sl_server_options, loops),
                                         .loops = &no_loop,
                                         .n_loops = 1000 };
    struct sl_server *server = NULL;
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    server = sl_server_free(server);
    options.struct_size = sizeof(options) + 8;
    assert_int_equal(sl_server_new(&options, &server), SL_INVALID_ARGUMENT);
    assert_null(server);
    struct sl_interceptor interceptor = { .struct_size = sizeof(interceptor) + 8 };
    assert_int_equal(sl_server_new(NULL, &server), SL_OK);
    assert_int_equal(sl_server_add_interceptor(server, &interceptor), SL_INVALID_ARGUMENT);
    (void)sl_server_free(server);
}

static void counters_fill_no_more_than_the_callers_struct(void **state)
{
    (void)state;
    struct sl_server *server = NULL;
    assert_int_equal(sl_server_new(NULL, &server), SL_OK);
    struct sl_server_stats stats;
    memset(&stats, 0xAA, sizeof(stats));
    sl_server_stats_sized(server, &stats, offsetof(struct sl_server_stats, streams));
    assert_int_equal(stats.connections_total, 0);
    assert_int_equal(stats.streams, UINT64_C(0xAAAAAAAAAAAAAAAA));
    (void)sl_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_behind_the_callers_struct_are_zero_and_not_read),
        cmocka_unit_test(whoever_does_not_say_a_size_has_the_first_one),
        cmocka_unit_test(a_struct_of_a_newer_header_is_told_apart),
        cmocka_unit_test(the_server_reads_no_further_than_its_callers_options),
        cmocka_unit_test(counters_fill_no_more_than_the_callers_struct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
