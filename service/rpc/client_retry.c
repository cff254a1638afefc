/* Whether and when a call is tried again (gRFC A6; grpc.md RT-4, RT-5).
 *
 *   attempt fails ─▶ sl_client_retry_wants() ─▶ on_closed ─▶ backoff ─▶ waiting ─▶ next attempt
 *
 * What was sent stays in the call's queue until the call is committed: by response headers, or
 * because it is larger than what may be kept. */
#include "runtime/base/parse.h"
#include "runtime/base/random.h"
#include "service/rpc/client_impl.h"

enum { JITTER_PERCENT = 20, PUSHBACK_TEXT_BYTES = 11 };

/* ---- What is kept ---------------------------------------------------------------------------- */

static void give_back(struct sl_client_call *call)
{
    if (call->own.channel != NULL) {
        call->own.channel->own.stats.retry_bytes -= call->own.retry.kept_bytes;
    }
    call->own.retry.kept_bytes = 0;
}

void sl_client_retry_commit(struct sl_client_call *call)
{
    call->own.is_kept = false;
    give_back(call);
    if (call->own.out_at > 0 && call->own.out_at == call->own.out.size) {
        sl_buf_clear(&call->own.out);
        call->own.out_at = 0;
    }
}

void sl_client_retry_count(struct sl_client_call *call)
{
    if (!call->own.is_kept) {
        return;
    }
    struct sl_channel *channel = call->own.channel;
    const size_t more = call->own.out.size - call->own.retry.kept_bytes;
    if (call->own.out.size > channel->retry_call_bytes ||
        channel->own.stats.retry_bytes + more > channel->retry_channel_bytes) {
        sl_client_retry_commit(call);
        return;
    }
    call->own.retry.kept_bytes += more;
    channel->own.stats.retry_bytes += more;
}

/* ---- The wait -------------------------------------------------------------------------------- */

static void start_again(struct sl_client_call *call)
{
    call->own.has_waited = false; /* count_waiting() looks at those behind the last that had */
    sl_list_remove(&call->own.node);
    sl_list_add_last(&call->own.channel->own.waiting, &call->own.node);
    sl_channel_wake(call->own.channel);
}

static void on_timer(void *user_data)
{
    start_again(user_data);
}

void sl_client_retry_go(struct sl_client_call *call)
{
    call->own.retry.is_decided = false;
    if (call->own.retry.due_ns <= sl_loop_now_ns(call->loop)) {
        start_again(call);
        return;
    }
    sl_list_remove(&call->own.node);
    sl_list_add_last(&call->own.channel->own.others, &call->own.node);
    sl_timer_start(&call->own.retry.timer, call->own.retry.due_ns);
}

/* initial x multiplier^n, at most the policy's most, 20 % up or down. */
static uint64_t backoff_ns(const struct sl_retry_policy *policy, uint32_t n)
{
    const uint64_t most_ns = sl_client_ms_to_ns(policy->max_backoff_ms);
    double ns = (double)sl_client_ms_to_ns(policy->initial_backoff_ms);
    for (uint32_t i = 0; i < n; i++) {
        ns *= policy->backoff_multiplier;
    }
    const uint64_t middle_ns = ns < (double)most_ns ? (uint64_t)ns : most_ns;
    const uint64_t jitter = middle_ns / 100 * JITTER_PERCENT;
    return middle_ns - jitter + sl_random_below(2 * jitter + 1);
}

/* ---- The decision ---------------------------------------------------------------------------- */

enum pushback { PUSHBACK_NONE, PUSHBACK_STOP, PUSHBACK_WAIT };

/* A signed number of 32 bits without useless zeros; everything else means: no retry. */
static enum pushback read_pushback(const struct sl_metadata *trailers, uint64_t *ret_ms)
{
    struct sl_slice text;
    struct sl_slice more;
    int64_t ms;
    if (!sl_metadata_get(trailers, "grpc-retry-pushback-ms", 0, &text)) {
        return PUSHBACK_NONE;
    }
    const bool is_padded = text.size > 1 && text.data[0] == '0';
    if (sl_metadata_get(trailers, "grpc-retry-pushback-ms", 1, &more) || is_padded ||
        text.size > PUSHBACK_TEXT_BYTES || sl_parse_i64(text, 0, INT32_MAX, &ms) != SL_OK) {
        return PUSHBACK_STOP;
    }
    *ret_ms = (uint64_t)ms;
    return PUSHBACK_WAIT;
}

