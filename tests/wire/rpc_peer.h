/* A gRPC client for tests, joined in memory to a server's connection: a bare HTTP/2 session on one
 * side, sl_conn on the other. What the client sees is in the HTTP/2 transcript, messages apart. */
#ifndef SL_TESTS_WIRE_RPC_PEER_H
#define SL_TESTS_WIRE_RPC_PEER_H

#include "runtime/base/buf.h"
#include "service/rpc/conn.h"
#include "tests/wire/h2_pair.h"

enum { RPC_OUT_BYTES = 1 << 20 };

/* One call of the client. */
struct rpc_stream {
    struct sl_h2_stream *stream;
    struct h2_body body;
    uint8_t out[RPC_OUT_BYTES];
    struct sl_buf in; /* DATA that came */
    size_t at;        /* how far rpc_next() has come */
    bool is_closed;
};

struct rpc_peer {
    struct h2_side *client;
    struct sl_conn *conn;
    uint64_t now_ns;
    size_t step; /* bytes at once; 0: all */
    bool is_over;
    size_t n_output; /* on_output of the connection */
    /* The n-th allocation inside the connection fails (1: the first; 0: none), and all that follow
     * when `fails_on`. */
    size_t fail_at;
    bool fails_on;
};
/* Allocations of the connection so far. */
size_t rpc_n_allocations(void);
/* What the test does between the two counts, and fails, like what happens inside the connection. */
void rpc_enter(const struct rpc_peer *peer);
void rpc_leave(void);

/* `conn_loop` may be NULL: level 1. Aborts without memory. */
void rpc_peer_open(struct rpc_peer *peer, struct sl_server *server, struct sl_loop *conn_loop);
/* The same with a client of h2_side_new() whose limits were changed, and before any byte went. */
void rpc_peer_open_with(
    struct rpc_peer *peer,
    struct sl_server *server,
    struct sl_loop *conn_loop,
    struct h2_side *client);
/* It may be closed already, or all zero. */
void rpc_peer_close(struct rpc_peer *peer);
/* Carries bytes both ways until there are none. */
void rpc_pump(struct rpc_peer *peer);
/* Moves the clock of both, runs what is due, and pumps. */
void rpc_advance_ms(struct rpc_peer *peer, uint64_t ms);

/* Opens a call; `extra` is "name", "value", …, NULL, and may replace the usual headers. May be
 * NULL.
 */
struct rpc_stream *rpc_open(struct rpc_peer *peer, const char *path, const char *const *extra);
void rpc_stream_free(struct rpc_stream *stream);
/* A message with its prefix. */
void rpc_send(struct rpc_stream *stream, const void *bytes, size_t size);
void rpc_send_raw(struct rpc_stream *stream, const void *bytes, size_t size);
/* Half-closes. */
void rpc_end(struct rpc_stream *stream);
/* A whole unary call: open, send, end, pump. */
struct rpc_stream *
rpc_unary(struct rpc_peer *peer, const char *path, const char *const *extra, const char *message);
/* The next whole message that came; false: none. */
bool rpc_next(struct rpc_stream *stream, struct sl_slice *ret_message);
/* What the client saw since the last call. */
const char *rpc_log(struct rpc_peer *peer);

#endif
