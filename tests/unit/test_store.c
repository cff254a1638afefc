/* What every store does, and what the ones that keep runs do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "tests/fake/store_rig.h"

static struct sl_store_rig rig;

static int open_rig(void **state)
{
    (void)state;
    sl_store_rig_init(&rig);
    sl_store_rig_open(&rig);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    sl_store_rig_done(&rig);
    return 0;
}

/* ---- Without durability ------------------------------------------------------------------------
 */

static void check_a_run_that_is_not_kept(struct sl_store *store)
{
    struct sl_store_run run = sl_store_rig_run("none");
    run.durability = SL_STORE_NONE;
    struct sl_store_log log = { 0 };
    struct sl_store_begin begin = { .log = &log, .run = &run };
    struct sl_store_append append = { .log = &log, .first_sequence = 1, .last_sequence = 1 };
    struct sl_store_end end = { .log = &log, .sequence = 2 };
    assert_int_equal(sl_store_begin_run(store, &begin), SL_OK);
    assert_int_equal(sl_store_n_open(store), 1);
    assert_int_equal(sl_store_append(store, &append), SL_OK);
    assert_int_equal(sl_store_end_run(store, &end), SL_OK);
    assert_int_equal(sl_store_n_open(store), 0);
}

static void a_run_without_durability_is_only_counted(void **state)
{
    (void)state;
    struct sl_store *memory = NULL;
    assert_int_equal(sl_store_memory_new(&memory), SL_OK);
    check_a_run_that_is_not_kept(memory);
    memory = sl_store_free(memory);
    check_a_run_that_is_not_kept(rig.store);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "none"), SL_NOT_FOUND);
}

static void the_memory_store_has_no_other_durability(void **state)
{
    (void)state;
    struct sl_store *memory = NULL;
    assert_int_equal(sl_store_memory_new(&memory), SL_OK);
    struct sl_store_run run = sl_store_rig_run("sync");
    struct sl_store_log log = { 0 };
    struct sl_store_begin begin = { .log = &log, .run = &run };
    assert_int_equal(sl_store_begin_run(memory, &begin), SL_UNIMPLEMENTED);
    struct sl_store_recover recover = { .log = &log };
    assert_int_equal(sl_store_recover(memory, &recover), SL_END);
    struct sl_store_list list = { .page_size = 10, .n_runs = 7, .next = 7 };
    assert_int_equal(sl_store_list(memory, &list), SL_OK);
    assert_int_equal(list.n_runs + list.next, 0);
    struct sl_store_get get = { .run_id = "sync" };
    assert_int_equal(sl_store_get(memory, &get), SL_NOT_FOUND);
    struct sl_store_renew renew = { .lease_ms = 1 };
    assert_int_equal(sl_store_renew(memory, &renew), SL_OK);
    assert_int_equal(renew.lease_ms, 0);
    assert_int_equal(sl_store_n_open(memory), 0);
    (void)sl_store_free(memory);
}

static enum sl_status save_in(struct sl_store *memory, const char *session_id, size_t n_bytes)
{
    static char bytes[4096];
    memset(bytes, session_id[0], n_bytes);
    const struct sl_store_session session = { .tenant = "acme",
                                              .agent = "helper",
                                              .session_id = session_id,
                                              .messages = sl_slice_of(bytes, n_bytes) };
    struct sl_store_save save = { .session = &session };
    return sl_store_save(memory, &save);
}

/* Its size, when it is there. */
static size_t load_from(struct sl_store *memory, const char *tenant, const char *session_id)
{
    struct sl_store_load load = { .tenant = tenant, .agent = "helper", .session_id = session_id };
    const enum sl_status status = sl_store_load(memory, &load);
    assert_true(status == SL_OK || status == SL_NOT_FOUND);
    const size_t size = load.messages.size;
    if (size > 0) {
        assert_int_equal(load.messages.data[size - 1], session_id[0]);
    }
    sl_store_request_done(&load.request);
    return size;
}

