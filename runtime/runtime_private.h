/* What the files behind runtime.h share. */
#ifndef SL_RUNTIME_RUNTIME_PRIVATE_H
#define SL_RUNTIME_RUNTIME_PRIVATE_H

#include <stdatomic.h>

#include "runtime/base/event_relay.h"
#include "runtime/base/list.h"
#include "runtime/directory.h"
#include "runtime/exec/resume.h"
#include "runtime/exec/run.h"
#include "runtime/generation.h"
#include "runtime/runtime.h"

/* The part of the runtime that lives on one loop. */
struct sl_runtime_loop {
    struct sl_runtime *runtime;
    struct sl_loop *base;
    struct sl_exec_stats stats;
    struct sl_task stop_task;
    struct sl_task room_task; /* from another loop: make room among those that are kept */
    atomic_bool is_room_sent;
    struct {
        struct sl_list streams;        /* whose run is here */
        struct sl_generation *current; /* of the runs that start; NULL: the runtime is stopping */
        bool is_stopping;
        struct sl_list queued; /* readers here whose runs wait (queued.h) */
        /* known.h */
        struct sl_list known, kept, walks;
        struct sl_timer forget_timer;
        struct sl_record_room records;
    } loop;
};

struct sl_runtime {
    struct sl_loop **bases; /* of all loops */
    const char *(*env)(const char *name);
    const char *const *environment;
    char *launcher; /* NULL: none */
    struct sl_store *store;
    struct sl_store *memory; /* for the sessions of agents with memory InMemory, or without store */
    /* Follows a run that only the store has, from its first event, for a request that came again:
     * `stream` has a reader, and no run. Tells it how that went, as sl_run_observe() does; takes no
     * reference. Thread: the reader's loop. NULL: nobody can. */
    void (*follow_stored)(struct sl_run_stream *stream, const char *run_id);
    struct sl_lease *lease; /* NULL: no store that could give one */
    bool has_store;         /* one that outlives the process */
    _Atomic uint64_t n_recovered;
    struct sl_tool_slots *slots;
    struct sl_directory *directory;
    size_t n_loops;
    struct sl_runtime_loop *loops;
    struct sl_generation *newest; /* thread: who configures */
    struct {
        pthread_mutex_t lock;
        struct sl_list generations; /* that are committed and not gone */
    } shared;
    /* Generations that are not gone: at 0 the runtime is idle. */
    atomic_size_t n_holds;
    /* Runs that have ended and are kept (known.h), of all loops. */
    _Atomic uint64_t n_kept, kept_bytes;
    _Atomic uint64_t reserved_bytes; /* of windows, by runs that may lose their reader */
    struct sl_task idle_task;
    void (*on_idle)(void *user_data);
    void *user_data;
};

/* One hold less; the last one brings on_idle, and the runtime may be gone when this returns. */
void sl_runtime_release(struct sl_runtime *runtime);
void sl_runtime_hold(struct sl_runtime *runtime);

/* A run and its reader. The reader's loop and the run's may be two; who has a reference may touch
 * his part. */
struct sl_run_stream {
    struct sl_runtime *runtime;
    /* What the runtime was told when the run was asked for. Counted as long as the run has or waits
     * for a slot. */
    struct sl_generation *generation;
    struct sl_loop *reader_loop;
    struct sl_runtime_loop *owner; /* where the run is; set when it has a slot */
    bool is_remote;                /* the two loops differ */
    struct sl_run_callbacks callbacks;

    struct { /* reader's loop; what is touched for each event comes first */
        bool is_started;
        bool wants_early;   /* _ready was asked before there was a run */
        bool is_waiting;    /* for its session or a slot */
        bool is_queued;     /* for its session */
        bool is_dropped;    /* while it waited: it does not begin */
        uint64_t queued_ms; /* since then it waits; Unix */
        struct sl_list queued_node;
        struct sl_event_cursor cursor; /* of a run on the same loop */
        struct sl_event_relay *relay;  /* of one on another loop */
        struct sl_stored *stored;      /* reads from the store; NULL: from the log */
        bool is_cut;                   /* it was too slow, and the run goes on without it */
        struct sl_timer wait_timer;
        uint64_t asked_bytes, connection_bytes; /* of which the mark is made (AL-8) */
    } reader;
    atomic_uint_least32_t mark_bytes; /* as it should be */
    atomic_bool is_mark_sent;
    struct sl_task mark_task; /* to the owner */

    char run_id[SL_ID_BYTES];
    const char *tenant; /* "": the one there is without identities; behind the struct */
    /* Of the reader who started the run; set when it was admitted. */
    enum sl_slow_consumer slow_consumer;
    bool is_observer; /* the run is somebody else's; valid once it is started */
    atomic_uint n_refs;
    atomic_bool is_closed;
    _Atomic uint64_t stored_bytes; /* what it reads from the store takes (stored.c) */
    struct sl_ticket ticket;

