/* What the tests of calls over rpc_peer ask of their server and of what the client saw. */
#ifndef SL_TESTS_UNIT_TEST_RPC_RIG_H
#define SL_TESTS_UNIT_TEST_RPC_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/rpc/server.h"
#include "tests/wire/rpc_peer.h"

/* Owns: the caller. */
static inline struct sl_server *new_server(const struct sl_limits *limits)
{
    const struct sl_server_options options = { .struct_size = sizeof(options), .limits = limits };
    struct sl_server *server = NULL;
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    return server;
}

static inline void add_raw(
    struct sl_server *server,
    const char *path,
    enum sl_method_kind kind,
    sl_raw_fn *handler,
    void *user_data)
{
    assert_int_equal(sl_server_add_raw(server, path, kind, handler, user_data), SL_OK);
}

static inline struct sl_server_stats stats_of(struct sl_server *server)
{
    struct sl_server_stats stats;
    sl_server_stats(server, &stats);
    return stats;
}

/* `expected` is part of what the client saw since its log was read last. */
static inline void assert_log(struct rpc_peer *peer, const char *expected)
{
    const char *log = rpc_log(peer);
    if (strstr(log, expected) == NULL) {
        fail_msg("expected\n%s\nin\n%s", expected, log);
    }
}

static inline void assert_message(struct rpc_stream *stream, const char *text)
{
    struct sl_slice message;
    assert_true(rpc_next(stream, &message));
    if (!sl_slice_equals(message, text)) {
        fail_msg("message \"%.*s\", expected \"%s\"", SL_SLICE_FMT(message), text);
    }
}

#endif
