/* What loops share: slots, the queue, places, request ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/directory.h"

static struct sl_directory *directory;
static struct sl_ticket tickets[16];
static char known[SL_ID_BYTES];
static uint8_t digest[SL_SHA256_BYTES]; /* of what is asked for */

static void open_directory(uint32_t n_loops, uint64_t max_runs, uint64_t max_waiting)
{
    const struct sl_directory_options options = { .n_loops = n_loops,
                                                  .max_runs = max_runs,
                                                  .max_waiting = max_waiting,
                                                  .request_keep_ns = 1000 };
    assert_int_equal(sl_directory_new(&options, &directory), SL_OK);
}

static enum sl_admission admit_as(size_t i, uint32_t home, const char *request_id, uint64_t now_ns)
{
    char run_id[SL_ID_BYTES];
    (void)snprintf(run_id, sizeof(run_id), "%032zu", i);
    const struct sl_directory_ask ask = {
        .home = home, .run_id = run_id, .request_id = request_id, .digest = digest, .now_ns = now_ns
    };
    return sl_directory_admit(directory, &tickets[i], &ask, known);
}

static enum sl_admission admit(size_t i, uint32_t home)
{
    return admit_as(i, home, "", 0);
}

static void check_counts(uint64_t running, uint64_t waiting)
{
    struct sl_directory_counts counts;
    sl_directory_count(directory, &counts);
    assert_int_equal(counts.running, running);
    assert_int_equal(counts.waiting, waiting);
}

static void a_slot_goes_to_the_one_that_waits_longest(void **state)
{
    (void)state;
    open_directory(1, 2, 2);
    assert_int_equal(admit(0, 0), SL_ADMIT_RUN);
    assert_int_equal(admit(1, 0), SL_ADMIT_RUN);
    assert_int_equal(admit(2, 0), SL_ADMIT_WAIT);
    assert_int_equal(admit(3, 0), SL_ADMIT_WAIT);
    assert_int_equal(admit(4, 0), SL_ADMIT_FULL);
    check_counts(2, 2);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[1], true, 0), &tickets[2]);
    assert_int_equal(tickets[2].state, SL_TICKET_RUNNING);
    assert_true(sl_directory_abandon(directory, &tickets[3]));
    assert_false(sl_directory_abandon(directory, &tickets[3]));
    assert_false(sl_directory_abandon(directory, &tickets[2])); /* it has its slot */
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0));
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0)); /* twice */
    assert_null(sl_directory_leave(directory, &tickets[2], true, 0));
    check_counts(0, 0);
    directory = sl_directory_free(directory);
}

static void nobody_overtakes_the_queue(void **state)
{
    (void)state;
    open_directory(1, 1, 5);
    assert_int_equal(admit(0, 0), SL_ADMIT_RUN);
    assert_int_equal(admit(1, 0), SL_ADMIT_WAIT);
    assert_int_equal(admit(2, 0), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[0], true, 0), &tickets[1]);
    assert_int_equal(admit(3, 0), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[1], true, 0), &tickets[2]);
    directory = sl_directory_free(directory);
}

static void set_runs(uint64_t max_runs)
{
    const struct sl_directory_options options = { .max_runs = max_runs,
                                                  .max_waiting = 5,
                                                  .request_keep_ns = 1000 };
    sl_directory_set_options(directory, &options);
}

static void a_new_limit_counts_for_those_that_wait(void **state)
{
    (void)state;
    open_directory(1, 1, 5);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(admit(i, 0), i == 0 ? SL_ADMIT_RUN : SL_ADMIT_WAIT);
    }
    assert_null(sl_directory_admit_waiting(directory));
    set_runs(3);
    assert_ptr_equal(sl_directory_admit_waiting(directory), &tickets[1]);
    assert_ptr_equal(sl_directory_admit_waiting(directory), &tickets[2]);
    assert_null(sl_directory_admit_waiting(directory));
    check_counts(3, 1);
    set_runs(2);
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0)); /* two are left */
    assert_ptr_equal(sl_directory_leave(directory, &tickets[1], true, 0), &tickets[3]);
    check_counts(2, 0);
    directory = sl_directory_free(directory);
}

