#include "service/api/api.h"

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"
#include "service/api/agents.h"
#include "service/api/attach.h"
#include "service/api/converse.h"
#include "service/api/decide.h"
#include "service/api/execute.h"
#include "service/api/identify.h"
#include "service/api/runs.h"
#include "service/std/health.h"
#include "service/std/reflection.h"

struct sl_api {
    struct sl_runtime *runtime;
    struct sl_health *health;
    struct sl_identify *identify;
};

static enum sl_status execute(
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__ExecuteResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_execute_start(api->runtime, api->identify, call, request, reply);
}

static enum sl_status execute_streaming(
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    struct sl_sluice__v1__agent_runtime__execute_streaming__sender *out,
    void *user_data)
{
    const struct sl_api *api = user_data;
    (void)out; /* the run's log is the source of the call */
    return sl_execute_start(api->runtime, api->identify, call, request, NULL);
}

static enum sl_status converse(
    struct sl_call *call,
    struct sl_sluice__v1__agent_runtime__converse__stream *io,
    void *user_data)
{
    const struct sl_api *api = user_data;
    (void)io; /* as above */
    return sl_converse_start(api->runtime, api->identify, call);
}

static enum sl_status decide_approval(
    struct sl_call *call,
    const Sluice__V1__DecideApprovalRequest *request,
    Sluice__V1__DecideApprovalResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_decide_approval(api->runtime, api->identify, call, request, reply);
}

static enum sl_status start_run(
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__StartRunResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_execute_detached(api->runtime, api->identify, call, request, reply);
}

static enum sl_status attach(
    struct sl_call *call,
    const Sluice__V1__AttachRequest *request,
    struct sl_sluice__v1__agent_runtime__attach__sender *out,
    void *user_data)
{
    const struct sl_api *api = user_data;
    (void)out; /* as above */
    return sl_attach_start(api->runtime, api->identify, call, request);
}

static enum sl_status cancel_run(
    struct sl_call *call,
    const Sluice__V1__CancelRunRequest *request,
    Sluice__V1__CancelRunResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_runs_cancel(api->runtime, api->identify, call, request, reply);
}

static enum sl_status get_run(
    struct sl_call *call,
    const Sluice__V1__GetRunRequest *request,
    Sluice__V1__GetRunResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_runs_get(api->runtime, api->identify, call, request, reply);
}

static enum sl_status list_runs(
    struct sl_call *call,
    const Sluice__V1__ListRunsRequest *request,
    Sluice__V1__ListRunsResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_runs_list(api->runtime, api->identify, call, request, reply);
}

static enum sl_status list_agents(
    struct sl_call *call,
    const Sluice__V1__ListAgentsRequest *request,
    Sluice__V1__ListAgentsResponse *reply,
    void *user_data)
{
    const struct sl_api *api = user_data;
    return sl_agents_list(api->runtime, api->identify, call, request, reply);
}

static const struct sl_sluice__v1__agent_runtime__handlers handlers = {
    .struct_size = sizeof(handlers),
    .execute = execute,
    .execute_streaming = execute_streaming,
    .converse = converse,
    .start_run = start_run,
    .attach = attach,
    .cancel_run = cancel_run,
    .decide_approval = decide_approval,
    .get_run = get_run,
    .list_runs = list_runs,
    .list_agents = list_agents,
};

/* Known by path, with quotas of their own (ADM-9): control methods pass when runs and those who
 * follow them have used theirs up. */
static enum sl_status set_classes(struct sl_server *server)
{
    static const char *const paths[] = {
        SL_SLUICE__V1__AGENT_RUNTIME__CANCEL_RUN__PATH,
        SL_SLUICE__V1__AGENT_RUNTIME__DECIDE_APPROVAL__PATH,
        SL_SLUICE__V1__AGENT_RUNTIME__GET_RUN__PATH,
        SL_SLUICE__V1__AGENT_RUNTIME__LIST_RUNS__PATH,
    };
    for (size_t i = 0; i < SL_COUNT(paths); i++) {
        SL_TRY(sl_server_set_control(server, paths[i]));
    }
    return sl_server_set_class(
        server, SL_SLUICE__V1__AGENT_RUNTIME__ATTACH__PATH, SL_CLASS_OBSERVER);
}

static enum sl_status register_all(struct sl_api *api, const struct sl_api_options *options)
{
    /* Of every error that no handler of ours knows of (ST-6). */
    static const struct sl_metadatum not_started = { { (const uint8_t *)"run_started", 11 },
                                                     { (const uint8_t *)"false", 5 } };
    struct sl_server *server = options->server;
    sl_server_set_error_info(server, &not_started, 1);
    SL_TRY(sl_sluice__v1__agent_runtime__register(server, &handlers, api));
    SL_TRY(set_classes(server));
    SL_TRY(sl_identify_new(server, options->identity, &api->identify));
    SL_TRY(sl_health_new(&api->health));
    SL_TRY(sl_health_set(api->health, sl_sluice__v1__agent_runtime__service.name, true));
    SL_TRY(sl_health_set(api->health, SL_API_CONFIG_NAME, true));
    SL_TRY(sl_health_register(api->health, server));
    return options->has_reflection ? sl_reflection_register(server) : SL_OK;
}

enum sl_status sl_api_new(const struct sl_api_options *options, struct sl_api **ret_api)
{
    struct sl_api *api = sl_calloc(1, sizeof(*api));
    if (api == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    api->runtime = options->runtime;
    const enum sl_status status = register_all(api, options);
    if (status != SL_OK) {
        sl_api_free(api);
        return status;
    }
    *ret_api = api;
    return SL_OK;
}

enum sl_status sl_api_set_config_state(struct sl_api *api, bool is_good)
{
    return sl_health_set(api->health, SL_API_CONFIG_NAME, is_good);
}

void sl_api_set_identity(struct sl_api *api, struct sl_identity *identity)
{
    sl_identify_set(api->identify, identity);
}

enum sl_status sl_api_serve_health(struct sl_api *api, struct sl_server *server)
{
    return sl_health_register(api->health, server);
}

void sl_api_shutdown(struct sl_api *api)
{
    sl_health_shutdown(api->health);
}

struct sl_api *sl_api_free(struct sl_api *api)
{
    if (api != NULL) {
        sl_health_free(api->health);
        (void)sl_identify_free(api->identify);
        sl_free(api);
    }
    return NULL;
}
