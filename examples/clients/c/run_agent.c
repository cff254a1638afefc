/* Runs an agent and prints what it says: run-agent AGENT INPUT [SECONDS]
 * The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on.
 * Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C. */
#include <error_details.pb-c.h>
#include <inttypes.h>
#include <signal.h>
#include <sluice/rpc.h>
#include <sluice/v1/runtime.sl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sl_sluice__v1__agent_runtime__execute_streaming__reader reader;

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int number)
{
    (void)number;
    is_interrupted = 1;
}

struct app {
    struct sl_loop_uv *loop;
    struct sl_channel *channel;
    bool has_run;          /* an event came */
    enum sl_status status; /* SL_PENDING until the end */
};

static void show(const Sluice__V1__StreamEvent *event)
{
    switch ((int)event->event_case) { /* newer ones than this program's are skipped */
    case SLUICE__V1__STREAM_EVENT__EVENT_TEXT_DELTA:
        (void)fputs(event->text_delta->delta, stdout);
        (void)fflush(stdout);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_START:
        (void)fprintf(stderr, "[%s]\n", event->tool_call_start->tool_name);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_DONE:
        (void)fprintf(stderr, "\n%" PRIu64 " tokens\n", event->done->output_tokens);
        break;
    default:
        break;
    }
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct app *app = user_data;
    Sluice__V1__StreamEvent *event = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_sluice__v1__agent_runtime__execute_streaming__next(
                sl_sluice__v1__agent_runtime__execute_streaming__client_view(call), &event)) ==
           SL_OK) {
        app->has_run = true;
        show(event);
    }
    if (status != SL_AGAIN) {
        app->status = status == SL_END ? SL_OK : status;
    }
}

/* As examples/service-config.json: UNAVAILABLE comes before a run has begun, and is tried again. */
static enum sl_status open_channel(struct app *app, struct sl_error *err)
{
    static const struct sl_method_config methods[] = { {
        .struct_size = sizeof(methods[0]),
        .name = "/sluice.v1.AgentRuntime/",
        .retry = { 4, 500, 10000, 2.0, SL_RETRY_ON(SL_UNAVAILABLE) },
    } };
    static const struct sl_service_config config = { .struct_size = sizeof(config),
                                                     .methods = methods,
                                                     .n_methods = 1 };
    const char *address = getenv("SLUICE_ADDR");
    const struct sl_net_tls_options tls_options = { .struct_size = sizeof(tls_options),
                                                    .ca_file = getenv("SLUICE_CA") };
    struct sl_channel_options options = {
        .struct_size = sizeof(options),
        .loop = sl_loop_uv_base(app->loop),
        .keepalive_ms = 30000, /* the server allows a PING every 10 s */
        .service_config = &config,
    };
    if (tls_options.ca_file != NULL) {
        const enum sl_status status = sl_net_tls_new_client(&tls_options, &options.tls, err);
        if (status != SL_OK) {
            return status;
        }
    }
    const enum sl_status status =
        sl_channel_new(address == NULL ? "127.0.0.1:50051" : address, &options, &app->channel, err);
    (void)sl_net_tls_unref(options.tls); /* the channel has its own reference */
    return status;
}

/* ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have
 * none. */
static void explain(const struct sl_client_call *call, bool has_run)
{
    const struct sl_slice bytes = sl_client_call_details(call);
    Details__Status *status = details__status__unpack(NULL, bytes.size, bytes.data);
    Details__ErrorInfo *info = NULL;
    for (size_t i = 0; status != NULL && info == NULL && i < status->n_details; i++) {
        const Google__Protobuf__Any *detail = status->details[i];
        if (strcmp(detail->type_url, "type.googleapis.com/google.rpc.ErrorInfo") == 0) {
            info = details__error_info__unpack(NULL, detail->value.len, detail->value.data);
        }
    }
    for (size_t i = 0; info != NULL && i < info->n_metadata; i++) {
        if (strcmp(info->metadata[i]->key, "run_started") == 0) {
            has_run = strcmp(info->metadata[i]->value, "true") == 0;
        }
    }
    (void)fprintf(
        stderr, "\n%s %s (%s): %s\n", sl_status_name(sl_client_call_status(call)),
        info == NULL ? "-" : info->reason, has_run ? "the run had started" : "no run was started",
        sl_client_call_error(call)->text);
    details__error_info__free_unpacked(info, NULL);
    details__status__free_unpacked(status, NULL);
}

static enum sl_status run(struct app *app, char *agent, char *input, double seconds)
{
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options),
        .timeout_ms = (uint64_t)(seconds * 1000),
        .on_readable = on_readable,
        .user_data = app,
    };
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = agent;
    request.input = input;
    reader *events = NULL;
    const enum sl_status opened = sl_sluice__v1__agent_runtime__execute_streaming__open(
        app->channel, &options, &request, &events);
    if (opened != SL_OK) {
        (void)fprintf(stderr, "run-agent: %s\n", sl_status_name(opened));
        return opened;
    }
    app->status = SL_PENDING;
    while (app->status == SL_PENDING) {
        sl_loop_uv_step(app->loop, 100);
        if (is_interrupted != 0) { /* resets the stream, and so cancels the run */
            sl_sluice__v1__agent_runtime__execute_streaming__cancel(events);
        }
    }
    if (app->status != SL_OK) {
        explain(sl_sluice__v1__agent_runtime__execute_streaming__client_call(events), app->has_run);
    }
    (void)sl_sluice__v1__agent_runtime__execute_streaming__free(events);
    return app->status;
}

int main(int argc, char **argv)
{
    struct app app = { .status = SL_INTERNAL };
    struct sl_error err = { .status = SL_OK };
    if (argc < 3) {
        (void)fputs("usage: run-agent AGENT INPUT [SECONDS]\n", stderr);
        return 2;
    }
    if (signal(SIGINT, on_interrupt) == SIG_ERR || sl_loop_uv_new(0, &app.loop) != SL_OK) {
        return 1;
    }
    if (open_channel(&app, &err) == SL_OK) {
        app.status = run(&app, argv[1], argv[2], argc > 3 ? strtod(argv[3], NULL) : 60);
        (void)sl_channel_free(app.channel);
    } else {
        (void)fprintf(stderr, "run-agent: %s\n", err.text);
    }
    for (int i = 0; i < 3; i++) { /* the reset is written, and the channel goes */
        sl_loop_uv_step(app.loop, 0);
    }
    (void)sl_loop_uv_free(app.loop);
    return app.status == SL_OK ? 0 : app.status == SL_CANCELLED ? 130 : 1;
}
