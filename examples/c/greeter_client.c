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
static void explain(FILE *out, const char *what, struct sl_client_call *call)
{
    const struct sl_error *err = sl_client_call_error(call);
    (void)fprintf(out, "%s: %s %s\n", what, sl_status_name(sl_client_call_status(call)), err->text);
    const struct sl_error_info *details = sl_client_call_error_info(call);
    if (details == NULL) {
        return;
    }
    (void)fprintf(out, "%s: %.*s", what, SL_SLICE_FMT(details->reason));
    for (size_t i = 0; i < details->n_info; i++) {
        (void)fprintf(
            out, " %.*s=%.*s", SL_SLICE_FMT(details->info[i].key),
            SL_SLICE_FMT(details->info[i].value));
    }
    (void)fprintf(out, "\n");
}

/* Whether a call ended as it should. Tells how, unless all went well: on standard error when it
 * should not. `call` NULL: it could not be opened. */
static bool
check(const char *what, struct sl_client_call *call, enum sl_status status, enum sl_status expected)
{
    if (call == NULL) {
        (void)fprintf(stderr, "%s: %s it cannot be opened\n", what, sl_status_name(status));
        return false;
    }
    if (status != SL_OK) {
        explain(status == expected ? stdout : stderr, what, call);
    } else if (expected != SL_OK) {
        (void)fprintf(stderr, "%s: OK instead of %s\n", what, sl_status_name(expected));
    }
    return status == expected;
}

/* A unary call with a deadline and metadata. */
static bool greet(struct sl_channel *channel, char *name, enum sl_status expected)
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
    }
    const bool is_good = check("greet", call, status, expected);
    (void)sl_client_call_free(call); /* and with it the reply */
    return is_good;
}

/* A stream of replies. `stop_after` of them are enough; 0: all. */
static bool
countdown(struct sl_channel *channel, uint64_t timeout_ms, int stop_after, enum sl_status expected)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = timeout_ms };
    Greeter__V1__CountdownRequest request = GREETER__V1__COUNTDOWN_REQUEST__INIT;
    request.from = 3;
    request.pause_ms = 2 * SHORT_MS;
    struct sl_greeter__v1__greeter__countdown__reader *reader = NULL;
    enum sl_status status =
        sl_greeter__v1__greeter__countdown__open(channel, &options, &request, &reader);
    if (status != SL_OK) {
        return check("countdown", NULL, status, expected);
    }
    Greeter__V1__GreetReply *reply = NULL; /* valid until the next one is asked for */
    for (int n = 1; (status = sl_greeter__v1__greeter__countdown__next(reader, &reply)) == SL_OK;
         n++) {
        (void)printf("countdown: %s\n", reply->text);
        if (n == stop_after) {
            sl_greeter__v1__greeter__countdown__cancel(reader);
        }
    }
    const bool is_good = check(
        "countdown", sl_greeter__v1__greeter__countdown__client_call(reader),
        status == SL_END ? SL_OK : status, expected);
    (void)sl_greeter__v1__greeter__countdown__free(reader);
    return is_good;
}

/* A stream of requests, and one reply. */
static bool greet_all(struct sl_channel *channel)
{
    struct sl_greeter__v1__greeter__greet_all__writer *writer = NULL;
    enum sl_status status = sl_greeter__v1__greeter__greet_all__open(channel, NULL, &writer);
    if (status != SL_OK) {
        return check("greet_all", NULL, status, SL_OK);
    }
    for (size_t i = 0; status == SL_OK && i < N_NAMES; i++) {
        const Greeter__V1__GreetRequest request = request_of(names[i]);
        status = sl_greeter__v1__greeter__greet_all__write(writer, &request);
    }
    Greeter__V1__GreetReply *reply = NULL;
    status = sl_greeter__v1__greeter__greet_all__finish(writer, &reply);
    if (status == SL_OK) {
        (void)printf("greet_all: %s\n", reply->text);
    }
    const bool is_good =
        check("greet_all", sl_greeter__v1__greeter__greet_all__client_call(writer), status, SL_OK);
    (void)sl_greeter__v1__greeter__greet_all__free(writer);
    return is_good;
}

/* Both at once. */
static bool chat(struct sl_channel *channel)
{
    struct sl_greeter__v1__greeter__chat__duplex *duplex = NULL;
    enum sl_status status = sl_greeter__v1__greeter__chat__open(channel, NULL, &duplex);
    if (status != SL_OK) {
        return check("chat", NULL, status, SL_OK);
    }
    Greeter__V1__GreetReply *reply = NULL;
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
    while ((status = sl_greeter__v1__greeter__chat__next(duplex, &reply)) == SL_OK) {
        n_answers++; /* to nobody's name */
    }
    bool is_good = check(
        "chat", sl_greeter__v1__greeter__chat__client_call(duplex),
        status == SL_END ? SL_OK : status, SL_OK);
    if (is_good && n_answers != N_NAMES) {
        (void)fprintf(stderr, "chat: OK with %zu answers to %d names\n", n_answers, N_NAMES);
        is_good = false;
    }
    (void)sl_greeter__v1__greeter__chat__free(duplex);
    return is_good;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) {
        (void)fprintf(stderr, "usage: greeter_client ADDRESS [CA_FILE]\n");
        return 2;
    }
    struct sl_error err = { 0 };
    struct sl_net_tls *tls = NULL;
    enum sl_status status = SL_OK;
    if (argc == 3) {
        const struct sl_net_tls_options options = { .struct_size = sizeof(options),
                                                    .ca_file = argv[2] };
        status = sl_net_tls_new_client(&options, &tls, &err);
    }
    struct sl_channel *channel = NULL; /* opens its connection with the first call */
    if (status == SL_OK) {
        const struct sl_channel_options options = { .struct_size = sizeof(options), .tls = tls };
        status = sl_channel_new(argv[1], &options, &channel, &err);
    }
    (void)sl_net_tls_unref(tls); /* the channel has its own reference */
    if (status != SL_OK) {
        (void)fprintf(stderr, "%s: %s\n", sl_status_name(status), err.text);
        return 1;
    }
    char world[] = "World";
    char nobody[] = "";
    const bool is_good =
        greet(channel, world, SL_OK) && countdown(channel, TIMEOUT_MS, 0, SL_OK) &&
        greet_all(channel) && chat(channel) &&
        /* And what goes wrong: an error with details, a deadline, a change of mind. */
        greet(channel, nobody, SL_INVALID_ARGUMENT) &&
        countdown(channel, SHORT_MS, 0, SL_DEADLINE_EXCEEDED) &&
        countdown(channel, TIMEOUT_MS, 1, SL_CANCELLED);
    (void)sl_channel_free(channel);
    return is_good ? 0 : 1;
}
