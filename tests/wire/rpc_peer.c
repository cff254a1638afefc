#include "tests/wire/rpc_peer.h"

#include <stdlib.h>

#include "runtime/base/mem.h"

enum { MAX_FIELDS = 64, IN_BYTES = 1 << 26, PREFIX_BYTES = 5 };

/* ---- Memory that fails ----------------------------------------------------------------------- */

static struct {
    size_t n, fail_at;
    bool fails_on;
} memory;

static bool may_allocate(size_t size)
{
    (void)size;
    memory.n++;
    return memory.fail_at == 0 ||
           (memory.fails_on ? memory.n < memory.fail_at : memory.n != memory.fail_at);
}

size_t rpc_n_allocations(void)
{
    return memory.n;
}

/* Only the connection's allocations count. */
void rpc_enter(const struct rpc_peer *peer)
{
    memory.fail_at = peer->fail_at;
    memory.fails_on = peer->fails_on;
    sl_mem_set_gate(may_allocate);
}

void rpc_leave(void)
{
    sl_mem_set_gate(NULL);
}

/* ---- The client's side ----------------------------------------------------------------------- */

static void collect(struct h2_side *side, struct sl_h2_stream *h2, struct sl_slice bytes)
{
    (void)side;
    struct rpc_stream *stream = sl_h2_stream_user(h2);
    if (stream != NULL && sl_buf_add(&stream->in, bytes) != SL_OK) {
        abort();
    }
}

static void closed(struct h2_side *side, struct sl_h2_stream *h2)
{
    (void)side;
    struct rpc_stream *stream = sl_h2_stream_user(h2);
    if (stream != NULL) {
        stream->stream = NULL;
        stream->is_closed = true;
    }
}

static void on_output(void *user_data)
{
    struct rpc_peer *peer = user_data;
    peer->n_output++;
}

void rpc_peer_open_with(
    struct rpc_peer *peer,
    struct sl_server *server,
    struct sl_loop *conn_loop,
    struct h2_side *client)
{
    memory.n = 0;
    *peer = (struct rpc_peer){ .client = client, .now_ns = UINT64_C(1000) * SL_NS_PER_S };
    client->now_ns = peer->now_ns;
    client->on_data = collect;
    client->on_closed = closed;
    h2_side_start(client, true);
    const struct sl_conn_options options = {
        .peer = "memory", .loop = conn_loop, .on_output = on_output, .user_data = peer
    };
    if (sl_conn_new(server, &options, &peer->conn) != SL_OK) {
        abort();
    }
}

void rpc_peer_open(struct rpc_peer *peer, struct sl_server *server, struct sl_loop *conn_loop)
{
    rpc_peer_open_with(peer, server, conn_loop, h2_side_new());
    rpc_pump(peer);
}

void rpc_peer_close(struct rpc_peer *peer)
{
    peer->conn = sl_conn_free(peer->conn);
    h2_side_free(peer->client);
    peer->client = NULL;
}

static size_t carry_to_server(struct rpc_peer *peer)
{
    const size_t n = h2_side_pull(peer->client);
    for (size_t at = 0; at < n && !peer->is_over;) {
        const size_t left = n - at;
        const size_t size = peer->step > 0 && left > peer->step ? peer->step : left;
        struct sl_error err = { .status = SL_OK };
        const struct sl_slice piece = sl_slice_of(peer->client->room + at, size);
        rpc_enter(peer);
        peer->is_over = sl_conn_feed(peer->conn, piece, peer->now_ns, &err) != SL_OK;
        rpc_leave();
        at += size;
    }
    return n;
}

static size_t carry_to_client(struct rpc_peer *peer)
{
    static uint8_t room[H2_ROOM_BYTES];
    rpc_enter(peer);
    const size_t n = sl_conn_pull(peer->conn, room, sizeof(room), peer->now_ns);
    rpc_leave();
    for (size_t at = 0; at < n;) {
        const size_t left = n - at;
        const size_t size = peer->step > 0 && left > peer->step ? peer->step : left;
        if (h2_side_feed(peer->client, room + at, size) != SL_OK) {
            break;
        }
        at += size;
    }
    return n;
}

void rpc_pump(struct rpc_peer *peer)
{
    while (carry_to_server(peer) + carry_to_client(peer) > 0) {
    }
}

