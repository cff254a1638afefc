/* Properties of a client whose server says anything: each call that interceptors saw start is seen
 * to end once, with the status that its user gets; every call is over when its deadline has passed;
 * nothing is kept for retries when no call is left.
 *
 * Input: the step (0: all at once), milliseconds between two steps, then HTTP/2 of the server
 * behind its SETTINGS. */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "tests/fuzz/fuzz.h"
#include "tests/wire/client_rig.h"

enum { CALLS = 3, MOST_CONNECTIONS = 4, TIMEOUT_MS = 20000 };

static const struct sl_method_desc methods[CALLS] = {
    { .path = "/a.B/Unary", .name = "Unary", .kind = SL_UNARY },
    { .path = "/a.B/Stream", .name = "Stream", .kind = SL_SERVER_STREAMING },
    { .path = "/a.B/Talk", .name = "Talk", .kind = SL_BIDIRECTIONAL },
};

static struct client_rig rig;
static size_t n_greeted;

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* ---- What interceptors see ------------------------------------------------------------------- */

static struct {
    size_t n_started, n_ended;
} seen;

static enum sl_status on_start(struct sl_client_call *call, struct sl_error *err, void *user_data)
{
    (void)call;
    (void)err;
    (void)user_data;
    seen.n_started++;
    return SL_OK;
}

static void on_end(struct sl_client_call *call, enum sl_status status, void *user_data)
{
    (void)user_data;
    check(status >= SL_OK && sl_client_call_status(call) == status);
    seen.n_ended++;
}

static void open_channel(void)
{
    const struct sl_client_interceptor one = { .struct_size = sizeof(one),
                                               .on_start = on_start,
                                               .on_end = on_end };
    const struct sl_method_config all = { .struct_size = sizeof(all),
                                          .retry = { .max_attempts = 5,
                                                     .initial_backoff_ms = 1,
                                                     .max_backoff_ms = 100,
                                                     .backoff_multiplier = 3,
                                                     .retryable = SL_RETRY_ON(SL_UNAVAILABLE) |
                                                                  SL_RETRY_ON(SL_INTERNAL) |
                                                                  SL_RETRY_ON(SL_UNKNOWN) } };
    const struct sl_service_config config = { .struct_size = sizeof(config),
                                              .methods = &all,
                                              .n_methods = 1,
                                              .max_tokens = 20,
                                              .token_ratio = 0.1 };
    client_rig_channel(
        &rig, &(struct sl_channel_options){ .interceptors = &one,
                                            .n_interceptors = 1,
                                            .service_config = &config,
                                            .keepalive_ms = 5000,
                                            .retry_call_bytes = 64 });
}

/* ---- One input ------------------------------------------------------------------------------- */

/* SETTINGS to who has not had them. */
static void greet(void)
{
    for (; n_greeted < rig.n_conns; n_greeted++) {
        client_rig_say(rig.conns[n_greeted], "\0\0\0\4\0\0\0\0\0", 9);
    }
    client_rig_turn(&rig);
    if (rig.n_conns >= MOST_CONNECTIONS) {
        rig.door = RIG_CLOSED;
    }
}

static void receive(struct sl_client_call *call)
{
    struct sl_slice message;
    while (sl_client_call_recv_bytes(call, &message) == SL_OK) {
    }
}

static void
say_all(struct sl_client_call *const *calls, struct sl_slice bytes, size_t step, uint64_t pause_ms)
{
    while (bytes.size > 0) {
        const size_t n = step == 0 || bytes.size < step ? bytes.size : step;
        greet();
        client_rig_say(rig.conns[rig.n_conns - 1], (const char *)bytes.data, n);
        client_rig_advance_ms(&rig, pause_ms);
        for (size_t i = 0; i < CALLS; i++) {
            receive(calls[i]);
        }
        bytes.data += n;
        bytes.size -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = TIMEOUT_MS };
    struct sl_client_call *calls[CALLS];
    n_greeted = 0;
    seen.n_started = seen.n_ended = 0;
    client_rig_init(&rig);
    rig.is_mute = true;
    open_channel();
    for (size_t i = 0; i < CALLS; i++) {
        calls[i] = client_rig_call(&rig, &methods[i], &options, i == 2 ? "a longer message" : "x");
    }
    greet();
    say_all(calls, sl_slice_of(data + 2, size - 2), data[0], data[1]);
    client_rig_advance_ms(&rig, TIMEOUT_MS);
    check(seen.n_started == CALLS && seen.n_ended == CALLS);
    for (size_t i = 0; i < CALLS; i++) {
        receive(calls[i]);
        check(sl_client_call_status(calls[i]) != SL_PENDING);
        (void)sl_client_call_free(calls[i]);
    }
    check(sl_channel_stats(rig.channel).retry_bytes == 0);
    client_rig_done(&rig);
    return 0;
}
