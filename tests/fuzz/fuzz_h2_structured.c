/* Properties of a whole server connection under a list of valid frames, some of them mutated, with
 * window games, resets and time at any place: the output is whole frames that fit the client's
 * SETTINGS, with header blocks that can be read; no DATA goes beyond the client's windows; a stream
 * is answered only after it was opened, its headers come first, it ends at most once and nothing
 * follows; and those of fuzz_calls.h, when the connection has gone.
 *
 * Input: a byte of flags, then operations with their arguments (`step`); a missing byte is 0. */
#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "service/rpc/conn.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_calls.h"

enum {
    ROOM_BYTES = 64 * 1024,
    OUT_BYTES = 1 << 20,
    WIRE_BYTES = 1 << 18,
    MAX_PULLS = 400,
    MAX_OPERATIONS = 500,
    MAX_STREAMS = 600, /* more than operations, so that each has its place */
    HEAD_BYTES = 9
};

enum { FLAG_LATE = 1, FLAG_DRAIN = 2, FLAG_LOST = 4 };

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONT };

enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, HAS_PRIORITY = 0x20 };

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

/* What the client must believe, from the frames that went and came. */
struct peer_stream {
    uint32_t id;
    int64_t window;
    bool has_headers, is_ended, is_reset, is_abandoned;
};

struct world {
    struct sl_slice script;
    struct sl_conn *conn;
    uint64_t now_ns;
    bool is_over;
    bool is_lazy; /* pulls only when told to */
    uint8_t mutate_at, mutate_xor;
    uint32_t next_id, last_id;
    struct peer_stream streams[MAX_STREAMS];
    size_t n_streams;
    int64_t window, initial_window;
    uint32_t frame_max;
    nghttp2_hd_inflater *inflater; /* NULL: the client has changed its table */
    size_t n_in, n_out;
    uint8_t in[WIRE_BYTES]; /* sent, not yet a whole frame */
    uint8_t out[OUT_BYTES]; /* received, not yet a whole frame */
    uint8_t wire[WIRE_BYTES];
    size_t n_wire;
};

static struct world world;

static uint8_t next(void)
{
    if (world.script.size == 0) {
        return 0;
    }
    world.script.size--;
    return *world.script.data++;
}

static struct peer_stream *find(uint32_t id)
{
    for (size_t i = 0; i < world.n_streams; i++) {
        if (world.streams[i].id == id) {
            return &world.streams[i];
        }
    }
    return NULL;
}

/* ---- What the client sent, as its own books have it ------------------------------------------ */

static void note_settings(const uint8_t *payload, size_t size)
{
    for (size_t i = 0; i + 6 <= size; i += 6) {
        const uint32_t id = (uint32_t)payload[i] << 8 | payload[i + 1];
        const uint32_t value = get32(payload + i + 2);
        if (id == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE) {
            for (size_t k = 0; k < world.n_streams; k++) {
                world.streams[k].window += (int64_t)value - world.initial_window;
            }
            world.initial_window = value;
        } else if (id == NGHTTP2_SETTINGS_MAX_FRAME_SIZE) {
            world.frame_max = value;
        } else if (id == NGHTTP2_SETTINGS_HEADER_TABLE_SIZE && world.inflater != NULL) {
            nghttp2_hd_inflate_del(world.inflater);
            world.inflater = NULL;
        }
    }
}

/* A stream is there from the head of its HEADERS on: the server may answer to half a block. */
static void note_head(const uint8_t *head)
{
    const uint32_t id = get32(head + 5) & 0x7FFFFFFF;
    if (head[3] == HEADERS && id % 2 == 1 && id > world.last_id) {
        check(world.n_streams < MAX_STREAMS);
        world.last_id = id;
        world.streams[world.n_streams++] =
            (struct peer_stream){ .id = id, .window = world.initial_window };
    }
}

