/* An HTTP server for tests, on the test's own libuv loop. It reads whole requests and answers with
 * bytes that the test wrote, head included, in pieces of any size, and then ends, resets, hangs or
 * goes on for ever. It counts what its peer did. */
#ifndef SL_TESTS_FAKE_FAKE_HTTP_SERVER_H
#define SL_TESTS_FAKE_FAKE_HTTP_SERVER_H

#include <uv.h>

#include "runtime/base/buf.h"
#include "runtime/base/list.h"

enum sl_fake_http_end {
    SL_FAKE_KEEP,  /* waits for the next request */
    SL_FAKE_CLOSE, /* FIN */
    SL_FAKE_RESET, /* RST */
    SL_FAKE_HANG   /* says nothing more */
};

struct sl_fake_http_answer {
    const char *bytes;
    size_t size;  /* of them; only so many are sent */
    size_t piece; /* bytes a write; 0: all at once */
    enum sl_fake_http_end end;
    uint64_t reset_delay_ms; /* a reset overtakes bytes that the peer has not read yet */
    const char *endless;     /* repeated after the bytes, for ever; NULL: not */
};

struct sl_fake_http {
    uv_tcp_t listener;
    struct sl_list connections;
    uint16_t port;
    char url[64];                              /* "http://127.0.0.1:port/v1" */
    const struct sl_fake_http_answer *answers; /* the last one repeats */
    size_t n_answers;
    int send_buffer; /* SO_SNDBUF of connections; 0: the system's */
    size_t n_requests, n_connections;
    size_t n_open;         /* connections that neither side has ended */
    size_t n_peer_ended;   /* that the peer ended */
    uint64_t n_sent;       /* bytes that the sockets took */
    struct sl_buf request; /* the last one, head and body */
};

/* Aborts when it cannot listen. */
void sl_fake_http_open(struct sl_fake_http *server, uv_loop_t *loop);
/* Ends everything; the loop must turn once more afterwards. */
void sl_fake_http_close(struct sl_fake_http *server);
/* The last request as text. */
const char *sl_fake_http_request(struct sl_fake_http *server);

#endif
