#include "tests/wire/client_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/mem.h"

/* The client's end. */
struct sl_net_conn {
    struct sl_loop *loop;
    const struct sl_net_callbacks *callbacks;
    void *user_data;
    uint64_t last_read_ns;
    struct sl_timer timer;
    struct sl_task open, flush, end;
    struct sl_error error;
    enum sl_net_end how;
    bool is_ending;
    struct rig_conn *peer;
};

static struct client_rig *rig_now;

static const struct rig_answer silence = { .kind = RIG_SILENCE };

/* ---- Answers --------------------------------------------------------------------------------- */

static size_t put_fields(struct sl_h2_header *fields, const struct rig_answer *answer)
{
    size_t n = 0;
    for (size_t i = 0; i + 1 < SL_COUNT(answer->fields) && answer->fields[i] != NULL; i += 2) {
        fields[n++] = (struct sl_h2_header){ .name = sl_slice_str(answer->fields[i]),
                                             .value = sl_slice_str(answer->fields[i + 1]) };
    }
    return n;
}

static void respond(
    struct sl_h2_stream *stream, const char *http, const struct rig_answer *answer, bool is_bare)
{
    static const struct sl_h2_header done = { .name = { (const uint8_t *)"grpc-status", 11 },
                                              .value = { (const uint8_t *)"0", 1 } };
    static struct sl_h2_header trailer;
    static struct h2_body bodies[RIG_ANSWERS];
    static size_t n_bodies;
    struct sl_h2_header fields[16];
    size_t n = 0;
    fields[n++] =
        (struct sl_h2_header){ .name = sl_slice_str(":status"), .value = sl_slice_str(http) };
    if (answer->kind != RIG_HTTP) {
        fields[n++] = (struct sl_h2_header){ .name = sl_slice_str("content-type"),
                                             .value = sl_slice_str("application/grpc") };
    }
    if (answer->kind == RIG_TRAILERS_ONLY) {
        fields[n++] = (struct sl_h2_header){ .name = sl_slice_str("grpc-status"),
                                             .value = sl_slice_str(answer->status) };
    }
    n += put_fields(fields + n, answer);
    struct h2_body *body = &bodies[n_bodies++ % RIG_ANSWERS];
    h2_body_init(body, "\0\0\0\0\0", answer->kind == RIG_OK ? 5 : 0, true);
    trailer = done;
    trailer.value = sl_slice_str(answer->status == NULL ? "0" : answer->status);
    body->trailers = answer->kind == RIG_OK ? &done : &trailer;
    body->n_trailers = 1;
    if (sl_h2_stream_respond(stream, fields, n, is_bare ? NULL : &body->base) != SL_OK) {
        abort();
    }
}

