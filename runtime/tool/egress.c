#include "runtime/tool/egress.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"

/* ---- Addresses ----------------------------------------------------------------------------------
 */

struct range {
    uint8_t prefix[16];
    uint8_t bits;
};

/* IANA's special-purpose registries, multicast and everything reserved. */
static const struct range ranges4[] = {
    { { 0 }, 8 },
    { { 10 }, 8 },
    { { 100, 64 }, 10 },
    { { 127 }, 8 },
    { { 169, 254 }, 16 },
    { { 172, 16 }, 12 },
    { { 192, 0, 0 }, 24 },
    { { 192, 0, 2 }, 24 },
    { { 192, 88, 99 }, 24 },
    { { 192, 168 }, 16 },
    { { 198, 18 }, 15 },
    { { 198, 51, 100 }, 24 },
    { { 203, 0, 113 }, 24 },
    { { 224 }, 4 },
    { { 240 }, 4 },
};

/* Inside 2000::/3, the only part of IPv6 that is in public use. */
static const struct range ranges6[] = {
    { { 0x20, 0x01, 0x00 }, 23 },       /* protocol assignments, Teredo, ORCHID */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
    { { 0x20, 0x02 }, 16 },             /* 6to4 */
    { { 0x3f, 0xff, 0x00 }, 20 },       /* documentation */
};

static bool is_inside(const uint8_t *address, const struct range *range)
{
    const size_t bytes = range->bits / 8;
    const unsigned rest = range->bits % 8U;
    if (memcmp(address, range->prefix, bytes) != 0) {
        return false;
    }
    const uint8_t mask = (uint8_t)(0xFF00U >> rest);
    return rest == 0 || ((address[bytes] ^ range->prefix[bytes]) & mask) == 0;
}

static bool is_public(const uint8_t *address, const struct range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_inside(address, &ranges[i])) {
            return false;
        }
    }
    return true;
}

bool sl_egress_allows_address(const struct sl_egress_rules *rules, const char *address)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, address, bytes) == 1) {
        return rules->allows_private || is_public(bytes, ranges4, SL_COUNT(ranges4));
    }
    if (inet_pton(AF_INET6, address, bytes) == 1) {
        return rules->allows_private ||
               ((bytes[0] & 0xE0U) == 0x20U && is_public(bytes, ranges6, SL_COUNT(ranges6)));
    }
    return false;
}

/* ---- URLs ---------------------------------------------------------------------------------------
 */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static char lower(char c)
{
    if (c >= 'A' && c <= 'Z') {
        c = (char)(c + ('a' - 'A'));
    }
    return c;
}

/* Printable, and nothing that some client reads as a separator of its own. */
static bool is_url_text(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c <= ' ' || c >= 0x7F || strchr("\\\"<>^`{|}", c) != NULL) {
            return false;
        }
    }
    return true;
}

/* Labels of letters, digits, '-' and '_', as DNS has them; lower case. */
static bool copy_name(struct sl_slice text, char *host)
{
    size_t label = 0;
    if (text.size == 0 || text.size > 253) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        const char c = (char)text.data[i];
        if (c == '.') {
            if (label == 0 || host[i - 1] == '-') {
                return false;
            }
            label = 0;
        } else if ((is_alnum(c) || c == '_' || (c == '-' && label > 0)) && label < 63) {
            label++;
        } else {
            return false;
        }
        host[i] = lower(c);
    }
    host[text.size] = '\0';
    return label > 0 && host[text.size - 1] != '-';
}

/* Does the last label begin with a digit? Then it is no name (no top-level domain does), and what
 * getaddrinfo makes of it counts. */
static bool looks_numeric(const char *host)
{
    const char *dot = strrchr(host, '.');
    const char *last = dot == NULL ? host : dot + 1;
    return *last >= '0' && *last <= '9';
}

/* Replaces any spelling of an address by the usual one, without asking a name server. */
static bool make_numeric(char *host)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) != 0) {
        return false;
    }
    const bool is_good = getnameinfo(
                             found->ai_addr, found->ai_addrlen, host, SL_EGRESS_HOST_BYTES, NULL, 0,
                             NI_NUMERICHOST) == 0;
    freeaddrinfo(found);
    return is_good && strchr(host, '%') == NULL;
}

static bool read_host(struct sl_slice text, struct sl_egress_url *url)
{
    if (text.size > 2 && text.data[0] == '[') {
        struct in6_addr address;
        const size_t size = text.size - 2;
        if (text.data[text.size - 1] != ']' || size >= INET6_ADDRSTRLEN) {
            return false;
        }
        memcpy(url->host, text.data + 1, size);
        url->host[size] = '\0';
        url->is_numeric = true;
        return inet_pton(AF_INET6, url->host, &address) == 1 && make_numeric(url->host);
    }
    if (!copy_name(text, url->host)) {
        return false;
    }
    url->is_numeric = looks_numeric(url->host);
    return !url->is_numeric || make_numeric(url->host);
}

