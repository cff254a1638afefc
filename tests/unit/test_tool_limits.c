/* What a process of a tool may use, and what it gets of the request's credentials: real processes,
 * as another user when the test runs as root. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/credentials.h"
#include "runtime/base/mem.h"
#include "tests/fake/tool_rig.h"

#define ENTRY(mode, more)                                                                          \
    "- {type: Process, name: victim, description: a test, " more " config: {command: [" SL_VICTIM  \
    ", " mode "]}}"
#define SECRET "hunter2\"\\\n\x01\xC3\xA9-0123456789"

static struct sl_tool_rig rig;
static struct sl_tool_try try;

static int set_up(void **state)
{
    (void)state;
    sl_tool_rig_init(&rig, SL_LAUNCHER, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_tool_try_done(&try);
    sl_tool_rig_done(&rig);
    return 0;
}

static int copy_victim(void **state)
{
    (void)state;
    return sl_tool_rig_copy_victim(SL_VICTIM_BUILT, SL_VICTIM) ? 0 : 1;
}

static int remove_victim(void **state)
{
    (void)state;
    return unlink(SL_VICTIM);
}

static void call(const char *entry)
{
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, entry, "");
}

/* ---- Limits ------------------------------------------------------------------------------------
 */

/* T4: the limit tool_file. */
static void a_file_ends_at_its_limit(void **state)
{
    (void)state;
    rig.limits.tool_file = 100000;
    call(ENTRY("large_file", ""));
    assert_string_equal(try.live[0], "wrote 100000: File too large\n");
    call(ENTRY("large_file_die", ""));
    assert_int_equal(try.code, SL_TOOL_KILLED);
    assert_non_null(strstr(try.error, "XFSZ"));
    rig.limits.tool_file = 1U << 20U;
    call(ENTRY("large_file", ""));
    assert_string_equal(try.live[0], "wrote 1048576: all\n");
}

/* The limit tool_files; three are open from the start. */
static void open_files_end_at_their_limit(void **state)
{
    (void)state;
    rig.limits.tool_files = 20;
    call(ENTRY("open_many", ""));
    assert_string_equal(try.live[0], "opened 17: Too many open files\n");
}

/* T3: the limit tool_processes counts all processes of the tools' user, also those of others. */
static void processes_end_at_their_limit(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    rig.limits.tool_processes = 100;
    rig.limits.tool_drain = 10;
    call(ENTRY("start_many", ""));
    if (try.code == SL_TOOL_SPAWN_FAILED) { /* others have used them up */
        assert_non_null(strstr(try.error, "temporarily unavailable"));
        return;
    }
    int n = 0;
    assert_int_equal(sscanf(try.live[0], "started %d", &n), 1); /* NOLINT(cert-err34-c) */
    assert_true(n < 100);
    assert_non_null(strstr(try.live[0], "Resource temporarily unavailable"));
}

/* T1: more than the kernel hands over at a start. */
static void arguments_that_do_not_fit_are_a_failed_start(void **state)
{
    (void)state;
    enum { SIZE = 300000 };
    char *arguments = sl_alloc(SIZE);
    assert_non_null(arguments);
    memset(arguments, 'x', SIZE);
    arguments[snprintf(arguments, SIZE, "{\"a\":\"")] = 'x';
    (void)snprintf(arguments + SIZE - 3, 3, "\"}");
    sl_tool_rig_call(
        &rig, &try,
        "- {type: Process, name: victim, description: a test, parameters: {type: object, "
        "properties: {a: {type: string}}}, config: {command: [" SL_VICTIM ", words, '{{a}}']}}",
        arguments);
    (void)sl_free(arguments);
    assert_int_equal(try.code, SL_TOOL_SPAWN_FAILED);
    assert_non_null(strstr(try.error, "argument list too long"));
}

/* ---- Credentials (AL-6.1) ----------------------------------------------------------------------
 */

static void call_with(const char *entry, const struct sl_credential *list, size_t n)
{
    struct sl_credentials *credentials = NULL;
    assert_int_equal(sl_credentials_new(list, n, &credentials), SL_OK);
    rig.credentials = credentials;
    call(entry);
    rig.credentials = NULL;
    (void)sl_credentials_free(credentials);
}

