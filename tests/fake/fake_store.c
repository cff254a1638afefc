#include "tests/fake/fake_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"

enum { MOST_BYTES = 64 * 1024 * 1024, CONTEXT_BYTES = 4096 };

static struct sl_fake_store *of(struct sl_store *base)
{
    return SL_CONTAINER(base, struct sl_fake_store, base);
}

static void keep(struct sl_fake_store *store, const struct sl_store_range *range)
{
    const struct sl_slice bytes =
        sl_slice_of(range->segment->bytes + range->from, range->to - range->from);
    assert_int_equal(sl_buf_add(&store->bytes, bytes), SL_OK);
}

static void do_begin(struct sl_fake_store *store, struct sl_store_begin *begin)
{
    const struct sl_store_run *run = begin->run;
    int size = snprintf(
        store->texts, sizeof(store->texts), "%s %s %s %s %.*s|", run->tenant, run->agent,
        run->session_id, run->request_id, SL_SLICE_FMT(run->digest));
    for (size_t i = 0; i < run->n_metadata; i++) {
        size += snprintf(
            store->texts + size, sizeof(store->texts) - (size_t)size, "%s=%s", run->metadata[i].key,
            run->metadata[i].value);
    }
    assert_true(!store->is_begun || store->stored == 0); /* again, before there was an event */
    store->is_begun = true;
    assert_int_equal(sl_buf_add(&store->begun_context, run->context), SL_OK);
    store->durability = run->durability;
}

static void note_lost(struct sl_fake_store *store, bool has_lost, uint64_t next_sequence)
{
    if (has_lost && !store->has_lost) {
        store->has_lost = true;
        store->lost_after = next_sequence - 1;
    }
}

/* The same append may come again. */
static enum sl_status do_append(struct sl_fake_store *store, const struct sl_store_append *append)
{
    if (append->last_sequence == store->stored && append->n_ranges > 0) {
        return SL_OK;
    }
    if (append->first_sequence != store->stored + 1 || store->is_ended) {
        return SL_FAILED_PRECONDITION;
    }
    for (uint32_t i = 0; i < append->n_ranges; i++) {
        keep(store, &append->ranges[i]);
    }
    note_lost(store, append->has_lost, append->first_sequence);
    store->stored = append->last_sequence;
    store->rests = append->rests;
    store->state = append->state != SL_STORE_STATE_ANY ? append->state : store->state;
    if (append->resume.size > 0) {
        sl_buf_clear(&store->resume);
        assert_int_equal(sl_buf_add(&store->resume, append->resume), SL_OK);
    }
    return SL_OK;
}

static enum sl_status do_end(struct sl_fake_store *store, const struct sl_store_end *end)
{
    if (end->sequence != store->stored + 1 || store->is_ended) {
        return SL_FAILED_PRECONDITION;
    }
    keep(store, &end->range);
    store->stored = end->sequence;
    store->is_ended = true;
    store->state = end->state;
    note_lost(store, end->has_lost, end->sequence);
    store->ended_ms = end->ended_ms;
    assert_int_equal(sl_buf_add(&store->ended_context, end->context), SL_OK);
    if (end->session != NULL) {
        (void)snprintf(
            store->messages, sizeof(store->messages), "%s %s %s %.*s", end->session->tenant,
            end->session->agent, end->session->session_id, SL_SLICE_FMT(end->session->messages));
    }
    return SL_OK;
}

/* One event at a time. */
static enum sl_status do_read(struct sl_fake_store *store, struct sl_store_read *read)
{
    struct sl_slice rest = sl_buf_slice(&store->bytes);
    for (uint64_t sequence = 0; rest.size > 0; sequence++) {
        const size_t size = sl_event_size(rest.data);
        if (sequence == read->after_sequence) {
            read->bytes = sl_slice_of(rest.data, size);
            return store->failure;
        }
        rest = sl_slice_of(rest.data + size, rest.size - size);
    }
    return store->failure;
}