    struct { /* until the run begins */
        const struct sl_agent *agent;
        struct sl_run_settings settings;
        struct sl_history history;
        const char *input, *peer;
        /* NULL: none. In the history's arena, which has the given messages only until the session
         * is loaded. */
        const char *session_id;
        struct sl_store *session_store;
        bool replaces_session;
        const char *request_id;               /* "": none */
        const struct sl_store_pair *metadata; /* in the history's arena */
        size_t n_metadata;
        struct sl_credentials *credentials; /* NULL: none that a tool forwards */
        const char *caller;                 /* in the history's arena; NULL: not known */
        struct sl_tool **client_tools;      /* counted; as long as the stream */
        size_t n_client_tools;
        uint8_t digest[SL_SHA256_BYTES]; /* with a request id */
        /* Of a run that is taken up: its last event, and its beginning (Unix). */
        uint64_t after_sequence, created_ms;
        bool wants_only_end;
    } start;

    struct sl_task admit_task; /* to the reader: it has its turn or a slot, or there will be none */
    struct sl_task interrupt_task; /* to the owner of the run that has the session */
    uint32_t interrupt_loop;
    char interrupt_id[SL_ID_BYTES];
    struct sl_task begin_task;   /* to the owner */
    struct sl_task started_task; /* to the reader */
    struct sl_task close_task;   /* to the owner */
    struct sl_task attach_task;  /* to the owner */
    struct sl_task store_task;   /* to the reader: memory has not got it */
    struct sl_task lost_task;    /* the reader's own */
    struct sl_task slow_task;    /* to the reader */
    struct {                     /* of an observer */
        uint64_t after_sequence;
        bool wants_only_end; /* begins as early as it can */
        bool is_repeat;      /* of the request that started the run */
        bool was_over;       /* the run had ended when it was repeated */
        bool wants_store;    /* it was refused, unless the store has what it wants */
    } attach;
    union { /* a stream that was refused has no run that ends */
        struct sl_run_refusal refusal;
        struct {
            struct sl_ending ending; /* written by the run before its log ends */
            struct sl_run_ending public_ending;
        };
    };
    bool is_refused;
    enum sl_run_close close_how;
    uint32_t close_code;
    bool wants_gone;

    struct { /* run's loop */
        struct sl_list node;
        struct sl_run *run; /* NULL: not begun, over, or somebody else's */
        struct sl_known_run *known;
        struct sl_list reader_node; /* of an observer */
        /* Of one with DISCONNECT (stream_slow.c). */
        struct sl_event_channel *channel; /* referenced; NULL: no such one */
        struct sl_timer slow_timer;
        uint64_t slow_ms;
        bool is_cut;
    } run;
    char texts[];
};

struct sl_run_stream *sl_run_stream_of(struct sl_ticket *ticket);

/* A reader without a run. NULL: no memory. Owns: the caller, one reference. */
SL_CHECK struct sl_run_stream *sl_run_stream_new(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const char *tenant,
    const struct sl_run_callbacks *callbacks);
void sl_run_stream_ref(struct sl_run_stream *stream);
void sl_run_stream_unref(struct sl_run_stream *stream);
bool sl_run_stream_is_closed(const struct sl_run_stream *stream);
/* Calls on_started by a task. Thread: any. */
void sl_run_stream_tell_later(struct sl_run_stream *stream);
/* Makes the reader's end of a log that is on another loop. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_stream_open_relay(struct sl_run_stream *stream);
/* Joins the reader to the log, on the run's loop. Fails: as sl_event_cursor_open(). */
SL_CHECK enum sl_status sl_run_stream_join(
    struct sl_run_stream *stream,
    struct sl_event_channel *channel,
    enum sl_cursor_kind kind,
    uint64_t after_sequence);
/* What sl_run_stream_ending() will say. Thread: the run's loop, before the log ends. */
void sl_run_stream_set_ending(struct sl_run_stream *stream, const struct sl_ending *ending);

/* Of the run that is this stream's: a heartbeat goes to all its readers (sl_run_options). */
void sl_run_stream_heartbeat(void *user_data, struct sl_slice message);

/* The store has refused the run of `stream`, on the run's loop: what is told to those who wait for
 * it or have found it meanwhile; the refusal (before the first event: all of it may be tried
 * again); and, when its request was that of a run which the store has, with that run's id in the
 * stream, the way to it. That takes a reference and a hold on the runtime. */
void sl_run_stream_end_known(struct sl_run_stream *stream, enum sl_status status);
void sl_run_stream_refuse_begin(
    struct sl_run_stream *stream, const struct sl_record_answer *answer);
void sl_run_stream_follow_found(struct sl_run_stream *stream);

/* The run of a stream without a reader goes on where it was, on its loop: as sl_run_take_up(). It
 * has the stream's last reference. False: no memory, and the stream is gone. */
SL_CHECK bool sl_run_stream_take_up(
    struct sl_run_stream *stream, const struct sl_resume *resume, struct sl_store_log *log);

