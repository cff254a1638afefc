#include "runtime/exec/run_metrics.h"

#include "runtime/base/metrics.h"

#define OPERATION "chat"

void sl_run_count_begin(const struct sl_run *run)
{
    SL_METRIC_ADD(sluice_runs_active, 1, run->agent->name);
}

void sl_run_count_claim(struct sl_run *run)
{
    run->counted.claimed_ns = sl_loop_now_ns(run->env->loop);
}

void sl_run_count_detached(struct sl_run *run)
{
    if (!run->counted.is_detached) {
        run->counted.is_detached = true;
        SL_METRIC_ADD(sluice_runs_detached, 1, run->agent->name);
    }
}

void sl_run_count_paused(int n)
{
    SL_METRIC_ADD(sluice_stream_paused, n, NULL);
}

void sl_run_count_end(struct sl_run *run)
{
    const char *agent = run->agent->name;
    const struct sl_ending *ending = run->options.ending;
    const uint64_t now_ns = sl_loop_now_ns(run->env->loop);
    SL_METRIC_ADD(sluice_runs_active, -1, agent);
    SL_METRIC_ADD(sluice_runs, 1, agent, ending->status == SL_OK ? "OK" : ending->reason);
    SL_METRIC_OBSERVE(sluice_run_duration_seconds, now_ns - run->started_ns, NULL);
    if (ending->status != SL_OK) {
        SL_METRIC_OBSERVE(sluice_cancel_duration_seconds, now_ns - run->counted.claimed_ns, NULL);
    }
    if (run->counted.is_detached) {
        run->counted.is_detached = false;
        SL_METRIC_ADD(sluice_runs_detached, -1, agent);
    }
}

void sl_run_count_parked(struct sl_run *run)
{
    SL_METRIC_ADD(sluice_runs_active, -1, run->agent->name);
    SL_METRIC_ADD(sluice_store_runs_parked, 1, NULL);
    if (run->counted.is_detached) {
        run->counted.is_detached = false;
        SL_METRIC_ADD(sluice_runs_detached, -1, run->agent->name);
    }
}

/* ---- Models ------------------------------------------------------------------------------------
 */

/* The built-in models cost nothing and wait for nothing; their events are the hot path. */
static bool is_builtin(const struct sl_run *run)
{
    return strcmp(run->agent->provider, "load") == 0 || strcmp(run->agent->provider, "echo") == 0;
}

void sl_run_count_request(struct sl_run *run)
{
    run->counted.is_measured = !is_builtin(run);
    run->counted.request_ns = sl_loop_now_ns(run->env->loop);
    run->counted.chunk_ns = 0;
}

void sl_run_count_chunk(struct sl_run *run)
{
    const char *const labels[] = { OPERATION, run->agent->provider, run->agent->model };
    const uint64_t now_ns = sl_loop_now_ns(run->env->loop);
    if (run->counted.chunk_ns == 0) {
        sl_metric_observe(
            sl_metric_series(SL_M_gen_ai_client_operation_time_to_first_chunk_seconds, labels),
            now_ns - run->counted.request_ns);
        run->counted.per_chunk =
            sl_metric_series(SL_M_gen_ai_client_operation_time_per_output_chunk_seconds, labels);
    } else {
        sl_metric_observe(run->counted.per_chunk, now_ns - run->counted.chunk_ns);
    }
    run->counted.chunk_ns = now_ns;
}

static void count_tokens(const struct sl_run *run, const char *type, uint64_t n, bool is_exact)
{
    if (is_exact) {
        SL_METRIC_OBSERVE(
            gen_ai_client_token_usage, n, OPERATION, run->agent->provider, run->agent->model, type);
    } else if (n > 0) {
        SL_METRIC_ADD(sluice_estimated_tokens, n, type);
    }
}

void sl_run_count_answer(struct sl_run *run, const struct sl_usage *usage)
{
    if (!run->counted.is_measured) {
        return;
    }
    const struct sl_usage_facts *facts = &run->turn.facts;
    const bool is_whole = facts->lost_bytes == 0;
    const char *error = run->turn.failure != NULL ? run->turn.failure
                        : run->is_claimed         ? run->options.ending->reason
                                                  : "";
    run->counted.is_measured = false;
    SL_METRIC_OBSERVE(
        gen_ai_client_operation_duration_seconds,
        sl_loop_now_ns(run->env->loop) - run->counted.request_ns, OPERATION, run->agent->provider,
        run->agent->model, error);
    count_tokens(run, "input", usage->input_tokens, facts->reported.has_input && is_whole);
    count_tokens(run, "output", usage->output_tokens, facts->reported.has_output && is_whole);
}

/* ---- Tools -------------------------------------------------------------------------------------
 */

/* Models invent names: only those of the agent's tools are labels. */
static const char *known_name(const struct sl_run *run, const char *name)
{
    for (size_t i = 0; i < run->agent->n_tools; i++) {
        if (strcmp(run->agent->chat_tools[i].name, name) == 0) {
            return name;
        }
    }
    return "other";
}

void sl_run_count_tool(
    const struct sl_run *run, const char *name, const struct sl_tool_result *result)
{
    const char *tool = known_name(run, name);
    SL_METRIC_ADD(sluice_tool_calls, 1, tool, sl_tool_code_name(result->code));
    if (result->attempts > 0) {
        SL_METRIC_OBSERVE(
            sluice_tool_duration_seconds, result->execution_time_ms * SL_NS_PER_MS, tool);
    }
}