static void the_memory_store_keeps_conversations_when_it_is_told(void **state)
{
    (void)state;
    struct sl_store *memory = NULL;
    assert_int_equal(sl_store_memory_new(&memory), SL_OK);
    assert_int_equal(save_in(memory, "a", 10), SL_UNIMPLEMENTED);
    sl_store_memory_keep(memory, 10, 10000);
    assert_int_equal(save_in(memory, "a", 10), SL_OK);
    assert_int_equal(save_in(memory, "a", 20), SL_OK);
    assert_int_equal(load_from(memory, "acme", "a"), 20);
    assert_int_equal(load_from(memory, "other", "a"), 0);
    assert_int_equal(load_from(memory, "acme", "b"), 0);
    memory = sl_store_free(memory);
}

/* limits.sessions, limits.sessions_total */
static void conversations_unused_for_longest_go_first(void **state)
{
    (void)state;
    struct sl_store *memory = NULL;
    struct sl_store_stats stats;
    const uint64_t n_by_number = sl_limit_n_reached(SL_LIMIT_sessions);
    const uint64_t n_by_bytes = sl_limit_n_reached(SL_LIMIT_sessions_total);
    assert_int_equal(sl_store_memory_new(&memory), SL_OK);
    sl_store_memory_keep(memory, 3, 5000);
    assert_int_equal(save_in(memory, "a", 1000), SL_OK);
    assert_int_equal(save_in(memory, "b", 1000), SL_OK);
    assert_int_equal(save_in(memory, "c", 1000), SL_OK);
    assert_int_equal(load_from(memory, "acme", "a"), 1000);
    assert_int_equal(save_in(memory, "d", 1000), SL_OK);
    assert_int_equal(load_from(memory, "acme", "b"), 0);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_sessions), n_by_number + 1);
    assert_int_equal(save_in(memory, "c", 3000), SL_OK);
    assert_int_equal(load_from(memory, "acme", "a"), 0);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_sessions_total), n_by_bytes + 1);
    assert_int_equal(save_in(memory, "e", 4096), SL_OK);
    sl_store_stats(memory, &stats);
    assert_int_equal(stats.sessions, 1);
    assert_in_range(stats.session_bytes, 4096, 5000);
    assert_int_equal(stats.sessions_removed, 4);
    sl_store_memory_keep(memory, 3, 1000); /* a reload */
    sl_store_stats(memory, &stats);
    assert_int_equal(stats.sessions + stats.session_bytes, 0);
    assert_int_equal(save_in(memory, "e", 1000), SL_RESOURCE_EXHAUSTED);
    memory = sl_store_free(memory);
}

/* ---- A run -------------------------------------------------------------------------------------
 */

static void a_run_comes_back_as_it_was_recorded(void **state)
{
    (void)state;
    static const struct sl_store_pair metadata[] = { { "team", "docs" }, { "order", "" } };
    struct sl_store_run run = sl_store_rig_run("r1");
    run.session_id = "s1";
    run.request_id = "q1";
    run.digest = sl_slice_str("digest");
    run.durability = SL_STORE_ASYNC;
    run.on_disconnect = 2;
    run.metadata = metadata;
    run.n_metadata = 2;
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_n_open(rig.store), 1);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 3), SL_OK);
    assert_int_equal(log.stored, 3);

    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_string_equal(get.run.run_id, "r1");
    assert_string_equal(get.run.tenant, "acme");
    assert_string_equal(get.run.agent, "helper");
    assert_string_equal(get.run.session_id, "s1");
    assert_string_equal(get.run.request_id, "q1");
    assert_true(sl_slice_equals(get.run.digest, "digest"));
    assert_int_equal(get.run.durability, SL_STORE_ASYNC);
    assert_int_equal(get.run.on_disconnect, 2);
    assert_int_equal(get.run.created_ms, 1700000000000);
    assert_int_equal(get.run.n_metadata, 2);
    assert_string_equal(get.run.metadata[0].key, "team");
    assert_string_equal(get.run.metadata[0].value, "docs");
    assert_string_equal(get.run.metadata[1].key, "order");
    assert_string_equal(get.run.metadata[1].value, "");
    assert_int_equal(get.run.state, SL_STORE_STATE_RUNNING);
    assert_int_equal(get.run.ended_ms, 0);
    assert_int_equal(get.run.last_sequence, 3);
    assert_int_equal(get.run.floor, 1);
    assert_false(get.run.is_recovered);
    assert_int_equal(get.run.terminal.size, 0);
    sl_store_request_done(&get.request);

    assert_int_equal(sl_store_rig_end(&rig, &log, 4, 1700000001000), SL_OK);
    assert_int_equal(sl_store_n_open(rig.store), 0);
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_int_equal(get.run.state, SL_STORE_STATE_DONE);
    assert_int_equal(get.run.ended_ms, 1700000001000);
    assert_int_equal(get.run.last_sequence, 4);
    assert_true(sl_store_rig_are_events(get.run.terminal, 4, 1, 100, 0));
    sl_store_request_done(&get.request);
}

