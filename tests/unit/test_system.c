#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/system.h"

enum { SMALL_BYTES = 128 * 1024, LEAST_BYTES = 1024 * 1024, LARGE_BYTES = 16 * 1024 * 1024 };

/* What `ulimit -s` does before a program starts. */
static void set_default(size_t bytes)
{
    pthread_attr_t attributes;
    assert_int_equal(pthread_getattr_default_np(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, bytes), 0);
    assert_int_equal(pthread_setattr_default_np(&attributes), 0);
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
}

static void *measure(void *ret_bytes)
{
    pthread_attr_t attributes;
    (void)pthread_getattr_np(pthread_self(), &attributes);
    (void)pthread_attr_getstacksize(&attributes, ret_bytes);
    (void)pthread_attr_destroy(&attributes);
    return NULL;
}

static size_t stack_of_a_thread(void)
{
    pthread_t thread;
    size_t bytes = 0;
    assert_int_equal(pthread_create(&thread, NULL, measure, &bytes), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return bytes;
}

static void a_thread_has_the_stack_to_unpack_messages(void **state) /* PB-1 */
{
    (void)state;
    set_default(SMALL_BYTES);
    sl_system_raise_stacks();
    assert_true(stack_of_a_thread() >= LEAST_BYTES);
    set_default(LARGE_BYTES);
    sl_system_raise_stacks();
    assert_true(stack_of_a_thread() >= LARGE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(
        a_thread_has_the_stack_to_unpack_messages) };
    return cmocka_run_group_tests_name("system", tests, NULL, NULL);
}
