#include "runtime/model/http.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "runtime/base/log_text.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/base/utf8.h"
#include "runtime/model/http_multi.h"

/* ---- How it ended -----------------------------------------------------------------------------
 */

/* libcurl says "connect error" of TLS for a handshake that was broken off, and for one that both
 * sides could never have agreed on. */
static enum sl_http_end from_handshake(const char *text)
{
    const bool is_openssl = strstr(text, "SSL routines") != NULL;
    const bool is_cut = strstr(text, "unexpected eof") != NULL;
    return is_openssl && !is_cut ? SL_HTTP_TLS : SL_HTTP_UNREACHABLE;
}

static enum sl_http_end from_curl(const struct sl_http_request *request, CURLcode code)
{
    if (request->is_over_limit) {
        return SL_HTTP_LIMIT;
    }
    /* The codes are libcurl's, not ours: what is not named here is "anything else". */
    switch ((int)code) {
    case CURLE_OK:
        return SL_HTTP_DONE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
    case CURLE_ABORTED_BY_CALLBACK:
        return request->is_denied ? SL_HTTP_DENIED : SL_HTTP_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return SL_HTTP_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
        return from_handshake(request->text);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
        return SL_HTTP_TLS;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return request->result.status > 0 ? SL_HTTP_TRUNCATED : SL_HTTP_UNREACHABLE;
    case CURLE_OUT_OF_MEMORY:
        /* Also what libcurl says of a header line over its own 100 KiB. */
        return request->result.status > 0 && !request->has_headers ? SL_HTTP_LIMIT : SL_HTTP_FAILED;
    case CURLE_FILESIZE_EXCEEDED:
        return SL_HTTP_LIMIT;
    default:
        return SL_HTTP_FAILED;
    }
}

static bool is_bad_reply(CURLcode code)
{
    return code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL ||
           code == CURLE_BAD_CONTENT_ENCODING;
}

static void set_text(struct sl_http_request *request, const char *text)
{
    struct sl_http_result *result = &request->result;
    const struct sl_slice slice = sl_slice_str(text);
    const size_t n = sl_utf8_cut(slice, sizeof(result->text) - 1);
    const size_t kept = sl_log_text_scrub(sl_slice_of(slice.data, n), n < slice.size, result->text);
    result->text[kept] = '\0';
}

/* Takes it out of libcurl. Outside of libcurl's callbacks. */
static void take_out(struct sl_http_request *request)
{
    sl_timer_stop(&request->timer);
    sl_timer_stop(&request->total);
    if (request->state == SL_HTTP_RUNS && request->http->multi != NULL) {
        sl_http_enter(request->http);
        (void)curl_multi_remove_handle(request->http->multi, request->easy);
        request->http->depth--;
    }
    request->state = SL_HTTP_ENDED;
}

void sl_http_request_destroy(struct sl_http_request *request)
{
    take_out(request);
    if (!request->is_freed && !request->is_lingering) {
        request->http->n_requests--;
    }
    sl_list_remove(&request->node);
    curl_easy_cleanup(request->easy);
    curl_slist_free_all(request->headers);
    sl_buf_done(&request->answer);
    sl_free(request->body);
    sl_free(request);
}

/* Gives the end to the owner, who may free the request inside. */
static void give_end(struct sl_http_request *request)
{
    if (request->is_freed || request->is_lingering) {
        sl_http_request_destroy(request);
        return;
    }
    if (request->is_silent) {
        return;
    }
    request->callbacks.on_end(request, &request->result, request->user_data);
}

void sl_http_request_finish(struct sl_http_request *request, CURLcode code)
{
    request->result.end = from_curl(request, code);
    request->result.is_bad_reply = is_bad_reply(code) && !request->is_over_limit;
    if (request->result.end == SL_HTTP_TIMEOUT) {
        request->result.timer = "connect";
    }
    set_text(
        request, request->is_over_limit     ? "the answer is over its limit"
                 : request->text[0] != '\0' ? request->text
                                            : curl_easy_strerror(code));
    take_out(request);
    give_end(request);
}

