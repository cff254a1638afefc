#include "service/cli/mock_conn.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "service/gateway/http1.h"

enum {
    BODY_MAX_BYTES = 16 * 1024 * 1024,
    OUTPUT_MAX_BYTES = 8 * 1024 * 1024,
    AHEAD_BYTES = 64 * 1024 /* unsent bytes at which the scenario waits */
};

struct mock_conn {
    struct sl_list node; /* of the mock's connections */
    struct sl_mock *mock;
    struct sl_net_conn *conn;
    struct sl_http1 http1;
    struct sl_buf out, waiting; /* rendered; received behind the request that is being answered */
    struct sl_timer timer;      /* the delay before `piece` */
    /* The answer that is being played. */
    struct sl_scenario_request *request;
    struct sl_scenario_player *player; /* NULL: none */
    struct sl_scenario_piece piece;
    struct sl_buf text,
        calls; /* of an answer that is not streamed: content, and the list of its calls */
    char finish[32];
    uint64_t input_tokens, output_tokens;
    bool has_piece, has_head, streams, wants_usage, hangs, closes, is_reading;
    bool is_counted; /* its bytes are those of answers, and not of the statistics */
    char id[32];
    uint64_t n_pulled; /* bytes of answers given to the socket */
};

static void play(struct mock_conn *mock);
static void read_requests(struct mock_conn *mock, struct sl_slice bytes);

/* ---- Output ------------------------------------------------------------------------------------
 */

static void fail_conn(struct mock_conn *mock)
{
    mock->closes = true;
    sl_net_conn_close(mock->conn, true);
}

SL_PRINTF(2, 3) static void put(struct mock_conn *mock, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (sl_buf_add_str(&mock->out, line) != SL_OK) {
        fail_conn(mock);
    }
}

/* A whole answer. */
static void
answer(struct mock_conn *mock, const char *status, const char *extra, struct sl_slice body)
{
    put(mock, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n",
        status, body.size, extra);
    if (sl_buf_add(&mock->out, body) != SL_OK) {
        fail_conn(mock);
    }
    sl_net_conn_want_write(mock->conn);
}

/* Chunked coding around one rendered block. */
static enum sl_status put_chunk(struct mock_conn *mock, struct sl_slice block)
{
    SL_TRY(sl_buf_addf(&mock->out, "%zx\r\n", block.size));
    SL_TRY(sl_buf_add(&mock->out, block));
    return sl_buf_add_str(&mock->out, "\r\n");
}

/* Closes once everything rendered has gone to the socket. */
static void close_later(struct mock_conn *mock)
{
    mock->closes = true;
    if (mock->out.size + sl_net_conn_n_unsent(mock->conn) == 0) {
        sl_net_conn_close(mock->conn, false);
    } else {
        sl_net_conn_want_write(mock->conn);
        sl_timer_start_ms(&mock->timer, 1);
    }
}

/* ---- One answer --------------------------------------------------------------------------------
 */

static void end_answer(struct mock_conn *mock)
{
    sl_timer_stop(&mock->timer);
    mock->player = sl_scenario_player_free(mock->player);
    mock->request = sl_scenario_request_free(mock->request);
    mock->has_piece = mock->has_head = mock->hangs = false;
    sl_buf_clear(&mock->text);
    sl_buf_clear(&mock->calls);
    mock->mock->stats.active--;
}

/* The connection is free for the next request. */
static void next_request(struct mock_conn *mock)
{
    const bool keeps_alive = mock->http1.request.keeps_alive;
    sl_http1_next(&mock->http1);
    sl_net_conn_want_write(mock->conn);
    if (!keeps_alive) {
        close_later(mock);
        return;
    }
    if (mock->is_reading) {
        return; /* who reads goes on */
    }
    struct sl_buf waiting = mock->waiting;
    sl_buf_init(&mock->waiting, BODY_MAX_BYTES);
    read_requests(mock, sl_buf_slice(&waiting));
    sl_buf_done(&waiting);
}

static void finish_answer(struct mock_conn *mock)
{
    mock->mock->stats.completed++;
    end_answer(mock);
    next_request(mock);
}

