#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>

#include "runtime/base/metrics.h"
#include "tests/unit/test_net_tls_rig.h"

/* ---- Two of ours ----------------------------------------------------------------------------- */

static void many_bytes_go_there_and_back_encrypted(void **state)
{
    struct world *world = *state;
    enum { SIZE = 3000001 };
    uint8_t *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 65521);
    }
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    world->server.echoes = true;
    world->client.out = bytes;
    world->client.n_out = SIZE;
    connect_with(world, tls_of(NULL, SL_NET_CLIENT_AUTH_OFF, false), "localhost");
    TURN_UNTIL(world, world->client.n_got == SIZE);
    assert_memory_equal(world->client.got, bytes, SIZE);
    assert_true(sl_net_conn_is_tls(world->client.conn));
    assert_int_equal(world->server.n_cert, 0);
    assert_true(world->client.n_cert > 0);
    free(bytes);
}

static void an_orderly_close_is_a_fin_for_the_peer(void **state)
{
    struct world *world = *state;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    world->client.out = (const uint8_t *)"last words";
    world->client.n_out = 10;
    connect_with(world, tls_of(NULL, SL_NET_CLIENT_AUTH_OFF, false), NULL); /* 127.0.0.1 */
    TURN_UNTIL(world, world->client.is_open && world->server.is_open);
    sl_net_conn_close(world->client.conn, false);
    TURN_UNTIL(world, world->client.is_over && world->server.is_over);
    assert_int_equal(world->server.n_got, 10);
    assert_int_equal(world->server.how, SL_NET_END_FIN);
    assert_int_equal(world->client.how, SL_NET_END_CLOSED);
}

static void a_client_certificate_reaches_the_owner(void **state)
{
    struct world *world = *state;
    unsigned char *der = NULL;
    const int size = i2d_X509(client_id.cert, &der);
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_REQUIRE, true));
    connect_with(world, tls_of(&client_id, SL_NET_CLIENT_AUTH_OFF, false), "localhost");
    TURN_UNTIL(world, world->server.is_open);
    assert_int_equal(world->server.n_cert, size);
    assert_memory_equal(world->server.cert, der, (size_t)size);
    OPENSSL_free(der);
}

static void without_the_required_certificate_nobody_gets_in(void **state)
{
    struct world *world = *state;
    start_log(SL_DEBUG);
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_REQUIRE, true));
    world->client.out = (const uint8_t *)"a request"; /* it fails to be written, too */
    world->client.n_out = 9;
    connect_with(world, tls_of(NULL, SL_NET_CLIENT_AUTH_OFF, false), "localhost");
    TURN_UNTIL(world, world->server.is_over && world->client.is_over);
    assert_false(world->server.is_open);
    assert_int_equal(world->server.how, SL_NET_END_TLS);
    assert_int_not_equal(world->server.tls_error, 0);
    assert_non_null(
        strstr(logged.text, "level=debug subject=net msg=\"TLS handshake failed\" peer="));
    assert_non_null(strstr(logged.text, "reason=\"peer did not return a certificate\""));
    /* TLS 1.3: the client is done when the refusal comes. */
    assert_true(world->client.is_open);
    assert_int_equal(world->client.how, SL_NET_END_TLS);
    assert_non_null(
        strstr(world->client.end_text, "the peer refused TLS: tlsv13 alert certificate required"));
}

static void touch_and_go(struct world *world)
{
    struct sl_error err = { .status = SL_OK };
    const struct sl_net_connect_options options = { .address =
                                                        sl_net_listener_address(world->listener),
                                                    .timeout_ms = 5000 };
    memset(&world->server, 0, sizeof(world->server));
    memset(&world->client, 0, sizeof(world->client));
    assert_int_equal(
        sl_net_connect(
            world->loop, &options, &callbacks, &world->client, &world->client.conn, &err),
        SL_OK);
    TURN_UNTIL(world, world->client.is_open);
    sl_net_conn_close(world->client.conn, true);
    TURN_UNTIL(world, world->server.is_over);
}

