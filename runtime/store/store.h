/* Where runs are recorded: the interface that the executor writes to, whatever stands behind it.
 *
 *   begin ─▶ append* ─▶ end          one run, one owner: number, epoch, last sequence in its log
 *   recover ─▶ append* ─▶ end        the same, of a run whose owner is gone
 *   read, get, list, load            for everybody
 *
 * What is kept is a property of the run (reliability 4.1). With durability NONE nothing outlives
 * the log's own window: every store just counts what is open, and answers at once. memory.c has no
 * other durability. sqlite.c keeps runs in a file.
 *
 * Each operation is a request, embedded in its owner. It answers by the status of its call, or says
 * SL_PENDING; then on_done comes on the loop of the request, never from inside the call, and until
 * then the request and all that it points to must stay. No call blocks. Events are not copied on
 * the loop: an append holds references to segments of the run's log until it is done.
 *
 * An append adds consecutive events behind what is stored. It is conditional (reliability 4.2): the
 * store has this run with this epoch and this last sequence, or nothing happens. What fails, fails
 * for its own run only. */
#ifndef SL_RUNTIME_STORE_STORE_H
#define SL_RUNTIME_STORE_STORE_H

#include <stdatomic.h>

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/base/event_channel.h"
#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_store;

enum sl_store_durability { SL_STORE_NONE, SL_STORE_ASYNC, SL_STORE_SYNC };

/* Where a run stands; the numbers of sluice.v1.RunState. */
enum sl_store_state {
    SL_STORE_STATE_ANY = 0,
    SL_STORE_STATE_QUEUED = 1,
    SL_STORE_STATE_RUNNING = 2,
    SL_STORE_STATE_WAITING = 3,
    SL_STORE_STATE_DONE = 4,
    SL_STORE_STATE_FAILED = 5,
    SL_STORE_STATE_CANCELLED = 6
};

enum {
    SL_STORE_RANGES = 16,            /* of one append: 256 KiB in segments of 16 KiB */
    SL_STORE_READ_BYTES = 64 * 1024, /* of one row, and of one read, unless an event is larger */
    SL_STORE_PAGE = 1000             /* runs of one answer */
};

/* What is kept of a run's own conversation. */
enum sl_store_context {
    SL_STORE_CONTEXT_NONE,   /* nothing: it was not given, or an older version made the run */
    SL_STORE_CONTEXT_BASE,   /* as it was at some event: of a run that was not ended with it */
    SL_STORE_CONTEXT_FINAL,  /* the whole one of a run that has ended */
    SL_STORE_CONTEXT_DAMAGED /* it cannot be read any more */
};

/* Of the request's metadata: clean UTF-8, the key is not empty. */
struct sl_store_pair {
    const char *key, *value;
};

/* A run, as the store knows it. A store that outlives the run keeps the metadata with it, each key
 * once. Credentials never come here. NULL texts are "". */
struct sl_store_run {
    const char *run_id, *tenant, *agent;
    const char *session_id; /* "": none */
    const char *request_id; /* "": none; else unique in the tenant */
    struct sl_slice digest; /* of the request, to tell a repeat from a reuse; at most 64 bytes */
    enum sl_store_durability durability;
    uint32_t on_disconnect; /* number of sluice.v1.OnDisconnect */
    uint64_t created_ms;    /* Unix */
    const struct sl_store_pair *metadata;
    size_t n_metadata;
    struct sl_slice resume; /* what it takes to take the run up again; empty: nothing */
    /* Its conversation as it begins, in the executor's own form; empty: it is not kept. Of an
     * answer: as it is, if it was asked for. */
    struct sl_slice context;
    bool keeps_session; /* that of session_id is in this store; no answer has it */

