#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "service/rpc/routes.h"

static enum sl_status handle(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)call;
    (void)request;
    (void)user_data;
    return SL_OK;
}

static enum sl_status add(struct sl_routes *routes, const char *path)
{
    const struct sl_route route = { .path = path, .raw = handle };
    return sl_routes_add(routes, &route);
}

static enum sl_route_result find(const struct sl_routes *routes, const char *path)
{
    const struct sl_route *route = NULL;
    const enum sl_route_result result = sl_routes_find(routes, sl_slice_str(path), &route);
    assert_true((result == SL_ROUTE_FOUND) == (route != NULL));
    return result;
}

static void paths_are_split_at_the_last_slash(void **state) /* ADM-11 */
{
    (void)state;
    struct sl_slice service;
    struct sl_slice method;
    assert_true(sl_routes_split(sl_slice_str("/a.B/C"), &service, &method));
    assert_true(sl_slice_equals(service, "a.B"));
    assert_true(sl_slice_equals(method, "C"));
    assert_true(sl_routes_split(sl_slice_str("/x/y/z"), &service, &method));
    assert_true(sl_slice_equals(service, "x/y"));
    static const char *const bad[] = { "", "/", "//", "a/b", "/a", "/a/", "//b", "a" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(sl_routes_split(sl_slice_str(bad[i]), &service, &method));
    }
    assert_false(sl_routes_split(sl_slice_of("/a\0b/c", 6), &service, &method));
}

static void paths_are_compared_byte_by_byte(void **state)
{
    (void)state;
    struct sl_routes routes = { 0 };
    assert_int_equal(add(&routes, "/a.B/C"), SL_OK);
    assert_int_equal(find(&routes, "/a.B/C"), SL_ROUTE_FOUND);
    assert_int_equal(find(&routes, "/a.B/c"), SL_ROUTE_NO_METHOD);
    assert_int_equal(find(&routes, "/a.b/C"), SL_ROUTE_NO_SERVICE);
    assert_int_equal(find(&routes, "/a.B/%43"), SL_ROUTE_NO_METHOD);
    assert_int_equal(find(&routes, "/a.B//C"), SL_ROUTE_NO_SERVICE);
    assert_int_equal(find(&routes, "a.B/C"), SL_ROUTE_BAD_PATH);
    sl_routes_done(&routes);
}

static void many_routes_are_found(void **state)
{
    (void)state;
    struct sl_routes routes = { 0 };
    char path[32];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(path, sizeof(path), "/s%d/m%d", i % 10, i);
        assert_int_equal(add(&routes, path), SL_OK);
    }
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(path, sizeof(path), "/s%d/m%d", i % 10, i);
        assert_int_equal(find(&routes, path), SL_ROUTE_FOUND);
        assert_int_equal(add(&routes, path), SL_ALREADY_EXISTS);
    }
    sl_routes_done(&routes);
}

static enum sl_call_class class_of(const struct sl_routes *routes, const char *path)
{
    return sl_routes_get(routes, sl_slice_str(path))->call_class;
}

static void class_needs_no_order(void **state) /* ADM-9 */
{
    (void)state;
    struct sl_routes routes = { 0 };
    assert_int_equal(sl_routes_set_class(&routes, "/a/first", SL_CLASS_CONTROL), SL_OK);
    assert_int_equal(find(&routes, "/a/first"), SL_ROUTE_NO_SERVICE);
    assert_int_equal(add(&routes, "/a/first"), SL_OK);
    assert_int_equal(add(&routes, "/a/second"), SL_OK);
    assert_int_equal(sl_routes_set_class(&routes, "/a/second", SL_CLASS_OBSERVER), SL_OK);
    assert_int_equal(add(&routes, "/a/third"), SL_OK);
    assert_int_equal(class_of(&routes, "/a/first"), SL_CLASS_CONTROL);
    assert_int_equal(class_of(&routes, "/a/second"), SL_CLASS_OBSERVER);
    assert_int_equal(class_of(&routes, "/a/third"), SL_CLASS_TASK);
    assert_int_equal(
        sl_routes_set_class(&routes, "nonsense", SL_CLASS_CONTROL), SL_INVALID_ARGUMENT);
    sl_routes_done(&routes);
}

static void fallback_takes_canonical_paths_only(void **state) /* EM-4 */
{
    (void)state;
    struct sl_routes routes = { 0 };
    assert_int_equal(add(&routes, NULL), SL_OK);
    assert_int_equal(add(&routes, NULL), SL_ALREADY_EXISTS);
    assert_int_equal(find(&routes, "/any/thing"), SL_ROUTE_FOUND);
    assert_int_equal(find(&routes, "thing"), SL_ROUTE_BAD_PATH);
    const struct sl_route unimplemented = { .path = "/a/b" };
    assert_int_equal(sl_routes_add(&routes, &unimplemented), SL_OK);
    assert_int_equal(find(&routes, "/a/b"), SL_ROUTE_NO_METHOD); /* it is registered: not the
                                                                    fallback's */
    sl_routes_done(&routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_split_at_the_last_slash),
        cmocka_unit_test(paths_are_compared_byte_by_byte),
        cmocka_unit_test(many_routes_are_found),
        cmocka_unit_test(class_needs_no_order),
        cmocka_unit_test(fallback_takes_canonical_paths_only),
    };
    return cmocka_run_group_tests_name("routes", tests, NULL, NULL);
}