static void a_probe_without_bytes_is_logged_at_debug_only(void **state) /* CM-8 */
{
    struct world *world = *state;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    start_log(SL_INFO);
    touch_and_go(world);
    assert_string_equal(logged.text, "");
    start_log(SL_DEBUG);
    touch_and_go(world);
    assert_non_null(strstr(logged.text, "reason=\"closed by the peer\""));
}

static void a_requested_certificate_may_be_missing_but_not_false(void **state)
{
    struct world *world = *state;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_REQUEST, true));
    connect_with(world, tls_of(NULL, SL_NET_CLIENT_AUTH_OFF, false), "localhost");
    TURN_UNTIL(world, world->server.is_open);
    assert_int_equal(world->server.n_cert, 0);
    sl_net_conn_close(world->client.conn, true);
    TURN_UNTIL(world, world->server.is_over && world->client.is_over);
    memset(&world->server, 0, sizeof(world->server));
    memset(&world->client, 0, sizeof(world->client));
    (void)sl_net_tls_unref(world->client_tls);
    connect_with(world, tls_of(&stranger, SL_NET_CLIENT_AUTH_OFF, false), "localhost");
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(world->server.how, SL_NET_END_TLS);
}

static void expect_client_refuses(struct world *world, const char *server_name, const char *fault)
{
    connect_with(world, tls_of(NULL, SL_NET_CLIENT_AUTH_OFF, false), server_name);
    TURN_UNTIL(world, world->client.is_over);
    assert_false(world->client.is_open);
    assert_int_equal(world->client.how, SL_NET_END_TLS);
    if (strstr(world->client.end_text, fault) == NULL) {
        fail_msg("expected %s in %s", fault, world->client.end_text);
    }
}

static void a_wrong_name_is_refused(void **state)
{
    listen_with(*state, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    expect_client_refuses(*state, "example.org", "handshake failed: hostname mismatch");
}

static void an_unknown_authority_is_refused(void **state)
{
    listen_with(*state, tls_of(&stranger, SL_NET_CLIENT_AUTH_OFF, true));
    expect_client_refuses(*state, "localhost", "handshake failed: self-signed certificate");
}

static void a_new_certificate_serves_new_connections(void **state)
{
    struct world *world = *state;
    listen_with(world, tls_of(&stranger, SL_NET_CLIENT_AUTH_OFF, true));
    struct sl_net_tls *fresh = tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true);
    sl_net_listener_set_tls(world->listener, fresh);
    (void)sl_net_tls_unref(fresh);
    connect_with(world, tls_of(NULL, SL_NET_CLIENT_AUTH_OFF, false), "localhost");
    TURN_UNTIL(world, world->client.is_open);
}

static void bad_files_are_named(void **state)
{
    (void)state;
    struct sl_error err = { .status = SL_OK };
    struct sl_net_tls *tls = NULL;
    const struct sl_net_tls_options missing = { .cert_file = "/no/such.pem",
                                                .key_file = "/no/key.pem" };
    assert_int_equal(sl_net_tls_new_server(&missing, &tls, &err), SL_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "/no/such.pem"));
    const struct sl_net_tls_options mixed = { .cert_pem = server_id.cert_pem,
                                              .key_pem = stranger.key_pem };
    assert_int_equal(sl_net_tls_new_server(&mixed, &tls, &err), SL_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "key"));
    const struct sl_net_tls_options no_key = { .cert_pem = server_id.cert_pem };
    assert_int_equal(sl_net_tls_new_server(&no_key, &tls, &err), SL_INVALID_ARGUMENT);
    const struct sl_net_tls_options no_ca = { .cert_pem = server_id.cert_pem,
                                              .key_pem = server_id.key_pem,
                                              .client_auth = SL_NET_CLIENT_AUTH_REQUIRE };
    assert_int_equal(sl_net_tls_new_server(&no_ca, &tls, &err), SL_INVALID_ARGUMENT);
    assert_int_equal(ERR_peek_error(), 0);
}

/* ---- A foreign client -------------------------------------------------------------------------
 */

struct foreign {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
};

static int raw_socket(struct world *world)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons(sl_net_listener_port(world->listener)),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void foreign_init(struct world *world, struct foreign *foreign)
{
    foreign->fd = raw_socket(world);
    foreign->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(foreign->ctx, 0);
    foreign->ssl = SSL_new(foreign->ctx);
    SSL_set_fd(foreign->ssl, foreign->fd);
}

