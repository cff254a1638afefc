/* TLS contexts: which versions, ciphers, certificates, and ALPN (CM-9). */
#include <stdatomic.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "runtime/base/sized.h"
#include "service/net/conn_impl.h"

static const char tls12_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const unsigned char alpn_h2[] = { 2, 'h', '2' };

/* ---- ALPN ------------------------------------------------------------------------------------ */

static int select_alpn(
    SSL *ssl,
    const unsigned char **ret_name,
    unsigned char *ret_size,
    const unsigned char *offered,
    unsigned int n_offered,
    void *user_data)
{
    (void)ssl;
    (void)user_data;
    for (unsigned int at = 0; at < n_offered; at += offered[at] + 1U) {
        if (offered[at] == 2 && n_offered - at > 2 && memcmp(offered + at + 1, "h2", 2) == 0) {
            *ret_name = offered + at + 1;
            *ret_size = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A client that offers no ALPN at all is refused here: the function above is not called for it. */
static int require_alpn(SSL *ssl, int *ret_alert, void *user_data)
{
    (void)user_data;
    const unsigned char *extension = NULL;
    size_t size = 0;
    if (SSL_client_hello_get0_ext(
            ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &extension, &size) == 1) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    *ret_alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

/* ---- Renegotiation ---------------------------------------------------------------------------
 */

/* OpenSSL refuses it by a warning, and tells nobody else. */
static void on_info(const SSL *ssl, int where, int code)
{
    if (where == SSL_CB_WRITE_ALERT && (code & 0xFF) == SSL_AD_NO_RENEGOTIATION) {
        sl_net_tls_refused_renegotiation(BIO_get_data(SSL_get_rbio(ssl)));
    }
}

/* ---- Certificates ---------------------------------------------------------------------------- */

/* A key with a password must not make OpenSSL ask on the terminal. */
// NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL's signature
static int no_password(char *room, int room_bytes, int is_writing, void *user_data)
{
    (void)room;
    (void)room_bytes;
    (void)is_writing;
    (void)user_data;
    return -1;
}

static enum sl_status fail_tls(struct sl_error *err, const char *what, const char *file)
{
    const unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);
    if (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE) {
        reason = "there is no such PEM block in it";
    }
    (void)sl_fail(
        err, SL_INVALID_ARGUMENT, "TLS: %s%s%s: %s", what, file == NULL ? "" : " in ",
        file == NULL ? "" : file, reason == NULL ? "cannot be read" : reason);
    if (err != NULL) {
        err->tls_error = code;
    }
    ERR_clear_error();
    return SL_INVALID_ARGUMENT;
}

static BIO *open_pem(const char *text, const char *file)
{
    return text != NULL ? BIO_new_mem_buf(text, -1) : BIO_new_file(file, "r");
}

/* PEM ends in an error that means "no more". */
static bool is_end_of_pem(void)
{
    const unsigned long code = ERR_peek_last_error();
    const bool is_end =
        ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (is_end) {
        ERR_clear_error();
    }
    return is_end;
}

static bool use_chain(SSL_CTX *ctx, BIO *pem)
{
    X509 *cert = PEM_read_bio_X509_AUX(pem, NULL, no_password, NULL);
    const bool is_used = cert != NULL && SSL_CTX_use_certificate(ctx, cert) == 1;
    X509_free(cert);
    if (!is_used) {
        return false;
    }
    for (;;) {
        X509 *next = PEM_read_bio_X509(pem, NULL, no_password, NULL);
        if (next == NULL) {
            return is_end_of_pem();
        }
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
            X509_free(next);
            return false;
        }
    }
}

static bool use_key(SSL_CTX *ctx, BIO *pem)
{
    EVP_PKEY *key = PEM_read_bio_PrivateKey(pem, NULL, no_password, NULL);
    const bool is_used = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    return is_used;
}

static bool use_authorities(SSL_CTX *ctx, BIO *pem)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    for (size_t n = 0;; n++) {
        X509 *cert = PEM_read_bio_X509(pem, NULL, no_password, NULL);
        if (cert == NULL) {
            return n > 0 && is_end_of_pem();
        }
        const bool is_used =
            X509_STORE_add_cert(store, cert) == 1 && SSL_CTX_add_client_CA(ctx, cert) == 1;
        X509_free(cert);
        if (!is_used) {
            return false;
        }
    }
}

typedef bool(use_fn)(SSL_CTX *ctx, BIO *pem);

static enum sl_status use_pem(
    SSL_CTX *ctx,
    use_fn *use,
    const char *text,
    const char *file,
    const char *what,
    struct sl_error *err)
{
    if (text == NULL && file == NULL) {
        return SL_OK;
    }
    ERR_clear_error();
    BIO *pem = open_pem(text, file);
    const bool is_used = pem != NULL && use(ctx, pem);
    BIO_free(pem);
    return is_used ? SL_OK : fail_tls(err, what, text == NULL ? file : NULL);
}

static enum sl_status
use_own_certificate(SSL_CTX *ctx, const struct sl_net_tls_options *options, struct sl_error *err)
{
    SL_TRY(use_pem(ctx, use_chain, options->cert_pem, options->cert_file, "certificate", err));
    SL_TRY(use_pem(ctx, use_key, options->key_pem, options->key_file, "private key", err));
    const bool has_cert = options->cert_pem != NULL || options->cert_file != NULL;
    if (has_cert && SSL_CTX_check_private_key(ctx) != 1) {
        return fail_tls(err, "the private key does not fit the certificate", NULL);
    }
    return SL_OK;
}

static enum sl_status use_verification(
    struct sl_net_tls *tls, const struct sl_net_tls_options *options, struct sl_error *err)
{
    SSL_CTX *ctx = tls->ctx;
    const bool has_ca = options->ca_pem != NULL || options->ca_file != NULL;
    SL_TRY(use_pem(ctx, use_authorities, options->ca_pem, options->ca_file, "authority", err));
    if (!tls->is_server) {
        if (!has_ca && SSL_CTX_set_default_verify_paths(ctx) != 1) {
            return fail_tls(err, "the system's authorities", NULL);
        }
        SSL_CTX_set_verify(ctx, options->skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
        return SL_OK;
    }
    if (options->client_auth == SL_NET_CLIENT_AUTH_OFF) {
        return SL_OK;
    }
    if (!has_ca) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "TLS: client certificates need an authority to check them");
    }
    /* A session that is resumed is not looked at again, and would outlive its certificate. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (SSL_CTX_set_num_tickets(ctx, 0) != 1) {
        return fail_tls(err, "tickets cannot be turned off", NULL);
    }
    const int strict =
        options->client_auth == SL_NET_CLIENT_AUTH_REQUIRE ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | strict, NULL);
    return SL_OK;
}

/* ---- Contexts -------------------------------------------------------------------------------- */

static bool set_rules(SSL_CTX *ctx)
{
    static const unsigned char session_context[] = "sluice";
    SSL_CTX_set_options(
        ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(
        ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                 SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, tls12_ciphers) == 1 &&
           SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1) == 1;
}

static bool set_callbacks(struct sl_net_tls *tls)
{
    if (tls->is_server) {
        SSL_CTX_set_alpn_select_cb(tls->ctx, select_alpn, NULL);
        SSL_CTX_set_client_hello_cb(tls->ctx, require_alpn, NULL);
        SSL_CTX_set_info_callback(tls->ctx, on_info);
        return true;
    }
    return SSL_CTX_set_alpn_protos(tls->ctx, alpn_h2, sizeof(alpn_h2)) == 0;
}

static enum sl_status new_tls(
    const struct sl_net_tls_options *options,
    bool is_server,
    struct sl_net_tls **ret_tls,
    struct sl_error *err)
{
    struct sl_net_tls *tls = sl_calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for TLS");
    }
    atomic_store(&tls->n_refs, 1);
    tls->is_server = is_server;
    tls->skip_verify = options->skip_verify;
    tls->bio = sl_net_tls_bio_new();
    tls->ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    enum sl_status status = SL_OK;
    if (tls->bio == NULL || tls->ctx == NULL || !set_rules(tls->ctx) || !set_callbacks(tls)) {
        ERR_clear_error();
        status = sl_fail(err, SL_RESOURCE_EXHAUSTED, "TLS: no context can be made");
    }
    status = status == SL_OK ? use_own_certificate(tls->ctx, options, err) : status;
    status = status == SL_OK ? use_verification(tls, options, err) : status;
    if (status != SL_OK) {
        (void)sl_net_tls_unref(tls);
        return status;
    }
    *ret_tls = tls;
    return SL_OK;
}

