// install: off
/* Sockets and TLS: listeners, accepted and opened connections, on libuv's poll handles.
 *
 * A connection gives received bytes up and asks for output once a turn: on_pull fills a block
 * shared by the loop's connections, one write sends it. What the socket does not take is kept (at
 * most one block); nothing more is pulled until it is gone. TLS runs over memory BIOs in between.
 */
// install: on
#ifndef SL_SERVICE_NET_NET_H
#define SL_SERVICE_NET_NET_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_net_tls; /* a TLS context; counted, constant, shared by loops */

// install: off
struct sl_net_listener;
struct sl_net_conn;

enum { SL_NET_BLOCK_BYTES = 128 * 1024, SL_NET_NAME_BYTES = 128 };

enum sl_net_end {
    SL_NET_END_FIN,     /* the peer ended in order (TCP FIN or TLS close_notify) */
    SL_NET_END_RESET,   /* reset or another socket error */
    SL_NET_END_TLS,     /* handshake or record failure */
    SL_NET_END_TIMEOUT, /* handshake or connect timer */
    SL_NET_END_CLOSED   /* we closed it */
};

struct sl_net_callbacks {
    /* Ready for bytes: connected, and the TLS handshake (ALPN h2) is done. */
    void (*on_open)(struct sl_net_conn *conn, void *user_data);
    void (*on_bytes)(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data);
    /* Fills `room` with what to send and gives its size; 0: nothing now. Called once or more a turn
     * after sl_net_conn_want_write(), until it gives 0 or the socket is full. */
    size_t (*on_pull)(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data);
    /* The connection is over for reading and writing. Called exactly once, never inside another
     * call; the conn is freed by net after it returns. `err` is valid in the call. */
    void (*on_end)(
        struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data);
};

/* ---- TLS ------------------------------------------------------------------------------------- */

// install: on
/* TLS contexts, for sl_server_listen() and for channels. */

enum sl_net_client_auth {
    SL_NET_CLIENT_AUTH_OFF,
    SL_NET_CLIENT_AUTH_REQUEST,
    SL_NET_CLIENT_AUTH_REQUIRE
};

struct sl_net_tls_options {
    size_t struct_size;
    const char *cert_file; /* PEM chain; NULL on a client without certificate */
    const char *key_file;
    const char *ca_file; /* NULL: the system's (client), none (server) */
    enum sl_net_client_auth client_auth;
    bool skip_verify; /* client: accept any certificate (said loudly by the CLI) */
    const char *cert_pem, *key_pem, *ca_pem; /* instead of files; NULL: files */
};

/* TLS 1.2 (ECDHE and AEAD only) or newer, ALPN h2 required both ways, no renegotiation, no
 * compression; no resumed sessions where client certificates are asked for, so that each connection
 * shows one that counts. Owns: the caller, one reference. Thread: any. Fails: SL_INVALID_ARGUMENT a
 * file that cannot be read or does not fit (key and certificate), named; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_net_tls_new_server(
    const struct sl_net_tls_options *options, struct sl_net_tls **ret_tls, struct sl_error *err);
/* The same for channels; without a CA the system's are trusted. */
SL_CHECK enum sl_status sl_net_tls_new_client(
    const struct sl_net_tls_options *options, struct sl_net_tls **ret_tls, struct sl_error *err);
/* One reference more. Thread: any. */
struct sl_net_tls *sl_net_tls_ref(struct sl_net_tls *tls);
/* Gives one back; the last frees it. Accepts NULL; gives NULL. Thread: any. */
struct sl_net_tls *sl_net_tls_unref(struct sl_net_tls *tls);

// install: off
/* The names (SAN) of a certificate in DER: "uri:…", "dns:…" in lower case, "email:…", each
 * terminated, an empty one at the end. A name with a byte that is not visible ASCII, or with a
 * star, which nobody is called, is left out. With a URI that is left out, with over 64 names or 8
 * KiB none is given: that is nobody. Owns: the caller; sl_free(). Thread: any. Fails:
 * SL_INVALID_ARGUMENT no certificate; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_net_cert_names(struct sl_slice der, char **ret_names);

/* ---- Listening ------------------------------------------------------------------------------- */

struct sl_net_census; /* census.h */