static void foreign_done(struct foreign *foreign)
{
    SSL_free(foreign->ssl);
    SSL_CTX_free(foreign->ctx);
    (void)close(foreign->fd);
    ERR_clear_error();
}

/* The handshake, with the loop turning; true: done. */
static bool foreign_connects(struct world *world, struct foreign *foreign)
{
    for (int i = 0; i < MAX_STEPS; i++) {
        ERR_clear_error();
        const int rc = SSL_connect(foreign->ssl);
        if (rc == 1) {
            return true;
        }
        if (SSL_get_error(foreign->ssl, rc) != SSL_ERROR_WANT_READ) {
            return false;
        }
        sl_loop_uv_step(world->uv, 20);
    }
    return false;
}

static const unsigned char alpn_h2[] = { 2, 'h', '2' };
static const unsigned char alpn_h1[] = { 8, 'h', 't', 't', 'p', '/', '1', '.', '1' };

static void expect_foreign(
    struct world *world,
    int version,
    const char *ciphers,
    const unsigned char *alpn,
    unsigned size,
    bool connects)
{
    struct foreign foreign;
    memset(&world->server, 0, sizeof(world->server));
    foreign_init(world, &foreign);
    SSL_set_min_proto_version(foreign.ssl, version);
    SSL_set_max_proto_version(foreign.ssl, version);
    if (ciphers != NULL) {
        assert_int_equal(SSL_set_cipher_list(foreign.ssl, ciphers), 1);
    }
    if (alpn != NULL) {
        assert_int_equal(SSL_set_alpn_protos(foreign.ssl, alpn, size), 0);
    }
    assert_int_equal(foreign_connects(world, &foreign), connects);
    if (connects) {
        TURN_UNTIL(world, world->server.is_open);
    }
    foreign_done(&foreign);
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(world->server.is_open, connects);
}

/* CM-9, AT-19 */
static void only_modern_tls_with_alpn_h2_is_spoken(void **state)
{
    struct world *world = *state;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    expect_foreign(world, TLS1_3_VERSION, NULL, alpn_h2, sizeof(alpn_h2), true);
    expect_foreign(world, TLS1_2_VERSION, NULL, alpn_h2, sizeof(alpn_h2), true);
    expect_foreign(world, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", alpn_h2, 3, false); /* CBC */
    expect_foreign(world, TLS1_1_VERSION, NULL, alpn_h2, sizeof(alpn_h2), false);
    expect_foreign(world, TLS1_3_VERSION, NULL, NULL, 0, false);
    expect_foreign(world, TLS1_3_VERSION, NULL, alpn_h1, sizeof(alpn_h1), false);
    expect_foreign(world, TLS1_2_VERSION, NULL, NULL, 0, false);
}

/* Every cipher that this OpenSSL has for TLS 1.2, one after the other. */
static void try_ciphers(struct world *world)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(ctx, 0);
    assert_int_equal(SSL_CTX_set_cipher_list(ctx, "ALL:!aNULL:!eNULL"), 1);
    const STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ctx);
    int n_spoken = 0;
    int n_refused = 0;
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
        const char *name = SSL_CIPHER_get_name(cipher);
        struct foreign foreign;
        if (strcmp(SSL_CIPHER_get_version(cipher), "TLSv1.3") == 0) {
            continue;
        }
        memset(&world->server, 0, sizeof(world->server));
        foreign_init(world, &foreign);
        SSL_set_max_proto_version(foreign.ssl, TLS1_2_VERSION);
        assert_int_equal(SSL_set_cipher_list(foreign.ssl, name), 1);
        SSL_set_alpn_protos(foreign.ssl, alpn_h2, sizeof(alpn_h2));
        const bool is_spoken = foreign_connects(world, &foreign);
        foreign_done(&foreign);
        TURN_UNTIL(world, world->server.is_over);
        n_spoken += is_spoken;
        n_refused += !is_spoken;
        if (is_spoken &&
            (SSL_CIPHER_is_aead(cipher) == 0 || SSL_CIPHER_get_kx_nid(cipher) != NID_kx_ecdhe)) {
            fail_msg("%s is spoken", name);
        }
    }
    SSL_CTX_free(ctx);
    assert_true(n_spoken >= 3); /* AES of both sizes, ChaCha20 */
    assert_true(n_refused > 10);
}

