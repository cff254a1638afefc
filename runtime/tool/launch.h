/* What process.c and the program sluice-exec (launcher.c) say to each other.
 *
 *   sluiced ──posix_spawn──▶ sluice-exec ──fork, exec──▶ the tool ──▶ its children
 *      ▲  records on fd 3  ◀────┘  ▲ orphans come here (subreaper)
 *      └─ SIGTERM: ask all to end;  SIGUSR1: kill all ─▶ it ends when nothing is left
 *
 * sluice-exec stays as the parent of everything that the tool starts. That makes the unit of
 * killing exact: a child that forks twice and calls setsid becomes a child of this one sluice-exec
 * and is killed there, while the children that the program has otherwise are never looked at. When
 * sluiced dies, sluice-exec gets SIGUSR1 and kills the tool. Its end, seen through a pidfd, means
 * that nothing of the tool is alive.
 *
 *   sluice-exec PARENT_PID CWD UID FSIZE NOFILE NPROC CREDENTIALS PROGRAM ARGUMENT…
 *                                                                     ("-": leave as it is; none)
 *
 * Descriptors: 0 the tool's input, 1 and 2 its output, 3 the records, and 4, if CREDENTIALS says
 * so, what the tool may read of the request's credentials. All others are closed. The environment
 * is the tool's. */
#ifndef SL_RUNTIME_TOOL_LAUNCH_H
#define SL_RUNTIME_TOOL_LAUNCH_H

#include <stdint.h>

enum {
    SL_LAUNCH_STATUS_FD = 3,
    SL_LAUNCH_CREDENTIALS_FD = 4,
    SL_LAUNCH_N_WORDS = 8,
    SL_LAUNCH_NOBODY = 65534
};

enum sl_launch_what {
    SL_LAUNCH_FAILED = 1, /* value: errno of what went wrong before the tool ran */
    SL_LAUNCH_EXITED,     /* value: exit code */
    SL_LAUNCH_SIGNALLED   /* value: signal */
};

/* One record; written in one piece. */
struct sl_launch_record {
    int32_t what;
    int32_t value;
};

#endif
