/* Calls all methods of the greeter at the same time, on a loop of its own: nothing waits but the
 * loop.
 *
 *   greeter_async_client ADDRESS */
#include <sluice/rpc.h>
#include <stdio.h>

#include "greeter.sl.h"

enum { TIMEOUT_MS = 10000 };

struct app {
    struct sl_loop_uv *loop;
    struct sl_channel *channel;
    int n_open;
    bool is_good;
    size_t n_written, n_said; /* names that greet_all and chat have sent */
};

static char names[][16] = { "Ada", "Grace", "Barbara" };
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

/* A call is over: `status` is what its next gave. */
static void
done(struct app *app, const char *what, struct sl_client_call *call, enum sl_status status)
{
    if (status != SL_END) {
        (void)fprintf(
            stderr, "%s: %s %s\n", what, sl_status_name(status), sl_client_call_error(call)->text);
        app->is_good = false;
    }
    (void)sl_client_call_free(call);
    app->n_open--;
    if (app->n_open == 0) {
        sl_loop_uv_stop(app->loop);
    }
}

static struct sl_client_call_options options_of(
    struct app *app,
    void (*on_readable)(struct sl_client_call *call, void *user_data),
    void (*on_writable)(struct sl_client_call *call, void *user_data))
{
    app->n_open++;
    return (struct sl_client_call_options){ .struct_size = sizeof(struct sl_client_call_options),
                                            .timeout_ms = TIMEOUT_MS,
                                            .on_readable = on_readable,
                                            .on_writable = on_writable,
                                            .user_data = app };
}

/* ---- Unary: the reply is the stream's only message ------------------------------------------- */

static void greet_readable(struct sl_client_call *call, void *user_data)
{
    Greeter__V1__GreetReply *reply = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__greet__next(
                sl_greeter__v1__greeter__greet__client_view(call), &reply)) == SL_OK) {
        (void)printf("greet: %s\n", reply->text);
    }
    if (status != SL_AGAIN) {
        done(user_data, "greet", call, status);
    }
}

static enum sl_status greet(struct app *app)
{
    const struct sl_client_call_options options = options_of(app, greet_readable, NULL);
    char world[] = "World";
    Greeter__V1__GreetRequest request = GREETER__V1__GREET_REQUEST__INIT;
    request.name = world; /* is encoded before open returns */
    struct sl_greeter__v1__greeter__greet__reader *reader = NULL;
    return sl_greeter__v1__greeter__greet__open(app->channel, &options, &request, &reader);
}

/* ---- Server streaming ------------------------------------------------------------------------ */

static void countdown_readable(struct sl_client_call *call, void *user_data)
{
    Greeter__V1__GreetReply *reply = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__countdown__next(
                sl_greeter__v1__greeter__countdown__client_view(call), &reply)) == SL_OK) {
        (void)printf("countdown: %s\n", reply->text);
    }
    if (status != SL_AGAIN) {
        done(user_data, "countdown", call, status);
    }
}

static enum sl_status countdown(struct app *app)
{
    const struct sl_client_call_options options = options_of(app, countdown_readable, NULL);
    Greeter__V1__CountdownRequest request = GREETER__V1__COUNTDOWN_REQUEST__INIT;
    request.from = 3;
    request.pause_ms = 50;
    struct sl_greeter__v1__greeter__countdown__reader *reader = NULL;
    return sl_greeter__v1__greeter__countdown__open(app->channel, &options, &request, &reader);
}

/* ---- Client streaming: writes until there is no room, and goes on when there is ----------------
 */