/* The policy's answer to a failed attempt; the throttle is told of it. */
static bool is_allowed(struct sl_client_call *call, enum sl_status status, enum pushback pushback)
{
    struct sl_channel *channel = call->own.channel;
    const struct sl_retry_policy *policy = call->own.retry.policy;
    if (channel->is_retry_disabled) {
        return false;
    }
    if (pushback == PUSHBACK_STOP) {
        (void)sl_client_throttle_fail(&channel->own.throttle);
        return false;
    }
    if (policy == NULL || status <= SL_OK || (policy->retryable & SL_RETRY_ON(status)) == 0) {
        return false;
    }
    if (sl_client_throttle_fail(&channel->own.throttle)) {
        channel->own.stats.n_throttled++;
        return false;
    }
    return call->own.retry.n_retries + 1 < policy->max_attempts;
}

static bool follow_policy(struct sl_client_call *call, enum sl_status status)
{
    struct sl_client_retry *retry = &call->own.retry;
    uint64_t pushback_ms = 0;
    const enum pushback pushback = read_pushback(&call->own.trailers, &pushback_ms);
    if (!is_allowed(call, status, pushback)) {
        return false;
    }
    uint64_t wait_ns = pushback_ms * SL_NS_PER_MS;
    if (pushback == PUSHBACK_WAIT) {
        retry->n_backoffs = 0;
    } else {
        wait_ns = backoff_ns(retry->policy, retry->n_backoffs++);
    }
    retry->due_ns = sl_deadline_after(sl_loop_now_ns(call->loop), wait_ns);
    retry->n_retries++;
    call->own.channel->own.stats.n_retries++;
    return true;
}

/* The next attempt begins as the first did. */
static void forget_attempt(struct sl_client_call *call)
{
    sl_frame_reader_done(&call->own.reader);
    sl_client_call_credit(call);
    sl_frame_reader_init(&call->own.reader, (size_t)call->own.channel->limits.message_recv);
    call->own.trailers = (struct sl_metadata){ 0 };
    call->own.out_at = 0;
}

static bool decide(struct sl_client_call *call, enum sl_status status, enum sl_client_failure how)
{
    struct sl_client_retry *retry = &call->own.retry;
    if (call->own.status != SL_PENDING || call->own.has_headers || call->own.channel == NULL) {
        return false;
    }
    retry->due_ns = 0;
    if (how == SL_CLIENT_UNSENT) {
        call->own.channel->own.stats.n_transparent++;
        return true;
    }
    if (!call->own.is_kept) {
        return false;
    }
    if (how == SL_CLIENT_UNPROCESSED && !retry->is_transparent_used) {
        retry->is_transparent_used = true;
        call->own.channel->own.stats.n_transparent++;
        return true;
    }
    return follow_policy(call, status);
}

bool sl_client_retry_wants(
    struct sl_client_call *call, enum sl_status status, enum sl_client_failure how)
{
    if (!decide(call, status, how)) {
        return false;
    }
    forget_attempt(call);
    call->own.retry.is_decided = true;
    if (call->own.stream == NULL) {
        sl_client_retry_go(call);
    }
    return true;
}

/* ---- Life ------------------------------------------------------------------------------------ */

void sl_client_retry_init(struct sl_client_call *call, const struct sl_retry_policy *policy)
{
    call->own.is_kept = true;
    call->own.retry.policy = policy != NULL && policy->max_attempts > 0 ? policy : NULL;
    sl_timer_init(&call->own.retry.timer, call->loop, on_timer, call);
}

void sl_client_retry_done(struct sl_client_call *call)
{
    sl_timer_stop(&call->own.retry.timer);
    call->own.retry.is_decided = false;
    call->own.is_kept = false;
    give_back(call);
}
