/* Requests on their way from the loops to a thread of a store.
 *
 * Appends are charged: what was put in and is not answered yet, of all runs and of each, is
 * bounded. The bound is soft by one append of each run, whose owner is told; nothing is copied for
 * it, and what it refers to is in the run's log anyway. */
#ifndef SL_RUNTIME_STORE_QUEUE_H
#define SL_RUNTIME_STORE_QUEUE_H

#include <pthread.h>

#include "runtime/store/store.h"

struct sl_store_queue {
    size_t max_bytes, max_run_bytes;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t filled;
        struct sl_list requests;
        size_t n_requests; /* here; */
        size_t bytes;      /* charged, those in the thread's hands too */
        bool is_closed;
    } shared;
};

/* Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_store_queue_init(struct sl_store_queue *queue, size_t max_bytes, size_t max_run_bytes);
void sl_store_queue_done(struct sl_store_queue *queue);

/* Thread: any. */
void sl_store_queue_put(struct sl_store_queue *queue, struct sl_store_request *request);
/* The same for one that is charged with its charged_bytes: SL_PENDING, or SL_AGAIN over a bound.
 * Fails: SL_RESOURCE_EXHAUSTED the owner was told to wait and did not. */
SL_CHECK enum sl_status sl_store_queue_put_charged(
    struct sl_store_queue *queue, struct sl_store_request *request, struct sl_store_log *log);
/* It is about to be answered. Thread: the store's. */
void sl_store_queue_discharge(
    struct sl_store_queue *queue, struct sl_store_request *request, struct sl_store_log *log);
/* True: it was still here, and is out now. Thread: any. */
bool sl_store_queue_remove(struct sl_store_queue *queue, struct sl_store_request *request);

/* Moves the oldest requests to `ret_batch`, an empty list: at least one, and then no more than
 * `max_bytes` of charge and `max_requests`. Waits for one, at most `wait_ms` (UINT64_MAX: for
 * ever). False: the queue was closed, and is empty. Thread: the store's. */
bool sl_store_queue_take(
    struct sl_store_queue *queue,
    size_t max_bytes,
    size_t max_requests,
    uint64_t wait_ms,
    struct sl_list *ret_batch);
/* Nothing is put in any more. */
void sl_store_queue_close(struct sl_store_queue *queue);
void sl_store_queue_look(struct sl_store_queue *queue, size_t *ret_bytes, size_t *ret_n_requests);

#endif