/* The HTTP error of the scenario, when nothing was sent yet. */
static void play_http_error(struct mock_conn *mock)
{
    char status[64];
    char extra[64] = "";
    struct sl_buf body;
    sl_buf_init(&body, OUTPUT_MAX_BYTES);
    (void)snprintf(status, sizeof(status), "%" PRIu32 " Scenario", mock->piece.status);
    if (mock->piece.retry_after >= 0) {
        (void)snprintf(extra, sizeof(extra), "retry-after: %g\r\n", mock->piece.retry_after);
    }
    if (sl_scenario_render_error(&mock->piece, &body) == SL_OK) {
        answer(mock, status, extra, sl_buf_slice(&body));
    }
    sl_buf_done(&body);
    finish_answer(mock);
}

static const char stream_head[] = "HTTP/1.1 200 OK\r\n"
                                  "content-type: text/event-stream\r\n"
                                  "cache-control: no-cache\r\n"
                                  "transfer-encoding: chunked\r\n\r\n";

/* The model that the answer names. */
static const char *model_name(const struct mock_conn *mock)
{
    const char *model = sl_scenario_model(mock->mock->scenario);
    return model != NULL ? model : sl_scenario_request_facts(mock->request).model;
}

static enum sl_status play_streamed(struct mock_conn *mock)
{
    struct sl_buf block;
    const struct sl_scenario_wire wire = { .id = mock->id,
                                           .model = model_name(mock),
                                           .created = 1 };
    if (!mock->has_head) {
        SL_TRY(sl_buf_add_str(&mock->out, stream_head));
        mock->has_head = true;
    }
    sl_buf_init(&block, OUTPUT_MAX_BYTES);
    enum sl_status status = sl_scenario_render(&mock->piece, &wire, &block);
    if (status == SL_OK && block.size > 0) {
        status = put_chunk(mock, sl_buf_slice(&block));
    }
    sl_buf_done(&block);
    return status;
}

/* What stands between JSON quotes; it is clean UTF-8 already. */
static enum sl_status add_escaped(struct sl_buf *buf, struct sl_slice text)
{
    enum sl_status status = SL_OK;
    for (size_t i = 0; i < text.size && status == SL_OK; i++) {
        const uint8_t c = text.data[i];
        const bool is_plain = c >= 0x20 && c != '"' && c != '\\';
        status = is_plain ? sl_buf_add_byte(buf, c) : sl_buf_addf(buf, "\\u%04x", c);
    }
    return status;
}

static enum sl_status add_quoted(struct sl_buf *buf, struct sl_slice text)
{
    SL_TRY(sl_buf_add_byte(buf, '"'));
    SL_TRY(add_escaped(buf, text));
    return sl_buf_add_byte(buf, '"');
}

static enum sl_status collect_call(struct mock_conn *mock)
{
    const struct sl_scenario_piece *piece = &mock->piece;
    struct sl_buf *calls = &mock->calls;
    if (piece->is_first) {
        SL_TRY(sl_buf_add_str(calls, calls->size > 0 ? ",{\"id\":" : "{\"id\":"));
        SL_TRY(add_quoted(calls, sl_slice_str(piece->id)));
        SL_TRY(sl_buf_add_str(calls, ",\"type\":\"function\",\"function\":{\"name\":"));
        SL_TRY(add_quoted(calls, sl_slice_str(piece->name)));
        SL_TRY(sl_buf_add_str(calls, ",\"arguments\":\""));
    }
    SL_TRY(add_escaped(calls, piece->text));
    return piece->is_last ? sl_buf_add_str(calls, "\"}}") : SL_OK;
}

/* An answer that is not streamed is collected and sent at its end. */
static enum sl_status play_whole(struct mock_conn *mock)
{
    switch (mock->piece.kind) {
    case SL_SCENARIO_TEXT:
        return sl_buf_add(&mock->text, mock->piece.text);
    case SL_SCENARIO_CALL:
        return collect_call(mock);
    case SL_SCENARIO_USAGE:
        mock->input_tokens = mock->piece.input_tokens;
        mock->output_tokens = mock->piece.output_tokens;
        return SL_OK;
    case SL_SCENARIO_FINISH:
        (void)snprintf(mock->finish, sizeof(mock->finish), "%.*s", SL_SLICE_FMT(mock->piece.text));
        return SL_OK;
    case SL_SCENARIO_THINKING:
    case SL_SCENARIO_ERROR:
    case SL_SCENARIO_HANG:
    case SL_SCENARIO_CUT:
    case SL_SCENARIO_RAW:
    case SL_SCENARIO_END:
        return SL_OK;
    }
    return SL_OK;
}

static void send_whole(struct mock_conn *mock);

