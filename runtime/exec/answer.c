/* The last answer of an agent with an output schema (AL-4.8): it is read before its iteration is
 * complete, and one that does not fit ends the run, goes back to the model, or passes. */
#include <inttypes.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/run_private.h"

enum { REQUEST_BYTES = 512 };

static void take_verdict(struct sl_run *run, enum sl_status status, const struct sl_error *err)
{
    run->turn.is_violation = status == SL_INVALID_ARGUMENT;
    if (run->turn.is_violation) {
        (void)sl_free(run->turn.violation);
        run->turn.violation = sl_strdup(err->text);
    }
}

static const char *violation_text(const struct sl_run *run)
{
    return run->turn.violation == NULL ? "it is not what the schema asks for" : run->turn.violation;
}

static void on_checked(void *user_data, enum sl_status status, const struct sl_error *err)
{
    struct sl_run *run = user_data;
    run->turn.output_job = NULL;
    take_verdict(run, status, err);
    sl_run_complete(run);
}

bool sl_run_answer_read(struct sl_run *run)
{
    const struct sl_output *output = &run->agent->output;
    if (output->schema_json == NULL || run->turn.stop != SL_STOP_REASON(END_TURN)) {
        return true;
    }
    sl_collect_finish(&run->collect);
    if (run->collect.is_truncated || run->collect.is_out_of_memory) {
        sl_run_fail_full(run);
        return false;
    }
    const struct sl_slice text = sl_buf_slice(&run->collect.text);
    if (text.size <= SL_JOB_DOCUMENT_BYTES) {
        struct sl_error err = { .text = "" };
        take_verdict(run, sl_output_check(output, text, &err), &err);
        return true;
    }
    run->turn.output_job = sl_output_start(run->env->loop, output, text, on_checked, run);
    if (run->turn.output_job == NULL) {
        sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
    }
    return false;
}

/* What is wrong, as a message of the user (AL-4.8). False: the run is ending. */
static bool tell_model(struct sl_run *run)
{
    struct sl_buf text;
    sl_buf_init(&text, strlen(violation_text(run)) + REQUEST_BYTES);
    enum sl_status status = sl_buf_addf(
        &text,
        "Your answer does not fit the schema of the output: %s\nAnswer again, with JSON that fits "
        "the schema and nothing else.",
        violation_text(run));
    if (status == SL_OK) {
        const struct sl_chat_message message = { .role = SL_CHAT_USER,
                                                 .content = sl_buf_slice(&text) };
        status = sl_history_add(&run->history, &message);
    }
    sl_buf_done(&text);
    if (status != SL_OK) {
        sl_run_fail_full(run);
    }
    return status == SL_OK;
}

void sl_run_answer_misfits(struct sl_run *run)
{
    const struct sl_output *output = &run->agent->output;
    const bool is_passed = output->rule == SL_OUTPUT_PASS;
    const bool is_retried =
        output->rule == SL_OUTPUT_RETRY && run->n_output_retries < output->max_retries;
    SL_METRIC_ADD(sluice_output_violations, 1, run->agent->name);
    /* What it says may quote the answer. */
    sl_log(
        SL_DEBUG, SL_LOG_EXEC, "run=%s msg=\"the answer does not fit its schema\" detail=%s",
        run->run_id, SL_LOG_QUOTE(sl_slice_str(violation_text(run))));
    if (is_passed) {
        const struct sl_ending ending = sl_ending_done(run->turn.stop);
        sl_run_finish(run, &ending);
    } else if (!is_retried) {
        sl_run_fail(run, SL_CODE(OUTPUT_INVALID));
    } else {
        run->n_output_retries++;
        sl_run_set_state(run, SL_RUN_STATE_READY);
        if (sl_run_record_answer(run) && tell_model(run)) {
            sl_run_next_iteration(run);
        }
    }
}
