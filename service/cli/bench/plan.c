#include "service/cli/bench/plan.h"

#include <inttypes.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/cli/bench/report.h"
#include "service/cli/resolve.h"

enum { DAY_MS = 86400000, DURATION_MS = 10000, OPEN_STREAMS = 10000, WINDOW_MAX = 0x7FFFFFFF };

/* What the options say, as it was given. */
struct texts {
    const char *agent, *input, *call, *data, *protoset, *histogram, *plot;
    const char *streams, *connections, *threads, *runs, *rate, *messages, *pid;
    const char *duration, *warmup, *ramp, *cancel, *read_rate, *window;
    bool is_gzip;
    struct sl_cli_list headers, gates;
};

#define FLAG(name, field, value, text)                                                             \
    {                                                                                              \
        name, SL_CLI_TEXT, offsetof(struct texts, field), value, text                              \
    }
#define LIST_FLAG(name, field, value, text)                                                        \
    {                                                                                              \
        name, SL_CLI_LIST, offsetof(struct texts, field), value, text                              \
    }
const struct sl_cli_flag sl_bench_flags[SL_BENCH_N_FLAGS] = {
    FLAG("--agent", agent, "NAME", "calls are runs of this agent (load)"),
    FLAG("--input", input, "TEXT", "their input"),
    FLAG("--call", call, "PKG.SVC/M", "instead: any method of any gRPC server, by reflection"),
    FLAG("--data", data, "JSON|@FILE", "its requests, one JSON value behind the other ({})"),
    FLAG("--protoset", protoset, "FILE", "its schema, when the server has no reflection"),
    FLAG("--messages", messages, "N", "requests of a call that streams them"),
    LIST_FLAG("--header", headers, "'KEY: VALUE'", "metadata of each call; may be repeated"),
    { "--gzip", SL_CLI_SWITCH, offsetof(struct texts, is_gzip), NULL, "compress requests" },
    FLAG("--streams", streams, "N", "streams at a time (1; with --rate at most 10000)"),
    FLAG("--connections", connections, "N", "over so many connections (one a thread)"),
    FLAG("--threads", threads, "N", "event loops of the client (1)"),
    FLAG("--rate", rate, "N", "open loop: start N calls a second, whatever the others do"),
    FLAG("--ramp", ramp, "DURATION", "reach all streams, or the rate, after this time"),
    FLAG("--warmup", warmup, "DURATION", "do not count what happens before"),
    FLAG("--duration", duration, "DURATION", "stop after this time, behind the warm-up (10s)"),
    FLAG("--runs", runs, "N", "stop after so many calls"),
    FLAG("--cancel-after", cancel, "MS:PCT", "cancel this share so long after the first message"),
    FLAG("--read-rate", read_rate, "N[:PCT]", "slow readers: N messages a second, on this share"),
    FLAG("--window", window, "BYTES", "flow control window of a stream"),
    FLAG("--pid", pid, "PID", "the server: its CPU and memory, from /proc"),
    LIST_FLAG("--fail-if", gates, "EXPRESSION", "exit status 1 if 'p99_first_ms>20'; repeatable"),
    FLAG("--histogram", histogram, "FILE", "every latency, as CSV"),
    FLAG("--plot", plot, "FILE", "latencies and throughput, as SVG"),
};
#undef FLAG
#undef LIST_FLAG

static enum sl_status add_gates(struct sl_bench_plan *plan, const struct sl_cli_list *list)
{
    for (size_t i = 0; i < list->n_items; i++) {
        struct sl_error err = { 0 };
        struct sl_bench_gate *gate = &plan->gates[plan->n_gates++];
        if (sl_bench_gate_parse(list->items[i], sl_bench_figure_exists, gate, &err) != SL_OK) {
            sl_cli_complain("--fail-if: %s", err.text);
            return SL_INVALID_ARGUMENT;
        }
    }
    return SL_OK;
}

/* ---- Numbers and times -------------------------------------------------------------------------
 */

