/* The interceptor that finds out who calls (grpc.md OP-1, OP-2), on the wire. */
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
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/api/identify.h"
#include "tests/wire/rpc_peer.h"

#define EXECUTE "/sluice.v1.AgentRuntime/Execute"
#define LIST    "/sluice.v1.AgentRuntime/ListAgents"
#define HEALTH  "/grpc.health.v1.Health/Check"
#define REFLECT "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define KEY     "planted-key-0123456789"

static struct sl_server *server;
static struct sl_identify *identify;
static struct rpc_peer peer;
static char path[64], log_text[8192];

/* What the handler saw last. */
static struct {
    size_t n_calls;
    char principal[64], tenant[64];
    enum sl_status verdict; /* on running echo */
    enum sl_status check;   /* on what is no start */
    bool is_known, shows_key, may_echo, may_demo, sees_echo;
} seen;

static bool has_key(const struct sl_metadata *metadata)
{
    for (size_t i = 0; i < metadata->n_items; i++) {
        const struct sl_slice value = metadata->items[i].value;
        if (memmem(value.data, value.size, KEY, strlen(KEY)) != NULL) {
            return true;
        }
    }
    return false;
}

static enum sl_status answer(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    const struct sl_call_identity *who = sl_call_identity(call);
    seen.n_calls++;
    seen.is_known = who != NULL;
    seen.shows_key = has_key(sl_call_metadata(call));
    (void)snprintf(seen.principal, sizeof(seen.principal), "%s", who == NULL ? "" : who->principal);
    (void)snprintf(seen.tenant, sizeof(seen.tenant), "%s", who == NULL ? "" : who->tenant);
    seen.verdict = sl_identify_may_run(identify, call, "echo");
    seen.check = sl_identify_check(identify, call);
    seen.may_echo = seen.verdict == SL_OK;
    seen.may_demo = sl_identify_may_run(identify, call, "demo") == SL_OK;
    struct sl_identity *table = sl_identify_take(identify);
    seen.sees_echo = sl_identify_may_see(table, call, "echo");
    (void)sl_identity_unref(table);
    return sl_call_reply_bytes(call, request);
}

static void keep_line(const char *line, size_t size, void *user_data)
{
    (void)user_data;
    const size_t n = strlen(log_text);
    (void)snprintf(log_text + n, sizeof(log_text) - n, "%.*s", (int)size, line);
}

static void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

/* `line`: what follows the hash of KEY; `more`: keys of the configuration. */
static struct sl_identity *make(const char *line, const char *more)
{
    char hex[SL_SHA256_HEX_BYTES];
    char yaml[512];
    struct sl_conf *conf = NULL;
    struct sl_identity *identity = NULL;
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(sl_sha256_hex(sl_slice_str(KEY), hex), SL_OK);
    assert_true(fprintf(file, "sha256:%s %s\n", hex, line) > 0);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(yaml, sizeof(yaml), "identity:\n  keys: %s\n%s", path, more);
    assert_int_equal(sl_conf_parse(sl_slice_str(yaml), "c.yaml", &conf), SL_OK);
    const struct sl_identity_options options = { .conf = conf,
                                                 .top = sl_conf_document(conf, 0),
                                                 .max_keys = 10 };
    assert_int_equal(sl_identity_load(&options, fail_on_problem, NULL, &identity), SL_OK);
    (void)sl_conf_free(conf);
    return identity;
}

static void use(struct sl_identity *identity)
{
    sl_identify_set(identify, identity);
    (void)sl_identity_unref(identity);
}