static void tls_1_2_has_ecdhe_and_aead_only(void **state) /* CM-9 */
{
    listen_with(*state, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    try_ciphers(*state);
}

static void tls_1_2_has_ecdhe_and_aead_only_with_rsa_too(void **state) /* CM-9 */
{
    listen_with(*state, tls_of(&rsa_id, SL_NET_CLIENT_AUTH_OFF, true));
    try_ciphers(*state);
}

static void foreign_speaks_1_2(struct world *world, struct foreign *foreign)
{
    free(world->server.got);
    memset(&world->server, 0, sizeof(world->server));
    foreign_init(world, foreign);
    assert_int_equal(SSL_set_cipher_list(foreign->ssl, "ECDHE-ECDSA-AES128-GCM-SHA256"), 1);
    SSL_set_max_proto_version(foreign->ssl, TLS1_2_VERSION);
    SSL_set_alpn_protos(foreign->ssl, alpn_h2, sizeof(alpn_h2));
    assert_true(foreign_connects(world, foreign));
    TURN_UNTIL(world, world->server.is_open);
}

static uint64_t n_renegotiations(void)
{
    const char *const labels[] = { "tls", "renegotiation" };
    return sl_metric_value(sl_metric_series(SL_M_sluice_refusals, labels));
}

static uint64_t n_floods(void)
{
    const char *const labels[] = { "renegotiation_flood" };
    return sl_metric_value(sl_metric_series(SL_M_sluice_faults, labels));
}

static void nobody_may_renegotiate(void **state) /* CM-9, AT-19 */
{
    struct world *world = *state;
    struct foreign foreign;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    foreign_speaks_1_2(world, &foreign);
    const uint64_t n_refused = n_renegotiations();
    const uint64_t n_ended = n_floods();
    assert_int_equal(SSL_renegotiate(foreign.ssl), 1);
    ERR_clear_error();
    int rc = SSL_do_handshake(foreign.ssl); /* sends its hello */
    char byte;
    for (int i = 0;
         i < MAX_STEPS && rc <= 0 && SSL_get_error(foreign.ssl, rc) == SSL_ERROR_WANT_READ; i++) {
        sl_loop_uv_step(world->uv, 20);
        ERR_clear_error();
        rc = SSL_read(foreign.ssl, &byte, 1);
    }
    assert_int_equal(SSL_get_error(foreign.ssl, rc), SSL_ERROR_SSL);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    assert_false(world->server.is_over && world->server.how != SL_NET_END_FIN);
    foreign_done(&foreign);
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(n_renegotiations(), n_refused + 1);
    assert_int_equal(n_floods(), n_ended);
}

/* OpenSSL's client asks once and ends when it is refused. This one goes on: it makes its records
 * itself, with the keys that the handshake gave it. */
struct records {
    int fd;
    uint8_t key[16], salt[4];
    uint8_t n_sent; /* records under these keys */
};

static void records_init(struct records *records, const struct foreign *foreign)
{
    enum { LABEL = 13, RANDOM = 32, SECRET = 48 };
    uint8_t seed[LABEL + 2 * RANDOM] = "key expansion";
    uint8_t secret[SECRET];
    uint8_t keys[2 * sizeof(records->key) + 2 * sizeof(records->salt)]; /* of both directions */
    SSL_get_server_random(foreign->ssl, seed + LABEL, RANDOM);
    SSL_get_client_random(foreign->ssl, seed + LABEL + RANDOM, RANDOM);
    const size_t n = SSL_SESSION_get_master_key(SSL_get_session(foreign->ssl), secret, SECRET);
    assert_int_equal(n, SECRET);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, secret, SECRET),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
        OSSL_PARAM_construct_end()
    };
    assert_int_equal(EVP_KDF_derive(ctx, keys, sizeof(keys), params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    memcpy(records->key, keys, sizeof(records->key));
    memcpy(records->salt, keys + 2 * sizeof(records->key), sizeof(records->salt));
    records->fd = foreign->fd;
    records->n_sent = 1; /* the end of the handshake */
}

static void send_record(struct records *records, uint8_t type, const char *bytes, uint8_t size)
{
    enum { HEAD = 5, NUMBER = 8, TAG = 16, MOST = 64 };
    assert_true(size <= MOST);
    uint8_t record[HEAD + NUMBER + MOST + TAG] = { type, 3, 3, 0, (uint8_t)(NUMBER + size + TAG) };
    uint8_t nonce[4 + NUMBER] = { 0 };
    uint8_t also[NUMBER + HEAD] = { 0, 0, 0, 0, 0, 0, 0, records->n_sent, type, 3, 3, 0, size };
    memcpy(nonce, records->salt, 4);
    nonce[sizeof(nonce) - 1] = record[HEAD + NUMBER - 1] = records->n_sent++;
    uint8_t *room = record + HEAD + NUMBER;
    int n = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, records->key, nonce), 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, NULL, &n, also, sizeof(also)), 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, room, &n, (const uint8_t *)bytes, size), 1);
    assert_int_equal(EVP_EncryptFinal_ex(ctx, room + size, &n), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, room + size), 1);
    EVP_CIPHER_CTX_free(ctx);
    const size_t all = HEAD + NUMBER + (size_t)size + TAG;
    assert_int_equal(send(records->fd, record, all, MSG_NOSIGNAL), (ssize_t)all);
}