void rpc_advance_ms(struct rpc_peer *peer, uint64_t ms)
{
    peer->now_ns += ms * SL_NS_PER_MS;
    peer->client->now_ns = peer->now_ns;
    struct sl_error err = { .status = SL_OK };
    peer->is_over |= sl_conn_feed(peer->conn, (struct sl_slice){ 0 }, peer->now_ns, &err) != SL_OK;
    rpc_pump(peer);
}

/* Adds a field, or replaces the one with this name; the value NULL removes it. */
static void
set_field(struct sl_h2_header *fields, size_t *n_fields, const char *name, const char *value)
{
    for (size_t i = 0; i < 5 && i < *n_fields; i++) { /* the usual ones; others may repeat */
        if (sl_slice_equals(fields[i].name, name)) {
            fields[i].value = sl_slice_str(value);
            return;
        }
    }
    if (*n_fields < MAX_FIELDS) {
        fields[*n_fields].name = sl_slice_str(name);
        fields[(*n_fields)++].value = sl_slice_str(value);
    }
}

struct rpc_stream *rpc_open(struct rpc_peer *peer, const char *path, const char *const *extra)
{
    struct sl_h2_header fields[MAX_FIELDS] = { 0 };
    size_t n_fields = 0;
    set_field(fields, &n_fields, ":method", "POST");
    set_field(fields, &n_fields, ":scheme", "http");
    set_field(fields, &n_fields, ":path", path);
    set_field(fields, &n_fields, ":authority", "test");
    set_field(fields, &n_fields, "content-type", "application/grpc");
    set_field(fields, &n_fields, "te", "trailers");
    for (size_t i = 0; extra != NULL && extra[i] != NULL; i += 2) {
        set_field(fields, &n_fields, extra[i], extra[i + 1]);
    }
    struct rpc_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        abort();
    }
    sl_buf_init(&stream->in, IN_BYTES);
    h2_body_init(&stream->body, stream->out, 0, false);
    stream->is_closed = sl_h2_request(
                            peer->client->session, fields, n_fields, &stream->body.base, stream,
                            &stream->stream) != SL_OK;
    return stream;
}

void rpc_stream_free(struct rpc_stream *stream)
{
    if (stream != NULL) {
        if (stream->stream != NULL) {
            sl_h2_stream_set_user(stream->stream, NULL);
            sl_h2_stream_reset(stream->stream, SL_H2_CANCEL);
        }
        sl_buf_done(&stream->in);
        free(stream);
    }
}

void rpc_send_raw(struct rpc_stream *stream, const void *bytes, size_t size)
{
    if (sizeof(stream->out) - stream->body.size < size) {
        abort();
    }
    if (size > 0) {
        memcpy(stream->out + stream->body.size, bytes, size);
    }
    stream->body.size += size;
    if (stream->stream != NULL) {
        sl_h2_stream_resume(stream->stream);
    }
}

void rpc_send(struct rpc_stream *stream, const void *bytes, size_t size)
{
    const uint8_t prefix[] = { 0, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                               (uint8_t)(size >> 8), (uint8_t)size };
    rpc_send_raw(stream, prefix, sizeof(prefix));
    rpc_send_raw(stream, bytes, size);
}

void rpc_end(struct rpc_stream *stream)
{
    stream->body.is_ended = true;
    if (stream->stream != NULL) {
        sl_h2_stream_resume(stream->stream);
    }
}

struct rpc_stream *
rpc_unary(struct rpc_peer *peer, const char *path, const char *const *extra, const char *message)
{
    struct rpc_stream *stream = rpc_open(peer, path, extra);
    rpc_send(stream, message, strlen(message));
    rpc_end(stream);
    rpc_pump(peer);
    return stream;
}

bool rpc_next(struct rpc_stream *stream, struct sl_slice *ret_message)
{
    const uint8_t *bytes = stream->in.data + stream->at;
    const size_t left = stream->in.size - stream->at;
    if (left < PREFIX_BYTES) {
        return false;
    }
    const size_t size =
        (size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 8 | bytes[4];
    if (left - PREFIX_BYTES < size) {
        return false;
    }
    *ret_message = sl_slice_of(bytes + PREFIX_BYTES, size);
    stream->at += PREFIX_BYTES + size;
    return true;
}

const char *rpc_log(struct rpc_peer *peer)
{
    return h2_transcript(peer->client);
}
