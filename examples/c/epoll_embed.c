/* gRPC inside an event loop that was there before: two descriptors, one epoll_wait().
 *
 *   epoll_embed ADDRESS */
#include <pthread.h>
#include <signal.h>
#include <sluice/rpc.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "greeter.sl.h"

static enum sl_status greet(
    struct sl_call *call,
    const Greeter__V1__GreetRequest *request,
    Greeter__V1__GreetReply *reply,
    void *user_data)
{
    (void)user_data;
    reply->text = sl_arena_dup(sl_call_arena(call), sl_slice_str(request->name));
    return reply->text == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static enum sl_status countdown(
    struct sl_call *call,
    const Greeter__V1__CountdownRequest *request,
    struct sl_greeter__v1__greeter__countdown__sender *out,
    void *user_data)
{
    (void)call;
    (void)user_data;
    for (int32_t left = request->from; left > 0; left--) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d...", (int)left);
        Greeter__V1__GreetReply reply = GREETER__V1__GREET_REPLY__INIT;
        reply.text = text;
        const enum sl_status status = sl_greeter__v1__greeter__countdown__send(out, &reply);
        if (status != SL_OK) { /* a longer stream waits for on_writable: greeter_async_server.c */
            return status == SL_AGAIN ? SL_OUT_OF_RANGE : status;
        }
    }
    return SL_OK;
}

int main(int argc, char **argv)
{
    static const struct sl_greeter__v1__greeter__handlers handlers = {
        .struct_size = sizeof(handlers), .greet = greet, .countdown = countdown
    };
    struct sl_error err = { 0 };
    struct sl_server *server = NULL;
    const char *address = NULL;
    if (argc != 2 || sl_server_new(NULL, &server) != SL_OK ||
        sl_greeter__v1__greeter__register(server, &handlers, NULL) != SL_OK ||
        sl_server_listen(server, argv[1], NULL, &address, &err) != SL_OK) {
        (void)fprintf(stderr, "usage: epoll_embed ADDRESS %s\n", err.text);
        return 1;
    }
    (void)printf("listening on %s\n", address);
    (void)fflush(stdout);

    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC); /* what this loop had to do before */
    const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event of_signal = { .events = EPOLLIN, .data.fd = signal_fd };
    struct epoll_event of_server = { .events = EPOLLIN, .data.fd = sl_server_fd(server) };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signal_fd, &of_signal) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, of_server.data.fd, &of_server) != 0) {
        perror("epoll");
        return 1;
    }

    bool is_drained = false;
    while (!is_drained) {
        struct epoll_event event = { 0 };
        if (epoll_wait(epoll_fd, &event, 1, sl_server_timeout(server)) == 1 &&
            event.data.fd == signal_fd) {
            (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, signal_fd, NULL);
            sl_server_stop(server, 1000, NULL, NULL);
        }
        if (sl_server_step(server, &is_drained, &err) != SL_OK) { /* does not wait */
            return 1;
        }
    }
    (void)sl_server_free(server);
    return 0;
}