static enum sl_admission
admit_in(size_t i, const char *session_id, const char *request_id, enum sl_session_policy policy)
{
    static char run_ids[SL_COUNT(tickets)][SL_ID_BYTES];
    (void)snprintf(run_ids[i], SL_ID_BYTES, "%032zu", i);
    const struct sl_directory_ask ask = { .run_id = run_ids[i],
                                          .digest = digest,
                                          .agent = "a",
                                          .session_id = session_id,
                                          .request_id = request_id,
                                          .policy = policy };
    return sl_directory_admit(directory, &tickets[i], &ask, known);
}

static void check_queued(uint64_t running, uint64_t waiting, uint64_t queued)
{
    struct sl_directory_counts counts;
    check_counts(running, waiting);
    sl_directory_count(directory, &counts);
    assert_int_equal(counts.queued, queued);
}

static void open_sessions(uint64_t max_runs, uint64_t max_waiting, uint64_t max_queue)
{
    const struct sl_directory_options options = { .n_loops = 1,
                                                  .max_runs = max_runs,
                                                  .max_waiting = max_waiting,
                                                  .max_session_queue = max_queue,
                                                  .request_keep_ns = 1000 };
    assert_int_equal(sl_directory_new(&options, &directory), SL_OK);
}

/* AL-6.6 */
static void a_session_has_one_run_and_a_queue(void **state)
{
    (void)state;
    open_sessions(9, 9, 3);
    assert_int_equal(admit_in(0, "s", "", SL_SESSION_REJECT), SL_ADMIT_RUN);
    assert_int_equal(admit_in(1, "s", "", SL_SESSION_REJECT), SL_ADMIT_SESSION_BUSY);
    assert_int_equal(admit_in(2, "t", "", SL_SESSION_REJECT), SL_ADMIT_RUN);
    assert_int_equal(admit_in(1, "s", "", SL_SESSION_ENQUEUE), SL_ADMIT_QUEUE);
    assert_string_equal(known, "");
    assert_false(sl_directory_is_interrupted(directory, &tickets[0]));
    assert_int_equal(admit_in(3, "s", "", SL_SESSION_INTERRUPT), SL_ADMIT_QUEUE);
    assert_string_equal(known, "00000000000000000000000000000000"); /* the run 0 */
    assert_true(sl_directory_is_interrupted(directory, &tickets[0]));
    assert_int_equal(admit_in(4, "s", "", SL_SESSION_INTERRUPT), SL_ADMIT_QUEUE);
    assert_int_equal(admit_in(5, "s", "", SL_SESSION_ENQUEUE), SL_ADMIT_SESSION_FULL);
    check_queued(2, 0, 3);

    assert_ptr_equal(sl_directory_leave_session(directory, &tickets[0]), &tickets[3]);
    assert_null(sl_directory_leave_session(directory, &tickets[0])); /* twice */
    assert_int_equal(tickets[3].state, SL_TICKET_TURN);
    assert_false(sl_directory_abandon(directory, &tickets[3]));
    assert_int_equal(sl_directory_ask_slot(directory, &tickets[3]), SL_ADMIT_RUN);
    assert_true(sl_directory_is_interrupted(directory, &tickets[3]));
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0));
    assert_true(sl_directory_abandon(directory, &tickets[4]));
    assert_false(sl_directory_is_interrupted(directory, &tickets[3]));
    assert_ptr_equal(sl_directory_leave_session(directory, &tickets[3]), &tickets[1]);
    sl_directory_drop_turn(directory, &tickets[1]);
    assert_null(sl_directory_leave_session(directory, &tickets[1]));
    check_queued(2, 0, 0);
    assert_int_equal(admit_in(5, "s", "", SL_SESSION_REJECT), SL_ADMIT_RUN); /* it is free */
    for (size_t i = 2; i < 6; i++) {
        assert_null(sl_directory_leave_session(directory, &tickets[i]));
        assert_null(sl_directory_leave(directory, &tickets[i], true, 0));
    }
    check_queued(0, 0, 0);
    directory = sl_directory_free(directory);
}

