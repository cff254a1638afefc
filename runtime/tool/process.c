#include "runtime/tool/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/tool/launch.h"
#include "runtime/tool/tool.h"

enum {
    READ_BYTES = 16384,
    READS_PER_TURN = 8,
    READS_AT_END = 128, /* what two pipes can hold, many times over */
    GIVE_UP_MS = 900,   /* after SIGKILL: on_end comes within 3 s of the stop */
    FIRST_FD = 10       /* ours are never in the way of 0 to 4 in the child */
};

enum watched { OUT, ERR, STATUS, EXIT, N_WATCHED };

struct watch {
    uv_poll_t poll;
    struct sl_process *process;
    enum watched what;
    int fd;         /* -1: closed */
    bool is_polled; /* libuv knows it */
};

struct sl_process {
    struct sl_list node;
    struct sl_process_room *room;
    void (*on_output)(bool, struct sl_slice, void *);
    void (*on_end)(const struct sl_process_end *, void *);
    void *user_data;
    struct watch watches[N_WATCHED];
    size_t n_handles; /* uv handles that are not closed */
    struct sl_timer timer;
    enum { RUNNING, DRAINING, STOPPING, KILLING, ENDED } state;
    bool has_record;
    bool is_reaped;
    bool is_told;  /* on_end was called */
    bool is_freed; /* by the owner */
    struct sl_process_end end;
    struct { /* for sl_process_room_each() */
        pid_t pid;
        uint64_t started_ns;
        char tool[64], key[96];
    } shown;
};

/* ---- Handles ------------------------------------------------------------------------------------
 */

static void maybe_release(struct sl_process *process)
{
    if (!process->is_freed || process->n_handles > 0) {
        return;
    }
    struct sl_process_room *room = process->room;
    sl_timer_stop(&process->timer);
    sl_list_remove(&process->node);
    sl_free(process);
    room->on_gone(room);
}

static void handle_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    watch->process->n_handles--;
    maybe_release(watch->process);
}

static void close_watch(struct watch *watch)
{
    if (watch->fd >= 0) {
        if (watch->is_polled) {
            uv_close((uv_handle_t *)&watch->poll, handle_closed);
        }
        (void)close(watch->fd); /* polling has ended */
        watch->fd = -1;
    }
}

static void signal_launcher(struct sl_process *process, int signo)
{
    if (process->watches[EXIT].fd >= 0) {
        (void)pidfd_send_signal(process->watches[EXIT].fd, signo, NULL, 0);
        (void)pidfd_send_signal(process->watches[EXIT].fd, SIGCONT, NULL, 0);
    }
}

/* ---- Ending -------------------------------------------------------------------------------------
 */

static void tell_end(struct sl_process *process)
{
    sl_timer_stop(&process->timer);
    process->state = ENDED;
    process->is_told = true;
    process->on_end(&process->end, process->user_data); /* may free the process */
}

static void begin_killing(struct sl_process *process)
{
    process->state = KILLING;
    signal_launcher(process, SIGUSR1);
    sl_timer_start_ms(&process->timer, GIVE_UP_MS);
}

/* The leader has exited and its pipes are read, or the wait for them is over. */
static void maybe_end_drain(struct sl_process *process)
{
    if (process->state == DRAINING && process->watches[OUT].fd < 0 &&
        process->watches[ERR].fd < 0) {
        begin_killing(process);
    }
}

/* ---- Reading ------------------------------------------------------------------------------------
 */

/* False: the pipe has ended. */
static bool read_output(struct watch *watch, int n_reads)
{
    struct sl_process *process = watch->process;
    uint8_t block[READ_BYTES];
    for (int i = 0; i < n_reads; i++) {
        const ssize_t n = read(watch->fd, block, sizeof block);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (n == 0) {
            return false;
        }
        process->on_output(watch->what == ERR, sl_slice_of(block, (size_t)n), process->user_data);
    }
    return true;
}

static void take_record(struct sl_process *process, const struct sl_launch_record *record)
{
    process->has_record = true;
    process->end.value = record->value;
    switch ((enum sl_launch_what)record->what) {
    case SL_LAUNCH_FAILED:
        process->end.how = SL_PROCESS_NOT_STARTED;
        break;
    case SL_LAUNCH_EXITED:
        process->end.how = SL_PROCESS_EXITED;
        break;
    case SL_LAUNCH_SIGNALLED:
        process->end.how = SL_PROCESS_SIGNALLED;
        break;
    }
    if (process->state == RUNNING) {
        process->state = DRAINING;
        sl_timer_start_ms(&process->timer, process->room->limits->tool_drain);
    }
}