static void who_asks_to_renegotiate_again_and_again_is_closed(void **state) /* AT-19 */
{
    enum { HANDSHAKE = 22, DATA = 23, MAX = 3 };
    static const char hello[4] = { 1 }; /* is refused before anybody reads what is in it */
    struct world *world = *state;
    struct foreign foreign;
    struct records records;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    foreign_speaks_1_2(world, &foreign);
    records_init(&records, &foreign);
    const uint64_t n_refused = n_renegotiations();
    const uint64_t n_ended = n_floods();
    for (int i = 0; i < MAX; i++) {
        send_record(&records, HANDSHAKE, hello, sizeof(hello));
    }
    send_record(&records, DATA, "and now", 7);
    TURN_UNTIL(world, world->server.n_got == 7); /* refused, and served */
    assert_int_equal(n_renegotiations(), n_refused + MAX);
    assert_int_equal(n_floods(), n_ended);
    send_record(&records, HANDSHAKE, hello, sizeof(hello));
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(world->server.how, SL_NET_END_TLS);
    assert_non_null(strstr(world->server.end_text, "again and again: no renegotiation"));
    assert_int_equal(n_renegotiations(), n_refused + MAX + 1);
    assert_int_equal(n_floods(), n_ended + 1);
    foreign_done(&foreign);
    foreign_speaks_1_2(world, &foreign); /* another */
    foreign_done(&foreign);
    TURN_UNTIL(world, world->server.is_over);
}

/* One connection of a client with a certificate; gives the session that it could come again with,
 * NULL: none. */
static SSL_SESSION *foreign_session(struct world *world, int version)
{
    struct foreign foreign;
    char byte;
    size_t n = 0;
    memset(&world->server, 0, sizeof(world->server));
    world->server.out = (const uint8_t *)"x"; /* tickets come before it */
    world->server.n_out = 1;
    foreign_init(world, &foreign);
    SSL_set_min_proto_version(foreign.ssl, version);
    SSL_set_max_proto_version(foreign.ssl, version);
    SSL_set_alpn_protos(foreign.ssl, alpn_h2, sizeof(alpn_h2));
    assert_int_equal(SSL_use_certificate(foreign.ssl, client_id.cert), 1);
    assert_int_equal(SSL_use_PrivateKey(foreign.ssl, client_id.key), 1);
    assert_true(foreign_connects(world, &foreign));
    TURN_UNTIL(world, SSL_read_ex(foreign.ssl, &byte, 1, &n) == 1);
    SSL_SESSION *session = SSL_get1_session(foreign.ssl);
    if (SSL_SESSION_is_resumable(session) == 0) {
        SSL_SESSION_free(session);
        session = NULL;
    }
    foreign_done(&foreign);
    TURN_UNTIL(world, world->server.is_over);
    return session;
}

