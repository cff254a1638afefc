/* gRPC's client side: a channel to one target, and calls on it.
 *
 * Two ways to use it, one API. Without a loop of the user's (options.loop NULL) the channel has a
 * private one and every function that has to wait runs it: sl_client_call_recv() blocks. With a
 * loop, nothing blocks: recv gives SL_AGAIN, and on_readable says when to ask again.
 *
 * One connection per channel, opened by the first call, reopened with backoff (1 s x 1.6, jitter
 * 0.2, at most 120 s, from 1 s again after the server's SETTINGS). Calls fail fast with
 * UNAVAILABLE when it cannot be had, unless wait_for_ready. After a GOAWAY open calls go on, and
 * new ones use a new connection.
 *
 * Retries are those of gRFC A6. Always: a call that never left, any number of times, and one that
 * the server's library refused unprocessed, once. With a policy for its method: a call that failed
 * with one of the policy's codes before response headers came. All that may be sent again is kept,
 * within two bounds of the channel's options; a call that outgrows them is not retried.
 *
 * Thread: that of the loop for everything here; with a private loop any one thread at a time. */
#ifndef SL_SERVICE_RPC_CLIENT_H
#define SL_SERVICE_RPC_CLIENT_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "service/rpc/metadata.h"
#include "service/rpc/methods.h"

struct sl_call;
struct sl_channel;
struct sl_client_call;
struct sl_net_tls;

/* ---- What a channel does for its calls ------------------------------------------------------- */

/* How calls of a method are retried (gRFC A6). All zero: they are not. */
struct sl_retry_policy {
    uint32_t max_attempts;       /* with the first try; at least 2, more than 5 count as 5 */
    uint64_t initial_backoff_ms; /* before the first retry, 20 % up or down; > 0 */
    uint64_t max_backoff_ms;     /* > 0 */
    double backoff_multiplier;   /* of each further retry; > 0 */
    uint32_t retryable;          /* SL_RETRY_ON() of each status, joined by |; not empty */
};

/* SL_UNAVAILABLE and the like, for `retryable`. */
#define SL_RETRY_ON(status) (UINT32_C(1) << (unsigned)(status))

struct sl_method_config {
    size_t struct_size;  /* all elements of an array have the same: it is their distance */
    const char *name;    /* "/pkg.Service/Method"; "/pkg.Service/": its others; NULL: all others */
    uint64_t timeout_ms; /* most that a call may take; 0: as the call says */
    bool wait_for_ready; /* calls wait although they do not say so */
    struct sl_retry_policy retry;
};

struct sl_service_config {
    size_t struct_size;
    const struct sl_method_config *methods;
    size_t n_methods;
    /* While tokens are at or under one half of max_tokens, nothing is retried: a failure with a
     * retryable code takes one, a success gives token_ratio (three decimals count) back. 0: no
     * throttling; at most 1000. */
    uint32_t max_tokens;
    double token_ratio;
};

/* Sees the calls of a channel, in the order of the array when they start and in reverse when they
 * end; retries are inside of it. Any function may be NULL. They run on the channel's loop inside
 * the functions of a call, must not block, and must not start, cancel or free calls or the channel.
 */
struct sl_client_interceptor {
    size_t struct_size; /* as of sl_method_config */
    /* Before anything is sent; may use sl_client_call_add_metadata() and _limit_time(). Not SL_OK:
     * the call ends with this status and the text that sl_fail() left in `err`; what was started
     * before sees its end. */
    enum sl_status (*on_start)(struct sl_client_call *call, struct sl_error *err, void *user_data);
    /* Response headers; not when the answer has none (Trailers-Only). */
    void (*on_headers)(
        struct sl_client_call *call, const struct sl_metadata *headers, void *user_data);
    /* A message that is queued, before compression, or given to the user; valid in the call. */
    void (*on_message_out)(struct sl_client_call *call, struct sl_slice message, void *user_data);
    void (*on_message_in)(struct sl_client_call *call, struct sl_slice message, void *user_data);
    /* Once for each call whose on_start gave SL_OK: its final status; trailers are there. Faults
     * that only show when a message is taken (decompression, decoding), and a cancel of an answer
     * that had arrived whole, come later than this. */
    void (*on_end)(struct sl_client_call *call, enum sl_status status, void *user_data);
    void *user_data;
};