static void note_sent(const uint8_t *head, size_t size)
{
    const uint32_t id = get32(head + 5) & 0x7FFFFFFF;
    const uint8_t *payload = head + HEAD_BYTES;
    struct peer_stream *stream = find(id);
    note_head(head);
    if (head[3] == SETTINGS && (head[4] & ACK) == 0) {
        note_settings(payload, size);
    } else if (head[3] == WINDOW_UPDATE && size == 4) {
        int64_t nowhere = 0;
        int64_t *window = stream == NULL ? &nowhere : &stream->window;
        *(id == 0 ? &world.window : window) += get32(payload) & 0x7FFFFFFF;
    } else if (head[3] == RST_STREAM && size == 4 && stream != NULL) {
        stream->is_abandoned = true;
    }
}

/* Cuts whole frames off the front of `bytes`; gives what is left. */
static size_t
each_frame(uint8_t *bytes, size_t size, void (*note)(const uint8_t *head, size_t size))
{
    size_t at = 0;
    while (size - at >= HEAD_BYTES) {
        const size_t payload = get32(bytes + at) >> 8;
        if (size - at - HEAD_BYTES < payload) {
            break;
        }
        note(bytes + at, payload);
        at += HEAD_BYTES + payload;
    }
    memmove(bytes, bytes + at, size - at);
    return size - at;
}

/* ---- What the server answers ----------------------------------------------------------------- */

/* A block that can be read whole; a status in the first one of a stream, and only there. */
static void check_block(const uint8_t *block, size_t size, bool is_first)
{
    for (size_t n_fields = 0; world.inflater != NULL; n_fields++) {
        nghttp2_nv field;
        int flags = 0;
        const ssize_t n = nghttp2_hd_inflate_hd2(world.inflater, &field, &flags, block, size, 1);
        check(n >= 0);
        block += n;
        size -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
            check(n_fields > 0 && size == 0);
            (void)nghttp2_hd_inflate_end_headers(world.inflater);
            return;
        }
        check((flags & NGHTTP2_HD_INFLATE_EMIT) != 0);
        check((field.name[0] == ':') == (is_first && n_fields == 0));
    }
}

static void note_stream_frame(const uint8_t *head, size_t size, struct peer_stream *stream)
{
    if (stream == NULL || stream->is_ended || stream->is_reset || stream->is_abandoned) {
        abort();
    }
    if (head[3] == HEADERS) {
        /* The server never needs more than a frame, nor padding. */
        check((head[4] & END_HEADERS) != 0 && (head[4] & PADDED) == 0);
        check(!stream->has_headers || (head[4] & END_STREAM) != 0);
        check_block(head + HEAD_BYTES, size, !stream->has_headers);
        stream->has_headers = true;
    } else {
        check(stream->has_headers);
        stream->window -= (int64_t)size;
        world.window -= (int64_t)size;
        check(size == 0 || (stream->window >= 0 && world.window >= 0));
    }
    stream->is_ended = (head[4] & END_STREAM) != 0;
}

static void note_received(const uint8_t *head, size_t size)
{
    const uint32_t id = get32(head + 5);
    struct peer_stream *stream = find(id);
    check(size <= world.frame_max || size <= 16384);
    switch (head[3]) {
    case DATA:
    case HEADERS:
        note_stream_frame(head, size, stream);
        break;
    case RST_STREAM:
        check(size == 4 && stream != NULL && !stream->is_reset);
        stream->is_reset = true;
        break;
    case SETTINGS:
        check(id == 0 && size % 6 == 0);
        break;
    case PING:
        check(id == 0 && size == 8);
        break;
    case GOAWAY:
        check(id == 0 && size >= 8);
        break;
    case WINDOW_UPDATE:
        check(size == 4 && get32(head + HEAD_BYTES) > 0 && (id == 0 || stream != NULL));
        break;
    default:
        abort(); /* a server that pushes, or sends what nobody asked for */
    }
}

