/* Who calls and what he may (grpc.md OP-2): the configuration, bearer keys, names of certificates,
 * rules of access. */
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
#include "service/identity/pattern.h"

static struct sl_conf *conf;
static struct sl_identity *identity;
static char told[1024], path[64];

static void tell(const char *line, void *user_data)
{
    (void)user_data;
    (void)snprintf(told, sizeof(told), "%s", line);
}

/* The YAML, with %s for the key file. */
static enum sl_status load(const char *yaml)
{
    char text[2048];
    told[0] = '\0';
    conf = sl_conf_free(conf);
    identity = sl_identity_unref(identity);
    (void)snprintf(text, sizeof(text), "%s", yaml);
    char *at = strstr(text, "KEYS");
    if (at != NULL) {
        char rest[2048];
        (void)snprintf(rest, sizeof(rest), "%s", at + 4);
        (void)snprintf(at, sizeof(text) - (size_t)(at - text), "%s%s", path, rest);
    }
    assert_int_equal(sl_conf_parse(sl_slice_str(text), "c.yaml", &conf), SL_OK);
    const struct sl_identity_options options = { .conf = conf,
                                                 .top = sl_conf_document(conf, 0),
                                                 .max_keys = 10,
                                                 .has_client_certificates = true };
    return sl_identity_load(&options, tell, NULL, &identity);
}