/* Plays the piece that is due. False: the answer is over, or waits for ever. */
static bool play_piece(struct mock_conn *mock)
{
    const enum sl_scenario_kind kind = mock->piece.kind;
    if (kind == SL_SCENARIO_ERROR && mock->piece.status != 0 && !mock->has_head) {
        play_http_error(mock);
        return false;
    }
    if (kind == SL_SCENARIO_HANG) {
        mock->hangs = true;
        return false;
    }
    if (kind == SL_SCENARIO_CUT) {
        close_later(mock);
        return false;
    }
    const bool is_skipped = kind == SL_SCENARIO_USAGE && !mock->wants_usage;
    const enum sl_status status = is_skipped      ? SL_OK
                                  : mock->streams ? play_streamed(mock)
                                                  : play_whole(mock);
    if (status != SL_OK) {
        fail_conn(mock);
        return false;
    }
    if (kind == SL_SCENARIO_END || kind == SL_SCENARIO_ERROR) {
        if (!mock->streams) {
            send_whole(mock);
        } else if (sl_buf_add_str(&mock->out, "0\r\n\r\n") != SL_OK) {
            fail_conn(mock);
        }
        finish_answer(mock);
        return false;
    }
    return true;
}

static void on_timer(void *user_data)
{
    struct mock_conn *mock = user_data;
    if (mock->closes) {
        close_later(mock);
        return;
    }
    sl_net_conn_want_write(mock->conn);
    if (play_piece(mock)) {
        mock->has_piece = false;
        play(mock);
    }
}

/* Plays until a delay, the end, or until enough waits for the socket. */
static void play(struct mock_conn *mock)
{
    sl_net_conn_want_write(mock->conn);
    while (mock->player != NULL && !sl_timer_is_running(&mock->timer) && !mock->hangs &&
           mock->out.size + sl_net_conn_n_unsent(mock->conn) < AHEAD_BYTES) {
        if (sl_scenario_next(mock->player, &mock->piece) != SL_OK) {
            fail_conn(mock);
            return;
        }
        mock->has_piece = true;
        if (mock->piece.delay_ms > 0) {
            sl_timer_start_ms(&mock->timer, mock->piece.delay_ms);
            return;
        }
        if (!play_piece(mock)) {
            return;
        }
        mock->has_piece = false;
    }
}

/* ---- Requests ----------------------------------------------------------------------------------
 */

static void refuse(struct mock_conn *mock, const char *status, const char *message)
{
    char body[512];
    (void)snprintf(
        body, sizeof(body), "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\"}}",
        message);
    answer(mock, status, "", sl_slice_str(body));
    next_request(mock);
}

static enum sl_status build_whole(struct mock_conn *mock, struct sl_buf *body)
{
    SL_TRY(sl_buf_addf(
        body, "{\"id\":\"%s\",\"object\":\"chat.completion\",\"created\":1,\"model\":", mock->id));
    SL_TRY(add_quoted(body, sl_slice_str(model_name(mock))));
    SL_TRY(sl_buf_add_str(body, ",\"choices\":[{\"index\":0,\"finish_reason\":"));
    SL_TRY(add_quoted(body, sl_slice_str(mock->finish)));
    SL_TRY(sl_buf_add_str(body, ",\"message\":{\"role\":\"assistant\",\"content\":"));
    SL_TRY(add_quoted(body, sl_buf_slice(&mock->text)));
    if (mock->calls.size > 0) {
        SL_TRY(sl_buf_add_str(body, ",\"tool_calls\":["));
        SL_TRY(sl_buf_add(body, sl_buf_slice(&mock->calls)));
        SL_TRY(sl_buf_add_byte(body, ']'));
    }
    return sl_buf_addf(
        body,
        "}}],\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
        ",\"total_tokens\":%" PRIu64 "}}",
        mock->input_tokens, mock->output_tokens, mock->input_tokens + mock->output_tokens);
}

static void send_whole(struct mock_conn *mock)
{
    struct sl_buf body;
    sl_buf_init(&body, OUTPUT_MAX_BYTES);
    if (build_whole(mock, &body) == SL_OK) {
        answer(mock, "200 OK", "", sl_buf_slice(&body));
    } else {
        fail_conn(mock);
    }
    sl_buf_done(&body);
}

