/* What the files of a record share: its inside. */
#ifndef SL_RUNTIME_EXEC_RECORD_PRIVATE_H
#define SL_RUNTIME_EXEC_RECORD_PRIVATE_H

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/exec/brackets.h"
#include "runtime/exec/record.h"

enum sl_record_state {
    SL_RECORD_BEGINNING,
    SL_RECORD_UNSURE, /* the beginning has failed, and the store may have the run all the same */
    SL_RECORD_OPEN,
    SL_RECORD_OVER /* the store is not asked for anything any more */
};

struct sl_record {
    struct sl_loop *loop;
    struct sl_store *store;
    struct sl_record_room *room;
    struct sl_list node; /* of the room's, when it is alone */
    struct sl_record_callbacks callbacks;
    struct sl_store_log log;
    enum sl_record_state state;
    bool is_busy;   /* a request is under way */
    bool has_begun; /* RunStarted is stored */
    bool has_end;   /* the terminal event is in the log */
    bool is_failed; /* and the run was told */
    bool is_alone;  /* the run is gone */
    unsigned n_holds;

    struct sl_event_cursor cursor; /* at what is stored; closed when it is alone */
    uint64_t stored;               /* last sequence that is */
    struct sl_event_place until;   /* appends end here: at the terminal event */
    struct sl_event_place sent;    /* behind the append; it has ranges until it is stored */
    uint64_t awaited;              /* sequence; 0: none */
    bool is_held, is_slow, must_wait;

    struct {
        bool is_wanted;     /* `resume` is to be stored, with all that is in the log */
        bool is_there;      /* the store has such a one, or may have */
        bool is_wake_asked; /* on_stored comes when it has not */
        enum sl_store_state state;
        struct sl_buf resume;
        struct sl_buf sent; /* of the append */
    } rest;

    uint64_t since_ns; /* something waits for the store; 0: nothing */
    uint64_t due_ns;   /* then that is over */
    uint64_t stop_ns;  /* and then in any case */
    uint64_t looks_ns; /* the patience timer */
    uint64_t retry_ms; /* limits.store_retry */
    uint64_t next_retry_ms;
    struct sl_timer retry_timer, patience_timer;
    uint64_t most_behind; /* bytes that are not stored: limits.store_queue_run */

    struct sl_store_begin begin;
    struct sl_store_get look; /* UNSURE: is it there? */
    bool is_found;
    struct sl_store_append append;
    bool has_append; /* that is not stored yet; it may have no events */
    struct sl_store_end end;
    struct sl_store_request *answered; /* with its call; on_done comes by the task */
    struct sl_task at_once;

    struct sl_arena texts;
    struct sl_store_run run; /* in `texts` */
    struct sl_buf context;   /* how it begins; until the store has it */
    struct sl_buf messages;  /* in the end */
    struct sl_store_session session;

    struct sl_record_tail tail;  /* alone: how the run ended */
    struct sl_brackets brackets; /* before that */
    bool has_brackets;
    uint64_t alone_ns; /* it tries until then */
};

/* ---- record.c ----------------------------------------------------------------------------------
 */
/* NULL: no memory. Owns: the caller. */
SL_CHECK struct sl_record *
sl_record_make(const struct sl_record_options *options, uint64_t after_sequence);
/* Sends what is next, if anything is. Of a record that is alone: may free it. */
void sl_record_go_on(struct sl_record *record);

/* ---- record_rest.c -----------------------------------------------------------------------------
 */
/* Says in the append, whose events are there, what becomes of a rest with them. False: there is
 * nothing to say. */
bool sl_record_add_state(struct sl_record *record);
/* The store knows that the run does not rest any more. */
void sl_record_rest_ended(struct sl_record *record);
/* An append is stored, and the next one sent: tells the run what it waits for. The record may be
 * given up in it. */
void sl_record_tell_stored(struct sl_record *record, bool has_rested);

#endif
