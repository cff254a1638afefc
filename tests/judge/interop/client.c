/* An interop client on our library, with the flags of gRPC's own; it calls the servers of others.
 *   sl_interop_client --server_port=N --test_case=NAME [--use_tls=true --ca_file=F] …
 * The exit status tells whether the case passed. */
#include <stdlib.h>
#include <string.h>

#include "service/net/net.h"
#include "tests/judge/interop/cases.h"

enum { TARGET_BYTES = 256 };

static const struct {
    const char *name;
    case_fn *run;
} cases[] = {
    { "empty_unary", case_empty_unary },
    { "large_unary", case_large_unary_once },
    { "client_compressed_unary", case_client_compressed_unary },
    { "server_compressed_unary", case_server_compressed_unary },
    { "client_streaming", case_client_streaming },
    { "client_compressed_streaming", case_client_compressed_streaming },
    { "server_streaming", case_server_streaming },
    { "server_compressed_streaming", case_server_compressed_streaming },
    { "ping_pong", case_ping_pong },
    { "empty_stream", case_empty_stream },
    { "custom_metadata", case_custom_metadata },
    { "status_code_and_message", case_status_code_and_message },
    { "special_status_message", case_special_status_message },
    { "unimplemented_method", case_unimplemented_method },
    { "unimplemented_service", case_unimplemented_service },
    { "cancel_after_begin", case_cancel_after_begin },
    { "cancel_after_first_response", case_cancel_after_first_response },
    { "timeout_on_sleeping_server", case_timeout_on_sleeping_server },
    { "pick_first_unary", case_pick_first_unary },
    { "rpc_soak", case_rpc_soak },
    { "channel_soak", case_channel_soak },
    { "goaway", case_goaway },
    { "rst_after_header", case_rst_after_header },
    { "rst_during_data", case_rst_during_data },
    { "rst_after_data", case_rst_after_data },
    { "ping", case_ping },
    { "max_streams", case_max_streams },
    { "data_frame_padding", case_data_frame_padding },
    { "no_call_left", case_no_call_left },
};

struct sl_channel *case_channel(const struct flag *flags)
{
    struct sl_error err = { 0 };
    struct sl_net_tls *tls = NULL;
    const struct sl_net_tls_options tls_options = { .ca_file = flags_text(flags, "ca_file") };
    if (flags_bool(flags, "use_tls") && sl_net_tls_new_client(&tls_options, &tls, &err) != SL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return NULL;
    }
    char target[TARGET_BYTES];
    (void)snprintf(
        target, sizeof(target), "%s:%s", flags_text(flags, "server_host"),
        flags_text(flags, "server_port"));
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .tls = tls,
                                                .authority =
                                                    flags_text(flags, "server_host_override"),
                                                .user_agent = "sl-interop" };
    struct sl_channel *channel = NULL;
    if (sl_channel_new(target, &options, &channel, &err) != SL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    (void)sl_net_tls_unref(tls);
    return channel;
}

static case_fn *find(const char *name)
{
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        if (strcmp(cases[i].name, name) == 0) {
            return cases[i].run;
        }
    }
    (void)fprintf(stderr, "no test case '%s'\n", name);
    return NULL;
}

int main(int argc, char **argv)
{
    struct flag flags[] = {
        { "server_host", "127.0.0.1" },
        { "server_port", "8080" },
        { "server_host_override", NULL },
        { "use_tls", "false" },
        { "ca_file", NULL },
        { "test_case", "empty_unary" },
        { "soak_iterations", "10" },
        { "soak_max_failures", "0" },
        { "soak_per_iteration_max_acceptable_latency_ms", "1000" },
        { "soak_overall_timeout_seconds", "10" },
        { "soak_min_time_ms_between_rpcs", "0" },
        { "soak_request_size", "271828" },
        { "soak_response_size", "314159" },
        { NULL, NULL },
    };
    if (!flags_parse(flags, argc, argv)) {
        return EXIT_FAILURE;
    }
    case_fn *run = find(flags_text(flags, "test_case"));
    struct world world = { .flags = flags, .channel = run == NULL ? NULL : case_channel(flags) };
    const bool is_passed = world.channel != NULL && run(&world);
    (void)sl_channel_free(world.channel);
    return is_passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
