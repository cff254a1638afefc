/* A client and a server joined in memory, and the call that most tests of sessions make. */
#ifndef SL_TESTS_UNIT_TEST_H2_RIG_H
#define SL_TESTS_UNIT_TEST_H2_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/wire/h2_pair.h"

#define FIELD(n, v)                                                                                \
    {                                                                                              \
        .name = { (const uint8_t *)(n), sizeof(n) - 1 }, .value = {                                \
            (const uint8_t *)(v),                                                                  \
            sizeof(v) - 1                                                                          \
        }                                                                                          \
    }

static const struct sl_h2_header request[] = { FIELD(":method", "POST"), FIELD(":scheme", "http"),
                                               FIELD(":path", "/a.B/C"), FIELD(":authority", "x") };
static const struct sl_h2_header response[] = { FIELD(":status", "200") };
static const struct sl_h2_header end_fields[] = { FIELD("grpc-status", "0") };

struct pair {
    struct h2_side *client, *server;
};

static inline int pair_set_up(void **state)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    assert_non_null(pair);
    pair->client = h2_side_new();
    pair->server = h2_side_new();
    *state = pair;
    return 0;
}

static inline int pair_tear_down(void **state)
{
    struct pair *pair = *state;
    h2_side_free(pair->client);
    h2_side_free(pair->server);
    free(pair);
    return 0;
}

/* Limits of the two sides may be changed before. */
static inline void start(struct pair *pair)
{
    h2_side_start(pair->client, true);
    h2_side_start(pair->server, false);
    h2_pump(pair->client, pair->server, 0);
}

/* The client's stream; the server's is the last of server->streams. `body` NULL: a request without
 * one. */
static inline struct sl_h2_stream *open_stream(struct pair *pair, struct h2_body *body)
{
    struct sl_h2_stream *stream = NULL;
    assert_int_equal(
        sl_h2_request(
            pair->client->session, request, SL_COUNT(request), body == NULL ? NULL : &body->base,
            NULL, &stream),
        SL_OK);
    h2_pump(pair->client, pair->server, 0);
    return stream;
}

#endif
