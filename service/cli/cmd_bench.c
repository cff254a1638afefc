/* sluice bench: when what begins and ends. The calls are made by the threads of bench/worker.h; the
 * main thread has the clock, the signals and the report.
 *
 *   warm-up ─▶ measured ─▶ over: open calls may end ─▶ cut: the rest is cancelled ─▶ report
 *
 * What is counted a second, and CPU time, are of the measured time alone; times, statuses and
 * sequences are of all calls that began in it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/report.h"
#include "service/cli/bench/request.h"
#include "service/cli/bench/usage.h"
#include "service/cli/bench/worker.h"
#include "service/cli/cli.h"

enum { GRACE_MS = 10000, TICK_MS = 100, TICKS_A_LINE = 10, LOST_S = 10 };

/* Sums of the workers' counters. */
struct totals {
    uint64_t n_messages, n_bytes, n_ended, n_ok, n_errors, n_lost, n_open;
};

struct bench {
    struct sl_cli cli;
    struct sl_bench_plan plan;
    struct sl_bench_shared shared;
    struct sl_bench_worker *workers[SL_BENCH_THREADS_MAX];
    uint64_t n_started, n_done;
    struct sl_timer phase, grace, tick;
    uint64_t n_ticks, from_ns, ticked_ns, progress_ns;
    bool is_measuring, is_over, is_cut, has_line, is_terminal;
    struct totals from, ticked, progress;
    struct sl_bench_usage server_from, client_from;
    struct sl_bench_report report;
    FILE *histogram_file, *plot_file;
    int exit_code;
};

static struct totals add_up(const struct bench *bench)
{
    struct totals totals = { 0 };
    for (uint64_t i = 0; i < bench->n_started; i++) {
        struct sl_bench_worker *worker = bench->workers[i];
        totals.n_messages += atomic_load_explicit(&worker->n_messages, memory_order_relaxed);
        totals.n_bytes += atomic_load_explicit(&worker->n_bytes, memory_order_relaxed);
        totals.n_ended += atomic_load_explicit(&worker->n_ended, memory_order_relaxed);
        totals.n_ok += atomic_load_explicit(&worker->n_ok, memory_order_relaxed);
        totals.n_errors += atomic_load_explicit(&worker->n_errors, memory_order_relaxed);
        totals.n_lost += atomic_load_explicit(&worker->n_lost, memory_order_relaxed);
        totals.n_open += atomic_load_explicit(&worker->n_open, memory_order_relaxed);
    }
    return totals;
}

/* ---- The measured time -------------------------------------------------------------------------
 */

static void read_server(struct bench *bench, struct sl_bench_usage *usage)
{
    struct sl_error err = { 0 };
    if (bench->plan.pid == 0) {
        return;
    }
    if (sl_bench_usage_read(bench->plan.pid, usage, &err) != SL_OK) {
        bench->report.has_server = false;
        sl_cli_complain("%s: no figures of the server's CPU and memory", err.text);
        bench->plan.pid = 0;
    }
}

static void begin_measuring(struct bench *bench)
{
    bench->report.has_server = bench->plan.pid > 0;
    read_server(bench, &bench->server_from);
    bench->client_from = sl_bench_usage_own();
    bench->from = add_up(bench);
    bench->from_ns = sl_bench_now_ns();
    bench->is_measuring = true;
}

static void subtract(struct sl_bench_usage *usage, const struct sl_bench_usage *from)
{
    usage->user_s -= from->user_s;
    usage->system_s -= from->system_s;
}

static void end_measuring(struct bench *bench)
{
    struct sl_bench_report *report = &bench->report;
    if (!bench->is_measuring) {
        return;
    }
    const struct totals totals = add_up(bench);
    bench->is_measuring = false;
    report->seconds = (double)(sl_bench_now_ns() - bench->from_ns) / 1e9;
    report->n_messages = totals.n_messages - bench->from.n_messages;
    report->n_bytes = totals.n_bytes - bench->from.n_bytes;
    report->n_ended = totals.n_ended - bench->from.n_ended;
    read_server(bench, &report->server);
    subtract(&report->server, &bench->server_from);
    report->client = sl_bench_usage_own();
    subtract(&report->client, &bench->client_from);
}

/* ---- The end -----------------------------------------------------------------------------------
 */

