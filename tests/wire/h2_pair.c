#include "tests/wire/h2_pair.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/mem.h"

/* ---- Bodies ---------------------------------------------------------------------------------- */

static struct h2_body *of(struct sl_h2_body *body)
{
    return SL_CONTAINER(body, struct h2_body, base);
}

static size_t ready(struct sl_h2_body *base, size_t max, bool *ret_is_last)
{
    struct h2_body *body = of(base);
    size_t n = body->size - body->sent;
    body->n_asked++;
    n = n > max ? max : n;
    n = body->piece > 0 && n > body->piece ? body->piece : n;
    *ret_is_last = body->is_ended && body->sent + n == body->size;
    return n;
}

static void take(struct sl_h2_body *base, uint8_t *dst, size_t n)
{
    struct h2_body *body = of(base);
    memcpy(dst, body->data + body->sent, n);
    body->sent += n;
}

static size_t trailers(struct sl_h2_body *base, const struct sl_h2_header **ret_fields)
{
    const struct h2_body *body = of(base);
    *ret_fields = body->trailers;
    return body->n_trailers;
}

void h2_body_init(struct h2_body *body, const void *data, size_t size, bool is_ended)
{
    *body = (struct h2_body){ .base = { .ready = ready, .take = take, .trailers = trailers },
                              .data = data,
                              .size = size,
                              .is_ended = is_ended };
}

/* ---- A side ---------------------------------------------------------------------------------- */

SL_PRINTF(2, 3) static void note(struct h2_side *side, const char *fmt, ...)
{
    if (side->is_silent) {
        return;
    }
    va_list args;
    side->last_data_id = 0;
    va_start(args, fmt);
    const size_t left = sizeof(side->transcript) - side->n_transcript;
    const int n = vsnprintf(side->transcript + side->n_transcript, left, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= left) {
        abort();
    }
    side->n_transcript += (size_t)n;
}

static void on_headers(void *user, struct sl_h2_stream *stream, const struct sl_h2_headers *headers)
{
    static const char *const kinds[] = { "request", "response", "informational", "trailers" };
    struct h2_side *side = user;
    side->n_headers++;
    note(side, "%d %s", sl_h2_stream_id(stream), kinds[headers->kind]);
    for (size_t i = 0; i < headers->n_fields; i++) {
        const struct sl_h2_header *field = &headers->fields[i];
        note(
            side, " %.*s=%.*s%s", SL_SLICE_FMT(field->name), SL_SLICE_FMT(field->value),
            field->is_secret ? "(secret)" : "");
    }
    note(side, "%s%s\n", headers->is_over_soft ? " over" : "", headers->is_end ? " end" : "");
    if (headers->kind != SL_H2_REQUEST) {
        return;
    }
    if (side->n_streams < H2_STREAMS) {
        side->streams[side->n_streams++] = stream;
    }
    if (side->on_request != NULL) {
        side->on_request(side, stream);
    }
}

/* Pieces that follow each other are one line, however they were cut. */
static void note_data(struct h2_side *side, int32_t id, struct sl_slice bytes)
{
    if (bytes.size > 64) {
        note(side, "%d data of %zu\n", id, bytes.size);
        return;
    }
    if (side->last_data_id == id && side->n_transcript > 0) {
        side->n_transcript--;
        note(side, "%.*s\n", SL_SLICE_FMT(bytes));
    } else {
        note(side, "%d data %.*s\n", id, SL_SLICE_FMT(bytes));
    }
    side->last_data_id = id;
}

static void on_data(void *user, struct sl_h2_stream *stream, struct sl_slice bytes)
{
    struct h2_side *side = user;
    side->n_data_bytes += bytes.size;
    note_data(side, sl_h2_stream_id(stream), bytes);
    if (side->on_data != NULL) {
        side->on_data(side, stream, bytes);
    }
    if (!side->keeps_credit) {
        sl_h2_stream_consume(stream, bytes.size);
    }
}

static void on_end_stream(void *user, struct sl_h2_stream *stream)
{
    struct h2_side *side = user;
    side->n_ends++;
    note(side, "%d end\n", sl_h2_stream_id(stream));
}

static void on_closed(void *user, struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code)
{
    static const char *const hows[] = { "done", "reset", "ours", "lost", "unprocessed" };
    struct h2_side *side = user;
    side->n_closed++;
    side->n_lost += how == SL_H2_CLOSED_LOST;
    note(side, "%d closed %s %u\n", sl_h2_stream_id(stream), hows[how], code);
    for (size_t i = 0; i < side->n_streams; i++) {
        if (side->streams[i] == stream) {
            side->streams[i] = NULL;
        }
    }
    if (side->on_closed != NULL) {
        side->on_closed(side, stream);
    }
}

static void on_sent_end(void *user, struct sl_h2_stream *stream)
{
    note(user, "%d sent\n", sl_h2_stream_id(stream));
}

static void on_goaway(void *user, uint32_t code, struct sl_slice debug)
{
    note(user, "goaway %u %.*s\n", code, SL_SLICE_FMT(debug));
}

static void on_ping_ack(void *user, uint64_t payload)
{
    note(user, "pong %llx\n", (unsigned long long)payload);
}

static void on_output(void *user)
{
    struct h2_side *side = user;
    side->n_output++;
}

struct h2_side *h2_side_new(void)
{
    struct h2_side *side = calloc(1, sizeof(*side));
    if (side == NULL) {
        abort();
    }
    side->now_ns = UINT64_C(1000000000);
    sl_limits_init(&side->limits);
    return side;
}

