#include "runtime/base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { CACHE_BYTES = 256 };

/* Where getrandom is missing or forbidden, the device gives the same bytes. */
static size_t read_device(uint8_t *room, size_t size)
{
    const int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    const ssize_t got = read(fd, room, size);
    (void)close(fd);
    return got > 0 ? (size_t)got : 0;
}

static void fill(uint8_t *room, size_t size)
{
    while (size > 0) {
        const ssize_t got = getrandom(room, size, 0);
        const size_t n = got > 0 ? (size_t)got : errno == EINTR ? 0 : read_device(room, size);
        room += n;
        size -= n;
    }
}

void sl_random_bytes(void *block, size_t size)
{
    static _Thread_local uint8_t cache[CACHE_BYTES];
    static _Thread_local size_t n_left;
    if (size > sizeof(cache)) {
        fill(block, size);
        return;
    }
    if (size > n_left) {
        fill(cache, sizeof(cache));
        n_left = sizeof(cache);
    }
    if (size > 0) {
        n_left -= size;
        memcpy(block, cache + n_left, size);
        explicit_bzero(cache + n_left, size); /* no number stays behind */
    }
}

uint64_t sl_random_below(uint64_t n)
{
    const uint64_t unfair =
        (0 - n) % n; /* 2^64 mod n: so many of the least values come once too often */
    uint64_t value = 0;
    do {
        sl_random_bytes(&value, sizeof(value));
    } while (value < unfair);
    return value % n;
}

void sl_random_id(char room[SL_ID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[(SL_ID_BYTES - 1) / 2];
    sl_random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        room[2 * i] = digits[bytes[i] >> 4];
        room[2 * i + 1] = digits[bytes[i] & 15];
    }
    room[SL_ID_BYTES - 1] = '\0';
}

uint64_t sl_random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
