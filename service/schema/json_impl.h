/* What the two directions of JSON share: where in a message they are, and their parts. */
#ifndef SL_SERVICE_SCHEMA_JSON_IMPL_H
#define SL_SERVICE_SCHEMA_JSON_IMPL_H

#include "service/schema/schema_impl.h"

enum { SL_WIRE_VARINT = 0, SL_WIRE_64 = 1, SL_WIRE_BYTES = 2, SL_WIRE_GROUP = 3 };
enum { SL_WIRE_END_GROUP = 4, SL_WIRE_32 = 5 };

/* The way to a member, for messages: linked from the innermost outwards, on the stack. */
struct sl_place {
    const struct sl_place *parent;
    const char *name; /* NULL: an element of a list */
    size_t index;
};

/* "a.b[3]: " in front of what is wrong. */
SL_PRINTF(4, 5)
enum sl_status sl_place_fail(
    const struct sl_place *place,
    struct sl_error *err,
    enum sl_status status,
    const char *fmt,
    ...);

/* ---- JSON to wire -----------------------------------------------------------------------------
 */

struct sl_encoder {
    struct sl_buf *out;
    struct sl_error *err;
    const struct sl_place *place; /* now */
    unsigned depth;
};

#define sl_encoder_fail(encoder, ...)                                                              \
    sl_place_fail((encoder)->place, (encoder)->err, SL_INVALID_ARGUMENT, __VA_ARGS__)

SL_CHECK enum sl_status sl_encoder_full(struct sl_encoder *encoder);
SL_CHECK enum sl_status sl_encode_varint(struct sl_encoder *encoder, uint64_t value);
SL_CHECK enum sl_status sl_encode_tag(struct sl_encoder *encoder, uint32_t number, unsigned wire);
/* A length before content of unknown size: begin gives a mark, end moves the content when its
 * length needs more than one byte. */
SL_CHECK enum sl_status sl_encode_begin(struct sl_encoder *encoder, size_t *ret_mark);
SL_CHECK enum sl_status sl_encode_end(struct sl_encoder *encoder, size_t mark);
SL_CHECK enum sl_status sl_encode_bytes(struct sl_encoder *encoder, struct sl_slice bytes);
/* A value without its tag; not of a message, a group or an enum. */
SL_CHECK enum sl_status
sl_encode_scalar(struct sl_encoder *encoder, enum sl_schema_type type, const json_t *json);
/* Content only; of the members of an object all but `but` (NULL: none). */
SL_CHECK enum sl_status sl_encode_content(
    struct sl_encoder *encoder,
    const struct sl_schema_message *message,
    json_t *json,
    const char *but);
/* The well-known ones. */
SL_CHECK enum sl_status
sl_encode_known(struct sl_encoder *encoder, const struct sl_schema_message *message, json_t *json);

/* ---- Wire to JSON -----------------------------------------------------------------------------
 */

struct sl_decoder {
    struct sl_slice root; /* for offsets */
    struct sl_error *err;
    const struct sl_place *place;
    unsigned depth;
    bool has_defaults;
};

struct sl_wire_item {
    uint32_t number;
    unsigned wire;
    uint64_t value;        /* varint, 32 and 64 bits */
    struct sl_slice bytes; /* length-delimited, or the content of a group */
    const uint8_t *at;     /* its tag */
};

#define sl_decoder_fail(decoder, ...)                                                              \
    sl_place_fail((decoder)->place, (decoder)->err, SL_INTERNAL, __VA_ARGS__)

SL_CHECK enum sl_status sl_decoder_out_of_memory(struct sl_decoder *decoder);
/* Takes the next field off the front of `rest` (not empty). */
SL_CHECK enum sl_status
sl_wire_next(struct sl_decoder *decoder, struct sl_slice *rest, struct sl_wire_item *ret_item);
SL_CHECK enum sl_status
sl_wire_varint(struct sl_decoder *decoder, struct sl_slice *rest, uint64_t *ret_value);
/* Not of a message, a group or an enum. */
SL_CHECK enum sl_status sl_decode_scalar(
    struct sl_decoder *decoder,
    enum sl_schema_type type,
    const struct sl_wire_item *item,
    json_t **ret_json);
SL_CHECK enum sl_status sl_decode_content(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json);
SL_CHECK enum sl_status sl_decode_known(
    struct sl_decoder *decoder,
    const struct sl_schema_message *message,
    struct sl_slice bytes,
    json_t **ret_json);
/* 0, "", false; the first value of an enum. NULL: no memory. */
SL_CHECK json_t *sl_default_json(const struct sl_schema_field *field);

/* ---- Text (text.c) ----------------------------------------------------------------------------
 */

enum { SL_TIME_TEXT_BYTES = 48 };

/* RFC 3339 with any offset, 0 to 9 digits of a second. False: it is none, or out of range. */
SL_CHECK bool sl_timestamp_parse(struct sl_slice text, int64_t *ret_seconds, int32_t *ret_nanos);
SL_CHECK bool sl_timestamp_print(int64_t seconds, int64_t nanos, char room[SL_TIME_TEXT_BYTES]);
/* "1.5s" */
SL_CHECK bool sl_duration_parse(struct sl_slice text, int64_t *ret_seconds, int32_t *ret_nanos);
SL_CHECK bool sl_duration_print(int64_t seconds, int64_t nanos, char room[SL_TIME_TEXT_BYTES]);
/* Padded base64. NULL: no memory. */
SL_CHECK json_t *sl_bytes_to_json(struct sl_slice bytes);
/* Both alphabets, padded or not; gives a block to sl_free(). */
SL_CHECK enum sl_status
sl_bytes_from_text(struct sl_slice text, uint8_t **ret_bytes, size_t *ret_size);
/* A number, or "NaN", "Infinity", "-Infinity". NULL: no memory. */
SL_CHECK json_t *sl_double_to_json(double value);
SL_CHECK json_t *sl_float_to_json(float value);
/* lowerCamelCase of a path of a FieldMask, appended; and back. `out` has room for twice its size.
 * False: it has no other form. */
SL_CHECK bool sl_mask_path_to_json(struct sl_slice path, struct sl_buf *out);
SL_CHECK bool sl_mask_path_from_json(struct sl_slice path, struct sl_buf *out);

#endif
