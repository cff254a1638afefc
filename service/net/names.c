/* Who a certificate says its owner is. */
#include <limits.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "runtime/base/mem.h"
#include "service/net/net.h"

enum { MAX_NAMES = 64, MAX_BYTES = 8192 };

struct names {
    char *room; /* MAX_BYTES and 2 */
    size_t size, n_names;
    bool is_over; /* none counts */
};

static bool is_visible(struct sl_slice text)
{
    bool is_right = text.size > 0;
    for (size_t i = 0; is_right && i < text.size; i++) {
        is_right = text.data[i] > ' ' && text.data[i] < 0x7f && text.data[i] != '*';
    }
    return is_right;
}

static void add(struct names *names, const char *kind, const ASN1_STRING *value)
{
    const int n = ASN1_STRING_length(value);
    const struct sl_slice text = sl_slice_of(ASN1_STRING_get0_data(value), n < 0 ? 0 : (size_t)n);
    const size_t n_kind = strlen(kind);
    if (!is_visible(text)) {
        /* A URI is the identity: without this one, another name would be. */
        names->is_over = names->is_over || kind[0] == 'u';
        return;
    }
    if (names->n_names == MAX_NAMES || names->size + n_kind + text.size + 1 > MAX_BYTES) {
        names->is_over = true;
        return;
    }
    char *to = names->room + names->size;
    memcpy(to, kind, n_kind);
    memcpy(to + n_kind, text.data, text.size);
    for (size_t i = n_kind; kind[0] == 'd' && i < n_kind + text.size; i++) {
        to[i] = (char)(to[i] >= 'A' && to[i] <= 'Z' ? to[i] - 'A' + 'a' : to[i]);
    }
    to[n_kind + text.size] = '\0';
    names->size += n_kind + text.size + 1;
    names->n_names++;
}

static void add_all(struct names *names, const GENERAL_NAMES *list)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(list); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(list, i);
        switch (name->type) {
        case GEN_URI:
            add(names, "uri:", name->d.uniformResourceIdentifier);
            break;
        case GEN_DNS:
            add(names, "dns:", name->d.dNSName);
            break;
        case GEN_EMAIL:
            add(names, "email:", name->d.rfc822Name);
            break;
        default: /* addresses and names of directories identify nobody here */
            break;
        }
    }
}

enum sl_status sl_net_cert_names(struct sl_slice der, char **ret_names)
{
    const unsigned char *at = der.data;
    X509 *cert = der.size > LONG_MAX ? NULL : d2i_X509(NULL, &at, (long)der.size);
    if (cert == NULL) {
        ERR_clear_error();
        return SL_INVALID_ARGUMENT;
    }
    struct names names = { .room = sl_calloc(1, MAX_BYTES + 2) };
    GENERAL_NAMES *list = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    ERR_clear_error();
    if (names.room != NULL) {
        add_all(&names, list); /* NULL is an empty list */
        names.size = names.is_over ? 0 : names.size;
        memset(names.room + names.size, 0, 2);
        *ret_names = names.room;
    }
    GENERAL_NAMES_free(list);
    X509_free(cert);
    return names.room == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}