static bool is_authorised(const struct mock_conn *mock)
{
    struct sl_slice value;
    if (mock->mock->api_key == NULL) {
        return true;
    }
    char expected[512];
    (void)snprintf(expected, sizeof(expected), "Bearer %s", mock->mock->api_key);
    return sl_http1_field(&mock->http1.request, "authorization", &value) &&
           sl_slice_equals(value, expected);
}

/* How often this body came before (FNV-1a; the oldest are forgotten). */
static uint32_t count_attempt(struct sl_mock *server, struct sl_slice body)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < body.size; i++) {
        hash = (hash ^ body.data[i]) * UINT64_C(1099511628211);
    }
    const size_t n = server->n_seen < SL_MOCK_SEEN ? server->n_seen : SL_MOCK_SEEN;
    for (size_t i = 0; i < n; i++) {
        if (server->seen[i].hash == hash) {
            return server->seen[i].n++;
        }
    }
    server->seen[server->n_seen++ % SL_MOCK_SEEN] = (struct sl_mock_seen){ hash, 1 };
    return 0;
}

static void start_chat(struct mock_conn *mock)
{
    struct sl_error err = { 0 };
    struct sl_mock *server = mock->mock;
    if (!is_authorised(mock)) {
        refuse(mock, "401 Unauthorized", "wrong API key");
        return;
    }
    if (sl_scenario_request_parse(mock->http1.request.body, server->limits, &mock->request, &err) !=
        SL_OK) {
        refuse(mock, "400 Bad Request", "not a chat/completions request");
        return;
    }
    struct sl_scenario_facts facts = sl_scenario_request_facts(mock->request);
    facts.attempt = count_attempt(server, mock->http1.request.body);
    if (sl_scenario_play(server->scenario, &facts, &mock->player, &err) != SL_OK) {
        mock->request = sl_scenario_request_free(mock->request);
        refuse(mock, "400 Bad Request", "no turn of the scenario fits");
        return;
    }
    server->stats.requests++;
    server->stats.active++;
    mock->is_counted = true;
    (void)snprintf(mock->finish, sizeof(mock->finish), "stop");
    mock->streams = sl_scenario_request_streams(mock->request);
    mock->wants_usage = sl_scenario_request_wants_usage(mock->request);
    (void)snprintf(mock->id, sizeof(mock->id), "chatcmpl-%" PRIu64, ++server->next_id);
    if (!server->is_quiet) {
        (void)fprintf(
            stderr, "request=%s iteration=%" PRIu32 " stream=%s\n", mock->id, facts.iteration,
            mock->streams ? "true" : "false");
    }
    play(mock);
}

static void send_stats(struct mock_conn *mock)
{
    const struct sl_mock_stats *stats = &mock->mock->stats;
    char body[256];
    (void)snprintf(
        body, sizeof(body),
        "{\"requests\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"aborted\":%" PRIu64
        ",\"active\":%" PRIu64 ",\"bytes_accepted\":%" PRIu64 "}\n",
        stats->requests, stats->completed, stats->aborted, stats->active, stats->bytes_accepted);
    answer(mock, "200 OK", "", sl_slice_str(body));
    next_request(mock);
}

static bool ends_with(struct sl_slice text, const char *end)
{
    const size_t n = strlen(end);
    return text.size >= n && memcmp(text.data + text.size - n, end, n) == 0;
}

static void route(struct mock_conn *mock)
{
    const struct sl_http1_request *request = &mock->http1.request;
    if (sl_slice_equals(request->method, "POST") &&
        ends_with(request->target, "/chat/completions")) {
        start_chat(mock);
    } else if (sl_slice_equals(request->method, "GET") && ends_with(request->target, "/models")) {
        answer(
            mock, "200 OK", "",
            sl_slice_str(
                "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\"}]}\n"));
        next_request(mock);
    } else if (sl_slice_equals(request->method, "GET") && ends_with(request->target, "/stats")) {
        send_stats(mock);
    } else {
        refuse(mock, "404 Not Found", "POST /v1/chat/completions, GET /v1/models or GET /stats");
    }
}

/* ---- What the connection says ------------------------------------------------------------------
 */

