/* Property: what is read as that which a store keeps of a run can be taken up, and the run then
 * ends in order; the rest is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/exec/resume.h"
#include "tests/fake/exec_rig.h"
#include "tests/fake/fake_store.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_BYTES = 1 << 22, STORED = 10 };

static bool can_be_read(struct sl_slice bytes)
{
    struct sl_resume resume = { NULL };
    struct sl_history history;
    sl_history_init(&history, MAX_BYTES);
    const bool is_sound = sl_resume_read(bytes, &resume) == SL_OK &&
                          sl_resume_conversation(&resume, &history) == SL_OK;
    sl_resume_done(&resume);
    sl_history_done(&history);
    return is_sound;
}

static void take_up(struct sl_slice bytes)
{
    static struct sl_exec_rig rig;
    static struct sl_fake_store store;
    sl_exec_rig_init(&rig, "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add, asked]\n");
    sl_fake_store_init(&store);
    (void)sl_store_free(rig.store);
    rig.store = rig.env.store = &store.base;
    rig.settings.durability = SL_STORE_ASYNC;
    rig.has_ended = true;
    store.is_begun = true;
    store.stored = STORED;
    sl_exec_rig_take_up(&rig, bytes, STORED);
    sl_exec_rig_crash(&rig);
    if (!store.is_ended) {
        abort();
    }
    rig.is_refused = true; /* nothing more to check */
    sl_exec_rig_done(&rig);
    sl_fake_store_done(&store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sl_slice bytes = sl_slice_of(data, size);
    if (can_be_read(bytes)) {
        take_up(bytes);
    }
    return 0;
}
