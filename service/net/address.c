#include "service/net/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/parse.h"

enum sl_status
sl_net_target_parse(const char *text, struct sl_net_target *ret_target, struct sl_error *err)
{
    struct sl_net_target target = { .port = 0 };
    const enum sl_status status = sl_parse_address(
        sl_slice_str(text), target.host, sizeof(target.host), &target.port, &target.is_unix);
    if (status != SL_OK) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "'%s' is not an address: it must be host:port, [ipv6]:port or unix:/path",
            text == NULL ? "" : text);
    }
    *ret_target = target;
    return SL_OK;
}

static enum sl_status unix_address(const char *path, struct sl_net_address *address)
{
    struct sockaddr_un *to = &address->as.unix_path;
    const size_t size = strlen(path);
    if (size == 0 || size >= sizeof(to->sun_path)) {
        return SL_INVALID_ARGUMENT;
    }
    to->sun_family = AF_UNIX;
    memcpy(to->sun_path, path, size + 1);
    address->size = sizeof(*to);
    return SL_OK;
}

enum sl_status
sl_net_address_of(const struct sl_net_target *target, struct sl_net_address *ret_address)
{
    struct sl_net_address address;
    memset(&address, 0, sizeof(address));
    if (target->is_unix) {
        SL_TRY(unix_address(target->host, &address));
        *ret_address = address;
        return SL_OK;
    }
    const char *host = strcmp(target->host, "localhost") == 0 ? "127.0.0.1" : target->host;
    if (inet_pton(AF_INET, host, &address.as.v4.sin_addr) == 1) {
        address.as.v4.sin_family = AF_INET;
        address.as.v4.sin_port = htons(target->port);
        address.size = sizeof(address.as.v4);
    } else if (inet_pton(AF_INET6, host, &address.as.v6.sin6_addr) == 1) {
        address.as.v6.sin6_family = AF_INET6;
        address.as.v6.sin6_port = htons(target->port);
        address.size = sizeof(address.as.v6);
    } else {
        return SL_NOT_FOUND;
    }
    *ret_address = address;
    return SL_OK;
}

void sl_net_address_format(const struct sl_net_address *address, char *room, size_t room_bytes)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->as.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->as.v4.sin_addr, host, sizeof(host));
        (void)snprintf(room, room_bytes, "%s:%u", host, ntohs(address->as.v4.sin_port));
    } else if (address->as.any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->as.v6.sin6_addr, host, sizeof(host));
        (void)snprintf(room, room_bytes, "[%s]:%u", host, ntohs(address->as.v6.sin6_port));
    } else if (
        address->size > offsetof(struct sockaddr_un, sun_path) &&
        address->as.unix_path.sun_path[0] != '\0') {
        (void)snprintf(room, room_bytes, "unix:%s", address->as.unix_path.sun_path);
    } else {
        (void)snprintf(room, room_bytes, "unix"); /* a client has no path */
    }
}

void sl_net_address_key(const struct sl_net_address *address, uint8_t key[SL_NET_KEY_BYTES])
{
    memset(key, 0, SL_NET_KEY_BYTES);
    if (address->as.any.sa_family == AF_INET) {
        key[10] = key[11] = 0xFF;
        memcpy(key + 12, &address->as.v4.sin_addr, 4);
    } else if (address->as.any.sa_family == AF_INET6) {
        const uint8_t *bytes = address->as.v6.sin6_addr.s6_addr;
        const bool is_v4 = IN6_IS_ADDR_V4MAPPED(&address->as.v6.sin6_addr) != 0;
        memcpy(key, bytes, is_v4 ? SL_NET_KEY_BYTES : SL_NET_KEY_BYTES / 2);
    }
}
