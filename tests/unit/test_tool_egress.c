#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tool/egress.h"

static const struct sl_egress_rules strict = { 0 };

static void special_addresses_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "ff02::1",
        "::7f00:1",
        "",
        "localhost",
        "127.1",
        "0x7f.0.0.1",
        "100::1",
        "3fff::1",
        "5f00::1",
    };
    static const char *const good[] = { "8.8.8.8",      "100.63.255.255", "100.128.0.0",
                                        "172.15.0.1",   "172.32.0.1",     "192.167.0.1",
                                        "198.17.0.1",   "198.20.0.1",     "223.255.255.255",
                                        "11.0.0.1",     "126.0.0.1",      "128.0.0.1",
                                        "2606:4700::1", "2a00:1450::1" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        if (sl_egress_allows_address(&strict, bad[i])) {
            fail_msg("allowed: %s", bad[i]);
        }
    }
    for (size_t i = 0; i < SL_COUNT(good); i++) {
        if (!sl_egress_allows_address(&strict, good[i])) {
            fail_msg("refused: %s", good[i]);
        }
    }
    const struct sl_egress_rules open = { .allows_private = true };
    assert_true(sl_egress_allows_address(&open, "127.0.0.1"));
    assert_true(sl_egress_allows_address(&open, "::1"));
    assert_false(sl_egress_allows_address(&open, "nonsense"));
}

/* Reliability 8.4: the first and the last address of each range, and the ones beside it. */
static void every_special_range_is_refused_whole(void **state)
{
    (void)state;
    static const struct {
        const char *first, *last, *before, *behind; /* NULL: of another range, or none */
    } table[] = {
        { "0.0.0.0", "0.255.255.255", NULL, "1.0.0.0" },
        { "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0" },
        { "100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0" },
        { "127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0" },
        { "169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0" },
        { "172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0" },
        { "192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0" },
        { "192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0" },
        { "192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0" },
        { "192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0" },
        { "198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0" },
        { "198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0" },
        { "203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0" },
        { "224.0.0.0", "239.255.255.255", "223.255.255.255", NULL },
        { "240.0.0.0", "255.255.255.255", NULL, NULL },
        { "::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, "2000::" },
        { "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
          "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::" },
        { "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
          "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::" },
        { "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
          "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::" },
        { "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
          "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::" },
        { "4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
          "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL },
    };
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        const bool is_good =
            !sl_egress_allows_address(&strict, table[i].first) &&
            !sl_egress_allows_address(&strict, table[i].last) &&
            (table[i].before == NULL || sl_egress_allows_address(&strict, table[i].before)) &&
            (table[i].behind == NULL || sl_egress_allows_address(&strict, table[i].behind));
        if (!is_good) {
            fail_msg("%s to %s", table[i].first, table[i].last);
        }
    }
}

static void urls_are_rebuilt_in_one_form(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url;
    } table[] = {
        { "https://Example.COM", "https://example.com/" },
        { "HTTPS://a.b/c?d=e#f", "https://a.b/c?d=e" },
        { "https://a.b:443/x", "https://a.b/x" },
        { "https://a.b:8443/x", "https://a.b:8443/x" },
        { "http://a.b:80?q", "http://a.b/?q" },
        { "http://[::1]:81/", "http://[::1]:81/" },
        { "http://[0:0:0:0:0:0:0:1]", "http://[::1]/" },
        { "http://127.1/", "http://127.0.0.1/" },
        { "http://2130706433/", "http://127.0.0.1/" },
        { "http://0177.0.0.1/", "http://127.0.0.1/" },
        { "http://0x7f000001/", "http://127.0.0.1/" },
        { "http://a_b.c/%2e%2e/@x", "http://a_b.c/%2e%2e/@x" },
    };
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        struct sl_egress_url url;
        if (sl_egress_parse(sl_slice_str(table[i].text), &url, NULL) != SL_OK) {
            fail_msg("refused: %s", table[i].text);
        }
        assert_string_equal(url.url, table[i].url);
    }
}

static void odd_urls_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "example.com",
        "ftp://a.b/",
        "file:///etc/passwd",
        "https:/a.b",
        "https://",
        "https:///x",
        "https://user@a.b/",
        "https://a.b@127.0.0.1/",
        "https://a.b\\@127.0.0.1/",
        "https://a.b:0/",
        "https://a.b:65536/",
        "https://a.b:/",
        "https://a.b:8x/",
        "https://a.b:80:80/",
        "https://a%2eb/",
        "https://a..b/",
        "https://.a/",
        "https://a./",
        "https://-a.b/",
        "https://a-.b/",
        "https://a.b /",
        "https://a.b/ x",
        "https://a.b/\n",
        "https://\xC3\xA4.b/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[fe80::1%25lo]/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://a.1b/",
        "https://[127.0.0.1]/",
    };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        struct sl_egress_url url;
        struct sl_error err = { 0 };
        if (sl_egress_parse(sl_slice_str(bad[i]), &url, &err) == SL_OK) {
            fail_msg("taken: %s as %s", bad[i], url.url);
        }
        assert_true(err.text[0] != '\0');
    }
}

