#include "service/cli/question.h"

#include <stdio.h>
#include <string.h>

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/base/mem.h"
#include "service/cli/text.h"

enum { SHOWN_BYTES = 4096 };

/* A call that waits for an answer. */
struct sl_cli_asked {
    char *approval_id, *tool, *arguments;
    uint8_t *digest;
    size_t digest_bytes;
    bool was_shown;
};

static void forget(struct sl_cli_asked *asked)
{
    if (asked != NULL) {
        (void)sl_free(asked->approval_id);
        (void)sl_free(asked->tool);
        (void)sl_free(asked->arguments);
        (void)sl_free(asked->digest);
        (void)sl_free(asked);
    }
}

static struct sl_cli_asked *remember(const Sluice__V1__ApprovalRequested *requested)
{
    struct sl_cli_asked *asked = sl_calloc(1, sizeof(*asked));
    if (asked == NULL) {
        return NULL;
    }
    asked->approval_id = sl_strdup(requested->approval_id);
    asked->tool = sl_strdup(requested->tool_name);
    asked->arguments = sl_strdup(requested->arguments_json);
    asked->digest_bytes = requested->arguments_digest.len;
    asked->digest = sl_calloc(1, asked->digest_bytes + 1);
    if (asked->approval_id == NULL || asked->tool == NULL || asked->arguments == NULL ||
        asked->digest == NULL) {
        forget(asked);
        return NULL;
    }
    if (asked->digest_bytes > 0) {
        memcpy(asked->digest, requested->arguments_digest.data, asked->digest_bytes);
    }
    return asked;
}

static void remove_at(struct sl_cli_question *question, size_t at)
{
    forget(question->items[at]);
    question->n_items--;
    for (size_t i = at; i < question->n_items; i++) {
        question->items[i] = question->items[i + 1];
    }
}

/* ---- Answers -----------------------------------------------------------------------------------
 */

enum sl_cli_answer sl_cli_answer_of(const char *line, const char **ret_comment)
{
    static const char letters[] = "ynl";
    static const enum sl_cli_answer answers[] = { SL_CLI_ANSWER_YES, SL_CLI_ANSWER_NO,
                                                  SL_CLI_ANSWER_LEAVE };
    line += strspn(line, " \t");
    *ret_comment = line + strlen(line);
    const char *letter = line[0] == '\0' ? NULL : strchr(letters, line[0]);
    if (letter == NULL) {
        return SL_CLI_ANSWER_HELP;
    }
    const char *rest = line + 1 + strspn(line + 1, " \t");
    const enum sl_cli_answer answer = answers[letter - letters];
    /* "yes" is no y, and l has nobody to tell a comment. */
    if (rest[0] != '\0' && (rest == line + 1 || answer == SL_CLI_ANSWER_LEAVE)) {
        return SL_CLI_ANSWER_HELP;
    }
    *ret_comment = rest;
    return answer;
}

static void put_help(FILE *out)
{
    (void)fputs(
        "y - run it, with exactly these arguments\n"
        "n - do not run it; the model is told\n"
        "y or n and some words - the same, and the words are a comment\n"
        "l - leave it to others\n"
        "? - this\n",
        out);
}

static void decide(struct sl_cli_question *question, bool is_approved, const char *comment)
{
    const struct sl_cli_asked *asked = question->items[0];
    Sluice__V1__ApprovalAnswer answer;
    sluice__v1__approval_answer__init(&answer);
    answer.approval_id = asked->approval_id;
    answer.arguments_digest.data = asked->digest;
    answer.arguments_digest.len = asked->digest_bytes;
    answer.decision = is_approved ? SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED
                                  : SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_DENIED;
    answer.comment = sl_unconst(comment);
    sl_cli_approve_send(question->approve, question->run_id, &answer);
}

static void take_line(const char *line, void *user_data)
{
    struct sl_cli_question *question = user_data;
    const char *comment = "";
    const bool was_shown = question->is_shown;
    question->is_shown = false; /* the terminal has gone to the next line by itself */
    if (line == NULL) {
        question->is_over = true;
        sl_view_hold(question->view, false);
        (void)fputs("\nnobody is asked any more\n", question->view->out);
        return;
    }
    const enum sl_cli_answer answer = sl_cli_answer_of(line, &comment);
    if (!was_shown || question->n_items == 0) {
        /* it was typed when there was no question */
    } else if (answer == SL_CLI_ANSWER_HELP) {
        put_help(question->view->out);
    } else if (sl_cli_check_text("the comment", sl_slice_str(comment)) == SL_OK) {
        if (answer != SL_CLI_ANSWER_LEAVE) {
            decide(question, answer == SL_CLI_ANSWER_YES, comment);
        }
        remove_at(question, 0);
    }
    sl_cli_question_show(question);
}

/* ---- Questions ---------------------------------------------------------------------------------
 */

void sl_cli_question_hide(struct sl_cli_question *question)
{
    if (question->is_shown) {
        question->is_shown = false;
        (void)fputs(question->view->style.is_terminal ? "\r\x1b[K" : "\n", question->view->out);
        sl_view_hold(question->view, false);
    }
}

static void put_question(const struct sl_cli_question *question)
{
    FILE *out = question->view->out;
    const struct sl_cli_asked *asked = question->items[0];
    sl_text_put_line(out, asked->tool, SHOWN_BYTES);
    (void)fputc(' ', out);
    sl_text_put_line(out, asked->arguments, SHOWN_BYTES);
    (void)fputs("\nRun it? [y,n,l,?] ", out);
    (void)fflush(out);
}

void sl_cli_question_show(struct sl_cli_question *question)
{
    if (question->is_shown || question->is_over || question->n_items == 0) {
        return;
    }
    question->lines.on_line = take_line;
    question->lines.user_data = question;
    struct sl_cli_asked *asked = question->items[0];
    if (!sl_cli_lines_has_person() ||
        sl_cli_lines_ask(&question->lines, !asked->was_shown) != SL_OK) {
        question->is_over = true; /* the view has said how others decide */
        return;
    }
    sl_view_hold(question->view, true);
    put_question(question);
    question->is_shown = asked->was_shown = true;
}

void sl_cli_question_add(
    struct sl_cli_question *question, const Sluice__V1__ApprovalRequested *requested)
{
    struct sl_cli_asked *asked =
        question->is_over || question->n_items == SL_CLI_QUESTIONS ? NULL : remember(requested);
    if (asked != NULL) {
        question->items[question->n_items++] = asked;
    }
}

void sl_cli_question_drop(struct sl_cli_question *question, const char *approval_id)
{
    for (size_t i = 0; i < question->n_items; i++) {
        if (strcmp(question->items[i]->approval_id, approval_id) == 0) {
            remove_at(question, i);
            return;
        }
    }
}

void sl_cli_question_done(struct sl_cli_question *question)
{
    if (question->is_shown) {
        sl_cli_question_hide(question);
    }
    question->is_over = true;
    while (question->n_items > 0) {
        remove_at(question, question->n_items - 1);
    }
    sl_cli_lines_done(&question->lines);
}
