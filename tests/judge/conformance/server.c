/* The server that connectconformance judges: ServerCompatRequest on stdin, ServerCompatResponse on
 * stdout, then calls until SIGTERM. The judge closes stdin at once: that means nothing. */
#include <connectrpc/conformance/v1/server_compat.pb-c.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/net/net.h"
#include "tests/judge/conformance/common.h"
#include "tests/judge/conformance/service.h"

enum { DRAIN_MS = 500 };

typedef Connectrpc__Conformance__V1__ServerCompatRequest server_request;
typedef Connectrpc__Conformance__V1__ServerCompatResponse server_response;

static int complain(const char *what, const struct sl_error *err)
{
    (void)fprintf(stderr, "sl_conformance_server: %s: %s\n", what, err->text);
    return 1;
}

static enum sl_status make_tls(
    const server_request *request,
    struct sl_arena *arena,
    struct sl_net_tls **ret_tls,
    struct sl_error *err)
{
    *ret_tls = NULL;
    if (!request->use_tls) {
        return SL_OK;
    }
    if (request->server_creds == NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "TLS without a certificate");
    }
    const struct sl_net_tls_options options = {
        .cert_pem = judge_text_of(request->server_creds->cert, arena),
        .key_pem = judge_text_of(request->server_creds->key, arena),
        .ca_pem = request->client_tls_cert.len == 0
                      ? NULL
                      : judge_text_of(request->client_tls_cert, arena),
        .client_auth =
            request->client_tls_cert.len == 0 ? SL_NET_CLIENT_AUTH_OFF : SL_NET_CLIENT_AUTH_REQUIRE,
    };
    return sl_net_tls_new_server(&options, ret_tls, err);
}

static enum sl_status listen_as_asked(
    struct sl_server *server,
    const server_request *request,
    struct sl_arena *arena,
    const char **ret_address,
    struct sl_error *err)
{
    struct sl_net_tls *tls = NULL;
    SL_TRY(make_tls(request, arena, &tls, err));
    const enum sl_status status = sl_server_listen(server, "127.0.0.1:0", tls, ret_address, err);
    (void)sl_net_tls_unref(tls);
    return status;
}

static enum sl_status tell(const server_request *request, const char *address)
{
    server_response response;
    connectrpc__conformance__v1__server_compat_response__init(&response);
    char host[64];
    uint16_t port = 0;
    bool is_unix;
    SL_TRY(sl_parse_address(sl_slice_str(address), host, sizeof(host), &port, &is_unix));
    response.host = host;
    response.port = port;
    if (request->use_tls) {
        response.pem_cert = request->server_creds->cert;
    }
    return judge_write(STDOUT_FILENO, &response.base);
}

/* Level 2 of the library: our loop, its descriptor. */
static enum sl_status serve(struct sl_server *server, int signal_fd, struct sl_error *err)
{
    struct pollfd polled[] = { { .fd = sl_server_fd(server), .events = POLLIN },
                               { .fd = signal_fd, .events = POLLIN } };
    for (bool is_drained = false; !is_drained;) {
        if (poll(polled, SL_COUNT(polled), sl_server_timeout(server)) < 0 && errno != EINTR) {
            return sl_fail(err, SL_INTERNAL, "poll fails with error %d", errno);
        }
        if ((polled[1].revents & POLLIN) != 0) {
            struct signalfd_siginfo info;
            (void)!read(signal_fd, &info, sizeof(info));
            sl_server_stop(server, DRAIN_MS, NULL, NULL);
        }
        SL_TRY(sl_server_step(server, &is_drained, err));
    }
    return SL_OK;
}

static int run(const server_request *request, int signal_fd)
{
    struct sl_error err = { 0 };
    struct sl_limits limits;
    sl_limits_init(&limits);
    if (request->message_receive_limit > 0) {
        limits.message_recv = request->message_receive_limit;
    }
    const struct sl_server_options options = { .struct_size = sizeof(options), .limits = &limits };
    struct sl_server *server;
    if (sl_server_new(&options, &server) != SL_OK) {
        return complain("no server", &err);
    }
    struct sl_arena arena;
    sl_arena_init(&arena, 0);
    const char *address = NULL;
    int result = 0;
    if (judge_service_register(server) != SL_OK ||
        listen_as_asked(server, request, &arena, &address, &err) != SL_OK) {
        result = complain("cannot listen", &err);
    } else if (tell(request, address) != SL_OK) {
        result = complain("cannot write to stdout", &err);
    } else if (serve(server, signal_fd, &err) != SL_OK) {
        result = complain("cannot serve", &err);
    }
    sl_arena_done(&arena);
    (void)sl_server_free(server);
    return result;
}

int main(void)
{
    sigset_t stops;
    (void)sigemptyset(&stops);
    (void)sigaddset(&stops, SIGTERM);
    (void)sigaddset(&stops, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &stops, NULL);
    const int signal_fd = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
    const struct sl_error err = { .text = "no ServerCompatRequest on stdin" };
    struct sl_buf bytes;
    sl_buf_init(&bytes, JUDGE_MESSAGE_MAX + 1);
    server_request *request = NULL;
    if (judge_read(STDIN_FILENO, &bytes) == SL_OK) {
        request = connectrpc__conformance__v1__server_compat_request__unpack(
            NULL, bytes.size, bytes.data);
    }
    sl_buf_done(&bytes);
    if (request == NULL || signal_fd < 0) {
        return complain("cannot start", &err);
    }
    const int result = run(request, signal_fd);
    connectrpc__conformance__v1__server_compat_request__free_unpacked(request, NULL);
    (void)close(signal_fd);
    return result;
}
