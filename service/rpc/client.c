/* The channel: which connection takes a call, backoff, and the end. */
#include "service/rpc/client.h"

#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/base/version.h"
#include "service/rpc/client_impl.h"

enum {
    CHANNEL_MAGIC = 0x63686E6C,
    BACKOFF_FIRST_MS = 1000,
    BACKOFF_MAX_MS = 120000,
    JITTER_PERCENT = 20,
    FREE_WAIT_MS = 1000,
    KEEPALIVE_MAX_MS = 24 * 3600 * 1000,
    RETRY_CALL_BYTES = 256 * 1024,
    RETRY_CHANNEL_BYTES = 16 * 1024 * 1024
};

/* ---- Backoff --------------------------------------------------------------------------------- */

/* 1 s x 1.6^(n - 1), at most 120 s, 20 % up or down (RT-5). */
static uint64_t backoff_ms(unsigned n_failures)
{
    uint64_t ms = BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < n_failures && ms < BACKOFF_MAX_MS; i++) {
        ms = ms * 16 / 10;
    }
    ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
    const uint64_t jitter = ms * JITTER_PERCENT / 100;
    return ms - jitter + sl_random_below(2 * jitter + 1);
}

/* Calls that do not wait for a connection fail with the reason why there is none, unless their
 * policy has them try again (A6: as any other failure). */
static void fail_waiting(struct sl_channel *channel)
{
    SL_LIST_EACH(node, &channel->own.waiting) {
        struct sl_client_call *call = SL_CONTAINER(node, struct sl_client_call, own.node);
        if (!call->options.wait_for_ready &&
            !sl_client_retry_wants(call, SL_UNAVAILABLE, SL_CLIENT_FAILED)) {
            sl_client_call_end(
                call, SL_UNAVAILABLE, SL_ORIGIN_TRANSPORT, true, "%s", channel->own.failure.text);
        }
    }
    if (!sl_list_is_empty(&channel->own.waiting)) {
        sl_timer_start(&channel->own.retry, channel->own.retry_ns);
    }
}

static void note_failure(struct sl_channel *channel, const struct sl_error *err)
{
    channel->own.n_failures++;
    channel->own.retry_ns =
        sl_loop_now_ns(channel->loop) + backoff_ms(channel->own.n_failures) * SL_NS_PER_MS;
    channel->own.failure = *err;
    fail_waiting(channel);
}

/* ---- Calls on their way ---------------------------------------------------------------------- */

/* True: there is a connection that may take calls, now or later. */
static bool have_connection(struct sl_channel *channel)
{
    if (channel->own.current != NULL) {
        return true;
    }
    if (sl_loop_now_ns(channel->loop) < channel->own.retry_ns) {
        fail_waiting(channel);
        return false;
    }
    if (channel->transport->ops->open == NULL) {
        return false; /* the user brings one */
    }
    struct sl_error err = { 0 };
    if (sl_client_conn_open(channel, &channel->own.current, &err) != SL_OK) {
        note_failure(channel, &err);
        return false;
    }
    return true;
}

/* Calls that wait are at the end of the list: counted are those behind the last one that was. */
static void count_waiting(struct sl_channel *channel)
{
    const struct sl_h2_session *session = sl_client_conn_session(channel->own.current);
    channel->own.stats.stream_limit = sl_h2_session_n_streams(session);
    struct sl_list *const waiting = &channel->own.waiting;
    for (struct sl_list *node = waiting->previous; node != waiting; node = node->previous) {
        struct sl_client_call *call = SL_CONTAINER(node, struct sl_client_call, own.node);
        if (call->own.has_waited) {
            return;
        }
        call->own.has_waited = true;
        channel->own.stats.n_limit_waits++;
    }
}

