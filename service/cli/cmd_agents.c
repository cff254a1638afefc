/* sluice agents: the server's agents, as a table or as JSON. */
#include <stdio.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"

struct listing {
    struct sl_cli cli;
    struct sl_client_call *call;
    char page_token[32];
    size_t n_agents;
};

static void print_json(const Sluice__V1__Agent *agent)
{
    json_t *json = sl_message_to_json(&agent->base);
    if (json != NULL) {
        (void)json_dumpf(json, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        (void)putchar('\n');
        json_decref(json);
    }
}

static void print_row(const Sluice__V1__Agent *agent)
{
    (void)printf("%-24s %-28s %-12s", agent->name, agent->model, agent->provider);
    for (size_t i = 0; i < agent->n_tools; i++) {
        (void)printf("%s%s", i == 0 ? " " : ", ", agent->tools[i]->name);
    }
    (void)putchar('\n');
    for (size_t i = 0; i < agent->n_problems; i++) {
        (void)printf("    problem: %s\n", agent->problems[i]);
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

int sl_cmd_agents(int argc, char **argv)
{
    struct listing listing = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, true, NULL, 0, &argc, argv) != SL_OK || argc != 0) {
        sl_cli_complain("usage: sluice agents [OPTIONS]");
        return SL_EXIT_USAGE;
    }
    int exit_code = SL_EXIT_ERROR;
    if (sl_cli_open(&listing.cli, &options) == SL_OK) {
        open_page(&listing);
        exit_code = sl_cli_run(&listing.cli);
    }
    listing.call = sl_client_call_free(listing.call);
    sl_cli_close(&listing.cli);
    return exit_code;
}
