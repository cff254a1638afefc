/* The store of durability NONE: the log's window is all there is. */
#include <stdatomic.h>

#include "runtime/base/mem.h"
#include "runtime/store/store.h"

struct memory {
    struct sl_store base;
    atomic_size_t n_open;
};

static struct memory *from_base(struct sl_store *store)
{
    return SL_CONTAINER(store, struct memory, base);
}

static enum sl_status memory_begin_run(
    struct sl_store *store,
    const struct sl_store_run *run,
    sl_store_done_fn *on_done,
    void *user_data)
{
    (void)run;
    (void)on_done;
    (void)user_data;
    (void)atomic_fetch_add_explicit(&from_base(store)->n_open, 1, memory_order_relaxed);
    return SL_OK;
}

static enum sl_status memory_append(
    struct sl_store *store,
    const char *run_id,
    uint64_t first_sequence,
    struct sl_slice events,
    sl_store_done_fn *on_done,
    void *user_data)
{
    (void)store;
    (void)run_id;
    (void)first_sequence;
    (void)events;
    (void)on_done;
    (void)user_data;
    return SL_OK;
}

static enum sl_status memory_end_run(
    struct sl_store *store,
    const char *run_id,
    uint64_t last_sequence,
    sl_store_done_fn *on_done,
    void *user_data)
{
    (void)run_id;
    (void)last_sequence;
    (void)on_done;
    (void)user_data;
    (void)atomic_fetch_sub_explicit(&from_base(store)->n_open, 1, memory_order_relaxed);
    return SL_OK;
}

static bool memory_has_durability(const struct sl_store *store, enum sl_store_durability durability)
{
    (void)store;
    return durability == SL_STORE_NONE;
}

static size_t memory_n_open(const struct sl_store *store)
{
    const struct memory *memory = (const struct memory *)(const void *)store;
    return atomic_load_explicit(&memory->n_open, memory_order_relaxed);
}

static void memory_free(struct sl_store *store)
{
    (void)sl_free(from_base(store));
}

static const struct sl_store_ops memory_ops = {
    .begin_run = memory_begin_run,
    .append = memory_append,
    .end_run = memory_end_run,
    .has_durability = memory_has_durability,
    .n_open = memory_n_open,
    .free = memory_free,
};

enum sl_status sl_store_memory_new(struct sl_store **ret_store)
{
    struct memory *memory = sl_calloc(1, sizeof(*memory));
    if (memory == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memory->base.ops = &memory_ops;
    atomic_init(&memory->n_open, 0);
    *ret_store = &memory->base;
    return SL_OK;
}
