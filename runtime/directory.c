#include "runtime/directory.h"

#include <pthread.h>
#include <stdio.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"

/* Ended requests that are remembered at most, for each run that may be there. */
enum { REMEMBERED_PER_RUN = 2 };

struct sl_directory_request {
    UT_hash_handle hh;
    struct sl_list node; /* of the ended ones, oldest first */
    bool is_ended;
    uint64_t ended_ns;
    char run_id[SL_ID_BYTES];
    char id[]; /* terminated */
};

struct sl_directory {
    struct sl_directory_options options;
    struct {
        pthread_mutex_t lock;
        bool is_draining;
        struct sl_list waiting;
        struct sl_directory_counts counts;
        struct sl_directory_request *requests;
        struct sl_list ended_requests;
        uint64_t n_ended_requests;
        uint64_t *runs_of_loop;
    } shared;
};

static void lock(struct sl_directory *directory)
{
    (void)pthread_mutex_lock(&directory->shared.lock);
}

static void unlock(struct sl_directory *directory)
{
    (void)pthread_mutex_unlock(&directory->shared.lock);
}

/* ---- Request ids -------------------------------------------------------------------------------
 */

/* uthash is macros, which the linter counts. */
// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
static struct sl_directory_request *
find_request(const struct sl_directory *directory, const char *id)
{
    struct sl_directory_request *request = NULL;
    HASH_FIND(hh, directory->shared.requests, id, strlen(id), request);
    return request;
}

static bool add_request(struct sl_directory *directory, struct sl_directory_request *request)
{
    sl_map_oom = false;
    HASH_ADD(hh, directory->shared.requests, id, strlen(request->id), request);
    return !sl_map_oom;
}

