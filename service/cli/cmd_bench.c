/* sluice bench: many streams of one agent at a time; what they cost in time, and how they ended.
 *
 * Each of --streams slots runs the agent, again and again until --duration is over (or --runs were
 * started), spread over --connections. First event: from the request to the first message. Gap:
 * between two messages of a stream, as they are taken. Percentiles are of all streams. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <jansson.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/cli/cli.h"
#include "service/cli/histogram.h"

enum { STREAMS_MAX = 200000, CONNECTIONS_MAX = 10000, GRACE_MS = 10000 };

struct bench;

/* A place that one stream after the other takes. */
struct slot {
    struct bench *bench;
    struct sl_channel *channel;
    struct sl_client_call *call;
    struct sl_task restart;
    uint64_t started_ns, last_ns;
    bool has_event;
};

struct bench {
    struct sl_cli cli;
    const char *agent, *input;
    uint64_t n_streams, n_connections, n_runs, duration_ms, rate;
    const char *streams_text, *connections_text, *runs_text, *duration_text, *rate_text;
    struct slot *slots;
    struct sl_channel **channels;
    struct sl_timer end, grace, pace;
    uint64_t begin_ns, end_ns, due_ns;
    uint64_t n_started, n_open, n_messages, n_bytes;
    uint64_t by_status[17];
    bool is_over, is_drained;
    struct sl_histogram first, gap;
    char first_error[300];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SL_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- Streams -----------------------------------------------------------------------------------
 */

static void start_stream(struct slot *slot);

static bool may_start(const struct bench *bench)
{
    return !bench->is_over && (bench->n_runs == 0 || bench->n_started < bench->n_runs);
}

static void check_end(struct bench *bench)
{
    if (bench->n_open == 0 && !may_start(bench) && !bench->is_drained) {
        bench->is_drained = true;
        bench->end_ns = now_ns();
        sl_cli_stop(&bench->cli, SL_EXIT_DONE);
    }
}

static void run_restart(struct sl_task *task)
{
    struct slot *slot = SL_CONTAINER(task, struct slot, restart);
    slot->call = sl_client_call_free(slot->call);
    if (slot->bench->rate == 0 && may_start(slot->bench)) {
        start_stream(slot);
    }
    check_end(slot->bench);
}

static void end_stream(struct slot *slot, enum sl_status status)
{
    struct bench *bench = slot->bench;
    const enum sl_status final = status == SL_END ? SL_OK : status;
    if ((int) final >= 0 && (int) final <= 16) {
        bench->by_status[final]++;
    }
    if (final != SL_OK && bench->first_error[0] == '\0') {
        (void)snprintf(
            bench->first_error, sizeof(bench->first_error), "%s: %s", sl_status_name(final),
            sl_client_call_error(slot->call)->text);
    }
    bench->n_open--;
    sl_loop_defer(bench->cli.loop, &slot->restart);
}

static void count_message(struct slot *slot, struct sl_slice message)
{
    struct bench *bench = slot->bench;
    const uint64_t now = now_ns();
    if (!slot->has_event) {
        sl_histogram_add(&bench->first, now - slot->started_ns);
        slot->has_event = true;
    } else {
        sl_histogram_add(&bench->gap, now - slot->last_ns);
    }
    slot->last_ns = now;
    bench->n_messages++;
    bench->n_bytes += message.size;
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct slot *slot = user_data;
    struct sl_slice message;
    enum sl_status status = sl_client_call_recv_bytes(call, &message);
    while (status == SL_OK) {
        count_message(slot, message);
        status = sl_client_call_recv_bytes(call, &message);
    }
    if (status != SL_AGAIN) {
        end_stream(slot, status);
    }
}

static void start_stream(struct slot *slot)
{
    struct bench *bench = slot->bench;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = bench->cli.options.timeout_ms,
                                                    .wait_for_ready = false,
                                                    .on_readable = on_readable,
                                                    .user_data = slot };
    struct sl_sluice__v1__agent_runtime__execute_streaming__reader *reader;
    Sluice__V1__ExecuteRequest request;
    sluice__v1__execute_request__init(&request);
    request.agent = sl_unconst(bench->agent);
    request.input = sl_unconst(bench->input);
    slot->started_ns = now_ns();
    slot->has_event = false;
    bench->n_started++;
    if (sl_sluice__v1__agent_runtime__execute_streaming__open(
            slot->channel, &options, &request, &reader) != SL_OK) {
        bench->by_status[SL_RESOURCE_EXHAUSTED]++;
        return;
    }
    slot->call = sl_sluice__v1__agent_runtime__execute_streaming__client_call(reader);
    bench->n_open++;
}

