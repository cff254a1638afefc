/* Properties of a server session that is fed hostile bytes: the owner sees the same whole and in
 * pieces; each stream that it was told of ends exactly once, also when the session is freed; what
 * is pulled is a sequence of whole frames; every answer in it fits its limits. */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "service/h2/h2.h"
#include "tests/fuzz/fuzz.h"

enum { ROOM = 64 * 1024, MAX_PULLS = 1000 };

struct owner {
    struct sl_h2_session *session;
    uint64_t digest; /* of what the callbacks said, however it was cut */
    size_t n_opened, n_closed;
    bool has_goaway; /* what follows is served or not, as streams are open at the border of a piece
                      */
};

struct call {
    struct sl_h2_body body;
    size_t n_left;
    uint64_t digest; /* of its DATA */
};

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static uint64_t digest_of(uint64_t digest, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        digest = (digest ^ bytes[i]) * UINT64_C(0x100000001B3);
    }
    return digest;
}

static void mix(struct owner *owner, const void *bytes, size_t size)
{
    if (!owner->has_goaway) {
        owner->digest = digest_of(owner->digest, bytes, size);
    }
}

static void mix_number(struct owner *owner, uint64_t number)
{
    mix(owner, &number, sizeof(number));
}

static size_t ready(struct sl_h2_body *body, size_t max, bool *ret_is_last)
{
    const struct call *call = SL_CONTAINER(body, struct call, body);
    const size_t n = call->n_left < max ? call->n_left : max;
    *ret_is_last = n == call->n_left;
    return n;
}

static void take(struct sl_h2_body *body, uint8_t *dst, size_t n)
{
    struct call *call = SL_CONTAINER(body, struct call, body);
    check(n <= call->n_left);
    memset(dst, 'x', n);
    call->n_left -= n;
}

static size_t trailers(struct sl_h2_body *body, const struct sl_h2_header **ret_fields)
{
    static const struct sl_h2_header field = { .name = { (const uint8_t *)"grpc-status", 11 },
                                               .value = { (const uint8_t *)"0", 1 } };
    (void)body;
    *ret_fields = &field;
    return 1;
}

/* Some streams are answered, some reset, some left open. */
static void answer(struct sl_h2_stream *stream, struct call *call)
{
    static const struct sl_h2_header status = { .name = { (const uint8_t *)":status", 7 },
                                                .value = { (const uint8_t *)"200", 3 } };
    switch (sl_h2_stream_id(stream) % 8) {
    case 1:
        (void)!sl_h2_stream_respond(stream, &status, 1, &call->body);
        break;
    case 3:
        (void)!sl_h2_stream_respond(stream, &status, 1, NULL);
        break;
    case 5:
        sl_h2_stream_reset(stream, SL_H2_CANCEL);
        break;
    default:
        break;
    }
}

static void on_headers(void *user, struct sl_h2_stream *stream, const struct sl_h2_headers *headers)
{
    struct owner *owner = user;
    mix_number(owner, (uint64_t)headers->kind);
    mix_number(owner, headers->list_bytes);
    mix_number(owner, (uint64_t)sl_h2_stream_id(stream));
    for (size_t i = 0; i < headers->n_fields; i++) {
        mix(owner, headers->fields[i].name.data, headers->fields[i].name.size);
        mix(owner, headers->fields[i].value.data, headers->fields[i].value.size);
    }
    if (headers->kind != SL_H2_REQUEST) {
        return;
    }
    struct call *call = calloc(1, sizeof(*call));
    check(call != NULL);
    call->body = (struct sl_h2_body){ .ready = ready, .take = take, .trailers = trailers };
    call->n_left = 40000;
    owner->n_opened++;
    sl_h2_stream_set_user(stream, call);
    answer(stream, call);
}

static void on_data(void *user, struct sl_h2_stream *stream, struct sl_slice bytes)
{
    struct call *call = sl_h2_stream_user(stream);
    (void)user;
    check(call != NULL);
    call->digest = digest_of(call->digest, bytes.data, bytes.size);
    sl_h2_stream_consume(stream, bytes.size);
}

