/* The credentials that a request brings for its tools (AL-6.1): held until the run is over, and
 * overwritten when they are freed. Nothing here prints, logs or compares a value. */
#ifndef SL_RUNTIME_BASE_CREDENTIALS_H
#define SL_RUNTIME_BASE_CREDENTIALS_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_CREDENTIAL_NAME_BYTES = 64 };

struct sl_credential {
    const char *name, *value;
};

struct sl_credentials; /* constant */

/* 1 to SL_CREDENTIAL_NAME_BYTES letters, digits, '_', '-' and '.'. */
bool sl_credentials_is_name(const char *name);

/* Copies `n` of them. Owns: the caller. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_credentials_new(
    const struct sl_credential *list, size_t n, struct sl_credentials **ret_credentials);
/* Overwrites the values first. Accepts NULL; gives NULL. */
struct sl_credentials *sl_credentials_free(struct sl_credentials *credentials);

/* The value of that name; NULL: there is none, or `credentials` is NULL. */
const char *sl_credentials_find(const struct sl_credentials *credentials, const char *name);

/* {"name":"value", …} of the names (NULL-terminated list) that are there. The block is the caller's
 * and goes through sl_credentials_wipe. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_credentials_write(
    const struct sl_credentials *credentials,
    const char *const *names,
    uint8_t **ret_block,
    size_t *ret_size);
/* Overwrites and frees a block. Accepts NULL; gives NULL. */
uint8_t *sl_credentials_wipe(uint8_t *block, size_t size);

#endif