/* Open loop: --rate streams a second are started, in free slots, whatever the others do. */
static void on_pace(void *user_data)
{
    struct bench *bench = user_data;
    const uint64_t now = now_ns();
    for (uint64_t i = 0; i < bench->n_streams && bench->due_ns <= now && may_start(bench); i++) {
        struct slot *slot = &bench->slots[bench->n_started % bench->n_streams];
        bench->due_ns += SL_NS_PER_S / bench->rate;
        if (slot->call == NULL) {
            start_stream(slot);
        }
    }
    if (may_start(bench)) {
        sl_timer_start_ms(&bench->pace, 1);
    }
    check_end(bench);
}

static void on_end(void *user_data)
{
    struct bench *bench = user_data;
    bench->is_over = true;
    sl_timer_start_ms(&bench->grace, GRACE_MS);
    check_end(bench);
}

/* What is still open after the grace is cancelled and counts as such. */
static void on_grace(void *user_data)
{
    struct bench *bench = user_data;
    for (uint64_t i = 0; i < bench->n_streams; i++) {
        if (bench->slots[i].call != NULL) {
            sl_client_call_cancel(bench->slots[i].call);
        }
    }
}

static void on_signal(struct sl_cli *cli, void *user_data)
{
    struct bench *bench = user_data;
    (void)cli;
    bench->is_over = true;
    on_grace(bench);
    check_end(bench);
}

/* ---- The report --------------------------------------------------------------------------------
 */

static json_t *percentiles(const struct sl_histogram *histogram)
{
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:f}", "p50", (double)sl_histogram_at(histogram, 0.5) / 1000, "p90",
        (double)sl_histogram_at(histogram, 0.9) / 1000, "p99",
        (double)sl_histogram_at(histogram, 0.99) / 1000, "p999",
        (double)sl_histogram_at(histogram, 0.999) / 1000, "max", (double)histogram->max / 1000);
}