static void a_url_that_is_too_long_is_refused(void **state)
{
    (void)state;
    static char text[SL_EGRESS_URL_BYTES];
    struct sl_egress_url url;
    const int n = snprintf(text, sizeof text, "https://a.b/");
    memset(text + n, 'x', sizeof text - (size_t)n);
    assert_int_equal(
        sl_egress_parse(sl_slice_of(text, sizeof text), &url, NULL), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_egress_parse(sl_slice_of(text, 4000), &url, NULL), SL_OK);
}

static bool is_allowed(const struct sl_egress_rules *rules, const char *text)
{
    struct sl_egress_url url;
    assert_int_equal(sl_egress_parse(sl_slice_str(text), &url, NULL), SL_OK);
    return sl_egress_allows(rules, &url, NULL) == SL_OK;
}

static void only_listed_hosts_are_allowed(void **state)
{
    (void)state;
    const char *hosts[] = { "api.example.com", "*.example.org", "local.test:8080",
                            "8.8.8.8",         "10.0.0.1",      "[2606:4700::1]" };
    const struct sl_egress_rules rules = { .hosts = hosts, .n_hosts = SL_COUNT(hosts) };
    for (size_t i = 0; i < SL_COUNT(hosts); i++) {
        assert_true(sl_egress_is_pattern(hosts[i]));
    }
    assert_true(is_allowed(&rules, "https://api.example.com/x"));
    assert_true(is_allowed(&rules, "https://API.example.com:443/x"));
    assert_false(is_allowed(&rules, "http://api.example.com/"));
    assert_false(is_allowed(&rules, "https://api.example.com:8443/"));
    assert_false(is_allowed(&rules, "https://example.com/"));
    assert_false(is_allowed(&rules, "https://evil-api.example.com/"));
    assert_false(is_allowed(&rules, "https://api.example.com.evil.net/"));
    assert_true(is_allowed(&rules, "https://a.example.org/"));
    assert_true(is_allowed(&rules, "https://a.b.example.org/"));
    assert_false(is_allowed(&rules, "https://example.org/"));
    assert_false(is_allowed(&rules, "https://badexample.org/"));
    assert_true(is_allowed(&rules, "https://local.test:8080/"));
    assert_false(is_allowed(&rules, "https://local.test/"));
    assert_true(is_allowed(&rules, "https://8.8.8.8/"));
    assert_true(is_allowed(&rules, "https://[2606:4700:0::1]/"));
    assert_false(is_allowed(&rules, "https://10.0.0.1/"));
    const struct sl_egress_rules open = {
        .hosts = hosts, .n_hosts = SL_COUNT(hosts), .allows_private = true, .allows_http = true
    };
    assert_true(is_allowed(&open, "http://10.1/"));
}

static void an_empty_list_allows_nothing(void **state)
{
    (void)state;
    struct sl_egress_url url;
    struct sl_error err = { 0 };
    assert_int_equal(sl_egress_parse(sl_slice_str("https://a.b/"), &url, NULL), SL_OK);
    assert_int_equal(sl_egress_allows(&strict, &url, &err), SL_PERMISSION_DENIED);
    assert_non_null(strstr(err.text, "allow_hosts"));
}

static void bad_patterns_are_recognised(void **state)
{
    (void)state;
    static const char *const bad[] = { "",      "*",       "*.",     "https://a.b", "a.b/",
                                       "a.b:0", "a.b:x",   "a b",    "*.1.2.3.4",   "a.*.b",
                                       "[::1",  "[::1]:x", "[::1]x", "user@a.b",    "[]" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        if (sl_egress_is_pattern(bad[i])) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void redirects_are_resolved(void **state)
{
    (void)state;
    static const struct {
        const char *location, *url;
    } table[] = {
        { "https://c.d/e", "https://c.d/e" },
        { "//c.d/e", "https://c.d/e" },
        { "/e?f", "https://a.b/e?f" },
        { "e", "https://a.b/x/e" },
        { "../e", "https://a.b/x/../e" },
        { "?q", "https://a.b/x/y?q" },
        { "", "https://a.b/x/y?z" },
        { "#f", "https://a.b/x/y?z" },
        { "e:f", NULL },
        { "http://[", NULL },
        { "/a b", NULL },
        { "javascript:alert(1)", NULL },
        { "\\\\c.d", NULL },
    };
    struct sl_egress_url base;
    assert_int_equal(sl_egress_parse(sl_slice_str("https://a.b/x/y?z"), &base, NULL), SL_OK);
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        struct sl_egress_url url;
        const enum sl_status status =
            sl_egress_resolve(&base, sl_slice_str(table[i].location), &url, NULL);
        if (table[i].url == NULL) {
            assert_int_equal(status, SL_INVALID_ARGUMENT);
        } else {
            assert_int_equal(status, SL_OK);
            assert_string_equal(url.url, table[i].url);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_addresses_are_refused),
        cmocka_unit_test(every_special_range_is_refused_whole),
        cmocka_unit_test(urls_are_rebuilt_in_one_form),
        cmocka_unit_test(odd_urls_are_refused),
        cmocka_unit_test(a_url_that_is_too_long_is_refused),
        cmocka_unit_test(only_listed_hosts_are_allowed),
        cmocka_unit_test(an_empty_list_allows_nothing),
        cmocka_unit_test(bad_patterns_are_recognised),
        cmocka_unit_test(redirects_are_resolved),
    };
    return cmocka_run_group_tests_name("tool_egress", tests, NULL, NULL);
}
