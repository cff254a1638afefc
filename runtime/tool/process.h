/* A tool's process: started through sluice-exec (launch.h), read through pipes, ended as a unit.
 *
 *   start ─▶ running ─exit─▶ draining (pipes, at most limits.tool_drain) ─▶ kill of the rest ─▶
 * on_end │ stop: SIGTERM now, SIGKILL after limits.tool_kill, given up 1 s later ─▶ on_end
 *
 * on_end comes when nothing of the tool is alive and its sluice-exec is reaped. The one exception
 * is a process that the kernel does not let die: it is reported as unreaped and watched until it
 * has gone. Nothing waits for the end of a pipe: a child that has escaped may hold it open. */
#ifndef SL_RUNTIME_TOOL_PROCESS_H
#define SL_RUNTIME_TOOL_PROCESS_H

#include "runtime/base/limits.h"
#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_process;

/* The processes of one loop. */
struct sl_process_room {
    struct sl_loop *loop;
    const struct sl_limits *limits;
    const char *launcher;
    struct sl_list processes;                          /* all that are not gone completely */
    size_t *n_children;                                /* atomic, shared by rooms: not reaped */
    void (*on_gone)(struct sl_process_room *room);     /* one has left the list */
    void (*on_late_end)(struct sl_process_room *room); /* one that was unreaped has died */
};

enum sl_process_how {
    SL_PROCESS_EXITED,
    SL_PROCESS_SIGNALLED,
    SL_PROCESS_NOT_STARTED, /* value: errno */
    SL_PROCESS_LOST         /* its sluice-exec died, which it never does by itself */
};

struct sl_process_end {
    enum sl_process_how how;
    int value; /* exit code, signal, errno */
    bool is_unreaped;
};

struct sl_process_options {
    const char *const *argv;        /* NULL-terminated; [0]: with '/' or looked up in PATH */
    const char *const *environment; /* complete; NULL-terminated */
    const char *cwd;
    const char *tool, *key; /* for those who look at it; cut, copied; may be NULL */
    struct sl_slice input;  /* of stdin; empty: /dev/null */
    /* What it can read from SL_LAUNCH_CREDENTIALS_FD; empty: that is closed. */
    struct sl_slice credentials;
    /* What it writes, as it comes. May call stop and kill. */
    void (*on_output)(bool is_stderr, struct sl_slice bytes, void *user_data);
    /* Exactly once; never from inside start, stop or kill. */
    void (*on_end)(const struct sl_process_end *end, void *user_data);
    void *user_data;
};

/* Copies what it needs. Owns: the caller; sl_process_free(). Thread: loop. Fails:
 * SL_RESOURCE_EXHAUSTED; SL_UNAVAILABLE the launcher does not start (err->sys_errno). */
SL_CHECK enum sl_status sl_process_start(
    struct sl_process_room *room,
    const struct sl_process_options *options,
    struct sl_process **ret_process,
    struct sl_error *err);
/* Asks it to end, and sees to it. Any number of times. */
void sl_process_stop(struct sl_process *process);
/* The same without asking. */
void sl_process_kill(struct sl_process *process);
/* After on_end, or from inside it. Accepts NULL; gives NULL. */
struct sl_process *sl_process_free(struct sl_process *process);

struct sl_tool_child;
/* Visits the processes that are not reaped. */
void sl_process_room_each(
    const struct sl_process_room *room,
    void (*visit)(const struct sl_tool_child *child, void *user_data),
    void *user_data);

/* The loop ends: forgets the unreaped. */
void sl_process_room_close(struct sl_process_room *room);

#endif