/* NO_ERROR, and the last stream is 0. */
static void say_goaway(struct rig_conn *conn)
{
    client_rig_say(conn, "\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
}

static void
answer_one(struct rig_conn *conn, struct sl_h2_stream *stream, const struct rig_answer *answer)
{
    switch (answer->kind) {
    case RIG_OK:
    case RIG_LATE:
        respond(stream, "200", answer, false);
        return;
    case RIG_TRAILERS_ONLY:
        respond(stream, "200", answer, true);
        return;
    case RIG_HTTP:
        respond(stream, answer->status, answer, true);
        return;
    case RIG_RESET:
        sl_h2_stream_reset(stream, (enum sl_h2_code)answer->code);
        return;
    case RIG_LOSE:
        conn->is_over = true;
        return;
    case RIG_LEAVE:
        say_goaway(conn);
        return;
    case RIG_SILENCE:
        return;
    }
}

void client_rig_say(struct rig_conn *conn, const char *bytes, size_t size)
{
    if (conn->net != NULL && !conn->net->is_ending) {
        conn->net->last_read_ns = sl_loop_now_ns(conn->net->loop);
        conn->net->callbacks->on_bytes(conn->net, sl_slice_of(bytes, size), conn->net->user_data);
    }
}

static const struct rig_answer *next_answer(void)
{
    struct client_rig *rig = rig_now;
    if (rig->n_answers == 0) {
        return &silence;
    }
    return &rig->answers[rig->n_requests < rig->n_answers ? rig->n_requests : rig->n_answers - 1];
}

static void answer_all(struct rig_conn *conn)
{
    for (size_t i = 0; i < conn->side->n_streams; i++) {
        struct sl_h2_stream *stream = conn->side->streams[i];
        if (stream == NULL || sl_h2_stream_user(stream) != NULL) {
            continue;
        }
        const struct rig_answer *answer = next_answer();
        if (answer->at_once || sl_h2_stream_is_half_closed(stream)) {
            sl_h2_stream_set_user(stream, conn);
            rig_now->n_requests++;
            answer_one(conn, stream, answer);
        }
    }
}

static void on_request(struct h2_side *side, struct sl_h2_stream *stream)
{
    for (size_t i = 0; i < rig_now->n_conns; i++) {
        if (rig_now->conns[i]->side == side) {
            rig_now->conns[i]->n_body = 0;
        }
    }
    (void)stream;
}

static void on_data(struct h2_side *side, struct sl_h2_stream *stream, struct sl_slice bytes)
{
    (void)stream;
    for (size_t i = 0; i < rig_now->n_conns; i++) {
        struct rig_conn *conn = rig_now->conns[i];
        if (conn->side == side && conn->n_body + bytes.size <= sizeof(conn->body)) {
            memcpy(conn->body + conn->n_body, bytes.data, bytes.size);
            conn->n_body += bytes.size;
        }
    }
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    return sl_loop_now_ns(&rig_now->loop.base);
}

static void end(struct sl_net_conn *net, enum sl_net_end how, const char *text)
{
    if (!net->is_ending) {
        net->is_ending = true;
        net->how = how;
        (void)sl_fail(&net->error, SL_UNAVAILABLE, "%s", text);
        sl_timer_stop(&net->timer);
        sl_loop_defer(net->loop, &net->end);
    }
}

static void on_output(void *user_data)
{
    struct rig_conn *conn = user_data;
    if (conn->net != NULL && !conn->net->is_ending) {
        sl_loop_defer(conn->net->loop, &conn->net->flush);
    }
}

static void feed(struct rig_conn *conn, struct sl_slice bytes)
{
    struct sl_error err;
    if (conn->server != NULL) {
        conn->is_over |= sl_conn_feed(conn->server, bytes, now_ns(), &err) != SL_OK;
        return;
    }
    conn->side->now_ns = now_ns();
    conn->is_over |= h2_side_feed(conn->side, bytes.data, bytes.size) != SL_OK;
    answer_all(conn);
}

static size_t pull(struct rig_conn *conn, uint8_t *room, size_t size)
{
    if (conn->server != NULL) {
        return sl_conn_pull(conn->server, room, size, now_ns());
    }
    return conn->side == NULL ? 0 : sl_h2_session_pull(conn->side->session, room, size, now_ns());
}

static size_t carry(struct sl_net_conn *net)
{
    static uint8_t out[H2_ROOM_BYTES];
    static uint8_t in[H2_ROOM_BYTES];
    struct rig_conn *conn = net->peer;
    const size_t n_out = net->callbacks->on_pull(net, out, sizeof(out), net->user_data);
    if (n_out > 0) {
        feed(conn, sl_slice_of(out, n_out));
    } else if (conn->side != NULL) {
        answer_all(conn);
    }
    const size_t n_in = pull(conn, in, sizeof(in));
    if (n_in > 0 && !conn->is_mute && !net->is_ending) {
        net->last_read_ns = now_ns();
        net->callbacks->on_bytes(net, sl_slice_of(in, n_in), net->user_data);
        if (rig_now->manner == RIG_DROPS) {
            end(net, SL_NET_END_FIN, "memory: connection closed");
        }
        if (rig_now->manner == RIG_LEAVES_LATER) {
            say_goaway(conn);
        }
    }
    return n_out + n_in;
}

static void run_flush(struct sl_task *task)
{
    struct sl_net_conn *net = SL_CONTAINER(task, struct sl_net_conn, flush);
    while (net->peer != NULL && !net->is_ending && carry(net) > 0) {
    }
    if (net->peer != NULL && net->peer->is_over) {
        end(net, SL_NET_END_RESET, "memory: connection reset");
    }
}

static void run_end(struct sl_task *task)
{
    struct sl_net_conn *net = SL_CONTAINER(task, struct sl_net_conn, end);
    sl_loop_undefer(net->loop, &net->flush);
    sl_loop_undefer(net->loop, &net->open);
    if (net->how == SL_NET_END_CLOSED && net->peer != NULL) {
        while (carry(net) > 0) {
        }
    }
    sl_timer_stop(&net->timer);
    net->callbacks->on_end(net, net->how, &net->error, net->user_data);
    if (net->peer != NULL) {
        net->peer->net = NULL;
        net->peer->is_over = true;
        if (net->peer->server != NULL) {
            sl_conn_lost(net->peer->server);
        }
    }
    free(net);
}

/* ---- service/net/net.h ----------------------------------------------------------------------- */

static struct rig_conn *new_peer(struct sl_net_conn *net)
{
    struct rig_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL || rig_now->n_conns == RIG_CONNS) {
        abort();
    }
    conn->net = net;
    conn->is_mute = rig_now->is_mute;
    if (rig_now->server != NULL) {
        const struct sl_conn_options options = { .struct_size = sizeof(options),
                                                 .peer = "memory",
                                                 .loop = &rig_now->loop.base,
                                                 .on_output = on_output,
                                                 .user_data = conn };
        if (sl_conn_new(rig_now->server, &options, &conn->server) != SL_OK) {
            abort();
        }
    } else {
        conn->side = h2_side_new();
        conn->side->limits = rig_now->server_limits;
        conn->side->now_ns = now_ns();
        conn->side->on_request = on_request;
        conn->side->on_data = on_data;
        h2_side_start(conn->side, false);
        if (rig_now->manner == RIG_LEAVES) {
            sl_h2_session_goaway(conn->side->session, false, SL_H2_NO_ERROR, "");
        }
    }
    rig_now->conns[rig_now->n_conns++] = conn;
    return conn;
}

