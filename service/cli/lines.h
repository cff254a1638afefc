/* Lines that a person types, one for each that is asked for. A thread reads them, and only posts to
 * the loop. The terminal stays as it is: a line comes when it is whole.
 *
 *   loop: sl_cli_lines_ask ──▶ thread: read ──▶ loop: on_line */
#ifndef SL_SERVICE_CLI_LINES_H
#define SL_SERVICE_CLI_LINES_H

#include <pthread.h>
#include <semaphore.h>

#include "runtime/base/loop.h"
#include "runtime/base/status.h"

enum { SL_CLI_LINE_BYTES = 4096 }; /* a terminal gives no longer ones */

struct sl_cli_lines {
    struct sl_loop *loop;
    /* On the loop. NULL: there are no more. */
    void (*on_line)(const char *line, void *user_data);
    void *user_data;
    struct sl_task task;
    pthread_t thread;
    sem_t wanted;
    bool has_thread;
    bool is_wanted; /* the thread has been asked, and has not answered */
    bool is_at_end;
    char line[SL_CLI_LINE_BYTES];
};

/* Whether somebody can be asked: standard input and output are a terminal, and the program is in
 * its foreground. */
bool sl_cli_lines_has_person(void);
/* Asks for one line; `is_new`: what was typed before does not count. Thread: the loop's, as of all
 * here. Fails: SL_RESOURCE_EXHAUSTED there can be no thread; SL_END there are no more lines. */
SL_CHECK enum sl_status sl_cli_lines_ask(struct sl_cli_lines *lines, bool is_new);
/* Ends the thread; on_line is not called after it. All zero is accepted. */
void sl_cli_lines_done(struct sl_cli_lines *lines);

#endif
