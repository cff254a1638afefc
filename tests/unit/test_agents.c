/* ListAgents as clients see it, page by page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/runtime.h"
#include "service/api/api.h"
#include "service/rpc/status.h"
#include "tests/wire/rpc_peer.h"

#define PATH SL_SLUICE__V1__AGENT_RUNTIME__LIST_AGENTS__PATH

enum { BUILT_IN = 3, MANY = 1100 };

static struct sl_loop_uv *uv_loop;
static struct sl_runtime *runtime;
static struct sl_server *server;
static struct sl_api *api;
static struct rpc_peer peer;
static char path[64];

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

/* With the agents of a file, when there is a text. */
static void open_bench(const char *yaml)
{
    struct sl_limits limits;
    struct sl_error err = { .text = "" };
    sl_limits_init(&limits);
    assert_int_equal(sl_loop_uv_new(0, &uv_loop), SL_OK);
    struct sl_loop *loop = sl_loop_uv_base(uv_loop);
    static const char *const environment[] = { NULL };
    const struct sl_runtime_options options = {
        .loops = &loop, .n_loops = 1, .limits = &limits, .env = no_env, .environment = environment
    };
    assert_int_equal(sl_runtime_new(&options, &runtime, &err), SL_OK);
    sl_runtime_configure(runtime, NULL, NULL);
    if (yaml != NULL) {
        (void)snprintf(path, sizeof(path), "/tmp/sluice-agents-XXXXXX.yaml");
        const int fd = mkstemps(path, 5);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, yaml, strlen(yaml)), strlen(yaml));
        assert_int_equal(close(fd), 0);
        assert_int_equal(sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err), SL_OK);
        (void)unlink(path);
    }
    const struct sl_server_options server_options = { .struct_size = sizeof(server_options),
                                                      .limits = &limits };
    assert_int_equal(sl_server_new(&server_options, &server), SL_OK);
    const struct sl_api_options api_options = {
        .server = server,
        .runtime = runtime,
    };
    assert_int_equal(sl_api_new(&api_options, &api), SL_OK);
    rpc_peer_open(&peer, server, NULL);
    (void)rpc_log(&peer);
}

static int tear_down(void **state)
{
    (void)state;
    rpc_peer_close(&peer);
    server = sl_server_free(server);
    api = sl_api_free(api);
    runtime = sl_runtime_free(runtime);
    while (sl_loop_drain(sl_loop_uv_base(uv_loop))) {
    }
    uv_loop = sl_loop_uv_free(uv_loop);
    return 0;
}

static struct rpc_stream *ask(uint32_t page_size, const char *token)
{
    Sluice__V1__ListAgentsRequest request = SLUICE__V1__LIST_AGENTS_REQUEST__INIT;
    uint8_t bytes[256];
    request.page_size = page_size;
    request.page_token = sl_unconst(token);
    const size_t size = sluice__v1__list_agents_request__pack(&request, bytes);
    struct rpc_stream *stream = rpc_open(&peer, PATH, NULL);
    rpc_send(stream, bytes, size);
    rpc_end(stream);
    rpc_pump(&peer);
    assert_true(stream->is_closed);
    return stream;
}

/* One page; to be freed. */
static Sluice__V1__ListAgentsResponse *list(uint32_t page_size, const char *token)
{
    struct sl_slice bytes;
    struct rpc_stream *stream = ask(page_size, token);
    assert_true(rpc_next(stream, &bytes));
    Sluice__V1__ListAgentsResponse *reply =
        sluice__v1__list_agents_response__unpack(NULL, bytes.size, bytes.data);
    assert_non_null(reply);
    rpc_stream_free(stream);
    return reply;
}

static void built_in_agents_come_by_name_with_their_tools(void **state)
{
    (void)state;
    open_bench(NULL);
    Sluice__V1__ListAgentsResponse *reply = list(0, "");
    assert_int_equal(reply->n_agents, BUILT_IN);
    assert_string_equal(reply->agents[0]->name, "demo");
    assert_string_equal(reply->agents[1]->name, "echo");
    assert_string_equal(reply->agents[2]->name, "load");
    assert_string_equal(reply->agents[0]->provider, "scripted");
    assert_int_equal(strlen(reply->agents[0]->version), 16);
    assert_int_equal(reply->agents[0]->n_tools, 2);
    assert_string_equal(reply->agents[0]->tools[0]->name, "current_time");
    assert_int_equal(reply->agents[0]->tools[0]->parameters_json[0], '{');
    assert_string_equal(reply->next_page_token, "");
    sluice__v1__list_agents_response__free_unpacked(reply, NULL);
}

