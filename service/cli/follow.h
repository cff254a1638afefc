/* A run's events on standard output, whoever started the run. When the connection is lost and the
 * run goes on without it, it attaches again, behind the last event that was seen.
 *
 *   init ─▶ attach, or a call of the owner's with on_readable ─▶ events … ─▶ sl_cli_stop
 *              ▲                                                    │ lost
 *              └──────────────── after a pause ◀────────────────────┘
 *
 * Thread: that of the command's loop. */
#ifndef SL_SERVICE_CLI_FOLLOW_H
#define SL_SERVICE_CLI_FOLLOW_H

#include "proto/sluice/v1/events.pb-c.h"
#include "service/cli/approve.h"
#include "service/cli/cli.h"
#include "service/cli/question.h"
#include "service/cli/view.h"

enum { SL_CLI_RUN_ID_BYTES = 256, SL_CLI_ATTACH_TRIES = 8 };

struct sl_cli_follow {
    struct sl_cli *cli;
    struct sl_client_call *call;   /* the stream; NULL: in a pause between two */
    struct sl_client_call *cancel; /* CancelRun */
    /* Set by the owner, between init and the first call. */
    bool owns_run;     /* Ctrl-C cancels the run; without it, it only ends the following */
    bool may_attach;   /* the run goes on without its connection; RunStarted may say so later */
    bool approves_all; /* whatever the run asks for */
    bool asks;         /* a person, whether it may */
    char run_id[SL_CLI_RUN_ID_BYTES]; /* "": not known yet */
    uint64_t sequence;                /* of the last event that was seen */
    /* Its own. */
    struct sl_cli_approve approve;
    struct sl_cli_question question;
    struct sl_view view;
    bool has_view;
    bool is_attached; /* the stream is Attach's */
    bool was_open;    /* an answer had begun once */
    bool has_terminal, is_cancelled, is_given_up, is_over;
    unsigned n_tries; /* since the last event */
    uint64_t due_ns;  /* of --timeout; SL_NEVER_NS: none */
    struct sl_timer pause;
};

/* Takes over the command's signals. Borrows `cli`, which is open. */
void sl_cli_follow_init(struct sl_cli_follow *follow, struct sl_cli *cli);
/* Options for a call whose events are to be shown. */
struct sl_client_call_options sl_cli_follow_options(struct sl_cli_follow *follow);
/* Attaches to run_id, behind `sequence`. What goes wrong is told, and stops the loop. */
void sl_cli_follow_attach(struct sl_cli_follow *follow);
/* Frees the calls. All zero is accepted. */
void sl_cli_follow_done(struct sl_cli_follow *follow);

/* Whether a stream that ended like this, before the run's last event, says nothing about the run:
 * the connection was lost, the server went down, or it gave up a slow reader. `reason`: of the
 * ErrorInfo; may be empty. */
bool sl_cli_follow_is_lost(
    enum sl_status status, enum sl_error_origin origin, struct sl_slice reason);
/* Before the n-th try in a row, from 0. */
uint64_t sl_cli_follow_pause_ms(unsigned n);

#endif
