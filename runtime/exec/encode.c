#include "runtime/exec/encode.h"

#include <assert.h>

enum {
    TAG_SEQUENCE = 0x08,
    TAG_TIMESTAMP = 0x10,
    TAG_TEXT_DELTA = 0x52, /* field 10 */
    TAG_THINKING = 0x6a,   /* field 13 */
    TAG_TEXT = 0x0a,       /* the only field of both */
    MAX_VARINT_BYTES = 10,
    MAX_HEAD_BYTES = SL_EVENT_PREFIX_BYTES + 4 * (1 + MAX_VARINT_BYTES)
};

/* Seven bits a byte; (bits * 9 + 64) / 64 is that without a division. */
static size_t varint_size(uint64_t value)
{
    const unsigned bits = 64U - (unsigned)__builtin_clzll(value | 1);
    return (bits * 9 + 64) / 64;
}

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_prefix(uint8_t *at, size_t message_bytes)
{
    *at++ = 0; /* not compressed */
    *at++ = (uint8_t)(message_bytes >> 24);
    *at++ = (uint8_t)(message_bytes >> 16);
    *at++ = (uint8_t)(message_bytes >> 8);
    *at++ = (uint8_t)message_bytes;
    return at;
}

enum sl_status sl_encode_text(
    struct sl_event_channel *channel,
    enum sl_encode_text kind,
    uint64_t wall_ms,
    struct sl_slice text,
    struct sl_encoded *ret_encoded)
{
    assert(text.size > 0 && text.size <= UINT32_MAX / 2);
    uint8_t *room = NULL;
    SL_TRY(sl_event_channel_reserve(channel, MAX_HEAD_BYTES + text.size, &room));

    const uint64_t sequence = sl_event_channel_last_sequence(channel) + 1;
    const size_t inner_bytes = 1 + varint_size(text.size) + text.size;
    const size_t time_bytes = wall_ms == 0 ? 0 : 1 + varint_size(wall_ms);
    const size_t message_bytes =
        1 + varint_size(sequence) + time_bytes + 1 + varint_size(inner_bytes) + inner_bytes;

    uint8_t *at = put_prefix(room, message_bytes);
    *at++ = TAG_SEQUENCE;
    at = put_varint(at, sequence);
    if (wall_ms != 0) {
        *at++ = TAG_TIMESTAMP;
        at = put_varint(at, wall_ms);
    }
    *at++ = kind == SL_ENCODE_TEXT_DELTA ? TAG_TEXT_DELTA : TAG_THINKING;
    at = put_varint(at, inner_bytes);
    *at++ = TAG_TEXT;
    at = put_varint(at, text.size);
    memcpy(at, text.data, text.size);

    ret_encoded->size_bytes = SL_EVENT_PREFIX_BYTES + message_bytes;
    ret_encoded->is_full = sl_event_channel_commit(channel, ret_encoded->size_bytes);
    return SL_OK;
}

enum sl_status sl_encode_event(
    struct sl_event_channel *channel,
    uint64_t wall_ms,
    Sluice__V1__StreamEvent *event,
    struct sl_encoded *ret_encoded)
{
    event->sequence = sl_event_channel_last_sequence(channel) + 1;
    event->timestamp_ms = wall_ms;
    assert(protobuf_c_message_check(&event->base)); /* packing NULL in a repeated field crashes */
    const size_t message_bytes = sluice__v1__stream_event__get_packed_size(event);
    if (message_bytes > UINT32_MAX / 2) {
        return SL_RESOURCE_EXHAUSTED;
    }
    uint8_t *room = NULL;
    SL_TRY(sl_event_channel_reserve(channel, SL_EVENT_PREFIX_BYTES + message_bytes, &room));
    (void)sluice__v1__stream_event__pack(event, put_prefix(room, message_bytes));
    ret_encoded->size_bytes = SL_EVENT_PREFIX_BYTES + message_bytes;
    ret_encoded->is_full = sl_event_channel_commit(channel, ret_encoded->size_bytes);
    return SL_OK;
}