static void a_request_id_leads_to_its_run(void **state)
{
    (void)state;
    struct sl_store_run run = sl_store_rig_run("r1");
    run.request_id = "q1";
    run.digest = sl_slice_str("one");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    struct sl_store_get get = { .request = sl_store_rig_request(&rig),
                                .tenant = "acme",
                                .request_id = "q1" };
    assert_int_equal(sl_store_rig_wait(&rig, &get.request, sl_store_get(rig.store, &get)), SL_OK);
    assert_string_equal(get.run.run_id, "r1");
    sl_store_request_done(&get.request);
    get = (struct sl_store_get){ .request = sl_store_rig_request(&rig),
                                 .tenant = "other",
                                 .request_id = "q1" };
    assert_int_equal(
        sl_store_rig_wait(&rig, &get.request, sl_store_get(rig.store, &get)), SL_NOT_FOUND);

    /* The same again is told which run that was; another tenant's is another. */
    run.run_id = "r2";
    struct sl_store_log second = { 0 };
    struct sl_store_begin begin = { .request = sl_store_rig_request(&rig),
                                    .log = &second,
                                    .run = &run };
    assert_int_equal(
        sl_store_rig_wait(&rig, &begin.request, sl_store_begin_run(rig.store, &begin)),
        SL_ALREADY_EXISTS);
    assert_string_equal(begin.found_run_id, "r1");
    assert_true(begin.found_same);
    run.digest = sl_slice_str("two");
    begin.request = sl_store_rig_request(&rig);
    assert_int_equal(
        sl_store_rig_wait(&rig, &begin.request, sl_store_begin_run(rig.store, &begin)),
        SL_ALREADY_EXISTS);
    assert_false(begin.found_same);
    run.tenant = "other";
    assert_int_equal(sl_store_rig_begin(&rig, &second, &run), SL_OK);
    assert_int_equal(sl_store_n_open(rig.store), 2);
}

static void another_tenants_run_is_not_there(void **state)
{
    (void)state;
    sl_store_rig_whole_run(&rig, "r1", 2, 1);
    struct sl_store_get get = { .request = sl_store_rig_request(&rig),
                                .tenant = "other",
                                .run_id = "r1" };
    assert_int_equal(
        sl_store_rig_wait(&rig, &get.request, sl_store_get(rig.store, &get)), SL_NOT_FOUND);
    struct sl_store_read read = { .request = sl_store_rig_request(&rig),
                                  .tenant = "other",
                                  .run_id = "r1" };
    assert_int_equal(
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_NOT_FOUND);
}

/* ---- Appending ---------------------------------------------------------------------------------
 */

static void events_must_follow_what_is_stored(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    enum sl_status status = SL_OK;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 2, 1), SL_FAILED_PRECONDITION);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 5), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 7, 1), SL_FAILED_PRECONDITION);
    assert_int_equal(sl_store_rig_append(&rig, &log, 5, 2), SL_FAILED_PRECONDITION);
    assert_int_equal(log.stored, 5);
    assert_int_equal(sl_store_rig_append(&rig, &log, 6, 1), SL_OK);
    assert_int_equal(sl_store_rig_end(&rig, &log, 7, 1), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 8, 1), SL_FAILED_PRECONDITION);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 7);
    assert_int_equal(status, SL_OK);
}

