/* The client that connectconformance judges: ClientCompatRequest by ClientCompatRequest on stdin,
 * for each a ClientCompatResponse on stdout, in any order.
 *
 *   sl_conformance_client [N]    N calls at a time (8), those to one server on one channel
 *
 * A thread reads stdin; everything else happens on the loop. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/list.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/net/net.h"
#include "tests/judge/conformance/case.h"

enum { PARALLEL = 8 };

/* A server with the credentials and limits that go with it, and the channel to it. */
struct peer {
    struct sl_list node;
    char *host;
    uint32_t port, limit;
    ProtobufCBinaryData ca, cert; /* copies */
    struct sl_channel *channel;
};

/* A case on its way from the thread to the loop, or waiting for its turn. */
struct input {
    struct sl_task task;
    struct sl_list node;
    struct client *client;
    struct judge_case *judge_case; /* NULL: the end of stdin */
};

struct client {
    struct sl_loop_uv *loop;
    struct sl_list peers, waiting;
    bool is_over, has_failed;
    uint64_t n_running, n_parallel;
};

/* ---- Channels -------------------------------------------------------------------------------- */

static ProtobufCBinaryData copy_of(ProtobufCBinaryData bytes)
{
    ProtobufCBinaryData copy = { .data = sl_calloc(1, bytes.len + 1) };
    if (copy.data != NULL && bytes.len > 0) {
        memcpy(copy.data, bytes.data, bytes.len);
        copy.len = bytes.len;
    }
    return copy;
}

static ProtobufCBinaryData cert_of(const case_request *request)
{
    static const ProtobufCBinaryData nothing = { 0 };
    return request->client_tls_creds == NULL ? nothing : request->client_tls_creds->cert;
}

static bool is_same(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return sl_slice_equal(sl_slice_of(a.data, a.len), sl_slice_of(b.data, b.len));
}

static bool fits(const struct peer *peer, const case_request *request)
{
    return strcmp(peer->host, request->host) == 0 && peer->port == request->port &&
           peer->limit == request->message_receive_limit &&
           is_same(peer->ca, request->server_tls_cert) && is_same(peer->cert, cert_of(request));
}

static enum sl_status
make_tls(const case_request *request, struct sl_net_tls **ret_tls, struct sl_error *err)
{
    *ret_tls = NULL;
    if (request->server_tls_cert.len == 0) {
        return SL_OK;
    }
    struct sl_arena arena;
    sl_arena_init(&arena, 0);
    struct sl_net_tls_options options = { .ca_pem =
                                              judge_text_of(request->server_tls_cert, &arena) };
    if (request->client_tls_creds != NULL) {
        options.cert_pem = judge_text_of(request->client_tls_creds->cert, &arena);
        options.key_pem = judge_text_of(request->client_tls_creds->key, &arena);
    }
    const enum sl_status status = sl_net_tls_new_client(&options, ret_tls, err);
    sl_arena_done(&arena);
    return status;
}

static enum sl_status open_channel(
    struct client *client, const case_request *request, struct peer *peer, struct sl_error *err)
{
    struct sl_net_tls *tls;
    SL_TRY(make_tls(request, &tls, err));
    struct sl_limits limits;
    sl_limits_init(&limits);
    if (peer->limit > 0) {
        limits.message_recv = peer->limit;
    }
    char target[256];
    (void)snprintf(target, sizeof(target), "%s:%u", request->host, (unsigned)request->port);
    const struct sl_channel_options options = {
        .struct_size = sizeof(options),
        .loop = sl_loop_uv_base(client->loop),
        .tls = tls,
        .limits = &limits,
    };
    const enum sl_status status = sl_channel_new(target, &options, &peer->channel, err);
    (void)sl_net_tls_unref(tls);
    return status;
}

static void free_peer(struct peer *peer)
{
    sl_list_remove(&peer->node);
    (void)sl_channel_free(peer->channel);
    (void)sl_free(peer->host);
    (void)sl_free(peer->ca.data);
    (void)sl_free(peer->cert.data);
    (void)sl_free(peer);
}

/* NULL: `err` says why. */
static struct sl_channel *
channel_for(struct client *client, const case_request *request, struct sl_error *err)
{
    SL_LIST_EACH(node, &client->peers) {
        const struct peer *peer = SL_CONTAINER(node, struct peer, node);
        if (fits(peer, request)) {
            return peer->channel;
        }
    }
    struct peer *peer = sl_calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    *peer = (struct peer){ .host = sl_strdup(request->host),
                           .port = request->port,
                           .limit = request->message_receive_limit,
                           .ca = copy_of(request->server_tls_cert),
                           .cert = copy_of(cert_of(request)) };
    sl_list_add_last(&client->peers, &peer->node);
    if (peer->host == NULL || open_channel(client, request, peer, err) != SL_OK) {
        free_peer(peer);
        return NULL;
    }
    return peer->channel;
}

