#include "runtime/base/crc32c.h"

#include <pthread.h>

/* The polynomial 0x1EDC6F41, bits reversed. */
#define POLYNOMIAL UINT32_C(0x82F63B78)

enum { LANES = 8 };

/* tables[n][b] is the checksum of byte b with n zero bytes behind it, so that eight bytes are
 * looked up at once. */
static uint32_t tables[LANES][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        }
        tables[0][byte] = crc;
    }
    for (int lane = 1; lane < LANES; lane++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            const uint32_t crc = tables[lane - 1][byte];
            tables[lane][byte] = (crc >> 8) ^ tables[0][crc & 0xFF];
        }
    }
}

static uint32_t add_byte(uint32_t crc, uint8_t byte)
{
    return (crc >> 8) ^ tables[0][(crc ^ byte) & 0xFF];
}

static uint32_t add_eight(uint32_t crc, const uint8_t *p)
{
    crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return tables[7][crc & 0xFF] ^ tables[6][crc >> 8 & 0xFF] ^ tables[5][crc >> 16 & 0xFF] ^
           tables[4][crc >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
           tables[0][p[7]];
}

uint32_t sl_crc32c(uint32_t crc, struct sl_slice bytes)
{
    (void)pthread_once(&tables_once, fill_tables);
    crc = ~crc;
    size_t i = 0;
    for (; bytes.size - i >= LANES; i += LANES) {
        crc = add_eight(crc, bytes.data + i);
    }
    for (; i < bytes.size; i++) {
        crc = add_byte(crc, bytes.data[i]);
    }
    return ~crc;
}