/* G6: the owner does not know whether it was committed, and asks again. */
static void the_same_append_again_is_harmless(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    enum sl_status status = SL_OK;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 2000), SL_OK); /* several rows */
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 2000), SL_OK);
    assert_int_equal(sl_store_rig_end(&rig, &log, 2001, 1), SL_OK);
    assert_int_equal(sl_store_rig_end(&rig, &log, 2001, 1), SL_OK);
    assert_int_equal(sl_store_n_open(rig.store), 0);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 2001);
}

static void other_bytes_under_a_stored_number_are_refused(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 3), SL_OK);
    struct sl_segment *segment = sl_store_rig_events(1, 3, 100, 1);
    struct sl_store_append append = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .first_sequence = 1,
        .last_sequence = 3,
        .ranges = { { .segment = segment, .to = segment->used } },
        .n_ranges = 1,
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)),
        SL_FAILED_PRECONDITION);
    (void)sl_segment_unref(segment);
}

static void ranges_must_be_the_events_that_they_say(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    struct sl_segment *segment = sl_store_rig_events(1, 3, 100, 0);
    const struct {
        uint64_t last_sequence;
        uint32_t to;
    } wrong[] = { { 4, 315 }, { 2, 315 }, { 3, 314 }, { 3, 318 }, { 0, 0 } };
    for (size_t i = 0; i < SL_COUNT(wrong); i++) {
        struct sl_store_append append = {
            .request = sl_store_rig_request(&rig),
            .log = &log,
            .first_sequence = wrong[i].last_sequence == 0 ? 0 : 1,
            .last_sequence = wrong[i].last_sequence,
            .ranges = { { .segment = segment, .to = wrong[i].to } },
            .n_ranges = 1,
        };
        assert_int_equal(
            sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)),
            SL_INTERNAL);
    }
    (void)sl_segment_unref(segment);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 3), SL_OK);
}

static void an_append_holds_its_segments_until_it_is_done(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    enum sl_status status = SL_OK;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    struct sl_segment *first = sl_store_rig_events(1, 4, 100, 0);
    struct sl_segment *second = sl_store_rig_events(5, 2, 100, 0);
    struct sl_store_append append = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .first_sequence = 2,
        .last_sequence = 6,
        .ranges = { { .segment = first, .from = 105, .to = first->used },
                    { .segment = second, .to = second->used } },
        .n_ranges = 2,
    };
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 1), SL_OK);
    const enum sl_status said = sl_store_append(rig.store, &append);
    (void)sl_segment_unref(first);
    (void)sl_segment_unref(second);
    assert_int_equal(said, SL_PENDING);
    assert_int_equal(sl_store_rig_wait(&rig, &append.request, said), SL_OK);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 6);
}

/* ---- The end, and conversations ----------------------------------------------------------------
 */

static enum sl_status load(struct sl_store_load *load, const char *agent, const char *session_id)
{
    *load = (struct sl_store_load){ .request = sl_store_rig_request(&rig),
                                    .tenant = "acme",
                                    .agent = agent,
                                    .session_id = session_id };
    return sl_store_rig_wait(&rig, &load->request, sl_store_load(rig.store, load));
}

static void the_end_takes_the_conversation_with_it(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    struct sl_store_load loaded;
    const struct sl_store_session session = { "acme", "helper", "s1", sl_slice_str("[hello]") };
    struct sl_segment *segment = sl_store_rig_events(1, 1, 100, 0);
    struct sl_store_end end = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .sequence = 2, /* wrong: nothing may be written */
        .range = { .segment = segment, .to = segment->used },
        .state = SL_STORE_STATE_CANCELLED,
        .ended_ms = 5,
        .session = &session,
    };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(
        sl_store_rig_wait(&rig, &end.request, sl_store_end_run(rig.store, &end)),
        SL_FAILED_PRECONDITION);
    assert_int_equal(load(&loaded, "helper", "s1"), SL_NOT_FOUND);
    end.sequence = 1;
    end.request = sl_store_rig_request(&rig);
    assert_int_equal(
        sl_store_rig_wait(&rig, &end.request, sl_store_end_run(rig.store, &end)), SL_OK);
    (void)sl_segment_unref(segment);
    assert_int_equal(load(&loaded, "helper", "s1"), SL_OK);
    assert_true(sl_slice_equals(loaded.messages, "[hello]"));
    sl_store_request_done(&loaded.request);
    assert_int_equal(load(&loaded, "other", "s1"), SL_NOT_FOUND);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_int_equal(get.run.state, SL_STORE_STATE_CANCELLED);
    sl_store_request_done(&get.request);
}