static enum sl_status read_options(
    const struct sl_net_tls_options *given,
    struct sl_net_tls_options *ret_options,
    struct sl_error *err)
{
    return sl_sized_read(
               ret_options, sizeof(*ret_options), given, given->struct_size, sizeof(*given))
               ? SL_OK
               : sl_fail(err, SL_INVALID_ARGUMENT, "TLS: options that this library does not know");
}

enum sl_status sl_net_tls_new_server(
    const struct sl_net_tls_options *options, struct sl_net_tls **ret_tls, struct sl_error *err)
{
    struct sl_net_tls_options all;
    SL_TRY(read_options(options, &all, err));
    options = &all;
    if ((options->cert_file == NULL && options->cert_pem == NULL) ||
        (options->key_file == NULL && options->key_pem == NULL)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "TLS: a server needs a certificate and its private key");
    }
    return new_tls(options, true, ret_tls, err);
}

enum sl_status sl_net_tls_new_client(
    const struct sl_net_tls_options *options, struct sl_net_tls **ret_tls, struct sl_error *err)
{
    struct sl_net_tls_options all;
    SL_TRY(read_options(options, &all, err));
    return new_tls(&all, false, ret_tls, err);
}

struct sl_net_tls *sl_net_tls_ref(struct sl_net_tls *tls)
{
    (void)atomic_fetch_add(&tls->n_refs, 1);
    return tls;
}

struct sl_net_tls *sl_net_tls_unref(struct sl_net_tls *tls)
{
    if (tls != NULL && atomic_fetch_sub(&tls->n_refs, 1) == 1) {
        SSL_CTX_free(tls->ctx);
        BIO_meth_free(tls->bio);
        (void)sl_free(tls);
    }
    return NULL;
}