    /* What the store adds; begin does not read it. */
    uint64_t number; /* of a list: its place there, see sl_store_list.before */
    enum sl_store_state state;
    const char *node; /* that has it, or had */
    uint64_t epoch;
    uint64_t ended_ms;        /* 0: it has not ended */
    uint64_t last_sequence;   /* stored; 0: nothing */
    uint64_t floor;           /* sequence of the oldest event that is kept; 1: all are */
    uint64_t recovered_after; /* is_recovered: whatever had a higher number before is lost */
    bool is_recovered;
    bool is_rested; /* its owner went at rest: nothing after last_sequence was ever seen */
    struct sl_slice terminal; /* its last event with its prefix; empty: not ended, or not asked */
    enum sl_store_context context_state;
    uint64_t context_sequence; /* events up to this one are in it; 0: as the run began */
};

/* ---- Requests ----------------------------------------------------------------------------------
 */

struct sl_store_request;
typedef void(sl_store_done_fn)(struct sl_store_request *request);

enum sl_store_kind { /* of requests; set by the calls below */
                     SL_STORE_BEGIN,
                     SL_STORE_APPEND,
                     SL_STORE_END,
                     SL_STORE_SAVE,
                     SL_STORE_RECOVER,
                     SL_STORE_RENEW,
                     SL_STORE_READ,
                     SL_STORE_GET,
                     SL_STORE_LIST,
                     SL_STORE_LOAD
};

/* First member of each of them. All zero but for what the caller fills. */
struct sl_store_request {
    struct sl_loop *loop; /* the answer comes here; NULL only where the answer is at once */
    sl_store_done_fn *on_done;
    enum sl_status status; /* in on_done */
    const char *why;       /* in on_done: a static text for the log; NULL: nothing to add */

    /* The store's. */
    struct sl_store *store;
    enum sl_store_kind kind;
    struct sl_list node;
    struct sl_task task;
    bool is_queued; /* under the lock of its queue */
    size_t charged_bytes;
    struct sl_arena memory; /* of the answer */
};

/* Releases what the answer holds; harmless where it holds nothing. Thread: the request's loop. */
void sl_store_request_done(struct sl_store_request *request);

/* One run that is being written: embedded in its owner, all zero in the beginning; it must outlive
 * the requests that name it. */
struct sl_store_log {
    enum sl_store_durability durability;
    uint64_t number; /* of the run in this store */
    uint64_t epoch;
    uint64_t stored; /* last sequence that is; for the owner between two requests */
    bool is_open;
    bool is_over; /* under the store's lock, as the next: the owner was told to wait */
    uint64_t queued_bytes;
};

/* Records a run. on_done: SL_OK, also when this store has begun it before and has no event of it;
 * SL_ALREADY_EXISTS its request_id is known (`found` says by which run); SL_RESOURCE_EXHAUSTED too
 * little room is left on the disk; otherwise as sl_store_append(). */
struct sl_store_begin {
    struct sl_store_request request;
    struct sl_store_log *log;
    const struct sl_store_run *run;
    /* of the answer */
    char found_run_id[64];
    bool found_same; /* with the same digest and agent */
};

/* Whole framed events: bytes [from, to) of a segment. */
struct sl_store_range {
    struct sl_segment *segment;
    uint32_t from, to;
};

/* Adds the events first_sequence to last_sequence. on_done:
 *   SL_OK                  they are stored (also when they were, with the same bytes)
 *   SL_ABORTED             somebody else has the run now: its epoch is higher. Write nothing more
 *   SL_FAILED_PRECONDITION they do not follow what is stored, or the run has ended
 *   SL_NOT_FOUND           there is no such run
 *   SL_UNAVAILABLE         the store cannot write; whether they are stored is not known, and the
 *                          same append may be asked for again
 *   SL_RESOURCE_EXHAUSTED  the same, for want of room on the disk or of memory
 *   SL_INTERNAL            the ranges do not have so many events: a bug of the owner */