static void pull(void)
{
    for (int i = 0; i < MAX_PULLS; i++) {
        check(OUT_BYTES - world.n_out >= ROOM_BYTES);
        const size_t n =
            sl_conn_pull(world.conn, world.out + world.n_out, ROOM_BYTES, world.now_ns);
        world.n_out = each_frame(world.out, world.n_out + n, note_received);
        if (n == 0) {
            check(world.n_out == 0);
            return;
        }
    }
    abort(); /* more than all handlers have to say */
}

/* ---- What the client can say ----------------------------------------------------------------- */

static void feed(const uint8_t *bytes, size_t size)
{
    if (world.is_over) {
        return;
    }
    if (WIRE_BYTES - world.n_in < size) { /* a mutated length: the frame never ends */
        world.is_over = true;
        return;
    }
    if (size > 0) {
        memcpy(world.in + world.n_in, bytes, size);
    }
    world.n_in = each_frame(world.in, world.n_in + size, note_sent);
    if (world.n_in >= HEAD_BYTES) {
        note_head(world.in);
    }
    world.is_over =
        sl_conn_feed(world.conn, sl_slice_of(bytes, size), world.now_ns, NULL) != SL_OK ||
        sl_conn_wants_close(world.conn);
    if (!world.is_lazy) {
        pull();
    }
}

/* Sends the frame whose payload is world.wire, behind room for its head. `cut`: in two pieces. */
static void send(uint8_t type, uint8_t flags, uint32_t id, bool cut)
{
    uint8_t *head = world.wire;
    const size_t size = HEAD_BYTES + world.n_wire;
    put32(head, (uint32_t)world.n_wire << 8 | type);
    head[4] = flags;
    put32(head + 5, id);
    if (world.mutate_xor != 0 && world.mutate_at < size) {
        head[world.mutate_at] ^= world.mutate_xor;
        world.mutate_xor = 0;
    }
    const size_t first = cut ? size / 2 : size;
    feed(head, first);
    if (first < size) {
        feed(head + first, size - first);
    }
    world.n_wire = 0;
}

static void add(const void *bytes, size_t size)
{
    check(WIRE_BYTES - HEAD_BYTES - world.n_wire >= size);
    memcpy(world.wire + HEAD_BYTES + world.n_wire, bytes, size);
    world.n_wire += size;
}

static void add_byte(uint8_t byte)
{
    add(&byte, 1);
}

static void add32(uint32_t value)
{
    uint8_t bytes[4];
    put32(bytes, value);
    add(bytes, sizeof(bytes));
}

/* HPACK: a string without Huffman, its length with a prefix of 7 bits. */
static void add_string(const char *text, size_t size)
{
    if (size < 127) {
        add_byte((uint8_t)size);
    } else {
        size_t left = size - 127;
        add_byte(127);
        for (; left >= 128; left /= 128) {
            add_byte((uint8_t)(left % 128 + 128));
        }
        add_byte((uint8_t)left);
    }
    add(text, size);
}

/* A literal with a new name; `form`: 0x00 not indexed, 0x10 never, 0x40 into the table. */
static void add_field(uint8_t form, const char *name, const char *value)
{
    add_byte(form);
    add_string(name, strlen(name));
    add_string(value, strlen(value));
}

/* More than is usual: what limits, routes and metadata must bear. */
static void add_extra(uint8_t form)
{
    static char filler[4096];
    const uint8_t how = next();
    const size_t size = (size_t)next() * 16;
    memset(filler, 'v', sizeof(filler));
    switch (how % 8) {
    case 0:
        add_field(form, "grpc-timeout", size % 32 == 0 ? "5S" : "3m");
        break;
    case 1:
        add_field(form, "grpc-accept-encoding", "identity,gzip");
        break;
    case 2:
        add_field(form, "grpc-encoding", "gzip");
        break;
    case 3:
        for (int i = how / 8; i >= 0; i--) {
            add_byte(form);
            add_string("x-a", 3);
            add_string(filler, size);
        }
        break;
    case 4:
        add_field(form, "x-bin", "AAEC");
        break;
    case 5:
        add_byte((uint8_t)(0x80 | how / 8 | (size & 0x60))); /* any entry of the tables */
        break;
    case 6:
        add_field(form, "content-length", "7");
        break;
    default:
        add_byte((uint8_t)(0x20 | how / 8)); /* a smaller table */
        break;
    }
}