struct sl_channel_options {
    size_t struct_size;
    struct sl_loop *loop;           /* NULL: a private loop, blocking */
    struct sl_net_tls *tls;         /* referenced; NULL: h2c */
    const char *authority;          /* its host is also the name of the certificate; NULL: target */
    const char *user_agent;         /* put before "grpc-c-sluice/VERSION"; NULL: nothing */
    const struct sl_limits *limits; /* copied; NULL: the defaults */
    uint64_t connect_timeout_ms;    /* look-up, TCP and TLS; 0: 20 s */
    uint64_t keepalive_ms; /* silence before a PING; doubled when the server objects; 0: none */
    uint32_t stream_window_bytes, connection_window_bytes; /* 0: from the limits */
    bool keepalive_without_calls; /* PINGs also while no call is open: many servers forbid it */
    bool disable_retry;           /* no policy is followed; what never ran is still sent again */
    const struct sl_service_config *service_config;   /* copied; NULL: no policy */
    const struct sl_client_interceptor *interceptors; /* copied */
    size_t n_interceptors;
    /* What may be kept for retries: 0: 256 KiB of a call, 16 MiB of all. */
    size_t retry_call_bytes, retry_channel_bytes;
    /* The header `authorization` of each call, such as "Bearer KEY"; copied, and the copy is
     * overwritten at the end. NULL: none. Whoever sets it without `tls` shows it to the network. */
    const char *authorization;
};

/* `target`: "127.0.0.1:50051", "[::1]:50051", "name:443", "unix:/path". A name with several
 * addresses: they are tried in order, the families in turns, the next one beside the last after
 * 250 ms. Opens nothing yet. Owns: sl_channel_free(). Fails: SL_INVALID_ARGUMENT the target, the
 * service config or a struct_size; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_channel_new(
    const char *target,
    const struct sl_channel_options *options,
    struct sl_channel **ret_channel,
    struct sl_error *err);
/* Ends open calls (their users see CANCELLED) and closes. With a foreign loop the memory goes
 * later, on it. */
struct sl_channel *sl_channel_free(struct sl_channel *channel);

// install: off
struct sl_channel_stats {
    uint64_t n_limit_waits; /* calls that waited because the connection had all its streams */
    uint64_t stream_limit;  /* MAX_CONCURRENT_STREAMS of the server, when that last happened */
    uint64_t n_retries;     /* by a policy */
    uint64_t n_transparent; /* sent again because they were never processed */
    uint64_t n_throttled;   /* retries that did not happen for want of tokens */
    uint64_t retry_bytes;   /* kept for retries now */
};
struct sl_channel_stats sl_channel_stats(const struct sl_channel *channel);
// install: on

struct sl_client_call_options {
    size_t struct_size;
    uint64_t timeout_ms; /* 0: none; sent as grpc-timeout and enforced here */
    const struct sl_metadatum *metadata;
    size_t n_metadata;
    bool wait_for_ready;
    const char *encoding; /* "gzip": messages are compressed; NULL: identity */
    /* With a foreign loop; may be NULL. Never called from inside a function of the call. */
    void (*on_readable)(struct sl_client_call *call, void *user_data);
    void (*on_writable)(struct sl_client_call *call, void *user_data);
    void *user_data;
    /* The call that this process serves and that this one is made for: its deadline is taken over
     * if it is earlier, and when it ends, or its handler finishes, this call is cancelled. The
     * channel's loop must be the parent's; with a private loop only the deadline is taken over.
     * NULL: none. */
    struct sl_call *parent;
};

/* Starts a call. Owns: sl_client_call_free(), which cancels when it is not over. Fails:
 * SL_INVALID_ARGUMENT, SL_FAILED_PRECONDITION the parent's loop is another one,
 * SL_RESOURCE_EXHAUSTED; everything else shows in the call's status. */
SL_CHECK enum sl_status sl_client_call_open(
    struct sl_channel *channel,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    struct sl_client_call **ret_call);