struct sl_store_append {
    struct sl_store_request request;
    struct sl_store_log *log;
    uint64_t first_sequence, last_sequence;
    struct sl_store_range ranges[SL_STORE_RANGES];
    uint32_t n_ranges;
    /* In the same transaction: */
    enum sl_store_state state; /* 0: as it is */
    struct sl_slice resume;    /* replaces the run's; empty: as it is */
    bool rests;    /* the owner will send nothing that is not stored until its next append */
    bool has_lost; /* others with numbers from first_sequence on were sent: recovered_after */
};

/* A conversation: key (tenant, agent, session_id), and its messages in the executor's own form. */
struct sl_store_session {
    const char *tenant, *agent, *session_id;
    struct sl_slice messages;
};

/* The end of a run in one transaction: its last event, its state, the conversation. The log must
 * not be used afterwards. on_done: as sl_store_append(). */
struct sl_store_end {
    struct sl_store_request request;
    struct sl_store_log *log;
    uint64_t sequence;           /* of the terminal event */
    struct sl_store_range range; /* it, and nothing else */
    enum sl_store_state state;   /* DONE, FAILED or CANCELLED */
    uint64_t ended_ms;
    /* Events after sequence - 1 were sent and are not stored: recovered_after, unless an append
     * has said so. */
    bool has_lost;
    const struct sl_store_session
        *session; /* NULL: it stays as it is; with NONE, save it yourself */
    /* The session is written only if it is what the run began with, or what the run saved last: by
     * whoever ends it for an owner that is gone. */
    bool session_if_own;
    struct sl_slice context; /* the run's whole conversation; empty: it is not kept */
};

/* Writes a conversation: as long as the run is still its owner's. on_done: as sl_store_append(). */
struct sl_store_save {
    struct sl_store_request request;
    struct sl_store_log *log; /* NULL, or of durability NONE: whoever it is */
    const struct sl_store_session *session;
    /* It is the run's own conversation, too, and the events up to this one are in it; 0: it is
     * not. */
    uint64_t context_sequence;
};

/* Claims the next run whose owner is gone: it has the store's epoch from here on, and belongs to
 * the caller, who ends it or takes it up. on_done: SL_OK; SL_END there is none; otherwise as
 * sl_store_append(). Several may be asked for at once. */
struct sl_store_recover {
    struct sl_store_request request;
    struct sl_store_log *log;
    struct sl_store_run run; /* of the answer, with `resume` and `context` */
};

/* Keeps the leases of all runs of this node. */
struct sl_store_renew {
    struct sl_store_request request;
    uint64_t lease_ms; /* of the answer: from the moment before the call; 0: they never end */
};

/* Events of a run behind `after_sequence`, at most max_bytes but at least one. Read again from
 * last_sequence on for more. on_done: SL_OK, also when there is nothing yet (`bytes` empty);
 * SL_NOT_FOUND unknown, or another tenant's; SL_OUT_OF_RANGE below the floor; SL_DATA_LOSS these
 * events are damaged or missing; SL_UNAVAILABLE; SL_RESOURCE_EXHAUSTED. */
struct sl_store_read {
    struct sl_store_request request;
    const char *run_id;
    const char *tenant; /* NULL: any */
    uint64_t after_sequence;
    size_t max_bytes; /* 0: SL_STORE_READ_BYTES, which is also the most */
    /* of the answer */
    struct sl_slice bytes;                  /* framed events, the same bytes as ever */
    uint64_t first_sequence, last_sequence; /* of them; 0: none */
    struct sl_store_run run;                /* its numbers and state; no texts */
};

/* One run, by its id or by its request_id. With its terminal event. on_done: as sl_store_read(). */
struct sl_store_get {
    struct sl_store_request request;
    const char *run_id; /* NULL: by request_id */
    const char *request_id;
    const char *tenant; /* NULL: any, only with run_id */
    bool wants_context;
    struct sl_store_run run; /* of the answer */
};

/* Runs of a tenant, newest first, with their terminal events; NULL and ANY: all. A page may have
 * fewer than asked for, even none, and still not be the last. */