static void tell_all(struct bench *bench, enum sl_bench_order order)
{
    for (uint64_t i = 0; i < bench->n_started; i++) {
        sl_bench_worker_tell(bench->workers[i], order);
    }
}

/* No more calls; those that are open may end. */
static void end_starts(struct bench *bench)
{
    if (!bench->is_over) {
        bench->is_over = true;
        end_measuring(bench);
        tell_all(bench, SL_BENCH_OVER);
        sl_timer_start_ms(&bench->grace, GRACE_MS);
    }
}

/* Everything ends now, as soon as the calls are cancelled. */
static void cut(struct bench *bench)
{
    end_starts(bench);
    sl_timer_start_ms(&bench->grace, 0);
}

static void on_grace(void *user_data)
{
    struct bench *bench = user_data;
    if (!bench->is_cut) {
        bench->is_cut = true;
        tell_all(bench, SL_BENCH_CUT);
    }
}

static struct bench *bench_of(const struct sl_bench_worker *worker)
{
    return SL_CONTAINER(worker->shared, struct bench, shared);
}

static void run_done(struct sl_task *task)
{
    struct bench *bench = bench_of(SL_CONTAINER(task, struct sl_bench_worker, done));
    bench->n_done++;
    if (bench->n_done == bench->n_started) {
        end_measuring(bench);
        tell_all(bench, SL_BENCH_STOP);
        sl_cli_stop(&bench->cli, bench->exit_code);
    }
}

static void run_unreachable(struct sl_task *task)
{
    const struct sl_bench_worker *worker = SL_CONTAINER(task, struct sl_bench_worker, unreachable);
    struct bench *bench = bench_of(worker);
    if (bench->exit_code == SL_EXIT_DONE) {
        bench->exit_code = SL_EXIT_UNREACHABLE;
        sl_cli_complain("UNAVAILABLE: %s", worker->unreachable_text);
        cut(bench);
    }
}

static void on_signal(struct sl_cli *cli, void *user_data)
{
    struct bench *bench = user_data;
    (void)cli;
    bench->report.is_interrupted = true;
    bench->exit_code = SL_EXIT_CANCELLED;
    cut(bench);
}

/* The warm-up is over, or the measured time. */
static void on_phase(void *user_data)
{
    struct bench *bench = user_data;
    if (bench->is_measuring) {
        end_starts(bench);
        return;
    }
    begin_measuring(bench);
    if (bench->plan.warmup_ms > 0) {
        tell_all(bench, SL_BENCH_MEASURE);
    }
    if (bench->plan.duration_ms > 0) {
        sl_timer_start_ms(&bench->phase, bench->plan.duration_ms);
    }
}

/* ---- While it runs -----------------------------------------------------------------------------
 */

/* One line on the terminal that is written over. */
static void show_line(struct bench *bench, const struct totals *totals, double messages_per_s)
{
    const double seconds = (double)(sl_bench_now_ns() - bench->shared.begin_ns) / 1e9;
    (void)fprintf(
        stderr,
        "\r%6.0f s%s  %12.0f messages/s  %8" PRIu64 " calls ended  %6" PRIu64 " open  %6" PRIu64
        " errors ",
        seconds,
        bench->is_over        ? " ending"
        : bench->is_measuring ? ""
                              : " warm-up",
        messages_per_s, totals->n_ended, totals->n_open, totals->n_errors);
    (void)fflush(stderr);
    bench->has_line = true;
}

/* A server that went away for good is not waited for: for some time nothing but failing connections
 * was seen. */
static void check_lost(struct bench *bench, const struct totals *totals, uint64_t now_ns)
{
    const struct totals *before = &bench->progress;
    if (totals->n_open > 0 || totals->n_messages != before->n_messages ||
        totals->n_ok != before->n_ok || totals->n_lost == before->n_lost) {
        bench->progress = *totals;
        bench->progress_ns = now_ns;
    } else if (now_ns - bench->progress_ns > LOST_S * SL_NS_PER_S && !bench->report.is_lost) {
        bench->report.is_lost = true;
        cut(bench);
    }
}