static void put_keys(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    (void)state;
    char hex[SL_SHA256_HEX_BYTES];
    char text[512];
    (void)snprintf(path, sizeof(path), "/tmp/sluice-identity-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(sl_sha256_hex(sl_slice_str("good-key"), hex), SL_OK);
    size_t n = (size_t)snprintf(text, sizeof(text), "sha256:%s alice acme\n", hex);
    assert_int_equal(sl_sha256_hex(sl_slice_str("old-key"), hex), SL_OK);
    (void)snprintf(
        text + n, sizeof(text) - n, "sha256:%s bob acme agents=echo expires=2027-01-01\n", hex);
    put_keys(text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    identity = sl_identity_unref(identity);
    conf = sl_conf_free(conf);
    (void)unlink(path);
    return 0;
}

/* ---- Patterns ----------------------------------------------------------------------------------
 */

static void a_star_stands_for_any_text_at_one_end(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        { "a", "a", true },    { "a", "ab", false },           { "a", "", false },
        { "a*", "a", true },   { "a*", "abc", true },          { "a*", "ba", false },
        { "*a", "a", true },   { "*a", "bca", true },          { "*a", "ab", false },
        { "*", "", true },     { "*", "anything", true },      { "ab*", "a", false },
        { "*ab", "b", false }, { "*.x.org", "a.x.org", true }, { "*.x.org", "x.org", false },
        { "A", "a", false },
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        if (sl_pattern_matches(cases[i].pattern, cases[i].text) != cases[i].matches) {
            fail_msg("%s %s", cases[i].pattern, cases[i].text);
        }
    }
    assert_true(sl_pattern_is_valid(sl_slice_str("*")));
    assert_false(sl_pattern_is_valid(sl_slice_str("")));
    assert_false(sl_pattern_is_valid(sl_slice_str("**")));
    assert_false(sl_pattern_is_valid(sl_slice_str("a*b")));
    assert_false(sl_pattern_is_valid(sl_slice_str("*a*")));
    assert_false(sl_identity_is_name(sl_slice_of("a\0", 2)));
    assert_false(sl_identity_is_name(sl_slice_str("a b")));
    assert_false(sl_identity_is_name(sl_slice_str("a,b")));
}

/* ---- The configuration -------------------------------------------------------------------------
 */

static void nothing_configured_is_no_table(void **state)
{
    (void)state;
    assert_int_equal(load("limits: {}\n"), SL_OK);
    assert_null(identity);
    const struct sl_identity_options options = { .conf = NULL, .top = NULL };
    assert_int_equal(sl_identity_load(&options, tell, NULL, &identity), SL_OK);
    assert_null(identity);
    assert_false(sl_identity_has_keys(NULL));
}

static void mistakes_have_their_places(void **state)
{
    static const struct {
        const char *yaml, *problem;
    } cases[] = {
        { "access: [{agents: [a]}]\n", "c.yaml:1:9: access: needs `identity`" },
        { "identity: {}\n", "c.yaml:1:11: identity: `keys` or `certificates` is missing" },
        { "identity: {keys: KEYS, no: 1}\n", "unknown key" },
        { "identity: {keys: KEYS, open: [healthy]}\n", "identity.open[0]: health or reflection" },
        { "identity: {certificates: []}\n", "identity.certificates: 1 to 1000 rules" },
        { "identity: {certificates: [x]}\n", "identity.certificates[0]: a map with" },
        { "identity: {certificates: [{san: 'dns:a'}]}\n", "tenant" },
        { "identity: {certificates: [{tenant: a}]}\n", "san" },
        { "identity: {certificates: [{san: 'cn:a', tenant: a}]}\n",
          "c.yaml:1:33: identity.certificates[0].san: uri:, dns: or email:" },
        { "identity: {certificates: [{san: 'dns:', tenant: a}]}\n", "san: uri:, dns: or email:" },
        { "identity: {certificates: [{san: 'dns:a*b', tenant: a}]}\n", "san: uri:, dns: or" },
        { "identity: {certificates: [{san: 'dns:a', tenant: 'a b'}]}\n", "tenant: 1 to 128" },
        { "identity: {certificates: [{san: 'dns:a', tenant: a, principal: '*'}]}\n",
          "principal: 1 to 128" },
        { "identity: {keys: KEYS}\naccess: [{tenants: [a]}]\n", "agents" },
        { "identity: {keys: KEYS}\naccess: [{agents: []}]\n", "access[0].agents: 1 to 1000" },
        { "identity: {keys: KEYS}\naccess: [{agents: ['a*b']}]\n", "access[0].agents[0]: a name" },
        { "identity: {keys: KEYS}\naccess: [{agents: [[a]]}]\n", "access[0].agents[0]: a name" },
        { "identity: {keys: KEYS}\naccess: [x]\n", "access[0]: a map with `agents`" },
        { "identity: {keys: KEYS}\naccess: [{agents: [a], agent: [b]}]\n", "unknown key" },
        /* what was left empty is not what was left out */
        { "identity: {keys: KEYS}\naccess:\n", "access: must have a value; [] is nobody" },
        { "identity: {keys: KEYS}\naccess: ~\n", "c.yaml:2:9: access: must have a value; []" },
        { "access:\n", "access: must have a value; [] is nobody" },
        { "identity:\n", "identity: must have a value" },
        { "identity: null\naccess: [{agents: [a]}]\n", "c.yaml:1:11: identity: must have" },
        { "identity: {keys: KEYS, certificates: }\n", "certificates: must have a value" },
        { "identity: {keys: KEYS, open: }\n", "identity.open: must have a value; [] is nothing" },
        { "identity: {keys: }\n", "identity.keys: must have a value" },
        { "identity: {certificates: [{san: 'dns:a', tenant: a, principal: }]}\n",
          "principal: must have a value" },
        { "identity: {keys: KEYS}\naccess:\n  - {agents: ['*'], tenants: }\n",
          "access[0].tenants: must have a value" },
        { "identity: {keys: KEYS}\naccess: [{agents: ['*'], principals: null}]\n",
          "c.yaml:2:38: access[0].principals: must have a value" },
        { "identity: {keys: KEYS}\naccess: [{agents: ['*'], methods: ~}]\n",
          "access[0].methods: must have a value" },
        { "identity: {keys: KEYS}\naccess: [{agents: }]\n", "access[0].agents: must have a value" },
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        assert_int_equal(load(cases[i].yaml), SL_FAILED_PRECONDITION);
        assert_null(identity);
        const char *error = sl_conf_n_errors(conf) == 0 ? "none" : sl_conf_error_at(conf, 0);
        if (strstr(error, cases[i].problem) == NULL) {
            fail_msg("%s: %s", cases[i].yaml, error);
        }
    }
}

static void a_bad_key_file_refuses_the_whole(void **state)
{
    (void)state;
    put_keys("oops\n");
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, ":1:1: expected sha256:"));
    put_keys("# none\n");
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, "there is no key in it"));
    (void)unlink(path);
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, "No such file"));
    assert_null(identity);
}

