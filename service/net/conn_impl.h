/* The insides of a connection, shared by the files of this room.
 *
 *   CONNECTING ─▶ HANDSHAKE ─▶ OPEN ─▶ DRAINING ─▶ LINGER ─▶ ENDED
 *      client       TLS                 close()    CM-7       on_end is due
 * From each state a fault leads to ENDED at once. */
#ifndef SL_SERVICE_NET_CONN_IMPL_H
#define SL_SERVICE_NET_CONN_IMPL_H

#include <openssl/ssl.h>
#include <uv.h>

#include "service/net/address.h"
#include "service/net/net.h"
#include "service/net/scratch.h"

enum sl_net_state {
    SL_NET_CONNECTING,
    SL_NET_HANDSHAKE,
    SL_NET_OPEN,
    SL_NET_DRAINING,
    SL_NET_LINGER,
    SL_NET_ENDED
};

/* A poll handle outlives its connection until libuv has closed it. */
struct sl_net_poll {
    uv_poll_t uv;
    struct sl_net_conn *conn; /* NULL: closing */
};

struct sl_net_conn {
    uint32_t magic;
    enum sl_net_state state;
    struct sl_loop *loop;
    struct sl_net_scratch *scratch;
    const struct sl_net_callbacks *callbacks; /* NULL: nobody is told */
    void *user_data;
    struct sl_net_poll *poll;
    int fd;
    int events; /* that the poll handle waits for */
    bool is_paused;
    bool wants_writable;
    bool was_cut; /* the socket did not take the last block whole: ask for less */
    bool is_handshake_failed;
    enum sl_net_end how; /* why it ended */
    int lost_errno;      /* not 0: the socket takes nothing any more, and the end is due */
    int sys_errno;
    unsigned long tls_error;
    const char *what; /* the sentence that goes with it */
    uint64_t linger_ms;
    uint64_t stall_ms; /* how long the socket may take nothing of what is kept; 0: for ever */
    uint64_t last_read_ns, last_write_ns;
    struct sl_timer timer; /* connect and handshake, stall, draining, linger: one after the other */
    struct sl_task flush, end;
    struct {
        uint8_t *data;
        size_t size, sent, capacity;
    } unsent; /* what the socket has not taken */
    struct sl_net_tls *tls;
    SSL *ssl;
    struct sl_slice tls_in;    /* encrypted bytes that OpenSSL has not read; in scratch->in */
    uint32_t n_renegotiations; /* that the peer asked for and did not get */
    struct sl_slice peer_cert;
    uint8_t *peer_cert_bytes;
    struct sl_net_listener *listener; /* accepted */
    size_t listener_loop;             /* index of the loop in the listener's list */
    uint8_t address_key[SL_NET_KEY_BYTES];
    struct sl_net_connecting *connecting; /* opened, until connected */
    char peer[64];
};

/* ---- conn.c ---------------------------------------------------------------------------------- */

/* NULL: no memory. The descriptor is taken by sl_net_conn_adopt(). */
SL_CHECK struct sl_net_conn *sl_net_conn_new(struct sl_loop *loop, uint64_t linger_ms);
/* Gives the connection its descriptor and poll handle. Fails: SL_RESOURCE_EXHAUSTED; `fd` is then
 * still the caller's. */
SL_CHECK enum sl_status sl_net_conn_adopt(struct sl_net_conn *conn, int fd);
/* The socket is connected: TLS begins, or on_open is called. */
void sl_net_conn_connected(struct sl_net_conn *conn, const char *server_name);
/* Marks it ended; on_end follows at the end of the turn. `what` is constant text. */
void sl_net_conn_end(
    struct sl_net_conn *conn, enum sl_net_end how, int sys_errno, const char *what);
/* At once, without on_end. */
void sl_net_conn_free(struct sl_net_conn *conn);
/* TCP_NODELAY and the rest; faults are ignored, a socket works without them. `timeout_ms`: how long
 * the peer's system may take nothing; Linux counts the time in which its program reads nothing. */
void sl_net_socket_tune(int fd, unsigned timeout_ms);

/* ---- connect.c ------------------------------------------------------------------------------- */

/* Ends what is being tried. Accepts NULL. */
void sl_net_connecting_free(struct sl_net_connecting *connecting);

/* ---- listener.c ------------------------------------------------------------------------------ */

/* An accepted connection is gone. */
void sl_net_listener_release(
    struct sl_net_listener *listener, size_t loop_index, const uint8_t key[SL_NET_KEY_BYTES]);

/* ---- tls_io.c: OpenSSL over scratch->in and scratch->cipher ------------------------------------
 */

enum sl_net_tls_result { SL_NET_TLS_OK, SL_NET_TLS_WAIT, SL_NET_TLS_END, SL_NET_TLS_FAILED };

/* What was wrong with a session that failed: the peer's certificate before OpenSSL's reason. NULL:
 * nothing is known. Constant text. */
const char *sl_net_tls_fault(const struct sl_net_conn *conn);
/* What failed is an alert of the peer: TLS 1.3 refuses a client after the client's handshake. */
bool sl_net_tls_is_refused(const struct sl_net_conn *conn);
/* Fails: SL_RESOURCE_EXHAUSTED. `server_name` for clients. */
SL_CHECK enum sl_status sl_net_tls_attach(struct sl_net_conn *conn, const char *server_name);
enum sl_net_tls_result sl_net_tls_handshake(struct sl_net_conn *conn);
/* The peer asked for a renegotiation: counts it. */
void sl_net_tls_refused_renegotiation(struct sl_net_conn *conn);
/* The peer has asked more often than a peer that takes the first answer may. */
bool sl_net_tls_is_flooded(const struct sl_net_conn *conn);
/* OK: `*ret_size` bytes are in scratch->plain. Fails also when the peer is_flooded. */
enum sl_net_tls_result sl_net_tls_read(struct sl_net_conn *conn, size_t *ret_size);
/* Encrypts everything into scratch->cipher. */
enum sl_net_tls_result sl_net_tls_write(struct sl_net_conn *conn, const uint8_t *data, size_t size);
void sl_net_tls_shutdown(struct sl_net_conn *conn);

/* ---- tls.c ----------------------------------------------------------------------------------- */

struct sl_net_tls {
    _Atomic uint32_t n_refs;
    SSL_CTX *ctx;
    BIO_METHOD *bio;
    bool is_server;
    bool skip_verify;
};

/* The method of the BIO that tls_io.c reads and writes through. NULL: no memory. */
SL_CHECK BIO_METHOD *sl_net_tls_bio_new(void);

#endif
