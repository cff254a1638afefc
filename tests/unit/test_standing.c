/* What a later table says of somebody whose stream is open (reliability.md 8.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "service/identity/identity.h"

#define STANDS SL_IDENTITY_STANDS
#define RIGHT  SL_IDENTITY_NO_RIGHT
#define TENANT SL_IDENTITY_OTHER_TENANT
#define GONE   SL_IDENTITY_GONE

enum { NOW_S = 1700000000, LINE_BYTES = 256 };

static char path[64];

static void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/sluice-standing-XXXXXX");
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

/* `keys`: "KEY PRINCIPAL TENANT …", one a line; `more`: what follows in `identity`, or behind it.
 */
static struct sl_identity *make(const char *keys, const char *more)
{
    char yaml[512];
    struct sl_conf *conf = NULL;
    struct sl_identity *identity = NULL;
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    while (*keys != '\0') {
        char hex[SL_SHA256_HEX_BYTES];
        const size_t n_key = strcspn(keys, " ");
        const size_t n = strcspn(keys, "\n");
        assert_int_equal(sl_sha256_hex(sl_slice_of(keys, n_key), hex), SL_OK);
        assert_true(fprintf(file, "sha256:%s%.*s\n", hex, (int)(n - n_key), keys + n_key) > 0);
        keys += n + (keys[n] == '\n');
    }
    assert_int_equal(fclose(file), 0);
    (void)snprintf(yaml, sizeof(yaml), "identity:\n  keys: %s\n%s", path, more);
    assert_int_equal(sl_conf_parse(sl_slice_str(yaml), "c.yaml", &conf), SL_OK);
    const struct sl_identity_options options = { .conf = conf,
                                                 .top = sl_conf_document(conf, 0),
                                                 .max_keys = 10,
                                                 .has_client_certificates = true };
    assert_int_equal(sl_identity_load(&options, fail_on_problem, NULL, &identity), SL_OK);
    (void)sl_conf_free(conf);
    return identity;
}

/* Alice of acme, by the key "one" or by the name of her certificate. */
static struct sl_identity_past past_of(const char *names)
{
    struct sl_identity_past past = { .caller = { .principal = "alice",
                                                 .tenant = "acme",
                                                 .expires_s = INT64_MAX,
                                                 .has_key = names == NULL },
                                     .names = names,
                                     .method = "ExecuteStreaming",
                                     .agent = "echo" };
    assert_int_equal(sl_sha256(sl_slice_str("one"), past.caller.digest), SL_OK);
    return past;
}

struct stand {
    const char *keys, *more;
    enum sl_identity_standing standing;
};

static void check(const struct sl_identity_past *past, const struct stand *stands, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t expires_s = 0;
        struct sl_identity *identity = make(stands[i].keys, stands[i].more);
        const enum sl_identity_standing standing =
            sl_identity_ask_again(identity, past, NOW_S, &expires_s);
        (void)sl_identity_unref(identity);
        if (standing != stands[i].standing) {
            fail_msg(
                "%zu: \"%s\", not \"%s\"", i, sl_identity_standing_name(standing),
                sl_identity_standing_name(stands[i].standing));
        }
    }
}

static void the_key_itself_decides_while_it_is_his(void **state)
{
    static const struct stand stands[] = {
        { "one alice acme", "", STANDS },
        { "one alice acme agents=echo", "", STANDS },
        { "one alice acme agents=demo", "", RIGHT },
        { "one alice acme agents=demo\ntwo alice acme", "", RIGHT },
        { "one alice beta", "", TENANT },
        { "one alice beta\ntwo alice acme", "", TENANT },
        { "one bob acme", "", GONE },
        { "one bob acme\ntwo alice acme", "", STANDS },
        { "one alice acme", "access: []\n", RIGHT },
        { "one alice acme", "access: [{agents: [demo]}]\n", RIGHT },
        { "one alice acme", "access: [{agents: [echo]}]\n", STANDS },
        { "one alice acme", "access: [{agents: [echo], methods: [Execute]}]\n", RIGHT },
        { "one alice acme", "access: [{agents: [echo], tenants: [beta]}]\n", RIGHT },
    };
    (void)state;
    const struct sl_identity_past past = past_of(NULL);
    check(&past, stands, SL_COUNT(stands));
}

