#include "runtime/base/base64.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t sl_base64_size(size_t size)
{
    const size_t rest = size % 3;
    return size / 3 * 4 + (rest == 0 ? 0 : rest + 1);
}

void sl_base64_encode(struct sl_slice bytes, char *room)
{
    const size_t whole = bytes.size / 3 * 3;
    const uint8_t *data = bytes.data;
    size_t n = 0;
    for (size_t i = 0; i < whole; i += 3) {
        const uint32_t group = (uint32_t)data[i] << 16 | (uint32_t)data[i + 1] << 8 | data[i + 2];
        room[n++] = letters[group >> 18];
        room[n++] = letters[group >> 12 & 63];
        room[n++] = letters[group >> 6 & 63];
        room[n++] = letters[group & 63];
    }
    const size_t rest = bytes.size - whole;
    if (rest > 0) {
        const uint32_t group =
            (uint32_t)data[whole] << 16 | (rest == 2 ? (uint32_t)data[whole + 1] << 8 : 0);
        room[n++] = letters[group >> 18];
        room[n++] = letters[group >> 12 & 63];
        if (rest == 2) {
            room[n++] = letters[group >> 6 & 63];
        }
    }
}

/* -1: not one of the 64. */
static int value_of(uint8_t letter)
{
    if (letter >= 'A' && letter <= 'Z') {
        return letter - 'A';
    }
    if (letter >= 'a' && letter <= 'z') {
        return letter - 'a' + 26;
    }
    if (letter >= '0' && letter <= '9') {
        return letter - '0' + 52;
    }
    return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

/* The text without its padding, which is only allowed where it fills up a group of four. */
static enum sl_status strip(struct sl_slice *text)
{
    size_t n_padding = 0;
    while (n_padding < 2 && text->size > n_padding &&
           text->data[text->size - 1 - n_padding] == '=') {
        n_padding++;
    }
    if (n_padding > 0 && text->size % 4 != 0) {
        return SL_INVALID_ARGUMENT;
    }
    text->size -= n_padding;
    return text->size % 4 == 1 ? SL_INVALID_ARGUMENT : SL_OK;
}

enum sl_status sl_base64_decode(struct sl_slice text, uint8_t *room, size_t *ret_size)
{
    SL_TRY(strip(&text));
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < text.size; i++) {
        const int value = value_of(text.data[i]);
        if (value < 0) {
            return SL_INVALID_ARGUMENT;
        }
        bits = (bits << 6 | (uint32_t)value) & 0xFFFF;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            room[n++] = (uint8_t)(bits >> n_bits & 0xFF);
        }
    }
    if ((bits & ((1U << n_bits) - 1)) != 0) {
        return SL_INVALID_ARGUMENT;
    }
    *ret_size = n;
    return SL_OK;
}
