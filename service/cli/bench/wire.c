#include "service/cli/bench/wire.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

/* Takes a varint; false: there is none. */
static bool take_varint(struct sl_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < rest->size && i < 10; i++) {
        value |= (uint64_t)(rest->data[i] & 0x7F) << (7 * i);
        if (rest->data[i] < 0x80) {
            *rest = sl_slice_of(rest->data + i + 1, rest->size - i - 1);
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool take_bytes(struct sl_slice *rest, uint64_t size, struct sl_slice *ret_bytes)
{
    if (size > rest->size) {
        return false;
    }
    *ret_bytes = sl_slice_of(rest->data, (size_t)size);
    *rest = sl_slice_of(rest->data + size, rest->size - (size_t)size);
    return true;
}

bool sl_bench_field_take(struct sl_slice *rest, struct sl_bench_field *ret_field)
{
    uint64_t key;
    *ret_field = (struct sl_bench_field){ 0 };
    if (!take_varint(rest, &key)) {
        return false;
    }
    ret_field->number = key >> 3;
    switch (key & 7) {
    case VARINT:
        return take_varint(rest, &ret_field->value);
    case BYTES:
        return take_varint(rest, &ret_field->value) &&
               take_bytes(rest, ret_field->value, &ret_field->bytes);
    case FIXED64:
        return take_bytes(rest, 8, &ret_field->bytes);
    case FIXED32:
        return take_bytes(rest, 4, &ret_field->bytes);
    default:
        return false;
    }
}

bool sl_bench_field_find(struct sl_slice message, uint64_t number, struct sl_bench_field *ret_field)
{
    while (sl_bench_field_take(&message, ret_field)) {
        if (ret_field->number == number) {
            return true;
        }
    }
    return false;
}
