/* What the files of a query share. */
#ifndef SL_RUNTIME_QUERY_PRIVATE_H
#define SL_RUNTIME_QUERY_PRIVATE_H

#include <stdatomic.h>

#include "runtime/query.h"

enum { SL_QUERY_TOKEN_BYTES = 96 };

/* A run's place in the list: newest first, and by id where two began at once. */
struct sl_query_place {
    uint64_t created_ms;
    char run_id[SL_ID_BYTES];
};

struct sl_query_entry;

struct sl_run_query {
    struct sl_runtime *runtime;
    struct sl_loop *home;
    struct sl_task task;       /* to the next loop, and home */
    struct sl_task close_task; /* after it, to the loop where it may wait */
    atomic_uint n_refs;        /* the asker's, until it is home; that of the close */
    struct sl_run_ask ask;
    sl_run_answer_fn *on_answer;
    void *user_data;
    struct sl_list waiter_node;
    bool is_closed, is_answered; /* thread: home */
    bool may_wait;               /* for the end of a run, or room, on list.loop; thread: home */

    struct sl_arena arena;
    struct sl_run_answer answer;
    struct sl_run_info *infos;
    struct { /* of the store; what they answer is there until the query goes */
        struct sl_store_get get;
        struct sl_store_list list;
    } stored;
    struct {
        uint32_t loop;   /* where it is now */
        bool is_walking; /* through the runs of that loop */
        struct sl_known_walk walk;
        bool is_second_round;
        /* The page begins behind it, among the runs that are in memory only; and before it, among
         * the store's (its number; 0: with the newest, 1: there are no more). */
        struct sl_query_place start;
        uint64_t before;
        struct sl_query_entry *memory, *page;
        size_t n_memory, n_page;
        uint64_t page_bytes;
    } list;
    char token[SL_QUERY_TOKEN_BYTES];
};

/* The answer is complete: on_answer comes. Thread: any loop of the runtime. */
void sl_query_go_home(struct sl_run_query *query, enum sl_status status);
/* query->task runs on that loop. */
void sl_query_go_to(struct sl_run_query *query, uint32_t loop);
/* A request to the store that is answered at home: its status, if that is not SL_PENDING. */
struct sl_store_request sl_query_request(struct sl_run_query *query, sl_store_done_fn *on_done);
/* For the answer: what the store could not do is SL_UNAVAILABLE. */
enum sl_status sl_query_status_of_store(enum sl_status status);

/* For one run, at home. What memory has not got the store may have; false: no loop knows the run.
 */
void sl_query_ask_store(struct sl_run_query *query);
SL_CHECK bool sl_query_ask_run(struct sl_run_query *query);

/* Begins a list. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_query_begin_list(struct sl_run_query *query);

/* What the store knows of a run; its texts are the store's answer's. Fails: SL_RESOURCE_EXHAUSTED.
 */
SL_CHECK enum sl_status sl_query_fill_stored(
    const struct sl_store_run *run, struct sl_arena *arena, struct sl_run_info *ret_info);

#endif