static int set_up(void **state)
{
    static const char *const paths[] = { EXECUTE, LIST, HEALTH, REFLECT };
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/sluice-identify-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    for (size_t i = 0; i < SL_COUNT(paths); i++) {
        assert_int_equal(sl_server_add_raw(server, paths[i], SL_UNARY, answer, NULL), SL_OK);
    }
    struct sl_identity *identity = make("alice acme", "");
    assert_int_equal(sl_identify_new(server, identity, &identify), SL_OK);
    (void)sl_identity_unref(identity);
    rpc_peer_open(&peer, server, NULL);
    (void)rpc_log(&peer);
    memset(&seen, 0, sizeof(seen));
    log_text[0] = '\0';
    sl_log_setup(-1, SL_DEBUG, SL_LOG_LOGFMT);
    sl_log_set_sink(keep_line, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_log_set_sink(NULL, NULL);
    rpc_peer_close(&peer);
    server = sl_server_free(server);
    identify = sl_identify_free(identify);
    (void)unlink(path);
    return 0;
}

/* One call; what the client saw of it. */
static const char *call(const char *method, const char *const *headers)
{
    struct rpc_stream *stream = rpc_unary(&peer, method, headers, "x");
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
    return rpc_log(&peer);
}

static const char *call_with(const char *method, const char *authorization)
{
    const char *const headers[] = { "authorization", authorization, NULL };
    return call(method, headers);
}

static uint64_t failures(const char *reason)
{
    const char *const values[] = { reason };
    return sl_metric_value(sl_metric_series(SL_M_sluice_authentication_failures, values));
}

static void a_key_makes_a_caller_and_is_gone_then(void **state) /* OP-2 */
{
    (void)state;
    assert_non_null(strstr(call_with(EXECUTE, "Bearer " KEY), "grpc-status=0"));
    assert_int_equal(seen.n_calls, 1);
    assert_true(seen.is_known);
    assert_string_equal(seen.principal, "alice");
    assert_string_equal(seen.tenant, "acme");
    assert_false(seen.shows_key); /* no handler, and no dump of the call, has it */
    assert_true(seen.may_echo && seen.may_demo && seen.sees_echo);
    assert_int_equal(seen.check, SL_OK);
}

static void whoever_is_unknown_reaches_no_handler_and_no_hint(void **state) /* OP-1, AT-20 */
{
    static const char *const wrong[] = {
        "Bearer wrong-key", "Bearer " KEY "x", "Basic " KEY, "Bearer", KEY, "Bearer " KEY " " KEY
    };
    (void)state;
    char first[2048] = "";
    for (size_t i = 0; i < SL_COUNT(wrong) + 2; i++) {
        const char *const none[] = { NULL };
        const char *const twice[] = { "authorization", "Bearer " KEY, "authorization",
                                      "Bearer " KEY, NULL };
        const char *log = i < SL_COUNT(wrong)    ? call_with(EXECUTE, wrong[i])
                          : i == SL_COUNT(wrong) ? call(EXECUTE, none)
                                                 : call(EXECUTE, twice);
        const char *answer_text = strstr(log, "grpc-status=16");
        assert_non_null(answer_text);
        assert_null(strstr(log, KEY));
        assert_non_null(strstr(log, "grpc-status-details-bin="));
        if (i == 0) {
            (void)snprintf(
                first, sizeof(first), "%.*s", (int)strcspn(answer_text, "\n"), answer_text);
        }
        assert_int_equal(strncmp(first, answer_text, strlen(first)), 0); /* always the same */
    }
    assert_int_equal(seen.n_calls, 0);
    assert_null(strstr(log_text, KEY));
    assert_null(strstr(log_text, "wrong-key"));
    assert_non_null(strstr(log_text, "why=unknown"));
    assert_non_null(strstr(log_text, "why=missing"));
}

static void failures_are_counted_by_their_cause(void **state)
{
    (void)state;
    const uint64_t missing = failures("missing");
    const uint64_t malformed = failures("malformed");
    const uint64_t unknown = failures("unknown");
    const uint64_t expired = failures("expired");
    const char *const none[] = { NULL };
    (void)call(EXECUTE, none);
    (void)call_with(EXECUTE, "Basic x");
    (void)call_with(EXECUTE, "Bearer x");
    use(make("alice acme expires=2020-01-01", ""));
    (void)call_with(EXECUTE, "Bearer " KEY);
    assert_int_equal(failures("missing"), missing + 1);
    assert_int_equal(failures("malformed"), malformed + 1);
    assert_int_equal(failures("unknown"), unknown + 1);
    assert_int_equal(failures("expired"), expired + 1);
}

static void a_key_that_is_too_long_is_refused(void **state)
{
    (void)state;
    char huge[SL_IDENTITY_TOKEN_BYTES + 9] = "Bearer ";
    memset(huge + 7, 'k', SL_IDENTITY_TOKEN_BYTES + 1);
    const uint64_t malformed = failures("malformed");
    assert_non_null(strstr(call_with(EXECUTE, huge), "grpc-status=16"));
    assert_int_equal(failures("malformed"), malformed + 1);
    assert_int_equal(seen.n_calls, 0);
}

static void only_the_canonical_path_is_judged(void **state) /* AT-17, NG-4, ADM-11 */
{
    static const char *const paths[] = { "grpc.health.v1.Health/Check",
                                         "//grpc.health.v1.Health/Check",
                                         "/grpc.health.v1.Health/../Check",
                                         "/grpc.health.v1.Health/Check/",
                                         "/grpc%2ehealth.v1.Health/Check" };
    (void)state;
    const char *const scheme[] = { ":scheme", "grpc", NULL };
    for (size_t i = 0; i < SL_COUNT(paths); i++) {
        const char *log = call(paths[i], scheme);
        assert_true(strstr(log, "grpc-status=12") != NULL || strstr(log, "reset") != NULL);
    }
    const char *log = call("sluice.v1.AgentRuntime/Execute", scheme);
    assert_true(strstr(log, "grpc-status=12") != NULL || strstr(log, "reset") != NULL);
    assert_int_equal(seen.n_calls, 0);
}

static void health_is_open_and_reflection_as_it_is_said(void **state)
{
    (void)state;
    const char *const none[] = { NULL };
    assert_non_null(strstr(call(HEALTH, none), "grpc-status=0"));
    assert_false(seen.is_known);
    assert_non_null(strstr(call_with(HEALTH, "Bearer wrong"), "grpc-status=0"));
    assert_false(seen.is_known);
    assert_non_null(strstr(call_with(HEALTH, "Bearer " KEY), "grpc-status=0"));
    assert_true(seen.is_known);
    assert_non_null(strstr(call(REFLECT, none), "grpc-status=16"));
    use(make("alice acme", "  open: [reflection]\n"));
    assert_non_null(strstr(call(REFLECT, none), "grpc-status=0"));
    assert_non_null(strstr(call(HEALTH, none), "grpc-status=16"));
}

static void rights_are_those_of_the_rules_and_of_the_key(void **state)
{
    (void)state;
    use(make("alice acme agents=echo", "access: [{tenants: [acme], agents: [echo, demo]}]\n"));
    assert_non_null(strstr(call_with(EXECUTE, "Bearer " KEY), "grpc-status=0"));
    assert_true(seen.may_echo);
    assert_false(seen.may_demo);
    use(make("alice acme", "access: [{agents: ['*'], methods: [ListAgents]}]\n"));
    assert_non_null(strstr(call_with(LIST, "Bearer " KEY), "grpc-status=0"));
    assert_false(seen.sees_echo); /* what nobody can run is not shown */
    use(make("alice acme", "access: [{agents: ['*'], methods: [Execute]}]\n"));
    assert_non_null(strstr(call_with(EXECUTE, "Bearer " KEY), "grpc-status=0"));
    assert_true(seen.may_echo);
    assert_false(seen.sees_echo);
    assert_non_null(strstr(call_with(LIST, "Bearer " KEY), "grpc-status=0"));
    assert_false(seen.may_echo); /* by the method of the call */
}

static void a_new_table_counts_for_new_calls(void **state)
{
    (void)state;
    struct rpc_stream *open =
        rpc_open(&peer, EXECUTE, (const char *const[]){ "authorization", "Bearer " KEY, NULL });
    rpc_pump(&peer); /* its headers passed; its request is not complete */
    char other[SL_SHA256_HEX_BYTES];
    assert_int_equal(sl_sha256_hex(sl_slice_str("another"), other), SL_OK);
    use(make("bob beta expires=2020-01-01", ""));
    assert_non_null(strstr(call_with(EXECUTE, "Bearer " KEY), "grpc-status=16"));
    rpc_send(open, "x", 1);
    rpc_end(open);
    rpc_pump(&peer);
    assert_non_null(strstr(rpc_log(&peer), "grpc-status=0"));
    assert_string_equal(seen.principal, "alice");
    assert_int_equal(seen.verdict, SL_UNAUTHENTICATED); /* it is there, and starts nothing */
    assert_int_equal(seen.check, SL_UNAUTHENTICATED);   /* nor does it ask */
    rpc_stream_free(open);
}

/* A call whose headers passed before the table was changed. */
static enum sl_status verdict_after(const char *line, const char *more)
{
    use(make("alice acme", ""));
    struct rpc_stream *open =
        rpc_open(&peer, EXECUTE, (const char *const[]){ "authorization", "Bearer " KEY, NULL });
    rpc_pump(&peer);
    seen.verdict = SL_INTERNAL;
    use(make(line, more));
    rpc_send(open, "x", 1);
    rpc_end(open);
    rpc_pump(&peer);
    rpc_stream_free(open);
    return seen.verdict;
}

static void a_run_asks_the_table_of_its_start(void **state)
{
    (void)state;
    const uint64_t expired = failures("expired");
    const uint64_t unknown = failures("unknown");
    assert_int_equal(verdict_after("alice acme", ""), SL_OK);
    assert_int_equal(verdict_after("alice acme expires=2020-01-01", ""), SL_UNAUTHENTICATED);
    assert_int_equal(failures("expired"), expired + 3);                  /* it asks three times */
    assert_int_equal(verdict_after("bob acme", ""), SL_UNAUTHENTICATED); /* it is another's now */
    assert_int_equal(verdict_after("alice beta", ""), SL_UNAUTHENTICATED);
    assert_int_equal(failures("unknown"), unknown + 6);
    assert_int_equal(verdict_after("alice acme agents=demo", ""), SL_PERMISSION_DENIED);
    assert_true(seen.may_demo);
    assert_int_equal(verdict_after("alice acme", "access: []\n"), SL_PERMISSION_DENIED);
    assert_int_equal(seen.check, SL_OK); /* what runs is the tenant's all the same */
}

static void nothing_configured_asks_nobody(void **state)
{
    (void)state;
    const char *const none[] = { NULL };
    struct rpc_stream *open = rpc_open(&peer, EXECUTE, none);
    sl_identify_set(identify, NULL);
    assert_non_null(strstr(call(EXECUTE, none), "grpc-status=0"));
    assert_false(seen.is_known);
    assert_true(seen.may_echo && seen.sees_echo);
    assert_non_null(strstr(call_with(EXECUTE, "Bearer " KEY), "grpc-status=0"));
    assert_true(seen.shows_key); /* nobody's business */
    rpc_stream_free(open);
    /* A call that began when nobody was asked may nothing once somebody is. */
    struct rpc_stream *late = rpc_open(&peer, EXECUTE, none);
    rpc_pump(&peer);
    use(make("alice acme", ""));
    rpc_send(late, "x", 1);
    rpc_end(late);
    rpc_pump(&peer);
    assert_false(seen.may_echo);
    rpc_stream_free(late);
}

static void no_memory_lets_nobody_in(void **state)
{
    (void)state;
    (void)call_with(EXECUTE, "Bearer " KEY);
    const size_t n_before = seen.n_calls;
    size_t n_refused = 0;
    for (size_t i = 1; i < 60; i++) {
        rpc_peer_close(&peer);
        rpc_peer_open(&peer, server, NULL);
        struct rpc_stream *stream = rpc_open(
            &peer, EXECUTE, (const char *const[]){ "authorization", "Bearer wrong", NULL });
        rpc_send(stream, "x", 1);
        rpc_end(stream);
        peer.fail_at = rpc_n_allocations() + i;
        rpc_pump(&peer);
        peer.fail_at = 0;
        rpc_pump(&peer);
        n_refused++;
        rpc_stream_free(stream);
    }
    assert_int_equal(seen.n_calls, n_before);
    assert_int_equal(n_refused, 59);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_key_makes_a_caller_and_is_gone_then),
        CASE(whoever_is_unknown_reaches_no_handler_and_no_hint),
        CASE(failures_are_counted_by_their_cause),
        CASE(a_key_that_is_too_long_is_refused),
        CASE(only_the_canonical_path_is_judged),
        CASE(health_is_open_and_reflection_as_it_is_said),
        CASE(rights_are_those_of_the_rules_and_of_the_key),
        CASE(a_new_table_counts_for_new_calls),
        CASE(a_run_asks_the_table_of_its_start),
        CASE(nothing_configured_asks_nobody),
        CASE(no_memory_lets_nobody_in),
    };
#undef CASE
    return cmocka_run_group_tests_name("identify", tests, NULL, NULL);
}
