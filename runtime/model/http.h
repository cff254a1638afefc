/* Outgoing HTTP: libcurl multi on the loop, one CURLM per loop (PM-1.2). Used by the model
 * providers and by the http tool. */
#ifndef SL_RUNTIME_MODEL_HTTP_H
#define SL_RUNTIME_MODEL_HTTP_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_http; /* the transfers of one loop */
struct sl_http_request;

/* Why a transfer ended. */
enum sl_http_end {
    SL_HTTP_DONE,        /* whole body; look at the status */
    SL_HTTP_UNREACHABLE, /* DNS, connect, reset before the first byte */
    SL_HTTP_TLS,         /* certificate or TLS settings refused */
    SL_HTTP_TIMEOUT,     /* connect, first byte, idle or total timer; `timer` says which */
    SL_HTTP_TRUNCATED,   /* reset or end in mid-body */
    SL_HTTP_LIMIT,       /* headers or body over a cap */
    SL_HTTP_DENIED,      /* the guard refused the address */
    SL_HTTP_FAILED       /* anything else: no memory, an unusable URL */
};

struct sl_http_result {
    enum sl_http_end end;
    const char *timer; /* "connect", "first byte", "idle", "total"; NULL */
    uint32_t status;   /* 0: none was received */
    bool got_bytes;    /* some of the body arrived */
    bool was_sent;     /* connected: the request has gone out, or begun to */
    bool is_bad_reply; /* FAILED: what came is not HTTP, or not understood */
    char text[256];    /* for logs; no secrets */
};

struct sl_http_callbacks {
    /* Headers are complete. May be NULL. */
    void (*on_headers)(struct sl_http_request *request, uint32_t status, void *user_data);
    /* True: hold the transfer back (nothing was consumed) until sl_http_resume(). May be NULL. */
    bool (*is_full)(void *user_data);
    /* A piece of the body; false: end the transfer (on_end does not follow; free it, now or later).
     */
    bool (*on_body)(struct sl_http_request *request, struct sl_slice bytes, void *user_data);
    /* Exactly once, not from inside another call; not after free. */
    void (*on_end)(
        struct sl_http_request *request, const struct sl_http_result *result, void *user_data);
};

struct sl_http_options {
    const char *method;                                    /* "POST" */
    const char *url;                                       /* http or https */
    const char *const *headers;                            /* "Name: value", NULL-terminated */
    struct sl_slice body;                                  /* copied */
    uint64_t connect_ms, first_byte_ms, idle_ms, total_ms; /* 0: none */
    uint64_t max_body_bytes;                               /* 0: none */
    const char *proxy;   /* NULL: none; "env": from the environment, never for loopback */
    const char *ca_file; /* NULL: the system's */
    bool http2;
    /* Checks every address at connect time (egress guard); NULL: all are allowed. `address` is
     * numeric. Such a transfer has a connection of its own, and cannot have a proxy. */
    bool (*allow_address)(const char *address, uint16_t port, void *user_data);
};

SL_CHECK enum sl_status sl_http_new(
    struct sl_loop *loop,
    const struct sl_limits *limits,
    struct sl_http **ret_http,
    struct sl_error *err);
/* All requests must be freed. on_closed later, on the loop. */
void sl_http_close(struct sl_http *http, void (*on_closed)(void *user_data), void *user_data);
/* Owns: the caller; sl_http_request_free(). Fails: SL_INVALID_ARGUMENT the URL;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_http_start(
    struct sl_http *http,
    const struct sl_http_options *options,
    const struct sl_http_callbacks *callbacks,
    void *user_data,
    struct sl_http_request **ret_request,
    struct sl_error *err);
void sl_http_resume(struct sl_http_request *request);
/* Removes the transfer and closes its socket: at once, or after the running callback. */
struct sl_http_request *sl_http_request_free(struct sl_http_request *request);
/* Instead of free, when the answer was read to its end but for the transfer's own end mark: no
 * callback comes any more, and at most `ms` and 16 KiB are given to the server to end it, so that
 * the connection can be used again. Gives NULL. */
struct sl_http_request *sl_http_request_linger(struct sl_http_request *request, uint64_t ms);
/* A header of the answer, by lower-case name; NULL: not there. Valid until the end of the request.
 */
const char *sl_http_header(const struct sl_http_request *request, const char *name);
/* Paused and active idle/first-byte timers stop while paused; for tests. */
bool sl_http_is_paused(const struct sl_http_request *request);
size_t sl_http_n_requests(const struct sl_http *http);

#endif
