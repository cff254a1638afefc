#include "runtime/base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log_text.h"

/* A write of at most PIPE_BUF bytes to a pipe that is ready does not block and is not mixed with
 * others. */
enum { LINE_BYTES = 4096, BODY_BYTES = 3072, RAW_BYTES = 6144 };

#define SL_LOG_SUBJECT_TEXT(name, text) text,
static const char *const subject_texts[] = { SL_LOG_SUBJECT_MAP(SL_LOG_SUBJECT_TEXT) };
#undef SL_LOG_SUBJECT_TEXT
static const char *const level_texts[] = { "error", "warn", "info", "debug" };

static atomic_int max_level = SL_INFO;
static atomic_uint_fast64_t n_dropped;

static struct {
    pthread_mutex_t lock;
    int fd;
    enum sl_log_format format;
    bool has_looked; /* is_socket is known */
    bool is_socket;
    bool is_torn; /* the last line was cut by the kernel: end it first */
    void (*sink)(const char *line, size_t size, void *user_data);
    void *user_data;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO, .format = SL_LOG_LOGFMT };

void sl_log_setup(int write_fd, enum sl_log_level level, enum sl_log_format format)
{
    (void)pthread_mutex_lock(&shared.lock);
    shared.fd = write_fd;
    shared.format = format;
    shared.has_looked = shared.is_torn = false;
    (void)pthread_mutex_unlock(&shared.lock);
    atomic_store(&max_level, (int)level);
}

void sl_log_set_sink(void (*sink)(const char *line, size_t size, void *user_data), void *user_data)
{
    (void)pthread_mutex_lock(&shared.lock);
    shared.sink = sink;
    shared.user_data = user_data;
    (void)pthread_mutex_unlock(&shared.lock);
}

void sl_log_set_level(enum sl_log_level level)
{
    atomic_store(&max_level, (int)level);
}

bool sl_log_is_on(enum sl_log_level level, enum sl_log_subject subject)
{
    (void)subject; /* one level for all of them */
    return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

uint64_t sl_log_dropped(void)
{
    return atomic_load_explicit(&n_dropped, memory_order_relaxed);
}

/* "2026-11-22T10:00:00.123Z" */
static void format_time(char *room, size_t room_bytes)
{
    struct timespec now = { 0 };
    struct tm parts = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    const size_t n = strftime(room, room_bytes, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(room + n, room_bytes - n, ".%03ldZ", now.tv_nsec / 1000000);
}

/* One system call that does not wait, even where the descriptor is in blocking mode, which is not
 * ours to change: a pipe or terminal that poll() calls ready takes a line; a socket is told not to
 * wait. */
static ssize_t write_now(const char *bytes, size_t size)
{
    if (shared.is_socket) {
        return send(shared.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    struct pollfd ready = { .fd = shared.fd, .events = POLLOUT };
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
        return -1;
    }
    return write(shared.fd, bytes, size);
}

/* Sends one line, or drops it. */
static void write_line(const char *line, size_t size)
{
    struct stat info;
    if (!shared.has_looked) {
        shared.has_looked = true;
        shared.is_socket = fstat(shared.fd, &info) == 0 && S_ISSOCK(info.st_mode);
    }
    if (shared.is_torn && write_now("\n", 1) == 1) {
        shared.is_torn = false;
    }
    const ssize_t n = shared.is_torn ? -1 : write_now(line, size);
    if (n < 0 || (size_t)n < size) {
        shared.is_torn |= n > 0;
        (void)atomic_fetch_add_explicit(&n_dropped, 1, memory_order_relaxed);
    }
}

static void send_line(const char *line, size_t size)
{
    if (shared.sink != NULL) {
        shared.sink(line, size, shared.user_data);
    } else if (shared.fd >= 0) {
        write_line(line, size);
    }
}

/* `room` has LINE_BYTES. */
static size_t build_line(
    char *room,
    enum sl_log_level level,
    enum sl_log_subject subject,
    enum sl_log_format format,
    struct sl_slice body)
{
    char time_text[40];
    format_time(time_text, sizeof(time_text));
    const bool is_json = format == SL_LOG_JSON;
    const int head = snprintf(
        room, LINE_BYTES,
        is_json ? "{\"ts\":\"%s\",\"level\":\"%s\",\"subject\":\"%s\""
                : "ts=%s level=%s subject=%s ",
        time_text, level_texts[level], subject_texts[subject]);
    size_t size = head < 0 ? 0 : (size_t)head;
    if (is_json) {
        size += sl_log_text_to_json(body, room + size, LINE_BYTES - 1 - size);
    } else {
        memcpy(room + size, body.data, body.size);
        size += body.size;
    }
    room[size++] = '\n';
    return size;
}

void sl_log_write(enum sl_log_level level, enum sl_log_subject subject, const char *fmt, ...)
{
    const int saved_errno = errno;
    char raw[RAW_BYTES];
    char body[RAW_BYTES];
    char line[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    if (n >= 0) {
        const bool is_cut = (size_t)n >= sizeof(raw);
        const size_t raw_size = is_cut ? sizeof(raw) - 1 : (size_t)n;
        size_t size = sl_log_text_scrub(sl_slice_of(raw, raw_size), is_cut, body);
        size = sl_log_text_tidy(body, size, BODY_BYTES, is_cut);
        (void)pthread_mutex_lock(&shared.lock);
        size = build_line(line, level, subject, shared.format, sl_slice_of(body, size));
        send_line(line, size);
        (void)pthread_mutex_unlock(&shared.lock);
    }
    errno = saved_errno;
}
