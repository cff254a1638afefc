/* Reads protobuf's wire format by hand: for what protobuf-c only keeps as unknown fields, and for
 * bytes that must stay as they are. */
#ifndef SL_CODEGEN_WIRE_H
#define SL_CODEGEN_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_wire_type { SL_WIRE_VARINT, SL_WIRE_I64, SL_WIRE_LEN, SL_WIRE_I32 };

struct sl_wire_field {
    uint32_t number;
    enum sl_wire_type type;
    uint64_t value;      /* VARINT */
    const uint8_t *data; /* LEN: the content */
    size_t size;
    const uint8_t *whole; /* tag and all */
    size_t whole_size;
};

struct sl_wire {
    const uint8_t *data;
    size_t size;
    bool is_broken; /* the bytes are no message; groups count as that */
};

/* Takes the next field; false: the end, or the message is broken. */
bool sl_wire_next(struct sl_wire *wire, struct sl_wire_field *ret_field);

#endif