static void certificates_need_a_listener_that_asks_for_them(void **state)
{
    (void)state;
    assert_int_equal(load("identity: {certificates: [{san: 'dns:a', tenant: a}]}\n"), SL_OK);
    const struct sl_identity_options options = { .conf = conf,
                                                 .top = sl_conf_document(conf, 0),
                                                 .max_keys = 10 };
    identity = sl_identity_unref(identity);
    assert_int_equal(sl_identity_load(&options, tell, NULL, &identity), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(sl_conf_error_at(conf, 0), "no listener asks for client certificates"));
}

/* ---- Bearer keys -------------------------------------------------------------------------------
 */

static enum sl_identity_fault find_bearer(const char *value, struct sl_identity_caller *caller)
{
    const struct sl_slice values[] = { sl_slice_str(value) };
    const struct sl_identity_proof proof = { .authorization = values,
                                             .n_authorization = value == NULL ? 0 : 1 };
    return sl_identity_find(identity, &proof, 1700000000, caller);
}

static void a_bearer_key_is_a_principal_of_a_tenant(void **state)
{
    static const char *const right[] = { "Bearer good-key", "bearer good-key", "BEARER\tgood-key",
                                         "  Bearer   good-key\t " };
    (void)state;
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_OK);
    assert_true(sl_identity_has_keys(identity));
    for (size_t i = 0; i < SL_COUNT(right); i++) {
        struct sl_identity_caller caller = { 0 };
        assert_int_equal(find_bearer(right[i], &caller), SL_IDENTITY_KNOWN);
        assert_string_equal(caller.principal, "alice");
        assert_string_equal(caller.tenant, "acme");
        assert_int_equal(caller.n_agents, 0);
    }
}

static void what_is_no_key_of_ours_is_nobody(void **state)
{
    static const struct {
        const char *value;
        enum sl_identity_fault fault;
    } cases[] = {
        { NULL, SL_IDENTITY_MISSING },
        { "", SL_IDENTITY_MALFORMED },
        { "Bearer", SL_IDENTITY_MALFORMED },
        { "Bearer ", SL_IDENTITY_MALFORMED },
        { "good-key", SL_IDENTITY_MALFORMED },
        { "Basic good-key", SL_IDENTITY_MALFORMED },
        { "Bearergood-key", SL_IDENTITY_MALFORMED },
        { "Bearer good-key good-key", SL_IDENTITY_MALFORMED },
        { "Bearer good\x80key", SL_IDENTITY_MALFORMED },
        { "Bearer good-ke", SL_IDENTITY_UNKNOWN },
        { "Bearer good-keys", SL_IDENTITY_UNKNOWN },
        { "Bearer Good-key", SL_IDENTITY_UNKNOWN },
        { "Bearer sha256:0", SL_IDENTITY_UNKNOWN },
    };
    (void)state;
    struct sl_identity_caller caller = { 0 };
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_OK);
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        const enum sl_identity_fault fault = find_bearer(cases[i].value, &caller);
        if (fault != cases[i].fault) {
            fail_msg("%s: %s", cases[i].value, sl_identity_fault_name(fault));
        }
    }
    char huge[SL_IDENTITY_TOKEN_BYTES + 16] = "Bearer ";
    memset(huge + 7, 'k', SL_IDENTITY_TOKEN_BYTES + 1);
    assert_int_equal(find_bearer(huge, &caller), SL_IDENTITY_MALFORMED);
    huge[7 + SL_IDENTITY_TOKEN_BYTES] = '\0';
    assert_int_equal(find_bearer(huge, &caller), SL_IDENTITY_UNKNOWN);
    const struct sl_slice twice[] = { sl_slice_str("Bearer good-key"),
                                      sl_slice_str("Bearer good-key") };
    const struct sl_identity_proof proof = { .authorization = twice, .n_authorization = 2 };
    assert_int_equal(sl_identity_find(identity, &proof, 0, &caller), SL_IDENTITY_MALFORMED);
    assert_null(caller.principal);
}

static void a_key_expires_in_its_second(void **state)
{
    (void)state;
    struct sl_identity_caller caller = { 0 };
    const struct sl_slice value = sl_slice_str("Bearer old-key");
    const struct sl_identity_proof proof = { .authorization = &value, .n_authorization = 1 };
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_OK);
    assert_int_equal(sl_identity_find(identity, &proof, 1798761599, &caller), SL_IDENTITY_KNOWN);
    assert_int_equal(sl_identity_find(identity, &proof, 1798761600, &caller), SL_IDENTITY_EXPIRED);
}