struct sl_store_list {
    struct sl_store_request request;
    const char *tenant;
    const char *agent, *session_id;
    enum sl_store_state state; /* RUNNING: also those that wait */
    size_t page_size;          /* 1 to SL_STORE_PAGE */
    uint64_t before; /* `next` of the page before, or the number of a run; 0: the first page */
    /* of the answer */
    struct sl_store_run *runs;
    size_t n_runs;
    uint64_t next; /* 0: this page is the last */
};

/* A conversation. on_done: SL_OK; SL_NOT_FOUND; SL_DATA_LOSS; SL_UNAVAILABLE. */
struct sl_store_load {
    struct sl_store_request request;
    const char *tenant, *agent, *session_id;
    struct sl_slice messages; /* of the answer */
};

/* ---- The store ---------------------------------------------------------------------------------
 */

/* What an implementation does. */
struct sl_store_ops {
    /* SL_PENDING, SL_AGAIN (of an append), SL_OK or the refusal. Any thread. */
    enum sl_status (*submit)(struct sl_store *store, struct sl_store_request *request);
    /* True: it had not begun; it is answered with SL_CANCELLED. */
    bool (*take_back)(struct sl_store *store, struct sl_store_request *request);
    bool (*has_durability)(const struct sl_store *store, enum sl_store_durability durability);
    void (*free)(struct sl_store *store);
};

/* How it is with a store, since it was opened. */
struct sl_store_stats {
    uint64_t queued_bytes, queued_requests; /* not written yet */
    uint64_t commits, failed_commits;
    uint64_t commit_ns, longest_commit_ns; /* of all; of one */
    uint64_t appends, event_bytes;
    uint64_t wal_bytes;  /* not yet in the database itself */
    uint64_t kept_bytes; /* events and conversations of all runs that are kept */
    uint64_t runs_removed;
    uint64_t sessions, session_bytes; /* conversations that are kept */
    uint64_t sessions_removed;        /* too old, or too many */
    bool is_failing;                  /* the last commit failed */
};

/* First member of every implementation. */
struct sl_store {
    const struct sl_store_ops *ops;
    atomic_size_t n_open;
    uint64_t epoch;
    struct { /* counted by the implementation's threads */
        atomic_uint_least64_t queued_bytes, queued_requests, commits, failed_commits, commit_ns;
        atomic_uint_least64_t longest_commit_ns, appends, event_bytes, wal_bytes, kept_bytes;
        atomic_uint_least64_t runs_removed, sessions, session_bytes, sessions_removed;
        atomic_bool is_failing;
    } counts;
};

/* A store that keeps nothing beyond the process, and no conversations before _memory_keep. Thread
 * of all its calls: any. Owns: the caller; sl_store_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_store_memory_new(struct sl_store **ret_store);
/* It keeps so many conversations, and so many bytes of them: beyond that the ones that were not
 * used for longest go (limits.sessions, limits.sessions_total). One that is larger than all may be
 * is refused with SL_RESOURCE_EXHAUSTED. Of a memory store. Thread: any. */
void sl_store_memory_keep(struct sl_store *store, uint64_t max_sessions, uint64_t max_bytes);

struct sl_store_sqlite_options {
    const char *path;       /* of the database; its folder must be there */
    const char *node;       /* this server's name; NULL: "" */
    bool is_normal;         /* synchronous=NORMAL: a power cut may take the last commits */
    bool quarantine;        /* a damaged database is moved aside, and an empty one begun */
    unsigned n_readers;     /* threads; 0: 2 */
    size_t max_queue_bytes; /* appends that wait, of all runs; 0: 16 MiB */
    size_t max_run_bytes;   /* the same, of one run; 0: 1 MiB */
    /* Ended runs are removed so long after their end, conversations so long after they were
     * written; 0: never. */
    uint64_t keep_ms;
    /* The oldest ended runs are removed over so many bytes of them, and the oldest sessions over so
     * many bytes of sessions; 0: never. */
    uint64_t keep_bytes;
    unsigned min_free_percent; /* of the file system: no new runs below; 0: 5; over 100: no look */
};