static void labels_and_annotations_come_with_the_agent(void **state)
{
    (void)state;
    open_bench("apiVersion: sluice.dev/v1\nkind: Agent\n"
               "metadata:\n"
               "  name: alpha\n"
               "  labels: {team: blue, tier: \"1\"}\n"
               "  annotations: {owner: docs@example.com}\n"
               "spec: {model: \"echo:echo\"}\n");
    Sluice__V1__ListAgentsResponse *reply = list(1, "");
    assert_int_equal(reply->n_agents, 1);
    assert_string_equal(reply->agents[0]->name, "alpha");
    assert_int_equal(reply->agents[0]->n_labels, 2);
    assert_string_equal(reply->agents[0]->labels[0]->key, "team");
    assert_string_equal(reply->agents[0]->labels[0]->value, "blue");
    assert_int_equal(reply->agents[0]->n_annotations, 1);
    assert_string_equal(reply->agents[0]->annotations[0]->key, "owner");
    assert_string_equal(reply->agents[0]->annotations[0]->value, "docs@example.com");
    assert_string_equal(reply->next_page_token, "1");
    sluice__v1__list_agents_response__free_unpacked(reply, NULL);
}

static void pages_join_to_the_whole(void **state)
{
    (void)state;
    open_bench(NULL);
    char token[32] = "";
    size_t n = 0;
    do {
        Sluice__V1__ListAgentsResponse *reply = list(1, token);
        assert_int_equal(reply->n_agents, 1);
        (void)snprintf(token, sizeof(token), "%s", reply->next_page_token);
        sluice__v1__list_agents_response__free_unpacked(reply, NULL);
        n++;
    } while (token[0] != '\0');
    assert_int_equal(n, BUILT_IN);
}

static void a_page_has_a_hundred_and_at_most_a_thousand(void **state)
{
    (void)state;
    const size_t room_bytes = (size_t)MANY * 64;
    char *yaml = malloc(room_bytes);
    assert_non_null(yaml);
    size_t size = 0;
    for (int i = 0; i < MANY; i++) {
        size += (size_t)snprintf(
            yaml + size, room_bytes - size, "---\nname: many-%04d\nmodel: echo:echo\n", i);
    }
    open_bench(yaml);
    free(yaml);
    assert_int_equal(sl_runtime_n_agents(runtime, NULL), MANY + BUILT_IN);
    static const struct {
        uint32_t asked;
        size_t given;
        const char *token;
    } pages[] = { { 0, 100, "100" }, { 999, 999, "999" }, { UINT32_MAX, 1000, "1000" } };
    for (size_t i = 0; i < SL_COUNT(pages); i++) {
        Sluice__V1__ListAgentsResponse *reply = list(pages[i].asked, "");
        assert_int_equal(reply->n_agents, pages[i].given);
        assert_string_equal(reply->next_page_token, pages[i].token);
        sluice__v1__list_agents_response__free_unpacked(reply, NULL);
    }
    Sluice__V1__ListAgentsResponse *reply = list(1000, "1000");
    assert_int_equal(reply->n_agents, MANY + BUILT_IN - 1000);
    assert_string_equal(reply->next_page_token, "");
    sluice__v1__list_agents_response__free_unpacked(reply, NULL);
}

static void a_token_of_somebody_else_is_refused(void **state)
{
    (void)state;
    static const char *const tokens[] = { "x", "-1", "4", "18446744073709551616", " 1", "1x" };
    open_bench(NULL);
    for (size_t i = 0; i < SL_COUNT(tokens); i++) {
        struct sl_slice bytes;
        struct rpc_stream *stream = ask(0, tokens[i]);
        assert_false(rpc_next(stream, &bytes));
        const char *log = rpc_log(&peer);
        assert_non_null(strstr(log, "grpc-status=3"));
        assert_non_null(strstr(log, "grpc-status-details-bin"));
        rpc_stream_free(stream);
    }
    Sluice__V1__ListAgentsResponse *reply = list(0, "3"); /* nothing is left */
    assert_int_equal(reply->n_agents, 0);
    assert_string_equal(reply->next_page_token, "");
    sluice__v1__list_agents_response__free_unpacked(reply, NULL);
}

#define CASE(test) cmocka_unit_test_teardown(test, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(built_in_agents_come_by_name_with_their_tools),
        CASE(labels_and_annotations_come_with_the_agent),
        CASE(pages_join_to_the_whole),
        CASE(a_page_has_a_hundred_and_at_most_a_thousand),
        CASE(a_token_of_somebody_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
