/* Forwards every method of every service to another server, without knowing their messages: bytes
 * both ways with back-pressure, metadata, status with details, deadlines and cancellation.
 *
 *   proxy ADDRESS UPSTREAM
 *
 *   client ─▶ down: a call that we serve ─▶ up: the call that we make ─▶ upstream */
#include <sluice/rpc.h>
#include <stdio.h>

struct proxy {
    struct sl_channel *channel;
};

/* One call, in the arena of `down`. A message that was received and could not be sent on yet stays
 * where it is: nothing is received behind it, so whoever sends too fast has to wait. */
struct hop {
    struct sl_call *down;
    struct sl_client_call *up;
    struct sl_method_desc method;
    struct sl_slice to_up, to_down;
    bool has_to_up, has_to_down, has_headers;
};

/* What goes wrong with `down` itself, such as a message that is too large, ends both, and the hop;
 * to wait, and what `on_ended` tells, is nothing wrong. */
static void give_up(struct hop *hop, enum sl_status status)
{
    if (status != SL_AGAIN && status != SL_END && !sl_call_is_ended(hop->down)) {
        (void)sl_client_call_free(hop->up);
        sl_call_finishf(hop->down, status, "%s", "");
    }
}

/* ---- From the client to the upstream --------------------------------------------------------- */

static void pump_up(struct hop *hop)
{
    for (;;) {
        if (!hop->has_to_up) {
            const enum sl_status status = sl_call_recv_bytes(hop->down, &hop->to_up);
            if (status == SL_END) {
                sl_client_call_close_send(hop->up);
            }
            if (status != SL_OK) {
                give_up(hop, status); /* or SL_AGAIN: on_readable; an end: on_ended */
                return;
            }
            hop->has_to_up = true;
        }
        if (sl_client_call_send_bytes(hop->up, hop->to_up) != SL_OK) {
            return; /* SL_AGAIN: on_writable; otherwise it is over, and `pump_down` sees it */
        }
        hop->has_to_up = false;
    }
}

/* ---- And back -------------------------------------------------------------------------------- */

static void forward_headers(struct hop *hop)
{
    const struct sl_metadata *headers = sl_client_call_headers(hop->up);
    if (headers == NULL || hop->has_headers) {
        return;
    }
    hop->has_headers = true;
    for (size_t i = 0; i < headers->n_items; i++) {
        (void)!sl_call_add_header(hop->down, headers->items[i].key, headers->items[i].value);
    }
    if (sl_client_call_status(hop->up) == SL_PENDING) { /* an error has none of its own */
        (void)!sl_call_send_headers(hop->down);
    }
}

/* The end of `up` is the end of `down`, and of the hop. */
static void finish(struct hop *hop, enum sl_status code)
{
    struct sl_client_call *up = hop->up;
    const struct sl_metadata *trailers = sl_client_call_trailers(up);
    for (size_t i = 0; i < trailers->n_items; i++) {
        (void)!sl_call_add_trailer(hop->down, trailers->items[i].key, trailers->items[i].value);
    }
    const struct sl_call_status status = { .struct_size = sizeof(status),
                                           .code = code == SL_END ? SL_OK : code,
                                           .message = sl_client_call_error(up)->text,
                                           .details = sl_client_call_details(up) };
    sl_call_finish(hop->down, &status);
    (void)sl_client_call_free(up);
}

static void pump_down(struct hop *hop)
{
    forward_headers(hop);
    for (;;) {
        if (!hop->has_to_down) {
            const enum sl_status status = sl_client_call_recv_bytes(hop->up, &hop->to_down);
            if (status == SL_AGAIN) {
                return;
            }
            if (status != SL_OK) {
                finish(hop, status);
                return;
            }
            hop->has_to_down = true;
        }
        const enum sl_status sent = sl_call_send_bytes(hop->down, hop->to_down);
        if (sent != SL_OK) {
            give_up(hop, sent); /* or SL_AGAIN: on_writable; an end: on_ended */
            return;
        }
        hop->has_to_down = false;
    }
}

