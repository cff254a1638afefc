#include "service/cli/bench/request.h"

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"
#include "service/cli/bench/schema.h"

static int no_memory(void)
{
    sl_cli_complain("no memory for the request");
    return SL_EXIT_ERROR;
}

/* A run of the agent, by ExecuteStreaming. */
static int make_run(struct sl_bench_plan *plan)
{
    Sluice__V1__ExecuteRequest request;
    sluice__v1__execute_request__init(&request);
    request.agent = sl_unconst(plan->agent);
    request.input = sl_unconst(plan->input);
    const size_t size = sluice__v1__execute_request__get_packed_size(&request);
    uint8_t *bytes = sl_arena_alloc(&plan->arena, size);
    plan->requests = sl_arena_alloc(&plan->arena, sizeof(plan->requests[0]));
    if (bytes == NULL || plan->requests == NULL) {
        return no_memory();
    }
    (void)sluice__v1__execute_request__pack(&request, bytes);
    plan->requests[0] = sl_slice_of(bytes, size);
    plan->n_requests = 1;
    plan->method = (struct sl_method_desc){ .path = "/sluice.v1.AgentRuntime/ExecuteStreaming",
                                            .name = "ExecuteStreaming",
                                            .kind = SL_SERVER_STREAMING };
    return SL_EXIT_DONE;
}

int sl_bench_request_make(struct sl_bench_plan *plan, struct sl_cli *cli)
{
    const int exit_code = plan->call == NULL ? make_run(plan) : sl_bench_schema_make(plan, cli);
    if (exit_code != SL_EXIT_DONE) {
        return exit_code;
    }
    const char *text = plan->call == NULL ? plan->input : plan->data;
    plan->is_run = strcmp(plan->method.path, "/sluice.v1.AgentRuntime/ExecuteStreaming") == 0;
    plan->has_stamps = plan->is_run && text != NULL && strstr(text, "stamp") != NULL;
    plan->n_messages = plan->n_messages > 0 ? plan->n_messages : plan->n_requests;
    return SL_EXIT_DONE;
}