static const struct sl_credential two[] = { { "other", "not for you" }, { "token", SECRET } };

static void a_tool_reads_what_it_forwards_and_nothing_else(void **state)
{
    (void)state;
    call_with(ENTRY("credentials", "forward: [token],"), two, 2);
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_string_equal(
        try.live[0], "{\"token\":\"hunter2\\\"\\\\\\u000a\\u0001\xC3\xA9-0123456789\"}"
                     " fd 4 write Bad file descriptor\n");
    call_with(ENTRY("credentials", "forward: [token, other],"), two, 2);
    assert_non_null(strstr(try.live[0], "\",\"other\":\"not for you\"}"));
}

static void a_tool_that_forwards_nothing_gets_nothing(void **state)
{
    (void)state;
    call_with(ENTRY("credentials", ""), two, 2);
    assert_string_equal(try.live[0], "none\n");
    call_with(ENTRY("descriptors", "forward: [],"), two, 2);
    assert_string_equal(try.live[0], "3\n");
    call_with(ENTRY("descriptors", "forward: [token],"), two, 2);
    assert_string_equal(try.live[0], "4\n");
}

static void a_credential_that_is_not_there_is_named(void **state)
{
    (void)state;
    call(ENTRY("credentials", "forward: [token],"));
    assert_int_equal(try.code, SL_TOOL_DENIED);
    assert_int_equal(try.attempts, 0);
    assert_string_equal(
        try.error, "victim: needs the credential 'token', which this run does not have");
    call_with(ENTRY("credentials", "forward: [other, third],"), two, 2);
    assert_int_equal(try.code, SL_TOOL_DENIED);
    assert_non_null(strstr(try.error, "'third'"));
}

static bool holds_secret(pid_t pid, const char *name)
{
    static const char needle[] = "hunter2";
    char path[64];
    char block[65536];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    const size_t n = fread(block, 1, sizeof block, file);
    (void)fclose(file);
    assert_true(n > 0 && n < sizeof block);
    return memmem(block, n, needle, sizeof needle - 1) != NULL;
}

