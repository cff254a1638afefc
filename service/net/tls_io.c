/* One TLS connection. OpenSSL reads and writes through a BIO of ours, over the loop's shared
 * blocks, so that an idle connection holds no buffers. */
#include <arpa/inet.h>
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "runtime/base/metrics.h"
#include "service/net/conn_impl.h"

/* A client that wants to renegotiate asks once, and goes on or gives up. */
enum { RENEGOTIATIONS_MAX = 3 };

/* ---- The BIO --------------------------------------------------------------------------------- */

static int bio_write(BIO *bio, const char *data, int size)
{
    const struct sl_net_conn *conn = BIO_get_data(bio);
    struct sl_net_scratch *scratch = conn->scratch;
    BIO_clear_retry_flags(bio);
    if (size < 0 || (size_t)size > sizeof(scratch->cipher) - scratch->n_cipher) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(scratch->cipher + scratch->n_cipher, data, (size_t)size);
    scratch->n_cipher += (size_t)size;
    return size;
}

static int bio_read(BIO *bio, char *room, int room_bytes)
{
    struct sl_net_conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (conn->tls_in.size == 0 || room_bytes <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const size_t n =
        conn->tls_in.size < (size_t)room_bytes ? conn->tls_in.size : (size_t)room_bytes;
    memcpy(room, conn->tls_in.data, n);
    conn->tls_in = sl_slice_of(conn->tls_in.data + n, conn->tls_in.size - n);
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *sl_net_tls_bio_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "sluice");
    if (method != NULL) {
        (void)BIO_meth_set_write(method, bio_write);
        (void)BIO_meth_set_read(method, bio_read);
        (void)BIO_meth_set_ctrl(method, bio_ctrl);
    }
    return method;
}

/* ---- A session ------------------------------------------------------------------------------- */

static bool is_numeric(const char *host)
{
    unsigned char room[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, room) == 1 || inet_pton(AF_INET6, host, room) == 1;
}

/* SNI, and the name that the certificate must have. */
static bool set_server_name(SSL *ssl, const char *name)
{
    if (is_numeric(name)) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    }
    char host[SL_NET_HOST_BYTES]; /* OpenSSL's macro takes no const text */
    const int n = snprintf(host, sizeof(host), "%s", name);
    return n > 0 && (size_t)n < sizeof(host) && SSL_set_tlsext_host_name(ssl, host) == 1 &&
           SSL_set1_host(ssl, host) == 1;
}

enum sl_status sl_net_tls_attach(struct sl_net_conn *conn, const char *server_name)
{
    ERR_clear_error();
    conn->ssl = SSL_new(conn->tls->ctx);
    BIO *bio = conn->ssl == NULL ? NULL : BIO_new(conn->tls->bio);
    if (bio == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    SSL_set_bio(conn->ssl, bio, bio);
    if (conn->tls->is_server) {
        SSL_set_accept_state(conn->ssl);
        return SL_OK;
    }
    SSL_set_connect_state(conn->ssl);
    return set_server_name(conn->ssl, server_name) ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

static enum sl_net_tls_result result_of(struct sl_net_conn *conn, int rc)
{
    switch (SSL_get_error(conn->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return SL_NET_TLS_WAIT;
    case SSL_ERROR_ZERO_RETURN:
        return SL_NET_TLS_END;
    default:
        conn->tls_error = ERR_peek_last_error();
        ERR_clear_error();
        return SL_NET_TLS_FAILED;
    }
}

/* The verified certificate of the peer, for the owner. */
static enum sl_net_tls_result note_peer_cert(struct sl_net_conn *conn)
{
    if (SSL_get_verify_mode(conn->ssl) == SSL_VERIFY_NONE ||
        SSL_get_verify_result(conn->ssl) != X509_V_OK) {
        return SL_NET_TLS_OK;
    }
    X509 *cert = SSL_get1_peer_certificate(conn->ssl);
    if (cert == NULL) {
        return SL_NET_TLS_OK;
    }
    enum sl_net_tls_result result = SL_NET_TLS_FAILED;
    const int size = i2d_X509(cert, NULL);
    if (size > 0 && (conn->peer_cert_bytes = sl_alloc((size_t)size)) != NULL) {
        unsigned char *room = conn->peer_cert_bytes;
        conn->peer_cert = sl_slice_of(conn->peer_cert_bytes, (size_t)i2d_X509(cert, &room));
        result = SL_NET_TLS_OK;
    }
    X509_free(cert);
    return result;
}

enum sl_net_tls_result sl_net_tls_handshake(struct sl_net_conn *conn)
{
    ERR_clear_error();
    const int rc = SSL_do_handshake(conn->ssl);
    if (rc != 1) {
        return result_of(conn, rc);
    }
    const unsigned char *name = NULL;
    unsigned int size = 0;
    SSL_get0_alpn_selected(conn->ssl, &name, &size);
    if (size != 2 || memcmp(name, "h2", 2) != 0) {
        return SL_NET_TLS_FAILED; /* a server that does not select it is no HTTP/2 server */
    }
    return note_peer_cert(conn);
}

bool sl_net_tls_is_refused(const struct sl_net_conn *conn)
{
    return ERR_GET_LIB(conn->tls_error) == ERR_LIB_SSL &&
           ERR_GET_REASON(conn->tls_error) >= SSL_AD_REASON_OFFSET;
}

const char *sl_net_tls_fault(const struct sl_net_conn *conn)
{
    const long verified = conn->ssl == NULL ? X509_V_OK : SSL_get_verify_result(conn->ssl);
    if (verified != X509_V_OK &&
        ERR_GET_REASON(conn->tls_error) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        return X509_verify_cert_error_string(verified);
    }
    if (conn->tls_error == 0 && conn->ssl != NULL && SSL_is_init_finished(conn->ssl)) {
        return "the peer does not choose HTTP/2 (ALPN)";
    }
    return conn->tls_error == 0 ? NULL : ERR_reason_error_string(conn->tls_error);
}

void sl_net_tls_refused_renegotiation(struct sl_net_conn *conn)
{
    SL_METRIC_ADD(sluice_refusals, 1, "tls", "renegotiation");
    conn->n_renegotiations++;
}

bool sl_net_tls_is_flooded(const struct sl_net_conn *conn)
{
    return conn->n_renegotiations > RENEGOTIATIONS_MAX;
}

enum sl_net_tls_result sl_net_tls_read(struct sl_net_conn *conn, size_t *ret_size)
{
    ERR_clear_error();
    const int rc =
        SSL_read_ex(conn->ssl, conn->scratch->plain, sizeof(conn->scratch->plain), ret_size);
    if (sl_net_tls_is_flooded(conn)) {
        ERR_clear_error();
        conn->tls_error = ERR_PACK(ERR_LIB_SSL, 0, SSL_R_NO_RENEGOTIATION);
        return SL_NET_TLS_FAILED;
    }
    return rc == 1 ? SL_NET_TLS_OK : result_of(conn, rc);
}

enum sl_net_tls_result sl_net_tls_write(struct sl_net_conn *conn, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) { /* each call makes one record */
        size_t n = 0;
        ERR_clear_error();
        const int rc = SSL_write_ex(conn->ssl, data + at, size - at, &n);
        if (rc != 1) {
            return result_of(conn, rc);
        }
        at += n;
    }
    return SL_NET_TLS_OK;
}

void sl_net_tls_shutdown(struct sl_net_conn *conn)
{
    ERR_clear_error();
    (void)SSL_shutdown(conn->ssl);
    ERR_clear_error();
}
