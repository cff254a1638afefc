/* sluice-exec: starts one tool and stays until nothing of it is left. See launch.h. libc only. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/tool/launch.h"

enum { RESCAN_NS = 20000000, PATH_BYTES = 4096 };

struct plan {
    pid_t parent;
    const char *cwd;
    bool has_uid;
    uint64_t uid;
    bool has_credentials; /* SL_LAUNCH_CREDENTIALS_FD is open, and the tool's */
    const char *file_size, *n_files, *n_processes; /* "-": as it is */
    char **argv;
};

static void report(int what, int value)
{
    const struct sl_launch_record record = { .what = what, .value = value };
    ssize_t n = 0;
    do {
        n = write(SL_LAUNCH_STATUS_FD, &record, sizeof record);
    } while (n < 0 && errno == EINTR);
}

_Noreturn static void fail(int error)
{
    report(SL_LAUNCH_FAILED, error);
    _exit(127);
}

static bool read_number(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || value > UINT64_MAX / 10 - 1) {
            return false;
        }
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *ret_value = value;
    return true;
}

/* ---- The tool's side ----------------------------------------------------------------------------
 */

/* At most `text`, and never more than we may have. */
static void limit(int what, const char *text)
{
    uint64_t value = 0;
    struct rlimit limits;
    if (strcmp(text, "-") == 0) {
        return;
    }
    if (!read_number(text, &value) || getrlimit((__rlimit_resource_t)what, &limits) != 0) {
        fail(EINVAL);
    }
    if (limits.rlim_max == RLIM_INFINITY || limits.rlim_max > value) {
        limits.rlim_max = value;
    }
    limits.rlim_cur = limits.rlim_max;
    if (setrlimit((__rlimit_resource_t)what, &limits) != 0) {
        fail(errno);
    }
}

/* When memory runs out, the tool goes first. Not being able to say so is no reason to stop. */
static void offer_to_oom_killer(void)
{
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "1000", 4) < 0) {
            errno = 0;
        }
        (void)close(fd);
    }
}

/* Order matters: groups before the uid, the death signal after it (setuid clears it). */
static void give_up_rights(const struct plan *plan, pid_t supervisor)
{
    if (plan->has_uid) {
        const uid_t uid = (uid_t)plan->uid;
        const gid_t gid = (gid_t)plan->uid;
        if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
            setresuid(uid, uid, uid) != 0) {
            fail(errno);
        }
    }
    if (geteuid() == 0) {
        fail(EPERM);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        fail(errno);
    }
    if (getppid() != supervisor) {
        _exit(127); /* it died before the signal was set */
    }
}

/* As execvp, but nothing is ever handed to a shell. */
static void exec_by_path(char **argv)
{
    char path[PATH_BYTES];
    int error = ENOENT;
    const char *dirs = NULL;
    for (char **variable = environ; *variable != NULL; variable++) {
        if (strncmp(*variable, "PATH=", 5) == 0) {
            dirs = *variable + 5;
        }
    }
    while (dirs != NULL && *dirs != '\0') {
        const size_t size = strcspn(dirs, ":");
        const int n = snprintf(path, sizeof path, "%.*s/%s", (int)size, dirs, argv[0]);
        if (size > 0 && size < sizeof path && n > 0 && (size_t)n < sizeof path) {
            (void)execve(path, argv, environ);
            error = errno == ENOENT || errno == ENOTDIR ? error : errno;
        }
        dirs += size;
        dirs += *dirs == ':';
    }
    fail(error);
}

_Noreturn static void become_tool(const struct plan *plan, pid_t supervisor)
{
    sigset_t none;
    (void)sigemptyset(&none);
    if (setsid() < 0) {
        fail(errno);
    }
    (void)umask(0077);
    offer_to_oom_killer();
    limit(RLIMIT_CORE, "0");
    limit(RLIMIT_FSIZE, plan->file_size);
    limit(RLIMIT_NOFILE, plan->n_files);
    limit(RLIMIT_NPROC, plan->n_processes);
    give_up_rights(plan, supervisor);
    if (chdir(plan->cwd) != 0 || pthread_sigmask(SIG_SETMASK, &none, NULL) != 0) {
        fail(errno);
    }
    if (strchr(plan->argv[0], '/') != NULL) {
        (void)execve(plan->argv[0], plan->argv, environ);
        fail(errno);
    }
    exec_by_path(plan->argv);
    _exit(127);
}

/* ---- The children -------------------------------------------------------------------------------
 */

/* A child's group is its own, or that of another descendant: all of them live in sessions that the
 * tool began. Ours is the one exception, before the tool has called setsid. */
static void signal_child(pid_t child, int signo)
{
    const pid_t group = getpgid(child);
    if (group <= 1 || group == getpgrp() || kill(-group, signo) != 0) {
        (void)kill(child, signo);
    }
}