static void who_has_his_turn_still_needs_a_slot(void **state)
{
    (void)state;
    open_sessions(1, 2, 9);
    assert_int_equal(admit_in(0, "s", "r", SL_SESSION_REJECT), SL_ADMIT_RUN);
    assert_int_equal(admit_in(1, "s", "r", SL_SESSION_REJECT), SL_ADMIT_KNOWN); /* not BUSY */
    assert_int_equal(admit_in(1, "s", "", SL_SESSION_ENQUEUE), SL_ADMIT_QUEUE);
    assert_int_equal(admit_in(2, "t", "", SL_SESSION_ENQUEUE), SL_ADMIT_WAIT);
    assert_int_equal(admit_in(3, "u", "", SL_SESSION_ENQUEUE), SL_ADMIT_FULL);
    assert_int_equal(admit_in(3, "s", "", SL_SESSION_ENQUEUE), SL_ADMIT_FULL);
    assert_int_equal(admit_in(3, "u", "", SL_SESSION_REJECT), SL_ADMIT_FULL); /* not BUSY */
    assert_ptr_equal(sl_directory_leave_session(directory, &tickets[0]), &tickets[1]);
    assert_int_equal(sl_directory_ask_slot(directory, &tickets[1]), SL_ADMIT_WAIT);
    check_queued(1, 2, 0);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[0], true, 0), &tickets[2]);
    assert_true(sl_directory_abandon(directory, &tickets[1]));
    assert_int_equal(admit_in(4, "s", "", SL_SESSION_REJECT), SL_ADMIT_SESSION_BUSY);
    assert_null(sl_directory_leave_session(directory, &tickets[1]));
    assert_int_equal(admit_in(4, "s", "", SL_SESSION_REJECT), SL_ADMIT_WAIT);
    sl_directory_drain(directory);
    assert_ptr_equal(sl_directory_take_waiting(directory), &tickets[4]);
    assert_null(sl_directory_leave_session(directory, &tickets[4]));
    assert_null(sl_directory_leave_session(directory, &tickets[2]));
    assert_null(sl_directory_leave(directory, &tickets[2], true, 0));
    directory = sl_directory_free(directory);
}

static void a_drain_takes_out_those_that_wait_for_a_session(void **state)
{
    (void)state;
    open_sessions(9, 9, 9);
    assert_int_equal(admit_in(0, "s", "", SL_SESSION_REJECT), SL_ADMIT_RUN);
    assert_int_equal(admit_in(1, "s", "", SL_SESSION_ENQUEUE), SL_ADMIT_QUEUE);
    assert_int_equal(admit_in(2, "s", "", SL_SESSION_INTERRUPT), SL_ADMIT_QUEUE);
    assert_int_equal(admit_in(3, "t", "", SL_SESSION_REJECT), SL_ADMIT_RUN);
    assert_int_equal(admit_in(4, "t", "", SL_SESSION_ENQUEUE), SL_ADMIT_QUEUE);
    assert_ptr_equal(sl_directory_leave_session(directory, &tickets[3]), &tickets[4]);
    sl_directory_drain(directory);
    assert_int_equal(sl_directory_ask_slot(directory, &tickets[4]), SL_ADMIT_DRAINING);
    assert_null(sl_directory_leave_session(directory, &tickets[4]));
    assert_null(sl_directory_leave_session(directory, &tickets[0])); /* nobody gets it */
    assert_ptr_equal(sl_directory_take_waiting(directory), &tickets[1]);
    assert_ptr_equal(sl_directory_take_waiting(directory), &tickets[2]);
    assert_null(sl_directory_take_waiting(directory));
    assert_null(sl_directory_leave_session(directory, &tickets[1]));
    check_queued(2, 0, 0);
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0));
    assert_null(sl_directory_leave(directory, &tickets[3], true, 0));
    directory = sl_directory_free(directory);
}

static enum sl_admission admit_for(size_t i, const char *tenant, const char *request_id)
{
    char run_id[SL_ID_BYTES];
    (void)snprintf(run_id, sizeof(run_id), "%032zu", i);
    const struct sl_directory_ask ask = {
        .tenant = tenant, .run_id = run_id, .digest = digest, .request_id = request_id
    };
    return sl_directory_admit(directory, &tickets[i], &ask, known);
}

static void open_for_tenants(uint64_t max_runs, uint64_t max_tenant_runs)
{
    const struct sl_directory_options options = { .n_loops = 1,
                                                  .max_runs = max_runs,
                                                  .max_waiting = 5,
                                                  .max_tenant_runs = max_tenant_runs,
                                                  .request_keep_ns = 1000 };
    assert_int_equal(sl_directory_new(&options, &directory), SL_OK);
}

