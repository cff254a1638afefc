#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/model/http_library.h"
#include "runtime/model/http_multi.h"

/* A socket that libcurl wants to be told about. Never found by its number: a closed one's number
 * may come back before its handle is closed. */
struct http_socket {
    uv_poll_t poll;
    struct sl_list node;
    struct sl_http *http;
    curl_socket_t fd;
};

/* ---- Library --------------------------------------------------------------------------------- */

enum sl_status sl_http_library_check(struct sl_error *err)
{
    enum { LEAST_VERSION = 0x075801 }; /* 7.88.1 */
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    const int needed = CURL_VERSION_ASYNCHDNS | CURL_VERSION_SSL | CURL_VERSION_THREADSAFE;
    if (info->version_num < LEAST_VERSION) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION, "libcurl %s is too old: 7.88.1 is needed", info->version);
    }
    if ((info->features & needed) != needed) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION, "libcurl %s lacks AsynchDNS, SSL or threadsafe",
            info->version);
    }
    return SL_OK;
}

/* ---- Brackets and chores ----------------------------------------------------------------------
 */

void sl_http_wake(struct sl_http *http)
{
    sl_loop_defer(http->loop, &http->chores);
}

void sl_http_enter(struct sl_http *http)
{
    http->depth++;
}

static void read_ended(struct sl_http *http)
{
    int n_left = 0;
    CURLMsg *message = NULL;
    while (!http->is_broken && (message = curl_multi_info_read(http->multi, &n_left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            struct sl_http_request *request = NULL;
            const CURLcode code = message->data.result;
            (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request);
            sl_http_request_finish(request, code);
        }
    }
}

void sl_http_leave(struct sl_http *http)
{
    http->depth--;
    if (http->depth == 0 && !http->is_closing) {
        read_ended(http);
    }
}

static void drive(struct sl_http *http, curl_socket_t fd, int mask)
{
    int n_running = 0;
    if (http->is_broken || http->is_closing) {
        return;
    }
    sl_http_enter(http);
    if (curl_multi_socket_action(http->multi, fd, mask, &n_running) != CURLM_OK) {
        http->is_broken = true;
        sl_http_wake(http);
    }
    sl_http_leave(http);
}

/* ---- Callbacks of libcurl ---------------------------------------------------------------------
 */

static void on_timer(void *user_data)
{
    drive(user_data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *user_data)
{
    struct sl_http *http = user_data;
    (void)multi;
    if (timeout_ms < 0) {
        sl_timer_stop(&http->timer);
    } else {
        sl_timer_start_ms(&http->timer, (uint64_t)timeout_ms);
    }
    return 0;
}

static void tell_closed(struct sl_http *http);

static void on_poll_closed(uv_handle_t *handle)
{
    struct http_socket *socket = handle->data;
    struct sl_http *http = socket->http;
    sl_free(socket);
    http->n_handles--;
    tell_closed(http);
}

static void drop_socket(struct http_socket *socket)
{
    sl_list_remove(&socket->node);
    (void)uv_poll_stop(&socket->poll);
    uv_close((uv_handle_t *)&socket->poll, on_poll_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct http_socket *socket = poll->data;
    int mask = 0;
    if (status < 0) {
        mask = CURL_CSELECT_ERR;
    } else {
        mask |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
        mask |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    }
    drive(socket->http, socket->fd, mask);
}

static struct http_socket *watch(struct sl_http *http, curl_socket_t fd)
{
    struct http_socket *socket = sl_calloc(1, sizeof(*socket));
    if (socket == NULL) {
        return NULL;
    }
    if (uv_poll_init_socket(http->uv, &socket->poll, fd) != 0) {
        sl_free(socket);
        return NULL;
    }
    socket->poll.data = socket;
    socket->http = http;
    socket->fd = fd;
    sl_list_add_last(&http->sockets, &socket->node);
    http->n_handles++;
    return socket;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *user_data, void *socket_data)
{
    struct sl_http *http = user_data;
    struct http_socket *socket = socket_data;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (socket != NULL) {
            (void)curl_multi_assign(http->multi, fd, NULL);
            drop_socket(socket);
        }
        return 0;
    }
    if (socket == NULL) {
        socket = watch(http, fd);
        if (socket == NULL) {
            return -1; /* breaks the CURLM: all its transfers fail, and it is made anew */
        }
        (void)curl_multi_assign(http->multi, fd, socket);
    }
    const int events = ((what & CURL_POLL_IN) != 0 ? UV_READABLE : 0) |
                       ((what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0);
    return uv_poll_start(&socket->poll, events, on_poll) == 0 ? 0 : -1;
}

/* ---- Sockets ----------------------------------------------------------------------------------
 */

/* The egress guard sees the address that is really connected to, after all names are resolved. */
static bool is_allowed(struct sl_http_request *request, const struct curl_sockaddr *address)
{
    /* The address may be larger than the struct says. */
    const uint8_t *bytes = (const uint8_t *)address + offsetof(struct curl_sockaddr, addr);
    char text[INET6_ADDRSTRLEN] = "";
    uint16_t port = 0;
    if (request->allow_address == NULL) {
        return true;
    }
    if (address->family == AF_INET && address->addrlen >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, bytes, sizeof(in));
        (void)inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
        port = ntohs(in.sin_port);
    } else if (address->family == AF_INET6 && address->addrlen >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, bytes, sizeof(in));
        (void)inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof(text));
        port = ntohs(in.sin6_port);
    }
    return text[0] != '\0' && request->allow_address(text, port, request->user_data);
}

