/* Socket addresses as text. */
#ifndef SL_SERVICE_NET_ADDRESS_H
#define SL_SERVICE_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/base/status.h"

struct sl_net_address {
    socklen_t size;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un unix_path;
        struct sockaddr_storage room;
    } as;
};

enum { SL_NET_HOST_BYTES = 256, SL_NET_KEY_BYTES = 16 };

/* The parts of "host:port", "[v6]:port" or "unix:/path". */
struct sl_net_target {
    char host[SL_NET_HOST_BYTES]; /* the path for unix */
    uint16_t port;
    bool is_unix;
};

/* Fails: SL_INVALID_ARGUMENT, naming the text. */
SL_CHECK enum sl_status
sl_net_target_parse(const char *text, struct sl_net_target *ret_target, struct sl_error *err);
/* A numeric host, "localhost" (127.0.0.1) or a unix path. Fails: SL_NOT_FOUND it is a name;
 * SL_INVALID_ARGUMENT a path that is too long. */
SL_CHECK enum sl_status
sl_net_address_of(const struct sl_net_target *target, struct sl_net_address *ret_address);
/* "127.0.0.1:80", "[::1]:80", "unix:/path", "unix". Terminated, cut when longer. */
void sl_net_address_format(const struct sl_net_address *address, char *room, size_t room_bytes);
/* The host alone, for counting connections of one address: IPv4 as mapped IPv6; of IPv6 the network
 * of 64 bits, for one caller has all of it; unix all zero. */
void sl_net_address_key(const struct sl_net_address *address, uint8_t key[SL_NET_KEY_BYTES]);

#endif
