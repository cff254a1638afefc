/* The store of durability NONE: the log's window is all there is. */
#include "runtime/base/mem.h"
#include "runtime/store/store.h"

static enum sl_status memory_submit(struct sl_store *store, struct sl_store_request *request)
{
    (void)store;
    switch (request->kind) {
    case SL_STORE_RECOVER:
        return SL_END;
    case SL_STORE_RENEW:
        SL_CONTAINER(request, struct sl_store_renew, request)->lease_ms = 0;
        return SL_OK;
    case SL_STORE_READ:
    case SL_STORE_GET:
    case SL_STORE_LOAD:
        return SL_NOT_FOUND;
    case SL_STORE_LIST:
        SL_CONTAINER(request, struct sl_store_list, request)->n_runs = 0;
        SL_CONTAINER(request, struct sl_store_list, request)->next = 0;
        return SL_OK;
    case SL_STORE_BEGIN:
    case SL_STORE_APPEND:
    case SL_STORE_END:
        return SL_OK;
    case SL_STORE_SAVE:
        break;
    }
    return SL_UNIMPLEMENTED;
}

static bool memory_take_back(struct sl_store *store, struct sl_store_request *request)
{
    (void)store;
    (void)request;
    return false;
}

static bool memory_has_durability(const struct sl_store *store, enum sl_store_durability durability)
{
    (void)store;
    return durability == SL_STORE_NONE;
}

static void memory_free(struct sl_store *store)
{
    (void)sl_free(store);
}

static const struct sl_store_ops memory_ops = {
    .submit = memory_submit,
    .take_back = memory_take_back,
    .has_durability = memory_has_durability,
    .free = memory_free,
};

enum sl_status sl_store_memory_new(struct sl_store **ret_store)
{
    struct sl_store *store = sl_calloc(1, sizeof(*store));
    if (store == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    store->ops = &memory_ops;
    *ret_store = store;
    return SL_OK;
}