curl_socket_t sl_http_open_socket(
    struct sl_http_request *request, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    if (!is_allowed(request, address)) {
        request->is_denied = true;
        return CURL_SOCKET_BAD;
    }
    /* A tool process that inherited the socket would keep it open after a cancel. */
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- The CURLM --------------------------------------------------------------------------------
 */

static enum sl_status open_multi(struct sl_http *http)
{
    http->multi = curl_multi_init();
    if (http->multi == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    (void)curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 256L);
    (void)curl_multi_setopt(http->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, 8L);
    return SL_OK;
}

/* Idle connections are closed with it. */
static void close_multi(struct sl_http *http)
{
    sl_http_enter(http);
    (void)curl_multi_cleanup(http->multi);
    http->depth--;
    http->multi = NULL;
    sl_timer_stop(&http->timer);
    SL_LIST_EACH(node, &http->sockets) {
        drop_socket(SL_CONTAINER(node, struct http_socket, node));
    }
}

/* Every transfer of a CURLM that failed has failed. */
static void rebuild(struct sl_http *http)
{
    struct sl_list failed;
    sl_list_init(&failed);
    SL_LIST_EACH(node, &http->requests) {
        struct sl_http_request *request = SL_CONTAINER(node, struct sl_http_request, node);
        if (request->state == SL_HTTP_RUNS) {
            (void)curl_multi_remove_handle(http->multi, request->easy);
            request->state = SL_HTTP_ENDED;
            sl_list_remove(&request->node);
            sl_list_add_last(&failed, &request->node);
        }
    }
    close_multi(http);
    http->is_broken = open_multi(http) != SL_OK;
    while (!sl_list_is_empty(&failed)) {
        struct sl_list *node = sl_list_first(&failed);
        sl_list_remove(node);
        sl_list_add_last(&http->requests, node);
        sl_http_request_finish(SL_CONTAINER(node, struct sl_http_request, node), CURLE_FAILED_INIT);
    }
}

/* Requests that are added here may end other requests in their callbacks, so the walk starts anew
 * after each one that had something to do. */
static void run_chores(struct sl_task *task)
{
    struct sl_http *http = SL_CONTAINER(task, struct sl_http, chores);
    if (http->is_broken) {
        rebuild(http);
    }
    struct sl_list todo;
    sl_list_init(&todo);
    SL_LIST_EACH(node, &http->requests) {
        sl_list_remove(node);
        sl_list_add_last(&todo, node);
    }
    while (!sl_list_is_empty(&todo)) {
        struct sl_list *node = sl_list_first(&todo);
        sl_list_remove(node);
        sl_list_add_last(&http->requests, node);
        sl_http_request_chores(SL_CONTAINER(node, struct sl_http_request, node));
    }
}

/* ---- Life -------------------------------------------------------------------------------------
 */

enum sl_status sl_http_new(
    struct sl_loop *loop,
    const struct sl_limits *limits,
    struct sl_http **ret_http,
    struct sl_error *err)
{
    SL_TRY(sl_http_library_check(err));
    struct sl_http *http = sl_calloc(1, sizeof(*http));
    if (http == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        sl_free(http);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for libcurl");
    }
    http->loop = loop;
    http->uv = sl_loop_uv_handle(loop);
    http->limits = limits;
    http->chores.run = run_chores;
    sl_list_init(&http->requests);
    sl_list_init(&http->sockets);
    sl_timer_init(&http->timer, loop, on_timer, http);
    if (open_multi(http) != SL_OK) {
        curl_global_cleanup();
        sl_free(http);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for libcurl");
    }
    *ret_http = http;
    return SL_OK;
}

static void tell_closed(struct sl_http *http)
{
    if (!http->is_closing || http->n_handles > 0) {
        return;
    }
    void (*on_closed)(void *user_data) = http->on_closed;
    void *user_data = http->closed_data;
    sl_loop_undefer(http->loop, &http->chores);
    curl_global_cleanup();
    sl_free(http);
    on_closed(user_data);
}

static void run_closed(struct sl_task *task)
{
    tell_closed(SL_CONTAINER(task, struct sl_http, chores));
}

void sl_http_close(struct sl_http *http, void (*on_closed)(void *user_data), void *user_data)
{
    SL_ON_LOOP(http->loop);
    http->on_closed = on_closed;
    http->closed_data = user_data;
    SL_LIST_EACH(node, &http->requests) {
        struct sl_http_request *request = SL_CONTAINER(node, struct sl_http_request, node);
        assert(request->is_freed || request->is_lingering);
        sl_http_request_destroy(request);
    }
    close_multi(http);
    http->is_closing = true;
    sl_loop_undefer(http->loop, &http->chores);
    if (http->n_handles == 0) {
        http->chores.run = run_closed;
        sl_loop_post(http->loop, &http->chores);
    }
}

size_t sl_http_n_requests(const struct sl_http *http)
{
    return http->n_requests;
}