static void greet_all_writable(struct sl_client_call *call, void *user_data)
{
    struct app *app = user_data;
    struct sl_greeter__v1__greeter__greet_all__writer *writer =
        sl_greeter__v1__greeter__greet_all__client_view(call);
    for (; app->n_written < N_NAMES; app->n_written++) {
        Greeter__V1__GreetRequest request = GREETER__V1__GREET_REQUEST__INIT;
        request.name = names[app->n_written];
        if (sl_greeter__v1__greeter__greet_all__write(writer, &request) != SL_OK) {
            return; /* SL_AGAIN: later; otherwise the call is over, and next says why */
        }
    }
    sl_greeter__v1__greeter__greet_all__close_send(writer);
}

static void greet_all_readable(struct sl_client_call *call, void *user_data)
{
    Greeter__V1__GreetReply *reply = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__greet_all__next(
                sl_greeter__v1__greeter__greet_all__client_view(call), &reply)) == SL_OK) {
        (void)printf("greet_all: %s\n", reply->text);
    }
    if (status != SL_AGAIN) {
        done(user_data, "greet_all", call, status);
    }
}

static enum sl_status greet_all(struct app *app)
{
    const struct sl_client_call_options options =
        options_of(app, greet_all_readable, greet_all_writable);
    struct sl_greeter__v1__greeter__greet_all__writer *writer = NULL;
    SL_TRY(sl_greeter__v1__greeter__greet_all__open(app->channel, &options, &writer));
    greet_all_writable(sl_greeter__v1__greeter__greet_all__client_call(writer), app);
    return SL_OK;
}

/* ---- Both ways: the next name goes out when the last one was greeted ---------------------------
 */

static void say_next(struct app *app, struct sl_greeter__v1__greeter__chat__duplex *duplex)
{
    if (app->n_said == N_NAMES) {
        sl_greeter__v1__greeter__chat__close_send(duplex);
        return;
    }
    Greeter__V1__GreetRequest request = GREETER__V1__GREET_REQUEST__INIT;
    request.name = names[app->n_said++];
    if (sl_greeter__v1__greeter__chat__write(duplex, &request) != SL_OK) {
        sl_greeter__v1__greeter__chat__cancel(duplex); /* one small message always has room */
    }
}

static void chat_readable(struct sl_client_call *call, void *user_data)
{
    struct sl_greeter__v1__greeter__chat__duplex *duplex =
        sl_greeter__v1__greeter__chat__client_view(call);
    Greeter__V1__GreetReply *reply = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__chat__next(duplex, &reply)) == SL_OK) {
        (void)printf("chat: %s\n", reply->text);
        say_next(user_data, duplex);
    }
    if (status != SL_AGAIN) {
        done(user_data, "chat", call, status);
    }
}

static enum sl_status chat(struct app *app)
{
    const struct sl_client_call_options options = options_of(app, chat_readable, NULL);
    struct sl_greeter__v1__greeter__chat__duplex *duplex = NULL;
    SL_TRY(sl_greeter__v1__greeter__chat__open(app->channel, &options, &duplex));
    say_next(app, duplex);
    return SL_OK;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: greeter_async_client ADDRESS\n");
        return 2;
    }
    struct app app = { .is_good = true };
    struct sl_error err = { 0 };
    if (sl_loop_uv_new(0, &app.loop) != SL_OK) {
        (void)fprintf(stderr, "no loop can be made\n");
        return 1;
    }
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .loop = sl_loop_uv_base(app.loop) };
    const enum sl_status status = sl_channel_new(argv[1], &options, &app.channel, &err);
    if (status != SL_OK) {
        (void)fprintf(stderr, "%s: %s\n", sl_status_name(status), err.text);
        app.is_good = false;
    } else if (
        greet(&app) == SL_OK && countdown(&app) == SL_OK && greet_all(&app) == SL_OK &&
        chat(&app) == SL_OK) {
        sl_loop_uv_run(app.loop); /* until the last call is done */
    } else {
        (void)fprintf(stderr, "a call cannot be opened\n");
        app.is_good = false;
    }
    (void)sl_channel_free(app.channel);
    (void)sl_loop_uv_free(app.loop);
    return app.is_good ? 0 : 1;
}
