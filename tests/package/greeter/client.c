/* A client that knows the installed headers only:
 *
 *   client ADDRESS      prints what a call of each kind, and one that fails, have given */
#include <greeter.sl.h>
#include <stdio.h>

static const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                       .timeout_ms = 10000 };

static void greet(struct sl_channel *channel, char *name, char *greeting)
{
    Greet__V1__GreetRequest request = GREET__V1__GREET_REQUEST__INIT;
    Greet__V1__GreetReply *reply = NULL;
    struct sl_client_call *call = NULL;
    request.name = name;
    if (greeting != NULL) {
        request._greeting_case = GREET__V1__GREET_REQUEST___GREETING_GREETING;
        request.greeting = greeting;
    }
    const enum sl_status status =
        sl_greet__v1__greeter__greet__call(channel, &options, &request, &reply, &call);
    (void)printf(
        "%s %s\n", sl_status_name(status),
        status == SL_OK ? reply->text : sl_client_call_error(call)->text);
    (void)sl_client_call_free(call);
}

static void count(struct sl_channel *channel, uint32_t to)
{
    Greet__V1__CountRequest request = GREET__V1__COUNT_REQUEST__INIT;
    Greet__V1__GreetReply *reply = NULL;
    struct sl_greet__v1__greeter__count__reader *reader = NULL;
    request.to = to;
    enum sl_status status =
        sl_greet__v1__greeter__count__open(channel, &options, &request, &reader);
    while (status == SL_OK &&
           (status = sl_greet__v1__greeter__count__next(reader, &reply)) == SL_OK) {
        (void)printf("%s ", reply->text);
    }
    (void)printf("%s\n", sl_status_name(status));
    (void)sl_greet__v1__greeter__count__free(reader);
}

int main(int argc, char **argv)
{
    static char somebody[] = "world", nobody[] = "", greeting[] = "Good morning";
    const struct sl_channel_options channel_options = { .struct_size = sizeof(channel_options) };
    struct sl_channel *channel = NULL;
    struct sl_error err = { SL_OK };
    if (argc < 2 || sl_channel_new(argv[1], &channel_options, &channel, &err) != SL_OK) {
        (void)fprintf(stderr, "client: %s\n", err.text);
        return 1;
    }
    greet(channel, somebody, NULL);
    greet(channel, somebody, greeting);
    greet(channel, nobody, NULL);
    count(channel, 3);
    (void)sl_channel_free(channel);
    return 0;
}