/* ---- Certificates ------------------------------------------------------------------------------
 */

static const char certificates[] =
    "identity:\n"
    "  certificates:\n"
    "    - {san: 'uri:spiffe://x.org/billing', principal: billing, tenant: acme}\n"
    "    - {san: 'uri:spiffe://x.org/*', tenant: beta}\n"
    "    - {san: 'dns:*.Jobs.x.org', tenant: jobs}\n"
    "    - {san: 'email:*@x.org', tenant: people}\n"
    "    - {san: 'dns:*', principal: rest, tenant: rest}\n";

/* `names`: terminated, an empty one at the end. */
static void assert_named(const char *names, const char *principal, const char *tenant)
{
    struct sl_identity_caller caller = { 0 };
    const struct sl_identity_proof proof = { .names = names };
    const enum sl_identity_fault fault = sl_identity_find(identity, &proof, 0, &caller);
    assert_int_equal(fault, principal == NULL ? SL_IDENTITY_CERTIFICATE : SL_IDENTITY_KNOWN);
    if (principal != NULL) {
        assert_string_equal(caller.principal, principal);
        assert_string_equal(caller.tenant, tenant);
    }
}

static void the_first_rule_that_fits_a_name_decides(void **state)
{
    (void)state;
    assert_int_equal(load(certificates), SL_OK);
    assert_named("uri:spiffe://x.org/billing\0", "billing", "acme");
    assert_named("uri:spiffe://x.org/other\0", "spiffe://x.org/other", "beta");
    assert_named("uri:spiffe://y.org/billing\0", NULL, NULL);
    assert_named("dns:a.jobs.x.org\0", "a.jobs.x.org", "jobs");
    assert_named("dns:b.org\0dns:a.jobs.x.org\0", "a.jobs.x.org", "jobs");
    assert_named("dns:b.org\0", "rest", "rest");
    assert_named("email:me@x.org\0", "me@x.org", "people");
    assert_named("email:me@x.org.evil.com\0", NULL, NULL);
    assert_named("", NULL, NULL);
}

/* SPIFFE: one URI is the identity; what else the certificate says, or a second URI, is not. */
static void a_uri_is_the_identity_and_there_is_one(void **state)
{
    (void)state;
    assert_int_equal(load(certificates), SL_OK);
    assert_named("dns:a.jobs.x.org\0uri:spiffe://x.org/other\0", "spiffe://x.org/other", "beta");
    assert_named("uri:spiffe://y.org/a\0dns:a.jobs.x.org\0", NULL, NULL);
    assert_named("uri:spiffe://x.org/billing\0uri:spiffe://x.org/b\0", NULL, NULL);
    /* the kind is part of the name: no kind passes for another one */
    assert_named("dns:uri:spiffe://x.org/billing\0", "rest", "rest");
    /* a name that could not be written in a rule is no principal */
    assert_named("uri:spiffe://x.org/a%20b\0", NULL, NULL);
}

static void a_wrong_key_is_not_made_good_by_a_certificate(void **state)
{
    (void)state;
    char yaml[1024];
    struct sl_identity_caller caller = { 0 };
    const struct sl_slice wrong = sl_slice_str("Bearer wrong");
    const struct sl_identity_proof proof = { .authorization = &wrong,
                                             .n_authorization = 1,
                                             .names = "dns:b.org\0" };
    (void)snprintf(yaml, sizeof(yaml), "%s  keys: KEYS\n", certificates);
    assert_int_equal(load(yaml), SL_OK);
    assert_int_equal(sl_identity_find(identity, &proof, 0, &caller), SL_IDENTITY_UNKNOWN);
    assert_named("dns:b.org\0", "rest", "rest"); /* without a header */
    assert_int_equal(load(certificates), SL_OK); /* no keys: the header is nobody's business */
    assert_int_equal(sl_identity_find(identity, &proof, 0, &caller), SL_IDENTITY_KNOWN);
    assert_int_equal(find_bearer("Bearer good-key", &caller), SL_IDENTITY_MISSING);
}

/* ---- Rights ------------------------------------------------------------------------------------
 */

static bool may(const char *principal, const char *tenant, const char *method, const char *agent)
{
    const struct sl_identity_caller caller = { .principal = principal, .tenant = tenant };
    return sl_identity_may(identity, &caller, method, agent);
}