static void request_ids_of_two_tenants_never_meet(void **state) /* RT-3 */
{
    (void)state;
    open_for_tenants(9, 0);
    assert_int_equal(admit_for(0, "acme", "one"), SL_ADMIT_RUN);
    assert_int_equal(admit_for(1, "beta", "one"), SL_ADMIT_RUN);
    assert_int_equal(admit_for(2, NULL, "one"), SL_ADMIT_RUN);
    assert_int_equal(admit_for(3, "acm", "eone"), SL_ADMIT_RUN); /* the border counts */
    assert_int_equal(admit_for(4, "beta", "one"), SL_ADMIT_KNOWN);
    assert_string_equal(known, "00000000000000000000000000000001");
    assert_int_equal(admit_for(4, "", "one"), SL_ADMIT_KNOWN);
    assert_string_equal(known, "00000000000000000000000000000002");
    for (size_t i = 0; i < 4; i++) {
        assert_null(sl_directory_leave(directory, &tickets[i], true, 0));
    }
    assert_int_equal(admit_for(0, "acme", "one"), SL_ADMIT_KNOWN_OVER);
    directory = sl_directory_free(directory);
}

static void a_tenant_has_its_share_and_no_more(void **state)
{
    (void)state;
    open_for_tenants(3, 2);
    assert_int_equal(admit_for(0, "acme", "a"), SL_ADMIT_RUN);
    assert_int_equal(admit_for(1, "acme", ""), SL_ADMIT_RUN);
    assert_int_equal(admit_for(2, "acme", "c"), SL_ADMIT_TENANT_FULL);
    assert_int_equal(admit_for(3, "beta", ""), SL_ADMIT_RUN);
    assert_int_equal(admit_for(4, "beta", ""), SL_ADMIT_WAIT); /* waiting counts, too */
    assert_int_equal(admit_for(5, "beta", ""), SL_ADMIT_TENANT_FULL);
    assert_true(sl_directory_abandon(directory, &tickets[4]));
    assert_int_equal(admit_for(4, "beta", ""), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[0], true, 0), &tickets[4]);
    /* What was refused is not remembered, and a place that is free is given again. */
    assert_int_equal(admit_for(2, "acme", "c"), SL_ADMIT_WAIT);
    check_counts(3, 1);
    sl_directory_drain(directory);
    assert_ptr_equal(sl_directory_take_waiting(directory), &tickets[2]);
    assert_int_equal(admit_for(2, "acme", "c"), SL_ADMIT_DRAINING);
    assert_null(sl_directory_leave(directory, &tickets[1], true, 0));
    assert_null(sl_directory_leave(directory, &tickets[3], false, 0));
    assert_null(sl_directory_leave(directory, &tickets[4], true, 0));
    directory = sl_directory_free(directory);
}

/* Reliability 5.1, RL-O4 */
static void tenants_that_wait_take_turns_and_share_the_slots(void **state)
{
    (void)state;
    open_for_tenants(2, 0);
    assert_int_equal(admit_for(0, "acme", ""), SL_ADMIT_RUN);
    assert_int_equal(admit_for(1, "acme", ""), SL_ADMIT_RUN);
    assert_int_equal(admit_for(2, "acme", ""), SL_ADMIT_WAIT);
    assert_int_equal(admit_for(3, "acme", ""), SL_ADMIT_WAIT);
    assert_int_equal(admit_for(4, "beta", ""), SL_ADMIT_WAIT);
    assert_int_equal(admit_for(5, "beta", ""), SL_ADMIT_WAIT);
    /* acme has one of two, which is half. */
    assert_ptr_equal(sl_directory_leave(directory, &tickets[0], true, 0), &tickets[4]);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[1], true, 0), &tickets[2]);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[4], true, 0), &tickets[5]);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[5], true, 0), &tickets[3]);
    assert_null(sl_directory_leave(directory, &tickets[2], true, 0));
    assert_null(sl_directory_leave(directory, &tickets[3], true, 0));
    check_counts(0, 0);
    directory = sl_directory_free(directory);
}

static void runs_that_are_over_are_no_part_of_a_share(void **state)
{
    (void)state;
    open_for_tenants(4, 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(admit_for(i, "acme", ""), SL_ADMIT_RUN);
    }
    assert_int_equal(admit_for(4, "acme", ""), SL_ADMIT_WAIT);
    assert_int_equal(admit_for(5, "beta", ""), SL_ADMIT_WAIT);
    assert_int_equal(admit_for(6, "beta", ""), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[0], true, 0), &tickets[5]);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[5], true, 0), &tickets[6]);
    assert_int_equal(admit_for(7, "beta", ""), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[1], true, 0), &tickets[7]);
    assert_int_equal(admit_for(8, "beta", ""), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[7], true, 0), &tickets[8]);
    assert_int_equal(admit_for(9, "beta", ""), SL_ADMIT_WAIT);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[2], true, 0), &tickets[4]); /* 1 of 4 */
    assert_ptr_equal(sl_directory_leave(directory, &tickets[6], true, 0), &tickets[9]);
    directory = sl_directory_free(directory);
}

