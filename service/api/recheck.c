#include "service/api/recheck.h"

#include <time.h>

#include "runtime/base/loop.h"
#include "runtime/base/mem.h"
#include "service/api/identify_impl.h"

/* PIECE streams are asked in a turn: with 10,000 keys that takes a few milliseconds. */
enum { PERIOD_MS = 1000, PIECE = 32 };

/* Lives until sl_identify_free(). */
struct sl_recheck_loop {
    struct sl_recheck_loop *next; /* under the lock of sl_identify */
    struct sl_identify *identify;
    struct sl_loop *base;
    struct {
        struct sl_timer timer;
        struct sl_list open; /* asked, as far as `generation` and `expires_s` say */
        struct sl_list due;
        uint64_t generation; /* of the table when the last look began; 0: there was none */
        int64_t expires_s;   /* the first answer in `open` that is good no more */
    } loop;
};

/* ---- The look ----------------------------------------------------------------------------------
 */

/* Both are heads; `from` is empty afterwards. */
static void move_all(struct sl_list *from, struct sl_list *to)
{
    struct sl_list *node = sl_list_first(from);
    if (node != NULL) {
        sl_list_remove(from); /* what is left is a ring without a head */
        sl_list_remove(to);
        to->next = node;
        to->previous = node->previous;
        node->previous->next = to;
        node->previous = to;
    }
}

static enum sl_identity_standing
ask(const struct sl_identity *identity, struct sl_recheck *recheck, int64_t now_s)
{
    const struct sl_identify_known *known = sl_identify_known(recheck->call);
    if (identity == NULL) {
        return SL_IDENTITY_STANDS;
    }
    if (known == NULL) { /* it began when nothing was configured: no tenant of now has its run */
        return SL_IDENTITY_GONE;
    }
    const struct sl_identity_past past = { .caller = sl_identify_caller(known),
                                           .names = sl_call_peer_names(recheck->call),
                                           .method = strrchr(sl_call_path(recheck->call), '/') + 1,
                                           .agent = recheck->agent };
    return sl_identity_ask_again(identity, &past, now_s, &recheck->expires_s);
}

static void note_expiry(struct sl_recheck_loop *loop, const struct sl_recheck *recheck)
{
    if (recheck->expires_s < loop->loop.expires_s) {
        loop->loop.expires_s = recheck->expires_s;
    }
}

static void
ask_piece(struct sl_recheck_loop *loop, const struct sl_identity *identity, int64_t now_s)
{
    struct sl_list *node = sl_list_first(&loop->loop.due);
    for (size_t n = 0; n < PIECE && node != NULL; n++) {
        struct sl_recheck *recheck = SL_CONTAINER(node, struct sl_recheck, node);
        sl_list_remove(node);
        sl_list_add_last(&loop->loop.open, node);
        const enum sl_identity_standing standing = ask(identity, recheck, now_s);
        if (standing == SL_IDENTITY_STANDS) {
            note_expiry(loop, recheck);
        } else {
            recheck->on_revoked(recheck, standing); /* it may be gone */
        }
        node = sl_list_first(&loop->loop.due);
    }
}

static void look(void *user_data)
{
    struct sl_recheck_loop *loop = user_data;
    uint64_t generation;
    struct sl_identity *identity = sl_identify_take_newest(loop->identify, &generation);
    const int64_t now_s = time(NULL);
    const bool is_new = generation != loop->loop.generation || now_s >= loop->loop.expires_s;
    if (sl_list_is_empty(&loop->loop.due) && is_new) {
        loop->loop.generation = generation;
        loop->loop.expires_s = INT64_MAX;
        move_all(&loop->loop.open, &loop->loop.due);
    }
    ask_piece(loop, identity, now_s);
    (void)sl_identity_unref(identity);
    if (!sl_list_is_empty(&loop->loop.due)) {
        sl_timer_start_ms(&loop->loop.timer, 0); /* in the next turn */
    } else if (!sl_list_is_empty(&loop->loop.open)) {
        sl_timer_start_ms(&loop->loop.timer, PERIOD_MS);
    }
}

/* ---- Streams -----------------------------------------------------------------------------------
 */

static struct sl_recheck_loop *add_loop(struct sl_identify *identify, struct sl_loop *base)
{
    struct sl_recheck_loop *loop = sl_calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return NULL;
    }
    loop->identify = identify;
    loop->base = base;
    loop->loop.expires_s = INT64_MAX;
    sl_list_init(&loop->loop.open);
    sl_list_init(&loop->loop.due);
    sl_timer_init(&loop->loop.timer, base, look, loop);
    loop->next = identify->shared.loops;
    identify->shared.loops = loop;
    return loop;
}

/* NULL: no memory. There are as many as there are loops: few. */
static struct sl_recheck_loop *find_loop(struct sl_identify *identify, struct sl_loop *base)
{
    (void)pthread_mutex_lock(&identify->shared.lock);
    struct sl_recheck_loop *loop = identify->shared.loops;
    while (loop != NULL && loop->base != base) {
        loop = loop->next;
    }
    loop = loop == NULL ? add_loop(identify, base) : loop;
    (void)pthread_mutex_unlock(&identify->shared.lock);
    return loop;
}

void sl_recheck_init(
    struct sl_recheck *recheck,
    const struct sl_call *call,
    void (*on_revoked)(struct sl_recheck *recheck, enum sl_identity_standing why))
{
    *recheck =
        (struct sl_recheck){ .call = call, .expires_s = INT64_MAX, .on_revoked = on_revoked };
    sl_list_init(&recheck->node);
}

enum sl_status
sl_recheck_start(struct sl_recheck *recheck, struct sl_identify *identify, const char *agent)
{
    const struct sl_identify_known *known = sl_identify_known(recheck->call);
    struct sl_recheck_loop *loop = find_loop(identify, sl_call_loop(recheck->call));
    if (loop == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    recheck->loop = loop;
    recheck->agent = agent;
    recheck->expires_s = known == NULL ? INT64_MAX : known->expires_s;
    note_expiry(loop, recheck);
    sl_list_add_last(&loop->loop.open, &recheck->node);
    if (!sl_timer_is_running(&loop->loop.timer)) {
        sl_timer_start_ms(&loop->loop.timer, PERIOD_MS);
    }
    return SL_OK;
}

void sl_recheck_stop(struct sl_recheck *recheck)
{
    struct sl_recheck_loop *loop = SL_TAKE(recheck->loop);
    if (loop == NULL) {
        return;
    }
    sl_list_remove(&recheck->node);
    if (sl_list_is_empty(&loop->loop.open) && sl_list_is_empty(&loop->loop.due)) {
        sl_timer_stop(&loop->loop.timer);
    }
}

void sl_recheck_free_loops(struct sl_identify *identify)
{
    while (identify->shared.loops != NULL) {
        struct sl_recheck_loop *loop = identify->shared.loops;
        identify->shared.loops = loop->next;
        (void)sl_free(loop);
    }
}
