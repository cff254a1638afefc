/* Fields of a protobuf message, one after the other, without decoding it. Nothing is copied. */
#ifndef SL_SERVICE_CLI_BENCH_WIRE_H
#define SL_SERVICE_CLI_BENCH_WIRE_H

#include "runtime/base/slice.h"

struct sl_bench_field {
    uint64_t number;
    uint64_t value;        /* of a varint */
    struct sl_slice bytes; /* of everything else */
};

/* Takes the next field off `*rest`. False: the end, or bytes that are no message. */
bool sl_bench_field_take(struct sl_slice *rest, struct sl_bench_field *ret_field);
/* The first field of this number. */
bool sl_bench_field_find(
    struct sl_slice message, uint64_t number, struct sl_bench_field *ret_field);

#endif