static void add_request(uint8_t what)
{
    static const char *const paths[] = { "/a/e", "/a/f", "/a/c", "/a/u", "/x/y", "/a/f", "", "/a" };
    static const uint8_t forms[] = { 0x00, 0x40, 0x10, 0x00 };
    const uint8_t form = forms[what >> 3 & 3];
    add_field(form, ":method", (what & 0x80) != 0 && (what & 7) == 7 ? "GET" : "POST");
    add_field(form, ":scheme", "http");
    add_field(form, ":path", paths[what & 7]);
    add_field(form, ":authority", "a");
    add_field(form, "content-type", "application/grpc");
    add_field(form, "te", "trailers");
    if ((what & 0x20) != 0) {
        add_extra(form);
    }
}

/* HEADERS of a request or of trailers, in one frame or with a CONTINUATION. */
static void send_block(uint8_t how, uint32_t id)
{
    const uint8_t end = (how & 1) != 0 ? END_STREAM : 0;
    if ((how & 2) == 0) {
        send(HEADERS, end | END_HEADERS, id, (how & 4) != 0);
        return;
    }
    static uint8_t rest[WIRE_BYTES];
    const size_t size = world.n_wire;
    const size_t first = size / 2;
    memcpy(rest, world.wire + HEAD_BYTES + first, size - first);
    world.n_wire = first;
    send(HEADERS, end, id, (how & 4) != 0);
    add(rest, size - first);
    send(CONT, (how & 8) != 0 ? 0 : END_HEADERS, id, false);
}

static uint32_t some_id(void)
{
    const size_t n = (world.next_id - 1) / 2;
    return n == 0 ? 1 : 1 + 2 * (uint32_t)(next() % n);
}

static void open_stream(uint8_t how)
{
    add_request(next());
    send_block(how, world.next_id);
    world.next_id += 2;
}

static void send_trailers(uint8_t how)
{
    const uint32_t id = some_id();
    add_field(0, "x-trailer", "v");
    send_block(how, id);
}

/* Messages with their prefixes: whole, without their end, or only bytes. */
static void send_data(uint8_t how)
{
    static const uint8_t zeros[UINT8_MAX * 65];
    const uint32_t id = some_id();
    const size_t size = (size_t)next() * ((how & 2) != 0 ? 64 : 1);
    const size_t n_padding = (how & 4) != 0 ? next() : 0;
    if ((how & 4) != 0) {
        add_byte((uint8_t)n_padding);
    }
    if ((how & 0x18) != 0) {
        add_byte((how & 0x18) == 0x18 ? 1 : 0);
        add32((uint32_t)size * ((how & 0x18) == 0x10 ? 2 : 1));
    }
    add(zeros, size + n_padding);
    send(DATA, (uint8_t)((how & 1) | ((how & 4) != 0 ? PADDED : 0)), id, (how & 0x20) != 0);
}

static void send_settings(uint8_t how)
{
    static const uint32_t values[] = { 0, 1, 100, 4096, 16384, 65535, 1 << 20, 0x7FFFFFFF };
    if (how == 0) {
        send(SETTINGS, ACK, 0, false);
        return;
    }
    for (int i = 0; i < 1 + (how & 1); i++) {
        const uint8_t what = next();
        const uint16_t id = 1 + what % 6;
        add_byte(0);
        add_byte((uint8_t)id);
        add32(id == NGHTTP2_SETTINGS_ENABLE_PUSH ? what >> 7 : values[what >> 3 & 7]);
    }
    send(SETTINGS, 0, 0, (how & 2) != 0);
}

