/* A tool that misbehaves in one way, named by its first argument. For the tests of runtime/tool. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_FD = 30 };

/* NOLINTBEGIN(concurrency-mt-unsafe): one thread */

static void wait_forever(void)
{
    for (;;) {
        (void)pause();
    }
}

/* Prints in one piece: several processes write to the same pipe. */
static void say_pid(const char *name)
{
    char line[64];
    const int n = snprintf(line, sizeof line, "%s %d\n", name, (int)getpid());
    if (write(STDOUT_FILENO, line, (size_t)n) < 0) {
        _exit(99);
    }
}

static int sleep_on(void)
{
    say_pid("sleeping");
    wait_forever();
    return 0;
}

/* Another one of this program, in a session of its own. */
static void start_other(const char *mode)
{
    char *const argv[] = { (char[]){ "victim" }, strdup(mode), NULL };
    posix_spawnattr_t attributes;
    pid_t pid = 0;
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    const int error = posix_spawn(&pid, "/proc/self/exe", NULL, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    free(argv[1]);
    if (error != 0) {
        _exit(98);
    }
}

/* A grandchild whose parent is gone, in a session of its own, with the pipes open; the leader goes
 * or stays. The grandchild has the write end of a pipe until it is ready. */
static int escape(int stays)
{
    int ready[2];
    if (pipe(ready) != 0 || dup2(ready[1], READY_FD) < 0) {
        return 97;
    }
    (void)close(ready[1]);
    start_other("middle");
    (void)close(READY_FD);
    char byte;
    if (read(ready[0], &byte, 1) != 0) {
        return 95;
    }
    if (stays) {
        wait_forever();
    }
    return 0;
}

static int escape_and_go(void)
{
    return escape(0);
}

static int escape_and_stay(void)
{
    return escape(1);
}

static int be_middle(void)
{
    start_other("grandchild");
    return 0;
}

static int be_grandchild(void)
{
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    say_pid("escaped");
    (void)close(READY_FD);
    wait_forever();
    return 0;
}

static int be_silent(void)
{
    (void)signal(SIGTERM, SIG_IGN);
    wait_forever();
    return 0;
}

static int hold_pipes(void)
{
    start_other("silent");
    say_pid("leader");
    return 0;
}

static int flood(void)
{
    static char block[65536];
    memset(block, 'y', sizeof block);
    for (;;) {
        if (write(STDOUT_FILENO, block, sizeof block) < 0) {
            return 1;
        }
    }
}

static int list_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return 1;
    }
    const struct dirent *entry = NULL;
    int n = 0;
    while ((entry = readdir(dir)) != NULL) {
        n += entry->d_name[0] != '.';
    }
    (void)closedir(dir);
    printf("%d\n", n - 1); /* without the folder itself */
    return 0;
}

static int binary(void)
{
    for (int i = 0; i < 256; i++) {
        const char c = (char)i;
        if (write(STDOUT_FILENO, &c, 1) != 1) {
            return 1;
        }
    }
    return 0;
}

static int show_limits(void)
{
    struct rlimit core;
    struct rlimit files;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return 1;
    }
    printf(
        "uid %d gid %d core %lu files %lu\n", (int)getuid(), (int)getgid(),
        (unsigned long)core.rlim_cur, (unsigned long)files.rlim_cur);
    return setuid(0) == 0;
}

/* Writes 1 MiB into a file, a block at a time, and says how far it came. */
static int write_large_file(void)
{
    static char block[4096];
    FILE *file = tmpfile();
    const int fd = file == NULL ? -1 : fileno(file);
    (void)signal(SIGXFSZ, SIG_IGN);
    size_t done = 0;
    ssize_t n = 1;
    while (fd >= 0 && n > 0 && done < 1U << 20U) {
        n = write(fd, block, sizeof block);
        done += n > 0 ? (size_t)n : 0;
    }
    printf("wrote %zu: %s\n", done, n > 0 ? "all" : strerror(errno));
    return 0;
}

/* The same, but with what SIGXFSZ does by itself. */
static int write_large_file_and_die(void)
{
    static char block[65536];
    FILE *file = tmpfile();
    while (file != NULL && fwrite(block, 1, sizeof block, file) > 0) {
    }
    return 0;
}

