#include "service/cli/bench/schema.h"

#include "runtime/base/mem.h"
#include "service/cli/json_input.h"
#include "service/cli/resolve.h"

enum { REQUESTS_MAX = 10000 };

static enum sl_status add_request(
    struct sl_bench_plan *plan,
    const struct sl_schema_message *type,
    json_t *json,
    struct sl_error *err)
{
    struct sl_buf bytes;
    sl_buf_init(&bytes, SL_JSON_INPUT_MAX_BYTES);
    enum sl_status status = sl_schema_encode(type, json, &bytes, err);
    if (status == SL_OK) {
        const char *copy = sl_arena_dup(&plan->arena, sl_buf_slice(&bytes));
        plan->requests[plan->n_requests++] = sl_slice_of(copy, bytes.size);
        status = copy == NULL ? sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory") : SL_OK;
    }
    sl_buf_done(&bytes);
    return status;
}

/* JSON values, one behind the other. */
static enum sl_status add_requests(
    struct sl_bench_plan *plan,
    const struct sl_schema_message *type,
    struct sl_json_input *input,
    struct sl_error *err)
{
    json_t *json;
    enum sl_status status;
    while ((status = sl_json_input_next(input, &json, err)) == SL_OK) {
        status = plan->n_requests < REQUESTS_MAX
                     ? add_request(plan, type, json, err)
                     : sl_fail(err, SL_INVALID_ARGUMENT, "more than %d values", REQUESTS_MAX);
        json_decref(json);
        if (status != SL_OK) {
            return status;
        }
    }
    if (status != SL_END) {
        return status;
    }
    return plan->n_requests > 0 ? SL_OK : sl_fail(err, SL_INVALID_ARGUMENT, "there is no value");
}

static enum sl_status
open_data(const struct sl_bench_plan *plan, struct sl_json_input *input, struct sl_error *err)
{
    struct sl_buf bytes;
    const char *data = plan->data != NULL ? plan->data : "{}";
    const bool is_file = data[0] == '@';
    sl_buf_init(&bytes, SL_JSON_INPUT_MAX_BYTES);
    enum sl_status status = is_file ? sl_cli_read_file(data + 1, &bytes, err) : SL_OK;
    if (status == SL_OK) {
        status =
            sl_json_input_open_text(input, is_file ? sl_buf_slice(&bytes) : sl_slice_str(data));
    }
    sl_buf_done(&bytes);
    return status;
}

static int make_requests(struct sl_bench_plan *plan, const struct sl_schema_message *type)
{
    struct sl_error err = { 0 };
    struct sl_json_input input = { 0 };
    plan->requests = sl_arena_calloc(&plan->arena, REQUESTS_MAX, sizeof(plan->requests[0]));
    enum sl_status status = plan->requests == NULL
                                ? sl_fail(&err, SL_RESOURCE_EXHAUSTED, "no memory")
                                : open_data(plan, &input, &err);
    if (status == SL_OK) {
        status = add_requests(plan, type, &input, &err);
    }
    sl_json_input_done(&input);
    if (status != SL_OK) {
        sl_cli_complain("--data: %s", err.text);
        return SL_EXIT_USAGE;
    }
    return SL_EXIT_DONE;
}

static int make_from(struct sl_bench_plan *plan, struct sl_cli *cli, struct sl_schema *schema)
{
    struct sl_error err = { 0 };
    const struct sl_schema_method *method;
    const struct sl_cli_source source = { .cli = cli,
                                          .protoset = plan->protoset,
                                          .metadata = plan->metadata.items,
                                          .n_metadata = plan->metadata.n_items };
    const enum sl_status status = sl_cli_find_method(&source, schema, plan->call, &method, &err);
    if (status != SL_OK) {
        return sl_cli_report_error(status, &err);
    }
    plan->method = method->desc;
    plan->method.path = sl_arena_dup(&plan->arena, sl_slice_str(method->desc.path));
    plan->method.name = sl_arena_dup(&plan->arena, sl_slice_str(method->desc.name));
    if (plan->method.path == NULL || plan->method.name == NULL) {
        sl_cli_complain("no memory for the method");
        return SL_EXIT_ERROR;
    }
    return make_requests(plan, method->request);
}

int sl_bench_schema_make(struct sl_bench_plan *plan, struct sl_cli *cli)
{
    struct sl_schema *schema;
    if (sl_schema_new(&schema) != SL_OK) {
        sl_cli_complain("no memory for the schema");
        return SL_EXIT_ERROR;
    }
    const int exit_code = make_from(plan, cli, schema);
    (void)sl_schema_free(schema);
    return exit_code;
}