static void print_json(const struct bench *bench, double seconds)
{
    json_t *statuses = json_object();
    for (size_t i = 0; i < SL_COUNT(bench->by_status); i++) {
        if (bench->by_status[i] > 0) {
            (void)json_object_set_new(
                statuses, sl_status_name((enum sl_status)i),
                json_integer((json_int_t)bench->by_status[i]));
        }
    }
    json_t *json = json_pack(
        "{s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o}", "seconds", seconds, "streams",
        (json_int_t)bench->n_streams, "connections", (json_int_t)bench->n_connections, "runs",
        (json_int_t)bench->n_started, "messages", (json_int_t)bench->n_messages, "bytes",
        (json_int_t)bench->n_bytes, "messages_per_s", (double)bench->n_messages / seconds,
        "first_us", percentiles(&bench->first), "gap_us", percentiles(&bench->gap), "status",
        statuses);
    (void)json_dumpf(json, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    (void)putchar('\n');
    json_decref(json);
}

static void print_row(const char *name, const struct sl_histogram *histogram)
{
    static const double shares[] = { 0.5, 0.9, 0.99, 0.999 };
    (void)printf("%-12s", name);
    for (size_t i = 0; i < SL_COUNT(shares); i++) {
        (void)printf(" %10.3f", (double)sl_histogram_at(histogram, shares[i]) / 1e6);
    }
    (void)printf(" %10.3f\n", (double)histogram->max / 1e6);
}

static void print_report(const struct bench *bench, double seconds)
{
    (void)printf(
        "%" PRIu64 " runs on %" PRIu64 " streams and %" PRIu64 " connections in %.2f s\n",
        bench->n_started, bench->n_streams, bench->n_connections, seconds);
    (void)printf(
        "%" PRIu64 " messages (%.0f a second), %.1f MB (%.1f MB a second)\n\n", bench->n_messages,
        (double)bench->n_messages / seconds, (double)bench->n_bytes / 1e6,
        (double)bench->n_bytes / 1e6 / seconds);
    (void)printf("%-12s %10s %10s %10s %10s %10s\n", "ms", "p50", "p90", "p99", "p99.9", "max");
    print_row("first event", &bench->first);
    print_row("gap", &bench->gap);
    (void)putchar('\n');
    for (size_t i = 0; i < SL_COUNT(bench->by_status); i++) {
        if (bench->by_status[i] > 0) {
            (void)printf(
                "%-20s %" PRIu64 "\n", sl_status_name((enum sl_status)i), bench->by_status[i]);
        }
    }
    if (bench->first_error[0] != '\0') {
        (void)printf("first error: %s\n", bench->first_error);
    }
}

/* ---- Start and end -----------------------------------------------------------------------------
 */

static enum sl_status open_channels(struct bench *bench)
{
    struct sl_error err = { 0 };
    const struct sl_cli_options *options = &bench->cli.options;
    const struct sl_channel_options channel = { .struct_size = sizeof(channel),
                                                .loop = bench->cli.loop,
                                                .tls = bench->cli.tls,
                                                .authority = options->server_name };
    bench->channels = sl_calloc(bench->n_connections, sizeof(struct sl_channel *));
    bench->slots = sl_calloc(bench->n_streams, sizeof(bench->slots[0]));
    if (bench->channels == NULL || bench->slots == NULL) {
        sl_cli_complain("out of memory");
        return SL_RESOURCE_EXHAUSTED;
    }
    for (uint64_t i = 0; i < bench->n_connections; i++) {
        if (sl_channel_new(options->address, &channel, &bench->channels[i], &err) != SL_OK) {
            sl_cli_complain("%s", err.text);
            return SL_UNAVAILABLE;
        }
    }
    uint64_t at = 0;
    for (uint64_t i = 0; i < bench->n_streams; i++) {
        bench->slots[i] = (struct slot){ .bench = bench,
                                         .channel = bench->channels[at],
                                         .restart = { .run = run_restart } };
        at = at + 1 < bench->n_connections ? at + 1 : 0;
    }
    return SL_OK;
}

static void run_bench(struct bench *bench)
{
    bench->cli.on_signal = on_signal;
    bench->cli.user_data = bench;
    sl_timer_init(&bench->end, bench->cli.loop, on_end, bench);
    sl_timer_init(&bench->grace, bench->cli.loop, on_grace, bench);
    sl_timer_init(&bench->pace, bench->cli.loop, on_pace, bench);
    bench->begin_ns = bench->due_ns = now_ns();
    if (bench->duration_ms > 0) {
        sl_timer_start_ms(&bench->end, bench->duration_ms);
    }
    if (bench->rate > 0) {
        on_pace(bench);
    } else {
        for (uint64_t i = 0; i < bench->n_streams && may_start(bench); i++) {
            start_stream(&bench->slots[i]);
        }
    }
    (void)sl_cli_run(&bench->cli);
}

static int report(struct bench *bench)
{
    const double seconds = (double)(bench->end_ns - bench->begin_ns) / 1e9;
    uint64_t n_failed = 0;
    for (size_t i = 1; i < SL_COUNT(bench->by_status); i++) {
        n_failed += bench->by_status[i];
    }
    if (bench->cli.options.is_json) {
        print_json(bench, seconds);
    } else {
        print_report(bench, seconds);
    }
    if (n_failed > 0 && bench->by_status[0] == 0 && bench->by_status[SL_UNAVAILABLE] == n_failed) {
        return SL_EXIT_UNREACHABLE;
    }
    return n_failed == 0 ? SL_EXIT_DONE : SL_EXIT_ERROR;
}

static void close_bench(struct bench *bench)
{
    for (uint64_t i = 0; bench->slots != NULL && i < bench->n_streams; i++) {
        bench->slots[i].call = sl_client_call_free(bench->slots[i].call);
    }
    for (uint64_t i = 0; bench->channels != NULL && i < bench->n_connections; i++) {
        bench->channels[i] = sl_channel_free(bench->channels[i]);
    }
    sl_timer_stop(&bench->end);
    sl_timer_stop(&bench->grace);
    sl_timer_stop(&bench->pace);
    sl_cli_close(&bench->cli);
    sl_free(bench->slots);
    sl_free(bench->channels);
}

static enum sl_status
number(const char *flag, const char *text, uint64_t least, uint64_t greatest, uint64_t *value)
{
    if (text != NULL && sl_parse_u64(sl_slice_str(text), least, greatest, value) != SL_OK) {
        sl_cli_complain("%s: a number from %" PRIu64 " to %" PRIu64, flag, least, greatest);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static enum sl_status read_options(struct bench *bench)
{
    SL_TRY(number("--streams", bench->streams_text, 1, STREAMS_MAX, &bench->n_streams));
    SL_TRY(number(
        "--connections", bench->connections_text, 1, CONNECTIONS_MAX, &bench->n_connections));
    SL_TRY(number("--runs", bench->runs_text, 1, 1000000000, &bench->n_runs));
    SL_TRY(number("--rate", bench->rate_text, 1, 1000000, &bench->rate));
    if (bench->duration_text != NULL &&
        sl_parse_duration_ms(sl_slice_str(bench->duration_text), 86400000, &bench->duration_ms) !=
            SL_OK) {
        sl_cli_complain("--duration: '%s' is not a duration such as 10s", bench->duration_text);
        return SL_INVALID_ARGUMENT;
    }
    if (bench->n_runs == 0 && bench->duration_ms == 0) {
        bench->duration_ms = 10000;
    }
    if (bench->n_connections > bench->n_streams) {
        bench->n_connections = bench->n_streams;
    }
    return SL_OK;
}

static int run_bench_command(int argc, char **argv)
{
    static struct bench bench = {
        .agent = "load", .input = "events=100 bytes=100 rate=0", .n_streams = 1, .n_connections = 1
    };
    struct sl_cli_options options;
    const enum sl_status parsed = sl_cli_parse(&options, &sl_cmd_bench, &bench, &argc, argv);
    if (parsed != SL_OK || argc != 0 || read_options(&bench) != SL_OK) {
        return sl_cli_usage(&sl_cmd_bench);
    }
    int exit_code = SL_EXIT_ERROR;
    if (sl_cli_open(&bench.cli, &options) == SL_OK && open_channels(&bench) == SL_OK) {
        run_bench(&bench);
        exit_code = report(&bench);
    }
    close_bench(&bench);
    return exit_code;
}

#define FLAG(name, field, value, text)                                                             \
    {                                                                                              \
        name, SL_CLI_TEXT, offsetof(struct bench, field), value, text                              \
    }
static const struct sl_cli_flag flags[] = {
    FLAG("--agent", agent, "NAME", "what each stream runs (load)"),
    FLAG("--input", input, "TEXT", "its input"),
    FLAG("--streams", streams_text, "N", "streams at a time (1)"),
    FLAG("--connections", connections_text, "N", "over how many connections (1)"),
    FLAG("--runs", runs_text, "N", "stop after so many"),
    FLAG("--duration", duration_text, "DURATION", "stop after this time (10s)"),
    FLAG("--rate", rate_text, "N", "start so many runs a second"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_bench = {
    .name = "bench",
    .arguments = "",
    .text = "measure a server with many streams",
    .run = run_bench_command,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
};
