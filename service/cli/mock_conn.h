/* One HTTP/1.1 connection of `sluice mock-model`: reads a request, plays the scenario into the
 * answer.
 *
 *   POST …/chat/completions   the scenario, as OpenAI's chat completions (streaming or whole)
 *   GET  …/models             one model
 *   GET  /stats               what the server saw: see struct sl_mock_stats
 *
 * Pieces are played only while less than 64 KiB wait for the socket: the reader's window holds the
 * model back. */
#ifndef SL_SERVICE_CLI_MOCK_CONN_H
#define SL_SERVICE_CLI_MOCK_CONN_H

#include "runtime/base/limits.h"
#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "runtime/model/scenario.h"
#include "service/net/net.h"

/* What a test of backpressure or cancel looks at. */
struct sl_mock_stats {
    uint64_t requests;  /* chat completions that were started */
    uint64_t completed; /* whole answers handed to the socket */
    uint64_t aborted;   /* answers that the client broke off */
    uint64_t active;
    uint64_t bytes_accepted; /* of answers, that the sockets took */
};

/* A request that was seen: the same body again is the next attempt. */
enum { SL_MOCK_SEEN = 256 };

struct sl_mock_seen {
    uint64_t hash;
    uint32_t n;
};

struct sl_mock {
    struct sl_loop *loop;
    const struct sl_scenario *scenario;
    const struct sl_limits *limits;
    struct sl_mock_stats stats;
    const char *api_key; /* NULL: any is accepted; otherwise 401 for another */
    uint64_t next_id;
    bool is_quiet;
    struct sl_list conns; /* open connections */
    struct sl_mock_seen seen[SL_MOCK_SEEN];
    size_t n_seen;
};

void sl_mock_init(struct sl_mock *mock);
/* Closes every connection at once; on_end follows for each. */
void sl_mock_close(struct sl_mock *mock);

/* For sl_net_listen_options.on_accept: `user_data` is a struct sl_mock. */
bool sl_mock_accept(
    struct sl_net_conn *conn,
    struct sl_loop *loop,
    void *user_data,
    const struct sl_net_callbacks **ret_callbacks,
    void **ret_conn_user);

#endif