static void on_tick(void *user_data)
{
    struct bench *bench = user_data;
    const struct totals totals = add_up(bench);
    const uint64_t now_ns = sl_bench_now_ns();
    const struct sl_bench_point point = {
        .seconds = (double)(now_ns - bench->ticked_ns) / 1e9,
        .n_messages = (double)(totals.n_messages - bench->ticked.n_messages),
        .n_calls = (double)(totals.n_ended - bench->ticked.n_ended),
        .n_errors = (double)(totals.n_errors - bench->ticked.n_errors),
    };
    if (!bench->is_over) {
        sl_bench_series_add(&bench->report.series, &point);
    }
    bench->ticked = totals;
    bench->ticked_ns = now_ns;
    if (++bench->n_ticks % TICKS_A_LINE == 0 && bench->is_terminal) {
        show_line(bench, &totals, point.seconds > 0 ? point.n_messages / point.seconds : 0);
    }
    check_lost(bench, &totals, now_ns);
    sl_timer_start_ms(&bench->tick, TICK_MS);
}

/* ---- Start -------------------------------------------------------------------------------------
 */

/* Each connection needs a descriptor: as many as the system allows. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static enum sl_status make_workers(struct bench *bench)
{
    struct sl_error err = { 0 };
    bench->shared = (struct sl_bench_shared){ .plan = &bench->plan,
                                              .tls = bench->cli.tls,
                                              .home = bench->cli.loop,
                                              .on_done = run_done,
                                              .on_unreachable = run_unreachable };
    raise_descriptors();
    for (uint64_t i = 0; i < bench->plan.n_threads; i++) {
        const enum sl_status status =
            sl_bench_worker_new(&bench->shared, i, &bench->workers[i], &err);
        if (status != SL_OK) {
            sl_cli_complain("%s", err.text);
            return status;
        }
    }
    return SL_OK;
}

static void run(struct bench *bench)
{
    bench->cli.on_signal = on_signal;
    bench->cli.user_data = bench;
    bench->is_terminal = isatty(STDERR_FILENO) == 1;
    sl_timer_init(&bench->phase, bench->cli.loop, on_phase, bench);
    sl_timer_init(&bench->grace, bench->cli.loop, on_grace, bench);
    sl_timer_init(&bench->tick, bench->cli.loop, on_tick, bench);
    bench->shared.begin_ns = bench->ticked_ns = bench->progress_ns = sl_bench_now_ns();
    if (bench->plan.warmup_ms > 0) {
        sl_timer_start_ms(&bench->phase, bench->plan.warmup_ms);
    } else {
        on_phase(bench);
    }
    sl_timer_start_ms(&bench->tick, TICK_MS);
    for (; bench->n_started < bench->plan.n_threads; bench->n_started++) {
        if (sl_bench_worker_start(bench->workers[bench->n_started]) != SL_OK) {
            sl_cli_complain("cannot start a thread");
            bench->exit_code = SL_EXIT_ERROR;
            cut(bench);
            break;
        }
    }
    if (bench->n_started > 0) {
        (void)sl_cli_run(&bench->cli);
    }
    if (bench->has_line) {
        (void)fputc('\n', stderr);
    }
}

/* ---- Report ------------------------------------------------------------------------------------
 */

static void collect(struct bench *bench)
{
    struct sl_bench_report *report = &bench->report;
    report->plan = &bench->plan;
    for (uint64_t i = 0; i < bench->n_started; i++) {
        const struct sl_bench_worker *worker = bench->workers[i];
        const double cpu_s = (double)(worker->cpu_to_ns - worker->cpu_from_ns) / 1e9;
        const double busy = report->seconds > 0 ? cpu_s / report->seconds : 0;
        sl_bench_stats_merge(&report->stats, &worker->stats);
        report->busy = busy > report->busy ? busy : report->busy;
        report->n_open_max += worker->n_open_max; /* more than there were, if at other moments */
        report->n_limit_waits += worker->n_limit_waits;
        report->stream_limit =
            worker->n_limit_waits > 0 ? worker->stream_limit : report->stream_limit;
    }
}

typedef void(write_fn)(const struct sl_bench_report *report, FILE *out);

/* False after a line on stderr. */
static bool finish_file(const struct bench *bench, FILE *file, const char *path, write_fn *write_it)
{
    if (file == NULL) {
        return true;
    }
    write_it(&bench->report, file);
    const bool is_bad = ferror(file) != 0;
    if (fclose(file) != 0 || is_bad) {
        sl_cli_complain("%s: cannot be written", path);
        return false;
    }
    return true;
}

/* A failed call fails the bench, unless a gate says how many may. */
static bool is_error_judged(const struct sl_bench_plan *plan)
{
    for (size_t i = 0; i < plan->n_gates; i++) {
        if (strcmp(plan->gates[i].name, "errors") == 0 ||
            strcmp(plan->gates[i].name, "error_pct") == 0) {
            return true;
        }
    }
    return false;
}