static int open_many(void)
{
    int n = 0;
    while (n < 5000 && dup(0) >= 0) {
        n++;
    }
    printf("opened %d: %s\n", n, strerror(errno));
    (void)fflush(stdout);
    return 0;
}

/* Children that wait, each for a signal that never comes: the tool's end is theirs. */
static int start_many(void)
{
    char *const argv[] = { (char[]){ "victim" }, (char[]){ "silent" }, NULL };
    int n = 0;
    int error = 0;
    while (n < 200 && error == 0) {
        pid_t pid = 0;
        error = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);
        n += error == 0;
    }
    printf("started %d: %s\n", n, error != 0 ? strerror(error) : "all");
    (void)fflush(stdout);
    return 0;
}

/* What is in the file of the credentials, whether it can be written to, and where a value shows
 * that a tool gets: in no argument and no variable. */
static int show_credentials(void)
{
    char block[4096];
    static const char name[] = "SLUICE_CREDENTIALS_FD=";
    int fd = -1;
    for (char **variable = environ; *variable != NULL; variable++) {
        if (strncmp(*variable, name, sizeof name - 1) == 0) {
            fd = (*variable)[sizeof name - 1] - '0';
        }
    }
    if (fd < 0) {
        puts("none");
        return 0;
    }
    const ssize_t n = read(fd, block, sizeof block);
    printf("%.*s", n > 0 ? (int)n : 0, block);
    printf(" fd %d write %s\n", fd, write(fd, "x", 1) < 0 ? strerror(errno) : "ok");
    (void)fflush(stdout);
    return 0;
}

static int sleep_with_credentials(void)
{
    (void)show_credentials();
    return sleep_on();
}

static int show_input(void)
{
    char block[4096];
    ssize_t n = 0;
    while ((n = read(STDIN_FILENO, block, sizeof block)) > 0) {
        if (write(STDOUT_FILENO, block, (size_t)n) != n) {
            return 1;
        }
    }
    return 0;
}

/* A crowd of children and grandchildren, each in a session of its own. */
static int bomb(void)
{
    for (int i = 0; i < 12; i++) {
        start_other("pair");
    }
    say_pid("bomb");
    wait_forever();
    return 0;
}

static int be_pair(void)
{
    start_other("silent");
    return be_silent();
}

static int kill_parent(void)
{
    const int killed = kill(getppid(), SIGKILL);
    printf("%s\n", killed == 0 ? "killed" : strerror(errno));
    (void)fflush(stdout);
    return 0;
}

static int ignore_term(void)
{
    (void)signal(SIGTERM, SIG_IGN);
    return sleep_on();
}

static int stop_itself(void)
{
    say_pid("stopping");
    (void)raise(SIGSTOP);
    wait_forever();
    return 0;
}

static int crash(void)
{
    (void)signal(SIGSEGV, SIG_DFL);
    return raise(SIGSEGV);
}

static int show_environment(void)
{
    for (char **variable = environ; *variable != NULL; variable++) {
        puts(*variable);
    }
    return 0;
}

static const struct {
    const char *name;
    int (*run)(void);
} modes[] = {
    { "sleep", sleep_on },
    { "ignore", ignore_term },
    { "stop", stop_itself },
    { "crash", crash },
    { "environment", show_environment },
    { "escape", escape_and_go },
    { "escape_stay", escape_and_stay },
    { "hold", hold_pipes },
    { "flood", flood },
    { "descriptors", list_descriptors },
    { "binary", binary },
    { "limits", show_limits },
    { "input", show_input },
    { "bomb", bomb },
    { "pair", be_pair },
    { "silent", be_silent },
    { "middle", be_middle },
    { "grandchild", be_grandchild },
    { "kill_parent", kill_parent },
    { "large_file", write_large_file },
    { "large_file_die", write_large_file_and_die },
    { "open_many", open_many },
    { "start_many", start_many },
    { "credentials", show_credentials },
    { "sleep_with_credentials", sleep_with_credentials },
};

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "words") == 0) {
        for (int i = 2; i < argc; i++) {
            printf("[%s]", argv[i]);
        }
        (void)fputs("to stderr", stderr);
        return 0;
    }
    if (strcmp(what, "exit") == 0 && argc > 2) {
        return argv[2][0] - '0';
    }
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(modes[i].name, what) == 0) {
            return modes[i].run();
        }
    }
    return 96;
}
/* NOLINTEND(concurrency-mt-unsafe) */
