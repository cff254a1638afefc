/* The store of a runtime: how it is opened, and how it is with it. */
#include "runtime/runtime_private.h"

/* Whoever has the old one by now has written nothing. */
static void use_store(struct sl_runtime *runtime, struct sl_store *store)
{
    (void)sl_store_free(runtime->store);
    runtime->store = store;
    runtime->has_store = true;
    runtime->follow_stored = sl_run_observe; /* which asks the store */
    for (size_t i = 0; i < runtime->n_loops; i++) {
        runtime->newest->loops[i].env.store = store;
        runtime->newest->loops[i].env.lease = sl_lease_at(runtime->lease, i);
    }
    sl_lease_start(runtime->lease);
}

static void hold(void *user_data)
{
    sl_runtime_hold(user_data);
}

static void release(void *user_data)
{
    sl_runtime_release(user_data);
}

static enum sl_status make_lease(struct sl_runtime *runtime, struct sl_store *store)
{
    const struct sl_lease_options options = { .store = store,
                                              .loops = runtime->bases,
                                              .n_loops = runtime->n_loops,
                                              .hold = hold,
                                              .release = release,
                                              .user_data = runtime };
    return sl_lease_new(&options, &runtime->lease);
}

enum sl_status sl_runtime_open_store(
    struct sl_runtime *runtime, const struct sl_runtime_store *options, struct sl_error *err)
{
    const struct sl_limits *limits = &runtime->newest->limits;
    const struct sl_store_sqlite_options sqlite = {
        .path = options->path,
        .is_normal = options->is_normal,
        .quarantine = options->quarantine,
        .max_queue_bytes = limits->store_queue,
        .max_run_bytes = limits->store_queue_run,
        .keep_ms = options->keep_ms,
        .keep_bytes = options->keep_bytes,
        .min_free_percent = options->min_free_percent,
    };
    struct sl_store *store = NULL;
    SL_TRY(sl_store_sqlite_new(&sqlite, &store, err));
    if (make_lease(runtime, store) != SL_OK) {
        (void)sl_store_free(store);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the store");
    }
    use_store(runtime, store);
    return SL_OK;
}

void sl_runtime_store_stats(
    const struct sl_runtime *runtime, struct sl_runtime_store_stats *ret_stats)
{
    struct sl_store_stats stats;
    *ret_stats = (struct sl_runtime_store_stats){ .is_there = runtime->has_store };
    if (!runtime->has_store) {
        return;
    }
    sl_store_stats(runtime->store, &stats);
    ret_stats->is_failing = stats.is_failing;
    ret_stats->queued_bytes = stats.queued_bytes;
    ret_stats->queued_requests = stats.queued_requests;
    ret_stats->commits = stats.commits;
    ret_stats->failed_commits = stats.failed_commits;
    ret_stats->commit_ns = stats.commit_ns;
    ret_stats->longest_commit_ns = stats.longest_commit_ns;
    ret_stats->appends = stats.appends;
    ret_stats->event_bytes = stats.event_bytes;
    ret_stats->wal_bytes = stats.wal_bytes;
    ret_stats->kept_bytes = stats.kept_bytes;
    ret_stats->runs_open = sl_store_n_open(runtime->store);
    ret_stats->runs_removed = stats.runs_removed;
    ret_stats->runs_recovered = atomic_load_explicit(&runtime->n_recovered, memory_order_relaxed);
}
