/* sluiced: joins configuration, loops, runtime and server, and ends them in order. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/version.h"
#include "runtime/runtime.h"
#include "service/api/api.h"
#include "service/config.h"
#include "service/identity/identity.h"
#include "service/net/net.h"
#include "service/notify.h"
#include "service/ops/ops.h"
#include "service/reload.h"
#include "service/rpc/rpc.h"
#include "service/system.h"
#include "service/watchdog.h"

enum { EXIT_USAGE = 2, EXIT_SOFTWARE = 70, EXIT_UNAVAILABLE = 69, EXIT_CONFIG = 78 };
enum { FORCED_MS = 3000, LOOK_MS = 100, LONGEST_WAIT_MS = 60000, STEP_MS = 1000, TURN_MS = 1 };

struct daemon {
    struct sl_config config;
    struct sl_loop_uv **uv_loops;
    struct sl_loop **loops;
    pthread_t *threads;
    size_t n_loops, n_threads, n_agent_problems;
    struct sl_runtime *runtime;
    struct sl_server *server;
    struct sl_identity *identity; /* who may call, at the start; NULL: everybody */
    struct sl_api *api;
    struct sl_ops *ops; /* NULL: none was asked for */
    struct sl_net_tls *tls[SL_CONFIG_LISTENERS];
    const char *address; /* of the first listener, as it is */
    struct sl_notify notify;
    struct sl_watchdog watchdog;
    struct sl_reload reload;
    bool has_recovered; /* runs may be there before the server is */
    int done_fd;        /* eventfd: the server is drained, or the runtime is idle */
    atomic_bool is_drained, is_idle;
};

static void print_problem(const char *line, void *user_data)
{
    (void)user_data;
    (void)fprintf(stderr, "sluiced: %s\n", line);
}

/* A broken agent file does not stop the daemon; `--check` must say so all the same. */
static void print_agent_problem(const char *line, void *user_data)
{
    struct daemon *daemon = user_data;
    daemon->n_agent_problems++;
    print_problem(line, NULL);
}

/* ---- Start -------------------------------------------------------------------------------------
 */

static enum sl_status make_loops(struct daemon *daemon)
{
    const size_t n = daemon->config.n_loops == 0 ? sl_system_n_cores() : daemon->config.n_loops;
    daemon->uv_loops = sl_calloc(n, sizeof(struct sl_loop_uv *));
    daemon->loops = sl_calloc(n, sizeof(struct sl_loop *));
    daemon->threads = sl_calloc(n, sizeof(daemon->threads[0]));
    if (daemon->uv_loops == NULL || daemon->loops == NULL || daemon->threads == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < n; i++) {
        SL_TRY(sl_loop_uv_new((uint32_t)i, &daemon->uv_loops[i]));
        daemon->loops[i] = sl_loop_uv_base(daemon->uv_loops[i]);
        daemon->n_loops = i + 1;
    }
    return SL_OK;
}

static enum sl_status make_runtime(struct daemon *daemon, struct sl_error *err)
{
    static char launcher[4096];
    const struct sl_config *config = &daemon->config;
    const struct sl_runtime_options options = {
        .loops = daemon->loops,
        .n_loops = daemon->n_loops,
        .limits = &config->limits,
        .env = sl_config_env,
        .environment = sl_config_environment(),
        .launcher = config->launcher != NULL ? config->launcher
                                             : sl_system_find_launcher(launcher, sizeof(launcher))
    };
    SL_TRY(sl_runtime_new(&options, &daemon->runtime, err));
    sl_runtime_configure(daemon->runtime, config->file, config->top);
    for (size_t i = 0; i < config->n_agent_paths; i++) {
        SL_TRY(sl_runtime_load_agents(
            daemon->runtime, config->agent_paths[i], print_agent_problem, daemon, err));
    }
    return SL_OK;
}

/* Blocks, and so before any loop runs. */
static enum sl_status open_store(struct daemon *daemon, struct sl_error *err)
{
    const struct sl_config_store *store = &daemon->config.store;
    if (store->path == NULL) {
        return SL_OK;
    }
    const struct sl_runtime_store options = {
        .path = store->path,
        .is_normal = store->synchronous == 1,
        .quarantine = store->quarantine,
        .keep_ms = store->keep_ms,
        .keep_bytes = store->keep_bytes,
        .min_free_percent = store->min_free_percent == 0 ? 101 : (unsigned)store->min_free_percent,
    };
    SL_TRY(sl_runtime_open_store(daemon->runtime, &options, err));
    sl_log(
        SL_INFO, SL_LOG_MAIN, "path=%s synchronous=%s msg=\"store opened\"",
        SL_LOG_QUOTE(sl_slice_str(store->path)), sl_config_synchronous_name(store));
    return SL_OK;
}

