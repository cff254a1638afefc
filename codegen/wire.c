#include "codegen/wire.h"

static bool take_varint(struct sl_wire *wire, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned int shift = 0; shift < 64 && wire->size > 0; shift += 7) {
        const uint8_t byte = *wire->data++;
        wire->size--;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool take_bytes(struct sl_wire *wire, uint64_t size, struct sl_wire_field *field)
{
    if (size > wire->size) {
        return false;
    }
    field->data = wire->data;
    field->size = (size_t)size;
    wire->data += size;
    wire->size -= (size_t)size;
    return true;
}

static bool take_value(struct sl_wire *wire, struct sl_wire_field *field)
{
    uint64_t size = 0;
    switch (field->type) {
    case SL_WIRE_VARINT:
        return take_varint(wire, &field->value);
    case SL_WIRE_I64:
        return take_bytes(wire, 8, field);
    case SL_WIRE_I32:
        return take_bytes(wire, 4, field);
    case SL_WIRE_LEN:
        return take_varint(wire, &size) && take_bytes(wire, size, field);
    }
    return false;
}

bool sl_wire_next(struct sl_wire *wire, struct sl_wire_field *ret_field)
{
    if (wire->size == 0 || wire->is_broken) {
        return false;
    }
    struct sl_wire_field field = { .whole = wire->data };
    uint64_t tag = 0;
    bool is_good = take_varint(wire, &tag) && tag >> 3 > 0 && tag >> 3 < (UINT64_C(1) << 29);
    if (is_good) {
        field.number = (uint32_t)(tag >> 3);
        const unsigned int type = tag & 7;
        is_good = type < 3 || type == 5;
        field.type = type == 5 ? SL_WIRE_I32 : (enum sl_wire_type)type;
    }
    if (!is_good || !take_value(wire, &field)) {
        wire->is_broken = true;
        return false;
    }
    field.whole_size = (size_t)(wire->data - field.whole);
    *ret_field = field;
    return true;
}