static void run_start(struct sl_task *task)
{
    struct sl_channel *channel = SL_CONTAINER(task, struct sl_channel, own.start);
    struct sl_list *node;
    while (!channel->own.is_freed && (node = sl_list_first(&channel->own.waiting)) != NULL) {
        if (!have_connection(channel) || !sl_client_conn_is_ready(channel->own.current)) {
            return;
        }
        struct sl_client_call *call = SL_CONTAINER(node, struct sl_client_call, own.node);
        const enum sl_status status = sl_client_call_start(call, channel->own.current);
        if (status == SL_AGAIN) {
            count_waiting(channel);
            return; /* woken when a stream closes */
        }
        if (status == SL_UNAVAILABLE) {
            sl_client_conn_drain(channel->own.current);
        }
    }
}

void sl_channel_wake(struct sl_channel *channel)
{
    if (!channel->own.is_freed) {
        sl_loop_defer(channel->loop, &channel->own.start);
    }
}

static void on_retry(void *user_data)
{
    struct sl_channel *channel = user_data;
    sl_channel_wake(channel);
}

bool sl_channel_may_wait(const struct sl_channel *channel)
{
    return channel->transport->ops->step != NULL;
}

void sl_channel_enter(const struct sl_channel *channel)
{
    if (channel != NULL && sl_channel_may_wait(channel)) {
        sl_loop_enter(channel->loop);
    }
}

void sl_channel_step(struct sl_channel *channel, bool may_wait)
{
    if (sl_channel_may_wait(channel)) {
        channel->transport->ops->step(channel->transport, may_wait);
    }
}

/* ---- From connections ------------------------------------------------------------------------ */

static void destroy(struct sl_channel *channel)
{
    sl_timer_stop(&channel->own.retry);
    sl_loop_undefer(channel->loop, &channel->own.start);
    sl_client_config_done(channel);
    (void)sl_free(channel->interceptors);
    channel->transport->ops->free(channel->transport);
    (void)sl_free(channel->target);
    (void)sl_free(channel->authority);
    (void)sl_free(channel->user_agent);
    if (channel->authorization != NULL) {
        explicit_bzero(channel->authorization, strlen(channel->authorization));
        (void)sl_free(channel->authorization);
    }
    channel->magic = 0;
    (void)sl_free(channel);
}

void sl_channel_on_ready(struct sl_channel *channel)
{
    channel->own.n_failures = 0;
    channel->own.retry_ns = 0;
    sl_channel_wake(channel);
}

void sl_channel_calm_keepalive(struct sl_channel *channel)
{
    const uint64_t twice = 2 * channel->own.keepalive_ms;
    channel->own.keepalive_ms = twice < KEEPALIVE_MAX_MS ? twice : KEEPALIVE_MAX_MS;
}

/* The channel looks for another connection, after a pause unless the old one was good. */
static void replace(struct sl_channel *channel, bool was_good, const struct sl_error *err)
{
    channel->own.current = NULL;
    if (was_good || sl_list_is_empty(&channel->own.waiting)) {
        sl_channel_wake(channel);
    } else {
        note_failure(channel, err);
    }
}

void sl_channel_on_draining(
    struct sl_channel *channel,
    const struct sl_client_conn *conn,
    bool is_used,
    const struct sl_error *err)
{
    if (channel->own.current == conn) {
        replace(channel, is_used, err);
    }
}

void sl_channel_on_gone(
    struct sl_channel *channel,
    const struct sl_client_conn *conn,
    bool was_ready,
    bool was_used,
    const struct sl_error *err)
{
    const bool was_current = channel->own.current == conn;
    if (channel->own.is_freed) {
        channel->own.current = NULL;
        if (sl_list_is_empty(&channel->own.conns) && !sl_channel_may_wait(channel)) {
            destroy(channel);
        }
    } else if (was_current && !was_ready) {
        channel->own.current = NULL;
        note_failure(channel, err);
    } else if (was_current) {
        replace(channel, was_used, err);
    } else {
        sl_channel_wake(channel);
    }
}

/* ---- From whoever brings connections --------------------------------------------------------- */