static int judge(const struct bench *bench)
{
    int exit_code = bench->exit_code;
    bool is_broken =
        sl_bench_stats_n_errors(&bench->report.stats) > 0 && !is_error_judged(&bench->plan);
    for (size_t i = 0; i < bench->plan.n_gates; i++) {
        char text[SL_BENCH_REMARK_BYTES];
        if (sl_bench_gate_is_broken(&bench->report, i, text)) {
            is_broken = true;
            sl_cli_complain("failed: --fail-if %s", text);
        }
    }
    if (exit_code == SL_EXIT_DONE && (is_broken || bench->report.is_lost)) {
        exit_code = SL_EXIT_ERROR;
    }
    return exit_code;
}

static int report(struct bench *bench)
{
    if (bench->exit_code == SL_EXIT_UNREACHABLE) {
        return SL_EXIT_UNREACHABLE;
    }
    if (bench->cli.options.is_json) {
        sl_bench_write_json(&bench->report, stdout);
    } else {
        sl_bench_write_text(&bench->report, stdout);
    }
    const bool are_written =
        finish_file(
            bench, SL_TAKE(bench->histogram_file), bench->plan.histogram_file,
            sl_bench_write_histogram) &&
        finish_file(bench, SL_TAKE(bench->plot_file), bench->plan.plot_file, sl_bench_write_plot);
    const int exit_code = judge(bench);
    return are_written || exit_code != SL_EXIT_DONE ? exit_code : SL_EXIT_ERROR;
}

/* ---- The command -------------------------------------------------------------------------------
 */

/* Opened before anything is measured: a path that is wrong is not found out at the end. */
static bool open_file(const char *path, FILE **ret_file)
{
    if (path == NULL) {
        return true;
    }
    *ret_file = fopen(path, "w");
    if (*ret_file == NULL) {
        char why[128] = "";
        sl_cli_complain("%s: cannot be written: %s", path, strerror_r(errno, why, sizeof(why)));
    }
    return *ret_file != NULL;
}

static int make_and_run(struct bench *bench)
{
    const int exit_code = sl_bench_request_make(&bench->plan, &bench->cli);
    if (exit_code != SL_EXIT_DONE) {
        return exit_code;
    }
    if (make_workers(bench) != SL_OK) {
        return SL_EXIT_ERROR;
    }
    run(bench);
    for (uint64_t i = 0; i < bench->n_started; i++) {
        sl_bench_worker_join(bench->workers[i]);
    }
    collect(bench);
    return report(bench);
}

static void close_bench(struct bench *bench)
{
    for (uint64_t i = 0; i < bench->plan.n_threads; i++) {
        bench->workers[i] = sl_bench_worker_free(bench->workers[i]);
    }
    if (bench->shared.begin_ns > 0) {
        sl_timer_stop(&bench->phase);
        sl_timer_stop(&bench->grace);
        sl_timer_stop(&bench->tick);
    }
    if (bench->histogram_file != NULL) {
        (void)fclose(bench->histogram_file);
    }
    if (bench->plot_file != NULL) {
        (void)fclose(bench->plot_file);
    }
    sl_cli_close(&bench->cli);
}

static int run_bench_command(int argc, char **argv)
{
    static struct bench the_bench;
    struct bench *bench = &the_bench;
    int exit_code = SL_EXIT_USAGE;
    if (sl_bench_plan_init(&bench->plan, &sl_cmd_bench, argc, argv) != SL_OK) {
        exit_code = sl_cli_usage(&sl_cmd_bench);
    } else if (
        open_file(bench->plan.histogram_file, &bench->histogram_file) &&
        open_file(bench->plan.plot_file, &bench->plot_file) &&
        sl_cli_open(&bench->cli, &bench->plan.options) == SL_OK) {
        exit_code = make_and_run(bench);
    }
    close_bench(bench);
    sl_bench_plan_done(&bench->plan);
    return exit_code;
}

const struct sl_cli_command sl_cmd_bench = {
    .name = "bench",
    .arguments = "",
    .text = "measure a server with many streams",
    .run = run_bench_command,
    .flags = sl_bench_flags,
    .n_flags = SL_BENCH_N_FLAGS,
    .is_remote = true,
};
