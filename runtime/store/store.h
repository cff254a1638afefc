/* Where runs are recorded: the interface that the executor writes to, whatever stands behind it.
 *
 *   sl_store_begin_run ─▶ sl_store_append* ─▶ sl_store_end_run      one run, one owner
 *
 * What is kept is a property of the run (reliability 4.1). With durability NONE nothing outlives
 * the log's own window, and memory.c, the only implementation for it, just counts what is open.
 * Every call answers by its status; an implementation that has to wait says SL_PENDING and calls
 * on_done.
 */
#ifndef SL_RUNTIME_STORE_STORE_H
#define SL_RUNTIME_STORE_STORE_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_store;

enum sl_store_durability { SL_STORE_NONE, SL_STORE_ASYNC, SL_STORE_SYNC };

/* Of the request's metadata: clean UTF-8, the key is not empty. */
struct sl_store_pair {
    const char *key, *value;
};

/* A run, as the store sees it. Borrowed for the call. A store that outlives the run keeps the
 * metadata with it, each key once; memory.c keeps nothing of a run. Credentials never come here. */
struct sl_store_run {
    const char *run_id, *agent;
    enum sl_store_durability durability;
    uint64_t wall_ms;
    const struct sl_store_pair *metadata;
    size_t n_metadata;
};

/* Called on the loop that asked, never from inside the call that said SL_PENDING. */
typedef void(sl_store_done_fn)(void *user_data, enum sl_status status);

struct sl_store_ops {
    enum sl_status (*begin_run)(
        struct sl_store *store,
        const struct sl_store_run *run,
        sl_store_done_fn *on_done,
        void *user_data);
    enum sl_status (*append)(
        struct sl_store *store,
        const char *run_id,
        uint64_t first_sequence,
        struct sl_slice events,
        sl_store_done_fn *on_done,
        void *user_data);
    enum sl_status (*end_run)(
        struct sl_store *store,
        const char *run_id,
        uint64_t last_sequence,
        sl_store_done_fn *on_done,
        void *user_data);
    bool (*has_durability)(const struct sl_store *store, enum sl_store_durability durability);
    size_t (*n_open)(const struct sl_store *store);
    void (*free)(struct sl_store *store);
};

/* First member of every implementation. */
struct sl_store {
    const struct sl_store_ops *ops;
};

/* A store that keeps nothing beyond the process. Thread of all its calls: any. Owns: the caller;
 * sl_store_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_store_memory_new(struct sl_store **ret_store);
/* Accepts NULL; gives NULL. */
struct sl_store *sl_store_free(struct sl_store *store);

/* Fails: SL_UNIMPLEMENTED the store has not this durability. */
SL_CHECK enum sl_status sl_store_begin_run(
    struct sl_store *store,
    const struct sl_store_run *run,
    sl_store_done_fn *on_done,
    void *user_data);
/* Adds whole framed events, the first of which is number `first_sequence`. */
SL_CHECK enum sl_status sl_store_append(
    struct sl_store *store,
    const char *run_id,
    uint64_t first_sequence,
    struct sl_slice events,
    sl_store_done_fn *on_done,
    void *user_data);
/* The terminal event is number `last_sequence`. */
SL_CHECK enum sl_status sl_store_end_run(
    struct sl_store *store,
    const char *run_id,
    uint64_t last_sequence,
    sl_store_done_fn *on_done,
    void *user_data);
bool sl_store_has(const struct sl_store *store, enum sl_store_durability durability);
/* Runs that were begun and not ended. */
size_t sl_store_n_open(const struct sl_store *store);

#endif