static void end_by_timer(struct sl_http_request *request, const char *timer)
{
    request->result.end = SL_HTTP_TIMEOUT;
    request->result.timer = timer;
    (void)snprintf(request->result.text, sizeof(request->result.text), "the %s timer fired", timer);
    take_out(request);
    give_end(request);
}

/* ---- Timers ------------------------------------------------------------------------------------
 */

/* First byte, then idle. The idle timer is not moved with each byte: it looks when the last one
 * came. */
static void on_timer(void *user_data)
{
    struct sl_http_request *request = user_data;
    const uint64_t now_ns = sl_loop_now_ns(request->http->loop);
    const uint64_t due_ns = request->last_byte_ns + request->idle_ms * SL_NS_PER_MS;
    if (request->is_lingering) {
        sl_http_request_destroy(request);
    } else if (!request->result.got_bytes) {
        end_by_timer(request, "first byte");
    } else if (now_ns < due_ns) {
        sl_timer_start(&request->timer, due_ns);
    } else {
        end_by_timer(request, "idle");
    }
}

static void on_total(void *user_data)
{
    end_by_timer(user_data, "total");
}

static void start_timer(struct sl_http_request *request)
{
    const uint64_t ms = request->result.got_bytes ? request->idle_ms : request->first_byte_ms;
    request->last_byte_ns = sl_loop_now_ns(request->http->loop);
    if (request->is_lingering) {
        return; /* it has its own end */
    }
    if (ms > 0) {
        sl_timer_start_ms(&request->timer, ms);
    } else {
        sl_timer_stop(&request->timer);
    }
}

/* ---- Callbacks of libcurl ----------------------------------------------------------------------
 */

/* Connected, and nothing sent yet: the guard is asked once more, about the peer that it is now, and
 * one address that it has refused refuses the host. libcurl's type of it wants mutable texts. */
static int
/* NOLINTNEXTLINE(readability-non-const-parameter) */
on_connected(void *user_data, char *primary_ip, char *local_ip, int primary_port, int local_port)
{
    struct sl_http_request *request = user_data;
    (void)local_ip;
    (void)local_port;
    if (request->allow_address != NULL && !request->is_denied) {
        request->is_denied =
            !request->allow_address(primary_ip, (uint16_t)primary_port, request->user_data);
    }
    if (request->is_denied) {
        return CURL_PREREQFUNC_ABORT;
    }
    request->result.was_sent = true;
    start_timer(request);
    return CURL_PREREQFUNC_OK;
}

/* `HTTP/1.1 200 OK` begins the headers anew; those of a 1xx answer do not count. */
static void begin_headers(struct sl_http_request *request, struct sl_slice line)
{
    const uint8_t *blank = memchr(line.data, ' ', line.size);
    uint64_t status = 0;
    sl_buf_clear(&request->answer);
    if (blank != NULL && line.size - (size_t)(blank - line.data) >= 4) {
        if (sl_parse_u64(sl_slice_of(blank + 1, 3), 100, 999, &status) != SL_OK) {
            status = 0;
        }
    }
    request->result.status = (uint32_t)status;
}

static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = sl_slice_of(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && strchr(" \t\r\n", text.data[text.size - 1]) != NULL) {
        text.size--;
    }
    return text;
}

static enum sl_status keep_header(struct sl_http_request *request, struct sl_slice line)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    if (colon == NULL || memchr(line.data, 0, line.size) != NULL) {
        return SL_OK;
    }
    const size_t n = (size_t)(colon - line.data);
    for (size_t i = 0; i < n; i++) {
        SL_TRY(sl_buf_add_byte(&request->answer, (uint8_t)tolower(line.data[i])));
    }
    SL_TRY(sl_buf_add_byte(&request->answer, 0));
    SL_TRY(sl_buf_add(&request->answer, trim(sl_slice_of(colon + 1, line.size - n - 1))));
    return sl_buf_add_byte(&request->answer, 0);
}