/* The first record counts: after a failed exec comes the exit of the one that failed. */
static bool read_status(struct watch *watch)
{
    struct sl_launch_record record;
    for (;;) {
        const ssize_t n = read(watch->fd, &record, sizeof record);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (n != (ssize_t)sizeof record) {
            return false;
        }
        if (!watch->process->has_record) {
            take_record(watch->process, &record);
        }
    }
}

/* When sluice-exec has ended, nothing of the tool is left. False: it has not. */
static bool launcher_ended(struct sl_process *process)
{
    siginfo_t info = { 0 };
    if (waitid(P_PIDFD, (id_t)process->watches[EXIT].fd, &info, WEXITED | WNOHANG) == 0 &&
        info.si_pid == 0) {
        return false;
    }
    process->is_reaped = true;
    (void)__atomic_sub_fetch(process->room->n_children, 1, __ATOMIC_RELAXED);
    if (process->watches[STATUS].fd >= 0) {
        (void)read_status(&process->watches[STATUS]);
    }
    for (int what = OUT; what <= ERR && !process->is_told; what++) {
        if (process->watches[what].fd >= 0) {
            (void)read_output(&process->watches[what], READS_AT_END);
        }
    }
    for (int what = 0; what < N_WATCHED; what++) {
        close_watch(&process->watches[what]);
    }
    if (process->is_told) {
        SL_METRIC_ADD(sluice_tool_unreaped, -1, NULL);
        process->room->on_late_end(process->room);
    } else {
        tell_end(process);
    }
    return true;
}

static void time_is_up(void *user_data)
{
    struct sl_process *process = user_data;
    if (process->state != KILLING) {
        sl_limit_reached(process->state == STOPPING ? SL_LIMIT_tool_kill : SL_LIMIT_tool_drain);
        begin_killing(process);
        return;
    }
    if (launcher_ended(process)) {
        return;
    }
    process->end.is_unreaped = true;
    SL_METRIC_ADD(sluice_tool_unreaped, 1, NULL);
    close_watch(&process->watches[OUT]);
    close_watch(&process->watches[ERR]);
    close_watch(&process->watches[STATUS]);
    tell_end(process);
}

static void ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct sl_process *process = watch->process;
    (void)status;
    (void)events;
    if (watch->what == EXIT) {
        (void)launcher_ended(process);
        return;
    }
    const bool is_open =
        watch->what == STATUS ? read_status(watch) : read_output(watch, READS_PER_TURN);
    if (!is_open) {
        close_watch(watch);
    }
    maybe_end_drain(process);
}

/* ---- Starting -----------------------------------------------------------------------------------
 */

/* All descriptors of a start. Each is -1 or open. */
struct ends {
    int input;
    int credentials;
    int ours[3], theirs[3]; /* OUT, ERR, STATUS */
    int pidfd;
    pid_t pid; /* of sluice-exec */
};

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static void close_ends(struct ends *ends)
{
    close_fd(&ends->input);
    close_fd(&ends->credentials);
    close_fd(&ends->pidfd);
    for (int i = 0; i < 3; i++) {
        close_fd(&ends->ours[i]);
        close_fd(&ends->theirs[i]);
    }
}

/* Moves a descriptor out of the way of 0 to 4. */
static int move_up(int fd)
{
    if (fd < 0 || fd >= FIRST_FD) {
        return fd;
    }
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
    (void)close(fd);
    return moved;
}