/* A run that rests in the store, and was claimed: how it is taken up (take_up.c). */
struct sl_taking {
    struct sl_runtime *runtime;
    struct sl_loop *home;           /* on_done comes here, from no function of this */
    const struct sl_store_run *run; /* both stay until then */
    struct sl_store_log *log;       /* taken, if the run is */
    void (*on_done)(struct sl_taking *taking);
    /* of the answer */
    bool is_taken;
    char why[112]; /* it is not: for people */
    /* inside */
    struct sl_resume resume;
    struct sl_run_stream *stream;
    struct sl_task task;
};
/* What is filled is `runtime` to `on_done`. Thread: home. */
void sl_taking_begin(struct sl_taking *taking);

/* For the status of a stream; texts are the ending's. */
struct sl_run_ending sl_run_ending_of(const struct sl_ending *ending);

/* Makes `stream` an observer of the run `run_id`: on_started comes. Takes no reference. */
void sl_run_observe(struct sl_run_stream *stream, const char *run_id);
/* Of an observer, on the run's loop: it goes. */
void sl_run_observer_part(struct sl_run_stream *stream);
/* Of a reader that holds nothing back and has nothing to read: it is told when it is lost, or reads
 * on from the store. */
void sl_run_stream_check_lost(struct sl_run_stream *stream);

/* The reader who started the run does not hold it back (SPILL, DISCONNECT). Thread: any, once it is
 * admitted. */
bool sl_run_stream_spills(const struct sl_run_stream *stream);
/* Tells the run's log, before the reader joins it. Thread: the run's loop, as the next. */
void sl_run_stream_spill(struct sl_run_stream *stream);
/* The reader goes, or the run has not begun after all. */
void sl_run_stream_spill_end(struct sl_run_stream *stream);

/* Completes the conversation of a run whose session is loaded, or which has none: what is stored,
 * what is given, the input. `on_done` comes once, at once or later, on the run's loop; the stream
 * is refused, or may begin. Thread: the run's loop (session.c). */
void sl_run_load_session(
    struct sl_run_stream *stream, void (*on_done)(struct sl_run_stream *stream));
/* Where the session of a run of this agent is kept. */
struct sl_store *
sl_run_session_store(const struct sl_runtime *runtime, const struct sl_agent *agent);

/* The session has a run, and as many wait for it as may (`is_full`), or this one would not. */
void sl_run_refuse_session(struct sl_run_stream *stream, bool is_full);
/* Waits until the run that has the session is over, and cancels it if that is wanted
 * (`interrupted_id` is not empty). Thread: reader. */
void sl_run_wait_for_session(struct sl_run_stream *stream, const char *interrupted_id);
/* What waits for its session or a slot is refused: CANCELLED. Thread: reader. */
void sl_run_stream_drop(struct sl_run_stream *stream);
/* Its run has begun: it is cancelled if somebody has come meanwhile to interrupt it. Thread: the
 * run's loop. */
void sl_run_heed_session(const struct sl_run_stream *stream);
/* Gives the session to the next one; harmless without, and twice. Thread: any. */
void sl_run_leave_session(struct sl_run_stream *stream);

/* How long it may wait for its slot. Thread: the reader's loop, as the next one. */
uint64_t sl_run_wait_ms(const struct sl_run_stream *stream);
/* After which time it may come again, when there was no slot: how long it would have waited, spread
 * so that those who were refused together do not come together. */
uint64_t sl_run_retry_ms(const struct sl_run_stream *stream);
/* `ms`, and up to a fifth of it more or less. Thread: any. */
uint64_t sl_run_spread_ms(uint64_t ms);

/* By which equal requests are known: everything but credentials and the call's own. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_run_spec_digest(const struct sl_run_spec *spec, uint8_t ret_digest[SL_SHA256_BYTES]);

/* The mark of the foreground stream (AL-8): what was asked for, and a fair share of what a
 * connection may have queued. */
uint32_t sl_run_mark_bytes(const struct sl_run_stream *stream, size_t n_connection_streams);

/* Decides whether the run is recorded. False: refused. */
bool sl_run_set_durability(struct sl_run_stream *stream, const struct sl_run_spec *spec);

/* Decides what a reader does that is too slow, when durability is decided. False: refused. */
bool sl_run_set_slow_consumer(struct sl_run_stream *stream, const struct sl_run_spec *spec);

/* Checks a spec and fills `stream->start`. False: `stream->refusal` says why (AL-5.3). Thread:
 * reader. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_admit_spec(
    struct sl_run_stream *stream, const struct sl_run_spec *spec, bool *ret_is_accepted);
/* The same for metadata and credentials: first the check, then, of an accepted spec, the copies. */
bool sl_run_check_pairs(struct sl_run_stream *stream, const struct sl_run_spec *spec);
SL_CHECK enum sl_status
sl_run_copy_pairs(struct sl_run_stream *stream, const struct sl_run_spec *spec);
/* The same for the client's tools. */
SL_CHECK enum sl_status sl_run_admit_client_tools(
    struct sl_run_stream *stream, const struct sl_run_spec *spec, bool *ret_is_accepted);
void sl_run_drop_client_tools(struct sl_run_stream *stream);
SL_PRINTF(4, 5)
void sl_run_refuse(
    struct sl_run_stream *stream, enum sl_status status, const char *reason, const char *fmt, ...);

#endif
