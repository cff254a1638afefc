/* gRPC's client side: a channel to one target, and calls on it.
 *
 * Two ways to use it, one API. Without a loop of the user's (options.loop NULL) the channel has a
 * private one and every function that has to wait runs it: sl_client_call_recv() blocks. With a
 * loop, nothing blocks: recv gives SL_AGAIN, and on_readable says when to ask again.
 *
 * One connection per channel, opened by the first call, reopened with backoff (1 s x 1.6, jitter
 * 0.2, at most 120 s). Calls fail fast with UNAVAILABLE when it cannot be had, unless
 * wait_for_ready. */
#ifndef SL_SERVICE_RPC_CLIENT_H
#define SL_SERVICE_RPC_CLIENT_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "service/rpc/metadata.h"
#include "service/rpc/methods.h"

struct sl_channel;
struct sl_client_call;
struct sl_net_tls;

struct sl_channel_options {
    size_t struct_size;
    struct sl_loop *loop;           /* NULL: a private loop, blocking */
    struct sl_net_tls *tls;         /* referenced; NULL: h2c */
    const char *authority;          /* its host is also the name of the certificate; NULL: target */
    const char *user_agent;         /* put before "grpc-c-sluice/VERSION"; NULL: nothing */
    const struct sl_limits *limits; /* copied; NULL: the defaults */
    uint64_t connect_timeout_ms;    /* 0: 20 s */
    uint64_t keepalive_ms;          /* 0: none */
    uint32_t stream_window_bytes, connection_window_bytes; /* 0: from the limits */
};

/* `target`: "127.0.0.1:50051", "name:443", "unix:/path". Opens nothing yet. Owns:
 * sl_channel_free(). Fails: SL_INVALID_ARGUMENT the target; SL_RESOURCE_EXHAUSTED. */
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
};

/* Starts a call. Owns: sl_client_call_free(), which cancels when it is not over. Fails:
 * SL_INVALID_ARGUMENT, SL_RESOURCE_EXHAUSTED; everything else shows in the call's status. */
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
/* No message follows: END_STREAM. */
void sl_client_call_close_send(struct sl_client_call *call);
/* The next message, valid until the next recv. SL_OK; SL_END the call ended with status OK;
 * SL_AGAIN (foreign loop only); otherwise the call's final status. */
SL_CHECK enum sl_status sl_client_call_recv(struct sl_client_call *call, void **ret_message);
/* The same, undecoded. */
SL_CHECK enum sl_status
sl_client_call_recv_bytes(struct sl_client_call *call, struct sl_slice *ret_message);
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
/* NULL until the headers arrived. With a private loop: waits for them. */
const struct sl_metadata *sl_client_call_headers(struct sl_client_call *call);
/* Empty until the end. */
const struct sl_metadata *sl_client_call_trailers(const struct sl_client_call *call);
/* user_data of the options. */
void *sl_client_call_user(const struct sl_client_call *call);

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