struct sl_segment *sl_encode_tail(uint64_t wall_ms, Sluice__V1__StreamEvent *event)
{
    event->sequence = 0; /* so that its field is not packed */
    event->timestamp_ms = wall_ms;
    assert(protobuf_c_message_check(&event->base));
    const size_t message_bytes = sluice__v1__stream_event__get_packed_size(event);
    const size_t size_bytes = SL_EVENT_PREFIX_BYTES + message_bytes;
    struct sl_segment *segment =
        message_bytes > UINT32_MAX / 2 ? NULL : sl_segment_new((uint32_t)size_bytes);
    if (segment != NULL) {
        (void)sluice__v1__stream_event__pack(event, put_prefix(segment->bytes, message_bytes));
        segment->used = (uint32_t)size_bytes;
    }
    return segment;
}

struct sl_segment *sl_encode_numbered(const struct sl_segment *tail, uint64_t sequence)
{
    const size_t rest_bytes = tail->used - SL_EVENT_PREFIX_BYTES;
    const size_t message_bytes = 1 + varint_size(sequence) + rest_bytes;
    const size_t size_bytes = SL_EVENT_PREFIX_BYTES + message_bytes;
    struct sl_segment *segment = sl_segment_new((uint32_t)size_bytes);
    if (segment != NULL) {
        uint8_t *at = put_prefix(segment->bytes, message_bytes);
        *at++ = TAG_SEQUENCE;
        at = put_varint(at, sequence);
        memcpy(at, tail->bytes + SL_EVENT_PREFIX_BYTES, rest_bytes);
        segment->used = (uint32_t)size_bytes;
    }
    return segment;
}

enum sl_status sl_encode_into(struct sl_buf *out, const Sluice__V1__StreamEvent *event)
{
    assert(protobuf_c_message_check(&event->base));
    const size_t message_bytes = sluice__v1__stream_event__get_packed_size(event);
    if (message_bytes > UINT32_MAX / 2) {
        return SL_RESOURCE_EXHAUSTED;
    }
    uint8_t *room = NULL;
    SL_TRY(sl_buf_reserve(out, SL_EVENT_PREFIX_BYTES + message_bytes, &room));
    (void)sluice__v1__stream_event__pack(event, put_prefix(room, message_bytes));
    sl_buf_commit(out, SL_EVENT_PREFIX_BYTES + message_bytes);
    return SL_OK;
}

/* Takes a varint off the front; false: there is none. */
static bool take_varint(struct sl_slice *bytes, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes->size && i < MAX_VARINT_BYTES; i++) {
        value |= (uint64_t)(bytes->data[i] & 0x7f) << (7 * i);
        if ((bytes->data[i] & 0x80) == 0) {
            bytes->data += i + 1;
            bytes->size -= i + 1;
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* Takes `tag` and the varint behind it off the front. */
static bool take_field(struct sl_slice *bytes, uint8_t tag, uint64_t *ret_value)
{
    if (bytes->size == 0 || bytes->data[0] != tag) {
        return false;
    }
    bytes->data++;
    bytes->size--;
    return take_varint(bytes, ret_value);
}

bool sl_encode_text_of(
    struct sl_slice event, enum sl_encode_text *ret_kind, struct sl_slice *ret_text)
{
    if (event.size > SL_EVENT_PREFIX_BYTES && event.data[0] == 0) {
        event.data += SL_EVENT_PREFIX_BYTES;
        event.size -= SL_EVENT_PREFIX_BYTES;
    }
    uint64_t value = 0;
    if (!take_field(&event, TAG_SEQUENCE, &value)) {
        return false;
    }
    (void)take_field(&event, TAG_TIMESTAMP, &value);
    if (event.size == 0) {
        return false;
    }
    const uint8_t tag = event.data[0];
    if ((tag != TAG_TEXT_DELTA && tag != TAG_THINKING) || !take_field(&event, tag, &value) ||
        value != event.size || !take_field(&event, TAG_TEXT, &value) || value != event.size) {
        return false;
    }
    *ret_kind = tag == TAG_TEXT_DELTA ? SL_ENCODE_TEXT_DELTA : SL_ENCODE_THINKING;
    *ret_text = event;
    return true;
}