static void rules_say_which_agents_a_caller_may_run(void **state)
{
    (void)state;
    assert_int_equal(
        load("identity: {keys: KEYS}\n"
             "access:\n"
             "  - {tenants: [acme], agents: ['bill-*', echo]}\n"
             "  - {principals: ['ci-*'], agents: ['*'], methods: [ListAgents]}\n"
             "  - {tenants: [beta], principals: [bob], agents: [demo], methods: ['Exec*']}\n"),
        SL_OK);
    assert_true(may("x", "acme", "Execute", "bill-1"));
    assert_true(may("x", "acme", "ListAgents", "echo"));
    assert_false(may("x", "acme", "Execute", "demo"));
    assert_false(may("x", "acm", "Execute", "echo"));
    assert_true(may("ci-1", "z", "ListAgents", "demo"));
    assert_false(may("ci-1", "z", "Execute", "demo"));
    assert_true(may("bob", "beta", "ExecuteStreaming", "demo"));
    assert_false(may("bob", "beta", "ListAgents", "demo"));
    assert_false(may("bob", "gamma", "Execute", "demo"));
    assert_false(may("alice", "beta", "Execute", "demo"));
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_OK);
    assert_true(may("x", "y", "Execute", "anything")); /* no rules: who is known may */
    assert_int_equal(load("identity: {keys: KEYS}\naccess: []\n"), SL_OK);
    assert_false(may("x", "y", "Execute", "anything"));
}

static void a_key_narrows_what_the_rules_give(void **state)
{
    (void)state;
    struct sl_identity_caller caller;
    assert_int_equal(load("identity: {keys: KEYS}\naccess: [{agents: [echo, demo]}]\n"), SL_OK);
    assert_int_equal(find_bearer("Bearer old-key", &caller), SL_IDENTITY_KNOWN);
    assert_true(sl_identity_may(identity, &caller, "Execute", "echo"));
    assert_false(sl_identity_may(identity, &caller, "Execute", "demo"));
    assert_int_equal(load("identity: {keys: KEYS}\naccess: [{agents: [demo]}]\n"), SL_OK);
    assert_int_equal(find_bearer("Bearer old-key", &caller), SL_IDENTITY_KNOWN);
    assert_false(sl_identity_may(identity, &caller, "Execute", "echo"));
}

static bool is_open(const char *service)
{
    return sl_identity_is_open(identity, sl_slice_str(service));
}

static void health_is_open_and_reflection_is_not_unless_it_is_said(void **state)
{
    (void)state;
    assert_int_equal(load("identity: {keys: KEYS}\n"), SL_OK);
    assert_true(is_open("grpc.health.v1.Health"));
    assert_false(is_open("grpc.health.v1.Healthy"));
    assert_false(is_open("grpc.reflection.v1.ServerReflection"));
    assert_false(is_open("sluice.v1.AgentRuntime"));
    assert_false(is_open(""));
    assert_int_equal(load("identity: {keys: KEYS, open: [reflection]}\n"), SL_OK);
    assert_false(is_open("grpc.health.v1.Health"));
    assert_true(is_open("grpc.reflection.v1alpha.ServerReflection"));
    assert_false(is_open("sluice.v1.AgentRuntime"));
    assert_int_equal(load("identity: {keys: KEYS, open: []}\n"), SL_OK);
    assert_false(is_open("grpc.health.v1.Health"));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_star_stands_for_any_text_at_one_end),
        CASE(nothing_configured_is_no_table),
        CASE(mistakes_have_their_places),
        CASE(a_bad_key_file_refuses_the_whole),
        CASE(certificates_need_a_listener_that_asks_for_them),
        CASE(a_bearer_key_is_a_principal_of_a_tenant),
        CASE(what_is_no_key_of_ours_is_nobody),
        CASE(a_key_expires_in_its_second),
        CASE(the_first_rule_that_fits_a_name_decides),
        CASE(a_uri_is_the_identity_and_there_is_one),
        CASE(a_wrong_key_is_not_made_good_by_a_certificate),
        CASE(rules_say_which_agents_a_caller_may_run),
        CASE(a_key_narrows_what_the_rules_give),
        CASE(health_is_open_and_reflection_is_not_unless_it_is_said),
    };
#undef CASE
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