static void a_key_that_is_replaced_takes_nothing_away(void **state)
{
    static const struct stand stands[] = {
        { "two bob acme", "", GONE },
        { "two alice acme", "", STANDS },
        { "two alice acme agents=demo", "", RIGHT },
        { "two alice acme agents=demo\nthree alice acme agents=echo", "", STANDS },
        { "three alice acme agents=echo\ntwo alice acme agents=demo", "", STANDS },
        { "two alice beta", "", TENANT },
        { "two alice beta\nthree alice acme", "", STANDS },
        { "two alice beta\nthree alice acme agents=demo", "", RIGHT },
        { "two alice acme expires=2020-01-01", "", GONE },
        { "one alice acme expires=2020-01-01", "", GONE },
        { "one alice acme expires=2020-01-01\ntwo alice acme", "", STANDS },
        { "two bob acme", "  certificates: [{san: 'dns:a', principal: alice, tenant: acme}]\n",
          STANDS },
        { "two bob acme", "  certificates: [{san: 'dns:a', principal: alice, tenant: beta}]\n",
          TENANT },
        { "two bob acme", "  certificates: [{san: 'dns:alice', tenant: acme}]\n", GONE },
    };
    (void)state;
    const struct sl_identity_past past = past_of(NULL);
    check(&past, stands, SL_COUNT(stands));
}

static void a_certificate_is_asked_by_its_names(void **state)
{
    static const struct stand stands[] = {
        { "x bob acme", "  certificates: [{san: 'dns:a*', principal: alice, tenant: acme}]\n",
          STANDS },
        { "x bob acme", "  certificates: [{san: 'dns:a*', principal: alice, tenant: beta}]\n",
          TENANT },
        { "x bob acme", "  certificates: [{san: 'dns:b', principal: alice, tenant: acme}]\n",
          STANDS },
        { "x bob acme", "  certificates: [{san: 'dns:a*', principal: bob, tenant: acme}]\n", GONE },
        { "x bob acme", "  certificates: [{san: 'dns:a*', tenant: acme}]\n", STANDS },
        { "x bob acme", "  certificates: [{san: 'dns:b*', tenant: acme}]\n", GONE },
        { "x alice acme", "  certificates: [{san: 'dns:b*', tenant: acme}]\n", STANDS },
        { "x bob acme", "", GONE },
    };
    (void)state;
    const struct sl_identity_past past = past_of("dns:alice\0");
    check(&past, stands, SL_COUNT(stands));
}

static void who_needs_no_agent_needs_no_right(void **state)
{
    static const struct stand stands[] = {
        { "one alice acme agents=demo", "access: []\n", STANDS },
        { "two alice acme agents=demo", "access: []\n", STANDS },
        { "one alice beta", "", TENANT },
        { "two bob acme", "", GONE },
    };
    (void)state;
    struct sl_identity_past past = past_of(NULL);
    past.agent = NULL;
    check(&past, stands, SL_COUNT(stands));
}

static void an_answer_is_good_until_what_it_stands_on_expires(void **state)
{
    static const struct {
        const char *keys;
        int64_t expires_s;
    } cases[] = {
        { "one alice acme", INT64_MAX },
        { "one alice acme expires=2100-01-01", INT64_C(4102444800) },
        { "one alice acme expires=2100-01-01\ntwo alice acme", INT64_C(4102444800) },
        { "two alice acme expires=2100-01-01", INT64_C(4102444800) },
        { "two alice acme expires=2099-01-01\nthree alice acme expires=2100-01-01",
          INT64_C(4102444800) },
        { "two alice acme agents=demo\nthree alice acme expires=2100-01-01", INT64_C(4102444800) },
    };
    (void)state;
    const struct sl_identity_past past = past_of(NULL);
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        int64_t expires_s = 0;
        struct sl_identity *identity = make(cases[i].keys, "");
        assert_int_equal(sl_identity_ask_again(identity, &past, NOW_S, &expires_s), STANDS);
        assert_int_equal(expires_s, cases[i].expires_s);
        (void)sl_identity_unref(identity);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(the_key_itself_decides_while_it_is_his),
        CASE(a_key_that_is_replaced_takes_nothing_away),
        CASE(a_certificate_is_asked_by_its_names),
        CASE(who_needs_no_agent_needs_no_right),
        CASE(an_answer_is_good_until_what_it_stands_on_expires),
    };
#undef CASE
    return cmocka_run_group_tests_name("standing", tests, NULL, NULL);
}
