/* Random numbers from the kernel, and a deterministic generator for tests and load. */
#ifndef SL_RUNTIME_BASE_RANDOM_H
#define SL_RUNTIME_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills the block from getrandom(2), through a per-thread cache of 256 bytes. Never fails after the
 * kernel's pool was ready, which it is. Thread: any. */
void sl_random_bytes(void *block, size_t size);
/* 0 to n - 1, without bias; `n` > 0. */
uint64_t sl_random_below(uint64_t n);

/* 128 random bits as 32 lower-case hex digits and a NUL: run ids, error ids. */
enum { SL_ID_BYTES = 33 };
void sl_random_id(char room[SL_ID_BYTES]);

/* Deterministic (splitmix64): the same seed gives the same numbers. */
uint64_t sl_random_next(uint64_t *state);

#endif