static void remove_request(struct sl_directory *directory, struct sl_directory_request *request)
{
    HASH_DELETE(hh, directory->shared.requests, request);
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

static void forget(struct sl_directory *directory, struct sl_directory_request *request)
{
    remove_request(directory, request);
    if (request->is_ended) {
        sl_list_remove(&request->node);
        directory->shared.n_ended_requests--;
    }
    (void)sl_free(request);
}

static void forget_old(struct sl_directory *directory, uint64_t now_ns)
{
    const uint64_t max = directory->options.max_runs * REMEMBERED_PER_RUN;
    struct sl_list *oldest = sl_list_first(&directory->shared.ended_requests);
    while (oldest != NULL) {
        struct sl_directory_request *request =
            SL_CONTAINER(oldest, struct sl_directory_request, node);
        if (directory->shared.n_ended_requests <= max &&
            now_ns - request->ended_ns < directory->options.request_keep_ns) {
            return;
        }
        forget(directory, request);
        oldest = sl_list_first(&directory->shared.ended_requests);
    }
}

static enum sl_admission remember(
    struct sl_directory *directory,
    const char *request_id,
    const char *run_id,
    struct sl_directory_request **ret_request)
{
    const size_t size = strlen(request_id);
    struct sl_directory_request *request = sl_calloc(1, sizeof(*request) + size + 1);
    if (request == NULL) {
        return SL_ADMIT_NO_MEMORY;
    }
    memcpy(request->id, request_id, size);
    (void)snprintf(request->run_id, sizeof(request->run_id), "%s", run_id);
    if (!add_request(directory, request)) {
        (void)sl_free(request);
        return SL_ADMIT_NO_MEMORY;
    }
    *ret_request = request;
    return SL_ADMIT_RUN;
}

/* ---- Places ------------------------------------------------------------------------------------
 */

/* The reader's loop, unless it has over twice the runs of the least loaded one. */
static uint32_t choose_loop(const struct sl_directory *directory, uint32_t home)
{
    const uint64_t *runs = directory->shared.runs_of_loop;
    uint32_t least = home;
    for (uint32_t i = 0; i < directory->options.n_loops; i++) {
        if (runs[i] < runs[least]) {
            least = i;
        }
    }
    return runs[home] > 2 * runs[least] ? least : home;
}

static void take_slot(struct sl_directory *directory, struct sl_ticket *ticket)
{
    ticket->state = SL_TICKET_RUNNING;
    ticket->loop = choose_loop(directory, ticket->home);
    directory->shared.runs_of_loop[ticket->loop]++;
    directory->shared.counts.running++;
}

/* As much as there is to decide without a change. */
static enum sl_admission judge(struct sl_directory *directory)
{
    const struct sl_directory_counts *counts = &directory->shared.counts;
    if (directory->shared.is_draining) {
        return SL_ADMIT_DRAINING;
    }
    if (counts->running < directory->options.max_runs && counts->waiting == 0) {
        return SL_ADMIT_RUN;
    }
    return counts->waiting < directory->options.max_waiting ? SL_ADMIT_WAIT : SL_ADMIT_FULL;
}

static enum sl_admission admit(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    const char *run_id,
    const char *request_id,
    char ret_run_id[SL_ID_BYTES])
{
    const bool has_id = request_id[0] != '\0';
    const struct sl_directory_request *known = has_id ? find_request(directory, request_id) : NULL;
    if (known != NULL) {
        memcpy(ret_run_id, known->run_id, SL_ID_BYTES);
        return SL_ADMIT_REQUEST_ID;
    }
    const enum sl_admission verdict = judge(directory);
    if (verdict != SL_ADMIT_RUN && verdict != SL_ADMIT_WAIT) {
        return verdict;
    }
    if (has_id && remember(directory, request_id, run_id, &ticket->request) == SL_ADMIT_NO_MEMORY) {
        return SL_ADMIT_NO_MEMORY;
    }
    if (verdict == SL_ADMIT_RUN) {
        take_slot(directory, ticket);
    } else {
        ticket->state = SL_TICKET_WAITING;
        sl_list_add_last(&directory->shared.waiting, &ticket->node);
        directory->shared.counts.waiting++;
    }
    return verdict;
}

enum sl_admission sl_directory_admit(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    uint32_t home,
    const char *run_id,
    const char *request_id,
    uint64_t now_ns,
    char ret_run_id[SL_ID_BYTES])
{
    *ticket = (struct sl_ticket){ .state = SL_TICKET_NONE, .home = home };
    lock(directory);
    forget_old(directory, now_ns);
    const enum sl_admission verdict = admit(directory, ticket, run_id, request_id, ret_run_id);
    if (verdict != SL_ADMIT_RUN && verdict != SL_ADMIT_WAIT) {
        directory->shared.counts.refused++;
    }
    unlock(directory);
    return verdict;
}

static struct sl_ticket *take_first_waiting(struct sl_directory *directory)
{
    struct sl_list *node = sl_list_first(&directory->shared.waiting);
    if (node == NULL) {
        return NULL;
    }
    struct sl_ticket *ticket = SL_CONTAINER(node, struct sl_ticket, node);
    sl_list_remove(node);
    directory->shared.counts.waiting--;
    return ticket;
}

/* A run that was there is remembered for a while; one that never was is not. */
static void
end_request(struct sl_directory *directory, struct sl_ticket *ticket, bool was_run, uint64_t now_ns)
{
    struct sl_directory_request *request = SL_TAKE(ticket->request);
    if (request == NULL) {
        return;
    }
    if (!was_run) {
        forget(directory, request);
        return;
    }
    request->is_ended = true;
    request->ended_ns = now_ns;
    sl_list_add_last(&directory->shared.ended_requests, &request->node);
    directory->shared.n_ended_requests++;
    forget_old(directory, now_ns);
}

static struct sl_ticket *admit_waiting(struct sl_directory *directory)
{
    if (directory->shared.is_draining ||
        directory->shared.counts.running >= directory->options.max_runs) {
        return NULL;
    }
    struct sl_ticket *next = take_first_waiting(directory);
    if (next != NULL) {
        take_slot(directory, next);
    }
    return next;
}

struct sl_ticket *sl_directory_leave(
    struct sl_directory *directory, struct sl_ticket *ticket, bool was_run, uint64_t now_ns)
{
    lock(directory);
    struct sl_ticket *next = NULL;
    if (ticket->state == SL_TICKET_RUNNING) {
        ticket->state = SL_TICKET_NONE;
        directory->shared.runs_of_loop[ticket->loop]--;
        directory->shared.counts.running--;
        directory->shared.counts.started += was_run ? 1 : 0;
        directory->shared.counts.ended += was_run ? 1 : 0;
        directory->shared.counts.refused += was_run ? 0 : 1;
        end_request(directory, ticket, was_run, now_ns);
        next = admit_waiting(directory);
    }
    unlock(directory);
    return next;
}

struct sl_ticket *sl_directory_admit_waiting(struct sl_directory *directory)
{
    lock(directory);
    struct sl_ticket *next = admit_waiting(directory);
    unlock(directory);
    return next;
}

void sl_directory_set_options(
    struct sl_directory *directory, const struct sl_directory_options *options)
{
    lock(directory);
    directory->options.max_runs = options->max_runs;
    directory->options.max_waiting = options->max_waiting;
    directory->options.request_keep_ns = options->request_keep_ns;
    unlock(directory);
}

bool sl_directory_abandon(struct sl_directory *directory, struct sl_ticket *ticket)
{
    lock(directory);
    const bool was_waiting = ticket->state == SL_TICKET_WAITING;
    if (was_waiting) {
        ticket->state = SL_TICKET_NONE;
        sl_list_remove(&ticket->node);
        directory->shared.counts.waiting--;
        directory->shared.counts.refused++;
        end_request(directory, ticket, false, 0);
    }
    unlock(directory);
    return was_waiting;
}

void sl_directory_drain(struct sl_directory *directory)
{
    lock(directory);
    directory->shared.is_draining = true;
    unlock(directory);
}

struct sl_ticket *sl_directory_take_waiting(struct sl_directory *directory)
{
    lock(directory);
    struct sl_ticket *ticket = take_first_waiting(directory);
    if (ticket != NULL) {
        ticket->state = SL_TICKET_NONE;
        directory->shared.counts.refused++;
        end_request(directory, ticket, false, 0);
    }
    unlock(directory);
    return ticket;
}

void sl_directory_count(struct sl_directory *directory, struct sl_directory_counts *ret_counts)
{
    lock(directory);
    *ret_counts = directory->shared.counts;
    unlock(directory);
    ret_counts->started += ret_counts->running;
}

void sl_directory_count_refused(struct sl_directory *directory)
{
    lock(directory);
    directory->shared.counts.refused++;
    unlock(directory);
}

enum sl_status
sl_directory_new(const struct sl_directory_options *options, struct sl_directory **ret_directory)
{
    struct sl_directory *directory = sl_calloc(1, sizeof(*directory));
    uint64_t *runs_of_loop = sl_calloc(options->n_loops, sizeof(*runs_of_loop));
    if (directory == NULL || runs_of_loop == NULL) {
        (void)sl_free(runs_of_loop);
        (void)sl_free(directory);
        return SL_RESOURCE_EXHAUSTED;
    }
    directory->options = *options;
    directory->shared.runs_of_loop = runs_of_loop;
    sl_list_init(&directory->shared.waiting);
    sl_list_init(&directory->shared.ended_requests);
    (void)pthread_mutex_init(&directory->shared.lock, NULL);
    *ret_directory = directory;
    return SL_OK;
}

struct sl_directory *sl_directory_free(struct sl_directory *directory)
{
    if (directory == NULL) {
        return NULL;
    }
    struct sl_directory_request *request = directory->shared.requests;
    while (request != NULL) {
        struct sl_directory_request *next = request->hh.next;
        forget(directory, request);
        request = next;
    }
    (void)pthread_mutex_destroy(&directory->shared.lock);
    (void)sl_free(directory->shared.runs_of_loop);
    return sl_free(directory);
}