/* Of the tool and of the program that has started it. */
static void no_value_stands_in_proc(void **state)
{
    (void)state;
    struct sl_credentials *credentials = NULL;
    assert_int_equal(sl_credentials_new(two, 2, &credentials), SL_OK);
    rig.credentials = credentials;
    struct sl_tool *tool =
        sl_tool_rig_tool(&rig, ENTRY("sleep_with_credentials", "forward: [token],"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "sleeping");
    assert_non_null(strstr(try.live[0], "hunter2")); /* it has it */
    int pid = 0;
    const char *at = strstr(try.live[0], "sleeping");
    assert_int_equal(sscanf(at, "sleeping %d", &pid), 1); /* NOLINT(cert-err34-c) */
    char path[64];
    char block[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_true(fread(block, 1, sizeof block - 1, file) > 0);
    (void)fclose(file);
    int parent = 0;
    const char *end = strrchr(block, ')');
    assert_non_null(end);
    assert_int_equal(sscanf(end, ") %*c %d", &parent), 1); /* NOLINT(cert-err34-c) */
    assert_false(holds_secret(pid, "environ"));
    assert_false(holds_secret(pid, "cmdline"));
    assert_false(holds_secret(parent, "environ"));
    assert_false(holds_secret(parent, "cmdline"));
    (void)snprintf(path, sizeof path, "/proc/%d/fd/4", parent); /* the supervisor has let go */
    assert_int_equal(readlink(path, block, sizeof block), -1);
    assert_int_equal(errno, ENOENT);
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    rig.credentials = NULL;
    (void)sl_credentials_free(credentials);
}

static void forward_is_checked_where_it_stands(void **state)
{
    (void)state;
    static const struct {
        const char *entry, *error;
    } table[] = {
        { "- {name: current_time, forward: [a]}",
          "test.yaml:1:33: [0].forward: only a tool of type" },
        { "- {name: http_request, forward: [a]}", "only a tool of type Process" },
        { ENTRY("x", "forward: ['a b'],"), "must be a name" },
        { ENTRY("x", "forward: [[a]],"), "must be a name" },
        { ENTRY("x", "forward: ['', a],"), "must be a name" },
        { ENTRY("x", "forward: [a, b, a],"), "is there twice" },
        { ENTRY("x", "forward: token,"), "must be a list" },
    };
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        char room[512];
        sl_tool_rig_mistake(&rig, table[i].entry, room);
        if (strstr(room, table[i].error) == NULL) {
            fail_msg("%s: %s", table[i].entry, room);
        }
    }
}

/* A sanitizer would overwrite freed memory itself. */
const char *__asan_default_options(void); /* NOLINT: the name is the sanitizer's */
const char *__asan_default_options(void)  /* NOLINT */
{
    return "max_free_fill_size=0";
}

static char secret[64];
static char scan[65536];

/* How often the end of `secret` stands in what this program can write, freed memory included: there
 * the allocator has its own notes at the beginning of a block. */
static size_t count_copies(void)
{
    size_t n = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    const int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    assert_true(maps != NULL && mem >= 0);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from = 0;
        unsigned long to = 0;
        assert_int_equal(sscanf(line, "%lx-%lx", &from, &to), 2); /* NOLINT(cert-err34-c) */
        if (strstr(line, " rw-p ") == NULL || to - from > 1UL << 30U) {
            continue; /* constant, or the shadow of a sanitizer */
        }
        for (unsigned long at = from; at < to; at += sizeof scan - sizeof secret) {
            const size_t left = to - at < sizeof scan ? to - at : sizeof scan;
            const ssize_t size = pread(mem, scan, left, (off_t)at);
            for (const char *p = scan;
                 size > 0 && (p = memmem(p, (size_t)(scan + size - p), secret + 16, 16)) != NULL;
                 p++) {
                const unsigned long found = at + (unsigned long)(p - scan);
                n += found < (unsigned long)scan || found >= (unsigned long)(scan + sizeof scan);
            }
            explicit_bzero(scan, sizeof scan);
        }
    }
    (void)close(mem);
    (void)fclose(maps);
    return n;
}

static void values_are_overwritten_before_their_memory_is_given_back(void **state)
{
    (void)state;
    static const char *const names[] = { "token", "none", NULL };
    for (size_t i = 0; i < 32; i++) {
        secret[i] = (char)('A' + (i * 7 + (size_t)getpid()) % 26);
    }
    const struct sl_credential list[] = { { "token", secret } };
    const size_t before = count_copies();
    uint8_t *block = NULL;
    size_t size = 0;
    struct sl_credentials *credentials = NULL;
    assert_int_equal(sl_credentials_new(list, 1, &credentials), SL_OK);
    assert_null(sl_credentials_find(credentials, "toke"));
    assert_null(sl_credentials_find(NULL, "token"));
    assert_int_equal(sl_credentials_write(credentials, names, &block, &size), SL_OK);
    assert_memory_equal(block, "{\"token\":\"", 10);
    assert_int_equal(block[size - 1], '}');
    assert_int_equal(count_copies(), before + 2);
    assert_null(sl_credentials_wipe(block, size));
    assert_null(sl_credentials_wipe(NULL, 0));
    assert_int_equal(count_copies(), before + 1);
    assert_null(sl_credentials_free(credentials));
    assert_null(sl_credentials_free(NULL));
    assert_int_equal(count_copies(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_ends_at_its_limit),
        TEST(open_files_end_at_their_limit),
        TEST(processes_end_at_their_limit),
        TEST(arguments_that_do_not_fit_are_a_failed_start),
        TEST(a_tool_reads_what_it_forwards_and_nothing_else),
        TEST(a_tool_that_forwards_nothing_gets_nothing),
        TEST(a_credential_that_is_not_there_is_named),
        TEST(no_value_stands_in_proc),
        TEST(forward_is_checked_where_it_stands),
        TEST(values_are_overwritten_before_their_memory_is_given_back),
    };
    return cmocka_run_group_tests_name("tool_limits", tests, copy_victim, remove_victim);
}