static void a_conversation_is_replaced(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    struct sl_store_session session = { "acme", "helper", "s1", sl_slice_str("one") };
    struct sl_store_save save = { .request = sl_store_rig_request(&rig),
                                  .log = &log,
                                  .session = &session };
    assert_int_equal(
        sl_store_rig_wait(&rig, &save.request, sl_store_save(rig.store, &save)), SL_OK);
    struct sl_store_log unkept = { .durability = SL_STORE_NONE };
    save.request = sl_store_rig_request(&rig);
    save.log = &unkept;
    assert_int_equal(
        sl_store_rig_wait(&rig, &save.request, sl_store_save(rig.store, &save)), SL_OK);
    session.messages = sl_slice_str("another");
    save.request = sl_store_rig_request(&rig);
    save.log = NULL;
    assert_int_equal(
        sl_store_rig_wait(&rig, &save.request, sl_store_save(rig.store, &save)), SL_OK);
    struct sl_store_load loaded;
    assert_int_equal(load(&loaded, "helper", "s1"), SL_OK);
    assert_true(sl_slice_equals(loaded.messages, "another"));
    sl_store_request_done(&loaded.request);
}

/* ---- Reading -----------------------------------------------------------------------------------
 */

static void reads_give_whole_events_up_to_their_size(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 10), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 11, 10), SL_OK);
    for (uint64_t after = 0; after <= 20; after++) {
        for (size_t max = 1; max <= 2200; max += 150) {
            struct sl_store_read read = {
                .request = sl_store_rig_request(&rig),
                .run_id = "r1",
                .after_sequence = after,
                .max_bytes = max,
            };
            assert_int_equal(
                sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_OK);
            const uint64_t left = 20 - after;
            const uint64_t fits = max / 105 == 0 ? 1 : max / 105;
            const uint64_t n_events = left < fits ? left : fits;
            assert_int_equal(read.bytes.size, n_events * 105);
            assert_true(sl_store_rig_are_events(read.bytes, after + 1, n_events, 100, 0));
            if (n_events > 0) {
                assert_int_equal(read.first_sequence, after + 1);
                assert_int_equal(read.last_sequence, after + n_events);
            }
            assert_int_equal(read.run.last_sequence, 20);
            sl_store_request_done(&read.request);
        }
    }
}

/* S6: no more than 64 KiB a go, but for one event that is larger. */
static void a_read_is_never_larger_than_its_bound(void **state)
{
    (void)state;
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    enum sl_status status = SL_OK;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 9000), SL_OK);
    struct sl_segment *large = sl_store_rig_events(9001, 1, 200000, 0);
    struct sl_store_append append = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .first_sequence = 9001,
        .last_sequence = 9001,
        .ranges = { { .segment = large, .to = large->used } },
        .n_ranges = 1,
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)), SL_OK);
    (void)sl_segment_unref(large);
    struct sl_store_read read = { .request = sl_store_rig_request(&rig),
                                  .run_id = "r1",
                                  .max_bytes = 1000000 };
    assert_int_equal(
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_OK);
    assert_in_range(read.bytes.size, SL_STORE_READ_BYTES - 105, SL_STORE_READ_BYTES);
    sl_store_request_done(&read.request);
    read = (struct sl_store_read){ .request = sl_store_rig_request(&rig),
                                   .run_id = "r1",
                                   .after_sequence = 9000 };
    assert_int_equal(
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_OK);
    assert_true(sl_store_rig_are_events(read.bytes, 9001, 1, 200000, 0));
    sl_store_request_done(&read.request);
    assert_int_equal(sl_store_rig_end(&rig, &log, 9002, 1), SL_OK);
    (void)status;
}