struct recovery {
    bool is_done;
    enum sl_status status;
};

static void on_recovered(enum sl_status status, void *user_data)
{
    struct recovery *recovery = user_data;
    recovery->status = status;
    recovery->is_done = true;
}

/* The loops do not run yet: those that have no more to do than to begin runs that are taken up are
 * looked at every millisecond. */
static void turn_loops(struct daemon *daemon)
{
    sl_loop_uv_step(daemon->uv_loops[0], daemon->n_loops > 1 ? TURN_MS : STEP_MS);
    for (size_t i = 1; i < daemon->n_loops; i++) {
        sl_loop_uv_step(daemon->uv_loops[i], 0);
    }
}

/* Nobody is served before every run has an owner or an end. */
static enum sl_status recover_runs(struct daemon *daemon, struct sl_error *err)
{
    struct recovery recovery = { .is_done = false };
    const char *path = daemon->config.store.path;
    if (path == NULL) {
        return SL_OK;
    }
    assert(daemon->loops != NULL);
    daemon->has_recovered = true;
    if (sl_runtime_recover(daemon->runtime, daemon->loops[0], on_recovered, &recovery) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "%s: out of memory", path);
    }
    while (!recovery.is_done) {
        turn_loops(daemon);
    }
    return recovery.status == SL_OK
               ? SL_OK
               : sl_fail(
                     err, recovery.status == SL_DATA_LOSS ? SL_DATA_LOSS : SL_UNAVAILABLE,
                     "%s: runs that lost their owner cannot be ended: %s", path,
                     sl_status_name(recovery.status));
}

static bool wants_reflection(const struct sl_config *config)
{
    bool is_local = true;
    for (size_t i = 0; i < config->n_listen; i++) {
        is_local = is_local && sl_config_is_local(config->listen[i].address);
    }
    return config->reflection == 1 || (config->reflection == 0 && is_local);
}

static enum sl_status make_server(struct daemon *daemon, struct sl_error *err)
{
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .limits = &daemon->config.limits,
                                               .loops = daemon->loops,
                                               .n_loops = daemon->n_loops,
                                               .allow_pings_without_calls = true };
    if (sl_server_new(&options, &daemon->server) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    const struct sl_api_options api = { .server = daemon->server,
                                        .runtime = daemon->runtime,
                                        .has_reflection = wants_reflection(&daemon->config),
                                        .identity = daemon->identity };
    const enum sl_status status = sl_api_new(&api, &daemon->api);
    return status == SL_OK ? SL_OK : sl_fail(err, status, "the services cannot be registered");
}

static enum sl_status listen_one(struct daemon *daemon, size_t index, struct sl_error *err)
{
    const struct sl_config_listen *listen = &daemon->config.listen[index];
    SL_TRY(sl_reload_make_tls(listen, &daemon->tls[index], err));
    const char *address;
    sl_server_take_resets_for_losses(daemon->server, listen->is_reset_loss);
    SL_TRY(sl_server_listen(daemon->server, listen->address, daemon->tls[index], &address, err));
    sl_log(
        SL_INFO, SL_LOG_MAIN, "address=%s tls=%s msg=\"listening\"", address,
        listen->tls_cert == NULL ? "false" : "true");
    if (index == 0) {
        daemon->address = address;
    }
    return SL_OK;
}

/* Open before the first call is served, and ready once all is. */
static enum sl_status make_ops(struct daemon *daemon, struct sl_error *err)
{
    const char *address = daemon->config.ops_listen;
    if (address == NULL) {
        return SL_OK;
    }
    const struct sl_ops_options options = { .address = address,
                                            .has_dump = sl_config_is_local(address),
                                            .limits = &daemon->config.limits,
                                            .loops = daemon->loops,
                                            .n_loops = daemon->n_loops,
                                            .server = daemon->server,
                                            .runtime = daemon->runtime };
    SL_TRY(sl_ops_new(&options, &daemon->ops, err));
    if (sl_api_serve_health(daemon->api, sl_ops_server(daemon->ops)) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the operations port");
    }
    sl_log(
        SL_INFO, SL_LOG_MAIN, "address=%s msg=\"listening for operations\"",
        sl_ops_address(daemon->ops));
    return sl_ops_start(daemon->ops, err);
}

static void *run_loop(void *user_data)
{
    sl_loop_uv_run(user_data);
    return NULL;
}

