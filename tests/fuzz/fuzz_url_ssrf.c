/* Property: when the guard lets a URL through, curl sees the same scheme, host and port in it; when
 * its host is an address in any spelling, that address is public by a second, independent look at
 * it; and what was rebuilt is read again as the same. Redirects: the input is also taken as a
 * Location. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "runtime/tool/egress.h"
#include "tests/fuzz/fuzz.h"

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

/* Written with numbers, not with tables: the second look. */
static bool is_private4(uint32_t a)
{
    return a >> 24 == 0 || a >> 24 == 10 || a >> 24 == 127 || a >> 28 >= 14 ||
           (a >= 0x64400000U && a <= 0x647FFFFFU) || a >> 16 == 0xA9FE || a >> 20 == 0xAC1 ||
           a >> 16 == 0xC0A8 || a >> 8 == 0xC00000 || a >> 17 == 0x6309;
}

static bool is_private(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        return is_private4(ntohl(in->sin_addr.s_addr));
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    const struct in6_addr *a = &in6->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || IN6_IS_ADDR_UNSPECIFIED(a) || IN6_IS_ADDR_LINKLOCAL(a) ||
           IN6_IS_ADDR_SITELOCAL(a) || IN6_IS_ADDR_MULTICAST(a) || IN6_IS_ADDR_V4MAPPED(a) ||
           IN6_IS_ADDR_V4COMPAT(a) || (a->s6_addr[0] & 0xFEU) == 0xFC ||
           (a->s6_addr[0] == 0x20 && a->s6_addr[1] == 0x02) ||
           (a->s6_addr[0] == 0 && a->s6_addr[1] == 0x64);
}

static void check_address(const char *host)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) == 0) {
        must(!is_private(found->ai_addr));
        freeaddrinfo(found);
    }
}

static void check_curl(const struct sl_egress_url *url)
{
    CURLU *handle = curl_url();
    char *scheme = NULL;
    char *host = NULL;
    char *port = NULL;
    char *user = NULL;
    must(handle != NULL);
    must(curl_url_set(handle, CURLUPART_URL, url->url, 0) == CURLUE_OK);
    must(curl_url_get(handle, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK);
    must(curl_url_get(handle, CURLUPART_HOST, &host, 0) == CURLUE_OK);
    must(curl_url_get(handle, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK);
    must(curl_url_get(handle, CURLUPART_USER, &user, 0) == CURLUE_NO_USER);
    char expected[SL_EGRESS_HOST_BYTES + 8];
    const bool is_v6 = strchr(url->host, ':') != NULL;
    (void)snprintf(
        expected, sizeof expected, "%s%s%s", is_v6 ? "[" : "", url->host, is_v6 ? "]" : "");
    must(strcmp(scheme, url->is_https ? "https" : "http") == 0);
    must(strcmp(host, expected) == 0);
    (void)snprintf(expected, sizeof expected, "%u", (unsigned)url->port);
    must(strcmp(port, expected) == 0);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(handle);
}

static void check(const struct sl_egress_url *url)
{
    struct sl_egress_url again;
    check_curl(url);
    must(
        sl_egress_parse(sl_slice_str(url->url), &again, NULL) == SL_OK ||
        strlen(url->url) >= SL_EGRESS_URL_BYTES / 2);
    must(strlen(url->url) >= SL_EGRESS_URL_BYTES / 2 || strcmp(again.url, url->url) == 0);
    char pattern[SL_EGRESS_HOST_BYTES + 16];
    const bool is_v6 = strchr(url->host, ':') != NULL;
    (void)snprintf(
        pattern, sizeof pattern, "%s%s%s:%u", is_v6 ? "[" : "", url->host, is_v6 ? "]" : "",
        (unsigned)url->port);
    const char *hosts[] = { pattern };
    const struct sl_egress_rules rules = { .hosts = hosts, .n_hosts = 1, .allows_http = true };
    must(sl_egress_is_pattern(pattern));
    if (sl_egress_allows(&rules, url, NULL) == SL_OK) {
        check_address(url->host);
    } else {
        must(url->is_numeric);
    }
    const struct sl_egress_rules none = { 0 };
    must(sl_egress_allows(&none, url, NULL) != SL_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char base_text[] = "https://base.example.com/a/b?c";
    struct sl_egress_url url;
    struct sl_egress_url base;
    if (sl_egress_parse(sl_slice_of(data, size), &url, NULL) == SL_OK) {
        check(&url);
    }
    must(sl_egress_parse(sl_slice_str(base_text), &base, NULL) == SL_OK);
    if (sl_egress_resolve(&base, sl_slice_of(data, size), &url, NULL) == SL_OK) {
        check(&url);
    }
    char address[64];
    if (size < sizeof address) {
        const struct sl_egress_rules strict = { 0 };
        (void)snprintf(address, sizeof address, "%.*s", (int)size, (const char *)data);
        if (sl_egress_allows_address(&strict, address)) {
            check_address(address);
        }
    }
    return 0;
}