/* ---- Cases ----------------------------------------------------------------------------------- */

static void on_case_done(const case_response *response, void *user_data)
{
    struct client *client = user_data;
    client->n_running--;
    if (judge_write(STDOUT_FILENO, &response->base) != SL_OK) {
        client->has_failed = true;
    }
}

static void start_case(struct client *client, struct judge_case *judge_case)
{
    struct sl_error err = { .text = "no memory" };
    client->n_running++;
    struct sl_channel *channel = channel_for(client, judge_case_request(judge_case), &err);
    if (channel == NULL) {
        judge_case_fail(judge_case, err.text, on_case_done, client);
        return;
    }
    judge_case_start(judge_case, channel, on_case_done, client);
}

static void start_waiting(struct client *client)
{
    struct sl_list *node;
    while (client->n_running < client->n_parallel &&
           (node = sl_list_first(&client->waiting)) != NULL) {
        struct input *input = SL_CONTAINER(node, struct input, node);
        sl_list_remove(node);
        start_case(client, input->judge_case);
        (void)sl_free(input);
    }
}

static void on_input(struct sl_task *task)
{
    struct input *input = SL_CONTAINER(task, struct input, task);
    struct client *client = input->client;
    if (input->judge_case == NULL) {
        client->is_over = true;
        (void)sl_free(input);
    } else {
        sl_list_add_last(&client->waiting, &input->node);
    }
}

/* ---- The thread that reads ------------------------------------------------------------------- */

static struct judge_case *read_case(struct sl_buf *bytes)
{
    const enum sl_status status = judge_read(STDIN_FILENO, bytes);
    struct judge_case *judge_case = status == SL_OK ? judge_case_new(sl_buf_slice(bytes)) : NULL;
    if (judge_case == NULL && status != SL_END) {
        (void)fprintf(stderr, "sl_conformance_client: stdin is no list of cases\n");
    }
    return judge_case;
}

static void *read_cases(void *user_data)
{
    struct client *client = user_data;
    struct sl_buf bytes;
    sl_buf_init(&bytes, JUDGE_MESSAGE_MAX + 1);
    for (bool is_over = false; !is_over;) {
        struct input *input = sl_calloc(1, sizeof(*input));
        if (input == NULL) {
            break;
        }
        input->task.run = on_input;
        input->client = client;
        sl_list_init(&input->node);
        input->judge_case = read_case(&bytes);
        is_over = input->judge_case == NULL;
        sl_loop_post(sl_loop_uv_base(client->loop), &input->task);
    }
    sl_buf_done(&bytes);
    return NULL;
}

int main(int argc, char **argv)
{
    struct client client = { .n_parallel = PARALLEL };
    pthread_t reader;
    if (argc > 1 && sl_parse_u64(sl_slice_str(argv[1]), 1, 1000, &client.n_parallel) != SL_OK) {
        (void)fprintf(stderr, "usage: sl_conformance_client [CALLS AT A TIME]\n");
        return 2;
    }
    sl_list_init(&client.peers);
    sl_list_init(&client.waiting);
    if (sl_loop_uv_new(0, &client.loop) != SL_OK ||
        pthread_create(&reader, NULL, read_cases, &client) != 0) {
        (void)fprintf(stderr, "sl_conformance_client: cannot start\n");
        return 1;
    }
    sl_loop_enter(sl_loop_uv_base(client.loop));
    while (!client.has_failed &&
           !(client.is_over && client.n_running == 0 && sl_list_is_empty(&client.waiting))) {
        sl_loop_uv_step(client.loop, -1);
        start_waiting(&client);
    }
    if (client.has_failed) {
        return 1; /* the judge is gone, and the thread may wait for it for ever */
    }
    (void)pthread_join(reader, NULL);
    for (struct sl_list *node; (node = sl_list_first(&client.peers)) != NULL;) {
        free_peer(SL_CONTAINER(node, struct peer, node));
    }
    for (int i = 0; i < 20; i++) { /* the channels' last words */
        sl_loop_uv_step(client.loop, 50);
    }
    (void)sl_loop_uv_free(client.loop);
    return 0;
}
