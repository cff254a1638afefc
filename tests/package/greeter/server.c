/* A server that knows the installed headers only: serves until its standard input ends.
 *
 *   server ADDRESS      prints the address it listens on */
#include <greeter.sl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* An error of the client is a status, and goes with a text. */
static enum sl_status greet(
    struct sl_call *call,
    const Greet__V1__GreetRequest *request,
    Greet__V1__GreetReply *reply,
    void *user_data)
{
    (void)user_data;
    if (request->name[0] == '\0') {
        return sl_call_fail(
            call, &(struct sl_call_status){ .struct_size = sizeof(struct sl_call_status),
                                            .code = SL_INVALID_ARGUMENT,
                                            .message = "the name is missing" });
    }
    const char *greeting = request->_greeting_case == GREET__V1__GREET_REQUEST___GREETING_GREETING
                               ? request->greeting
                               : "Hello";
    char text[64];
    (void)snprintf(text, sizeof(text), "%s, %s!", greeting, request->name);
    reply->text = sl_arena_dup(sl_call_arena(call), sl_slice_str(text));
    return reply->text == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static enum sl_status count(
    struct sl_call *call,
    const Greet__V1__CountRequest *request,
    struct sl_greet__v1__greeter__count__sender *out,
    void *user_data)
{
    (void)call;
    (void)user_data;
    for (uint32_t i = 1; i <= request->to; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        Greet__V1__GreetReply reply = GREET__V1__GREET_REPLY__INIT;
        reply.text = text;
        const enum sl_status status = sl_greet__v1__greeter__count__send(out, &reply);
        if (status != SL_OK) {
            return status == SL_AGAIN ? SL_RESOURCE_EXHAUSTED : status;
        }
    }
    return SL_OK;
}

static void *wait_for_end(void *user_data)
{
    char block[64];
    while (read(STDIN_FILENO, block, sizeof(block)) > 0) {
    }
    sl_server_stop((struct sl_server *)user_data, 1000, NULL, NULL);
    return NULL;
}

static const struct sl_greet__v1__greeter__handlers handlers = { .struct_size = sizeof(handlers),
                                                                 .greet = greet,
                                                                 .count = count };

static enum sl_status
serve(struct sl_server *server, struct sl_health *health, const char *address, struct sl_error *err)
{
    const char *real = NULL;
    pthread_t thread;
    SL_TRY(sl_greet__v1__greeter__register(server, &handlers, NULL));
    SL_TRY(sl_health_register(health, server));
    SL_TRY(sl_health_set(health, "greet.v1.Greeter", true));
    SL_TRY(sl_reflection_register(server));
    SL_TRY(sl_server_listen(server, address, NULL, &real, err));
    (void)printf("%s\n", real);
    (void)fflush(stdout);
    if (pthread_create(&thread, NULL, wait_for_end, server) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const enum sl_status status = sl_server_run(server, err);
    (void)pthread_join(thread, NULL);
    return status;
}

int main(int argc, char **argv)
{
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    struct sl_server *server = NULL;
    struct sl_health *health = NULL;
    struct sl_error err = { SL_OK };
    enum sl_status status = sl_server_new(&options, &server);
    status = status == SL_OK ? sl_health_new(&health) : status;
    status =
        status == SL_OK ? serve(server, health, argc > 1 ? argv[1] : "127.0.0.1:0", &err) : status;
    if (status != SL_OK) {
        (void)fprintf(stderr, "server: %s: %s\n", sl_status_name(status), err.text);
    }
    server = sl_server_free(server);
    health = sl_health_free(health);
    return status == SL_OK ? 0 : 1;
}