static void the_wait_for_a_slot_is_foretold(void **state)
{
    (void)state;
    open_directory(1, 1, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(admit(i, 0), i == 0 ? SL_ADMIT_RUN : SL_ADMIT_WAIT);
    }
    assert_int_equal(sl_directory_wait_ms(directory, 77), 77); /* nobody knows */
    const uint64_t ms = 1000000;
    assert_ptr_equal(sl_directory_leave(directory, &tickets[0], true, 100 * ms), &tickets[1]);
    assert_ptr_equal(sl_directory_leave(directory, &tickets[1], true, 150 * ms), &tickets[2]);
    assert_int_equal(sl_directory_wait_ms(directory, 77), 150); /* behind two others */
    directory = sl_directory_free(directory);
}

static void a_new_share_counts_those_that_are_there(void **state)
{
    (void)state;
    open_for_tenants(9, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(admit_for(i, "acme", ""), SL_ADMIT_RUN);
    }
    const struct sl_directory_options options = { .max_runs = 9, .max_tenant_runs = 2 };
    sl_directory_set_options(directory, &options);
    assert_int_equal(admit_for(3, "acme", ""), SL_ADMIT_TENANT_FULL);
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0));
    assert_int_equal(admit_for(3, "acme", ""), SL_ADMIT_TENANT_FULL);
    assert_null(sl_directory_leave(directory, &tickets[1], true, 0));
    assert_int_equal(admit_for(3, "acme", ""), SL_ADMIT_RUN);
    directory = sl_directory_free(directory); /* with runs that never left */
}

static void a_run_moves_only_from_a_loop_with_over_twice_the_least(void **state)
{
    (void)state;
    open_directory(2, 100, 0);
    size_t on_loop[2] = { 0, 0 };
    for (size_t i = 0; i < 8; i++) {
        const uint32_t place = on_loop[0] > 2 * on_loop[1] ? 1 : 0;
        assert_int_equal(admit(i, 0), SL_ADMIT_RUN);
        assert_int_equal(tickets[i].loop, place);
        on_loop[place]++;
    }
    assert_int_equal(admit(8, 1), SL_ADMIT_RUN);
    assert_int_equal(tickets[8].loop, 1); /* at home */
    directory = sl_directory_free(directory);
}

static void a_request_id_is_known_until_its_time_is_over(void **state)
{
    (void)state;
    open_directory(1, 10, 0);
    assert_int_equal(admit_as(0, 0, "r", 0), SL_ADMIT_RUN);
    assert_int_equal(admit_as(1, 0, "r", 0), SL_ADMIT_KNOWN);
    assert_string_equal(known, "00000000000000000000000000000000");
    assert_int_equal(admit_as(1, 0, "R", 0), SL_ADMIT_RUN);
    assert_null(sl_directory_leave(directory, &tickets[0], true, 5000));
    assert_int_equal(admit_as(2, 0, "r", 5999), SL_ADMIT_KNOWN_OVER);
    assert_int_equal(admit_as(2, 0, "r", 6000), SL_ADMIT_RUN);
    /* A run that never was leaves no trace. */
    assert_null(sl_directory_leave(directory, &tickets[2], false, 6000));
    assert_int_equal(admit_as(2, 0, "r", 6000), SL_ADMIT_RUN);
    directory = sl_directory_free(directory);
}

static void ended_request_ids_are_bounded(void **state)
{
    (void)state;
    open_directory(1, 2, 0);
    for (size_t i = 0; i < 10; i++) {
        char id[8];
        (void)snprintf(id, sizeof(id), "r%zu", i);
        assert_int_equal(admit_as(i, 0, id, 0), SL_ADMIT_RUN);
        assert_null(sl_directory_leave(directory, &tickets[i], true, 0));
    }
    assert_int_equal(admit_as(10, 0, "r9", 0), SL_ADMIT_KNOWN_OVER);
    assert_int_equal(admit_as(10, 0, "r6", 0), SL_ADMIT_KNOWN_OVER);
    assert_int_equal(admit_as(10, 0, "r5", 0), SL_ADMIT_RUN);
    directory = sl_directory_free(directory);
}

