/* Open streams are asked again when there is a new table of identities (reliability.md 8.2). */
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
#include "service/api/recheck.h"
#include "tests/fake/fake_loop.h"
#include "tests/wire/rpc_peer.h"

#define EXECUTE "/sluice.v1.AgentRuntime/Execute"
#define KEY     "planted-key-0123456789"

/* The look comes once a second, and asks so many in a turn. */
enum { LOOK_MS = 1000, PIECE = 32, MANY = 3 * PIECE - 1 };

static struct sl_fake_loop fake;
static struct sl_server *server;
static struct sl_identify *identify;
static struct rpc_peer peer;
static char path[64];

/* The streams of the call: one call is enough for all of them. */
static struct {
    struct sl_call *call;
    size_t n_streams; /* to start */
    const char *agent;
    struct sl_recheck streams[MANY];
    size_t n_revoked;
    enum sl_identity_standing why; /* of the last one */
    bool takes_next;               /* the first one that is told stops the one behind it */
    bool has_no_memory;            /* to start the first one */
} world;

static void on_revoked(struct sl_recheck *recheck, enum sl_identity_standing why)
{
    world.n_revoked++;
    world.why = why;
    sl_recheck_stop(recheck);
    if (world.takes_next) {
        world.takes_next = false;
        sl_recheck_stop(recheck + 1);
    }
}

static enum sl_status answer(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    for (size_t i = 0; i < world.n_streams; i++) {
        sl_recheck_init(&world.streams[i], call, on_revoked);
        peer.fail_at = world.has_no_memory ? rpc_n_allocations() + 1 : 0;
        rpc_enter(&peer);
        const enum sl_status status = sl_recheck_start(&world.streams[i], identify, world.agent);
        peer.fail_at = 0;
        rpc_enter(&peer);
        if (status != SL_OK) {
            sl_recheck_stop(&world.streams[i]); /* harmless */
            return status;
        }
    }
    world.call = call;
    return SL_PENDING;
}

static void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

/* `line`: what follows the hash of KEY. */
static void use(const char *line, const char *more)
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
    sl_identify_set(identify, identity);
    (void)sl_identity_unref(identity);
}

static int set_up(void **state)
{
    (void)state;
    struct sl_loop *loop = &fake.base;
    memset(&world, 0, sizeof(world));
    (void)snprintf(path, sizeof(path), "/tmp/sluice-recheck-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    sl_fake_loop_init(&fake);
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .loops = &loop,
                                               .n_loops = 1 };
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    assert_int_equal(sl_server_add_raw(server, EXECUTE, SL_UNARY, answer, NULL), SL_OK);
    assert_int_equal(sl_identify_new(server, NULL, &identify), SL_OK);
    rpc_peer_open(&peer, server, loop);
    return 0;
}

static void end_call(void)
{
    for (size_t i = 0; i < world.n_streams; i++) {
        sl_recheck_stop(&world.streams[i]);
    }
    if (world.call != NULL) {
        sl_call_finishf(SL_TAKE(world.call), SL_CANCELLED, "over");
    }
}

static int tear_down(void **state)
{
    (void)state;
    end_call();
    rpc_peer_close(&peer);
    assert_true(sl_fake_loop_run(&fake));
    server = sl_server_free(server);
    identify = sl_identify_free(identify);
    sl_fake_loop_done(&fake);
    return unlink(path);
}

/* A call that has begun, with so many streams. */
static struct rpc_stream *begin(size_t n_streams, const char *agent)
{
    const char *const headers[] = { "authorization", "Bearer " KEY, NULL };
    world.n_streams = n_streams;
    world.agent = agent;
    struct rpc_stream *stream = rpc_unary(&peer, EXECUTE, headers, "x");
    assert_true(sl_fake_loop_run(&fake));
    return stream;
}

static void look(void)
{
    sl_fake_loop_advance_ms(&fake, LOOK_MS);
}

static void a_new_table_is_asked_within_a_second_and_an_old_one_never(void **state)
{
    (void)state;
    use("alice acme", "");
    struct rpc_stream *stream = begin(1, "echo");
    assert_non_null(world.call);
    for (size_t i = 0; i < 100; i++) {
        look();
    }
    use("alice acme agents=echo", "");
    look();
    assert_int_equal(world.n_revoked, 0);
    use("bob acme", "");
    assert_true(sl_fake_loop_run(&fake));
    assert_int_equal(world.n_revoked, 0);
    look();
    assert_int_equal(world.n_revoked, 1);
    assert_int_equal(world.why, SL_IDENTITY_GONE);
    look();
    assert_int_equal(world.n_revoked, 1);
    rpc_stream_free(stream);
}

