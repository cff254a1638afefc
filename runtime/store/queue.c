#include "runtime/store/queue.h"

#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

enum sl_status
sl_store_queue_init(struct sl_store_queue *queue, size_t max_bytes, size_t max_run_bytes)
{
    *queue = (struct sl_store_queue){ .max_bytes = max_bytes, .max_run_bytes = max_run_bytes };
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    const bool is_ready = pthread_cond_init(&queue->shared.filled, &attributes) == 0;
    (void)pthread_condattr_destroy(&attributes);
    if (!is_ready) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)pthread_mutex_init(&queue->shared.lock, NULL);
    sl_list_init(&queue->shared.requests);
    return SL_OK;
}

void sl_store_queue_done(struct sl_store_queue *queue)
{
    (void)pthread_mutex_destroy(&queue->shared.lock);
    (void)pthread_cond_destroy(&queue->shared.filled);
}

static void put(struct sl_store_queue *queue, struct sl_store_request *request)
{
    assert(!queue->shared.is_closed);
    sl_list_add_last(&queue->shared.requests, &request->node);
    request->is_queued = true;
    queue->shared.n_requests++;
    (void)pthread_cond_signal(&queue->shared.filled);
}

void sl_store_queue_put(struct sl_store_queue *queue, struct sl_store_request *request)
{
    (void)pthread_mutex_lock(&queue->shared.lock);
    put(queue, request);
    (void)pthread_mutex_unlock(&queue->shared.lock);
}

enum sl_status sl_store_queue_put_charged(
    struct sl_store_queue *queue, struct sl_store_request *request, struct sl_store_log *log)
{
    enum sl_status status = SL_PENDING;
    (void)pthread_mutex_lock(&queue->shared.lock);
    if (log->is_over) {
        status = SL_RESOURCE_EXHAUSTED;
    } else {
        queue->shared.bytes += request->charged_bytes;
        log->queued_bytes += request->charged_bytes;
        if (queue->shared.bytes > queue->max_bytes) {
            sl_limit_reached(SL_LIMIT_store_queue);
            status = SL_AGAIN;
        } else if (log->queued_bytes > queue->max_run_bytes) {
            sl_limit_reached(SL_LIMIT_store_queue_run);
            status = SL_AGAIN;
        }
        log->is_over = status == SL_AGAIN;
        put(queue, request);
    }
    (void)pthread_mutex_unlock(&queue->shared.lock);
    return status;
}

void sl_store_queue_discharge(
    struct sl_store_queue *queue, struct sl_store_request *request, struct sl_store_log *log)
{
    (void)pthread_mutex_lock(&queue->shared.lock);
    queue->shared.bytes -= request->charged_bytes;
    log->queued_bytes -= request->charged_bytes;
    if (log->queued_bytes == 0) {
        log->is_over = false; /* the one that was over is the last of its run, and done now */
    }
    (void)pthread_mutex_unlock(&queue->shared.lock);
}

bool sl_store_queue_remove(struct sl_store_queue *queue, struct sl_store_request *request)
{
    (void)pthread_mutex_lock(&queue->shared.lock);
    const bool is_here = request->is_queued;
    if (is_here) {
        sl_list_remove(&request->node);
        request->is_queued = false;
        queue->shared.n_requests--;
    }
    (void)pthread_mutex_unlock(&queue->shared.lock);
    return is_here;
}

static struct timespec time_in(uint64_t ms)
{
    struct timespec when = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec += (time_t)(ms / 1000);
    when.tv_nsec += (long)(ms % 1000 * SL_NS_PER_MS);
    if (when.tv_nsec >= (long)SL_NS_PER_S) {
        when.tv_sec++;
        when.tv_nsec -= (long)SL_NS_PER_S;
    }
    return when;
}

static void wait_for_one(struct sl_store_queue *queue, uint64_t wait_ms)
{
    const struct timespec until = time_in(wait_ms == UINT64_MAX ? 0 : wait_ms);
    int failure = 0;
    while (sl_list_is_empty(&queue->shared.requests) && !queue->shared.is_closed && failure == 0) {
        failure = wait_ms == UINT64_MAX
                      ? pthread_cond_wait(&queue->shared.filled, &queue->shared.lock)
                      : pthread_cond_timedwait(&queue->shared.filled, &queue->shared.lock, &until);
    }
}

bool sl_store_queue_take(
    struct sl_store_queue *queue,
    size_t max_bytes,
    size_t max_requests,
    uint64_t wait_ms,
    struct sl_list *ret_batch)
{
    (void)pthread_mutex_lock(&queue->shared.lock);
    wait_for_one(queue, wait_ms);
    size_t n_bytes = 0;
    for (size_t n = 0; n < max_requests && !sl_list_is_empty(&queue->shared.requests); n++) {
        struct sl_list *node = sl_list_first(&queue->shared.requests);
        struct sl_store_request *request = SL_CONTAINER(node, struct sl_store_request, node);
        n_bytes += request->charged_bytes;
        if (n > 0 && n_bytes > max_bytes) {
            break;
        }
        sl_list_remove(node);
        sl_list_add_last(ret_batch, node);
        request->is_queued = false;
        queue->shared.n_requests--;
    }
    const bool is_over = queue->shared.is_closed && sl_list_is_empty(ret_batch);
    (void)pthread_mutex_unlock(&queue->shared.lock);
    return !is_over;
}

void sl_store_queue_close(struct sl_store_queue *queue)
{
    (void)pthread_mutex_lock(&queue->shared.lock);
    queue->shared.is_closed = true;
    (void)pthread_cond_broadcast(&queue->shared.filled);
    (void)pthread_mutex_unlock(&queue->shared.lock);
}

void sl_store_queue_look(struct sl_store_queue *queue, size_t *ret_bytes, size_t *ret_n_requests)
{
    (void)pthread_mutex_lock(&queue->shared.lock);
    *ret_bytes = queue->shared.bytes;
    *ret_n_requests = queue->shared.n_requests;
    (void)pthread_mutex_unlock(&queue->shared.lock);
}
