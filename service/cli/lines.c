#include "service/cli/lines.h"

#include <errno.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/base/mem.h"

bool sl_cli_lines_has_person(void)
{
    return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 &&
           tcgetpgrp(STDIN_FILENO) == getpgrp();
}

/* The next line, without its end. False: there is none. */
static bool read_line(char line[SL_CLI_LINE_BYTES])
{
    ssize_t n;
    do {
        n = read(STDIN_FILENO, line, SL_CLI_LINE_BYTES - 1);
    } while (n < 0 && errno == EINTR);
    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    return n > 0;
}

/* Ended by pthread_cancel(), while it waits for a question or for the person. */
static void *read_lines(void *user_data)
{
    struct sl_cli_lines *lines = user_data;
    while (!lines->is_at_end) {
        while (sem_wait(&lines->wanted) != 0) {
        }
        lines->is_at_end = !read_line(lines->line);
        sl_loop_post(lines->loop, &lines->task);
    }
    return NULL;
}

static void run_line(struct sl_task *task)
{
    struct sl_cli_lines *lines = SL_CONTAINER(task, struct sl_cli_lines, task);
    if (lines->has_thread) {
        lines->is_wanted = false;
        lines->on_line(lines->is_at_end ? NULL : lines->line, lines->user_data);
    }
}

static enum sl_status start(struct sl_cli_lines *lines)
{
    lines->task.run = run_line;
    if (sem_init(&lines->wanted, 0, 0) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (pthread_create(&lines->thread, NULL, read_lines, lines) != 0) {
        (void)sem_destroy(&lines->wanted);
        return SL_RESOURCE_EXHAUSTED;
    }
    lines->has_thread = true;
    return SL_OK;
}

enum sl_status sl_cli_lines_ask(struct sl_cli_lines *lines, bool is_new)
{
    SL_ON_LOOP(lines->loop);
    if (!lines->has_thread) {
        SL_TRY(start(lines));
    }
    if (is_new && sl_cli_lines_has_person()) {
        (void)tcflush(STDIN_FILENO, TCIFLUSH);
    }
    if (lines->is_wanted) {
        return SL_OK; /* the line that an earlier question did not get any more */
    }
    if (lines->is_at_end) {
        return SL_END;
    }
    lines->is_wanted = true;
    (void)sem_post(&lines->wanted);
    return SL_OK;
}

void sl_cli_lines_done(struct sl_cli_lines *lines)
{
    if (lines->has_thread) {
        (void)pthread_cancel(lines->thread);
        (void)pthread_join(lines->thread, NULL);
        (void)sem_destroy(&lines->wanted);
        lines->has_thread = false;
    }
}
