#include "tests/fake/raw_peer.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PREFACE_BYTES = 24, HEAD_BYTES = 9, POLL_MS = 20, BUFFER_BYTES = 65536 };
enum { FRAME_HEADERS = 1, FRAME_RST_STREAM = 3, FRAME_PING = 6 };

const struct sl_slice raw_settings = { (const uint8_t *)"\0\0\0\4\0\0\0\0\0", HEAD_BYTES };

struct talk {
    struct raw_peer *peer;
    const struct raw_script *script;
    int fd;
    bool is_answered;
    uint8_t bytes[BUFFER_BYTES];
    size_t size;
    size_t at; /* of the next frame */
};

static void say(const struct talk *talk, struct sl_slice bytes)
{
    while (bytes.size > 0) {
        const ssize_t n = send(talk->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (n <= 0) {
            return;
        }
        bytes.data += n;
        bytes.size -= (size_t)n;
    }
}

/* Looks at every frame that is complete. */
static void read_frames(struct talk *talk)
{
    while (talk->size >= talk->at + HEAD_BYTES) {
        const uint8_t *head = talk->bytes + talk->at;
        const size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (talk->size < talk->at + HEAD_BYTES + length) {
            return;
        }
        talk->at += HEAD_BYTES + length;
        if (head[3] == FRAME_RST_STREAM) {
            atomic_fetch_add(&talk->peer->n_resets, 1);
        } else if (head[3] == FRAME_PING) {
            atomic_fetch_add(&talk->peer->n_pings, 1);
        } else if (head[3] == FRAME_HEADERS && !talk->is_answered) {
            talk->is_answered = true;
            say(talk, talk->script->answer);
        }
    }
}

static void serve(struct raw_peer *peer, int fd, const struct raw_script *script)
{
    struct talk *talk = calloc(1, sizeof(*talk));
    if (talk == NULL) {
        return;
    }
    talk->peer = peer;
    talk->script = script;
    talk->fd = fd;
    talk->at = PREFACE_BYTES;
    say(talk, script->greeting);
    while (!atomic_load(&peer->must_stop) && talk->size < BUFFER_BYTES &&
           (script->is_held || !talk->is_answered)) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        if (poll(&poll_fd, 1, POLL_MS) > 0) {
            const ssize_t n = recv(fd, talk->bytes + talk->size, BUFFER_BYTES - talk->size, 0);
            if (n <= 0) {
                break;
            }
            talk->size += (size_t)n;
            read_frames(talk);
        }
    }
    free(talk);
}

static void *run(void *argument)
{
    struct raw_peer *peer = argument;
    while (!atomic_load(&peer->must_stop)) {
        struct pollfd poll_fd = { .fd = peer->listen_fd, .events = POLLIN };
        if (poll(&poll_fd, 1, POLL_MS) <= 0) {
            continue;
        }
        const int fd = accept(peer->listen_fd, NULL, NULL);
        if (fd >= 0) {
            const size_t index = (size_t)atomic_fetch_add(&peer->n_connections, 1);
            serve(peer, fd, &peer->scripts[index < peer->n_scripts ? index : peer->n_scripts - 1]);
            (void)shutdown(fd, SHUT_WR);
            (void)close(fd);
        }
    }
    return NULL;
}

void raw_peer_start(struct raw_peer *peer, const struct raw_script *scripts, size_t n_scripts)
{
    *peer = (struct raw_peer){ .scripts = scripts, .n_scripts = n_scripts };
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    peer->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->listen_fd < 0 ||
        bind(peer->listen_fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(peer->listen_fd, SOMAXCONN) != 0 ||
        getsockname(peer->listen_fd, (struct sockaddr *)&address, &size) != 0) {
        abort();
    }
    (void)snprintf(
        peer->address, sizeof(peer->address), "127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    if (pthread_create(&peer->thread, NULL, run, peer) != 0) {
        abort();
    }
}

void raw_peer_stop(struct raw_peer *peer)
{
    atomic_store(&peer->must_stop, true);
    (void)pthread_join(peer->thread, NULL);
    (void)close(peer->listen_fd);
}