static void on_end_stream(void *user, struct sl_h2_stream *stream)
{
    /* Only now: how much comes before a breach of content-length depends on the pieces. */
    const struct call *call = sl_h2_stream_user(stream);
    mix_number(user, call->digest);
    mix_number(user, (uint64_t)sl_h2_stream_id(stream) + 1000);
    check(sl_h2_stream_is_half_closed(stream));
}

static void on_closed(void *user, struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code)
{
    struct owner *owner = user;
    owner->n_closed++;
    mix_number(owner, (uint64_t)how);
    mix_number(owner, code);
    struct call *call = sl_h2_stream_user(stream);
    check(call != NULL);
    free(call);
}

static void on_sent_end(void *user, struct sl_h2_stream *stream)
{
    (void)user;
    check(sl_h2_stream_user(stream) != NULL);
}

static void on_goaway(void *user, uint32_t code, struct sl_slice debug)
{
    struct owner *owner = user;
    mix_number(owner, code);
    mix(owner, debug.data, debug.size);
    owner->has_goaway = true;
}

static void on_output(void *user)
{
    (void)user;
}

static const struct sl_h2_callbacks callbacks = { .on_headers = on_headers,
                                                  .on_data = on_data,
                                                  .on_end_stream = on_end_stream,
                                                  .on_closed = on_closed,
                                                  .on_sent_end = on_sent_end,
                                                  .on_goaway = on_goaway,
                                                  .on_output = on_output };

/* Pulls everything; the frames must be whole, in any cut of the rooms. */
static void drain(struct owner *owner, size_t room_bytes)
{
    static uint8_t room[ROOM];
    uint8_t head[9];
    size_t n_head = 0;
    size_t skip = 0;
    for (int i = 0; i < MAX_PULLS; i++) {
        const size_t n = sl_h2_session_pull(owner->session, room, room_bytes, 2);
        for (size_t at = 0; at < n;) {
            if (skip > 0) {
                const size_t step = skip < n - at ? skip : n - at;
                skip -= step;
                at += step;
                continue;
            }
            head[n_head++] = room[at++];
            if (n_head == sizeof(head)) {
                skip = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
                check(skip <= 16384 && head[3] <= 9);
                n_head = 0;
            }
        }
        if (n == 0) {
            break;
        }
    }
    check(skip == 0 && n_head == 0);
}

static uint64_t serve(const uint8_t *data, size_t size, size_t cut, bool has_preface)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct sl_limits limits;
    struct owner owner = { .digest = UINT64_C(0xCBF29CE484222325) };
    const struct sl_h2_options options = { .limits = &limits };
    sl_limits_init(&limits);
    limits.stream_window = 65535;
    limits.connection_window = 65535;
    check(sl_h2_session_new(&options, &callbacks, &owner, &owner.session) == SL_OK);
    enum sl_status status = SL_OK;
    if (has_preface) {
        status =
            sl_h2_session_feed(owner.session, sl_slice_of(preface, sizeof(preface) - 1), 1, NULL);
    }
    for (size_t at = 0; at < size && status == SL_OK;) {
        const size_t n = cut > 0 && size - at > cut ? cut : size - at;
        status = sl_h2_session_feed(owner.session, sl_slice_of(data + at, n), 1, NULL);
        at += n;
    }
    check((status == SL_OK) == (sl_h2_session_fault(owner.session) == NULL));
    check(sl_h2_session_n_streams(owner.session) == owner.n_opened - owner.n_closed);
    const uint64_t digest = owner.digest;
    drain(&owner, cut % 2 == 0 ? ROOM : 32 * 1024);
    owner.session = sl_h2_session_free(owner.session);
    check(owner.n_opened == owner.n_closed);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    /* The first byte: whether the preface is there, and the size of the pieces. */
    const bool has_preface = (data[0] & 1) == 0;
    const size_t cut = 1 + (data[0] >> 1);
    check(serve(data + 1, size - 1, 0, has_preface) == serve(data + 1, size - 1, cut, has_preface));
    return 0;
}