static enum sl_status start_threads(struct daemon *daemon, struct sl_error *err)
{
    for (size_t i = 0; i < daemon->n_loops; i++) {
        const int failed = pthread_create(&daemon->threads[i], NULL, run_loop, daemon->uv_loops[i]);
        if (failed != 0) {
            return sl_fail(err, SL_RESOURCE_EXHAUSTED, "cannot start a thread: errno %d", failed);
        }
        daemon->n_threads = i + 1;
        char name[16]; /* as `top -H` shows it */
        (void)snprintf(name, sizeof(name), "loop-%u", (unsigned)i);
        (void)pthread_setname_np(daemon->threads[i], name);
    }
    return SL_OK;
}

/* ---- End ---------------------------------------------------------------------------------------
 */

static void tell(struct daemon *daemon, atomic_bool *what)
{
    const uint64_t one = 1;
    atomic_store(what, true);
    (void)!write(daemon->done_fd, &one, sizeof(one));
}

static void on_drained(void *user_data)
{
    struct daemon *daemon = user_data;
    tell(daemon, &daemon->is_drained);
}

static void on_idle(void *user_data)
{
    struct daemon *daemon = user_data;
    tell(daemon, &daemon->is_idle);
}

/* X8: the manager hears of us only while every loop turns; a loop that hangs ends the process. */
static void look_after(struct daemon *daemon)
{
    switch (sl_watchdog_tick(&daemon->watchdog, sl_system_now_ms())) {
    case SL_WATCHDOG_QUIET:
        break;
    case SL_WATCHDOG_ALIVE:
        sl_notify_send(&daemon->notify, "WATCHDOG=1");
        break;
    case SL_WATCHDOG_HUNG:
        abort();
    }
}

/* Waits for a signal, for an end of something, for the watchdog, or for `timeout_ms` (-1: for
 * ever). Gives the signal or 0. */
static int wait_signal(struct daemon *daemon, int signal_fd, int timeout_ms)
{
    const int watch_ms = sl_watchdog_wait_ms(&daemon->watchdog, sl_system_now_ms());
    if (watch_ms >= 0 && (timeout_ms < 0 || watch_ms < timeout_ms)) {
        timeout_ms = watch_ms;
    }
    struct pollfd polled[] = { { .fd = signal_fd, .events = POLLIN },
                               { .fd = daemon->done_fd, .events = POLLIN } };
    (void)poll(polled, 2, timeout_ms);
    look_after(daemon);
    uint64_t count;
    if ((polled[1].revents & POLLIN) != 0) {
        (void)!read(daemon->done_fd, &count, sizeof(count));
    }
    struct signalfd_siginfo info;
    if ((polled[0].revents & POLLIN) != 0 && read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
        return (int)info.ssi_signo;
    }
    return 0;
}

static bool is_drained(struct daemon *daemon)
{
    return atomic_load(&daemon->is_drained);
}

/* Also the runs are over that nobody reads, which no call waits for. */
static bool is_quiet(struct daemon *daemon)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(daemon->runtime, &stats);
    return is_drained(daemon) && stats.runs_running == 0;
}

/* Waits until the drain is over (`until_quiet`), a further stop signal, or the time is over. True:
 * a further stop signal came. The end of a run wakes nobody: it is looked for. */
static bool
wait_for_end(struct daemon *daemon, int signal_fd, bool until_quiet, uint64_t timeout_ms)
{
    const uint64_t end_ms = sl_system_now_ms() + timeout_ms;
    while (!until_quiet || !is_quiet(daemon)) {
        const uint64_t now = sl_system_now_ms();
        if (now >= end_ms) {
            return false;
        }
        const uint64_t left_ms = end_ms - now;
        const uint64_t most_ms = until_quiet ? LOOK_MS : LONGEST_WAIT_MS;
        if (sl_system_is_stop(
                wait_signal(daemon, signal_fd, (int)(left_ms < most_ms ? left_ms : most_ms)))) {
            return true;
        }
    }
    return false;
}

/* What the next process takes up is parked. */
static void stop_runs(struct daemon *daemon, int signal_fd)
{
    sl_runtime_stop(daemon->runtime, on_idle, daemon);
    while (!atomic_load(&daemon->is_idle)) {
        (void)wait_signal(daemon, signal_fd, 1000);
    }
}

/* reliability.md 3.7: health first, the listeners stay open for a while, two GOAWAYs, runs go on,
 * then what is left is parked, or ends as DRAINING. A further SIGTERM jumps to the end. */
