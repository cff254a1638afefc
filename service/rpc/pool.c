#include "service/rpc/pool.h"

#include <pthread.h>
#include <signal.h>

#include "runtime/base/mem.h"

enum { STACK_BYTES = 1024 * 1024 };

struct threads {
    struct sl_pool base;
    pthread_t *threads;
    size_t n_threads; /* that run */
    struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        struct sl_list waiting;
        size_t n_waiting, n_busy;
        bool is_closing;
    } shared;
};

static struct threads *from_base(struct sl_pool *pool)
{
    return SL_CONTAINER(pool, struct threads, base);
}

/* ---- A thread -------------------------------------------------------------------------------- */

/* `done` runs under the lock: the thread counts as free when its user hears of the end, and does
 * not touch the work behind it. */
static void *work_on(void *user_data)
{
    struct threads *self = user_data;
    (void)pthread_mutex_lock(&self->shared.lock);
    for (;;) {
        struct sl_list *node = sl_list_first(&self->shared.waiting);
        if (node == NULL && self->shared.is_closing) {
            break;
        }
        if (node == NULL) {
            (void)pthread_cond_wait(&self->shared.changed, &self->shared.lock);
            continue;
        }
        struct sl_pool_work *work = SL_CONTAINER(node, struct sl_pool_work, node);
        sl_list_remove(node);
        self->shared.n_waiting--;
        self->shared.n_busy++;
        (void)pthread_mutex_unlock(&self->shared.lock);
        work->run(work);
        (void)pthread_mutex_lock(&self->shared.lock);
        self->shared.n_busy--;
        work->done(work);
    }
    (void)pthread_mutex_unlock(&self->shared.lock);
    return NULL;
}

/* ---- The queue ------------------------------------------------------------------------------- */

static bool add(struct sl_pool *pool, struct sl_pool_work *work, uint64_t most_waiting)
{
    struct threads *self = from_base(pool);
    (void)pthread_mutex_lock(&self->shared.lock);
    /* Whoever has a thread that is free but not yet awake does not wait. */
    const size_t n_free = self->n_threads - self->shared.n_busy;
    const bool has_room =
        self->shared.n_waiting < n_free || self->shared.n_waiting - n_free < most_waiting;
    if (has_room) {
        sl_list_add_last(&self->shared.waiting, &work->node);
        self->shared.n_waiting++;
        (void)pthread_cond_signal(&self->shared.changed);
    }
    (void)pthread_mutex_unlock(&self->shared.lock);
    return has_room;
}

static bool take_back(struct sl_pool *pool, struct sl_pool_work *work)
{
    struct threads *self = from_base(pool);
    (void)pthread_mutex_lock(&self->shared.lock);
    const bool is_waiting = !sl_list_is_empty(&work->node);
    if (is_waiting) {
        sl_list_remove(&work->node);
        self->shared.n_waiting--;
    }
    (void)pthread_mutex_unlock(&self->shared.lock);
    return is_waiting;
}

bool sl_pool_is_busy(struct sl_pool *pool)
{
    struct threads *self = from_base(pool);
    (void)pthread_mutex_lock(&self->shared.lock);
    const bool is_busy = self->shared.n_busy > 0 || self->shared.n_waiting > 0;
    (void)pthread_mutex_unlock(&self->shared.lock);
    return is_busy;
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* False: the system gives no more threads. */
static bool start_thread(struct threads *self)
{
    pthread_attr_t attributes;
    size_t stack_bytes = 0;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_getstacksize(&attributes, &stack_bytes);
    if (stack_bytes < STACK_BYTES) {
        (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    }
    const int made = pthread_create(&self->threads[self->n_threads], &attributes, work_on, self);
    (void)pthread_attr_destroy(&attributes);
    self->n_threads += made == 0 ? 1 : 0;
    return made == 0;
}

static bool start_threads(struct threads *self, size_t n_threads)
{
    /* What a thread does to itself; blocked, such a fault ends the process without a word. */
    static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL };
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    for (size_t i = 0; i < SL_COUNT(own); i++) {
        (void)sigdelset(&all, own[i]);
    }
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_good = true;
    for (size_t i = 0; is_good && i < n_threads; i++) {
        is_good = start_thread(self);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_good;
}

enum sl_status sl_pool_new(size_t n_threads, struct sl_pool **ret_pool)
{
    struct threads *self = sl_calloc(1, sizeof(*self));
    if (self == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    self->base = (struct sl_pool){ .add = add, .take_back = take_back };
    sl_list_init(&self->shared.waiting);
    (void)pthread_mutex_init(&self->shared.lock, NULL);
    (void)pthread_cond_init(&self->shared.changed, NULL);
    self->threads = sl_calloc(n_threads, sizeof(pthread_t));
    if (self->threads == NULL || !start_threads(self, n_threads)) {
        (void)sl_pool_free(&self->base);
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_pool = &self->base;
    return SL_OK;
}

struct sl_pool *sl_pool_free(struct sl_pool *pool)
{
    if (pool == NULL) {
        return NULL;
    }
    struct threads *self = from_base(pool);
    (void)pthread_mutex_lock(&self->shared.lock);
    self->shared.is_closing = true;
    (void)pthread_cond_broadcast(&self->shared.changed);
    (void)pthread_mutex_unlock(&self->shared.lock);
    for (size_t i = 0; i < self->n_threads; i++) {
        (void)pthread_join(self->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&self->shared.changed);
    (void)pthread_mutex_destroy(&self->shared.lock);
    (void)sl_free(self->threads);
    return sl_free(self);
}