static void what_nobody_wants_any_more_is_taken_back(void **state)
{
    (void)state;
    sl_store_rig_whole_run(&rig, "r1", 2, 1);
    struct sl_store_read reads[64];
    int n_cancelled = 0;
    for (size_t i = 0; i < SL_COUNT(reads); i++) {
        reads[i] = (struct sl_store_read){ .request = sl_store_rig_request(&rig), .run_id = "r1" };
        assert_int_equal(sl_store_read(rig.store, &reads[i]), SL_PENDING);
    }
    for (size_t i = 0; i < SL_COUNT(reads); i++) {
        sl_store_take_back(&reads[i].request);
    }
    for (size_t i = 0; i < SL_COUNT(reads); i++) {
        const enum sl_status status = sl_store_rig_wait(&rig, &reads[i].request, SL_PENDING);
        assert_true(status == SL_OK || status == SL_CANCELLED);
        n_cancelled += status == SL_CANCELLED ? 1 : 0;
        sl_store_request_done(&reads[i].request);
    }
    assert_true(n_cancelled > 0);
}

/* ---- Lists -------------------------------------------------------------------------------------
 */

static void list_page(struct sl_store_list *list, size_t page_size, uint64_t before)
{
    list->request = sl_store_rig_request(&rig);
    list->tenant = "acme";
    list->page_size = page_size;
    list->before = before;
    assert_int_equal(
        sl_store_rig_wait(&rig, &list->request, sl_store_list(rig.store, list)), SL_OK);
}

static void a_list_goes_page_by_page_newest_first(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%d", i);
        struct sl_store_run run = sl_store_rig_run(run_id);
        run.agent = i % 2 == 0 ? "even" : "odd";
        run.session_id = i < 3 ? "s1" : "";
        struct sl_store_log log = { 0 };
        assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
        assert_int_equal(sl_store_rig_end(&rig, &log, 1, 10), SL_OK);
    }
    struct sl_store_list list = { 0 };
    list_page(&list, 3, 0);
    assert_int_equal(list.n_runs, 3);
    assert_string_equal(list.runs[0].run_id, "r6");
    assert_string_equal(list.runs[2].run_id, "r4");
    assert_true(sl_store_rig_are_events(list.runs[0].terminal, 1, 1, 100, 0));
    const uint64_t next = list.next;
    sl_store_request_done(&list.request);
    /* A run that comes meanwhile is not on the next page, and moves nothing. */
    sl_store_rig_whole_run(&rig, "late", 1, 20);
    list_page(&list, 3, next);
    assert_int_equal(list.n_runs, 3);
    assert_string_equal(list.runs[0].run_id, "r3");
    const uint64_t last = list.next;
    sl_store_request_done(&list.request);
    list_page(&list, 3, last);
    assert_int_equal(list.n_runs, 1);
    assert_string_equal(list.runs[0].run_id, "r0");
    assert_int_equal(list.next, 0);
    sl_store_request_done(&list.request);

    list = (struct sl_store_list){ .agent = "odd" };
    list_page(&list, 10, 0);
    assert_int_equal(list.n_runs, 3);
    sl_store_request_done(&list.request);
    list = (struct sl_store_list){ .agent = "even", .session_id = "s1" };
    list_page(&list, 10, 0);
    assert_int_equal(list.n_runs, 2);
    sl_store_request_done(&list.request);
    list = (struct sl_store_list){ .state = SL_STORE_STATE_RUNNING };
    list_page(&list, 10, 0);
    assert_int_equal(list.n_runs, 0);
    assert_int_equal(list.next, 0);
    sl_store_request_done(&list.request);
}

/* ---- Queues ------------------------------------------------------------------------------------
 */

static void an_owner_that_is_too_far_ahead_is_told_to_wait(void **state)
{
    (void)state;
    sl_store_rig_close(&rig);
    rig.options.max_run_bytes = 5000;
    sl_store_rig_open(&rig);
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    enum sl_status status = SL_OK;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    for (uint64_t first = 1; first < 1000; first += 100) {
        struct sl_segment *segment = sl_store_rig_events(first, 100, 100, 0);
        struct sl_store_append append = {
            .request = sl_store_rig_request(&rig),
            .log = &log,
            .first_sequence = first,
            .last_sequence = first + 99,
            .ranges = { { .segment = segment, .to = segment->used } },
            .n_ranges = 1,
        };
        const enum sl_status said = sl_store_append(rig.store, &append);
        assert_int_equal(said, SL_AGAIN);
        assert_int_equal(sl_store_rig_wait(&rig, &append.request, said), SL_OK);
        assert_int_equal(log.queued_bytes, 0);
        assert_false(log.is_over);
        (void)sl_segment_unref(segment);
    }
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 1000);
}

