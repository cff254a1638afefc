/* A connection without I/O, linked with the core alone (EM-1): takes the beginning of an HTTP/2
 * connection and prints the first frame of the answer. */
#include <sluice/rpc.h>
#include <stdio.h>

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

int main(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                  "\0\0\0\4\0\0\0\0"; /* SETTINGS, with the NUL of the text */
    static uint8_t room[32768];
    struct sl_server *server = NULL;
    struct sl_conn *conn = NULL;
    struct sl_limits *limits = NULL;
    if (sl_limits_new(&limits) != SL_OK ||
        sl_limits_set(limits, "streams_per_connection", 7, NULL) != SL_OK) {
        return 1;
    }
    const struct sl_server_options options = { .struct_size = sizeof(options), .limits = limits };
    if (sl_server_new(&options, &server) != SL_OK ||
        sl_server_add_raw(server, "/a.B/Echo", SL_UNARY, echo, NULL) != SL_OK ||
        sl_conn_new(server, NULL, &conn) != SL_OK ||
        sl_conn_feed(conn, sl_slice_of(preface, sizeof(preface)), 1, NULL) != SL_OK) {
        return 1;
    }
    const size_t size = sl_conn_pull(conn, room, sizeof(room), 1);
    (void)printf(
        "%s %s\n", size > 9 && room[3] == 4 ? "SETTINGS" : "?",
        sl_conn_wants_close(conn) ? "closed" : "open");
    conn = sl_conn_free(conn);
    server = sl_server_free(server);
    limits = sl_limits_free(limits);
    return 0;
}
