/* Metrics that others count: statistics of server and runtime, and of the process. */
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/send_total.h"
#include "runtime/base/version.h"
#include "runtime/runtime.h"
#include "service/ops/ops_impl.h"

static void set_server(const struct sl_server *server)
{
    struct sl_server_stats stats;
    sl_server_stats(server, &stats);
    SL_METRIC_SET(sluice_connections, stats.connections, NULL);
    SL_METRIC_SET(sluice_connections_opened, stats.connections_total, NULL);
    SL_METRIC_SET(sluice_connections_at_stream_limit, stats.at_stream_limit, NULL);
    SL_METRIC_SET(sluice_connection_bytes, stats.connection_bytes, NULL);
    SL_METRIC_SET(sluice_streams, stats.streams, NULL);
    SL_METRIC_SET(sluice_calls_running, stats.calls_running, NULL);
    SL_METRIC_SET(sluice_received_bytes, stats.bytes_in, NULL);
    SL_METRIC_SET(sluice_sent_bytes, stats.bytes_out, NULL);
}

static void set_runtime(struct sl_runtime *runtime)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    SL_METRIC_SET(sluice_runs_waiting, stats.runs_waiting, NULL);
    SL_METRIC_SET(sluice_runs_queued, stats.runs_queued, NULL);
    SL_METRIC_SET(sluice_sessions, stats.sessions, NULL);
    SL_METRIC_SET(sluice_session_bytes, stats.session_bytes, NULL);
    SL_METRIC_SET(sluice_events, stats.events, NULL);
    SL_METRIC_SET(sluice_event_bytes, stats.event_bytes, NULL);
    SL_METRIC_SET(sluice_tool_children, stats.tool_children, NULL);
}

uint64_t sl_ops_runs_memory(const struct sl_ops *ops)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < ops->n_loops; i++) {
        bytes += atomic_load_explicit(&ops->loops[i].memory_bytes, memory_order_relaxed);
    }
    return bytes;
}

static void set_store(const struct sl_runtime *runtime)
{
    struct sl_runtime_store_stats stats;
    sl_runtime_store_stats(runtime, &stats);
    SL_METRIC_SET(sluice_store_queued_bytes, stats.queued_bytes, NULL);
    SL_METRIC_SET(sluice_store_queued_requests, stats.queued_requests, NULL);
    SL_METRIC_SET(sluice_store_commits, stats.commits, NULL);
    SL_METRIC_SET(sluice_store_failed_commits, stats.failed_commits, NULL);
    SL_METRIC_SET(sluice_store_commit_seconds, stats.commit_ns, NULL);
    SL_METRIC_SET(sluice_store_longest_commit_seconds, stats.longest_commit_ns, NULL);
    SL_METRIC_SET(sluice_store_appends, stats.appends, NULL);
    SL_METRIC_SET(sluice_store_event_bytes, stats.event_bytes, NULL);
    SL_METRIC_SET(sluice_store_wal_bytes, stats.wal_bytes, NULL);
    SL_METRIC_SET(sluice_store_kept_bytes, stats.kept_bytes, NULL);
    SL_METRIC_SET(sluice_store_runs_open, stats.runs_open, NULL);
    SL_METRIC_SET(sluice_store_runs_removed, stats.runs_removed, NULL);
    SL_METRIC_SET(sluice_store_runs_recovered, stats.runs_recovered, NULL);
    SL_METRIC_SET(sluice_store_failing, stats.is_failing ? 1 : 0, NULL);
}

static uint64_t ns_of(struct timeval time)
{
    return (uint64_t)time.tv_sec * SL_NS_PER_S + (uint64_t)time.tv_usec * 1000;
}

/* Less the one that reads the folder; 0: there is no /proc. */
static uint64_t count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint64_t n = 0;
    if (folder == NULL) {
        return 0;
    }
    while (readdir(folder) != NULL) { // NOLINT(concurrency-mt-unsafe): the folder is ours
        n++;
    }
    (void)closedir(folder);
    return n - 3; /* ".", ".." and itself */
}

/* Start of the process as Unix time; 0: there is no /proc. */
static uint64_t start_ns(void)
{
    FILE *file = fopen("/proc/self/stat", "re");
    char text[1024] = "";
    if (file == NULL) {
        return 0;
    }
    const size_t size = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    const char *at = strrchr(text, ')');         /* the name may have anything in it */
    for (int i = 0; at != NULL && i < 20; i++) { /* field 22 */
        at = strchr(at + 1, ' ');
    }
    unsigned long long ticks = 0;
    struct timespec up;
    struct timespec wall;
    if (at == NULL || sscanf(at, " %llu", &ticks) != 1 || // NOLINT(cert-err34-c): of the kernel
        clock_gettime(CLOCK_BOOTTIME, &up) != 0 || clock_gettime(CLOCK_REALTIME, &wall) != 0) {
        return 0;
    }
    const uint64_t up_ns = (uint64_t)up.tv_sec * SL_NS_PER_S + (uint64_t)up.tv_nsec;
    const uint64_t wall_ns = (uint64_t)wall.tv_sec * SL_NS_PER_S + (uint64_t)wall.tv_nsec;
    return wall_ns - up_ns + ticks * (SL_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void set_memory(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long total = 0;
    unsigned long long resident = 0;
    if (file == NULL) {
        return;
    }
    // NOLINTNEXTLINE(cert-err34-c): of the kernel
    if (fscanf(file, "%llu %llu", &total, &resident) == 2) {
        const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        SL_METRIC_SET(process_virtual_memory_bytes, total * page, NULL);
        SL_METRIC_SET(process_resident_memory_bytes, resident * page, NULL);
    }
    (void)fclose(file);
}

static void set_process(void)
{
    static uint64_t started_ns; /* the ops loop's only; it does not change */
    struct rusage usage;
    struct rlimit files;
    if (started_ns == 0) {
        started_ns = start_ns();
    }
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        SL_METRIC_SET(process_cpu_seconds, ns_of(usage.ru_utime) + ns_of(usage.ru_stime), NULL);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        SL_METRIC_SET(process_max_fds, files.rlim_cur, NULL);
    }
    SL_METRIC_SET(process_open_fds, count_descriptors(), NULL);
    SL_METRIC_SET(process_start_time_seconds, started_ns, NULL);
    set_memory();
}

enum sl_status sl_ops_collect(struct sl_ops *ops, struct sl_buf *out)
{
    set_server(ops->server);
    set_runtime(ops->runtime);
    SL_METRIC_SET(sluice_runs_memory_bytes, sl_ops_runs_memory(ops), NULL);
    set_store(ops->runtime);
    set_process();
    SL_METRIC_SET(sluice_stream_buffer_bytes, sl_send_total_bytes(), NULL);
    SL_METRIC_SET(sluice_log_dropped, sl_log_dropped(), NULL);
    SL_METRIC_SET(sluice_build_info, 1, SL_VERSION);
    return sl_metrics_write(out);
}