/* Queues a message. SL_AGAIN (foreign loop only): later. Otherwise not SL_OK: the call is over. */
SL_CHECK enum sl_status sl_client_call_send(struct sl_client_call *call, const void *message);
/* The same with an encoded message; copied. */
SL_CHECK enum sl_status
sl_client_call_send_bytes(struct sl_client_call *call, struct sl_slice message);
/* With an encoding: false sends the messages from now on as they are, true (the default) goes on
 * compressing them. */
void sl_client_call_set_compressing(struct sl_client_call *call, bool is_compressing);
/* No message follows: END_STREAM. */
void sl_client_call_close_send(struct sl_client_call *call);
/* The next message, valid until the next recv. SL_OK; SL_END the call ended with status OK;
 * SL_AGAIN (foreign loop only); otherwise the call's final status. */
SL_CHECK enum sl_status sl_client_call_recv(struct sl_client_call *call, void **ret_message);
/* The same, undecoded. */
SL_CHECK enum sl_status
sl_client_call_recv_bytes(struct sl_client_call *call, struct sl_slice *ret_message);
/* Half-closes and receives the one reply of a unary or client-streaming call, valid until the call
 * is freed. SL_OK; otherwise the call's final status. Private loop only. */
SL_CHECK enum sl_status sl_client_call_finish(struct sl_client_call *call, void **ret_reply);
/* The message that was received last came compressed. */
bool sl_client_call_is_compressed(const struct sl_client_call *call);
/* RST_STREAM(CANCEL); nothing more is received, and the status is CANCELLED, unless recv or send
 * gave the call's end before. Any number of times. */
void sl_client_call_cancel(struct sl_client_call *call);
/* Cancels it when it is not over. Accepts NULL; gives NULL. */
struct sl_client_call *sl_client_call_free(struct sl_client_call *call);

/* After the end: the status; before: SL_PENDING. */
enum sl_status sl_client_call_status(const struct sl_client_call *call);
/* grpc-message, or what went wrong here; origin LOCAL, TRANSPORT or PEER. Never NULL. */
const struct sl_error *sl_client_call_error(const struct sl_client_call *call);
/* grpc-status-details-bin, decoded from base64; empty: none. */
struct sl_slice sl_client_call_details(const struct sl_client_call *call);
/* What a program reads of an error: the first google.rpc.ErrorInfo of the details, and RetryInfo.
 */
struct sl_error_info {
    struct sl_slice reason, domain;
    const struct sl_metadatum *info;
    size_t n_info;
    int64_t retry_delay_ms; /* 0: none */
};
/* Lives as long as the call. NULL: the status has no details that can be read, or no memory. */
const struct sl_error_info *sl_client_call_error_info(struct sl_client_call *call);
/* NULL until the headers arrived. With a private loop: waits for them. */
const struct sl_metadata *sl_client_call_headers(struct sl_client_call *call);
/* Empty until the end. */
const struct sl_metadata *sl_client_call_trailers(const struct sl_client_call *call);
/* user_data of the options. */
void *sl_client_call_user(const struct sl_client_call *call);
/* As sl_client_call_open() got it. */
const struct sl_method_desc *sl_client_call_method(const struct sl_client_call *call);
/* Retries by a policy so far: what the server sees as grpc-previous-rpc-attempts. */
uint32_t sl_client_call_previous_attempts(const struct sl_client_call *call);

/* For interceptors: one more entry, copied, checked as sl_metadata_add() does. Fails:
 * SL_FAILED_PRECONDITION outside of on_start; as sl_metadata_add(). */
SL_CHECK enum sl_status sl_client_call_add_metadata(
    struct sl_client_call *call, struct sl_slice key, struct sl_slice value);
/* For interceptors: the call ends at the latest `timeout_ms` from now. Fails:
 * SL_FAILED_PRECONDITION outside of on_start. */
SL_CHECK enum sl_status sl_client_call_limit_time(struct sl_client_call *call, uint64_t timeout_ms);

/* Unary in one: sends, half-closes, receives one message, valid until the call is freed.
 * `*ret_call` is given also on failure (NULL only without memory) and must be freed. Private loop
 * only. */
SL_CHECK enum sl_status sl_client_unary(
    struct sl_channel *channel,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    const void *request,
    void **ret_reply,
    struct sl_client_call **ret_call);

#endif
