/* The names that a certificate gives its owner (reliability.md 8.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "runtime/base/mem.h"
#include "service/net/net.h"

static unsigned char *der;
static int der_size;
static GENERAL_NAMES *list;

static void add_bytes(int type, const char *bytes, int size)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    assert_int_equal(ASN1_STRING_set(value, bytes, size), 1);
    GENERAL_NAME_set0_value(name, type, value);
    assert_true(sk_GENERAL_NAME_push(list, name) > 0);
}

static void add(int type, const char *text)
{
    add_bytes(type, text, (int)strlen(text));
}

/* A certificate with the list. */
static void sign(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert_int_equal(X509_set_version(cert, 2), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME *subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(
        subject, "CN", MBSTRING_ASC, (const unsigned char *)"admin", -1, -1, 0);
    X509_set_pubkey(cert, key);
    if (sk_GENERAL_NAME_num(list) > 0) {
        assert_int_equal(X509_add1_ext_i2d(cert, NID_subject_alt_name, list, 0, 0), 1);
    }
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    der_size = i2d_X509(cert, &der);
    assert_true(der_size > 0);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    (void)state;
    list = GENERAL_NAMES_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    GENERAL_NAMES_free(list);
    OPENSSL_free(der);
    der = NULL;
    return 0;
}

/* The names with a bar behind each. */
static const char *names(void)
{
    static char text[16384];
    char *block = NULL;
    sign();
    assert_int_equal(sl_net_cert_names(sl_slice_of(der, (size_t)der_size), &block), SL_OK);
    text[0] = '\0';
    for (const char *name = block; name[0] != '\0'; name += strlen(name) + 1) {
        const size_t size = strlen(text);
        (void)snprintf(text + size, sizeof(text) - size, "%s|", name);
    }
    (void)sl_free(block);
    return text;
}

static void each_name_has_its_kind(void **state)
{
    (void)state;
    add(GEN_URI, "spiffe://X.org/Billing");
    add(GEN_DNS, "A.Example.ORG");
    add(GEN_EMAIL, "Me@x.org");
    assert_string_equal(names(), "uri:spiffe://X.org/Billing|dns:a.example.org|email:Me@x.org|");
}

static void a_certificate_without_names_is_nobody(void **state)
{
    (void)state;
    assert_string_equal(names(), ""); /* its subject says admin */
}

/* CVE-2009-2408's shape: what a C string would make of "good.org\0.evil.com". */
static void a_name_that_could_be_read_as_another_one_is_left_out(void **state)
{
    (void)state;
    add_bytes(GEN_DNS, "good.org\0.evil.com", 18);
    add(GEN_DNS, "a b.org");
    add(GEN_DNS, "*.good.org");
    add(GEN_DNS, "");
    add(GEN_DNS, "g\xc3\xb6od.org");
    add(GEN_DNS, "last.org");
    assert_string_equal(names(), "dns:last.org|");
}

/* A URI is the identity, and there is one: what cannot be read of it must not make room for a
 * second one, or for a name of another kind. */
static void who_has_a_uri_that_cannot_be_read_is_nobody(void **state)
{
    static const char *const wrong[] = { "spiffe://x.org/a\nuri:spiffe://x.org/admin",
                                         "spiffe://x.org/*", "spiffe://x.org/\xc3\xb6", "" };
    for (size_t i = 0; i < SL_COUNT(wrong); i++) {
        add(GEN_DNS, "first.org");
        add(GEN_URI, wrong[i]);
        add(GEN_URI, "spiffe://x.org/billing");
        assert_string_equal(names(), "");
        (void)tear_down(state);
        (void)set_up(state);
    }
}

static void who_has_too_many_names_is_nobody(void **state)
{
    (void)state;
    for (int i = 0; i < 64; i++) {
        add(GEN_DNS, "a.org");
    }
    const char *text = names();
    assert_int_equal(strlen(text), 64 * 10);
    OPENSSL_free(der);
    der = NULL;
    add(GEN_DNS, "a.org");
    assert_string_equal(names(), "");
}

static void who_has_too_long_names_is_nobody(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    add(GEN_DNS, text);
    add(GEN_DNS, text);
    assert_string_equal(names(), "");
}

static void what_is_no_certificate_is_refused(void **state)
{
    (void)state;
    char *block = NULL;
    add(GEN_DNS, "a.org");
    sign();
    for (int n = 0; n < der_size; n++) {
        assert_int_equal(
            sl_net_cert_names(sl_slice_of(der, (size_t)n), &block), SL_INVALID_ARGUMENT);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(each_name_has_its_kind),
        CASE(a_certificate_without_names_is_nobody),
        CASE(a_name_that_could_be_read_as_another_one_is_left_out),
        CASE(who_has_a_uri_that_cannot_be_read_is_nobody),
        CASE(who_has_too_many_names_is_nobody),
        CASE(who_has_too_long_names_is_nobody),
        CASE(what_is_no_certificate_is_refused),
    };
#undef CASE
    return cmocka_run_group_tests_name("net_names", tests, NULL, NULL);
}
