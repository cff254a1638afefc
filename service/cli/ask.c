#include "service/cli/ask.h"

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct sl_cli_ask *ask = user_data;
    void *message;
    enum sl_status status = sl_client_call_recv(call, &message);
    while (status == SL_OK) {
        ask->on_reply(message, ask->user_data);
        status = sl_client_call_recv(call, &message);
    }
    if (status == SL_AGAIN) {
        return;
    }
    sl_cli_stop(ask->cli, status == SL_END ? SL_EXIT_DONE : sl_cli_report(call));
}

struct sl_client_call_options sl_cli_ask_options(struct sl_cli_ask *ask)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = ask->cli->options.timeout_ms,
                                                    .on_readable = on_readable,
                                                    .user_data = ask };
    return options;
}

int sl_cli_ask_wait(struct sl_cli_ask *ask, enum sl_status opened, struct sl_client_call *call)
{
    if (opened != SL_OK) {
        sl_cli_complain("out of memory");
        return SL_EXIT_ERROR;
    }
    const int exit_code = sl_cli_run(ask->cli);
    (void)sl_client_call_free(call);
    return exit_code;
}
