/* The file of bearer keys: hashes of keys, and whose they are. A key itself is in no file of the
 * server.
 *
 *   # comment
 *   sha256:HEX PRINCIPAL TENANT [agents=PATTERN,…] [expires=2027-01-31[T12:00:00Z]]
 *
 * HEX is the SHA-256 of the key in lower-case digits; keys are random and long, so that nothing
 * slower is needed. `agents` narrows what the rules of access give; `expires` is the first moment
 * (UTC) at which the key counts no more. Words are separated by spaces or tabs. */
#ifndef SL_SERVICE_IDENTITY_KEYS_H
#define SL_SERVICE_IDENTITY_KEYS_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum {
    SL_KEY_DIGEST_BYTES = 32,
    SL_KEY_LINE_BYTES = 2048,
    SL_KEY_FILE_BYTES = 4 * 1024 * 1024,
    SL_KEY_PATTERNS = 32 /* of `agents` */
};

struct sl_keys;

/* Strings live as long as the keys. */
struct sl_key {
    const char *principal, *tenant;
    const char *const *agents; /* none: no narrowing */
    size_t n_agents;
    int64_t expires_s; /* Unix time; INT64_MAX: never */
    int line;
};

/* Where mistakes go: "file:line:column: message". No text of the file is repeated: it could be a
 * key. */
typedef void(sl_keys_problem_fn)(const char *line, void *user_data);

/* Reads all lines; at most `max_keys` of them may be keys. Each mistake is told. Owns: the caller;
 * sl_keys_free(). Thread: any. Fails: SL_FAILED_PRECONDITION there was a mistake;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_keys_parse(
    struct sl_slice text,
    const char *file,
    uint64_t max_keys,
    sl_keys_problem_fn *on_problem,
    void *user_data,
    struct sl_keys **ret_keys);
/* The same of a file, which must be a regular one of at most 4 MiB that not everybody may write,
 * and whose last line must have its newline: one that is cut short could be a key that may more. */
SL_CHECK enum sl_status sl_keys_read(
    const char *path,
    uint64_t max_keys,
    sl_keys_problem_fn *on_problem,
    void *user_data,
    struct sl_keys **ret_keys);
struct sl_keys *sl_keys_free(struct sl_keys *keys);

size_t sl_keys_count(const struct sl_keys *keys);
const struct sl_key *sl_keys_at(const struct sl_keys *keys, size_t index);
/* The key with this digest, expired or not; NULL: none. Looks at every key and at every byte, so
 * that the time says nothing about the digests. Thread: any. */
const struct sl_key *
sl_keys_find(const struct sl_keys *keys, const uint8_t digest[SL_KEY_DIGEST_BYTES]);

#endif
