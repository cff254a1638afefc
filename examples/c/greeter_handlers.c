/* The greeter, with handlers that never block: they run on the loop, return at once, and go on in
 * callbacks. One thread serves every call, in whatever loop it is. */
#include "greeter_handlers.h"

#include <stdio.h>

#include "greeter.sl.h"

enum { TEXT_BYTES = 256 };

/* ---- A reply at once ------------------------------------------------------------------------- */

static enum sl_status greet(
    struct sl_call *call,
    const Greeter__V1__GreetRequest *request,
    Greeter__V1__GreetReply *reply,
    void *user_data)
{
    (void)user_data;
    if (request->name[0] == '\0') {
        return SL_INVALID_ARGUMENT;
    }
    char text[TEXT_BYTES];
    if ((size_t)snprintf(text, sizeof(text), "Hello, %s!", request->name) >= sizeof(text)) {
        return SL_RESOURCE_EXHAUSTED; /* half a name is none */
    }
    reply->text = sl_arena_dup(sl_call_arena(call), sl_slice_str(text));
    return reply->text == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

/* ---- A stream that waits for a timer, and for its reader ---------------------------------------
 */

/* What outlives the handler lies in the call's arena, until the call is finished. */
struct countdown {
    struct sl_call *call;
    struct sl_timer pause;
    uint64_t pause_ms;
    int32_t left;
};

static void count(void *user_data)
{
    struct countdown *self = user_data;
    char text[TEXT_BYTES];
    (void)snprintf(text, sizeof(text), "%d...", (int)self->left);
    Greeter__V1__GreetReply reply = GREETER__V1__GREET_REPLY__INIT;
    reply.text = text;
    const enum sl_status status = sl_greeter__v1__greeter__countdown__send(
        sl_greeter__v1__greeter__countdown__view(self->call), &reply);
    if (status == SL_AGAIN) {
        return; /* the client reads slowly: on_writable asks again */
    }
    self->left--;
    if (status != SL_OK || self->left <= 0) {
        sl_call_finishf(self->call, status, "%s", ""); /* the call, and `self`, are gone */
        return;
    }
    sl_timer_start_ms(&self->pause, self->pause_ms);
}

static void countdown_writable(struct sl_call *call, void *user_data)
{
    (void)call;
    count(user_data);
}

/* Cancelled, out of time, or its connection is lost. */
static void countdown_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    struct countdown *self = user_data;
    sl_timer_stop(&self->pause);
    sl_call_finishf(call, SL_UNAVAILABLE, "%s", ""); /* is sent when the server goes down only */
}

static enum sl_status countdown(
    struct sl_call *call,
    const Greeter__V1__CountdownRequest *request,
    struct sl_greeter__v1__greeter__countdown__sender *out,
    void *user_data)
{
    (void)out;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                        .on_writable = countdown_writable,
                                                        .on_ended = countdown_ended };
    if (request->from <= 0) {
        return SL_OK;
    }
    struct countdown *self = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*self));
    if (self == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    self->call = call;
    self->left = request->from;
    self->pause_ms = request->pause_ms > 0 ? (uint64_t)request->pause_ms : 0;
    sl_timer_init(&self->pause, sl_call_loop(call), count, self);
    sl_timer_start_ms(&self->pause, self->pause_ms);
    sl_call_set_callbacks(call, &callbacks, self);
    return SL_PENDING;
}

/* ---- Streams of requests --------------------------------------------------------------------- */

static void ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    sl_call_finishf(call, SL_UNAVAILABLE, "%s", ""); /* is sent when the server goes down only */
}

struct greet_all {
    Greeter__V1__GreetReply *reply;
    char text[TEXT_BYTES];
};

static void greet_all_readable(struct sl_call *call, void *user_data)
{
    struct greet_all *self = user_data;
    Greeter__V1__GreetRequest *request = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_greeter__v1__greeter__greet_all__recv(
                sl_greeter__v1__greeter__greet_all__view(call), &request)) == SL_OK) {
        const size_t used = strlen(self->text);
        if ((size_t)snprintf(self->text + used, sizeof(self->text) - used, ", %s", request->name) >=
            sizeof(self->text) - used) {
            status = SL_RESOURCE_EXHAUSTED; /* half a name is none */
            break;
        }
    }
    if (status == SL_END) {
        self->reply->text = self->text; /* lives as long as the call */
        sl_call_finishf(call, SL_OK, "%s", "");
    } else if (status != SL_AGAIN) {
        sl_call_finishf(call, status, "%s", "");
    }
}

static enum sl_status greet_all(
    struct sl_call *call,
    struct sl_greeter__v1__greeter__greet_all__receiver *in,
    Greeter__V1__GreetReply *reply,
    void *user_data)
{
    (void)in;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                        .on_readable = greet_all_readable,
                                                        .on_ended = ended };
    struct greet_all *self = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*self));
    if (self == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    self->reply = reply;
    (void)snprintf(self->text, sizeof(self->text), "Hello");
    sl_call_set_callbacks(call, &callbacks, self);
    return SL_PENDING;
}

/* ---- Both ways: nothing is received before the last answer is on its way -----------------------
 */

struct chat {
    struct sl_greeter__v1__greeter__chat__stream *io;
    char text[TEXT_BYTES]; /* empty: nothing to send */
};

/* SL_AGAIN: nothing to read, or no room to write. */
static enum sl_status answer(struct chat *self)
{
    Greeter__V1__GreetRequest *request = NULL;
    if (self->text[0] == '\0') {
        SL_TRY(sl_greeter__v1__greeter__chat__recv(self->io, &request));
        if ((size_t)snprintf(self->text, sizeof(self->text), "Hello, %s!", request->name) >=
            sizeof(self->text)) {
            return SL_RESOURCE_EXHAUSTED; /* half a name is none */
        }
    }
    Greeter__V1__GreetReply reply = GREETER__V1__GREET_REPLY__INIT;
    reply.text = self->text;
    SL_TRY(sl_greeter__v1__greeter__chat__send(self->io, &reply));
    self->text[0] = '\0';
    return SL_OK;
}

static void chat_on(struct sl_call *call, void *user_data)
{
    enum sl_status status = SL_OK;
    while (status == SL_OK) {
        status = answer(user_data);
    }
    if (status != SL_AGAIN) {
        sl_call_finishf(call, status == SL_END ? SL_OK : status, "%s", "");
    }
}

static enum sl_status
chat(struct sl_call *call, struct sl_greeter__v1__greeter__chat__stream *io, void *user_data)
{
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                        .on_readable = chat_on,
                                                        .on_writable = chat_on,
                                                        .on_ended = ended };
    struct chat *self = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*self));
    if (self == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    self->io = io;
    sl_call_set_callbacks(call, &callbacks, self);
    return SL_PENDING;
}

/* ---- The service ----------------------------------------------------------------------------- */

enum sl_status greeter_register(struct sl_server *server)
{
    static const struct sl_greeter__v1__greeter__handlers handlers = {
        .struct_size = sizeof(handlers),
        .greet = greet,
        .countdown = countdown,
        .greet_all = greet_all,
        .chat = chat,
    };
    return sl_greeter__v1__greeter__register(server, &handlers, NULL);
}
