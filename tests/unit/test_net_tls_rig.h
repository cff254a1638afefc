/* Certificates that are made once, and a listener and a connection of ours on one loop: for tests
 * of TLS. */
#ifndef SL_TESTS_UNIT_TEST_NET_TLS_RIG_H
#define SL_TESTS_UNIT_TEST_NET_TLS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "runtime/base/log.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/net/net.h"

enum { MAX_STEPS = 2000, PEM_BYTES = 4096 };

/* ---- Certificates, made once ------------------------------------------------------------------
 */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
    char cert_pem[PEM_BYTES], key_pem[PEM_BYTES];
};

static struct identity authority, server_id, rsa_id, client_id, stranger;

static void to_text(BIO *bio, char *room)
{
    const int n = BIO_read(bio, room, PEM_BYTES - 1);
    assert_true(n > 0);
    room[n] = '\0';
    BIO_free(bio);
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* `names` NULL: an authority. `key`: given. */
static void make_with(
    struct identity *id,
    EVP_PKEY *key,
    const char *name,
    const char *names,
    const struct identity *by)
{
    static long serial = 1;
    id->key = key;
    id->cert = X509_new();
    X509 *cert = id->cert;
    assert_int_equal(X509_set_version(cert, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME *subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, by == NULL ? subject : X509_get_subject_name(by->cert));
    X509_set_pubkey(cert, id->key);
    if (names == NULL) {
        add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
    } else {
        add_extension(cert, NID_subject_alt_name, names);
    }
    assert_true(X509_sign(cert, by == NULL ? id->key : by->key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    to_text(bio, id->cert_pem);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, id->key, NULL, NULL, 0, NULL, NULL);
    to_text(bio, id->key_pem);
}

static void
make(struct identity *id, const char *name, const char *names, const struct identity *by)
{
    make_with(id, EVP_EC_gen("P-256"), name, names, by);
}

static int make_all(void **state)
{
    (void)state;
    make(&authority, "authority", NULL, NULL);
    make(&server_id, "server", "DNS:localhost,IP:127.0.0.1", &authority);
    make_with(&rsa_id, EVP_RSA_gen(2048), "server", "DNS:localhost", &authority);
    make(&client_id, "client", "URI:spiffe://test/client", &authority);
    make(&stranger, "stranger", "DNS:localhost", NULL);
    return 0;
}

static int free_all(void **state)
{
    struct identity *const all[] = { &authority, &server_id, &rsa_id, &client_id, &stranger };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(all); i++) {
        X509_free(all[i]->cert);
        EVP_PKEY_free(all[i]->key);
    }
    return 0;
}

/* ---- The world ------------------------------------------------------------------------------- */

struct end {
    struct sl_net_conn *conn;
    uint8_t *got;
    size_t n_got, n_out, n_sent;
    const uint8_t *out;
    bool echoes, is_open, is_over;
    enum sl_net_end how;
    unsigned long tls_error;
    char end_text[240];
    uint8_t cert[PEM_BYTES];
    size_t n_cert;
};

struct world {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_limits limits;
    struct sl_net_listener *listener;
    struct sl_net_tls *server_tls, *client_tls;
    struct end server, client;
};

static void on_open(struct sl_net_conn *conn, void *user_data)
{
    struct end *end = user_data;
    const struct sl_slice cert = sl_net_conn_peer_cert(conn);
    end->is_open = true;
    end->n_cert = cert.size;
    if (cert.size > 0) {
        memcpy(end->cert, cert.data, cert.size);
    }
    if (end->n_out > 0) {
        sl_net_conn_want_write(conn);
    }
}

static void on_bytes(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data)
{
    struct end *end = user_data;
    end->got = realloc(end->got, end->n_got + bytes.size + 1);
    memcpy(end->got + end->n_got, bytes.data, bytes.size);
    end->n_got += bytes.size;
    if (end->echoes) {
        end->out = end->got;
        end->n_out = end->n_got;
        sl_net_conn_want_write(conn);
    }
}

static size_t on_pull(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data)
{
    (void)conn;
    struct end *end = user_data;
    size_t n = end->n_out - end->n_sent;
    n = n > room_bytes ? room_bytes : n;
    if (n > 0) {
        memcpy(room, end->out + end->n_sent, n);
    }
    end->n_sent += n;
    return n;
}

static void
on_end(struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)conn;
    struct end *end = user_data;
    end->is_over = true;
    end->how = how;
    end->tls_error = err->tls_error;
    (void)snprintf(end->end_text, sizeof(end->end_text), "%s", err->text);
    end->conn = NULL;
}

static const struct sl_net_callbacks callbacks = {
    .on_open = on_open, .on_bytes = on_bytes, .on_pull = on_pull, .on_end = on_end
};

static bool on_accept(
    struct sl_net_conn *conn,
    struct sl_loop *loop,
    void *user_data,
    const struct sl_net_callbacks **ret_callbacks,
    void **ret_conn_user)
{
    (void)loop;
    struct world *world = user_data;
    world->server.conn = conn;
    *ret_callbacks = &callbacks;
    *ret_conn_user = &world->server;
    return true;
}

/* What is logged of a case. */
static struct {
    char text[1024];
    size_t size;
} logged;

static void keep_line(const char *line, size_t size, void *user_data)
{
    (void)user_data;
    assert_true(logged.size + size < sizeof(logged.text));
    memcpy(logged.text + logged.size, line, size);
    logged.size += size;
    logged.text[logged.size] = '\0';
}

static void start_log(enum sl_log_level level)
{
    logged.size = 0;
    logged.text[0] = '\0';
    sl_log_setup(-1, level, SL_LOG_LOGFMT);
    sl_log_set_sink(keep_line, NULL);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_int_equal(sl_loop_uv_new(0, &world->uv), SL_OK);
    world->loop = sl_loop_uv_base(world->uv);
    sl_limits_init(&world->limits);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    sl_log_set_sink(NULL, NULL);
    if (world->server.conn != NULL) {
        sl_net_conn_close(world->server.conn, true);
    }
    if (world->client.conn != NULL) {
        sl_net_conn_close(world->client.conn, true);
    }
    if (world->listener != NULL) {
        sl_net_listener_close(world->listener, NULL, NULL);
    }
    (void)sl_loop_uv_free(world->uv);
    (void)sl_net_tls_unref(world->server_tls);
    (void)sl_net_tls_unref(world->client_tls);
    free(world->server.got);
    free(world->client.got);
    free(world);
    return 0;
}

#define TURN_UNTIL(world, condition)                                                               \
    do {                                                                                           \
        for (int step = 0; !(condition); step++) {                                                 \
            assert_true(step < MAX_STEPS);                                                         \
            sl_loop_uv_step((world)->uv, 20);                                                      \
        }                                                                                          \
    } while (0)

static struct sl_net_tls *
tls_of(const struct identity *id, enum sl_net_client_auth client_auth, bool is_server)
{
    struct sl_error err = { .status = SL_OK };
    struct sl_net_tls *tls = NULL;
    const struct sl_net_tls_options options = { .cert_pem = id == NULL ? NULL : id->cert_pem,
                                                .key_pem = id == NULL ? NULL : id->key_pem,
                                                .ca_pem = authority.cert_pem,
                                                .client_auth = client_auth };
    const enum sl_status status = is_server ? sl_net_tls_new_server(&options, &tls, &err)
                                            : sl_net_tls_new_client(&options, &tls, &err);
    if (status != SL_OK) {
        fail_msg("%s", err.text);
    }
    return tls;
}

static void listen_with(struct world *world, struct sl_net_tls *tls)
{
    struct sl_error err = { .status = SL_OK };
    world->server_tls = tls;
    const struct sl_net_listen_options options = { .address = "127.0.0.1:0",
                                                   .tls = tls,
                                                   .limits = &world->limits,
                                                   .loops = &world->loop,
                                                   .n_loops = 1,
                                                   .on_accept = on_accept,
                                                   .user_data = world };
    assert_int_equal(sl_net_listen(&options, &world->listener, &err), SL_OK);
}

static void connect_with(struct world *world, struct sl_net_tls *tls, const char *server_name)
{
    struct sl_error err = { .status = SL_OK };
    world->client_tls = tls;
    const struct sl_net_connect_options options = { .address =
                                                        sl_net_listener_address(world->listener),
                                                    .tls = tls,
                                                    .server_name = server_name,
                                                    .timeout_ms = 5000 };
    assert_int_equal(
        sl_net_connect(
            world->loop, &options, &callbacks, &world->client, &world->client.conn, &err),
        SL_OK);
}

#endif
