/* A client's channel without sockets: service/net/net.h as the client uses it, played here, with a
 * clock that the test moves. The other end is a bare HTTP/2 session that answers as the test says,
 * or a server of ours. Linked before sl_net. One rig at a time. */
#ifndef SL_TESTS_WIRE_CLIENT_RIG_H
#define SL_TESTS_WIRE_CLIENT_RIG_H

#include "service/net/net.h"
#include "service/rpc/client.h"
#include "service/rpc/conn.h"
#include "tests/fake/fake_loop.h"
#include "tests/wire/h2_pair.h"

enum { RIG_CONNS = 64, RIG_ANSWERS = 16, RIG_BODY_BYTES = 1 << 21 };

/* What a request gets once it has come to its end; the last one repeats. */
enum rig_answer_kind {
    RIG_OK,            /* headers, one empty message, trailers with status 0 */
    RIG_TRAILERS_ONLY, /* `status`, and `fields` */
    RIG_LATE,          /* headers, then trailers with `status` */
    RIG_HTTP,          /* `status` is HTTP's; no gRPC */
    RIG_RESET,         /* RST_STREAM with `status` */
    RIG_LOSE,          /* the connection goes */
    RIG_LEAVE,         /* GOAWAY that does not count this stream */
    RIG_SILENCE
};
struct rig_answer {
    enum rig_answer_kind kind;
    const char *status;
    const char *fields[8]; /* name, value, …; with headers of RIG_OK and RIG_TRAILERS_ONLY */
    uint32_t code;         /* RIG_RESET */
    bool at_once;          /* without waiting for the end of the request */
};

/* What happens to who connects. */
enum rig_door { RIG_OPEN, RIG_CLOSED, RIG_NOBODY /* no answer at all */ };

/* What a server does behind its SETTINGS. */
enum rig_manner {
    RIG_STAYS,
    RIG_LEAVES,       /* GOAWAY, in the same bytes */
    RIG_LEAVES_LATER, /* GOAWAY, in the next */
    RIG_DROPS         /* the connection ends */
};

/* The server's end of a connection. */
struct rig_conn {
    struct sl_net_conn *net;
    struct h2_side *side; /* NULL: `server` */
    struct sl_conn *server;
    uint8_t body[RIG_BODY_BYTES]; /* DATA of the newest request */
    size_t n_body;
    bool is_over;
    bool is_mute; /* nothing that it says arrives */
};

struct client_rig {
    struct sl_fake_loop loop;
    struct sl_limits limits;        /* of the channel; before client_rig_channel() */
    struct sl_limits server_limits; /* before the connection */
    struct sl_channel *channel;
    struct sl_server *server; /* not NULL: connections are to it */
    enum rig_door door;
    enum rig_manner manner;
    bool is_mute; /* new connections are: only client_rig_say() arrives */
    size_t n_connects;
    struct rig_conn *conns[RIG_CONNS]; /* those that were opened, in order */
    size_t n_conns;
    const struct rig_answer *answers;
    size_t n_answers;
    size_t n_requests; /* that have come to their end, or got an answer */
};

void client_rig_init(struct client_rig *rig);
/* With the rig's loop and limits; `options` may be NULL. */
void client_rig_channel(struct client_rig *rig, const struct sl_channel_options *options);
void client_rig_script(struct client_rig *rig, const struct rig_answer *answers, size_t n);
/* Until nothing is left to do now. */
void client_rig_turn(struct client_rig *rig);
void client_rig_advance_ms(struct client_rig *rig, uint64_t ms);
/* The connection ends from the server's side. */
void client_rig_lose(struct client_rig *rig, size_t conn);
/* Raw frames arrive from the server. */
void client_rig_say(struct rig_conn *conn, const char *bytes, size_t size);
/* Lines that the server of the newest connection has seen since the last call. */
const char *client_rig_log(struct client_rig *rig);
void client_rig_done(struct client_rig *rig);

/* Sends a message and half-closes. */
struct sl_client_call *client_rig_call(
    struct client_rig *rig,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    const char *message);

#endif
