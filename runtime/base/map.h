/* uthash, wrapped once: running out of memory is reported instead of exit(-1), and keys are hashed
 * with SipHash-1-3 under a key of the process, so that nobody outside can choose keys that collide.
 *
 * A struct that is kept in a map has a `struct UT_hash_handle hh` and a key. Every add must be
 * followed by a look at `sl_map_oom`: true means the element was not added. */
#ifndef SL_RUNTIME_BASE_MAP_H
#define SL_RUNTIME_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define HASH_NONFATAL_OOM                  1
#define uthash_nonfatal_oom(element)       sl_map_oom = true
#define HASH_FUNCTION(key, key_size, hash) ((hash) = sl_map_hash((key), (key_size)))
#include <uthash.h>

extern _Thread_local bool sl_map_oom;

/* Thread: any. */
unsigned sl_map_hash(const void *key, size_t size);

#endif
