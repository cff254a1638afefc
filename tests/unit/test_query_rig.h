/* Questions about the runs of the rig's runtime, asked on its first loop, and the last answer. */
#ifndef SL_TESTS_UNIT_TEST_QUERY_RIG_H
#define SL_TESTS_UNIT_TEST_QUERY_RIG_H

#include "tests/unit/test_runtime_rig.h"

/* The last answer. `runs` are there until the next question, or end_asking(). */
static struct {
    struct sl_run_query *query;
    bool is_there;
    enum sl_status status;
    size_t n_runs;
    const struct sl_run_info *runs;
    char token[128];
} answer;

static inline void on_answer(const struct sl_run_answer *from, void *user_data)
{
    assert_ptr_equal(user_data, &answer);
    assert_false(answer.is_there); /* once */
    answer.is_there = true;
    answer.status = from->status;
    answer.n_runs = from->n_runs;
    answer.runs = from->runs;
    assert_true(strlen(from->next_page_token) < sizeof(answer.token));
    (void)snprintf(answer.token, sizeof(answer.token), "%s", from->next_page_token);
}

static inline void end_asking(void)
{
    answer.query = sl_run_query_close(answer.query);
    answer.runs = NULL;
}

static inline void ask_without_wait(const struct sl_run_ask *ask)
{
    end_asking();
    answer.is_there = false;
    assert_int_equal(sl_run_ask(runtime, bases[0], ask, on_answer, &answer, &answer.query), SL_OK);
    assert_false(answer.is_there); /* never from inside */
}

static inline enum sl_status ask_for(const struct sl_run_ask *ask)
{
    ask_without_wait(ask);
    wait_until(&answer.is_there);
    return answer.status;
}

static inline enum sl_status
ask_about(enum sl_run_ask_kind kind, const char *run_id, const char *tenant)
{
    const struct sl_run_ask ask = { .kind = kind, .run_id = run_id, .tenant = tenant };
    return ask_for(&ask);
}

/* Lets `ask` ask for the page behind the last answer. False: there is none. */
static inline bool turn_page(struct sl_run_ask *ask)
{
    static char token[sizeof(answer.token)];
    memcpy(token, answer.token, sizeof(token));
    ask->page_token = token;
    return token[0] != '\0';
}

#endif