enum sl_status
sl_channel_adopt(struct sl_channel *channel, void *link, struct sl_client_conn **ret_conn)
{
    if (channel->own.is_freed) {
        return SL_FAILED_PRECONDITION;
    }
    if (channel->own.current != NULL) {
        return SL_ALREADY_EXISTS;
    }
    SL_TRY(sl_client_conn_adopt(channel, link, &channel->own.current));
    *ret_conn = channel->own.current;
    return SL_OK;
}

void sl_channel_note_failure(struct sl_channel *channel, const char *why)
{
    struct sl_error err = { 0 };
    (void)sl_fail(&err, SL_UNAVAILABLE, "%s: %s", channel->target, why);
    err.origin = SL_ORIGIN_TRANSPORT;
    note_failure(channel, &err);
}

bool sl_channel_is_waiting(const struct sl_channel *channel)
{
    return channel->own.current == NULL && !sl_list_is_empty(&channel->own.waiting) &&
           sl_loop_now_ns(channel->loop) >= channel->own.retry_ns;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

struct sl_channel_stats sl_channel_stats(const struct sl_channel *channel)
{
    return channel->own.stats;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static char *make_user_agent(const char *first)
{
    char text[256];
    (void)snprintf(
        text, sizeof(text), "%s%sgrpc-c-sluice/" SL_VERSION, first == NULL ? "" : first,
        first == NULL ? "" : " ");
    return sl_strdup(text);
}

static void set_limits(struct sl_channel *channel, const struct sl_channel_options *options)
{
    if (options->limits != NULL) {
        channel->limits = *options->limits;
    } else {
        sl_limits_init(&channel->limits);
    }
    if (options->stream_window_bytes > 0) {
        channel->limits.stream_window = options->stream_window_bytes;
    }
    if (options->connection_window_bytes > 0) {
        channel->limits.connection_window = options->connection_window_bytes;
    }
    channel->own.keepalive_ms =
        options->keepalive_ms < KEEPALIVE_MAX_MS ? options->keepalive_ms : KEEPALIVE_MAX_MS;
    channel->pings_without_calls = options->keepalive_without_calls;
    channel->is_retry_disabled = options->disable_retry;
    channel->retry_call_bytes =
        options->retry_call_bytes > 0 ? options->retry_call_bytes : RETRY_CALL_BYTES;
    channel->retry_channel_bytes =
        options->retry_channel_bytes > 0 ? options->retry_channel_bytes : RETRY_CHANNEL_BYTES;
}

static enum sl_status copy_interceptors(
    struct sl_channel *channel, const struct sl_channel_options *options, struct sl_error *err)
{
    if (options->n_interceptors == 0) {
        return SL_OK;
    }
    channel->interceptors = sl_calloc(options->n_interceptors, sizeof(*channel->interceptors));
    if (channel->interceptors == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const size_t step = options->interceptors[0].struct_size;
    for (size_t i = 0; i < options->n_interceptors; i++) {
        const struct sl_client_interceptor *given =
            (const void *)((const uint8_t *)options->interceptors + i * step);
        if (given->struct_size != step || step == 0 || step > sizeof(*given)) {
            return sl_fail(err, SL_INVALID_ARGUMENT, "struct_size of an interceptor is not set");
        }
        memcpy(&channel->interceptors[i], given, step);
    }
    channel->n_interceptors = options->n_interceptors;
    return SL_OK;
}

static enum sl_status
copy_authorization(struct sl_channel *channel, const char *authorization, struct sl_error *err)
{
    if (authorization == NULL) {
        return SL_OK;
    }
    const struct sl_slice value = sl_slice_str(authorization);
    if (sl_metadata_check(sl_slice_str("authorization"), value) != SL_OK) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "authorization: visible ASCII is expected");
    }
    channel->authorization = sl_strdup(authorization);
    return channel->authorization == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static void init_channel(struct sl_channel *channel, struct sl_client_transport *transport)
{
    channel->magic = CHANNEL_MAGIC;
    channel->transport = transport;
    channel->loop = transport->loop;
    sl_list_init(&channel->own.waiting);
    sl_list_init(&channel->own.others);
    sl_list_init(&channel->own.conns);
    channel->own.start.run = run_start;
    sl_timer_init(&channel->own.retry, channel->loop, on_retry, channel);
}

/* What needs memory, or may be wrong. */
static enum sl_status fill_channel(
    struct sl_channel *channel,
    const char *target,
    const char *authority,
    const struct sl_channel_options *options,
    struct sl_error *err)
{
    set_limits(channel, options);
    channel->target = sl_strdup(target);
    channel->authority = sl_strdup(authority);
    channel->user_agent = make_user_agent(options->user_agent);
    if (channel->target == NULL || channel->authority == NULL || channel->user_agent == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(copy_authorization(channel, options->authorization, err));
    SL_TRY(copy_interceptors(channel, options, err));
    return sl_client_config_copy(channel, options->service_config, err);
}

enum sl_status sl_channel_read_options(
    const struct sl_channel_options *options, struct sl_channel_options *ret, struct sl_error *err)
{
    *ret = (struct sl_channel_options){ 0 };
    if (options == NULL) {
        return SL_OK;
    }
    if (options->struct_size == 0 || options->struct_size > sizeof(*ret)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "struct_size of the options is not set");
    }
    memcpy(ret, options, options->struct_size);
    return SL_OK;
}

enum sl_status sl_channel_make(
    struct sl_client_transport *transport,
    const char *target,
    const char *authority,
    const struct sl_channel_options *options,
    struct sl_channel **ret_channel,
    struct sl_error *err)
{
    struct sl_channel *channel = sl_calloc(1, sizeof(*channel));
    if (channel == NULL) {
        transport->ops->free(transport);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a channel");
    }
    init_channel(channel, transport);
    const enum sl_status status = fill_channel(channel, target, authority, options, err);
    if (status != SL_OK) {
        destroy(channel);
        return status == SL_RESOURCE_EXHAUSTED ? sl_fail(err, status, "no memory for a channel")
                                               : status;
    }
    *ret_channel = channel;
    return SL_OK;
}

struct sl_client_transport *sl_channel_transport(const struct sl_channel *channel)
{
    return channel->transport;
}

static void orphan_all(struct sl_list *calls)
{
    for (struct sl_list *node; (node = sl_list_first(calls)) != NULL;) {
        sl_client_call_orphan(SL_CONTAINER(node, struct sl_client_call, own.node));
    }
}

static void close_all(struct sl_channel *channel, bool now)
{
    SL_LIST_EACH(node, &channel->own.conns) {
        sl_client_conn_close(sl_client_conn_of_node(node), now);
    }
}

static void on_free_timeout(void *user_data)
{
    struct sl_channel *channel = user_data;
    close_all(channel, true);
}

struct sl_channel *sl_channel_free(struct sl_channel *channel)
{
    if (channel == NULL) {
        return NULL;
    }
    sl_channel_enter(channel);
    channel->own.is_freed = true;
    orphan_all(&channel->own.waiting);
    orphan_all(&channel->own.others);
    if (sl_list_is_empty(&channel->own.conns)) {
        destroy(channel);
        return NULL;
    }
    /* What is queued goes out, in a bounded time. */
    close_all(channel, false);
    sl_timer_stop(&channel->own.retry);
    sl_timer_init(&channel->own.retry, channel->loop, on_free_timeout, channel);
    sl_timer_start_ms(&channel->own.retry, FREE_WAIT_MS);
    if (sl_channel_may_wait(channel)) {
        while (!sl_list_is_empty(&channel->own.conns)) {
            sl_channel_step(channel, true);
        }
        destroy(channel);
    }
    return NULL;
}
