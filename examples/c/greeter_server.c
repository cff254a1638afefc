/* The greeter, with handlers that block: each runs on a thread of the server's pool.
 *
 *   greeter_server ADDRESS [CERT_FILE KEY_FILE] */
#include <pthread.h>
#include <signal.h>
#include <sluice/rpc.h>
#include <stdio.h>

#include "greeter.sl.h"

enum { TEXT_BYTES = 256, THREADS = 8, DRAIN_MS = 5000 };

/* What a reply points to must live as long as its call: the call's arena does. */
static enum sl_status set_text(struct sl_call *call, Greeter__V1__GreetReply *reply, char *text)
{
    reply->text = sl_arena_dup(sl_call_arena(call), sl_slice_str(text));
    return reply->text == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

/* An error that a program can read: a google.rpc.ErrorInfo goes with it. */
static enum sl_status refuse_nameless(struct sl_call *call)
{
    const struct sl_metadatum info = { sl_slice_str("field"), sl_slice_str("name") };
    const struct sl_call_status status = { .struct_size = sizeof(status),
                                           .code = SL_INVALID_ARGUMENT,
                                           .message = "a greeting needs a name",
                                           .reason = "NAME_MISSING",
                                           .domain = "greeter.example",
                                           .info = &info,
                                           .n_info = 1 };
    return sl_call_fail(call, &status);
}

static enum sl_status greet(
    struct sl_call *call,
    const Greeter__V1__GreetRequest *request,
    Greeter__V1__GreetReply *reply,
    void *user_data)
{
    (void)user_data;
    if (request->name[0] == '\0') {
        return refuse_nameless(call);
    }
    struct sl_slice id; /* metadata: what came in as a header goes back as a trailer */
    if (sl_metadata_get(sl_call_metadata(call), "x-request-id", 0, &id)) {
        SL_TRY(sl_call_add_trailer(call, sl_slice_str("x-request-id"), id));
    }
    char text[TEXT_BYTES];
    if ((size_t)snprintf(text, sizeof(text), "Hello, %s!", request->name) >= sizeof(text)) {
        return SL_RESOURCE_EXHAUSTED; /* half a name is none */
    }
    return set_text(call, reply, text);
}

/* Sends wait when the client reads slowly. When it cancels, or its deadline passes, the wait and
 * the send say so, and the handler returns. */
static enum sl_status countdown(
    struct sl_call *call,
    const Greeter__V1__CountdownRequest *request,
    struct sl_greeter__v1__greeter__countdown__sender *out,
    void *user_data)
{
    (void)user_data;
    for (int32_t left = request->from; left > 0; left--) {
        SL_TRY(sl_call_wait_ms(call, request->pause_ms > 0 ? (uint64_t)request->pause_ms : 0));
        char text[TEXT_BYTES];
        (void)snprintf(text, sizeof(text), "%d...", (int)left);
        Greeter__V1__GreetReply reply = GREETER__V1__GREET_REPLY__INIT;
        reply.text = text;
        SL_TRY(sl_greeter__v1__greeter__countdown__send(out, &reply));
    }
    return SL_OK;
}

static enum sl_status greet_all(
    struct sl_call *call,
    struct sl_greeter__v1__greeter__greet_all__receiver *in,
    Greeter__V1__GreetReply *reply,
    void *user_data)
{
    (void)user_data;
    char text[TEXT_BYTES] = "Hello";
    size_t used = strlen(text);
    Greeter__V1__GreetRequest *request = NULL; /* valid until the next recv */
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__greet_all__recv(in, &request)) == SL_OK) {
        if ((size_t)snprintf(text + used, sizeof(text) - used, ", %s", request->name) >=
            sizeof(text) - used) {
            return SL_RESOURCE_EXHAUSTED; /* half a name is none */
        }
        used = strlen(text);
    }
    return status == SL_END ? set_text(call, reply, text) : status;
}

static enum sl_status
chat(struct sl_call *call, struct sl_greeter__v1__greeter__chat__stream *io, void *user_data)
{
    (void)call;
    (void)user_data;
    Greeter__V1__GreetRequest *request = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__chat__recv(io, &request)) == SL_OK) {
        char text[TEXT_BYTES];
        if ((size_t)snprintf(text, sizeof(text), "Hello, %s!", request->name) >= sizeof(text)) {
            return SL_RESOURCE_EXHAUSTED; /* half a name is none */
        }
        Greeter__V1__GreetReply reply = GREETER__V1__GREET_REPLY__INIT;
        reply.text = text;
        SL_TRY(sl_greeter__v1__greeter__chat__send(io, &reply));
    }
    return status == SL_END ? SL_OK : status;
}

/* ---- The server ------------------------------------------------------------------------------ */

static void *stop_on_signal(void *server)
{
    sigset_t signals;
    int number = 0;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigwait(&signals, &number);
    sl_server_stop(server, DRAIN_MS, NULL, NULL); /* calls go on for so long */
    return NULL;
}

static enum sl_status set_up(struct sl_server *server)
{
    static const struct sl_greeter__v1__greeter__handlers handlers = {
        .struct_size = sizeof(handlers),
        .greet = greet,
        .countdown = countdown,
        .greet_all = greet_all,
        .chat = chat,
    };
    static const struct sl_service_options on_pool = { .struct_size = sizeof(on_pool),
                                                       .on_pool = true };
    SL_TRY(sl_reflection_register(server)); /* for grpcurl and the like */
    return sl_greeter__v1__greeter__register_with(server, &handlers, NULL, &on_pool);
}

static enum sl_status serve(struct sl_server *server, char **argv, struct sl_error *err)
{
    struct sl_net_tls *tls = NULL;
    if (argv[2] != NULL) {
        const struct sl_net_tls_options options = { .struct_size = sizeof(options),
                                                    .cert_file = argv[2],
                                                    .key_file = argv[3] };
        SL_TRY(sl_net_tls_new_server(&options, &tls, err));
    }
    const char *address = NULL;
    const enum sl_status status = sl_server_listen(server, argv[1], tls, &address, err);
    (void)sl_net_tls_unref(tls); /* the listener has its own reference */
    if (status != SL_OK) {
        return status;
    }
    (void)printf("listening on %s\n", address);
    (void)fflush(stdout);
    return sl_server_run(server, err);
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 4) {
        (void)fprintf(stderr, "usage: greeter_server ADDRESS [CERT_FILE KEY_FILE]\n");
        return 2;
    }
    sigset_t signals;
    pthread_t stopper;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* stop_on_signal() waits for them */
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .n_pool_threads = THREADS };
    struct sl_server *server = NULL;
    if (sl_server_new(&options, &server) != SL_OK || set_up(server) != SL_OK ||
        pthread_create(&stopper, NULL, stop_on_signal, server) != 0) {
        (void)fprintf(stderr, "the server cannot be set up\n");
        return 1;
    }
    struct sl_error err = { 0 };
    const enum sl_status status = serve(server, argv, &err);
    if (status != SL_OK) {
        (void)fprintf(stderr, "%s: %s\n", sl_status_name(status), err.text);
        return 1;
    }
    (void)pthread_join(stopper, NULL);
    (void)sl_server_free(server);
    return 0;
}
