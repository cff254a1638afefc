#include "service/net/scratch.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sl_list all = { .next = &all, .previous = &all };

static struct sl_net_scratch *find(const struct sl_loop *loop)
{
    SL_LIST_EACH(node, &all) {
        struct sl_net_scratch *scratch = SL_CONTAINER(node, struct sl_net_scratch, node);
        if (scratch->loop == loop) {
            return scratch;
        }
    }
    return NULL;
}

struct sl_net_scratch *sl_net_scratch_ref(const struct sl_loop *loop)
{
    (void)pthread_mutex_lock(&lock);
    struct sl_net_scratch *scratch = find(loop);
    if (scratch == NULL) {
        scratch = sl_alloc(sizeof(*scratch)); /* pages that are not touched cost nothing */
        if (scratch != NULL) {
            scratch->loop = loop;
            scratch->n_users = 0;
            scratch->n_cipher = 0;
            sl_list_add_last(&all, &scratch->node);
        }
    }
    if (scratch != NULL) {
        scratch->n_users++;
    }
    (void)pthread_mutex_unlock(&lock);
    return scratch;
}

void sl_net_scratch_unref(struct sl_net_scratch *scratch)
{
    if (scratch == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&lock);
    scratch->n_users--;
    const bool is_last = scratch->n_users == 0;
    if (is_last) {
        sl_list_remove(&scratch->node);
    }
    (void)pthread_mutex_unlock(&lock);
    if (is_last) {
        (void)sl_free(scratch);
    }
}
