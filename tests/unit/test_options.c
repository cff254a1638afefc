/* Options of `sluice`: flags over the environment over defaults. */
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
#include "service/cli/cli.h"

enum { WORDS = 16 };

static struct sl_cli_options options;
static char *words[WORDS];
static int n_words;
static struct {
    const char *agent;
    bool is_loud;
    struct sl_cli_list names;
} own;

static const struct sl_cli_flag flags[] = {
    { "--agent", SL_CLI_TEXT, 0, "NAME", "which" },
    { "--loud", SL_CLI_SWITCH, sizeof(char *), NULL, "how" },
    { "--name", SL_CLI_LIST, 2 * sizeof(char *), "NAME", "more than one" },
};

static int set_up(void **state)
{
    static const char *const names[] = { "SLUICE_ADDR", "SLUICE_TLS", "SLUICE_CA", "SLUICE_CERT",
                                         "SLUICE_KEY" };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        (void)unsetenv(names[i]); /* NOLINT(concurrency-mt-unsafe): one thread */
    }
    memset(&own, 0, sizeof(own));
    return 0;
}

static void set_env(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0); /* NOLINT(concurrency-mt-unsafe): one thread */
}

/* The words up to NULL. */
static enum sl_status parse_as(bool is_remote, const char *const *list)
{
    for (n_words = 0; list[n_words] != NULL; n_words++) {
        assert_true(n_words < WORDS);
        words[n_words] = sl_unconst(list[n_words]);
    }
    const struct sl_cli_command command = { .name = "test",
                                            .arguments = "",
                                            .text = "a test",
                                            .flags = flags,
                                            .n_flags = SL_COUNT(flags),
                                            .is_remote = is_remote };
    return sl_cli_parse(&options, &command, &own, &n_words, words);
}

#define PARSE(...) parse_as(true, (const char *const[]){ __VA_ARGS__, NULL })

static void assert_words(const char *first, const char *second)
{
    assert_int_equal(n_words, (first != NULL) + (second != NULL));
    if (first != NULL) {
        assert_string_equal(words[0], first);
    }
    if (second != NULL) {
        assert_string_equal(words[1], second);
    }
}

static void without_anything_the_defaults_hold(void **state)
{
    (void)state;
    assert_int_equal(parse_as(true, (const char *const[]){ NULL }), SL_OK);
    assert_string_equal(options.address, "127.0.0.1:50051");
    assert_false(options.is_tls);
    assert_false(options.is_json);
    assert_false(options.skip_verify);
    assert_int_equal(options.timeout_ms, 0);
    assert_null(options.ca_file);
    assert_words(NULL, NULL);
}

static void flags_win_over_the_environment(void **state)
{
    (void)state;
    set_env("SLUICE_ADDR", "env:1");
    set_env("SLUICE_CA", "env.pem");
    assert_int_equal(PARSE("word"), SL_OK);
    assert_string_equal(options.address, "env:1");
    assert_string_equal(options.ca_file, "env.pem");
    assert_true(options.is_tls);
    assert_int_equal(PARSE("--addr", "flag:2", "--ca=flag.pem"), SL_OK);
    assert_string_equal(options.address, "flag:2");
    assert_string_equal(options.ca_file, "flag.pem");
}

static void an_empty_variable_is_none(void **state)
{
    (void)state;
    set_env("SLUICE_ADDR", "");
    set_env("SLUICE_KEY", "");
    set_env("SLUICE_TLS", "");
    assert_int_equal(PARSE("word"), SL_OK);
    assert_string_equal(options.address, "127.0.0.1:50051");
    assert_false(options.is_tls);
}

static void tls_follows_from_everything_that_needs_it(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--tls"), SL_OK);
    assert_true(options.is_tls);
    assert_int_equal(PARSE("--ca", "f"), SL_OK);
    assert_true(options.is_tls);
    assert_int_equal(PARSE("--cert", "f", "--key", "k"), SL_OK);
    assert_true(options.is_tls);
    assert_int_equal(PARSE("--server-name", "n"), SL_OK);
    assert_true(options.is_tls);
    assert_int_equal(PARSE("--skip-verify"), SL_OK);
    assert_true(options.is_tls);
    set_env("SLUICE_TLS", "true");
    assert_int_equal(PARSE("word"), SL_OK);
    assert_true(options.is_tls);
}

/* Nothing is connected: what is refused here never leaves. */
static void a_key_goes_only_to_whom_it_is_meant_for(void **state)
{
    (void)state;
    char path[] = "/tmp/sluice-options-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "planted-key\n", 12), 12);
    assert_int_equal(close(fd), 0);
    assert_int_equal(PARSE("--key-file", path, "--addr", "192.0.2.1:1", "--tls"), SL_OK);
    assert_string_equal(sl_cli_authorization(&options), "Bearer planted-key");
    assert_int_equal(
        PARSE("--key-file", path, "--addr", "192.0.2.1:1", "--skip-verify"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--key-file", path, "--addr", "192.0.2.1:1"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--key-file", path, "--addr", "127.0.0.1:1", "--skip-verify"), SL_OK);
    assert_int_equal(PARSE("--key-file", path, "--addr", "unix:/x", "--skip-verify"), SL_OK);
    (void)unlink(path);
}

