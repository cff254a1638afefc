#include "service/system.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
    PATH_BYTES = 4096,
    STACK_BYTES = 1024 * 1024,
    US_PER_S = 1000000,
    US_PER_MS = 1000,
    NS_PER_US = 1000
};

size_t sl_system_n_cores(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (size_t)n;
}

void sl_system_raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void sl_system_raise_stacks(void)
{
    pthread_attr_t attributes;
    size_t bytes = 0;
    if (pthread_getattr_default_np(&attributes) != 0) {
        return;
    }
    if (pthread_attr_getstacksize(&attributes, &bytes) == 0 && bytes < STACK_BYTES &&
        pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0) {
        (void)pthread_setattr_default_np(&attributes);
    }
    (void)pthread_attr_destroy(&attributes);
}

uint64_t sl_system_now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / NS_PER_US;
}

uint64_t sl_system_now_ms(void)
{
    return sl_system_now_us() / US_PER_MS;
}

int sl_system_take_signals(void)
{
    static const int taken[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        (void)sigaddset(&set, taken[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

bool sl_system_is_stop(int signal_number)
{
    return signal_number == SIGTERM || signal_number == SIGINT;
}

const char *sl_system_find_launcher(char *room, size_t room_bytes)
{
    static const char *const places[] = { "sluice-exec", "../libexec/sluice/sluice-exec" };
    const ssize_t n = readlink("/proc/self/exe", room, room_bytes - 1);
    if (n <= 0) {
        return NULL;
    }
    room[n] = '\0';
    char *name = strrchr(room, '/') + 1;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(name, room_bytes - (size_t)(name - room), "%s", places[i]);
        if (access(room, X_OK) == 0) {
            return room;
        }
    }
    return NULL;
}

enum sl_status sl_system_write_line(const char *path, const char *line, struct sl_error *err)
{
    if (path == NULL) {
        return SL_OK;
    }
    char fresh[PATH_BYTES];
    (void)snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *file = fopen(fresh, "we");
    if (file == NULL || fprintf(file, "%s\n", line) < 0 || fclose(file) != 0 ||
        rename(fresh, path) != 0) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION, "cannot write %s: %s", path, strerrordesc_np(errno));
    }
    return SL_OK;
}
