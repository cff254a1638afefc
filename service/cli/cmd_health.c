/* sluice health: grpc.health.v1 Check. Exit status 0 only when SERVING. */
#include <stdio.h>

#include "proto/grpc/health/v1/health.sl.h"
#include "runtime/base/mem.h"
#include "service/cli/cli.h"

struct check {
    struct sl_cli cli;
    struct sl_client_call *call;
};

static const char *name_of(int status)
{
    static const char *const names[] = { "UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN" };
    return status >= 0 && (size_t)status < SL_COUNT(names) ? names[status] : "UNKNOWN";
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct check *check = user_data;
    void *message;
    const enum sl_status status = sl_client_call_recv(call, &message);
    if (status == SL_AGAIN) {
        return;
    }
    if (status != SL_OK) {
        sl_cli_stop(&check->cli, sl_cli_report(call));
        return;
    }
    const Grpc__Health__V1__HealthCheckResponse *reply = message;
    const int serving = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    (void)printf(
        check->cli.options.is_json ? "{\"status\":\"%s\"}\n" : "%s\n", name_of((int)reply->status));
    sl_cli_stop(&check->cli, (int)reply->status == serving ? SL_EXIT_DONE : SL_EXIT_ERROR);
}

static enum sl_status ask(struct check *check, const char *service)
{
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options),
        .timeout_ms = check->cli.options.timeout_ms == 0 ? 5000 : check->cli.options.timeout_ms,
        .on_readable = on_readable,
        .user_data = check
    };
    struct sl_grpc__health__v1__health__check__reader *reader;
    Grpc__Health__V1__HealthCheckRequest request;
    grpc__health__v1__health_check_request__init(&request);
    request.service = sl_unconst(service);
    SL_TRY(
        sl_grpc__health__v1__health__check__open(check->cli.channel, &options, &request, &reader));
    check->call = sl_grpc__health__v1__health__check__client_call(reader);
    return SL_OK;
}

static int run_health(int argc, char **argv)
{
    struct check check = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_health, NULL, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, NULL, 1)) {
        return sl_cli_usage(&sl_cmd_health);
    }
    int exit_code = SL_EXIT_USAGE;
    if (sl_cli_open(&check.cli, &options) == SL_OK) {
        exit_code =
            ask(&check, argc == 1 ? argv[0] : "") == SL_OK ? sl_cli_run(&check.cli) : SL_EXIT_ERROR;
    }
    check.call = sl_client_call_free(check.call);
    sl_cli_close(&check.cli);
    return exit_code;
}

const struct sl_cli_command sl_cmd_health = {
    .name = "health",
    .arguments = "[SERVICE]",
    .text = "ask grpc.health.v1 how the server is",
    .run = run_health,
    .is_remote = true,
};