/* Plaintext because of a word that was meant to be true would be a secret given away. */
static void a_doubtful_wish_for_tls_is_refused(void **state)
{
    (void)state;
    static const char *const doubtful[] = { "yes", "1", "TRUE", "on" };
    for (size_t i = 0; i < SL_COUNT(doubtful); i++) {
        set_env("SLUICE_TLS", doubtful[i]);
        assert_int_equal(PARSE("word"), SL_INVALID_ARGUMENT);
    }
    set_env("SLUICE_TLS", "false");
    assert_int_equal(PARSE("word"), SL_OK);
    assert_int_equal(PARSE("--cert", "f"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--key", "f"), SL_INVALID_ARGUMENT);
}

static void an_address_is_looked_at_first(void **state)
{
    (void)state;
    static const char *const wrong[] = { "nonsense", "http://127.0.0.1:80", "::1:80", "a:",
                                         "unix:",    "127.0.0.1:99999",     "" };
    static const char *const right[] = { "[::1]:80", "unix:/run/s", "name:1" };
    for (size_t i = 0; i < SL_COUNT(wrong); i++) {
        assert_int_equal(PARSE("--addr", wrong[i]), SL_INVALID_ARGUMENT);
    }
    for (size_t i = 0; i < SL_COUNT(right); i++) {
        assert_int_equal(PARSE("--addr", right[i]), SL_OK);
    }
    set_env("SLUICE_ADDR", "nonsense");
    assert_int_equal(PARSE("word"), SL_INVALID_ARGUMENT);
}

static void missing_and_needless_words_are_refused(void **state)
{
    (void)state;
    static const char *const required[] = { "AGENT", NULL };
    char *given[] = { words[0], words[1] };
    assert_false(sl_cli_takes(0, given, required, 2));
    assert_true(sl_cli_takes(1, given, required, 2));
    assert_true(sl_cli_takes(0, given, NULL, 1));
    given[1] = given[0] = sl_unconst("word");
    assert_false(sl_cli_takes(2, given, NULL, 1));
}

static void words_stay_in_order_among_the_flags(void **state)
{
    (void)state;
    assert_int_equal(PARSE("one", "--agent", "a", "-", "--loud"), SL_OK);
    assert_words("one", "-");
    assert_string_equal(own.agent, "a");
    assert_true(own.is_loud);
}

static void behind_two_dashes_everything_is_a_word(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--loud", "--", "--agent", "--"), SL_OK);
    assert_words("--agent", "--");
    assert_null(own.agent);
}

static void a_value_may_stand_behind_an_equals_sign(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--agent=a=b"), SL_OK);
    assert_string_equal(own.agent, "a=b");
    assert_int_equal(PARSE("--agent="), SL_OK);
    assert_string_equal(own.agent, "");
    assert_int_equal(PARSE("--agent", "--loud"), SL_OK);
    assert_string_equal(own.agent, "--loud");
    assert_false(own.is_loud);
}

static void a_flag_that_is_not_known_is_refused(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--agents", "a"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--age", "a"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("-x"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--loud=1"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--agent"), SL_INVALID_ARGUMENT);
}

static void a_list_takes_every_value_in_order(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--name", "a", "--name=b", "word", "--name", ""), SL_OK);
    assert_int_equal(own.names.n_items, 3);
    assert_string_equal(own.names.items[0], "a");
    assert_string_equal(own.names.items[1], "b");
    assert_string_equal(own.names.items[2], "");
    own.names.n_items = SL_CLI_LIST_MAX;
    assert_int_equal(PARSE("--name", "a"), SL_INVALID_ARGUMENT);
}

static void a_timeout_is_a_duration(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--timeout", "30s"), SL_OK);
    assert_int_equal(options.timeout_ms, 30000);
    assert_int_equal(PARSE("--timeout", "soon"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--timeout", "25h"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--timeout", "-1s"), SL_INVALID_ARGUMENT);
}

static void a_local_command_knows_no_server(void **state)
{
    (void)state;
    set_env("SLUICE_TLS", "perhaps"); /* is not asked for */
    assert_int_equal(parse_as(false, (const char *const[]){ "--loud", NULL }), SL_OK);
    assert_int_equal(parse_as(false, (const char *const[]){ "--json", NULL }), SL_INVALID_ARGUMENT);
    assert_int_equal(
        parse_as(false, (const char *const[]){ "--addr", "x:1", NULL }), SL_INVALID_ARGUMENT);
}

static void a_loop_opens_runs_and_closes(void **state)
{
    (void)state;
    struct sl_cli cli;
    assert_int_equal(parse_as(true, (const char *const[]){ NULL }), SL_OK);
    assert_int_equal(sl_cli_open(&cli, &options), SL_OK);
    assert_non_null(cli.channel);
    sl_cli_stop(&cli, SL_EXIT_UNREACHABLE);
    assert_int_equal(sl_cli_run(&cli), SL_EXIT_UNREACHABLE);
    sl_cli_close(&cli);
}

static void a_certificate_that_is_not_there_ends_it(void **state)
{
    (void)state;
    struct sl_cli cli;
    assert_int_equal(PARSE("--ca", "/nonexistent.pem"), SL_OK);
    assert_int_not_equal(sl_cli_open(&cli, &options), SL_OK);
    sl_cli_close(&cli);
}

#define CASE(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(without_anything_the_defaults_hold),
        CASE(flags_win_over_the_environment),
        CASE(an_empty_variable_is_none),
        CASE(tls_follows_from_everything_that_needs_it),
        CASE(a_key_goes_only_to_whom_it_is_meant_for),
        CASE(a_doubtful_wish_for_tls_is_refused),
        CASE(an_address_is_looked_at_first),
        CASE(missing_and_needless_words_are_refused),
        CASE(words_stay_in_order_among_the_flags),
        CASE(behind_two_dashes_everything_is_a_word),
        CASE(a_value_may_stand_behind_an_equals_sign),
        CASE(a_flag_that_is_not_known_is_refused),
        CASE(a_list_takes_every_value_in_order),
        CASE(a_timeout_is_a_duration),
        CASE(a_local_command_knows_no_server),
        CASE(a_loop_opens_runs_and_closes),
        CASE(a_certificate_that_is_not_there_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
