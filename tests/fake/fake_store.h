/* A store that does what the test says: it takes begins, appends, saves and ends, keeps the bytes,
 * says whether it has the run, and answers at once, when it is told to, or with a failure. One run
 * at a time. */
#ifndef SL_TESTS_FAKE_FAKE_STORE_H
#define SL_TESTS_FAKE_FAKE_STORE_H

#include "runtime/base/buf.h"
#include "runtime/store/store.h"

struct sl_fake_store {
    struct sl_store base;
    bool holds;             /* requests wait for sl_fake_store_answer() */
    bool holds_saves;       /* the same, of conversations only */
    bool says_again;        /* to the appends */
    enum sl_status failure; /* of the next answers; SL_OK: none */
    enum sl_status begin_failure;
    const char *found_run_id; /* SL_ALREADY_EXISTS */
    bool found_same;
    uint64_t lease_ms; /* what a renewal says */
    enum sl_status renew_failure;
    size_t n_renews;
    bool lies; /* what fails is stored all the same */
    struct sl_store_request *pending[4];
    size_t n_pending, n_asked;
    size_t n_begins, n_appends, n_ends, n_looks; /* that were asked for */
    /* What it has. */
    struct sl_buf bytes;
    uint64_t stored;
    bool is_begun, is_ended;
    enum sl_store_state state;
    enum sl_store_durability durability;
    bool has_lost;
    uint64_t lost_after;
    uint64_t ended_ms;
    bool rests; /* as the last append says, and what the last one that rests had */
    struct sl_buf resume;
    char texts[512];    /* of the begin: "tenant agent session_id request_id digest|key=value" */
    char messages[128]; /* of the end */
    struct sl_buf begun_context, ended_context;
    uint64_t saved_sequence;                   /* of the last save: context_sequence */
    enum sl_store_durability saved_durability; /* of its log; NONE: without */
    size_t n_saves;
};

void sl_fake_store_init(struct sl_fake_store *store);
void sl_fake_store_done(struct sl_fake_store *store);
/* Answers the oldest request that waits. */
void sl_fake_store_answer(struct sl_fake_store *store);

#endif