/* ---- Callbacks: each says that one of the four directions can go on ---------------------------
 */

static void down_readable(struct sl_call *call, void *user_data)
{
    (void)call;
    pump_up(user_data);
}

static void down_writable(struct sl_call *call, void *user_data)
{
    (void)call;
    pump_down(user_data);
}

/* Cancelled, or its deadline has passed: so is the other one. */
static void down_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    struct hop *hop = user_data;
    (void)sl_client_call_free(hop->up);
    sl_call_finishf(call, SL_UNAVAILABLE, "%s", ""); /* is sent when the server goes down only */
}

static void up_readable(struct sl_client_call *call, void *user_data)
{
    (void)call;
    pump_down(user_data);
}

static void up_writable(struct sl_client_call *call, void *user_data)
{
    (void)call;
    pump_up(user_data);
}

/* ---- The fallback: what nobody registered ---------------------------------------------------- */

/* Metadata that may be sent on; the library speaks for itself in the rest. Gives their number. */
static size_t choose_metadata(const struct sl_metadata *given, struct sl_metadatum *chosen)
{
    size_t n = 0;
    for (size_t i = 0; i < given->n_items; i++) {
        const struct sl_metadatum *item = &given->items[i];
        if (!sl_slice_equals(item->key, "user-agent") &&
            sl_metadata_check(item->key, item->value) == SL_OK) {
            chosen[n++] = *item;
        }
    }
    return n;
}

static enum sl_status forward(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request; /* comes by sl_call_recv_bytes(), as in every stream */
    static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                        .on_readable = down_readable,
                                                        .on_writable = down_writable,
                                                        .on_ended = down_ended };
    const struct proxy *proxy = user_data;
    struct hop *hop = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*hop));
    if (hop == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    hop->down = call;
    hop->method = (struct sl_method_desc){ .path = sl_call_path(call), .kind = SL_BIDIRECTIONAL };
    const struct sl_metadata *given = sl_call_metadata(call);
    struct sl_metadatum *metadata =
        sl_arena_calloc(sl_call_arena(call), given->n_items + 1, sizeof(*metadata));
    if (metadata == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options),
        .metadata = metadata,
        .n_metadata = choose_metadata(given, metadata),
        .parent = call, /* its deadline is this one's, and its end, too */
        .on_readable = up_readable,
        .on_writable = up_writable,
        .user_data = hop,
    };
    SL_TRY(sl_client_call_open(proxy->channel, &hop->method, &options, &hop->up));
    sl_call_set_callbacks(call, &callbacks, hop);
    pump_up(hop);
    return SL_PENDING;
}

/* ---- One loop for the server and the channel --------------------------------------------------
 */

int main(int argc, char **argv)
{
    struct proxy proxy = { 0 };
    struct sl_error err = { 0 };
    struct sl_loop_uv *loop = NULL;
    if (argc != 3 || sl_loop_uv_new(0, &loop) != SL_OK) {
        (void)fprintf(stderr, "usage: proxy ADDRESS UPSTREAM\n");
        return 2;
    }
    struct sl_loop *base = sl_loop_uv_base(loop);
    const struct sl_channel_options upstream = { .struct_size = sizeof(upstream), .loop = base };
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .loops = &base,
                                               .n_loops = 1 };
    struct sl_server *server = NULL;
    const char *address = NULL;
    if (sl_channel_new(argv[2], &upstream, &proxy.channel, &err) != SL_OK ||
        sl_server_new(&options, &server) != SL_OK ||
        sl_server_add_raw(server, NULL, SL_BIDIRECTIONAL, forward, &proxy) != SL_OK ||
        sl_server_listen(server, argv[1], NULL, &address, &err) != SL_OK) {
        (void)fprintf(stderr, "the proxy cannot be set up: %s\n", err.text);
        return 1;
    }
    (void)printf("listening on %s\n", address);
    (void)fflush(stdout);
    sl_loop_uv_run(loop); /* for ever */
    return 0;
}