static void run_open(struct sl_task *task)
{
    struct sl_net_conn *net = SL_CONTAINER(task, struct sl_net_conn, open);
    sl_timer_stop(&net->timer);
    net->peer = new_peer(net);
    net->last_read_ns = now_ns();
    net->callbacks->on_open(net, net->user_data);
    sl_loop_defer(net->loop, &net->flush);
}

static void on_timer(void *user_data)
{
    end(user_data, SL_NET_END_TIMEOUT, "memory: connecting takes too long");
}

enum sl_status sl_net_connect(
    struct sl_loop *loop,
    const struct sl_net_connect_options *options,
    const struct sl_net_callbacks *callbacks,
    void *user_data,
    struct sl_net_conn **ret_conn,
    struct sl_error *err)
{
    (void)err;
    struct sl_net_conn *net = calloc(1, sizeof(*net));
    if (net == NULL) {
        abort();
    }
    net->loop = loop;
    net->callbacks = callbacks;
    net->user_data = user_data;
    net->open.run = run_open;
    net->flush.run = run_flush;
    net->end.run = run_end;
    sl_timer_init(&net->timer, loop, on_timer, net);
    sl_timer_start_ms(&net->timer, options->timeout_ms);
    rig_now->n_connects++;
    if (rig_now->door == RIG_OPEN) {
        sl_loop_defer(loop, &net->open);
    } else if (rig_now->door == RIG_CLOSED) {
        end(net, SL_NET_END_RESET, "memory: connection refused");
    }
    *ret_conn = net;
    return SL_OK;
}