static bool is_empty_line(struct sl_slice line)
{
    return trim(line).size == 0;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *user_data)
{
    struct sl_http_request *request = user_data;
    const struct sl_slice line = sl_slice_of(bytes, size * n);
    request->n_header_bytes += line.size;
    if (request->n_header_bytes > SL_HTTP_HEADER_BYTES) {
        request->is_over_limit = true;
        return 0;
    }
    if (request->has_headers) {
        return line.size; /* trailers */
    }
    if (line.size >= 5 && memcmp(line.data, "HTTP/", 5) == 0) {
        begin_headers(request, line);
        return line.size;
    }
    if (!is_empty_line(line)) {
        return keep_header(request, line) == SL_OK ? line.size : 0;
    }
    if (request->result.status >= 200) {
        request->has_headers = true;
        if (request->callbacks.on_headers != NULL && !request->is_freed && !request->is_lingering) {
            request->callbacks.on_headers(request, request->result.status, request->user_data);
        }
    }
    return request->is_freed ? 0 : line.size;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user_data)
{
    struct sl_http_request *request = user_data;
    const struct sl_slice body = sl_slice_of(bytes, size * n);
    if (request->is_freed) {
        return CURL_WRITEFUNC_ERROR;
    }
    if (request->is_lingering) {
        request->n_body_bytes += body.size;
        return request->n_body_bytes > SL_HTTP_LINGER_BYTES ? CURL_WRITEFUNC_ERROR : body.size;
    }
    if (request->callbacks.is_full != NULL && request->callbacks.is_full(request->user_data)) {
        request->is_paused = true;
        sl_timer_stop(&request->timer);
        return CURL_WRITEFUNC_PAUSE;
    }
    request->n_body_bytes += body.size;
    if (request->max_body_bytes > 0 && request->n_body_bytes > request->max_body_bytes) {
        request->is_over_limit = true;
        return CURL_WRITEFUNC_ERROR;
    }
    request->last_byte_ns = sl_loop_now_ns(request->http->loop);
    if (!request->result.got_bytes) {
        request->result.got_bytes = true;
        start_timer(request);
    }
    if (!request->callbacks.on_body(request, body, request->user_data) && !request->is_lingering) {
        request->is_silent = true;
        sl_timer_stop(&request->timer);
        sl_timer_stop(&request->total);
    }
    return request->is_freed || request->is_silent ? CURL_WRITEFUNC_ERROR : body.size;
}

static curl_socket_t
on_open_socket(void *user_data, curlsocktype purpose, struct curl_sockaddr *address)
{
    return sl_http_open_socket(user_data, purpose, address);
}

/* ---- Setting up --------------------------------------------------------------------------------
 */

static bool is_one_line(const char *text)
{
    return strpbrk(text, "\r\n") == NULL;
}

/* Host of the URL, in small letters; false: no such URL, or not http. */
static bool read_url(const char *text, char *host, size_t host_bytes)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    char *name = NULL;
    const bool is_good =
        url != NULL &&
        curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        (strcasecmp(scheme, "http") == 0 || strcasecmp(scheme, "https") == 0) &&
        curl_url_get(url, CURLUPART_HOST, &name, 0) == CURLUE_OK &&
        snprintf(host, host_bytes, "%s", name) < (int)host_bytes;
    curl_free(scheme);
    curl_free(name);
    curl_url_cleanup(url);
    return is_good;
}

static bool is_loopback(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "[::1]") == 0;
}

static enum sl_status check_options(
    const struct sl_http_options *options, char *host, size_t host_bytes, struct sl_error *err)
{
    if (options->url == NULL || !read_url(options->url, host, host_bytes)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "not a URL of http or https");
    }
    if (!is_one_line(options->method) || strpbrk(options->method, " \t") != NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "not an HTTP method");
    }
    for (size_t i = 0; options->headers != NULL && options->headers[i] != NULL; i++) {
        if (!is_one_line(options->headers[i])) {
            return sl_fail(err, SL_INVALID_ARGUMENT, "a header has a line break");
        }
    }
    if (options->allow_address != NULL && options->proxy != NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "addresses cannot be checked behind a proxy: use none");
    }
    return SL_OK;
}