static void drain(struct daemon *daemon, int signal_fd)
{
    const struct sl_limits *limits = &daemon->config.limits;
    sl_log(
        SL_INFO, SL_LOG_MAIN, "msg=\"draining\" delay_ms=%llu timeout_ms=%llu",
        (unsigned long long)limits->drain_delay, (unsigned long long)limits->drain_timeout);
    sl_notify_send(&daemon->notify, "STOPPING=1\nSTATUS=draining");
    sl_ops_set_unready(daemon->ops, "draining");
    if (daemon->api == NULL) { /* there are runs, and no server yet */
        stop_runs(daemon, signal_fd);
        return;
    }
    sl_api_shutdown(daemon->api);
    bool is_hurried = wait_for_end(daemon, signal_fd, false, limits->drain_delay);
    const uint64_t timeout_ms = is_hurried ? 0 : limits->drain_timeout;
    sl_runtime_refuse_new(daemon->runtime);
    sl_server_stop(daemon->server, timeout_ms + FORCED_MS, on_drained, daemon);
    is_hurried |= wait_for_end(daemon, signal_fd, true, timeout_ms);
    if (!is_hurried && !is_quiet(daemon)) {
        sl_limit_reached(SL_LIMIT_drain_timeout);
    }
    sl_runtime_stop(daemon->runtime, on_idle, daemon);
    if (!is_drained(daemon)) { /* what is no run, and still open, ends soon, too */
        sl_server_stop(daemon->server, FORCED_MS, on_drained, daemon);
    }
    while (!atomic_load(&daemon->is_idle) || !is_drained(daemon)) {
        (void)wait_signal(daemon, signal_fd, 1000);
    }
}

static void free_all(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->n_threads; i++) {
        sl_loop_uv_stop(daemon->uv_loops[i]);
        (void)pthread_join(daemon->threads[i], NULL);
    }
    sl_ops_close(daemon->ops);
    daemon->server = sl_server_free(daemon->server);
    daemon->api = sl_api_free(daemon->api);
    daemon->identity = sl_identity_unref(daemon->identity);
    daemon->runtime = sl_runtime_free(daemon->runtime);
    for (size_t i = 0; i < SL_CONFIG_LISTENERS; i++) {
        daemon->tls[i] = sl_net_tls_unref(daemon->tls[i]);
    }
    for (size_t i = 0; i < daemon->n_loops; i++) {
        daemon->uv_loops[i] = sl_loop_uv_free(daemon->uv_loops[i]);
    }
    sl_watchdog_done(&daemon->watchdog);
    sl_notify_close(&daemon->notify);
    daemon->ops = sl_ops_free(daemon->ops);
    sl_free(daemon->uv_loops);
    sl_free(daemon->loops);
    sl_free(daemon->threads);
    sl_config_done(&daemon->config);
}

/* ---- Main --------------------------------------------------------------------------------------
 */

static int exit_code_of(enum sl_status status)
{
    return status == SL_FAILED_PRECONDITION || status == SL_INVALID_ARGUMENT ||
                   status == SL_NOT_FOUND || status == SL_DATA_LOSS
               ? EXIT_CONFIG
               : EXIT_UNAVAILABLE;
}

static enum sl_status start(struct daemon *daemon, struct sl_error *err)
{
    daemon->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (daemon->done_fd < 0 || make_loops(daemon) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "cannot make the event loops: errno %d", errno);
    }
    SL_TRY(make_runtime(daemon, err));
    const enum sl_status identity =
        sl_reload_load_identity(&daemon->config, print_problem, NULL, &daemon->identity);
    if (identity == SL_RESOURCE_EXHAUSTED) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "identity: out of memory");
    }
    if (sl_config_finish(&daemon->config, print_problem, NULL) != SL_OK || identity != SL_OK) {
        return sl_fail(err, SL_FAILED_PRECONDITION, "the configuration has mistakes");
    }
    daemon->reload.has_identity = daemon->identity != NULL;
    daemon->reload.has_access = sl_identity_has_access(daemon->identity);
    if (daemon->config.only_check) {
        return SL_OK;
    }
    SL_TRY(open_store(daemon, err));
    SL_TRY(recover_runs(daemon, err));
    SL_TRY(make_server(daemon, err));
    SL_TRY(make_ops(daemon, err));
    for (size_t i = 0; i < daemon->config.n_listen; i++) {
        SL_TRY(listen_one(daemon, i, err));
    }
    SL_TRY(start_threads(daemon, err));
    sl_ops_set_unready(daemon->ops, NULL);
    return sl_system_write_line(daemon->config.port_file, daemon->address, err);
}

/* ---- Service ------------------------------------------------------------------------------------
 */