static void why_is_what_has_changed(void **state)
{
    static const struct {
        const char *line, *more, *agent;
        enum sl_identity_standing why;
    } cases[] = {
        { "bob acme", "", "echo", SL_IDENTITY_GONE },
        { "alice beta", "", "echo", SL_IDENTITY_OTHER_TENANT },
        { "alice acme agents=demo", "", "echo", SL_IDENTITY_NO_RIGHT },
        { "alice acme agents=demo", "", "demo", SL_IDENTITY_STANDS },
        { "alice acme agents=demo", "", NULL, SL_IDENTITY_STANDS },
        { "alice acme", "access: [{agents: [echo], methods: [Execute]}]\n", "echo",
          SL_IDENTITY_STANDS },
        { "alice acme", "access: [{agents: [echo], methods: [StartRun]}]\n", "echo",
          SL_IDENTITY_NO_RIGHT },
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        use("alice acme", "");
        world.why = SL_IDENTITY_STANDS;
        struct rpc_stream *stream = begin(1, cases[i].agent);
        look();
        use(cases[i].line, cases[i].more);
        look();
        assert_int_equal(world.why, cases[i].why);
        end_call();
        rpc_pump(&peer);
        rpc_stream_free(stream);
    }
}

static void many_are_asked_in_pieces(void **state)
{
    (void)state;
    use("alice acme", "");
    struct rpc_stream *stream = begin(MANY, NULL);
    look();
    use("bob acme", "");
    fake.now_ns += LOOK_MS * SL_NS_PER_MS;
    sl_fake_loop_turn(&fake);
    assert_int_equal(world.n_revoked, PIECE);
    sl_fake_loop_turn(&fake);
    assert_int_equal(world.n_revoked, 2 * PIECE);
    assert_true(sl_fake_loop_run(&fake));
    assert_int_equal(world.n_revoked, MANY);
    rpc_stream_free(stream);
}

static void a_table_that_comes_in_between_counts_from_there_on(void **state)
{
    (void)state;
    use("alice acme", "");
    struct rpc_stream *stream = begin(MANY, NULL);
    look();
    use("bob acme", "");
    fake.now_ns += LOOK_MS * SL_NS_PER_MS;
    sl_fake_loop_turn(&fake);
    use("alice acme", "");
    look();
    look();
    assert_int_equal(world.n_revoked, PIECE);
    use("alice acme agents=x", ""); /* those that were spared are asked by the next one */
    look();
    assert_int_equal(world.n_revoked, PIECE);
    use("bob acme", "");
    look();
    assert_int_equal(world.n_revoked, MANY);
    rpc_stream_free(stream);
}

static void a_stream_that_goes_meanwhile_is_not_asked(void **state)
{
    (void)state;
    use("alice acme", "");
    struct rpc_stream *stream = begin(MANY, NULL);
    look();
    world.takes_next = true;
    use("bob acme", "");
    fake.now_ns += LOOK_MS * SL_NS_PER_MS;
    sl_fake_loop_turn(&fake);
    sl_recheck_stop(&world.streams[MANY - 1]); /* is due */
    sl_recheck_stop(&world.streams[MANY - 1]);
    assert_true(sl_fake_loop_run(&fake));
    assert_int_equal(world.n_revoked, MANY - 2);
    rpc_stream_free(stream);
}

static void who_came_when_nobody_was_asked_goes_when_somebody_is(void **state)
{
    (void)state;
    struct rpc_stream *stream = begin(1, "echo");
    look();
    look();
    assert_int_equal(world.n_revoked, 0);
    use("alice acme", "");
    look();
    assert_int_equal(world.n_revoked, 1);
    assert_int_equal(world.why, SL_IDENTITY_GONE);
    rpc_stream_free(stream);
}

static void without_streams_no_timer_runs(void **state)
{
    (void)state;
    use("alice acme", "");
    struct rpc_stream *stream = begin(2, NULL);
    const uint64_t due_ns = sl_loop_next_due_ns(&fake.base);
    assert_true(due_ns <= fake.now_ns + LOOK_MS * SL_NS_PER_MS);
    sl_recheck_stop(&world.streams[0]);
    assert_int_equal(sl_loop_next_due_ns(&fake.base), due_ns);
    sl_recheck_stop(&world.streams[1]);
    assert_true(sl_loop_next_due_ns(&fake.base) > due_ns);
    rpc_stream_free(stream);
}

static void without_memory_nothing_starts(void **state)
{
    (void)state;
    use("alice acme", "");
    world.has_no_memory = true;
    (void)rpc_log(&peer);
    rpc_stream_free(begin(1, NULL));
    assert_null(world.call);
    assert_non_null(strstr(rpc_log(&peer), "grpc-status=8"));
    world.has_no_memory = false;
    rpc_stream_free(begin(1, NULL));
    assert_non_null(world.call);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_new_table_is_asked_within_a_second_and_an_old_one_never),
        CASE(why_is_what_has_changed),
        CASE(many_are_asked_in_pieces),
        CASE(a_table_that_comes_in_between_counts_from_there_on),
        CASE(a_stream_that_goes_meanwhile_is_not_asked),
        CASE(who_came_when_nobody_was_asked_goes_when_somebody_is),
        CASE(without_streams_no_timer_runs),
        CASE(without_memory_nothing_starts),
    };
#undef CASE
    return cmocka_run_group_tests_name("recheck", tests, NULL, NULL);
}
