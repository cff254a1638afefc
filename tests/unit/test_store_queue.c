#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/store/queue.h"

static void ready(struct sl_store_request *request, size_t charged_bytes)
{
    *request = (struct sl_store_request){ .charged_bytes = charged_bytes };
    sl_list_init(&request->node);
}

static size_t take(struct sl_store_queue *queue, size_t max_bytes, size_t max_requests)
{
    struct sl_list batch;
    sl_list_init(&batch);
    size_t n = 0;
    if (!sl_store_queue_take(queue, max_bytes, max_requests, 0, &batch)) {
        return SIZE_MAX;
    }
    SL_LIST_EACH(node, &batch) {
        sl_list_remove(node);
        n++;
    }
    return n;
}

static void a_run_over_its_bound_waits_until_it_is_empty(void **state)
{
    (void)state;
    struct sl_store_queue queue;
    struct sl_store_request requests[4];
    struct sl_store_log log = { 0 };
    struct sl_store_log other = { 0 };
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_store_queue_run);
    assert_int_equal(sl_store_queue_init(&queue, 1000, 100), SL_OK);
    for (size_t i = 0; i < SL_COUNT(requests); i++) {
        ready(&requests[i], 60);
    }
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[0], &log), SL_PENDING);
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[1], &log), SL_AGAIN);
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[2], &log), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(log.queued_bytes, 120);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_store_queue_run), n_before + 1);
    /* Another run is not held up by it. */
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[3], &other), SL_PENDING);
    assert_int_equal(take(&queue, SIZE_MAX, 10), 3);
    sl_store_queue_discharge(&queue, &requests[0], &log);
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[2], &log), SL_RESOURCE_EXHAUSTED);
    sl_store_queue_discharge(&queue, &requests[1], &log);
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[2], &log), SL_PENDING);
    sl_store_queue_done(&queue);
}

static void all_runs_together_have_a_bound(void **state)
{
    (void)state;
    struct sl_store_queue queue;
    struct sl_store_request requests[4];
    struct sl_store_log logs[4] = { { 0 } };
    size_t n_bytes = 0;
    size_t n_requests = 0;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_store_queue);
    assert_int_equal(sl_store_queue_init(&queue, 100, 100), SL_OK);
    for (size_t i = 0; i < SL_COUNT(requests); i++) {
        ready(&requests[i], 60);
        assert_int_equal(
            sl_store_queue_put_charged(&queue, &requests[i], &logs[i]),
            i == 0 ? SL_PENDING : SL_AGAIN);
    }
    sl_store_queue_look(&queue, &n_bytes, &n_requests);
    assert_int_equal(n_bytes, 240);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_store_queue), n_before + 3);
    assert_int_equal(n_requests, 4);
    assert_int_equal(take(&queue, SIZE_MAX, 10), 4);
    for (size_t i = 0; i < SL_COUNT(requests); i++) {
        sl_store_queue_discharge(&queue, &requests[i], &logs[i]);
    }
    ready(&requests[0], 100);
    assert_int_equal(sl_store_queue_put_charged(&queue, &requests[0], &logs[0]), SL_PENDING);
    sl_store_queue_done(&queue);
}

static void a_batch_has_bounds_and_at_least_one(void **state)
{
    (void)state;
    struct sl_store_queue queue;
    struct sl_store_request requests[6];
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_queue_init(&queue, 10000, 10000), SL_OK);
    for (size_t i = 0; i < SL_COUNT(requests); i++) {
        ready(&requests[i], i == 0 ? 500 : 40);
        assert_int_equal(sl_store_queue_put_charged(&queue, &requests[i], &log), SL_PENDING);
    }
    assert_int_equal(take(&queue, 100, 10), 1); /* larger than the bound, and alone */
    assert_int_equal(take(&queue, 100, 10), 2);
    assert_int_equal(take(&queue, 100, 1), 1);
    assert_int_equal(take(&queue, 100, 10), 2);
    assert_int_equal(take(&queue, 100, 10), 0);
    sl_store_queue_done(&queue);
}

static void what_is_taken_cannot_be_removed(void **state)
{
    (void)state;
    struct sl_store_queue queue;
    struct sl_store_request requests[2];
    struct sl_list batch;
    sl_list_init(&batch);
    assert_int_equal(sl_store_queue_init(&queue, 0, 0), SL_OK);
    ready(&requests[0], 0);
    ready(&requests[1], 0);
    sl_store_queue_put(&queue, &requests[0]);
    sl_store_queue_put(&queue, &requests[1]);
    assert_true(sl_store_queue_take(&queue, 0, 1, 0, &batch));
    assert_false(sl_store_queue_remove(&queue, &requests[0]));
    assert_true(sl_store_queue_remove(&queue, &requests[1]));
    assert_false(sl_store_queue_remove(&queue, &requests[1]));
    sl_store_queue_done(&queue);
}

static void a_closed_queue_gives_what_is_left(void **state)
{
    (void)state;
    struct sl_store_queue queue;
    struct sl_store_request request;
    assert_int_equal(sl_store_queue_init(&queue, 0, 0), SL_OK);
    ready(&request, 0);
    sl_store_queue_put(&queue, &request);
    sl_store_queue_close(&queue);
    assert_int_equal(take(&queue, 100, 10), 1);
    assert_int_equal(take(&queue, 100, 10), SIZE_MAX);
    sl_store_queue_done(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_over_its_bound_waits_until_it_is_empty),
        cmocka_unit_test(all_runs_together_have_a_bound),
        cmocka_unit_test(a_batch_has_bounds_and_at_least_one),
        cmocka_unit_test(what_is_taken_cannot_be_removed),
        cmocka_unit_test(a_closed_queue_gives_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