static void say_ready(struct daemon *daemon)
{
    struct sl_reload_stats stats;
    sl_reload_stats(&daemon->reload, &stats);
    sl_notify_send(
        &daemon->notify, "READY=1\nSTATUS=%s",
        stats.is_last_failed ? "serving; the last reload failed, see the log" : "serving");
}

static void reload(struct daemon *daemon)
{
    sl_notify_send(&daemon->notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, sl_system_now_us());
    (void)sl_reload_run(&daemon->reload);
    sl_watchdog_set(&daemon->watchdog, daemon->notify.watchdog_ms, daemon->config.limits.watchdog);
    say_ready(daemon);
}

static enum sl_status begin_service(struct daemon *daemon, struct sl_error *err)
{
    if (sl_watchdog_init(&daemon->watchdog, daemon->loops, daemon->n_loops) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    daemon->reload.config = &daemon->config;
    daemon->reload.tls = daemon->tls;
    daemon->reload.runtime = daemon->runtime;
    daemon->reload.server = daemon->server;
    daemon->reload.api = daemon->api;
    sl_notify_open(&daemon->notify, sl_config_env);
    sl_watchdog_set(&daemon->watchdog, daemon->notify.watchdog_ms, daemon->config.limits.watchdog);
    say_ready(daemon);
    return SL_OK;
}

/* Until it shall end. */
static void serve(struct daemon *daemon, int signal_fd)
{
    int signal_number = 0;
    while (!sl_system_is_stop(signal_number)) {
        signal_number = wait_signal(daemon, signal_fd, -1);
        if (signal_number == SIGHUP) {
            reload(daemon);
        }
    }
}

/* What was opened before a failure is ended in order, too, and that takes running loops. */
static bool can_drain(struct daemon *daemon)
{
    struct sl_error err;
    if (daemon->api == NULL && !daemon->has_recovered) {
        return false;
    }
    return daemon->n_threads > 0 || start_threads(daemon, &err) == SL_OK;
}

static int report_check(const struct daemon *daemon)
{
    if (daemon->n_agent_problems > 0) {
        (void)fprintf(stderr, "sluiced: %zu mistakes in agent files\n", daemon->n_agent_problems);
        return EXIT_CONFIG;
    }
    (void)printf("%zu agents, no mistakes\n", sl_runtime_n_agents(daemon->runtime, NULL));
    return EXIT_SUCCESS;
}

static int run(struct daemon *daemon, int signal_fd)
{
    struct sl_error err = { 0 };
    enum sl_status status = start(daemon, &err);
    if (status == SL_OK && !daemon->config.only_check) {
        status = begin_service(daemon, &err);
    }
    if (status != SL_OK) {
        print_problem(err.text, NULL);
    } else if (daemon->config.only_check) {
        return report_check(daemon);
    }
    if (status != SL_OK) { /* the one line was it: that the rest ends is no news */
        sl_log_setup(-1, daemon->config.log_level, daemon->config.log_format);
        daemon->config.limits.drain_delay = daemon->config.limits.drain_timeout = 0;
    }
    if (can_drain(daemon)) {
        if (status == SL_OK) {
            serve(daemon, signal_fd);
        }
        drain(daemon, signal_fd);
    }
    sl_log(SL_INFO, SL_LOG_MAIN, "msg=\"stopped\"");
    return status == SL_OK ? EXIT_SUCCESS : exit_code_of(status);
}

int main(int argc, char **argv)
{
    static struct daemon daemon = { .done_fd = -1 };
    daemon.reload.argc = argc;
    daemon.reload.argv = argv;
    const int signal_fd = sl_system_take_signals();
    if (signal_fd < 0) {
        return EXIT_SOFTWARE;
    }
    (void)umask(0077);
    sl_system_raise_descriptor_limit();
    sl_system_raise_stacks();
    const enum sl_status status = sl_config_load(&daemon.config, argc, argv, print_problem, NULL);
    int code;
    if (status != SL_OK) {
        (void)!sl_config_finish(&daemon.config, print_problem, NULL);
        code = status == SL_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_CONFIG;
    } else if (daemon.config.only_help || daemon.config.only_version) {
        (void)fputs(daemon.config.only_help ? sl_config_usage : "sluiced " SL_VERSION "\n", stdout);
        code = EXIT_SUCCESS;
    } else {
        sl_log_setup(STDERR_FILENO, daemon.config.log_level, daemon.config.log_format);
        code = run(&daemon, signal_fd);
    }
    free_all(&daemon);
    if (daemon.done_fd >= 0) {
        (void)close(daemon.done_fd);
    }
    (void)close(signal_fd);
    return code;
}