/* "host", "host:80", "[::1]:80" */
static bool read_authority(struct sl_slice text, struct sl_egress_url *url)
{
    size_t host_size = text.size;
    const uint8_t *bracket = text.size == 0 ? NULL : memchr(text.data, ']', text.size);
    const size_t from = bracket == NULL ? 0 : (size_t)(bracket - text.data);
    const uint8_t *colon = text.size == 0 ? NULL : memchr(text.data + from, ':', text.size - from);
    url->port = url->is_https ? 443 : 80;
    if (colon != NULL) {
        host_size = (size_t)(colon - text.data);
        uint64_t port = 0;
        const struct sl_slice digits = sl_slice_of(colon + 1, text.size - host_size - 1);
        if (digits.size > 5 || sl_parse_u64(digits, 1, 65535, &port) != SL_OK) {
            return false;
        }
        url->port = (uint16_t)port;
    }
    return read_host(sl_slice_of(text.data, host_size), url);
}

/* Writes the whole URL from its parts. `rest` is "/path?query", "?query" or "". */
static enum sl_status rebuild(struct sl_egress_url *url, struct sl_slice rest, struct sl_error *err)
{
    const bool is_usual = url->port == (url->is_https ? 443 : 80);
    const bool is_v6 = strchr(url->host, ':') != NULL;
    char port[8] = "";
    if (!is_usual) {
        (void)snprintf(port, sizeof port, ":%u", (unsigned)url->port);
    }
    const int n = snprintf(
        url->url, sizeof url->url, "%s://%s%s%s%s", url->is_https ? "https" : "http",
        is_v6 ? "[" : "", url->host, is_v6 ? "]" : "", port);
    if (n < 0 || (size_t)n + rest.size + 2 > sizeof url->url) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the URL is too long");
    }
    size_t size = (size_t)n;
    url->path_offset = size;
    if (rest.size == 0 || rest.data[0] != '/') {
        url->url[size++] = '/';
    }
    if (rest.size > 0) {
        memcpy(url->url + size, rest.data, rest.size);
    }
    url->url[size + rest.size] = '\0';
    return SL_OK;
}

static struct sl_slice without_fragment(struct sl_slice text)
{
    const uint8_t *hash = text.size == 0 ? NULL : memchr(text.data, '#', text.size);
    return hash == NULL ? text : sl_slice_of(text.data, (size_t)(hash - text.data));
}

static bool skip_scheme(struct sl_slice *text, const char *scheme)
{
    const size_t size = strlen(scheme);
    if (text->size < size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (lower((char)text->data[i]) != scheme[i]) {
            return false;
        }
    }
    *text = sl_slice_of(text->data + size, text->size - size);
    return true;
}

enum sl_status
sl_egress_parse(struct sl_slice text, struct sl_egress_url *ret_url, struct sl_error *err)
{
    struct sl_egress_url url = { .is_https = true };
    if (text.size >= SL_EGRESS_URL_BYTES / 2 || !is_url_text(text)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "the URL is too long, or has characters that must be written as %%XX");
    }
    struct sl_slice rest = without_fragment(text);
    if (!skip_scheme(&rest, "https://")) {
        url.is_https = false;
        if (!skip_scheme(&rest, "http://")) {
            return sl_fail(err, SL_INVALID_ARGUMENT, "the URL must begin with https:// or http://");
        }
    }
    size_t size = 0;
    while (size < rest.size && rest.data[size] != '/' && rest.data[size] != '?') {
        size++;
    }
    if (size > 0 && memchr(rest.data, '@', size) != NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the URL must not have a user name");
    }
    if (!read_authority(sl_slice_of(rest.data, size), &url)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the URL's host or port cannot be used");
    }
    SL_TRY(rebuild(&url, sl_slice_of(rest.data + size, rest.size - size), err));
    *ret_url = url;
    return SL_OK;
}

static bool has_scheme(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        const char c = (char)text.data[i];
        if (c == ':') {
            return i > 0;
        }
        if (!is_alnum(c) && c != '+' && c != '-' && c != '.') {
            return false;
        }
    }
    return false;
}

/* The part of the base's path that a relative reference is put behind. */
static size_t kept_of_base(struct sl_slice path, struct sl_slice location)
{
    const uint8_t *query = memchr(path.data, '?', path.size);
    size_t size = query == NULL ? path.size : (size_t)(query - path.data);
    if (location.size == 0 || location.data[0] == '?') {
        return location.size == 0 ? path.size : size;
    }
    while (size > 0 && path.data[size - 1] != '/') {
        size--;
    }
    return size;
}

