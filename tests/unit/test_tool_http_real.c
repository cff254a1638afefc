/* The http tool with the real client, against a small server on the same loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "tests/fake/tool_rig.h"

struct peer {
    uv_tcp_t tcp;
    uv_write_t write;
    char request[8192];
    size_t size;
    char answer[512];
};

static struct sl_tool_rig rig;
static struct sl_tool_try try;
static uv_tcp_t server;
static unsigned port;
static int n_requests;
static bool is_server_closed;
static char last_request[8192];

/* ---- Server -------------------------------------------------------------------------------------
 */

static void peer_closed(uv_handle_t *handle)
{
    sl_free(handle->data);
}

static void close_peer(struct peer *peer)
{
    if (!uv_is_closing((uv_handle_t *)&peer->tcp)) {
        uv_close((uv_handle_t *)&peer->tcp, peer_closed);
    }
}

static void written(uv_write_t *write, int status)
{
    (void)status;
    close_peer(write->data);
}

static void answer(struct peer *peer)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: x\r\n"
                             "Connection: close\r\n\r\nhello \xFF";
    static const char gone[] = "HTTP/1.1 410 Gone\r\nContent-Length: 2\r\nConnection: "
                               "close\r\n\r\nno";
    static const char evil[] = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n"
                               "Connection: close\r\nContent-Length: 0\r\n\r\n";
    static char again[256];
    (void)snprintf(
        again, sizeof again,
        "HTTP/1.1 307 Again\r\nLocation: http://127.0.0.1:%u/ok\r\nConnection: "
        "close\r\nContent-Length: 0\r\n\r\n",
        port);
    n_requests++;
    (void)snprintf(last_request, sizeof last_request, "%s", peer->request);
    const char *text = strstr(peer->request, " /ok") != NULL      ? ok
                       : strstr(peer->request, " /evil") != NULL  ? evil
                       : strstr(peer->request, " /again") != NULL ? again
                                                                  : gone;
    if (strstr(peer->request, " /silent") != NULL) {
        return; /* until the client closes */
    }
    (void)uv_read_stop((uv_stream_t *)&peer->tcp);
    (void)snprintf(peer->answer, sizeof peer->answer, "%s", text);
    const uv_buf_t buf = uv_buf_init(peer->answer, (unsigned)strlen(peer->answer));
    peer->write.data = peer;
    assert_int_equal(uv_write(&peer->write, (uv_stream_t *)&peer->tcp, &buf, 1, written), 0);
}

static void give_room(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)size;
    struct peer *peer = handle->data;
    *buf =
        uv_buf_init(peer->request + peer->size, (unsigned)(sizeof peer->request - 1 - peer->size));
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    struct peer *peer = stream->data;
    if (n < 0) {
        close_peer(peer);
        return;
    }
    peer->size += (size_t)n;
    const char *end = strstr(peer->request, "\r\n\r\n");
    if (end != NULL &&
        (strncmp(peer->request, "POST", 4) != 0 || strstr(end + 4, "body!") != NULL)) {
        answer(peer);
    }
}

static void connected(uv_stream_t *stream, int status)
{
    assert_int_equal(status, 0);
    struct peer *peer = sl_calloc(1, sizeof *peer);
    assert_non_null(peer);
    assert_int_equal(uv_tcp_init(stream->loop, &peer->tcp), 0);
    peer->tcp.data = peer;
    assert_int_equal(uv_accept(stream, (uv_stream_t *)&peer->tcp), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&peer->tcp, give_room, received), 0);
}

static void server_closed(uv_handle_t *handle)
{
    (void)handle;
    is_server_closed = true;
}

/* ---- Room ---------------------------------------------------------------------------------------
 */