static enum sl_status
number(const char *flag, const char *text, uint64_t least, uint64_t greatest, uint64_t *value)
{
    if (text != NULL && sl_parse_u64(sl_slice_str(text), least, greatest, value) != SL_OK) {
        sl_cli_complain("%s: a number from %" PRIu64 " to %" PRIu64, flag, least, greatest);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static enum sl_status duration(const char *flag, const char *text, uint64_t *value_ms)
{
    if (text != NULL && sl_parse_duration_ms(sl_slice_str(text), DAY_MS, value_ms) != SL_OK) {
        sl_cli_complain("%s: '%s' is not a duration such as 500ms or 10s, up to 24h", flag, text);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

/* What stands before the last colon, and the percentage behind it; without one 100. */
static enum sl_status
with_share(const char *flag, const char *text, struct sl_slice *ret_first, uint64_t *ret_pct)
{
    const char *colon = strrchr(text, ':');
    *ret_first = colon == NULL ? sl_slice_str(text) : sl_slice_of(text, (size_t)(colon - text));
    *ret_pct = 100;
    if (colon == NULL) {
        return SL_OK;
    }
    struct sl_slice share = sl_slice_str(colon + 1);
    share.size -= share.size > 0 && share.data[share.size - 1] == '%' ? 1 : 0;
    if (sl_parse_u64(share, 0, 100, ret_pct) != SL_OK) {
        sl_cli_complain("%s: '%s' is not a share from 0 to 100 percent", flag, colon + 1);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static enum sl_status read_cancel(struct sl_bench_plan *plan, const char *text)
{
    if (text == NULL) {
        return SL_OK;
    }
    struct sl_slice first;
    SL_TRY(with_share("--cancel-after", text, &first, &plan->cancel_pct));
    if (sl_parse_duration_ms(first, DAY_MS, &plan->cancel_ms) != SL_OK) {
        sl_cli_complain("--cancel-after: '%s' is not MS:PCT such as 200:10 or 2s:50", text);
        return SL_INVALID_ARGUMENT;
    }
    plan->has_cancel = true;
    return SL_OK;
}

static enum sl_status read_slowness(struct sl_bench_plan *plan, const struct texts *texts)
{
    if (texts->window != NULL &&
        (sl_parse_bytes(sl_slice_str(texts->window), WINDOW_MAX, &plan->window_bytes) != SL_OK ||
         plan->window_bytes == 0)) {
        sl_cli_complain("--window: '%s' is not a size such as 64KiB, below 2 GiB", texts->window);
        return SL_INVALID_ARGUMENT;
    }
    if (texts->read_rate == NULL) {
        return SL_OK;
    }
    struct sl_slice first;
    SL_TRY(with_share("--read-rate", texts->read_rate, &first, &plan->read_pct));
    if (sl_parse_u64(first, 1, 1000000, &plan->read_rate) != SL_OK) {
        sl_cli_complain(
            "--read-rate: '%s' is not MESSAGES_A_SECOND or MESSAGES_A_SECOND:PCT, from 1 to "
            "1000000",
            texts->read_rate);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static enum sl_status read_numbers(struct sl_bench_plan *plan, const struct texts *texts)
{
    SL_TRY(number("--rate", texts->rate, 1, 10000000, &plan->rate));
    plan->n_streams = plan->rate > 0 ? OPEN_STREAMS : 1;
    SL_TRY(number("--streams", texts->streams, 1, SL_BENCH_STREAMS_MAX, &plan->n_streams));
    SL_TRY(number("--threads", texts->threads, 1, SL_BENCH_THREADS_MAX, &plan->n_threads));
    plan->n_connections = plan->n_threads;
    SL_TRY(number(
        "--connections", texts->connections, 1, SL_BENCH_CONNECTIONS_MAX, &plan->n_connections));
    SL_TRY(number("--runs", texts->runs, 1, 1000000000, &plan->n_runs));
    SL_TRY(number("--messages", texts->messages, 1, 1000000000, &plan->n_messages));
    SL_TRY(number("--pid", texts->pid, 1, INT32_MAX, &plan->pid));
    SL_TRY(duration("--duration", texts->duration, &plan->duration_ms));
    SL_TRY(duration("--warmup", texts->warmup, &plan->warmup_ms));
    SL_TRY(duration("--ramp", texts->ramp, &plan->ramp_ms));
    SL_TRY(read_cancel(plan, texts->cancel));
    return read_slowness(plan, texts);
}

/* ---- What fits together ------------------------------------------------------------------------
 */

static enum sl_status check(struct sl_bench_plan *plan, const struct texts *texts)
{
    if (plan->n_connections > plan->n_streams) {
        plan->n_connections = plan->n_streams;
    }
    if (plan->n_threads > plan->n_connections) {
        sl_cli_complain(
            "--threads: %" PRIu64 " threads need as many --connections and --streams, here are "
            "%" PRIu64,
            plan->n_threads, plan->n_connections);
        return SL_INVALID_ARGUMENT;
    }
    if (plan->call == NULL &&
        (plan->data != NULL || plan->protoset != NULL || texts->messages != NULL)) {
        sl_cli_complain("--data, --protoset and --messages belong to --call");
        return SL_INVALID_ARGUMENT;
    }
    if (plan->call != NULL && (plan->agent != NULL || plan->input != NULL)) {
        sl_cli_complain("--agent and --input are for runs of an agent, not for --call");
        return SL_INVALID_ARGUMENT;
    }
    if (plan->n_runs == 0 && texts->duration == NULL) {
        plan->duration_ms = DURATION_MS;
    }
    if (texts->duration != NULL && plan->duration_ms == 0) {
        sl_cli_complain("--duration: more than 0");
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static void take_texts(struct sl_bench_plan *plan, const struct texts *texts)
{
    plan->agent = texts->agent;
    plan->input = texts->input;
    plan->call = texts->call;
    plan->data = texts->data;
    plan->protoset = texts->protoset;
    plan->histogram_file = texts->histogram;
    plan->plot_file = texts->plot;
    plan->is_gzip = texts->is_gzip;
}

enum sl_status sl_bench_plan_init(
    struct sl_bench_plan *plan, const struct sl_cli_command *command, int argc, char **argv)
{
    struct texts texts = { 0 };
    *plan = (struct sl_bench_plan){ .n_threads = 1 };
    sl_arena_init(&plan->arena, 0);
    SL_TRY(sl_cli_parse(&plan->options, command, &texts, &argc, argv));
    if (!sl_cli_takes(argc, argv, NULL, 0)) {
        return SL_INVALID_ARGUMENT;
    }
    if (plan->options.n_retries > 0) {
        sl_cli_complain("--retry: a measurement shows what fails, and does not repeat it");
        return SL_INVALID_ARGUMENT;
    }
    take_texts(plan, &texts);
    SL_TRY(read_numbers(plan, &texts));
    SL_TRY(check(plan, &texts));
    SL_TRY(add_gates(plan, &texts.gates));
    SL_TRY(sl_cli_read_headers(&texts.headers, &plan->header_arena, &plan->metadata));
    if (plan->call == NULL) {
        plan->agent = plan->agent != NULL ? plan->agent : "load";
        plan->input = plan->input != NULL ? plan->input : "events=100 bytes=100 rate=0";
    }
    return SL_OK;
}

void sl_bench_plan_done(struct sl_bench_plan *plan)
{
    sl_arena_done(&plan->arena);
    sl_arena_done(&plan->header_arena);
}