/* Opens or makes a database file, and begins an epoch. Blocks: not on a loop. Owns: the caller;
 * sl_store_free(). Fails, with one line that names the file: SL_FAILED_PRECONDITION another process
 * has it, it is on a network's file system, or a newer version made it; SL_DATA_LOSS it is damaged;
 * SL_UNAVAILABLE it cannot be read or written; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_store_sqlite_new(
    const struct sl_store_sqlite_options *options,
    struct sl_store **ret_store,
    struct sl_error *err);

/* Writes what is queued and closes everything: blocks. All requests must have been answered, or
 * their loops must go on. Accepts NULL; gives NULL. */
struct sl_store *sl_store_free(struct sl_store *store);

/* All of these: thread any; answers SL_OK, SL_PENDING, or fails at once: SL_UNIMPLEMENTED the store
 * has not this durability, or cannot do this; SL_RESOURCE_EXHAUSTED no memory. */
SL_CHECK enum sl_status sl_store_begin_run(struct sl_store *store, struct sl_store_begin *begin);
/* SL_AGAIN: it is taken and on_done will come, but more is queued than may be (max_run_bytes,
 * max_queue_bytes): the owner sends no other append of this run before that. One that comes all the
 * same is refused with SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_store_append(struct sl_store *store, struct sl_store_append *append);
SL_CHECK enum sl_status sl_store_end_run(struct sl_store *store, struct sl_store_end *end);
SL_CHECK enum sl_status sl_store_save(struct sl_store *store, struct sl_store_save *save);
SL_CHECK enum sl_status sl_store_recover(struct sl_store *store, struct sl_store_recover *recover);
SL_CHECK enum sl_status sl_store_renew(struct sl_store *store, struct sl_store_renew *renew);
SL_CHECK enum sl_status sl_store_read(struct sl_store *store, struct sl_store_read *read);
SL_CHECK enum sl_status sl_store_get(struct sl_store *store, struct sl_store_get *get);
SL_CHECK enum sl_status sl_store_list(struct sl_store *store, struct sl_store_list *list);
SL_CHECK enum sl_status sl_store_load(struct sl_store *store, struct sl_store_load *load);

/* Nobody wants the answer of a read, get, list or load any more: if it has not begun, on_done comes
 * soon, with SL_CANCELLED. Thread: any. */
void sl_store_take_back(struct sl_store_request *request);

/* The owner gives the run up without an end, whatever happened to it: it no longer counts as open.
 * Thread: the owner's, with no request of the log under way. */
void sl_store_log_drop(struct sl_store *store, struct sl_store_log *log);

bool sl_store_has(const struct sl_store *store, enum sl_store_durability durability);
/* Runs that were begun or recovered and not ended. */
size_t sl_store_n_open(const struct sl_store *store);
uint64_t sl_store_epoch(const struct sl_store *store);
/* Thread: any. */
void sl_store_stats(const struct sl_store *store, struct sl_store_stats *ret_stats);

/* May a new reader begin behind `after_sequence` of this run (reliability C19)? SL_OK;
 * SL_OUT_OF_RANGE below the floor, or beyond the end of a run that ended in order; SL_DATA_LOSS it
 * saw events that were lost; SL_AGAIN beyond what is stored of a run that goes on: wait for it. */
SL_CHECK enum sl_status
sl_store_check_cursor(const struct sl_store_run *run, uint64_t after_sequence);

/* ---- For implementations -----------------------------------------------------------------------
 */

/* Answers a request that was pending: the request may be gone afterwards. Thread: any. */
void sl_store_answer(struct sl_store_request *request, enum sl_status status, const char *why);

#endif
