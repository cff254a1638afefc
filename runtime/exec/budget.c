#include "runtime/exec/budget.h"

#include "runtime/base/buf.h"

enum { BYTES_PER_TOKEN = 4, PICOS_PER_MICRO = 1000000, MAX_KEY_BYTES = 16 * 1024 * 1024 };

static uint64_t saturated_sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t estimate(uint64_t bytes)
{
    return bytes / BYTES_PER_TOKEN + (bytes % BYTES_PER_TOKEN == 0 ? 0 : 1);
}

struct sl_usage sl_usage_of(const struct sl_usage_facts *facts)
{
    const struct sl_model_usage *reported = &facts->reported;
    struct sl_usage usage = {
        .input_tokens = reported->has_input ? reported->input_tokens : 0,
        .output_tokens = reported->has_output ? reported->output_tokens : 0,
        .cache_read_tokens = reported->cache_read_tokens,
        .cache_write_tokens = reported->cache_write_tokens,
        .reasoning_tokens = reported->reasoning_tokens,
        .model_calls = facts->n_requests,
    };
    if (facts->is_unused) {
        return usage;
    }
    usage.is_estimated = !reported->has_input || !reported->has_output || facts->lost_bytes > 0;
    if (reported->has_input) {
        usage.input_tokens = saturated_sum(usage.input_tokens, estimate(facts->lost_bytes));
    }
    if (!reported->has_input) {
        usage.input_tokens = estimate(facts->request_bytes);
    }
    if (!reported->has_output) {
        usage.output_tokens = estimate(facts->received_bytes);
    }
    return usage;
}

static uint64_t saturated_product(uint64_t a, uint64_t b)
{
    return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

void sl_usage_price(struct sl_usage *usage, const struct sl_model_price *price)
{
    if (!price->is_known) {
        return;
    }
    const uint64_t cached = saturated_sum(usage->cache_read_tokens, usage->cache_write_tokens);
    const uint64_t plain = usage->input_tokens > cached ? usage->input_tokens - cached : 0;
    uint64_t picos = saturated_product(plain, price->input_picos);
    picos =
        saturated_sum(picos, saturated_product(usage->cache_read_tokens, price->cache_read_picos));
    picos = saturated_sum(
        picos, saturated_product(usage->cache_write_tokens, price->cache_write_picos));
    picos = saturated_sum(picos, saturated_product(usage->output_tokens, price->output_picos));
    usage->has_cost = true;
    usage->cost_micros = picos / PICOS_PER_MICRO + (picos % PICOS_PER_MICRO == 0 ? 0 : 1);
    memcpy(usage->currency, price->currency, sizeof(usage->currency));
}

void sl_usage_add(struct sl_usage *total, const struct sl_usage *part)
{
    total->input_tokens = saturated_sum(total->input_tokens, part->input_tokens);
    total->output_tokens = saturated_sum(total->output_tokens, part->output_tokens);
    total->cache_read_tokens = saturated_sum(total->cache_read_tokens, part->cache_read_tokens);
    total->cache_write_tokens = saturated_sum(total->cache_write_tokens, part->cache_write_tokens);
    total->reasoning_tokens = saturated_sum(total->reasoning_tokens, part->reasoning_tokens);
    total->model_calls = total->model_calls > UINT32_MAX - part->model_calls
                             ? UINT32_MAX
                             : total->model_calls + part->model_calls;
    total->is_estimated |= part->is_estimated;
    if (part->has_cost) {
        total->has_cost = true;
        total->cost_micros = saturated_sum(total->cost_micros, part->cost_micros);
        memcpy(total->currency, part->currency, sizeof(total->currency));
    }
}

enum sl_status sl_budget_digest(
    const char *name, struct sl_slice canonical_arguments, uint8_t ret_digest[SL_SHA256_BYTES])
{
    struct sl_buf key;
    sl_buf_init(&key, MAX_KEY_BYTES);
    /* The NUL keeps name and arguments apart. */
    enum sl_status status = sl_buf_add(&key, sl_slice_of(name, strlen(name) + 1));
    if (status == SL_OK) {
        status = sl_buf_add(&key, canonical_arguments);
    }
    if (status == SL_OK) {
        status = sl_sha256(sl_buf_slice(&key), ret_digest);
    }
    sl_buf_done(&key);
    return status;
}

enum sl_budget_verdict
sl_budget_call(struct sl_budget *budget, const uint8_t digest[SL_SHA256_BYTES])
{
    const bool is_same =
        budget->n_calls > 0 && memcmp(digest, budget->last_call, SL_SHA256_BYTES) == 0;
    budget->n_same = is_same ? budget->n_same + 1 : 1;
    budget->n_calls++;
    memcpy(budget->last_call, digest, SL_SHA256_BYTES);
    return budget->n_calls > budget->max_calls  ? SL_BUDGET_CALLS
           : budget->n_same >= budget->max_same ? SL_BUDGET_LOOP
                                                : SL_BUDGET_OK;
}

bool sl_budget_is_spent(const struct sl_budget *budget)
{
    const struct sl_usage *used = &budget->used;
    const uint64_t tokens = saturated_sum(used->input_tokens, used->output_tokens);
    return (budget->max_tokens > 0 && tokens >= budget->max_tokens) ||
           (budget->max_cost_micros > 0 && used->cost_micros >= budget->max_cost_micros);
}
