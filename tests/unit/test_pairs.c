/* NAME=VALUE words: metadata, and credentials that are never on the command line. */
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
#include "service/cli/pairs.h"

#define MOST_BYTES ((size_t)64 * 1024)

static struct sl_cli_pairs pairs;

static struct sl_cli_list list_of(const char *a, const char *b)
{
    struct sl_cli_list list = { .items = { a, b } };
    list.n_items = b != NULL ? 2 : a != NULL ? 1 : 0;
    return list;
}

static void assert_bad_pair(const char *a, const char *b)
{
    const struct sl_cli_list list = list_of(a, b);
    assert_int_equal(sl_cli_read_pairs(&list, "--metadata", &pairs), SL_INVALID_ARGUMENT);
    sl_cli_pairs_done(&pairs);
}

static void assert_bad_secret(const char *a)
{
    const struct sl_cli_list list = list_of(a, NULL);
    assert_int_equal(sl_cli_read_secrets(&list, "--credential", &pairs), SL_INVALID_ARGUMENT);
    sl_cli_pairs_done(&pairs);
}

static void words_become_pairs(void **state)
{
    (void)state;
    const struct sl_cli_list list = list_of("team=blue=x", "empty=");
    assert_int_equal(sl_cli_read_pairs(&list, "--metadata", &pairs), SL_OK);
    assert_int_equal(pairs.n_items, 2);
    assert_string_equal(pairs.items[0].name, "team");
    assert_string_equal(pairs.items[0].value, "blue=x");
    assert_string_equal(pairs.items[1].value, "");
    sl_cli_pairs_done(&pairs);
    const struct sl_cli_list none = list_of(NULL, NULL);
    assert_int_equal(sl_cli_read_pairs(&none, "--metadata", &pairs), SL_OK);
    assert_int_equal(pairs.n_items, 0);
    sl_cli_pairs_done(&pairs);
    assert_bad_pair("no-equals", NULL);
    assert_bad_pair("=x", NULL);
    assert_bad_pair("a=1", "a=2");
    assert_bad_pair("a\xff=1", NULL);
    assert_bad_pair("a=\xff", NULL);
}

static void secrets_come_from_the_environment_or_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/sluice-pairs-XXXXXX";
    char word[64];
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "from a file\r\n", 13), 13);
    assert_int_equal(setenv("PAIRS_TEST", "planted", 1), 0); // NOLINT(concurrency-mt-unsafe)
    (void)snprintf(word, sizeof(word), "b=file:%s", path);
    const struct sl_cli_list list = list_of("a=env:PAIRS_TEST", word);
    assert_int_equal(sl_cli_read_secrets(&list, "--credential", &pairs), SL_OK);
    assert_string_equal(pairs.items[0].value, "planted");
    assert_string_equal(pairs.items[1].value, "from a file");
    sl_cli_pairs_done(&pairs);
    assert_int_equal(ftruncate(fd, (off_t)MOST_BYTES + 1), 0); /* NULs, and too much */
    (void)snprintf(word, sizeof(word), "b=file:%s", path);
    assert_bad_secret(word);
    char *most = malloc(MOST_BYTES); /* a line end where the room ends does not hide what follows */
    assert_non_null(most);
    memset(most, 'x', MOST_BYTES);
    assert_int_equal(pwrite(fd, most, MOST_BYTES, 0), MOST_BYTES);
    free(most);
    assert_int_equal(pwrite(fd, "\r\nmore", 6, (off_t)MOST_BYTES), 6);
    assert_bad_secret(word);
    assert_int_equal(ftruncate(fd, (off_t)MOST_BYTES + 2), 0);
    const struct sl_cli_list whole = list_of(word, NULL);
    assert_int_equal(sl_cli_read_secrets(&whole, "--credential", &pairs), SL_OK);
    assert_int_equal(strlen(pairs.items[0].value), MOST_BYTES);
    sl_cli_pairs_done(&pairs);
    assert_int_equal(close(fd), 0);
    (void)unlink(path);
    assert_bad_secret(word);
    assert_bad_secret("b=file:");
    assert_bad_secret("b=file:/tmp");
    assert_bad_secret("b=env:PAIRS_TEST_NOT_SET");
    assert_bad_secret("b=env:");
    assert_bad_secret("b=the-value-itself");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_become_pairs),
        cmocka_unit_test(secrets_come_from_the_environment_or_a_file),
    };
    return cmocka_run_group_tests_name("pairs", tests, NULL, NULL);
}
