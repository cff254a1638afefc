#include "runtime/base/map.h"

#include <pthread.h>
#include <stdint.h>

#include "runtime/base/random.h"

_Thread_local bool sl_map_oom;

static uint64_t secret[2];

static void make_secret(void)
{
    sl_random_bytes(secret, sizeof(secret));
}

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void mix(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static void take_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
}

/* SipHash-1-3 (Aumasson, Bernstein 2012). Byte order does not matter: the result never leaves the
 * process. */
unsigned sl_map_hash(const void *key, size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_secret);
    const uint8_t *bytes = key;
    uint64_t v[4] = { secret[0] ^ UINT64_C(0x736F6D6570736575),
                      secret[1] ^ UINT64_C(0x646F72616E646F6D),
                      secret[0] ^ UINT64_C(0x6C7967656E657261),
                      secret[1] ^ UINT64_C(0x7465646279746573) };
    uint64_t word = 0;
    size_t left = size;
    for (; left >= sizeof(word); left -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        take_word(v, word);
    }
    word = (uint64_t)size << 56;
    for (size_t i = 0; i < left; i++) {
        word |= (uint64_t)bytes[i] << 8 * i;
    }
    take_word(v, word);
    v[2] ^= 0xFF;
    mix(v);
    mix(v);
    mix(v);
    const uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return (unsigned)(hash & UINT32_MAX);
}