static bool add_header(struct sl_http_request *request, const char *header)
{
    struct curl_slist *list = curl_slist_append(request->headers, header);
    if (list != NULL) {
        request->headers = list;
    }
    return list != NULL;
}

static enum sl_status
set_headers(struct sl_http_request *request, const struct sl_http_options *options)
{
    /* Without it libcurl asks before it sends a large body, and waits up to a second. */
    bool is_done = add_header(request, "Expect:");
    for (size_t i = 0; is_done && options->headers != NULL && options->headers[i] != NULL; i++) {
        is_done = add_header(request, options->headers[i]);
    }
    return is_done ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

static bool is_method(const struct sl_http_options *options, const char *name)
{
    return strcmp(options->method, name) == 0;
}

static CURLcode set_body(struct sl_http_request *request, const struct sl_http_options *options)
{
    CURL *easy = request->easy;
    CURLcode code = CURLE_OK;
    if (is_method(options, "HEAD")) {
        return curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    if (options->body.size > 0 || is_method(options, "POST")) {
        code = curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)options->body.size);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
    }
    if (code == CURLE_OK && !is_method(options, "POST") && !is_method(options, "GET")) {
        code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method);
    } else if (code == CURLE_OK && is_method(options, "GET") && options->body.size > 0) {
        code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "GET");
    }
    return code;
}

static CURLcode set_proxy(CURL *easy, const struct sl_http_options *options, const char *host)
{
    if (options->proxy == NULL || is_loopback(host)) {
        return curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }
    if (strcmp(options->proxy, "env") == 0) {
        return CURLE_OK; /* libcurl looks there by itself */
    }
    return curl_easy_setopt(easy, CURLOPT_PROXY, options->proxy);
}

static void set_safety(CURL *easy, const struct sl_http_options *options)
{
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 10L);
    (void)curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    (void)curl_easy_setopt(
        easy, CURLOPT_HTTP_VERSION,
        options->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 0L);
    /* 0 would be libcurl's own default of 300 s. */
    (void)curl_easy_setopt(
        easy, CURLOPT_CONNECTTIMEOUT_MS,
        options->connect_ms == 0 || options->connect_ms > INT32_MAX ? (long)INT32_MAX
                                                                    : (long)options->connect_ms);
    if (options->allow_address != NULL) {
        /* A connection that somebody else opened was not checked by this guard. */
        (void)curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
}

static void set_callbacks(struct sl_http_request *request)
{
    CURL *easy = request->easy;
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, (void *)request);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->text);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, request);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, request);
}

