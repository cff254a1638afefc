#include "service/cli/bench/stats.h"

#include <stdio.h>

#include "service/cli/bench/wire.h"
#include "service/rpc/rpc.h"
#include "service/rpc/status.h"

/* ---- Ends --------------------------------------------------------------------------------------
 */

/* The place of a reason; the last one is for all that find no place of their own. */
static struct sl_bench_reason *find_reason(struct sl_bench_stats *stats, const char *name)
{
    for (size_t i = 0; i < stats->n_reasons; i++) {
        if (strcmp(stats->reasons[i].name, name) == 0) {
            return &stats->reasons[i];
        }
    }
    if (stats->n_reasons < SL_BENCH_REASONS_MAX) {
        const bool is_last = stats->n_reasons == SL_BENCH_REASONS_MAX - 1;
        struct sl_bench_reason *reason = &stats->reasons[stats->n_reasons++];
        (void)snprintf(reason->name, sizeof(reason->name), "%s", is_last ? "(others)" : name);
        return reason;
    }
    return &stats->reasons[SL_BENCH_REASONS_MAX - 1];
}

static void count_reason(struct sl_bench_stats *stats, struct sl_slice bytes)
{
    struct sl_arena arena;
    struct sl_rpc_details details;
    sl_arena_init(&arena, 0);
    if (sl_rpc_details_decode(bytes, &arena, &details) == SL_OK && details.reason.size > 0) {
        char name[SL_BENCH_REASON_BYTES];
        const size_t room = sizeof(name) - 1;
        details.reason.size = details.reason.size < room ? details.reason.size : room;
        (void)snprintf(name, sizeof(name), "%.*s", SL_SLICE_FMT(details.reason));
        find_reason(stats, name)->n++;
    }
    sl_arena_done(&arena);
}

void sl_bench_stats_end(
    struct sl_bench_stats *stats, enum sl_status status, struct sl_slice details, const char *text)
{
    const enum sl_status final = sl_rpc_status_clamp(status == SL_END ? SL_OK : status);
    stats->by_status[final]++;
    if (final == SL_OK) {
        return;
    }
    if (details.size > 0) {
        count_reason(stats, details);
    }
    if (stats->first_error[0] == '\0') {
        (void)snprintf(
            stats->first_error, sizeof(stats->first_error), "%s: %s", sl_status_name(final), text);
    }
}

void sl_bench_stats_merge(struct sl_bench_stats *stats, const struct sl_bench_stats *other)
{
    for (size_t i = 0; i < SL_BENCH_N_TIMES; i++) {
        sl_histogram_merge(&stats->times[i], &other->times[i]);
    }
    for (size_t i = 0; i < SL_BENCH_N_STATUS; i++) {
        stats->by_status[i] += other->by_status[i];
    }
    stats->n_cancelled += other->n_cancelled;
    stats->n_unfinished += other->n_unfinished;
    stats->n_gaps += other->n_gaps;
    stats->n_duplicates += other->n_duplicates;
    stats->n_starved += other->n_starved;
    for (size_t i = 0; i < other->n_reasons; i++) {
        find_reason(stats, other->reasons[i].name)->n += other->reasons[i].n;
    }
    if (stats->first_error[0] == '\0') {
        memcpy(stats->first_error, other->first_error, sizeof(stats->first_error));
    }
}

uint64_t sl_bench_stats_n_errors(const struct sl_bench_stats *stats)
{
    uint64_t n = 0;
    for (size_t i = 1; i < SL_BENCH_N_STATUS; i++) {
        n += stats->by_status[i];
    }
    return n;
}

uint64_t sl_bench_stats_n_calls(const struct sl_bench_stats *stats)
{
    return stats->by_status[0] + sl_bench_stats_n_errors(stats) + stats->n_cancelled +
           stats->n_unfinished;
}

/* ---- Messages ----------------------------------------------------------------------------------
 */

void sl_bench_stats_sequence(struct sl_bench_stats *stats, uint64_t *next, uint64_t sequence)
{
    if (sequence == 0) {
        return;
    }
    if (sequence < *next) {
        stats->n_duplicates++;
        return;
    }
    stats->n_gaps += sequence - *next;
    *next = sequence + 1;
}

enum { EVENT_SEQUENCE = 1, EVENT_TEXT_DELTA = 10, DELTA_TEXT = 1 };

uint64_t sl_bench_event_sequence(struct sl_slice message)
{
    struct sl_bench_field field;
    return sl_bench_field_find(message, EVENT_SEQUENCE, &field) ? field.value : 0;
}

/* Takes decimal digits and the blank behind them. */
static bool take_number(struct sl_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < rest->size && i <= 20; i++) {
        if (rest->data[i] == ' ' && i > 0) {
            *rest = sl_slice_of(rest->data + i + 1, rest->size - i - 1);
            *ret_value = value;
            return true;
        }
        if (rest->data[i] < '0' || rest->data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(rest->data[i] - '0');
    }
    return false;
}

bool sl_bench_event_stamp(struct sl_slice message, uint64_t *ret_ns)
{
    struct sl_bench_field event, delta;
    uint64_t index;
    return sl_bench_field_find(message, EVENT_TEXT_DELTA, &event) &&
           sl_bench_field_find(event.bytes, DELTA_TEXT, &delta) &&
           take_number(&delta.bytes, &index) && take_number(&delta.bytes, ret_ns);
}
