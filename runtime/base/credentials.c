#include "runtime/base/credentials.h"

#include <string.h>

#include "runtime/base/mem.h"

enum { LONGEST_ESCAPE = 6 }; /* \u001f */

struct sl_credentials {
    size_t n;
    size_t text_bytes;
    char *text; /* every name and value, terminated, one after the other */
};

bool sl_credentials_is_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const size_t size = strlen(name);
    return size >= 1 && size <= SL_CREDENTIAL_NAME_BYTES && strspn(name, allowed) == size;
}

enum sl_status sl_credentials_new(
    const struct sl_credential *list, size_t n, struct sl_credentials **ret_credentials)
{
    struct sl_credentials *credentials = sl_calloc(1, sizeof(*credentials));
    size_t text_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        text_bytes += strlen(list[i].name) + strlen(list[i].value) + 2;
    }
    char *text = sl_alloc(text_bytes);
    if (credentials == NULL || text == NULL) {
        (void)sl_free(credentials);
        (void)sl_free(text);
        return SL_RESOURCE_EXHAUSTED;
    }
    *credentials = (struct sl_credentials){ .n = n, .text_bytes = text_bytes, .text = text };
    for (size_t i = 0; i < n; i++) {
        text = stpcpy(text, list[i].name) + 1;
        text = stpcpy(text, list[i].value) + 1;
    }
    *ret_credentials = credentials;
    return SL_OK;
}

struct sl_credentials *sl_credentials_free(struct sl_credentials *credentials)
{
    if (credentials != NULL) {
        explicit_bzero(credentials->text, credentials->text_bytes);
        (void)sl_free(credentials->text);
    }
    return sl_free(credentials);
}

const char *sl_credentials_find(const struct sl_credentials *credentials, const char *name)
{
    if (credentials == NULL) {
        return NULL;
    }
    const char *at = credentials->text;
    for (size_t i = 0; i < credentials->n; i++) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0) {
            return value;
        }
        at = value + strlen(value) + 1;
    }
    return NULL;
}

/* Writes `text` as a JSON string and gives the place behind it. */
static uint8_t *write_string(uint8_t *at, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    *at++ = '"';
    for (; *text != '\0'; text++) {
        const uint8_t c = (uint8_t)*text;
        if (c == '"' || c == '\\') {
            *at++ = '\\';
            *at++ = c;
        } else if (c < ' ') {
            *at++ = '\\';
            *at++ = 'u';
            *at++ = '0';
            *at++ = '0';
            *at++ = (uint8_t)digits[c >> 4U];
            *at++ = (uint8_t)digits[c & 15U];
        } else {
            *at++ = c;
        }
    }
    *at++ = '"';
    return at;
}

enum sl_status sl_credentials_write(
    const struct sl_credentials *credentials,
    const char *const *names,
    uint8_t **ret_block,
    size_t *ret_size)
{
    size_t room_bytes = 2;
    for (size_t i = 0; names[i] != NULL; i++) {
        const char *value = sl_credentials_find(credentials, names[i]);
        room_bytes += value == NULL ? 0 : strlen(names[i]) + LONGEST_ESCAPE * strlen(value) + 6;
    }
    uint8_t *block = sl_alloc(room_bytes);
    if (block == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    uint8_t *at = block;
    *at++ = '{';
    for (size_t i = 0; names[i] != NULL; i++) {
        const char *value = sl_credentials_find(credentials, names[i]);
        if (value != NULL) {
            if (at != block + 1) {
                *at++ = ',';
            }
            at = write_string(at, names[i]);
            *at++ = ':';
            at = write_string(at, value);
        }
    }
    *at++ = '}';
    *ret_block = block;
    *ret_size = (size_t)(at - block);
    return SL_OK;
}

uint8_t *sl_credentials_wipe(uint8_t *block, size_t size)
{
    if (block != NULL) {
        explicit_bzero(block, size);
    }
    return sl_free(block);
}