/* What queued while the writer was busy is one transaction. */
static void appends_that_wait_are_committed_together(void **state)
{
    (void)state;
    enum { N = 200 };
    static struct sl_store_log logs[N];
    static struct sl_store_begin begins[N];
    static struct sl_store_run runs[N];
    static char ids[N][16];
    for (int i = 0; i < N; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "r%d", i);
        runs[i] = sl_store_rig_run(ids[i]);
        begins[i] = (struct sl_store_begin){ .request = sl_store_rig_request(&rig),
                                             .log = &logs[i],
                                             .run = &runs[i] };
        assert_int_equal(sl_store_begin_run(rig.store, &begins[i]), SL_PENDING);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(sl_store_rig_wait(&rig, &begins[i].request, SL_PENDING), SL_OK);
        assert_int_equal(logs[i].number, i + 1);
    }
    struct sl_store_stats stats;
    sl_store_stats(rig.store, &stats);
    assert_in_range(stats.commits, 1, N / 2);
    assert_int_equal(stats.failed_commits, 0);
    assert_true(stats.commit_ns >= stats.longest_commit_ns && stats.longest_commit_ns > 0);
    assert_int_equal(sl_store_n_open(rig.store), N);
}

/* ---- Cursors -----------------------------------------------------------------------------------
 */

/* RL-C19 */
static void a_cursor_is_checked_against_the_run(void **state)
{
    (void)state;
    struct sl_store_run run = { .durability = SL_STORE_ASYNC, .last_sequence = 20, .floor = 5 };
    assert_int_equal(sl_store_check_cursor(&run, 3), SL_OUT_OF_RANGE);
    assert_int_equal(sl_store_check_cursor(&run, 4), SL_OK);
    assert_int_equal(sl_store_check_cursor(&run, 20), SL_OK);
    assert_int_equal(sl_store_check_cursor(&run, 21), SL_AGAIN);
    run.ended_ms = 1;
    assert_int_equal(sl_store_check_cursor(&run, 21), SL_OUT_OF_RANGE);
    run.is_recovered = true;
    run.recovered_after = 19;
    assert_int_equal(sl_store_check_cursor(&run, 19), SL_OK);
    assert_int_equal(sl_store_check_cursor(&run, 20), SL_DATA_LOSS);
    run.durability = SL_STORE_SYNC;
    assert_int_equal(sl_store_check_cursor(&run, 20), SL_OK);
    assert_int_equal(sl_store_check_cursor(&run, 21), SL_DATA_LOSS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_rig, close_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_without_durability_is_only_counted),
        TEST(the_memory_store_has_no_other_durability),
        TEST(the_memory_store_keeps_conversations_when_it_is_told),
        TEST(conversations_unused_for_longest_go_first),
        TEST(a_run_comes_back_as_it_was_recorded),
        TEST(a_request_id_leads_to_its_run),
        TEST(another_tenants_run_is_not_there),
        TEST(events_must_follow_what_is_stored),
        TEST(the_same_append_again_is_harmless),
        TEST(other_bytes_under_a_stored_number_are_refused),
        TEST(ranges_must_be_the_events_that_they_say),
        TEST(an_append_holds_its_segments_until_it_is_done),
        TEST(the_end_takes_the_conversation_with_it),
        TEST(a_conversation_is_replaced),
        TEST(reads_give_whole_events_up_to_their_size),
        TEST(a_read_is_never_larger_than_its_bound),
        TEST(what_nobody_wants_any_more_is_taken_back),
        TEST(a_list_goes_page_by_page_newest_first),
        TEST(an_owner_that_is_too_far_ahead_is_told_to_wait),
        TEST(appends_that_wait_are_committed_together),
        TEST(a_cursor_is_checked_against_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
