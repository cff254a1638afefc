/* The file of bearer keys (grpc.md OP-2): its lines, its mistakes, and the look-up. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/identity/keys.h"

#define HEX_A "sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX_B "sha256:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static char told[4096];
static size_t n_told;

static void tell(const char *line, void *user_data)
{
    (void)user_data;
    const size_t size = strlen(told);
    (void)snprintf(told + size, sizeof(told) - size, "%s\n", line);
    n_told++;
}

static struct sl_keys *parse(const char *text, enum sl_status expected)
{
    struct sl_keys *keys = NULL;
    told[0] = '\0';
    n_told = 0;
    assert_int_equal(sl_keys_parse(sl_slice_str(text), "keys", 3, tell, NULL, &keys), expected);
    assert_int_equal(n_told > 0, expected == SL_FAILED_PRECONDITION);
    return keys;
}

static void lines_become_keys(void **state)
{
    (void)state;
    struct sl_keys *keys = parse(
        "# a comment\n\n \t\r\n" HEX_A " alice acme\r\n"
        "  " HEX_B "\tspiffe://x.org/bob@1 beta  agents=echo,re-*,* expires=2027-01-31",
        SL_OK);
    assert_int_equal(sl_keys_count(keys), 2);
    const struct sl_key *key = sl_keys_at(keys, 0);
    assert_string_equal(key->principal, "alice");
    assert_string_equal(key->tenant, "acme");
    assert_int_equal(key->n_agents, 0);
    assert_int_equal(key->expires_s, INT64_MAX);
    assert_int_equal(key->line, 4);
    key = sl_keys_at(keys, 1);
    assert_string_equal(key->principal, "spiffe://x.org/bob@1");
    assert_int_equal(key->n_agents, 3);
    assert_string_equal(key->agents[1], "re-*");
    assert_int_equal(key->expires_s, 1801353600);
    (void)sl_keys_free(keys);
    keys = parse(HEX_A " a b expires=2024-02-29T23:59:58Z\n", SL_OK);
    assert_int_equal(sl_keys_at(keys, 0)->expires_s, 1709251198);
    (void)sl_keys_free(keys);
    keys = parse("", SL_OK);
    assert_int_equal(sl_keys_count(keys), 0);
    (void)sl_keys_free(keys);
    assert_int_equal(sl_keys_count(NULL), 0);
}

static void a_mistake_has_its_place_and_never_the_text(void **state)
{
    static const struct {
        const char *text, *problem;
    } cases[] = {
        { "my-secret-key alice acme", "keys:1:1: expected sha256: and 64 hex digits" },
        { "\n  my-secret-key", "keys:2:3: expected sha256: " },
        { HEX_A "0 alice acme", "keys:1:1: expected sha256: " },
        { "sha256:" /* capitals */
          "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f a b",
          "keys:1:1: expected sha256: " },
        { HEX_A, "keys:1:72: the principal is missing" },
        { HEX_A " alice", "keys:1:78: the tenant is missing" },
        { HEX_A " al*ce acme", "keys:1:73: the principal is not 1 to 128 letters" },
        { HEX_A " alice \"acme\"", "keys:1:79: the tenant is not 1 to 128 letters" },
        { HEX_A " alice acme my-secret-key", "keys:1:84: expected agents=… or expires=…" },
        { HEX_A " a b agents=", "keys:1:77: agents: names separated by commas" },
        { HEX_A " a b agents=x,,y", "keys:1:77: agents: names separated by commas" },
        { HEX_A " a b agents=x,", "keys:1:77: agents: names separated by commas" },
        { HEX_A " a b agents=x*y", "keys:1:77: agents: names separated by commas" },
        { HEX_A " a b agents=x agents=y", "keys:1:86: expected agents=… or expires=…" },
        { HEX_A " a b expires=2027-02-29", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=2027-13-01", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=2027-1-01", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=2027-01-01T", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=2027-01-01T24:00:00Z", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=2027-01-01T10:00:00+02:00", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=1969-01-01", "keys:1:77: expires: a day such as" },
        { HEX_A " a b expires=2027-01-01 expires=2028-01-01", "keys:1:96: expected agents=… or" },
        { HEX_A " a b agents=x agents=expires=2027-01-31", "keys:1:86: expected agents=… or" },
        { HEX_A " a b\n" HEX_B " a b\n" HEX_A " c d", "keys:3:1: the key of line 1 again" },
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        assert_null(parse(cases[i].text, SL_FAILED_PRECONDITION));
        if (strncmp(told, cases[i].problem, strlen(cases[i].problem)) != 0) {
            fail_msg("'%s': '%s'", cases[i].problem, told);
        }
        assert_int_equal(n_told, 1);
        assert_null(strstr(told, "secret-key"));
    }
}

