#include "service/cli/call_list.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "service/cli/call_output.h"

enum { MAX_NAMES_BYTES = 4 * 1024 * 1024 };

static void print_line(bool is_json, const char *key, struct sl_slice text)
{
    if (!is_json) {
        (void)printf("%.*s\n", SL_SLICE_FMT(text));
        return;
    }
    json_t *line = json_pack("{s:s%}", key, (const char *)text.data, text.size);
    if (line != NULL) {
        (void)!sl_call_print_json(line, false);
    }
    json_decref(line);
}

static int list_services(const struct sl_cli_source *source, struct sl_schema *schema, bool is_json)
{
    struct sl_error err = { 0 };
    struct sl_buf names;
    sl_buf_init(&names, MAX_NAMES_BYTES);
    const enum sl_status status = sl_cli_list_services(source, schema, &names, &err);
    struct sl_slice rest = sl_buf_slice(&names);
    while (status == SL_OK && rest.size > 0) {
        const uint8_t *end = memchr(rest.data, '\n', rest.size);
        const size_t size = end == NULL ? rest.size : (size_t)(end - rest.data);
        print_line(is_json, "service", sl_slice_of(rest.data, size));
        const size_t taken = end == NULL ? size : size + 1;
        rest = sl_slice_of(rest.data + taken, rest.size - taken);
    }
    sl_buf_done(&names);
    return status == SL_OK ? SL_EXIT_DONE : sl_cli_report_error(status, &err);
}

static void
print_method(const char *service, const struct sl_schema_method_name *method, bool is_json)
{
    static const struct {
        const char *request, *response;
        bool is_in, is_out;
    } streams[] = { [SL_UNARY] = { "", "", false, false },
                    [SL_CLIENT_STREAMING] = { "stream ", "", true, false },
                    [SL_SERVER_STREAMING] = { "", "stream ", false, true },
                    [SL_BIDIRECTIONAL] = { "stream ", "stream ", true, true } };
    if (!is_json) {
        (void)printf(
            "%s/%s(%s%s) returns (%s%s)\n", service, method->name, streams[method->kind].request,
            method->request, streams[method->kind].response, method->response);
        return;
    }
    json_t *line = json_pack(
        "{s:o, s:s, s:s, s:b, s:b}", "method", json_sprintf("%s/%s", service, method->name),
        "request", method->request, "response", method->response, "client_streaming",
        streams[method->kind].is_in, "server_streaming", streams[method->kind].is_out);
    if (line != NULL) {
        (void)!sl_call_print_json(line, false);
    }
    json_decref(line);
}

/* 0: `service` is none. */
static size_t list_methods(const struct sl_schema *schema, const char *service, bool is_json)
{
    struct sl_schema_method_name method;
    size_t n = 0;
    while (sl_schema_method_at(schema, service, n, &method)) {
        print_method(service, &method, is_json);
        n++;
    }
    return n;
}

static int describe(struct sl_schema *schema, const char *name, bool is_json)
{
    struct sl_error err = { .text = "out of memory" };
    const struct sl_schema_method *method = NULL;
    enum sl_status status = sl_schema_find_method(schema, name, &method, &err);
    if (status == SL_OK) {
        json_t *json = sl_schema_template(method->request);
        status = json == NULL ? SL_RESOURCE_EXHAUSTED : sl_call_print_json(json, !is_json);
        json_decref(json);
    }
    return status == SL_OK ? SL_EXIT_DONE : sl_cli_report_error(status, &err);
}

/* The service of "pkg.Svc.M", with the types that it needs. */
static bool is_dotted_method(struct sl_schema *schema, const char *name)
{
    const struct sl_schema_method *method = NULL;
    return sl_schema_find_method(schema, name, &method, NULL) != SL_NOT_FOUND;
}

int sl_call_list(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    const char *name,
    bool is_described,
    bool *ret_is_method,
    bool is_json)
{
    struct sl_error err = { 0 };
    if (name == NULL) {
        return list_services(source, schema, is_json);
    }
    const char *text = name[0] == '/' ? name + 1 : name;
    const struct sl_slice symbol = sl_slice_of(text, strcspn(text, "/"));
    const enum sl_status status = sl_cli_load_symbol(source, schema, symbol, &err);
    if (status != SL_OK) {
        return sl_cli_report_error(status, &err);
    }
    if (is_described && list_methods(schema, text, is_json) == 0) {
        return describe(schema, name, is_json);
    }
    if (is_described || list_methods(schema, text, is_json) > 0) {
        return SL_EXIT_DONE;
    }
    *ret_is_method = is_dotted_method(schema, text);
    if (*ret_is_method) {
        return SL_EXIT_DONE;
    }
    const struct sl_schema_method *method = NULL;
    const enum sl_status found = sl_schema_find_method(schema, name, &method, &err);
    return sl_cli_report_error(found, &err);
}