/* A session that is resumed is not looked at again: it would outlive its certificate. */
static void who_shows_a_certificate_shows_it_each_time(void **state)
{
    static const struct {
        int version;
        enum sl_net_client_auth client_auth;
        bool is_resumable;
    } cases[] = {
        { TLS1_2_VERSION, SL_NET_CLIENT_AUTH_OFF, true },
        { TLS1_3_VERSION, SL_NET_CLIENT_AUTH_OFF, true },
        { TLS1_2_VERSION, SL_NET_CLIENT_AUTH_REQUEST, false },
        { TLS1_3_VERSION, SL_NET_CLIENT_AUTH_REQUEST, false },
        { TLS1_2_VERSION, SL_NET_CLIENT_AUTH_REQUIRE, false },
        { TLS1_3_VERSION, SL_NET_CLIENT_AUTH_REQUIRE, false },
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_net_tls *tls = tls_of(&server_id, cases[i].client_auth, true);
        if (world->listener == NULL) {
            listen_with(world, tls);
        } else {
            sl_net_listener_set_tls(world->listener, tls);
            (void)sl_net_tls_unref(world->server_tls);
            world->server_tls = tls;
        }
        SSL_SESSION *session = foreign_session(world, cases[i].version);
        assert_int_equal(session != NULL, cases[i].is_resumable);
        SSL_SESSION_free(session);
    }
}

static void silence_in_the_handshake_has_an_end(void **state)
{
    struct world *world = *state;
    world->limits.handshake = 100;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    const int fd = raw_socket(world);
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(world->server.how, SL_NET_END_TIMEOUT);
    (void)close(fd);
}

static void plain_http_on_a_tls_port_is_refused(void **state)
{
    struct world *world = *state;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    const int fd = raw_socket(world);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(world->server.how, SL_NET_END_TLS);
    (void)close(fd);
}

static void a_broken_record_ends_the_connection(void **state)
{
    struct world *world = *state;
    struct foreign foreign;
    listen_with(world, tls_of(&server_id, SL_NET_CLIENT_AUTH_OFF, true));
    foreign_init(world, &foreign);
    SSL_set_alpn_protos(foreign.ssl, alpn_h2, sizeof(alpn_h2));
    assert_true(foreign_connects(world, &foreign));
    TURN_UNTIL(world, world->server.is_open);
    static const char record[] = "\x17\x03\x03\x00\x20"
                                 "0123456789abcdef0123456789abcdef";
    assert_int_equal(send(foreign.fd, record, 37, MSG_NOSIGNAL), 37);
    TURN_UNTIL(world, world->server.is_over);
    assert_int_equal(world->server.how, SL_NET_END_TLS);
    foreign_done(&foreign);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(many_bytes_go_there_and_back_encrypted),
        CASE(an_orderly_close_is_a_fin_for_the_peer),
        CASE(a_client_certificate_reaches_the_owner),
        CASE(without_the_required_certificate_nobody_gets_in),
        CASE(a_probe_without_bytes_is_logged_at_debug_only),
        CASE(a_requested_certificate_may_be_missing_but_not_false),
        CASE(a_wrong_name_is_refused),
        CASE(an_unknown_authority_is_refused),
        CASE(a_new_certificate_serves_new_connections),
        cmocka_unit_test(bad_files_are_named),
        CASE(only_modern_tls_with_alpn_h2_is_spoken),
        CASE(tls_1_2_has_ecdhe_and_aead_only),
        CASE(tls_1_2_has_ecdhe_and_aead_only_with_rsa_too),
        CASE(nobody_may_renegotiate),
        CASE(who_asks_to_renegotiate_again_and_again_is_closed),
        CASE(who_shows_a_certificate_shows_it_each_time),
        CASE(silence_in_the_handshake_has_an_end),
        CASE(plain_http_on_a_tls_port_is_refused),
        CASE(a_broken_record_ends_the_connection),
    };
    return cmocka_run_group_tests_name("net_tls", tests, make_all, free_all);
}