/* False: this kernel has no list of children. */
static bool signal_listed(int signo)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    char block[4096];
    ssize_t n = 0;
    long child = 0;
    while ((n = read(fd, block, sizeof block)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (block[i] >= '0' && block[i] <= '9') {
                child = child * 10 + (block[i] - '0');
            } else if (child > 0) {
                signal_child((pid_t)child, signo);
                child = 0;
            }
        }
    }
    (void)close(fd);
    return true;
}

/* The parent of a process, out of "pid (name) S ppid …"; the name may have brackets in it. */
static pid_t parent_of(const char *pid)
{
    char path[64];
    char block[512];
    (void)snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    const ssize_t n = read(fd, block, sizeof block - 1);
    (void)close(fd);
    block[n > 0 ? n : 0] = '\0';
    const char *at = strrchr(block, ')');
    uint64_t parent = 0;
    if (at == NULL || strlen(at) < 5) {
        return -1;
    }
    char digits[16] = "";
    (void)snprintf(digits, sizeof digits, "%.*s", (int)strcspn(at + 4, " "), at + 4);
    return read_number(digits, &parent) ? (pid_t)parent : -1;
}

static void signal_scanned(int signo)
{
    DIR *dir = opendir("/proc");
    if (dir == NULL) {
        return;
    }
    const pid_t self = getpid();
    const struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        uint64_t pid = 0;
        if (read_number(entry->d_name, &pid) && parent_of(entry->d_name) == self) {
            signal_child((pid_t)pid, signo);
        }
    }
    (void)closedir(dir);
}

/* Everybody that is a child now. Those below them become children when their parents die. */
static void signal_all(int signo)
{
    if (!signal_listed(signo)) {
        signal_scanned(signo);
    }
}

/* Reaps what is dead. False: there is no child any more. */
static bool reap(pid_t leader)
{
    for (;;) {
        int status = 0;
        const pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            return pid == 0 || errno != ECHILD;
        }
        if (pid == leader && WIFEXITED(status)) {
            report(SL_LAUNCH_EXITED, WEXITSTATUS(status));
        } else if (pid == leader && WIFSIGNALED(status)) {
            report(SL_LAUNCH_SIGNALLED, WTERMSIG(status));
        }
    }
}

/* All signals are blocked: they are taken here, one by one. */
static void supervise(pid_t leader, const sigset_t *signals)
{
    const struct timespec rescan = { .tv_nsec = RESCAN_NS };
    bool is_killing = false;
    while (reap(leader)) {
        if (is_killing) {
            signal_all(SIGKILL);
        }
        siginfo_t info;
        const int signo =
            is_killing ? sigtimedwait(signals, &info, &rescan) : sigwaitinfo(signals, &info);
        if (signo == SIGUSR1) {
            is_killing = true;
        } else if (signo == SIGTERM && !is_killing) {
            signal_all(SIGTERM);
            signal_all(SIGCONT); /* a stopped process would not see the first */
        }
    }
}

/* ---- Start --------------------------------------------------------------------------------------
 */

static bool read_plan(int argc, char **argv, struct plan *plan)
{
    uint64_t parent = 0;
    if (argc <= SL_LAUNCH_N_WORDS || !read_number(argv[1], &parent)) {
        return false;
    }
    *plan = (struct plan){ .parent = (pid_t)parent,
                           .cwd = argv[2],
                           .file_size = argv[4],
                           .n_files = argv[5],
                           .n_processes = argv[6],
                           .argv = argv + SL_LAUNCH_N_WORDS };
    plan->has_credentials = strcmp(argv[7], "-") != 0;
    plan->has_uid = strcmp(argv[3], "-") != 0;
    return !plan->has_uid || (read_number(argv[3], &plan->uid) && plan->uid > 0);
}

/* The tool's ends of the pipes are the tool's alone, and so are its credentials. */
static void let_go_of_pipes(void)
{
    (void)close(SL_LAUNCH_CREDENTIALS_FD);
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < SL_LAUNCH_STATUS_FD; i++) {
        if (fd < 0 || dup2(fd, i) < 0) {
            (void)close(i);
        }
    }
    if (fd > SL_LAUNCH_STATUS_FD) {
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    struct plan plan;
    if (fcntl(SL_LAUNCH_STATUS_FD, F_SETFD, FD_CLOEXEC) != 0) {
        (void)fputs("sluice-exec: starts tools for sluiced; not to be called by hand\n", stderr);
        return 2;
    }
    if (!read_plan(argc, argv, &plan)) {
        fail(EINVAL);
    }
    sigset_t signals;
    (void)sigfillset(&signals);
    const unsigned first_unknown = SL_LAUNCH_STATUS_FD + 1U + plan.has_credentials;
    if (close_range(first_unknown, ~0U, 0) != 0 ||
        pthread_sigmask(SIG_SETMASK, &signals, NULL) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGUSR1) != 0) {
        fail(errno);
    }
    if (getppid() != plan.parent) {
        return 1;
    }
    const pid_t self = getpid();
    const pid_t leader = fork();
    if (leader < 0) {
        fail(errno);
    }
    if (leader == 0) {
        become_tool(&plan, self);
    }
    let_go_of_pipes();
    supervise(leader, &signals);
    _exit(0);
}
