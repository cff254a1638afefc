#include "tests/fake/fake_http_server.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"

enum { REQUEST_BYTES = 64 << 20 };

struct connection {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_write_t write;
    struct sl_list node;
    struct sl_fake_http *server;
    struct sl_buf in;
    const struct sl_fake_http_answer *answer; /* being sent; NULL: none */
    size_t at, write_size;
    bool is_writing, is_ended;
};

static void must(bool is_good)
{
    if (!is_good) {
        abort();
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct connection *it = handle->data;
    sl_buf_done(&it->in);
    sl_free(it);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *it = handle->data;
    uv_close((uv_handle_t *)&it->timer, on_timer_closed);
}

static void end(struct connection *it, bool by_reset)
{
    if (it->is_ended) {
        return;
    }
    it->is_ended = true;
    it->server->n_open--;
    sl_list_remove(&it->node);
    if (by_reset && uv_tcp_close_reset(&it->tcp, on_closed) == 0) {
        return;
    }
    uv_close((uv_handle_t *)&it->tcp, on_closed);
}

static void on_reset(uv_timer_t *timer)
{
    end(timer->data, true);
}

static void send_more(struct connection *it);
static void take_request(struct connection *it);

static void on_written(uv_write_t *write, int status)
{
    struct connection *it = write->data;
    it->is_writing = false;
    if (status != 0) {
        if (!it->is_ended) {
            it->server->n_peer_ended++;
        }
        end(it, false);
        return;
    }
    it->server->n_sent += it->write_size;
    if (!it->is_ended) {
        send_more(it);
    }
}

static void write_bytes(struct connection *it, const char *bytes, size_t size)
{
    /* libuv takes a pointer that it does not write to. */
    uv_buf_t buf = { .base = sl_unconst(bytes), .len = size };
    it->is_writing = true;
    it->write_size = size;
    it->write.data = it;
    must(uv_write(&it->write, (uv_stream_t *)&it->tcp, &buf, 1, on_written) == 0);
}

static void send_more(struct connection *it)
{
    const struct sl_fake_http_answer *answer = it->answer;
    const size_t left = answer->size - it->at;
    if (left > 0) {
        const size_t n = answer->piece == 0 || answer->piece > left ? left : answer->piece;
        it->at += n;
        write_bytes(it, answer->bytes + it->at - n, n);
        return;
    }
    if (answer->endless != NULL) {
        write_bytes(it, answer->endless, strlen(answer->endless));
        return;
    }
    switch (answer->end) {
    case SL_FAKE_KEEP:
        it->answer = NULL;
        take_request(it);
        break;
    case SL_FAKE_CLOSE:
        end(it, false);
        break;
    case SL_FAKE_RESET:
        must(uv_timer_start(&it->timer, on_reset, answer->reset_delay_ms, 0) == 0);
        break;
    case SL_FAKE_HANG:
        break;
    }
}

/* Bytes of the first request in the buffer; 0: it is not whole. */
static size_t measure_request(struct connection *it)
{
    const char *text = sl_buf_cstr(&it->in);
    if (text == NULL) {
        abort();
    }
    const char *head_end = strstr(text, "\r\n\r\n");
    if (head_end == NULL) {
        return 0;
    }
    const size_t head = (size_t)(head_end - text) + 4;
    uint64_t body = 0;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (length != NULL && length < head_end) {
        length += strlen("\r\ncontent-length:");
        while (*length == ' ') {
            length++;
        }
        must(
            sl_parse_u64(sl_slice_of(length, strcspn(length, "\r")), 0, REQUEST_BYTES, &body) ==
            SL_OK);
    }
    return it->in.size >= head + body ? head + (size_t)body : 0;
}

static void take_request(struct connection *it)
{
    struct sl_fake_http *server = it->server;
    const size_t size = it->answer == NULL && it->in.size > 0 ? measure_request(it) : 0;
    if (size == 0) {
        return;
    }
    sl_buf_clear(&server->request);
    must(sl_buf_add(&server->request, sl_slice_of(it->in.data, size)) == SL_OK);
    sl_buf_consume(&it->in, size);
    const size_t i =
        server->n_requests < server->n_answers ? server->n_requests : server->n_answers - 1;
    server->n_requests++;
    it->answer = &server->answers[i];
    it->at = 0;
    send_more(it);
}

static void get_room(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct connection *it = handle->data;
    uint8_t *room = NULL;
    must(sl_buf_reserve(&it->in, size, &room) == SL_OK);
    *buf = (uv_buf_t){ .base = (char *)room, .len = size };
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct connection *it = stream->data;
    (void)buf;
    if (n < 0) {
        it->server->n_peer_ended += !it->is_ended;
        end(it, false);
        return;
    }
    sl_buf_commit(&it->in, (size_t)n);
    take_request(it);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct sl_fake_http *server = listener->data;
    struct connection *it = sl_calloc(1, sizeof(*it));
    must(status == 0 && it != NULL);
    it->server = server;
    it->tcp.data = it;
    sl_buf_init(&it->in, REQUEST_BYTES);
    it->timer.data = it;
    must(uv_tcp_init(listener->loop, &it->tcp) == 0);
    must(uv_timer_init(listener->loop, &it->timer) == 0);
    sl_list_add_last(&server->connections, &it->node);
    must(uv_accept(listener, (uv_stream_t *)&it->tcp) == 0);
    (void)uv_tcp_nodelay(&it->tcp, 1);
    if (server->send_buffer > 0) {
        int size = server->send_buffer;
        (void)uv_send_buffer_size((uv_handle_t *)&it->tcp, &size);
    }
    server->n_connections++;
    server->n_open++;
    must(uv_read_start((uv_stream_t *)&it->tcp, get_room, on_read) == 0);
}

void sl_fake_http_open(struct sl_fake_http *server, uv_loop_t *loop)
{
    struct sockaddr_in address;
    int size = sizeof(address);
    *server = (struct sl_fake_http){ .n_answers = 0 };
    sl_list_init(&server->connections);
    sl_buf_init(&server->request, REQUEST_BYTES);
    server->listener.data = server;
    must(uv_tcp_init(loop, &server->listener) == 0);
    must(uv_ip4_addr("127.0.0.1", 0, &address) == 0);
    must(uv_tcp_bind(&server->listener, (const struct sockaddr *)&address, 0) == 0);
    must(uv_listen((uv_stream_t *)&server->listener, 128, on_connection) == 0);
    must(uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &size) == 0);
    server->port = ntohs(address.sin_port);
    (void)snprintf(
        server->url, sizeof(server->url), "http://127.0.0.1:%u/v1", (unsigned)server->port);
}

void sl_fake_http_close(struct sl_fake_http *server)
{
    while (!sl_list_is_empty(&server->connections)) {
        end(SL_CONTAINER(sl_list_first(&server->connections), struct connection, node), false);
    }
    uv_close((uv_handle_t *)&server->listener, NULL);
    sl_buf_done(&server->request);
}

const char *sl_fake_http_request(struct sl_fake_http *server)
{
    const char *text = sl_buf_cstr(&server->request);
    return text == NULL ? "" : text;
}
