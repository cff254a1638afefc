#include "service/rpc/deadline.h"

#include <stdio.h>

#include "runtime/base/loop.h"

enum { MAX_DIGITS = 8, MAX_VALUE = 99999999 };

struct unit {
    char letter;
    uint64_t ns;
};

/* From fine to coarse. */
static const struct unit units[] = {
    { 'n', 1 },           { 'u', UINT64_C(1000) },   { 'm', SL_NS_PER_MS },
    { 'S', SL_NS_PER_S }, { 'M', 60 * SL_NS_PER_S }, { 'H', 3600 * SL_NS_PER_S },
};
enum { N_UNITS = sizeof(units) / sizeof(units[0]) };

enum sl_status sl_timeout_parse(struct sl_slice text, uint64_t *ret_timeout_ns)
{
    if (text.size < 2 || text.size > MAX_DIGITS + 1) {
        return SL_INVALID_ARGUMENT;
    }
    uint64_t value = 0;
    for (size_t i = 0; i + 1 < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return SL_INVALID_ARGUMENT;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    for (size_t i = 0; i < N_UNITS; i++) {
        if (text.data[text.size - 1] == (uint8_t)units[i].letter) {
            const bool is_over = value > SL_TIMEOUT_MAX_NS / units[i].ns;
            *ret_timeout_ns = is_over ? SL_TIMEOUT_MAX_NS : value * units[i].ns;
            return SL_OK;
        }
    }
    return SL_INVALID_ARGUMENT;
}

size_t sl_timeout_format(uint64_t timeout_ns, char room[SL_TIMEOUT_TEXT_BYTES])
{
    uint64_t value = MAX_VALUE;
    char letter = 'H';
    for (size_t i = 0; i < N_UNITS; i++) {
        const uint64_t rounded = timeout_ns / units[i].ns + (timeout_ns % units[i].ns != 0 ? 1 : 0);
        if (rounded <= MAX_VALUE) {
            value = rounded;
            letter = units[i].letter;
            break;
        }
    }
    const int size = snprintf(room, SL_TIMEOUT_TEXT_BYTES, "%u%c", (unsigned)value, letter);
    return (size_t)size;
}

uint64_t sl_deadline_after(uint64_t now_ns, uint64_t timeout_ns)
{
    const uint64_t last = SL_NEVER_NS - 1;
    return timeout_ns >= last - now_ns || now_ns >= last ? last : now_ns + timeout_ns;
}

uint64_t sl_deadline_remaining(uint64_t deadline_ns, uint64_t now_ns)
{
    if (deadline_ns == SL_NEVER_NS) {
        return SL_NEVER_NS;
    }
    return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}
