/* Which URLs and addresses a tool may reach (reliability 8.4).
 *
 *   URL ─▶ sl_egress_parse: strict form ─▶ sl_egress_allows: scheme, host list, port
 *                                          └▶ at connect: sl_egress_allows_address, for each
 * address
 *
 * The parser takes far less than a browser does, so that whoever parses the URL after it cannot see
 * another host in it: printable ASCII only, no user name, no backslash, no escapes in the host. A
 * host that is a number in any spelling (127.1, 0x7f.1, 2130706433) is turned into its address by
 * getaddrinfo and checked at once. Everything else is checked when the connection is made, with the
 * address that is really used. */
#ifndef SL_RUNTIME_TOOL_EGRESS_H
#define SL_RUNTIME_TOOL_EGRESS_H

#include "runtime/base/arena.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_EGRESS_HOST_BYTES = 256, SL_EGRESS_URL_BYTES = 8192 };

struct sl_egress_rules {
    /* "api.example.com", "*.example.com" (below it, not itself), each with ":port" where it is not
     * 80 or 443; "[2001:db8::1]". Empty: nothing is allowed. */
    const char **hosts;
    size_t n_hosts;
    bool allows_private; /* special-use addresses too */
    bool allows_http;
};

/* A URL in parts. `url` is the whole, rebuilt from them: what to hand to the client. */
struct sl_egress_url {
    bool is_https;
    bool is_numeric; /* the host is an address */
    uint16_t port;
    char host[SL_EGRESS_HOST_BYTES]; /* lower case; IPv6 without brackets */
    char url[SL_EGRESS_URL_BYTES];   /* scheme://host[:port]/path?query */
    size_t path_offset;              /* of "/path?query" in url */
};

/* Fails: SL_INVALID_ARGUMENT, `err` says why in words for the model. Thread: any. */
SL_CHECK enum sl_status
sl_egress_parse(struct sl_slice text, struct sl_egress_url *ret_url, struct sl_error *err);

/* `location` of a redirect, which may be relative to `base`. `ret_url` must not be `base`. */
SL_CHECK enum sl_status sl_egress_resolve(
    const struct sl_egress_url *base,
    struct sl_slice location,
    struct sl_egress_url *ret_url,
    struct sl_error *err);

/* Scheme, host and port against the rules, and the address when the host is one. Fails:
 * SL_PERMISSION_DENIED. */
SL_CHECK enum sl_status sl_egress_allows(
    const struct sl_egress_rules *rules, const struct sl_egress_url *url, struct sl_error *err);

/* A numeric address against the special-use ranges. What cannot be read is refused. */
bool sl_egress_allows_address(const struct sl_egress_rules *rules, const char *address);

/* Is this a usable entry of `hosts`? */
bool sl_egress_is_pattern(const char *pattern);

#endif
