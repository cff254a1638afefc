/* The runs that can be asked for: each from its first event until limits.window_keep after its
 * last, or until there is no room for it. A known run lives on its run's loop; the directory tells
 * which that is.
 *
 *   begin ─▶ [running] ─ ending ─▶ ended ─▶ [kept] ─(time, room, stop)─▶ forgotten
 *              │  ▲ readers: observers, on any loop      ▲ log, conversation, how it ended
 *              └─ waiters: queries that want the end
 *
 * Everything here happens on that loop. */
#ifndef SL_RUNTIME_KNOWN_H
#define SL_RUNTIME_KNOWN_H

#include "runtime/runtime_private.h"

/* What is kept of one that has ended. */
struct sl_known_end {
    uint64_t ended_ms, forget_ns, kept_bytes;
    struct sl_ending ending;
    struct sl_usage used;
    struct sl_history history;
    struct sl_approvals approvals;
};

struct sl_known_run {
    struct sl_directory_run entry;
    struct sl_runtime_loop *at;
    struct sl_list node;              /* of all on this loop, oldest first */
    struct sl_list ended_node;        /* of those that are kept, in the order of their end */
    struct sl_list readers;           /* observers: sl_run_stream.run.reader_node */
    struct sl_list waiters;           /* sl_run_query.waiter_node */
    struct sl_event_channel *channel; /* referenced */
    struct sl_run *run;               /* NULL: it is over */
    struct sl_known_end end;          /* there is room for it: a run never ends unknown */
    bool has_ended;
    bool was_recorded; /* once it is over */
    uint64_t created_ms;
    uint64_t reserved_bytes;              /* of all windows; 0: its share is enough */
    const struct sl_store_pair *metadata; /* in the run's history, and so in the end's */
    size_t n_metadata;
    const char *session_id;     /* the same; NULL: none */
    const char *agent, *tenant; /* behind the struct */
    char texts[];
};

/* The window that each run has for certain: half of what all windows may hold is shared out, so
 * that no account is needed. */
uint32_t sl_window_share(const struct sl_limits *limits);
/* Of a run that goes on without its reader: the whole limits.window, from the other half, so that
 * what was on its way to the reader can be sent again. 0: it has its share. Owns: the run, until
 * sl_known_release_window(). */
uint32_t sl_known_reserve_window(const struct sl_run_stream *stream);
void sl_known_release_window(struct sl_runtime *runtime, uint64_t reserved_bytes);

/* Memory of one that has ended, but for its readers. */
uint64_t sl_known_memory(const struct sl_known_run *known);

/* Makes the run of `stream`, which has not begun, known, with the window that is reserved for it.
 * Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_known_begin(struct sl_run_stream *stream);
/* The run has not begun after all. Accepts NULL; gives NULL. */
struct sl_known_run *sl_known_drop(struct sl_known_run *known);
/* The terminal event is in the log, which is not ended yet. */
void sl_known_ending(struct sl_known_run *known, const struct sl_ending *ending);
/* The run is over, and about to be freed: what is kept of it is taken. `known` may be gone
 * afterwards. */
void sl_known_ended(struct sl_known_run *known);

/* NULL: it is not known on this loop, or another tenant's. */
struct sl_known_run *
sl_known_find(struct sl_runtime_loop *at, const char *run_id, const char *tenant);

/* A way through the runs of a loop, from the newest to the oldest, that takes several tasks: what
 * is forgotten meanwhile is not met, nor what begins. */
struct sl_known_walk {
    struct sl_list node;  /* of those that are on their way */
    struct sl_list *next; /* a run's, or the head */
};
void sl_known_walk_begin(struct sl_known_walk *walk, struct sl_runtime_loop *at);
/* NULL: that was the last one, and the walk has ended. */
struct sl_known_run *sl_known_walk_on(struct sl_known_walk *walk, struct sl_runtime_loop *at);

/* The store has it, too. */
bool sl_known_is_recorded(const struct sl_known_run *known);

/* An observer comes, or goes: DETACH_FOR counts them. */
void sl_known_add_reader(struct sl_known_run *known, struct sl_run_stream *stream);
void sl_known_remove_reader(struct sl_run_stream *stream);

void sl_known_init_loop(struct sl_runtime_loop *at);
/* The runtime stops: what has ended is forgotten at once from now on. */
void sl_known_stop_loop(struct sl_runtime_loop *at);

#endif
