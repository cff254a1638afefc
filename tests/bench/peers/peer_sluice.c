/* The service of peers.proto on the installed library: one loop, handlers on it.
 *
 *   peer_sluice --port-file FILE */
#include <sluice/rpc.h>
#include <stdio.h>
#include <string.h>

#include "peers.sl.h"

enum { STREAMS = 1100, CONNECTIONS = 2000 }; /* what the others allow, too */

static enum sl_status echo(
    struct sl_call *call,
    const Peers__V1__Payload *request,
    Peers__V1__Payload *reply,
    void *user_data)
{
    (void)call;
    (void)user_data;
    reply->data = request->data; /* the request lives as long as the call */
    return SL_OK;
}

struct count {
    struct sl_call *call;
    struct sl_timer pause;
    uint64_t due_ns, pause_ns;
    uint32_t left;
    bool is_hanging;
    Peers__V1__Payload payload;
};

/* Sends what is due: the next message, or without pauses as many as the client takes. */
static void advance(void *user_data)
{
    struct count *self = user_data;
    enum sl_status status = SL_OK;
    while (self->left > 0) {
        status = sl_peers__v1__peers__count__send(
            sl_peers__v1__peers__count__view(self->call), &self->payload);
        if (status == SL_AGAIN) {
            return; /* the client reads slowly: on_writable asks again */
        }
        if (status != SL_OK) {
            break;
        }
        self->left--;
        if (self->left > 0 && self->pause_ns > 0) {
            self->due_ns += self->pause_ns;
            sl_timer_start(&self->pause, self->due_ns);
            return;
        }
    }
    if (status != SL_OK || !self->is_hanging) {
        sl_call_finishf(self->call, status, "%s", ""); /* the call, and `self`, are gone */
    }
}

static void count_writable(struct sl_call *call, void *user_data)
{
    (void)call;
    advance(user_data);
}

static void count_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    struct count *self = user_data;
    sl_timer_stop(&self->pause);
    sl_call_finishf(call, SL_UNAVAILABLE, "%s", "");
}

static enum sl_status count(
    struct sl_call *call,
    const Peers__V1__CountRequest *request,
    struct sl_peers__v1__peers__count__sender *out,
    void *user_data)
{
    (void)out;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                        .on_writable = count_writable,
                                                        .on_ended = count_ended };
    struct sl_arena *arena = sl_call_arena(call);
    struct count *self = sl_arena_calloc(arena, 1, sizeof(*self));
    uint8_t *data = sl_arena_calloc(arena, request->bytes, 1);
    if (self == NULL || data == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memset(data, 'x', request->bytes);
    self->call = call;
    self->left = request->messages;
    self->is_hanging = request->hang;
    self->pause_ns = request->pause_ms * UINT64_C(1000000);
    self->due_ns = sl_loop_now_ns(sl_call_loop(call));
    peers__v1__payload__init(&self->payload);
    self->payload.data = (ProtobufCBinaryData){ .len = request->bytes, .data = data };
    sl_timer_init(&self->pause, sl_call_loop(call), advance, self);
    sl_call_set_callbacks(call, &callbacks, self);
    advance(self);
    return SL_PENDING;
}

static enum sl_status
set_up(struct sl_server **ret_server, const char **ret_address, struct sl_error *err)
{
    static const struct sl_peers__v1__peers__handlers handlers = { .struct_size = sizeof(handlers),
                                                                   .echo = echo,
                                                                   .count = count };
    struct sl_limits *limits = NULL;
    SL_TRY(sl_limits_new(&limits));
    SL_TRY(sl_limits_set(limits, "streams_per_connection", STREAMS, err));
    SL_TRY(sl_limits_set(limits, "runs_per_connection", STREAMS, err));
    SL_TRY(sl_limits_set(limits, "running_calls", STREAMS, err));
    SL_TRY(sl_limits_set(limits, "connections_per_address", CONNECTIONS, err));
    const struct sl_server_options options = { .struct_size = sizeof(options), .limits = limits };
    SL_TRY(sl_server_new(&options, ret_server));
    (void)sl_limits_free(limits);
    SL_TRY(sl_peers__v1__peers__register(*ret_server, &handlers, NULL));
    return sl_server_listen(*ret_server, "127.0.0.1:0", NULL, ret_address, err);
}

static bool write_address(const char *path, const char *address)
{
    FILE *file = fopen(path, "we");
    return file != NULL && fprintf(file, "%s\n", address) > 0 && fclose(file) == 0;
}

int main(int argc, char **argv)
{
    struct sl_error err = { 0 };
    struct sl_server *server = NULL;
    const char *address = NULL;
    if (argc != 3 || strcmp(argv[1], "--port-file") != 0) {
        (void)fprintf(stderr, "usage: peer_sluice --port-file FILE\n");
        return 2;
    }
    if (set_up(&server, &address, &err) != SL_OK || !write_address(argv[2], address)) {
        (void)fprintf(stderr, "peer_sluice: %s\n", err.text);
        return 1;
    }
    return sl_server_run(server, &err) == SL_OK ? 0 : 1;
}
