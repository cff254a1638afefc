#include "tests/fake/tool_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"

enum { BOUND_S = 10 };

static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct sl_conf *parse(const char *text)
{
    struct sl_conf *conf = NULL;
    assert_int_equal(sl_conf_parse(sl_slice_str(text), "test.yaml", &conf), SL_OK);
    if (sl_conf_n_errors(conf) > 0) {
        print_error("%s\n", sl_conf_error_at(conf, 0));
    }
    assert_int_equal(sl_conf_n_errors(conf), 0);
    return conf;
}

void sl_tool_rig_init(struct sl_tool_rig *rig, const char *launcher, const char *configuration)
{
    static const char *const environment[] = { "PATH=/usr/bin:/bin", "TZ=UTC", "SECRET=x", NULL };
    *rig = (struct sl_tool_rig){ 0 };
    sl_limits_init(&rig->limits);
    assert_int_equal(sl_loop_uv_new(0, &rig->uv), SL_OK);
    rig->loop = sl_loop_uv_base(rig->uv);
    sl_loop_uv_step(rig->uv, 0);
    const struct sl_tools_options options = { .loops = &rig->loop,
                                              .n_loops = 1,
                                              .limits = &rig->limits,
                                              .launcher = launcher,
                                              .environment = environment };
    assert_int_equal(sl_tools_new(&options, &rig->tools, NULL), SL_OK);
    if (configuration != NULL) {
        rig->top = parse(configuration);
        sl_tools_configure(rig->tools, rig->top, sl_conf_document(rig->top, 0));
        assert_int_equal(sl_conf_n_errors(rig->top), 0);
    }
}

static void set_flag(void *user_data)
{
    bool *flag = user_data;
    *flag = true;
}

void sl_tool_rig_done(struct sl_tool_rig *rig)
{
    bool is_closed = false;
    const uint64_t end_ms = clock_ms() + UINT64_C(1000) * BOUND_S;
    assert_int_equal(sl_tools_n_calls(rig->tools), 0);
    sl_tools_close_loop(rig->tools, rig->loop, set_flag, &is_closed);
    while (!is_closed && clock_ms() < end_ms) {
        sl_loop_uv_step(rig->uv, 10);
    }
    assert_true(is_closed);
    assert_int_equal(sl_tools_n_children(rig->tools), 0);
    rig->tools = sl_tools_free(rig->tools);
    rig->uv = sl_loop_uv_free(rig->uv);
    rig->top = sl_conf_free(rig->top);
}

struct sl_tool *sl_tool_rig_tool(struct sl_tool_rig *rig, const char *entry)
{
    struct sl_conf *conf = parse(entry);
    struct sl_tool *tool =
        sl_tools_from_conf(rig->tools, conf, sl_conf_at(sl_conf_document(conf, 0), 0));
    if (tool == NULL && sl_conf_n_errors(conf) > 0) {
        print_error("%s\n", sl_conf_error_at(conf, 0));
    }
    assert_non_null(tool);
    (void)sl_conf_free(conf);
    return tool;
}

void sl_tool_rig_mistake(struct sl_tool_rig *rig, const char *entry, char *room)
{
    struct sl_conf *conf = parse(entry);
    const struct sl_tool *tool =
        sl_tools_from_conf(rig->tools, conf, sl_conf_at(sl_conf_document(conf, 0), 0));
    assert_null(tool);
    assert_true(sl_conf_n_errors(conf) > 0);
    (void)snprintf(room, 512, "%s", sl_conf_error_at(conf, 0));
    (void)sl_conf_free(conf);
}

static void on_done(struct sl_tool_call *call, const struct sl_tool_result *result, void *user_data)
{
    struct sl_tool_try *try = user_data;
    try->n_done++;
    try->code = result->code;
    (void)snprintf(try->error, sizeof try->error, "%s", result->error);
    try->json = sl_strndup((const char *)result->result_json.data, result->result_json.size);
    try->is_truncated = result->is_truncated;
    try->result_bytes = result->result_bytes;
    try->attempts = result->attempts;
    try->has_exit_code = result->has_exit_code;
    try->exit_code = result->exit_code;
    try->ms = result->execution_time_ms;
    try->call = sl_tool_call_free(call);
}

static void
on_output(struct sl_tool_call *call, bool is_stderr, struct sl_slice text, void *user_data)
{
    struct sl_tool_try *try = user_data;
    assert_true(call == try->call);
    const size_t room = sizeof try->live[0] - 1 - try->live_size[is_stderr];
    const size_t size = text.size < room ? text.size : room;
    memcpy(try->live[is_stderr] + try->live_size[is_stderr], text.data, size);
    try->live_size[is_stderr] += size;
}

void sl_tool_rig_start(
    struct sl_tool_rig *rig, struct sl_tool_try *try, struct sl_tool *tool, const char *arguments)
{
    memset(try, 0, sizeof *try);
    const struct sl_tool_call_options options = { .tool = tool,
                                                  .arguments_json = sl_slice_str(arguments),
                                                  .run_id = "run1",
                                                  .tool_id = "call1",
                                                  .remaining_ms = 60000,
                                                  .credentials = rig->credentials,
                                                  .on_done = on_done,
                                                  .on_output = on_output,
                                                  .user_data = try };
    assert_int_equal(sl_tool_call_start(rig->tools, rig->loop, &options, &try->call), SL_OK);
    assert_int_equal(try->n_done, 0);
}

void sl_tool_rig_finish(struct sl_tool_rig *rig, struct sl_tool_try *try)
{
    const uint64_t end_ms = clock_ms() + UINT64_C(1000) * BOUND_S;
    while (try->n_done == 0 && clock_ms() < end_ms) {
        sl_loop_uv_step(rig->uv, 10);
    }
    assert_int_equal(try->n_done, 1);
}

void sl_tool_rig_await(struct sl_tool_rig *rig, struct sl_tool_try *try, const char *text)
{
    const uint64_t end_ms = clock_ms() + UINT64_C(1000) * BOUND_S;
    while (strstr(try->live[0], text) == NULL && clock_ms() < end_ms) {
        sl_loop_uv_step(rig->uv, 10);
    }
    assert_non_null(strstr(try->live[0], text));
}

void sl_tool_rig_call(
    struct sl_tool_rig *rig, struct sl_tool_try *try, const char *entry, const char *arguments)
{
    struct sl_tool *tool = sl_tool_rig_tool(rig, entry);
    sl_tool_rig_start(rig, try, tool, arguments);
    (void)sl_tool_unref(tool);
    sl_tool_rig_finish(rig, try);
}

void sl_tool_try_done(struct sl_tool_try *try)
{
    try->json = sl_free(try->json);
}

bool sl_tool_rig_copy_victim(const char *built, const char *place)
{
    char block[65536];
    size_t n;
    FILE *from = fopen(built, "rbe");
    (void)unlink(place);
    FILE *to = fopen(place, "wbxe");
    bool is_good = from != NULL && to != NULL;
    while (is_good && (n = fread(block, 1, sizeof(block), from)) > 0) {
        is_good = fwrite(block, 1, n, to) == n;
    }
    is_good = (from == NULL || fclose(from) == 0) && is_good;
    is_good = (to == NULL || fclose(to) == 0) && is_good;
    return is_good && chmod(place, 0755) == 0;
}
