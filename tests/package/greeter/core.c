/* A client and a server without I/O, linked with the core alone (EM-1): what would be two sockets
 * is one buffer, and the time is a number. */
#include <sluice/rpc.h>
#include <stdio.h>

enum { ROOM_BYTES = 32768, MAX_TURNS = 100 };

struct ends {
    struct sl_channel_conn *client;
    struct sl_conn *server;
};

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

/* Carries bytes until both have nothing left to say. */
static enum sl_status carry(const struct ends *ends, uint64_t now_ns)
{
    static uint8_t room[ROOM_BYTES];
    size_t n = 1;
    for (int i = 0; i < MAX_TURNS && n > 0; i++) {
        const size_t up = sl_channel_conn_pull(ends->client, room, sizeof(room), now_ns);
        SL_TRY(sl_conn_feed(ends->server, sl_slice_of(room, up), now_ns, NULL));
        n = sl_conn_pull(ends->server, room, sizeof(room), now_ns);
        SL_TRY(sl_channel_conn_feed(ends->client, sl_slice_of(room, n), now_ns, NULL));
        n += up;
    }
    return SL_OK;
}

static enum sl_status ask(struct sl_channel *channel, const struct ends *ends)
{
    static const struct sl_method_desc method = { .path = "/a.B/Echo", .kind = SL_UNARY };
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 1000 };
    struct sl_client_call *call = NULL;
    struct sl_slice reply = { 0 };
    SL_TRY(sl_client_call_open(channel, &method, &options, &call));
    enum sl_status status = sl_client_call_send_bytes(call, sl_slice_str("Hello, memory!"));
    sl_client_call_close_send(call);
    if (status == SL_OK) {
        status = carry(ends, 2);
    }
    if (status == SL_OK) {
        status = sl_client_call_recv_bytes(call, &reply);
    }
    (void)printf("%s %.*s\n", sl_status_name(status), SL_SLICE_FMT(reply));
    call = sl_client_call_free(call);
    return status;
}

int main(void)
{
    struct sl_server *server = NULL;
    struct sl_channel *channel = NULL;
    struct sl_limits *limits = NULL;
    struct ends ends = { 0 };
    if (sl_limits_new(&limits) != SL_OK ||
        sl_limits_set(limits, "streams_per_connection", 7, NULL) != SL_OK) {
        return 1;
    }
    const struct sl_server_options options = { .struct_size = sizeof(options), .limits = limits };
    const struct sl_channel_options client = { .struct_size = sizeof(client),
                                               .authority = "memory" };
    if (sl_server_new(&options, &server) != SL_OK ||
        sl_server_add_raw(server, "/a.B/Echo", SL_UNARY, echo, NULL) != SL_OK ||
        sl_conn_new(server, NULL, &ends.server) != SL_OK ||
        sl_channel_new_core(&client, 1, &channel, NULL) != SL_OK ||
        sl_channel_conn_new(channel, NULL, 1, &ends.client) != SL_OK ||
        ask(channel, &ends) != SL_OK) {
        return 1;
    }
    channel = sl_channel_free(channel);
    ends.client = sl_channel_conn_free(ends.client);
    ends.server = sl_conn_free(ends.server);
    server = sl_server_free(server);
    limits = sl_limits_free(limits);
    return 0;
}