static void start_server(void)
{
    struct sockaddr_in address;
    struct sockaddr_storage bound;
    int size = sizeof bound;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &address), 0);
    assert_int_equal(uv_tcp_init(sl_loop_uv_handle(rig.loop), &server), 0);
    assert_int_equal(uv_tcp_bind(&server, (const struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&server, 8, connected), 0);
    assert_int_equal(uv_tcp_getsockname(&server, (struct sockaddr *)&bound, &size), 0);
    port = ntohs(((struct sockaddr_in *)(void *)&bound)->sin_port);
}

static void begin(bool allows_private)
{
    char text[256];
    n_requests = 0;
    sl_tool_rig_init(&rig, NULL, NULL);
    start_server();
    (void)snprintf(
        text, sizeof text,
        "tools: {http_request: {allow_hosts: ['127.0.0.1:%u', 'localhost:%u'], allow_private: %s, "
        "allow_http: true}}",
        port, port, allows_private ? "true" : "false");
    assert_int_equal(sl_conf_parse(sl_slice_str(text), "c.yaml", &rig.top), SL_OK);
    sl_tools_configure(rig.tools, rig.top, sl_conf_document(rig.top, 0));
    assert_int_equal(sl_conf_n_errors(rig.top), 0);
}

static int set_up(void **state)
{
    (void)state;
    begin(true);
    return 0;
}

static int set_up_strict(void **state)
{
    (void)state;
    begin(false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_tool_try_done(&try);
    is_server_closed = false;
    uv_close((uv_handle_t *)&server, server_closed);
    for (int i = 0; i < 100 && !is_server_closed; i++) {
        sl_loop_uv_step(rig.uv, 10);
    }
    assert_true(is_server_closed);
    sl_tool_rig_done(&rig);
    return 0;
}

static void request(const char *host, const char *path, const char *more)
{
    char arguments[512];
    (void)snprintf(
        arguments, sizeof arguments, "{\"url\":\"http://%s:%u%s\"%s}", host, port, path, more);
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, "- {name: http_request, timeout_secs: 1}", arguments);
}

/* ---- Cases --------------------------------------------------------------------------------------
 */

static void a_page_is_fetched(void **state)
{
    (void)state;
    request("127.0.0.1", "/ok", "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_string_equal(
        try.json, "{\"status\":200,\"headers\":{\"content-type\":\"text/plain\",\"etag\":\"x\"},"
                  "\"body\":\"hello \xEF\xBF\xBD\"}");
    assert_non_null(strstr(last_request, "Idempotency-Key: run1:call1\r\n"));
    request("127.0.0.1", "/none", ",\"method\":\"POST\",\"body\":\"body!\"");
    assert_int_equal(try.code, SL_TOOL_HTTP_ERROR);
    assert_string_equal(try.error, "HTTP status 410");
    assert_int_equal(strncmp(last_request, "POST /none", 10), 0);
}

static void a_redirect_is_followed_or_denied(void **state)
{
    (void)state;
    request("127.0.0.1", "/again", "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_int_equal(n_requests, 2);
    request("127.0.0.1", "/evil", "");
    assert_int_equal(try.code, SL_TOOL_DENIED);
    assert_int_equal(n_requests, 3);
}

static void silence_ends_in_time(void **state)
{
    (void)state;
    request("127.0.0.1", "/silent", "");
    assert_int_equal(try.code, SL_TOOL_TIMEOUT);
    assert_true(try.ms < 3000);
}

static void a_name_that_leads_inside_is_denied_at_connect(void **state)
{
    (void)state;
    request("localhost", "/ok", "");
    assert_int_equal(try.code, SL_TOOL_DENIED);
    request("127.0.0.1", "/ok", "");
    assert_int_equal(try.code, SL_TOOL_DENIED);
    assert_int_equal(n_requests, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_is_fetched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_redirect_is_followed_or_denied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_ends_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_name_that_leads_inside_is_denied_at_connect, set_up_strict, tear_down),
    };
    return cmocka_run_group_tests_name("tool_http_real", tests, NULL, NULL);
}