static enum sl_status carry_out(struct sl_fake_store *store, struct sl_store_request *request)
{
    if (request->kind == SL_STORE_RENEW) {
        SL_CONTAINER(request, struct sl_store_renew, request)->lease_ms = store->lease_ms;
        return store->renew_failure;
    }
    if (request->kind == SL_STORE_BEGIN) {
        struct sl_store_begin *begin = SL_CONTAINER(request, struct sl_store_begin, request);
        if (store->begin_failure == SL_OK || store->lies) {
            do_begin(store, begin);
        } else if (store->found_run_id != NULL) {
            (void)snprintf(
                begin->found_run_id, sizeof(begin->found_run_id), "%s", store->found_run_id);
            begin->found_same = store->found_same;
        }
        return store->begin_failure;
    }
    if (store->failure != SL_OK && !store->lies) {
        return store->failure;
    }
    if (request->kind == SL_STORE_GET) {
        return store->failure != SL_OK ? store->failure : store->is_begun ? SL_OK : SL_NOT_FOUND;
    }
    if (request->kind == SL_STORE_READ) {
        return do_read(store, SL_CONTAINER(request, struct sl_store_read, request));
    }
    if (request->kind == SL_STORE_SAVE) {
        const struct sl_store_save *save = SL_CONTAINER(request, struct sl_store_save, request);
        store->n_saves++;
        store->saved_sequence = save->context_sequence;
        store->saved_durability = save->log == NULL ? SL_STORE_NONE : save->log->durability;
        return store->failure;
    }
    const enum sl_status status =
        request->kind == SL_STORE_APPEND
            ? do_append(store, SL_CONTAINER(request, struct sl_store_append, request))
            : do_end(store, SL_CONTAINER(request, struct sl_store_end, request));
    return store->failure != SL_OK ? store->failure : status;
}

static void answer(struct sl_fake_store *store, struct sl_store_request *request)
{
    sl_store_answer(request, carry_out(store, request), "the test says so");
}

void sl_fake_store_answer(struct sl_fake_store *store)
{
    assert_true(store->n_pending > 0);
    struct sl_store_request *request = store->pending[0];
    store->n_pending--;
    for (size_t i = 0; i < store->n_pending; i++) {
        store->pending[i] = store->pending[i + 1];
    }
    answer(store, request);
}

static enum sl_status fake_submit(struct sl_store *base, struct sl_store_request *request)
{
    struct sl_fake_store *store = of(base);
    const bool is_append = request->kind == SL_STORE_APPEND;
    store->n_begins += request->kind == SL_STORE_BEGIN;
    store->n_appends += is_append;
    store->n_ends += request->kind == SL_STORE_END;
    store->n_looks += request->kind == SL_STORE_GET;
    store->n_renews += request->kind == SL_STORE_RENEW;
    if (store->holds || (store->holds_saves && request->kind == SL_STORE_SAVE)) {
        assert_int_equal(store->n_pending, 0); /* one at a time */
        store->pending[store->n_pending++] = request;
    } else {
        answer(store, request);
    }
    return is_append && store->says_again ? SL_AGAIN : SL_PENDING;
}

static bool fake_take_back(struct sl_store *store, struct sl_store_request *request)
{
    (void)store;
    (void)request;
    return false;
}

static bool fake_has_durability(const struct sl_store *store, enum sl_store_durability durability)
{
    (void)store;
    (void)durability;
    return true;
}

static void fake_free(struct sl_store *store)
{
    (void)store;
}

static const struct sl_store_ops ops = { .submit = fake_submit,
                                         .take_back = fake_take_back,
                                         .has_durability = fake_has_durability,
                                         .free = fake_free };

/* For tests that have no memory later. */
static void make_room(struct sl_buf *buf)
{
    uint8_t *room = NULL;
    sl_buf_init(buf, MOST_BYTES);
    assert_int_equal(sl_buf_reserve(buf, CONTEXT_BYTES, &room), SL_OK);
}

void sl_fake_store_init(struct sl_fake_store *store)
{
    *store = (struct sl_fake_store){ .base.ops = &ops };
    sl_buf_init(&store->bytes, MOST_BYTES);
    make_room(&store->begun_context);
    make_room(&store->ended_context);
    sl_buf_init(&store->resume, MOST_BYTES);
}

void sl_fake_store_done(struct sl_fake_store *store)
{
    assert_int_equal(store->n_pending, 0);
    sl_buf_done(&store->bytes);
    sl_buf_done(&store->begun_context);
    sl_buf_done(&store->ended_context);
    sl_buf_done(&store->resume);
}
