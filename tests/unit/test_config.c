/* The configuration of sluiced: flags over the environment over the file over defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/config.h"

enum { WORDS = 48, SEEN_BYTES = 8192 };

static struct sl_config config;
static char seen[SEEN_BYTES]; /* problems, a line each */
static size_t n_seen;
static char path[64]; /* of the file; "": none */

static int set_up(void **state)
{
    static const char *const names[] = {
        "SLUICE_CONFIG",   "SLUICE_LISTEN",        "SLUICE_AGENTS",    "SLUICE_TLS_CERT",
        "SLUICE_TLS_KEY",  "SLUICE_TLS_CLIENT_CA", "SLUICE_LOOPS",     "SLUICE_LOG_LEVEL",
        "SLUICE_INSECURE", "SLUICE_LOG_FORMAT",    "SLUICE_OPS_LISTEN"
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        (void)unsetenv(names[i]); /* NOLINT(concurrency-mt-unsafe): one thread */
    }
    config = (struct sl_config){ 0 };
    path[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_config_done(&config);
    if (path[0] != '\0') {
        (void)unlink(path);
    }
    return 0;
}

static void set_env(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0); /* NOLINT(concurrency-mt-unsafe): one thread */
}

/* Becomes the file of the next load, through SLUICE_CONFIG. */
static void write_file(const char *text)
{
    (void)snprintf(path, sizeof(path), "/tmp/sluice-config-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
    set_env("SLUICE_CONFIG", path);
}

static void keep_problem(const char *line, void *user_data)
{
    assert_ptr_equal(user_data, &config);
    n_seen += (size_t)snprintf(seen + n_seen, SEEN_BYTES - n_seen, "%s\n", line);
    assert_true(n_seen < SEEN_BYTES);
}

/* Reads everything, as the daemon does; what is wrong is in `seen`. */
static enum sl_status load_words(const char *const *list)
{
    static char *words[WORDS];
    int n = 0;
    words[n++] = sl_unconst("sluiced");
    for (; list[n - 1] != NULL; n++) {
        assert_true(n < WORDS);
        words[n] = sl_unconst(list[n - 1]);
    }
    sl_config_done(&config);
    seen[0] = '\0';
    n_seen = 0;
    const enum sl_status status = sl_config_load(&config, n, words, keep_problem, &config);
    const enum sl_status finished = sl_config_finish(&config, keep_problem, &config);
    return status != SL_OK ? status : finished;
}

#define LOAD(...) load_words((const char *const[]){ __VA_ARGS__, NULL })

static enum sl_status load_nothing(void)
{
    return load_words((const char *const[]){ NULL });
}

static void assert_loaded(enum sl_status status)
{
    if (status != SL_OK || n_seen > 0) {
        fail_msg("%d: %s", (int)status, seen);
    }
}

static void assert_problem(const char *expected)
{
    if (strstr(seen, expected) == NULL) {
        fail_msg("expected '%s' in\n%s", expected, seen);
    }
}

static size_t n_problems(void)
{
    size_t n = 0;
    for (const char *at = seen; (at = strchr(at, '\n')) != NULL; at++) {
        n++;
    }
    return n;
}

/* ---- What wins ------------------------------------------------------------------------------- */

static void without_anything_the_defaults_hold(void **state)
{
    (void)state;
    struct sl_limits limits;
    sl_limits_init(&limits);
    assert_loaded(load_nothing());
    assert_int_equal(config.n_listen, 1);
    assert_string_equal(config.listen[0].address, "127.0.0.1:50051");
    assert_null(config.listen[0].tls_cert);
    assert_int_equal(config.n_agent_paths, 0);
    assert_int_equal(config.n_loops, 0);
    assert_int_equal(config.log_level, SL_INFO);
    assert_int_equal(config.log_format, 0);
    assert_false(config.is_insecure);
    assert_null(config.top);
    assert_memory_equal(&config.limits, &limits, sizeof(limits));
}

static const char whole_file[] = "listen:\n"
                                 "  - 127.0.0.1:1001\n"
                                 "  - address: '[::1]:1002'\n"
                                 "    tls: {cert: c.pem, key: k.pem, client_ca: ca.pem}\n"
                                 "  - address: unix:/run/x\n"
                                 "    reset_is_disconnect: true\n"
                                 "    tls: {cert: c, key: k, client_ca: a, client_auth: request}\n"
                                 "agents: [one, two]\n"
                                 "insecure: false\n"
                                 "loops: 3\n"
                                 "reflection: off\n"
                                 "launcher: /bin/launch\n"
                                 "log: {level: warn, format: json}\n"
                                 "limits: {runs: 7, message_recv: 2MiB, drain_timeout: 3s}\n";

static void the_file_gives_everything(void **state)
{
    (void)state;
    write_file(whole_file);
    assert_loaded(load_nothing());
    assert_int_equal(config.n_listen, 3);
    assert_string_equal(config.listen[0].address, "127.0.0.1:1001");
    assert_null(config.listen[0].tls_cert);
    assert_string_equal(config.listen[1].tls_cert, "c.pem");
    assert_string_equal(config.listen[1].tls_key, "k.pem");
    assert_string_equal(config.listen[1].tls_client_ca, "ca.pem");
    assert_true(config.listen[1].is_client_cert_required);
    assert_false(config.listen[2].is_client_cert_required);
    assert_false(config.listen[1].is_reset_loss);
    assert_true(config.listen[2].is_reset_loss);
    assert_int_equal(config.n_agent_paths, 2);
    assert_string_equal(config.agent_paths[1], "two");
    assert_int_equal(config.n_loops, 3);
    assert_int_equal(config.reflection, 2);
    assert_string_equal(config.launcher, "/bin/launch");
    assert_int_equal(config.log_level, SL_WARN);
    assert_int_equal(config.log_format, 1);
    assert_int_equal(config.limits.runs, 7);
    assert_int_equal(config.limits.message_recv, 2 * 1024 * 1024);
    assert_int_equal(config.limits.drain_timeout, 3000);
    assert_non_null(config.top);
}

static void the_environment_wins_over_the_file(void **state)
{
    (void)state;
    write_file(whole_file);
    set_env("SLUICE_LISTEN", "127.0.0.1:2001");
    set_env("SLUICE_AGENTS", "env");
    set_env("SLUICE_LOOPS", "5");
    set_env("SLUICE_LOG_LEVEL", "debug");
    set_env("SLUICE_LOG_FORMAT", "logfmt");
    set_env("SLUICE_INSECURE", "true");
    assert_loaded(load_nothing());
    assert_int_equal(config.n_listen, 1);
    assert_string_equal(config.listen[0].address, "127.0.0.1:2001");
    assert_null(config.listen[0].tls_cert);
    assert_int_equal(config.n_agent_paths, 1);
    assert_string_equal(config.agent_paths[0], "env");
    assert_int_equal(config.n_loops, 5);
    assert_int_equal(config.log_level, SL_DEBUG);
    assert_int_equal(config.log_format, 0);
    assert_true(config.is_insecure);
    assert_int_equal(config.limits.runs, 7);
}

static void flags_win_over_all_and_their_lists_replace(void **state)
{
    (void)state;
    write_file(whole_file);
    set_env("SLUICE_LISTEN", "127.0.0.1:2001");
    set_env("SLUICE_AGENTS", "env");
    set_env("SLUICE_LOG_LEVEL", "debug");
    set_env("SLUICE_LOOPS", "5");
    assert_loaded(LOAD(
        "--listen", "127.0.0.1:3001", "--listen=unix:/run/y", "--agents", "flag", "--log-level",
        "error", "--loops=6", "--limit", "runs=8", "--port-file", "p"));
    assert_int_equal(config.n_listen, 2);
    assert_string_equal(config.listen[0].address, "127.0.0.1:3001");
    assert_string_equal(config.listen[1].address, "unix:/run/y");
    assert_int_equal(config.n_agent_paths, 1);
    assert_string_equal(config.agent_paths[0], "flag");
    assert_int_equal(config.log_level, SL_ERROR);
    assert_int_equal(config.log_format, 1);
    assert_int_equal(config.n_loops, 6);
    assert_int_equal(config.limits.runs, 8);
    assert_string_equal(config.port_file, "p");
}

static void the_flag_names_another_file_than_the_environment(void **state)
{
    (void)state;
    write_file("loops: 4\n");
    char file[64];
    (void)snprintf(file, sizeof(file), "%s", path);
    set_env("SLUICE_CONFIG", "/nonexistent.yaml");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    assert_problem("/nonexistent.yaml");
    assert_loaded(LOAD("--config", file));
    assert_int_equal(config.n_loops, 4);
}

static void empty_variables_count_as_none(void **state)
{
    (void)state;
    write_file("insecure: true\nlisten: ['0.0.0.0:1']\n");
    set_env("SLUICE_LISTEN", "");
    set_env("SLUICE_INSECURE", "");
    assert_loaded(load_nothing());
    assert_true(config.is_insecure);
    assert_string_equal(config.listen[0].address, "0.0.0.0:1");
}

static void the_profile_lifts_limits_that_no_flag_sets(void **state)
{
    (void)state;
    write_file("limits: {runs: 7}\n");
    assert_loaded(LOAD("--limit", "streams_per_connection=5", "--profile", "load"));
    assert_true(config.is_load_profile);
    assert_int_equal(config.limits.runs, 10000000);
    assert_int_equal(config.limits.connections, 1000000);
    assert_int_equal(config.limits.observers_per_connection, 1000000);
    assert_int_equal(config.limits.streams_per_connection, 5);
    assert_loaded(LOAD("--profile=default"));
    assert_int_equal(config.limits.runs, 7);
}

/* ---- Usage ----------------------------------------------------------------------------------- */

static void a_wrong_flag_is_a_usage_error(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--nope"), SL_INVALID_ARGUMENT);
    assert_problem("--nope: no such option");
    assert_int_equal(LOAD("--nope", "1"), SL_INVALID_ARGUMENT);
    assert_int_equal(LOAD("word"), SL_INVALID_ARGUMENT);
    assert_int_equal(LOAD("--listen"), SL_INVALID_ARGUMENT);
    assert_problem("its value is missing");
    assert_int_equal(LOAD("--insecure=true"), SL_INVALID_ARGUMENT);
    assert_int_equal(
        LOAD("--a-flag-that-is-longer-than-every-flag-there-is", "1"), SL_INVALID_ARGUMENT);
}

static void help_and_version_need_no_sound_configuration(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--listen", "0.0.0.0:1", "--help"), SL_OK);
    assert_true(config.only_help);
    assert_int_equal(LOAD("--version"), SL_OK);
    assert_true(config.only_version);
    assert_loaded(LOAD("--check"));
    assert_true(config.only_check);
}

/* ---- Mistakes -------------------------------------------------------------------------------- */

static void every_mistake_of_the_file_is_reported_with_its_place(void **state)
{
    (void)state;
    write_file("loops: many\n"
               "log: {level: loud, colour: red}\n"
               "limits: {runs: 0x, nothing: 1}\n"
               "listen: [[a], {tls: {cert: c}}]\n"
               "agents: [{a: b}]\n"
               "lisen: x\n");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    char line[128];
    static const char *const places[] = { "1:8: loops", "2:14: log.level", "3:16: limits.runs",
                                          "4:10: listen[0]", "5:10: agents[0]" };
    for (size_t i = 0; i < SL_COUNT(places); i++) {
        (void)snprintf(line, sizeof(line), "%s:%s", path, places[i]);
        assert_problem(line);
    }
    assert_problem("log.colour");
    assert_problem("limits.nothing");
    assert_problem("address");
    assert_problem("key");
    assert_problem("lisen");
    assert_true(n_problems() >= 10);
}

static void the_window_of_a_connection_is_larger_than_a_streams(void **state) /* FC-2 */
{
    (void)state;
    assert_int_equal(LOAD("--limit", "stream_window=1MiB"), SL_FAILED_PRECONDITION);
    assert_problem("connection_window (1048576) must be larger than stream_window (1048576)");
    sl_config_done(&config);
    write_file("limits: {connection_window: 200KiB}\n");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    assert_problem("connection_window (204800)");
    sl_config_done(&config);
    assert_loaded(LOAD("--limit", "connection_window=262145"));
}

static void every_mistake_of_flags_and_environment_is_reported(void **state)
{
    (void)state;
    set_env("SLUICE_LOG_FORMAT", "xml");
    set_env("SLUICE_LOOPS", "-1");
    set_env("SLUICE_INSECURE", "yes");
    assert_int_equal(
        LOAD(
            "--log-level", "loud", "--limit", "runs=x", "--limit", "nothing=1", "--limit", "runs",
            "--loops", "257", "--profile", "fast"),
        SL_FAILED_PRECONDITION);
    assert_problem("SLUICE_LOG_FORMAT: --log-format: 'xml'");
    assert_problem("SLUICE_LOOPS: --loops: '-1'");
    assert_problem("SLUICE_INSECURE: 'yes'");
    assert_problem("--log-level: 'loud' is not one of error, warn, info, debug");
    assert_problem("--limit runs=x: outside");
    assert_problem("--limit nothing=1: no such limit");
    assert_problem("--limit runs: no such limit");
    assert_problem("--loops: '257'");
    assert_problem("--profile: 'fast'");
    assert_int_equal(n_problems(), 9);
}

static void a_file_that_is_no_map_is_refused(void **state)
{
    (void)state;
    write_file("- a\n");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    assert_int_equal(n_problems(), 1);
    (void)unlink(path);
    write_file("a: 1\n---\nb: 2\n");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    (void)unlink(path);
    write_file("a: [\n");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    (void)unlink(path);
    write_file("# nothing\n");
    assert_loaded(load_nothing());
}

static void what_the_runtime_reads_is_no_mistake_here(void **state)
{
    (void)state;
    write_file("providers: {}\ndefault_provider: x\ntools: {}\nbuiltin_agents: [demo]\n");
    assert_loaded(load_nothing());
}

static void more_listeners_and_agents_than_fit_are_refused(void **state)
{
    (void)state;
    const char *words[WORDS];
    size_t n = 0;
    for (int i = 0; i < SL_CONFIG_LISTENERS; i++) {
        words[n++] = "--listen=127.0.0.1:0";
        words[n++] = "--agents=a";
    }
    words[n] = NULL;
    assert_loaded(load_words(words));
    assert_int_equal(config.n_listen, SL_CONFIG_LISTENERS);
    words[n++] = "--listen=127.0.0.1:0";
    words[n++] = "--agents=a";
    words[n] = NULL;
    assert_int_equal(load_words(words), SL_FAILED_PRECONDITION);
    assert_problem("--listen: at most 16");
    assert_problem("--agents: at most 16");
}

static void the_operations_port_has_three_sources_and_may_be_anywhere(void **state)
{
    (void)state;
    assert_loaded(load_nothing());
    assert_null(config.ops_listen);
    write_file("ops_listen: unix:/run/ops\n");
    assert_loaded(load_nothing());
    assert_string_equal(config.ops_listen, "unix:/run/ops");
    set_env("SLUICE_OPS_LISTEN", "[::]:9464");
    assert_loaded(load_nothing());
    assert_string_equal(config.ops_listen, "[::]:9464");
    assert_loaded(LOAD("--ops-listen", "0.0.0.0:9464"));
    assert_string_equal(config.ops_listen, "0.0.0.0:9464");
    assert_int_equal(LOAD("--ops-listen", "here"), SL_FAILED_PRECONDITION);
    assert_problem("ops_listen: 'here' is not HOST:PORT");
}

/* ---- Plaintext and TLS ----------------------------------------------------------------------- */

static void plaintext_to_the_world_must_be_asked_for(void **state)
{
    (void)state;
    assert_int_equal(
        LOAD("--listen", "0.0.0.0:1", "--listen", "[::]:2", "--listen", "127.0.0.1:3"),
        SL_FAILED_PRECONDITION);
    assert_problem("listen: plaintext on 0.0.0.0:1");
    assert_problem("listen: plaintext on [::]:2");
    assert_int_equal(n_problems(), 2);
    assert_loaded(LOAD("--listen", "0.0.0.0:1", "--insecure"));
    assert_loaded(LOAD("--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"));
    assert_int_equal(
        LOAD("--listen", "0.0.0.0:1", "--profile", "load", "--insecure"), SL_FAILED_PRECONDITION);
    assert_problem("loopback only");
}

static void only_numbers_of_this_host_are_local(void **state)
{
    (void)state;
    assert_true(sl_config_is_local("127.0.0.1:1"));
    assert_true(sl_config_is_local("127.255.0.9:1"));
    assert_true(sl_config_is_local("[::1]:1"));
    assert_true(sl_config_is_local("localhost:1"));
    assert_true(sl_config_is_local("unix:/run/x"));
    assert_false(sl_config_is_local("127.example.org:1"));
    assert_false(sl_config_is_local("1127.0.0.1:1"));
    assert_false(sl_config_is_local("0.0.0.0:1"));
    assert_false(sl_config_is_local("[::]:1"));
    assert_false(sl_config_is_local("localhost"));
    assert_false(sl_config_is_local(""));
}

static void an_address_that_is_none_is_reported_as_such(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--listen", "here", "--insecure"), SL_FAILED_PRECONDITION);
    assert_problem("listen: 'here' is not HOST:PORT");
    assert_int_equal(n_problems(), 1);
}

static void certificates_of_flags_go_to_the_listeners_of_flags(void **state)
{
    (void)state;
    assert_loaded(LOAD("--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"));
    assert_string_equal(config.listen[0].address, "127.0.0.1:50051");
    assert_string_equal(config.listen[0].tls_cert, "c");
    assert_string_equal(config.listen[0].tls_client_ca, "a");
    assert_true(config.listen[0].is_client_cert_required);
    write_file("listen: ['127.0.0.1:1']\n");
    set_env("SLUICE_TLS_CERT", "c");
    set_env("SLUICE_TLS_KEY", "k");
    assert_loaded(LOAD("--listen", "127.0.0.1:2"));
    assert_string_equal(config.listen[0].tls_key, "k");
}

static void assert_origin(const char *key, enum sl_config_source source, const char *name, int line)
{
    const struct sl_config_origin origin = sl_config_origin_of(&config, key);
    assert_int_equal(origin.source, source);
    assert_int_equal(origin.line, line);
    if (name != NULL) {
        assert_string_equal(origin.name, name);
    }
}

static void each_value_remembers_where_it_was_given_last(void **state)
{
    (void)state;
    write_file(
        "log:\n  level: debug\n  format: json\nloops: 2\nlimits:\n  runs: 5\n  input: 1KiB\n");
    set_env("SLUICE_LOOPS", "3");
    assert_loaded(LOAD("--log-format", "logfmt", "--limit", "input=2KiB", "--profile", "load"));
    assert_origin("log-level", SL_CONFIG_FILE, path, 2);
    assert_origin("log-format", SL_CONFIG_FLAG, NULL, 0);
    assert_origin("loops", SL_CONFIG_ENVIRONMENT, "SLUICE_LOOPS", 0);
    assert_origin("reflection", SL_CONFIG_DEFAULT, NULL, 0);
    assert_int_equal(config.limit_origins[SL_LIMIT_runs].source, SL_CONFIG_PROFILE);
    assert_int_equal(config.limit_origins[SL_LIMIT_input].source, SL_CONFIG_FLAG);
    assert_int_equal(config.limit_origins[SL_LIMIT_event].source, SL_CONFIG_DEFAULT);
    assert_loaded(load_nothing());
    assert_int_equal(config.limit_origins[SL_LIMIT_runs].source, SL_CONFIG_FILE);
    assert_int_equal(config.limit_origins[SL_LIMIT_runs].line, 6);
}

/* Who gives a certificate and gets plaintext would believe in TLS. */
static void certificates_without_a_listener_of_theirs_are_refused(void **state)
{
    (void)state;
    write_file("listen: ['127.0.0.1:1', {address: '127.0.0.1:2', tls: {cert: c, key: k}}]\n");
    assert_int_equal(LOAD("--tls-cert", "c", "--tls-key", "k"), SL_FAILED_PRECONDITION);
    assert_problem("--tls-cert: is for listeners that a flag or SLUICE_LISTEN gives");
    assert_int_equal(n_problems(), 1);
    set_env("SLUICE_TLS_CLIENT_CA", "a");
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    assert_problem("--tls-client-ca: is for listeners");
}

static void a_mistake_of_a_listener_is_told_with_its_place(void **state)
{
    (void)state;
    write_file("listen:\n"
               "  - nonsense\n"
               "  - 0.0.0.0:1\n"
               "  - {address: '127.0.0.1:70000'}\n");
    char line[128];
    assert_int_equal(load_nothing(), SL_FAILED_PRECONDITION);
    static const char *const places[] = { "2:5: listen[0]: 'nonsense' is not HOST:PORT",
                                          "3:5: listen[1]: plaintext on 0.0.0.0:1",
                                          "4:5: listen[2]: '127.0.0.1:70000' is not HOST:PORT" };
    for (size_t i = 0; i < SL_COUNT(places); i++) {
        (void)snprintf(line, sizeof(line), "%s:%s", path, places[i]);
        assert_problem(line);
    }
    assert_int_equal(n_problems(), 3);
}

static void half_of_a_certificate_is_refused(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--tls-cert", "c"), SL_FAILED_PRECONDITION);
    assert_problem("belong together");
    assert_int_equal(LOAD("--tls-key", "k"), SL_FAILED_PRECONDITION);
    assert_problem("belong together");
    assert_int_equal(LOAD("--tls-client-ca", "a"), SL_FAILED_PRECONDITION);
    assert_problem("client certificates need");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(without_anything_the_defaults_hold),
        CASE(the_file_gives_everything),
        CASE(the_environment_wins_over_the_file),
        CASE(flags_win_over_all_and_their_lists_replace),
        CASE(the_flag_names_another_file_than_the_environment),
        CASE(empty_variables_count_as_none),
        CASE(the_profile_lifts_limits_that_no_flag_sets),
        CASE(a_wrong_flag_is_a_usage_error),
        CASE(help_and_version_need_no_sound_configuration),
        CASE(every_mistake_of_the_file_is_reported_with_its_place),
        CASE(the_window_of_a_connection_is_larger_than_a_streams),
        CASE(every_mistake_of_flags_and_environment_is_reported),
        CASE(a_file_that_is_no_map_is_refused),
        CASE(what_the_runtime_reads_is_no_mistake_here),
        CASE(more_listeners_and_agents_than_fit_are_refused),
        CASE(the_operations_port_has_three_sources_and_may_be_anywhere),
        CASE(plaintext_to_the_world_must_be_asked_for),
        CASE(only_numbers_of_this_host_are_local),
        CASE(an_address_that_is_none_is_reported_as_such),
        CASE(certificates_of_flags_go_to_the_listeners_of_flags),
        CASE(certificates_without_a_listener_of_theirs_are_refused),
        CASE(a_mistake_of_a_listener_is_told_with_its_place),
        CASE(half_of_a_certificate_is_refused),
        CASE(each_value_remembers_where_it_was_given_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
