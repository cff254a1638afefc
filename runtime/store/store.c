#include "runtime/store/store.h"

struct sl_store *sl_store_free(struct sl_store *store)
{
    if (store != NULL) {
        store->ops->free(store);
    }
    return NULL;
}

enum sl_status sl_store_begin_run(
    struct sl_store *store,
    const struct sl_store_run *run,
    sl_store_done_fn *on_done,
    void *user_data)
{
    if (!sl_store_has(store, run->durability)) {
        return SL_UNIMPLEMENTED;
    }
    return store->ops->begin_run(store, run, on_done, user_data);
}

enum sl_status sl_store_append(
    struct sl_store *store,
    const char *run_id,
    uint64_t first_sequence,
    struct sl_slice events,
    sl_store_done_fn *on_done,
    void *user_data)
{
    return store->ops->append(store, run_id, first_sequence, events, on_done, user_data);
}

enum sl_status sl_store_end_run(
    struct sl_store *store,
    const char *run_id,
    uint64_t last_sequence,
    sl_store_done_fn *on_done,
    void *user_data)
{
    return store->ops->end_run(store, run_id, last_sequence, on_done, user_data);
}

bool sl_store_has(const struct sl_store *store, enum sl_store_durability durability)
{
    return store->ops->has_durability(store, durability);
}

size_t sl_store_n_open(const struct sl_store *store)
{
    return store->ops->n_open(store);
}
