/* Requests of another protocol than gRPC on the same port, answered in one piece: what the server
 * would refuse with 415 (ADM-4) goes to a function of the user's, when there is one. The framing of
 * gRPC, deadlines, interceptors and quotas are not theirs; the limits of HTTP/2 are. */
#ifndef SL_SERVICE_RPC_PLAIN_H
#define SL_SERVICE_RPC_PLAIN_H

#include "runtime/base/slice.h"

struct sl_server;

/* Valid in the call only. */
struct sl_plain_request {
    struct sl_slice method, path;
    struct sl_slice content_type; /* data NULL: none */
};

struct sl_plain_reply {
    const char *http_status;  /* "200"; a constant */
    const char *content_type; /* a constant */
    struct sl_slice body;     /* must stay as it is for the server's life */
};

/* Gives true and the reply, or false: 415. Runs on the connection's loop when the headers have
 * come, and must not block; the reply goes out when the request has ended, whose body is dropped. A
 * request that has not ended within the limit `stall`, and a reply of which nothing is taken for so
 * long, is reset. */
typedef bool(sl_plain_fn)(
    const struct sl_plain_request *request, struct sl_plain_reply *ret_reply, void *user_data);

/* Before the server starts. `user_data` is borrowed for the server's life. */
void sl_server_set_plain(struct sl_server *server, sl_plain_fn *fn, void *user_data);

#endif