static void every_mistake_is_told_up_to_a_bound(void **state)
{
    (void)state;
    char text[2000] = "";
    for (size_t i = 0; i < 400; i++) {
        (void)strncat(text, "x y\n", sizeof(text) - strlen(text) - 1);
    }
    assert_null(parse(text, SL_FAILED_PRECONDITION));
    assert_int_equal(n_told, 50);
}

static void file_is_bounded_in_lines_and_keys(void **state)
{
    (void)state;
    char text[4096];
    (void)snprintf(text, sizeof(text), "%*s", SL_KEY_LINE_BYTES + 1, "#");
    text[0] = '#';
    assert_null(parse(text, SL_FAILED_PRECONDITION));
    assert_non_null(strstr(told, "keys:1:2049: the line is longer than 2048 bytes"));
    text[SL_KEY_LINE_BYTES] = '\0';
    (void)sl_keys_free(parse(text, SL_OK));
    size_t size = 0;
    for (unsigned i = 0; i < 5; i++) {
        size += (size_t)snprintf(text + size, sizeof(text) - size, "sha256:%064x a b\n", i);
    }
    const char *const limit[] = { "keys" };
    const struct sl_series *series = sl_metric_series(SL_M_sluice_limits_reached, limit);
    const uint64_t n_reached = sl_metric_value(series);
    assert_null(parse(text, SL_FAILED_PRECONDITION)); /* limit keys: 3 */
    assert_int_equal(sl_metric_value(series), n_reached + 1);
    assert_non_null(strstr(told, "keys:4:1: more than 3 keys (limit `keys`)"));
    (void)snprintf(text, sizeof(text), HEX_A " %0129d b", 1);
    assert_null(parse(text, SL_FAILED_PRECONDITION));
    size = (size_t)snprintf(text, sizeof(text), HEX_A " a b agents=x");
    for (size_t i = 0; i < SL_KEY_PATTERNS; i++) {
        size += (size_t)snprintf(text + size, sizeof(text) - size, ",x");
    }
    assert_null(parse(text, SL_FAILED_PRECONDITION));
    assert_non_null(strstr(told, "agents: more than 32 names"));
}

static void a_cut_file_never_gives_a_key_that_is_not_there(void **state)
{
    static const char whole[] = HEX_A " alice acme agents=a expires=2027-01-31\n";
    (void)state;
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct sl_keys *keys = NULL;
        char *cut = malloc(n == 0 ? 1 : n); /* so that ASan sees a read behind it */
        assert_non_null(cut);
        memcpy(cut, whole, n);
        if (sl_keys_parse(sl_slice_of(cut, n), "keys", 3, tell, NULL, &keys) == SL_OK && n > 0) {
            assert_int_equal(sl_keys_count(keys), 1);
            assert_string_equal(sl_keys_at(keys, 0)->principal, "alice");
        }
        free(cut);
        (void)sl_keys_free(keys);
    }
    static const char nul[] = HEX_A " a b agents=*\0x\n"; /* no pattern "*" of it */
    struct sl_keys *keys = NULL;
    assert_int_equal(
        sl_keys_parse(sl_slice_of(nul, sizeof(nul) - 1), "keys", 3, tell, NULL, &keys),
        SL_FAILED_PRECONDITION);
}

