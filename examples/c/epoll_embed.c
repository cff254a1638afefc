/* gRPC inside an event loop that was there before. A line on standard input (a terminal or a pipe),
 * or its end, stops the server.
 *
 *   epoll_embed ADDRESS */
#include <sluice/rpc.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "greeter_handlers.h"

int main(int argc, char **argv)
{
    struct sl_error err = { 0 };
    struct sl_server *server = NULL;
    const char *address = NULL;
    if (argc != 2 || sl_server_new(NULL, &server) != SL_OK || greeter_register(server) != SL_OK ||
        sl_server_listen(server, argv[1], NULL, &address, &err) != SL_OK) {
        (void)fprintf(stderr, "usage: epoll_embed ADDRESS %s\n", err.text);
        return 1;
    }
    const int fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = server };
    struct epoll_event of_input = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = stdin };
    if (epoll_ctl(fd, EPOLL_CTL_ADD, sl_server_fd(server), &event) != 0 ||
        epoll_ctl(fd, EPOLL_CTL_ADD, fileno(stdin), &of_input) != 0) {
        perror("epoll");
        return 1;
    }
    (void)dprintf(fileno(stdout), "listening on %s\n", address);

    bool is_drained = false;
    while (sl_server_step(server, &is_drained, &err) == SL_OK && !is_drained) { /* never waits */
        if (epoll_wait(fd, &event, 1, sl_server_timeout(server)) == 1 && event.data.ptr == stdin) {
            sl_server_stop(server, 5000, NULL, NULL); /* calls go on for so long */
        }
    }
    (void)fprintf(stderr, "%s", err.text); /* empty when all went well */
    (void)sl_server_free(server);
    return is_drained ? 0 : 1;
}