void sl_net_conn_close(struct sl_net_conn *conn, bool now)
{
    (void)now;
    end(conn, SL_NET_END_CLOSED, "closed");
}

void sl_net_conn_want_write(struct sl_net_conn *conn)
{
    if (!conn->is_ending && conn->peer != NULL) {
        sl_loop_defer(conn->loop, &conn->flush);
    }
}

uint64_t sl_net_conn_last_read_ns(const struct sl_net_conn *conn)
{
    return conn->last_read_ns;
}

bool sl_net_conn_is_tls(const struct sl_net_conn *conn)
{
    (void)conn;
    return false;
}

struct sl_net_tls *sl_net_tls_ref(struct sl_net_tls *tls)
{
    return tls;
}

struct sl_net_tls *sl_net_tls_unref(struct sl_net_tls *tls)
{
    (void)tls;
    return NULL;
}

/* ---- The rig --------------------------------------------------------------------------------- */

void client_rig_init(struct client_rig *rig)
{
    *rig = (struct client_rig){ 0 };
    rig_now = rig;
    sl_fake_loop_init(&rig->loop);
    sl_limits_init(&rig->limits);
    sl_limits_init(&rig->server_limits);
}

void client_rig_channel(struct client_rig *rig, const struct sl_channel_options *options)
{
    struct sl_channel_options all = { 0 };
    if (options != NULL) {
        all = *options;
    }
    all.struct_size = sizeof(all);
    all.loop = &rig->loop.base;
    all.limits = &rig->limits;
    struct sl_error err = { 0 };
    if (sl_channel_new("memory:1", &all, &rig->channel, &err) != SL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

void client_rig_script(struct client_rig *rig, const struct rig_answer *answers, size_t n)
{
    rig->answers = answers;
    rig->n_answers = n;
    rig->n_requests = 0;
}

void client_rig_turn(struct client_rig *rig)
{
    for (size_t i = 0; i < rig->n_conns; i++) {
        on_output(rig->conns[i]);
    }
    if (!sl_fake_loop_run(&rig->loop)) {
        abort();
    }
}

void client_rig_advance_ms(struct client_rig *rig, uint64_t ms)
{
    client_rig_turn(rig);
    sl_fake_loop_advance_ms(&rig->loop, ms);
    client_rig_turn(rig);
}

void client_rig_lose(struct client_rig *rig, size_t conn)
{
    if (rig->conns[conn]->net != NULL) {
        end(rig->conns[conn]->net, SL_NET_END_RESET, "memory: connection reset");
    }
    client_rig_turn(rig);
}

const char *client_rig_log(struct client_rig *rig)
{
    return rig->n_conns == 0 ? "" : h2_transcript(rig->conns[rig->n_conns - 1]->side);
}

void client_rig_done(struct client_rig *rig)
{
    rig->channel = sl_channel_free(rig->channel);
    client_rig_turn(rig);
    for (size_t i = 0; i < rig->n_conns; i++) {
        struct rig_conn *conn = rig->conns[i];
        if (conn->net != NULL) { /* the channel did not close it */
            abort();
        }
        (void)sl_conn_free(conn->server);
        h2_side_free(conn->side);
        free(conn);
    }
    sl_fake_loop_done(&rig->loop);
}

struct sl_client_call *client_rig_call(
    struct client_rig *rig,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    const char *message)
{
    struct sl_client_call *call;
    if (sl_client_call_open(rig->channel, method, options, &call) != SL_OK) {
        abort();
    }
    const enum sl_status status = sl_client_call_send_bytes(call, sl_slice_str(message));
    (void)status; /* it shows in the end of the call */
    sl_client_call_close_send(call);
    client_rig_turn(rig);
    return call;
}
