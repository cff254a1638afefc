/* Asks at the terminal what a run asks for, for `--approve ask`: one call after the other, each
 * with all that it would do.
 *
 *   write {"path":"a"}
 *   Run it? [y,n,l,?] n not on a Friday
 *
 * Thread: that of the command's loop. */
#ifndef SL_SERVICE_CLI_QUESTION_H
#define SL_SERVICE_CLI_QUESTION_H

#include "service/cli/approve.h"
#include "service/cli/lines.h"
#include "service/cli/view.h"

enum { SL_CLI_QUESTIONS = 64 };

/* `approve`, `view`, `run_id` (borrowed) are set by the owner, and `lines.loop`. */
struct sl_cli_question {
    struct sl_cli_approve *approve;
    struct sl_view *view;
    const char *run_id;
    struct sl_cli_lines lines;
    struct sl_cli_asked *items[SL_CLI_QUESTIONS]; /* the oldest first */
    size_t n_items;
    bool is_shown; /* the cursor stands behind the question */
    bool is_over;  /* nobody answers any more */
};

/* Puts it behind those that wait. One for which there is no room is left to others. */
void sl_cli_question_add(
    struct sl_cli_question *question, const Sluice__V1__ApprovalRequested *requested);
/* Somebody has decided, or nobody in time. Harmless if it does not wait. */
void sl_cli_question_drop(struct sl_cli_question *question, const char *approval_id);
/* Around every line of somebody else's: takes the question away, and shows it again, if there is
 * one. */
void sl_cli_question_hide(struct sl_cli_question *question);
void sl_cli_question_show(struct sl_cli_question *question);
/* All zero is accepted; twice, too. */
void sl_cli_question_done(struct sl_cli_question *question);

/* What was typed. `*ret_comment` lies in `line`. */
enum sl_cli_answer { SL_CLI_ANSWER_YES, SL_CLI_ANSWER_NO, SL_CLI_ANSWER_LEAVE, SL_CLI_ANSWER_HELP };
enum sl_cli_answer sl_cli_answer_of(const char *line, const char **ret_comment);

#endif