static bool write_all(int fd, struct sl_slice bytes)
{
    size_t done = 0;
    while (done < bytes.size) {
        const ssize_t n = write(fd, bytes.data + done, bytes.size - done);
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* A file in memory instead of a pipe: nobody has to feed it. */
static int open_input(struct sl_slice input)
{
    if (input.size == 0) {
        return move_up(open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    const int fd = move_up(memfd_create("sluice-input", MFD_CLOEXEC));
    if (fd >= 0 && (!write_all(fd, input) || lseek(fd, 0, SEEK_SET) != 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* A file in memory that nobody can write any more, opened for reading. */
static int open_credentials(struct sl_slice credentials)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    const int fd = memfd_create("sluice-credentials", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int read_only = -1;
    if (fd < 0) {
        return -1;
    }
    if (write_all(fd, credentials) && fcntl(fd, F_ADD_SEALS, seals) == 0) {
        char path[32];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        read_only = move_up(open(path, O_RDONLY | O_CLOEXEC));
    }
    (void)close(fd);
    return read_only;
}

static bool open_ends(struct ends *ends, const struct sl_process_options *options)
{
    *ends = (struct ends){ .input = -1,
                           .credentials = -1,
                           .ours = { -1, -1, -1 },
                           .theirs = { -1, -1, -1 },
                           .pidfd = -1 };
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) != 0) {
            return false;
        }
        ends->ours[i] = move_up(pair[0]);
        ends->theirs[i] = move_up(pair[1]);
        if (ends->ours[i] < 0 || ends->theirs[i] < 0 ||
            fcntl(ends->ours[i], F_SETFL, O_NONBLOCK) != 0) {
            return false;
        }
    }
    if (options->credentials.size > 0) {
        ends->credentials = open_credentials(options->credentials);
        if (ends->credentials < 0) {
            return false;
        }
    }
    ends->input = open_input(options->input);
    return ends->input >= 0;
}

static int
prepare(const struct ends *ends, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes)
{
    const int from[] = { ends->input, ends->theirs[OUT], ends->theirs[ERR], ends->theirs[STATUS],
                         ends->credentials };
    for (int to = 0; to <= SL_LAUNCH_CREDENTIALS_FD && from[to] >= 0; to++) {
        const int error = posix_spawn_file_actions_adddup2(actions, from[to], to);
        if (error != 0) {
            return error;
        }
    }
    sigset_t all; /* blocked from its first moment: sluice-exec takes its signals one by one */
    (void)sigfillset(&all);
    (void)posix_spawnattr_setsigdefault(attributes, &all);
    (void)posix_spawnattr_setsigmask(attributes, &all);
    return posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

/* posix_spawn changes neither list nor words, but its prototype is older than const. */
static char *const *as_spawn_wants(const char *const *list)
{
    char *const *same = NULL;
    memcpy(&same, &list, sizeof same);
    return same;
}

static int spawn(
    const char *launcher,
    const char *const *argv,
    const char *const *environment,
    struct ends *ends,
    pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return error;
    }
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = prepare(ends, &actions, &attributes);
        if (error == 0) {
            error = posix_spawn(
                ret_pid, launcher, &actions, &attributes, as_spawn_wants(argv),
                as_spawn_wants(environment));
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* What stands behind the words of a start that are numbers. */
struct numbers {
    char parent[24], uid[24], file[24], files[24], processes[24];
};

static void write_number(char room[24], uint64_t number)
{
    (void)snprintf(room, 24, "%" PRIu64, number);
}

/* The launcher's words before the tool's. Owns the block only. NULL: no memory. */
static const char **make_argv(
    const struct sl_process_room *room,
    const struct sl_process_options *options,
    struct numbers *numbers)
{
    const bool is_root = geteuid() == 0;
    size_t n = 0;
    while (options->argv[n] != NULL) {
        n++;
    }
    const char **argv = sl_calloc(SL_LAUNCH_N_WORDS + n + 1, sizeof *argv);
    if (argv == NULL) {
        return NULL;
    }
    write_number(numbers->parent, (uint64_t)getpid());
    write_number(numbers->uid, SL_LAUNCH_NOBODY);
    write_number(numbers->file, room->limits->tool_file);
    write_number(numbers->files, room->limits->tool_files);
    write_number(numbers->processes, room->limits->tool_processes);
    argv[0] = room->launcher;
    argv[1] = numbers->parent;
    argv[2] = options->cwd;
    argv[3] = is_root ? numbers->uid : "-";
    argv[4] = numbers->file;
    argv[5] = numbers->files;
    /* counted per user: only for a user that is the tools' */
    argv[6] = is_root ? numbers->processes : "-";
    argv[7] =
        options->credentials.size > 0 ? "4" : "-"; /* the number is SL_LAUNCH_CREDENTIALS_FD */
    for (size_t i = 0; i < n; i++) {
        argv[SL_LAUNCH_N_WORDS + i] = options->argv[i];
    }
    return argv;
}

static enum sl_status start_launcher(
    struct sl_process_room *room,
    const struct sl_process_options *options,
    struct ends *ends,
    struct sl_error *err)
{
    struct numbers numbers;
    if (!open_ends(ends, options)) {
        const int error = errno;
        (void)sl_fail(err, SL_UNAVAILABLE, "no pipes for the tool: %s", uv_strerror(-error));
        return SL_UNAVAILABLE;
    }
    const char **argv = make_argv(room, options, &numbers);
    if (argv == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory");
    }
    pid_t pid = 0;
    const int error = spawn(room->launcher, argv, options->environment, ends, &pid);
    sl_free(argv);
    if (error != 0) {
        (void)sl_fail(err, SL_UNAVAILABLE, "cannot start: %s", uv_strerror(-error));
        if (err != NULL) {
            err->sys_errno = error;
        }
        return SL_UNAVAILABLE;
    }
    ends->pid = pid;
    ends->pidfd = move_up(pidfd_open(pid, 0));
    if (ends->pidfd < 0) { /* it is ours and not reaped: the number is good */
        (void)kill(pid, SIGUSR1);
        (void)waitpid(pid, NULL, 0);
        return sl_fail(err, SL_UNAVAILABLE, "no descriptor for the tool's process");
    }
    (void)__atomic_add_fetch(room->n_children, 1, __ATOMIC_RELAXED);
    return SL_OK;
}

/* Hands the descriptors over to libuv. False: some cannot be watched. */
static bool watch_all(struct sl_process *process, struct ends *ends)
{
    uv_loop_t *loop = sl_loop_uv_handle(process->room->loop);
    const int fds[N_WATCHED] = { ends->ours[OUT], ends->ours[ERR], ends->ours[STATUS],
                                 ends->pidfd };
    bool is_good = true;
    for (int what = 0; what < N_WATCHED; what++) {
        struct watch *watch = &process->watches[what];
        watch->process = process;
        watch->what = (enum watched)what;
        watch->fd = fds[what];
        watch->poll.data = watch;
        watch->is_polled = uv_poll_init(loop, &watch->poll, watch->fd) == 0;
        if (watch->is_polled) {
            process->n_handles++;
        }
        is_good =
            is_good && watch->is_polled && uv_poll_start(&watch->poll, UV_READABLE, ready) == 0;
    }
    for (int i = 0; i < 3; i++) {
        ends->ours[i] = -1;
    }
    ends->pidfd = -1;
    return is_good;
}

static void
note_shown(struct sl_process *process, const struct sl_process_options *options, pid_t pid)
{
    process->shown.pid = pid;
    process->shown.started_ns = sl_loop_now_ns(process->room->loop);
    (void)snprintf(
        process->shown.tool, sizeof process->shown.tool, "%s",
        options->tool == NULL ? "" : options->tool);
    (void)snprintf(
        process->shown.key, sizeof process->shown.key, "%s",
        options->key == NULL ? "" : options->key);
}

enum sl_status sl_process_start(
    struct sl_process_room *room,
    const struct sl_process_options *options,
    struct sl_process **ret_process,
    struct sl_error *err)
{
    struct ends ends;
    struct sl_process *process = sl_calloc(1, sizeof *process);
    if (process == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory");
    }
    const enum sl_status status = start_launcher(room, options, &ends, err);
    if (status != SL_OK) {
        close_ends(&ends);
        sl_free(process);
        return status;
    }
    process->room = room;
    process->on_output = options->on_output;
    process->on_end = options->on_end;
    process->user_data = options->user_data;
    process->end.how = SL_PROCESS_LOST;
    note_shown(process, options, ends.pid);
    sl_list_add_last(&room->processes, &process->node);
    sl_timer_init(&process->timer, room->loop, time_is_up, process);
    if (!watch_all(process, &ends)) {
        begin_killing(process);
    }
    close_ends(&ends);
    *ret_process = process;
    return SL_OK;
}

void sl_process_stop(struct sl_process *process)
{
    if (process->state == RUNNING || process->state == DRAINING) {
        process->state = STOPPING;
        signal_launcher(process, SIGTERM);
        sl_timer_start_ms(&process->timer, process->room->limits->tool_kill);
    }
}

void sl_process_kill(struct sl_process *process)
{
    if (process->state < KILLING) {
        begin_killing(process);
    }
}

struct sl_process *sl_process_free(struct sl_process *process)
{
    if (process == NULL) {
        return NULL;
    }
    assert(process->is_told);
    process->is_freed = true;
    maybe_release(process);
    return NULL;
}

void sl_process_room_each(
    const struct sl_process_room *room,
    void (*visit)(const struct sl_tool_child *child, void *user_data),
    void *user_data)
{
    SL_LIST_EACH(node, &room->processes) {
        const struct sl_process *process = SL_CONTAINER(node, struct sl_process, node);
        const uint64_t age_ns = sl_loop_now_ns(room->loop) - process->shown.started_ns;
        const struct sl_tool_child child = { .pid = (int)process->shown.pid,
                                             .tool = process->shown.tool,
                                             .key = process->shown.key,
                                             .age_ms = age_ns / SL_NS_PER_MS,
                                             .is_unreaped = process->end.is_unreaped };
        if (!process->is_reaped) {
            visit(&child, user_data);
        }
    }
}

void sl_process_room_close(struct sl_process_room *room)
{
    SL_LIST_EACH(node, &room->processes) {
        struct sl_process *process = SL_CONTAINER(node, struct sl_process, node);
        if (process->is_told && !process->is_reaped) {
            close_watch(&process->watches[EXIT]);
        }
    }
}
