/* Calls each method of the greeter, one after the other, and waits for what comes.
 *
 *   greeter_client ADDRESS [CA_FILE] */
#include <sluice/rpc.h>
#include <stdio.h>

#include "greeter.sl.h"

enum { TIMEOUT_MS = 10000, SHORT_MS = 100 };

static char names[][16] = { "Ada", "Grace", "Barbara" };
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static Greeter__V1__GreetRequest request_of(char *name)
{
    Greeter__V1__GreetRequest request = GREETER__V1__GREET_REQUEST__INIT;
    request.name = name;
    return request;
}

/* What a call ended with. Every status can be seen here, also that the server is not there. */
static void explain(const char *what, struct sl_client_call *call)
{
    const struct sl_error *err = sl_client_call_error(call);
    (void)printf("%s: %s %s\n", what, sl_status_name(sl_client_call_status(call)), err->text);
    const struct sl_error_info *details = sl_client_call_error_info(call);
    if (details == NULL) {
        return;
    }
    (void)printf("%s: %.*s", what, SL_SLICE_FMT(details->reason));
    for (size_t i = 0; i < details->n_info; i++) {
        (void)printf(
            " %.*s=%.*s", SL_SLICE_FMT(details->info[i].key), SL_SLICE_FMT(details->info[i].value));
    }
    (void)printf("\n");
}

/* A unary call with a deadline and metadata. */
static bool greet(struct sl_channel *channel, char *name)
{
    const struct sl_metadatum metadata = { sl_slice_str("x-request-id"), sl_slice_str("42") };
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = TIMEOUT_MS,
                                                    .metadata = &metadata,
                                                    .n_metadata = 1 };
    const Greeter__V1__GreetRequest request = request_of(name);
    Greeter__V1__GreetReply *reply = NULL;
    struct sl_client_call *call = NULL;
    const enum sl_status status =
        sl_greeter__v1__greeter__greet__call(channel, &options, &request, &reply, &call);
    struct sl_slice id;
    if (status == SL_OK) {
        (void)printf("greet: %s\n", reply->text);
        if (sl_metadata_get(sl_client_call_trailers(call), "x-request-id", 0, &id)) {
            (void)printf("greet: request %.*s\n", SL_SLICE_FMT(id));
        }
    } else if (call != NULL) {
        explain("greet", call);
    }
    (void)sl_client_call_free(call); /* and with it the reply */
    return status == SL_OK;
}

/* A stream of replies. `stop_after` of them are enough; 0: all. */
static bool countdown(struct sl_channel *channel, uint64_t timeout_ms, int stop_after)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = timeout_ms };
    Greeter__V1__CountdownRequest request = GREETER__V1__COUNTDOWN_REQUEST__INIT;
    request.from = 3;
    request.pause_ms = 2 * SHORT_MS;
    struct sl_greeter__v1__greeter__countdown__reader *reader = NULL;
    if (sl_greeter__v1__greeter__countdown__open(channel, &options, &request, &reader) != SL_OK) {
        return false;
    }
    Greeter__V1__GreetReply *reply = NULL; /* valid until the next one is asked for */
    enum sl_status status = SL_OK;
    for (int n = 1; (status = sl_greeter__v1__greeter__countdown__next(reader, &reply)) == SL_OK;
         n++) {
        (void)printf("countdown: %s\n", reply->text);
        if (n == stop_after) {
            sl_greeter__v1__greeter__countdown__cancel(reader);
        }
    }
    if (status != SL_END) {
        explain("countdown", sl_greeter__v1__greeter__countdown__client_call(reader));
    }
    (void)sl_greeter__v1__greeter__countdown__free(reader);
    return status == SL_END;
}

/* A stream of requests, and one reply. */
static bool greet_all(struct sl_channel *channel)
{
    struct sl_greeter__v1__greeter__greet_all__writer *writer = NULL;
    if (sl_greeter__v1__greeter__greet_all__open(channel, NULL, &writer) != SL_OK) {
        return false;
    }
    enum sl_status status = SL_OK;
    for (size_t i = 0; status == SL_OK && i < N_NAMES; i++) {
        const Greeter__V1__GreetRequest request = request_of(names[i]);
        status = sl_greeter__v1__greeter__greet_all__write(writer, &request);
    }
    Greeter__V1__GreetReply *reply = NULL;
    status = sl_greeter__v1__greeter__greet_all__finish(writer, &reply);
    if (status == SL_OK) {
        (void)printf("greet_all: %s\n", reply->text);
    } else {
        explain("greet_all", sl_greeter__v1__greeter__greet_all__client_call(writer));
    }
    (void)sl_greeter__v1__greeter__greet_all__free(writer);
    return status == SL_OK;
}

/* Both at once. */
static bool chat(struct sl_channel *channel)
{
    struct sl_greeter__v1__greeter__chat__duplex *duplex = NULL;
    if (sl_greeter__v1__greeter__chat__open(channel, NULL, &duplex) != SL_OK) {
        return false;
    }
    Greeter__V1__GreetReply *reply = NULL;
    enum sl_status status = SL_OK;
    size_t n_answers = 0; /* a server may end the stream early, with OK too */
    for (size_t i = 0; status == SL_OK && i < N_NAMES; i++) {
        const Greeter__V1__GreetRequest request = request_of(names[i]);
        status = sl_greeter__v1__greeter__chat__write(duplex, &request);
        if (status == SL_OK) {
            status = sl_greeter__v1__greeter__chat__next(duplex, &reply);
        }
        if (status == SL_OK) {
            (void)printf("chat: %s\n", reply->text);
            n_answers++;
        }
    }
    sl_greeter__v1__greeter__chat__close_send(duplex);
    status = sl_greeter__v1__greeter__chat__next(duplex, &reply);
    if (status != SL_END) {
        explain("chat", sl_greeter__v1__greeter__chat__client_call(duplex));
    }
    (void)sl_greeter__v1__greeter__chat__free(duplex);
    return status == SL_END && n_answers == N_NAMES;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) {
        (void)fprintf(stderr, "usage: greeter_client ADDRESS [CA_FILE]\n");
        return 2;
    }
    struct sl_error err = { 0 };
    struct sl_net_tls *tls = NULL;
    if (argc == 3) {
        const struct sl_net_tls_options options = { .struct_size = sizeof(options),
                                                    .ca_file = argv[2] };
        if (sl_net_tls_new_client(&options, &tls, &err) != SL_OK) {
            (void)fprintf(stderr, "%s\n", err.text);
            return 1;
        }
    }
    const struct sl_channel_options options = { .struct_size = sizeof(options), .tls = tls };
    struct sl_channel *channel = NULL; /* opens its connection with the first call */
    if (sl_channel_new(argv[1], &options, &channel, &err) != SL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    char world[] = "World";
    char nobody[] = "";
    bool is_good = greet(channel, world);
    is_good = countdown(channel, TIMEOUT_MS, 0) && is_good;
    is_good = greet_all(channel) && is_good;
    is_good = chat(channel) && is_good;
    /* And what goes wrong: an error with details, a deadline, a change of mind. */
    is_good = !greet(channel, nobody) && is_good;
    is_good = !countdown(channel, SHORT_MS, 0) && is_good;
    is_good = !countdown(channel, TIMEOUT_MS, 1) && is_good;
    (void)sl_channel_free(channel);
    (void)sl_net_tls_unref(tls);
    return is_good ? 0 : 1;
}
