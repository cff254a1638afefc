/* The insides of http.h: a CURLM on a loop (http_uv.c) and its transfers (http.c). */
#ifndef SL_RUNTIME_MODEL_HTTP_MULTI_H
#define SL_RUNTIME_MODEL_HTTP_MULTI_H

#include <curl/curl.h>
#include <uv.h>

#include "runtime/base/buf.h"
#include "runtime/base/list.h"
#include "runtime/model/http.h"

enum { SL_HTTP_HEADER_BYTES = 65536, SL_HTTP_LINGER_BYTES = 16384 };

enum sl_http_state {
    SL_HTTP_WAITS, /* for the end of the turn, to be added */
    SL_HTTP_RUNS,
    SL_HTTP_ENDED /* not in the CURLM any more */
};

struct sl_http {
    struct sl_loop *loop;
    uv_loop_t *uv;
    const struct sl_limits *limits;
    CURLM *multi;
    struct sl_timer timer;   /* libcurl's */
    struct sl_task chores;   /* what must not be done inside a callback of libcurl */
    struct sl_list requests; /* all that are not freed */
    struct sl_list sockets;
    size_t n_requests;
    size_t n_handles; /* uv handles that are not closed yet */
    unsigned depth;   /* calls of libcurl that are running */
    bool is_broken;   /* the CURLM failed and must be made anew */
    bool is_closing;
    void (*on_closed)(void *user_data);
    void *closed_data;
};

struct sl_http_request {
    struct sl_list node;
    struct sl_http *http;
    CURL *easy;
    struct curl_slist *headers;
    uint8_t *body;
    struct sl_http_callbacks callbacks;
    void *user_data;
    bool (*allow_address)(const char *address, uint16_t port, void *user_data);
    uint64_t first_byte_ms, idle_ms, max_body_bytes;
    enum sl_http_state state;
    struct sl_timer timer; /* first byte, then idle; while lingering, the end of it */
    struct sl_timer total;
    uint64_t last_byte_ns;
    uint64_t n_body_bytes;
    size_t n_header_bytes;
    struct sl_buf answer; /* "name\0value\0" each */
    struct sl_http_result result;
    bool is_silent;    /* on_body said stop: the owner is not told of the end */
    bool is_freed;     /* by the owner; goes when libcurl is not running */
    bool is_lingering; /* the owner has gone, the connection shall be used again */
    bool is_paused, must_resume;
    bool has_headers; /* they are complete */
    bool is_over_limit, is_denied;
    char text[CURL_ERROR_SIZE];
};

/* ---- http_uv.c ------------------------------------------------------------------------------- */

/* Bracket of every call that may run callbacks of libcurl. Leaving the outermost one reads what has
 * ended, and does the chores. */
void sl_http_enter(struct sl_http *http);
void sl_http_leave(struct sl_http *http);
/* Chores are waiting: at the end of the turn. */
void sl_http_wake(struct sl_http *http);
curl_socket_t sl_http_open_socket(
    struct sl_http_request *request, curlsocktype purpose, struct curl_sockaddr *address);

/* ---- http.c ---------------------------------------------------------------------------------- */

/* Adds it to the CURLM, or lets it go, or goes on with it; whatever its flags say. Outside of
 * libcurl. The request may be gone afterwards. */
void sl_http_request_chores(struct sl_http_request *request);
/* libcurl says that it has ended. Outside of libcurl. The request may be gone afterwards. */
void sl_http_request_finish(struct sl_http_request *request, CURLcode code);
void sl_http_request_destroy(struct sl_http_request *request);

#endif