enum sl_status sl_egress_resolve(
    const struct sl_egress_url *base,
    struct sl_slice location,
    struct sl_egress_url *ret_url,
    struct sl_error *err)
{
    if (has_scheme(location)) {
        return sl_egress_parse(location, ret_url, err);
    }
    if (location.size >= SL_EGRESS_URL_BYTES / 2 || !is_url_text(location)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the redirect's URL cannot be used");
    }
    location = without_fragment(location);
    char text[SL_EGRESS_URL_BYTES];
    size_t size = 0;
    if (location.size >= 2 && location.data[0] == '/' && location.data[1] == '/') {
        size = base->is_https ? 6 : 5; /* "https:" */
    } else if (location.size >= 1 && location.data[0] == '/') {
        size = base->path_offset;
    } else {
        size =
            base->path_offset + kept_of_base(sl_slice_str(base->url + base->path_offset), location);
    }
    if (size + location.size >= sizeof text) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the redirect's URL is too long");
    }
    memcpy(text, base->url, size);
    if (location.size > 0) {
        memcpy(text + size, location.data, location.size);
    }
    return sl_egress_parse(sl_slice_of(text, size + location.size), ret_url, err);
}

/* ---- Rules --------------------------------------------------------------------------------------
 */

/* A pattern in parts. `host` points into it and is not terminated when there is a port. */
struct pattern {
    bool is_below; /* "*." */
    struct sl_slice host;
    uint64_t port; /* 0: 80 and 443 */
};

static bool read_pattern(const char *text, struct pattern *ret)
{
    struct pattern pattern = { .is_below = strncmp(text, "*.", 2) == 0 };
    const char *host = text + (pattern.is_below ? 2 : 0);
    const char *end = host + strlen(host);
    const char *colon = strrchr(host, ':');
    if (*host == '[') {
        const char *close = strchr(host, ']');
        if (close == NULL || pattern.is_below) {
            return false;
        }
        colon = close[1] == ':' ? close + 1 : NULL;
        if (colon == NULL && close[1] != '\0') {
            return false;
        }
    }
    if (colon != NULL) {
        const struct sl_slice digits = sl_slice_of(colon + 1, (size_t)(end - colon) - 1);
        if (sl_parse_u64(digits, 1, 65535, &pattern.port) != SL_OK) {
            return false;
        }
        end = colon;
    }
    pattern.host = sl_slice_of(host, (size_t)(end - host));
    *ret = pattern;
    return true;
}

/* The pattern's host in the form that URLs are brought into. */
static bool read_pattern_host(const struct pattern *pattern, struct sl_egress_url *url)
{
    return pattern->host.size > 0 && read_host(pattern->host, url) &&
           !(pattern->is_below && url->is_numeric);
}

bool sl_egress_is_pattern(const char *text)
{
    struct pattern pattern;
    struct sl_egress_url url = { 0 };
    return read_pattern(text, &pattern) && read_pattern_host(&pattern, &url);
}

static bool is_below(const char *host, const char *domain)
{
    const size_t host_size = strlen(host);
    const size_t domain_size = strlen(domain);
    return host_size > domain_size + 1 && host[host_size - domain_size - 1] == '.' &&
           strcmp(host + host_size - domain_size, domain) == 0;
}

static bool fits(const struct sl_egress_url *url, const char *text)
{
    struct pattern pattern;
    struct sl_egress_url wanted = { 0 };
    if (!read_pattern(text, &pattern) || !read_pattern_host(&pattern, &wanted)) {
        return false;
    }
    const bool is_port =
        pattern.port == 0 ? url->port == 80 || url->port == 443 : url->port == pattern.port;
    if (!is_port) {
        return false;
    }
    return pattern.is_below ? !url->is_numeric && is_below(url->host, wanted.host)
                            : strcmp(url->host, wanted.host) == 0;
}

enum sl_status sl_egress_allows(
    const struct sl_egress_rules *rules, const struct sl_egress_url *url, struct sl_error *err)
{
    if (rules->n_hosts == 0) {
        return sl_fail(
            err, SL_PERMISSION_DENIED,
            "no host is allowed: the operator has to list hosts in tools.http_request.allow_hosts");
    }
    if (!url->is_https && !rules->allows_http) {
        return sl_fail(err, SL_PERMISSION_DENIED, "only https is allowed");
    }
    bool is_listed = false;
    for (size_t i = 0; i < rules->n_hosts && !is_listed; i++) {
        is_listed = fits(url, rules->hosts[i]);
    }
    if (!is_listed) {
        return sl_fail(
            err, SL_PERMISSION_DENIED, "the host %.120s, port %u, is not on the list of hosts",
            url->host, (unsigned)url->port);
    }
    if (url->is_numeric && !sl_egress_allows_address(rules, url->host)) {
        return sl_fail(
            err, SL_PERMISSION_DENIED, "the address %.60s is not a public one", url->host);
    }
    return SL_OK;
}