struct sl_net_listen_options {
    const char *address;    /* "127.0.0.1:0", "[::]:50051" (dual stack), "unix:/run/sluice.sock" */
    struct sl_net_tls *tls; /* referenced; NULL: plaintext */
    const struct sl_limits *limits; /* copied */
    struct sl_net_census *census;   /* referenced; NULL: the listener counts for itself */
    struct sl_loop *const *loops;   /* accepted sockets go to the one with the fewest connections */
    size_t n_loops;
    /* Runs on the loop that got the connection, before any byte; gives the callbacks and their user
     * data (false: refuse, close at once). */
    bool (*on_accept)(
        struct sl_net_conn *conn,
        struct sl_loop *loop,
        void *user_data,
        const struct sl_net_callbacks **ret_callbacks,
        void **ret_conn_user);
    void *user_data;
    uint32_t send_buffer_bytes; /* SO_SNDBUF of accepted sockets; 0: the system's */
};

/* Binds and listens (SO_REUSEADDR, no SO_REUSEPORT) and accepts on loops[0]. At EMFILE accepting
 * pauses and goes on later, without a spin. Limits: connections, connections_per_address. Owns: the
 * caller; end with sl_net_listener_close(). Thread: loops[0], or before the loops run. Fails,
 * naming the address: SL_ALREADY_EXISTS in use; SL_PERMISSION_DENIED; SL_INVALID_ARGUMENT. */
SL_CHECK enum sl_status sl_net_listen(
    const struct sl_net_listen_options *options,
    struct sl_net_listener **ret_listener,
    struct sl_error *err);
/* The real address: "127.0.0.1:40123". */
const char *sl_net_listener_address(const struct sl_net_listener *listener);
uint16_t sl_net_listener_port(const struct sl_net_listener *listener);
/* New connections use this context from now on (certificate reload). */
void sl_net_listener_set_tls(struct sl_net_listener *listener, struct sl_net_tls *tls);
/* Those of accepting, and of the connections that are accepted from now on. Copies them. */
void sl_net_listener_set_limits(struct sl_net_listener *listener, const struct sl_limits *limits);
/* Stops accepting; connections live on. Freed after on_closed (may be NULL). Thread: loops[0]. */
void sl_net_listener_close(
    struct sl_net_listener *listener, void (*on_closed)(void *user_data), void *user_data);
/* Connections now open through it, on all loops. */
size_t sl_net_listener_n_conns(const struct sl_net_listener *listener);

/* ---- Connections ----------------------------------------------------------------------------- */

struct sl_net_connect_options {
    const char *address;     /* as above, with a name allowed for the host: "localhost:50051" */
    struct sl_net_tls *tls;  /* NULL: plaintext */
    const char *server_name; /* SNI and check; NULL: the host of `address` */
    uint64_t timeout_ms;     /* name look-up, TCP and TLS together */
};

/* Starts connecting; on_open or on_end follows, never inside this call. Of a name with several
 * addresses the families take turns; each has 250 ms before the next is tried beside it, and the
 * first to answer wins. Thread: loop.
 * Fails: SL_INVALID_ARGUMENT the address; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_net_connect(
    struct sl_loop *loop,
    const struct sl_net_connect_options *options,
    const struct sl_net_callbacks *callbacks,
    void *user_data,
    struct sl_net_conn **ret_conn,
    struct sl_error *err);

struct sl_loop *sl_net_conn_loop(const struct sl_net_conn *conn);
/* Pull at the end of this turn. Cheap, any number of times a turn. */
void sl_net_conn_want_write(struct sl_net_conn *conn);
/* Stops and resumes reading from the socket (the peer floods us). */
void sl_net_conn_pause_read(struct sl_net_conn *conn, bool is_paused);
/* Bytes that the socket has not taken yet. */
size_t sl_net_conn_n_unsent(const struct sl_net_conn *conn);
/* Time of the last byte that the socket took or gave, for stall and keepalive timers. */
uint64_t sl_net_conn_last_write_ns(const struct sl_net_conn *conn);
uint64_t sl_net_conn_last_read_ns(const struct sl_net_conn *conn);
/* "127.0.0.1:53220", "unix"; for logs. */
const char *sl_net_conn_peer(const struct sl_net_conn *conn);
bool sl_net_conn_is_tls(const struct sl_net_conn *conn);
/* The peer's verified certificate as DER, empty: none. Valid as long as the conn. */
struct sl_slice sl_net_conn_peer_cert(const struct sl_net_conn *conn);
/* Ends it in order: what is pulled and unsent goes out, shutdown, read and discard for at most
 * linger (CM-7), close; then on_end(CLOSED). With `now`: at once. Harmless when it is ending. */
void sl_net_conn_close(struct sl_net_conn *conn, bool now);

// install: on
#endif