static void a_request_id_is_for_one_content(void **state) /* AL-5.3 */
{
    struct sl_directory_counts counts;
    (void)state;
    open_directory(1, 10, 0);
    assert_int_equal(admit_as(0, 0, "r", 0), SL_ADMIT_RUN);
    digest[31] = 1;
    assert_int_equal(admit_as(1, 0, "r", 0), SL_ADMIT_REQUEST_ID);
    assert_string_equal(known, "00000000000000000000000000000000");
    assert_null(sl_directory_leave(directory, &tickets[0], true, 5000));
    assert_int_equal(admit_as(1, 0, "r", 5001), SL_ADMIT_REQUEST_ID);
    digest[31] = 0;
    assert_int_equal(admit_as(1, 0, "r", 5001), SL_ADMIT_KNOWN_OVER);
    sl_directory_count(directory, &counts);
    assert_int_equal(counts.refused, 2); /* who is sent to the run that is there is not */
    directory = sl_directory_free(directory);
}

static void runs_are_found_by_their_id(void **state)
{
    struct sl_directory_run runs[2];
    uint32_t loop = 9;
    (void)state;
    open_directory(3, 10, 0);
    assert_int_equal(
        sl_directory_add_run(directory, &runs[0], "0123456789abcdef0123456789abcdef", 2), SL_OK);
    assert_int_equal(
        sl_directory_add_run(directory, &runs[1], "0123456789abcdef0123456789abcde0", 1), SL_OK);
    assert_true(sl_directory_find_run(directory, "0123456789abcdef0123456789abcdef", &loop));
    assert_int_equal(loop, 2);
    assert_ptr_equal(sl_directory_run_at(directory, "0123456789abcdef0123456789abcde0"), &runs[1]);
    assert_false(sl_directory_find_run(directory, "0123456789abcdef0123456789abcde", &loop));
    assert_false(sl_directory_find_run(directory, "", &loop));
    assert_null(sl_directory_run_at(directory, "0123456789abcdef0123456789abcdef0"));
    sl_directory_remove_run(directory, &runs[0]);
    assert_null(sl_directory_run_at(directory, "0123456789abcdef0123456789abcdef"));
    sl_directory_remove_run(directory, &runs[1]);
    directory = sl_directory_free(directory);
}

static void draining_admits_nobody_and_empties_the_queue(void **state)
{
    (void)state;
    open_directory(1, 1, 5);
    assert_int_equal(admit(0, 0), SL_ADMIT_RUN);
    assert_int_equal(admit_as(1, 0, "r", 0), SL_ADMIT_WAIT);
    assert_int_equal(admit(2, 0), SL_ADMIT_WAIT);
    sl_directory_drain(directory);
    assert_int_equal(admit(3, 0), SL_ADMIT_DRAINING);
    assert_null(sl_directory_leave(directory, &tickets[0], true, 0));
    assert_ptr_equal(sl_directory_take_waiting(directory), &tickets[1]);
    assert_int_equal(tickets[1].state, SL_TICKET_NONE);
    assert_ptr_equal(sl_directory_take_waiting(directory), &tickets[2]);
    assert_null(sl_directory_take_waiting(directory));
    check_counts(0, 0);
    directory = sl_directory_free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_goes_to_the_one_that_waits_longest),
        cmocka_unit_test(nobody_overtakes_the_queue),
        cmocka_unit_test(a_session_has_one_run_and_a_queue),
        cmocka_unit_test(who_has_his_turn_still_needs_a_slot),
        cmocka_unit_test(a_drain_takes_out_those_that_wait_for_a_session),
        cmocka_unit_test(a_new_limit_counts_for_those_that_wait),
        cmocka_unit_test(request_ids_of_two_tenants_never_meet),
        cmocka_unit_test(a_tenant_has_its_share_and_no_more),
        cmocka_unit_test(tenants_that_wait_take_turns_and_share_the_slots),
        cmocka_unit_test(runs_that_are_over_are_no_part_of_a_share),
        cmocka_unit_test(the_wait_for_a_slot_is_foretold),
        cmocka_unit_test(a_new_share_counts_those_that_are_there),
        cmocka_unit_test(a_run_moves_only_from_a_loop_with_over_twice_the_least),
        cmocka_unit_test(a_request_id_is_known_until_its_time_is_over),
        cmocka_unit_test(ended_request_ids_are_bounded),
        cmocka_unit_test(a_request_id_is_for_one_content),
        cmocka_unit_test(runs_are_found_by_their_id),
        cmocka_unit_test(draining_admits_nobody_and_empties_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
