/* sluice agents: the server's agents, as a table or as JSON. */
#include <stdio.h>
#include <string.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/text.h"

enum { CELL_MAX_BYTES = 200, PROBLEM_MAX_BYTES = 1000 };

struct listing {
    struct sl_cli cli;
    struct sl_client_call *call;
    char page_token[32];
    size_t n_agents;
};

static void print_json(const Sluice__V1__Agent *agent)
{
    json_t *json = sl_message_to_json(&agent->base);
    sl_text_put_json(stdout, json);
    json_decref(json);
}

static void print_pair(const char *what, const char *key, const char *value)
{
    (void)printf("    %s: ", what);
    sl_text_put_line(stdout, key, CELL_MAX_BYTES);
    (void)fputs(" = ", stdout);
    sl_text_put_line(stdout, value, CELL_MAX_BYTES);
    (void)putchar('\n');
}

static void print_row(const Sluice__V1__Agent *agent)
{
    sl_text_put_cell(stdout, agent->name, 24);
    sl_text_put_cell(stdout, agent->model, 28);
    sl_text_put_cell(stdout, agent->provider, 12);
    for (size_t i = 0; i < agent->n_tools; i++) {
        (void)fputs(i == 0 ? "" : ", ", stdout);
        sl_text_put_line(stdout, agent->tools[i]->name, CELL_MAX_BYTES);
    }
    (void)putchar('\n');
    for (size_t i = 0; i < agent->n_labels; i++) {
        print_pair("label", agent->labels[i]->key, agent->labels[i]->value);
    }
    for (size_t i = 0; i < agent->n_annotations; i++) {
        print_pair("annotation", agent->annotations[i]->key, agent->annotations[i]->value);
    }
    for (size_t i = 0; i < agent->n_problems; i++) {
        (void)fputs("    problem: ", stdout);
        sl_text_put_line(stdout, agent->problems[i], PROBLEM_MAX_BYTES);
        (void)putchar('\n');
    }
}

static void print_page(struct listing *listing, const Sluice__V1__ListAgentsResponse *page)
{
    if (listing->n_agents == 0 && !listing->cli.options.is_json) {
        (void)printf("%-24s %-28s %-12s %s\n", "NAME", "MODEL", "PROVIDER", "TOOLS");
    }
    for (size_t i = 0; i < page->n_agents; i++) {
        if (listing->cli.options.is_json) {
            print_json(page->agents[i]);
        } else {
            print_row(page->agents[i]);
        }
    }
    listing->n_agents += page->n_agents;
    (void)snprintf(listing->page_token, sizeof(listing->page_token), "%s", page->next_page_token);
}

static void open_page(struct listing *listing);

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct listing *listing = user_data;
    void *message;
    enum sl_status status = sl_client_call_recv(call, &message);
    while (status == SL_OK) {
        print_page(listing, message);
        status = sl_client_call_recv(call, &message);
    }
    if (status == SL_AGAIN) {
        return;
    }
    if (status != SL_END) {
        sl_cli_stop(&listing->cli, sl_cli_report(call));
    } else if (listing->page_token[0] != '\0') {
        listing->call = sl_client_call_free(listing->call);
        open_page(listing);
    } else {
        sl_cli_stop(&listing->cli, SL_EXIT_DONE);
    }
}

static void open_page(struct listing *listing)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = listing->cli.options.timeout_ms,
                                                    .on_readable = on_readable,
                                                    .user_data = listing };
    struct sl_sluice__v1__agent_runtime__list_agents__reader *reader;
    Sluice__V1__ListAgentsRequest request;
    sluice__v1__list_agents_request__init(&request);
    request.page_token = listing->page_token;
    if (sl_sluice__v1__agent_runtime__list_agents__open(
            listing->cli.channel, &options, &request, &reader) != SL_OK) {
        sl_cli_complain("out of memory");
        sl_cli_stop(&listing->cli, SL_EXIT_ERROR);
        return;
    }
    listing->call = sl_sluice__v1__agent_runtime__list_agents__client_call(reader);
}

static int run_agents(int argc, char **argv)
{
    struct listing listing = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_agents, NULL, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, NULL, 0)) {
        return sl_cli_usage(&sl_cmd_agents);
    }
    int exit_code = SL_EXIT_USAGE;
    if (sl_cli_open(&listing.cli, &options) == SL_OK) {
        open_page(&listing);
        exit_code = sl_cli_run(&listing.cli);
    }
    listing.call = sl_client_call_free(listing.call);
    sl_cli_close(&listing.cli);
    return exit_code;
}

const struct sl_cli_command sl_cmd_agents = {
    .name = "agents",
    .arguments = "",
    .text = "list the server's agents",
    .run = run_agents,
    .is_remote = true,
};