/* The look-up compares all of each digest with all keys: one wrong bit anywhere is enough. */
static void only_the_whole_digest_finds_a_key(void **state)
{
    enum { MANY = 40 };
    (void)state;
    char text[MANY * 90] = "";
    size_t size = 0;
    uint8_t digest[SL_KEY_DIGEST_BYTES];
    struct sl_keys *keys = NULL;
    for (unsigned i = 0; i < MANY; i++) {
        char key[32];
        char hex[SL_SHA256_HEX_BYTES];
        const int n = snprintf(key, sizeof(key), "key-%u", i);
        assert_int_equal(sl_sha256_hex(sl_slice_of(key, (size_t)n), hex), SL_OK);
        size += (size_t)snprintf(text + size, sizeof(text) - size, "sha256:%s p%u t\n", hex, i);
    }
    assert_int_equal(sl_keys_parse(sl_slice_str(text), "keys", MANY, tell, NULL, &keys), SL_OK);
    for (unsigned i = 0; i < MANY; i++) {
        char key[32];
        char name[32];
        const int n = snprintf(key, sizeof(key), "key-%u", i);
        (void)snprintf(name, sizeof(name), "p%u", i);
        assert_int_equal(sl_sha256(sl_slice_of(key, (size_t)n), digest), SL_OK);
        const struct sl_key *found = sl_keys_find(keys, digest);
        assert_non_null(found);
        assert_string_equal(found->principal, name);
        for (size_t bit = 0; bit < 8 * sizeof(digest); bit++) {
            digest[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_null(sl_keys_find(keys, digest));
            digest[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
    }
    memset(digest, 0, sizeof(digest));
    assert_null(sl_keys_find(keys, digest));
    (void)sl_keys_free(keys);
}

static void put(const char *path, const char *text, mode_t mode)
{
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static enum sl_status read_keys(const char *path, struct sl_keys **ret_keys)
{
    told[0] = '\0';
    return sl_keys_read(path, 3, tell, NULL, ret_keys);
}

static void file_must_be_one_that_not_everybody_may_write(void **state)
{
    (void)state;
    char folder[] = "/tmp/sluice-keys-XXXXXX";
    char path[64];
    struct sl_keys *keys = NULL;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/keys", folder);
    assert_int_equal(read_keys(path, &keys), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, "/keys: No such file"));
    put(path, HEX_A " a b\n", 0644);
    assert_int_equal(read_keys(path, &keys), SL_OK);
    keys = sl_keys_free(keys);
    put(path, HEX_A " a b\n", 0666);
    assert_int_equal(read_keys(path, &keys), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, "/keys: everybody may write it"));
    assert_int_equal(truncate(path, SL_KEY_FILE_BYTES + 1), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(read_keys(path, &keys), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, "/keys: larger than 4 MiB"));
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* not waited for */
    assert_int_equal(read_keys(path, &keys), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(told, "/keys: not a file"));
    (void)unlink(path);
    assert_int_equal(read_keys(folder, &keys), SL_FAILED_PRECONDITION);
    assert_int_equal(rmdir(folder), 0);
}

/* "agents=a" of "agents=a,b expires=…" is a key, too, and one that may more: only the newline says
 * that a line is whole. */
static void a_file_that_is_cut_short_is_refused(void **state)
{
    (void)state;
    static const char whole[] = HEX_A " a b\n" HEX_B " a b agents=x expires=2027-01-31\n";
    char path[] = "/tmp/sluice-keys-XXXXXX";
    struct sl_keys *keys = NULL;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    for (size_t n = 1; n < sizeof(whole) - 1; n++) {
        char cut[sizeof(whole)];
        (void)snprintf(cut, sizeof(cut), "%.*s", (int)n, whole);
        put(path, cut, 0600);
        if (whole[n - 1] == '\n') {
            continue;
        }
        assert_int_equal(read_keys(path, &keys), SL_FAILED_PRECONDITION);
        assert_non_null(strstr(told, ": the last line is not complete"));
    }
    put(path, whole, 0600);
    assert_int_equal(read_keys(path, &keys), SL_OK);
    assert_int_equal(sl_keys_count(keys), 2);
    (void)sl_keys_free(keys);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_keys),
        cmocka_unit_test(a_mistake_has_its_place_and_never_the_text),
        cmocka_unit_test(every_mistake_is_told_up_to_a_bound),
        cmocka_unit_test(file_is_bounded_in_lines_and_keys),
        cmocka_unit_test(a_cut_file_never_gives_a_key_that_is_not_there),
        cmocka_unit_test(only_the_whole_digest_finds_a_key),
        cmocka_unit_test(file_must_be_one_that_not_everybody_may_write),
        cmocka_unit_test(a_file_that_is_cut_short_is_refused),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