/* Takes from the front of `bytes`, and routes the request when it is whole. */
static void read_request(struct mock_conn *mock, struct sl_slice *bytes)
{
    struct sl_error err = { 0 };
    size_t taken = 0;
    const bool was_head = mock->http1.state == SL_HTTP1_HEAD;
    const enum sl_status status = sl_http1_feed(&mock->http1, *bytes, &taken, &err);
    if (status == SL_OK) {
        *bytes = sl_slice_of(bytes->data + taken, bytes->size - taken);
        route(mock);
        return;
    }
    bytes->size = 0;
    if (status != SL_AGAIN) {
        mock->http1.request.keeps_alive = false;
        refuse(mock, "400 Bad Request", err.text);
    } else if (
        was_head && mock->http1.state != SL_HTTP1_HEAD && mock->http1.request.expects_continue) {
        put(mock, "HTTP/1.1 100 Continue\r\n\r\n");
        sl_net_conn_want_write(mock->conn);
    }
}

/* One request after another; what comes behind one that is still answered waits. A loop: a request
 * that is answered at once comes back here. */
static void read_requests(struct mock_conn *mock, struct sl_slice bytes)
{
    mock->is_reading = true;
    while (bytes.size > 0 && !mock->closes && mock->http1.state != SL_HTTP1_DONE) {
        read_request(mock, &bytes);
    }
    mock->is_reading = false;
    if (bytes.size > 0 && !mock->closes && sl_buf_add(&mock->waiting, bytes) != SL_OK) {
        fail_conn(mock);
    }
}

static void on_open(struct sl_net_conn *conn, void *user_data)
{
    (void)conn;
    (void)user_data;
}

static void on_bytes(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data)
{
    (void)conn;
    read_requests(user_data, bytes);
}

static size_t on_pull(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data)
{
    struct mock_conn *mock = user_data;
    const size_t n = mock->out.size < room_bytes ? mock->out.size : room_bytes;
    (void)conn;
    if (n == 0) {
        return 0;
    }
    memcpy(room, mock->out.data, n);
    sl_buf_consume(&mock->out, n);
    mock->n_pulled += n;
    mock->mock->stats.bytes_accepted += mock->is_counted ? n : 0;
    if (mock->player != NULL && !sl_timer_is_running(&mock->timer)) {
        play(mock); /* there is room again */
    }
    return n;
}

static void
on_end(struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    struct mock_conn *mock = user_data;
    (void)how;
    (void)err;
    sl_timer_stop(&mock->timer);
    mock->mock->stats.bytes_accepted -= mock->is_counted ? sl_net_conn_n_unsent(conn) : 0;
    if (mock->player != NULL) {
        mock->mock->stats.aborted += mock->piece.kind != SL_SCENARIO_CUT;
        if (!mock->mock->is_quiet) {
            (void)fprintf(
                stderr, "request=%s ended=client bytes=%" PRIu64 "\n", mock->id,
                mock->n_pulled - sl_net_conn_n_unsent(conn));
        }
        end_answer(mock);
    }
    sl_list_remove(&mock->node);
    sl_http1_done(&mock->http1);
    sl_buf_done(&mock->out);
    sl_buf_done(&mock->waiting);
    sl_buf_done(&mock->text);
    sl_buf_done(&mock->calls);
    sl_free(mock);
}

void sl_mock_init(struct sl_mock *mock)
{
    sl_list_init(&mock->conns);
}

void sl_mock_close(struct sl_mock *mock)
{
    SL_LIST_EACH(node, &mock->conns) {
        sl_net_conn_close(SL_CONTAINER(node, struct mock_conn, node)->conn, true);
    }
}

bool sl_mock_accept(
    struct sl_net_conn *conn,
    struct sl_loop *loop,
    void *user_data,
    const struct sl_net_callbacks **ret_callbacks,
    void **ret_conn_user)
{
    static const struct sl_net_callbacks callbacks = {
        .on_open = on_open, .on_bytes = on_bytes, .on_pull = on_pull, .on_end = on_end
    };
    struct mock_conn *mock = sl_calloc(1, sizeof(*mock));
    if (mock == NULL) {
        return false;
    }
    mock->mock = user_data;
    mock->conn = conn;
    sl_list_add_last(&mock->mock->conns, &mock->node);
    sl_http1_init(&mock->http1, BODY_MAX_BYTES);
    sl_buf_init(&mock->out, OUTPUT_MAX_BYTES);
    sl_buf_init(&mock->waiting, BODY_MAX_BYTES);
    sl_buf_init(&mock->text, OUTPUT_MAX_BYTES);
    sl_buf_init(&mock->calls, OUTPUT_MAX_BYTES);
    sl_timer_init(&mock->timer, loop, on_timer, mock);
    *ret_callbacks = &callbacks;
    *ret_conn_user = mock;
    return true;
}