static enum sl_status
set_up(struct sl_http_request *request, const struct sl_http_options *options, const char *host)
{
    request->body = sl_alloc(options->body.size + 1);
    request->easy = curl_easy_init();
    if (request->body == NULL || request->easy == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (options->body.size > 0) {
        memcpy(request->body, options->body.data, options->body.size);
    }
    request->body[options->body.size] = 0;
    SL_TRY(set_headers(request, options));
    CURL *easy = request->easy;
    if (curl_easy_setopt(easy, CURLOPT_URL, options->url) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
        set_proxy(easy, options, host) != CURLE_OK || set_body(request, options) != CURLE_OK ||
        (options->ca_file != NULL &&
         curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file) != CURLE_OK)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    set_safety(easy, options);
    set_callbacks(request);
    return SL_OK;
}

enum sl_status sl_http_start(
    struct sl_http *http,
    const struct sl_http_options *options,
    const struct sl_http_callbacks *callbacks,
    void *user_data,
    struct sl_http_request **ret_request,
    struct sl_error *err)
{
    SL_ON_LOOP(http->loop);
    char host[256];
    SL_TRY(check_options(options, host, sizeof(host), err));
    struct sl_http_request *request = sl_calloc(1, sizeof(*request));
    if (request == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a transfer");
    }
    request->http = http;
    request->callbacks = *callbacks;
    request->user_data = user_data;
    request->allow_address = options->allow_address;
    request->first_byte_ms = options->first_byte_ms;
    request->idle_ms = options->idle_ms;
    request->max_body_bytes = options->max_body_bytes;
    sl_list_init(&request->node);
    sl_timer_init(&request->timer, http->loop, on_timer, request);
    sl_timer_init(&request->total, http->loop, on_total, request);
    sl_buf_init(&request->answer, (size_t)SL_HTTP_HEADER_BYTES * 2);
    http->n_requests++;
    const enum sl_status status = set_up(request, options, host);
    if (status != SL_OK) {
        sl_http_request_destroy(request);
        return sl_fail(err, status, "no memory for a transfer");
    }
    sl_list_add_last(&http->requests, &request->node);
    if (options->total_ms > 0) {
        sl_timer_start_ms(&request->total, options->total_ms);
    }
    sl_http_wake(http); /* it begins at the end of this turn */
    *ret_request = request;
    return SL_OK;
}

/* ---- Going on and letting go -------------------------------------------------------------------
 */

static void go_on(struct sl_http_request *request)
{
    struct sl_http *http = request->http;
    request->must_resume = false;
    request->is_paused = false;
    if (request->result.was_sent) {
        start_timer(request);
    }
    sl_http_enter(http);
    const CURLcode code = curl_easy_pause(request->easy, CURLPAUSE_CONT);
    http->depth--;
    /* An error of the write callback is told here, and nowhere else. */
    if (code != CURLE_OK && !request->is_freed) {
        sl_http_request_finish(request, code);
    }
}

void sl_http_request_chores(struct sl_http_request *request)
{
    struct sl_http *http = request->http;
    if (request->is_freed) {
        sl_http_request_destroy(request);
    } else if (request->state == SL_HTTP_WAITS) {
        sl_http_enter(http);
        const CURLMcode code = http->multi == NULL
                                   ? CURLM_OUT_OF_MEMORY
                                   : curl_multi_add_handle(http->multi, request->easy);
        http->depth--;
        request->state = SL_HTTP_RUNS;
        if (code != CURLM_OK) {
            request->state = SL_HTTP_ENDED;
            sl_http_request_finish(request, CURLE_OUT_OF_MEMORY);
        }
    } else if (request->must_resume && request->is_paused) {
        go_on(request);
    }
}

void sl_http_resume(struct sl_http_request *request)
{
    if (!request->is_paused || request->state != SL_HTTP_RUNS) {
        return;
    }
    if (request->http->depth > 0) {
        request->must_resume = true;
        sl_http_wake(request->http);
        return;
    }
    go_on(request);
}

struct sl_http_request *sl_http_request_free(struct sl_http_request *request)
{
    if (request == NULL) {
        return NULL;
    }
    SL_ON_LOOP(request->http->loop);
    if (request->http->depth > 0) {
        if (!request->is_freed) {
            request->http->n_requests--;
        }
        request->is_freed = true;
        sl_timer_stop(&request->timer);
        sl_timer_stop(&request->total);
        sl_http_wake(request->http);
        return NULL;
    }
    sl_http_request_destroy(request);
    return NULL;
}

struct sl_http_request *sl_http_request_linger(struct sl_http_request *request, uint64_t ms)
{
    if (request->state != SL_HTTP_RUNS || request->is_freed || request->http->is_broken) {
        return sl_http_request_free(request);
    }
    request->is_lingering = true;
    request->http->n_requests--;
    request->n_body_bytes = 0;
    sl_timer_stop(&request->total);
    sl_timer_start_ms(&request->timer, ms);
    sl_http_resume(request);
    return NULL;
}

const char *sl_http_header(const struct sl_http_request *request, const char *name)
{
    const char *at = (const char *)request->answer.data;
    const char *end = at == NULL ? NULL : at + request->answer.size;
    while (at != NULL && at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0) {
            return value;
        }
        at = value + strlen(value) + 1;
    }
    return NULL;
}

bool sl_http_is_paused(const struct sl_http_request *request)
{
    return request->is_paused;
}