void h2_side_start(struct h2_side *side, bool is_client)
{
    static const struct sl_h2_callbacks callbacks = { .on_headers = on_headers,
                                                      .on_data = on_data,
                                                      .on_end_stream = on_end_stream,
                                                      .on_closed = on_closed,
                                                      .on_sent_end = on_sent_end,
                                                      .on_goaway = on_goaway,
                                                      .on_ping_ack = on_ping_ack,
                                                      .on_output = on_output };
    const struct sl_h2_options options = { .is_client = is_client,
                                           .limits = &side->limits,
                                           .allow_pings_without_calls = false };
    if (sl_h2_session_new(&options, &callbacks, side, &side->session) != SL_OK) {
        abort();
    }
}

void h2_side_free(struct h2_side *side)
{
    if (side != NULL) {
        side->session = sl_h2_session_free(side->session);
        free(side);
    }
}

size_t h2_side_pull(struct h2_side *side)
{
    return sl_h2_session_pull(side->session, side->room, sizeof(side->room), side->now_ns);
}

enum sl_status h2_side_feed(struct h2_side *side, const void *bytes, size_t size)
{
    struct sl_error err = { .status = SL_OK };
    return sl_h2_session_feed(side->session, sl_slice_of(bytes, size), side->now_ns, &err);
}

static size_t carry(struct h2_side *from, struct h2_side *to, size_t step)
{
    const size_t n = h2_side_pull(from);
    for (size_t at = 0; at < n;) {
        const size_t left = n - at;
        const size_t size = step > 0 && left > step ? step : left;
        if (h2_side_feed(to, from->room + at, size) != SL_OK) {
            note(to, "over: %s\n", sl_h2_session_fault(to->session));
            break;
        }
        at += size;
    }
    return n;
}

void h2_pump(struct h2_side *a, struct h2_side *b, size_t step)
{
    while (carry(a, b, step) + carry(b, a, step) > 0) {
    }
}

const char *h2_transcript(struct h2_side *side)
{
    side->transcript[side->n_transcript] = '\0';
    side->n_transcript = 0;
    side->last_data_id = 0;
    return side->transcript;
}

/* ---- Hand-made frames ------------------------------------------------------------------------ */

void h2_wire_clear(struct h2_wire *wire)
{
    wire->size = 0;
}

void h2_wire_raw(struct h2_wire *wire, const void *bytes, size_t size)
{
    if (sizeof(wire->bytes) - wire->size < size) {
        abort();
    }
    if (size > 0) {
        memcpy(wire->bytes + wire->size, bytes, size);
    }
    wire->size += size;
}

void h2_wire_magic(struct h2_wire *wire)
{
    h2_wire_raw(wire, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
}

void h2_wire_frame(
    struct h2_wire *wire, uint8_t type, uint8_t flags, uint32_t id, const void *bytes, size_t size)
{
    const uint8_t head[] = {
        (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size,      type,       flags,
        (uint8_t)(id >> 24),   (uint8_t)(id >> 16),  (uint8_t)(id >> 8), (uint8_t)id
    };
    h2_wire_raw(wire, head, sizeof(head));
    h2_wire_raw(wire, bytes, size);
}

size_t h2_hpack(uint8_t *room, const char *name, const char *value)
{
    const size_t name_bytes = strlen(name);
    const size_t value_bytes = strlen(value);
    room[0] = 0;
    room[1] = (uint8_t)name_bytes;
    memcpy(room + 2, name, name_bytes);
    room[2 + name_bytes] = (uint8_t)value_bytes;
    memcpy(room + 3 + name_bytes, value, value_bytes);
    return 3 + name_bytes + value_bytes;
}

void h2_wire_request(struct h2_wire *wire, uint32_t id, bool is_end)
{
    uint8_t block[256];
    size_t n = 0;
    n += h2_hpack(block + n, ":method", "POST");
    n += h2_hpack(block + n, ":scheme", "http");
    n += h2_hpack(block + n, ":path", "/a.B/C");
    n += h2_hpack(block + n, ":authority", "x");
    h2_wire_frame(wire, 1, (uint8_t)(4 | (is_end ? 1 : 0)), id, block, n);
}

void h2_wire_reset(struct h2_wire *wire, uint32_t id, uint32_t code)
{
    const uint8_t bytes[] = { (uint8_t)(code >> 24), (uint8_t)(code >> 16), (uint8_t)(code >> 8),
                              (uint8_t)code };
    h2_wire_frame(wire, 3, 0, id, bytes, sizeof(bytes));
}

void h2_side_greet(struct h2_side *side)
{
    static struct h2_wire wire;
    h2_wire_clear(&wire);
    h2_wire_magic(&wire);
    h2_wire_frame(&wire, 4, 0, 0, NULL, 0);
    if (h2_side_feed_wire(side, &wire) != SL_OK || h2_side_pull(side) == 0) {
        abort();
    }
}

enum sl_status h2_side_feed_wire(struct h2_side *side, struct h2_wire *wire)
{
    const size_t size = wire->size;
    wire->size = 0;
    return h2_side_feed(side, wire->bytes, size);
}

const uint8_t *h2_find_frame(const uint8_t *bytes, size_t size, uint8_t type, size_t *ret_size)
{
    for (size_t at = 0; at + 9 <= size;) {
        const size_t length = (size_t)bytes[at] << 16 | (size_t)bytes[at + 1] << 8 | bytes[at + 2];
        if (bytes[at + 3] == type) {
            *ret_size = length;
            return bytes + at + 9;
        }
        at += 9 + length;
    }
    return NULL;
}

size_t h2_count_frames(const uint8_t *bytes, size_t size, uint8_t type)
{
    size_t n = 0;
    for (size_t at = 0; at + 9 <= size;) {
        n += bytes[at + 3] == type;
        at += 9 + ((size_t)bytes[at] << 16 | (size_t)bytes[at + 1] << 8 | bytes[at + 2]);
    }
    return n;
}