static void send_window(uint8_t how)
{
    static const uint32_t values[] = { 1, 10, 1000, 65535, 1 << 20, 1 << 30, 0x7FFFFFFF, 0 };
    const uint32_t id = (how & 1) != 0 ? 0 : some_id();
    add32(values[how >> 1 & 7] + ((how & 0x80) != 0 ? next() : 0));
    send(WINDOW_UPDATE, 0, id, false);
}

static void send_other(uint8_t how)
{
    switch (how & 3) {
    case 0:
        add32(how);
        add32(0);
        send(PING, how & 4 ? ACK : 0, 0, false);
        break;
    case 1:
        add32(some_id());
        add_byte(how);
        send(PRIORITY, 0, some_id(), false);
        break;
    case 2:
        add32(0);
        add32(how >> 2);
        send(GOAWAY, 0, 0, false);
        break;
    default:
        add32(how);
        send((uint8_t)(how >> 2), how, some_id(), false); /* any type, known or not */
    }
}

static void let_time_pass(uint8_t how)
{
    const uint64_t due_ns = sl_conn_due_ns(world.conn);
    if ((how & 1) != 0 && due_ns != SL_NEVER_NS && due_ns > world.now_ns) {
        world.now_ns = due_ns;
    } else {
        world.now_ns += (uint64_t)how * 10 * SL_NS_PER_MS;
    }
    feed(NULL, 0);
}

static void step(void)
{
    const uint8_t op = next();
    const uint8_t how = next();
    switch (op % 12) {
    case 0:
    case 1:
        open_stream(how);
        break;
    case 2:
    case 3:
        send_data(how);
        break;
    case 4:
        add32(how);
        send(RST_STREAM, 0, some_id(), (how & 1) != 0);
        break;
    case 5:
    case 6:
        send_window(how);
        break;
    case 7:
        send_settings(how);
        break;
    case 8:
        send_other(how);
        break;
    case 9:
        send_trailers(how);
        break;
    case 10:
        let_time_pass(how);
        break;
    default:
        world.is_lazy = (how & 1) != 0;
        world.mutate_at = how >> 2;
        world.mutate_xor = (how & 2) != 0 ? next() : 0;
    }
}

static void begin(struct sl_server *server)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    memset(&world, 0, offsetof(struct world, in));
    world.n_wire = 0;
    world.now_ns = SL_NS_PER_S;
    world.next_id = 1;
    world.window = world.initial_window = NGHTTP2_INITIAL_WINDOW_SIZE;
    world.frame_max = 16384;
    check(nghttp2_hd_inflate_new(&world.inflater) == 0);
    check(sl_conn_new(server, NULL, &world.conn) == SL_OK);
    check(
        sl_conn_feed(world.conn, sl_slice_of(preface, sizeof(preface) - 1), world.now_ns, NULL) ==
        SL_OK);
    send(SETTINGS, 0, 0, false);
}

/* Time passes: stalls, gaps, keepalive, the end of a drain. */
static void wait_long(void)
{
    for (int i = 0; i < 100 && !world.is_over; i++) {
        const uint64_t due_ns = sl_conn_due_ns(world.conn);
        if (due_ns == SL_NEVER_NS) {
            break;
        }
        world.now_ns = due_ns > world.now_ns ? due_ns : world.now_ns;
        feed(NULL, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct sl_server *server = fuzz_calls_server();
    begin(server);
    world.script = sl_slice_of(data + 1, size - 1);
    for (int i = 0; i < MAX_OPERATIONS && world.script.size > 0 && !world.is_over; i++) {
        step();
    }
    world.is_lazy = false;
    if ((data[0] & FLAG_DRAIN) != 0) {
        sl_conn_drain(world.conn, 1000);
    }
    if ((data[0] & FLAG_LATE) != 0) {
        wait_long();
    }
    pull();
    if ((data[0] & FLAG_LOST) != 0) {
        sl_conn_lost(world.conn);
    }
    world.conn = sl_conn_free(world.conn);
    fuzz_calls_free(server);
    if (world.inflater != NULL) {
        nghttp2_hd_inflate_del(world.inflater);
    }
    return 0;
}
