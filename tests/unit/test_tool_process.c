#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/tool/kind.h"
#include "tests/fake/tool_rig.h"

#define ENTRY(config, more)                                                                        \
    "- {type: Process, name: victim, description: a test, " more " config: {" config "}}"
#define VICTIM(mode) ENTRY("command: [" SL_VICTIM ", " mode "]", "")

static struct sl_tool_rig rig;
static struct sl_tool_try try;
static int n_descriptors;

static int count_descriptors(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        n++;
    }
    (void)closedir(dir);
    return n;
}

static int set_up(void **state)
{
    (void)state;
    n_descriptors = count_descriptors();
    sl_tool_rig_init(&rig, SL_LAUNCHER, NULL);
    return 0;
}

/* No zombie, no child, no descriptor may be left by any test. */
static int tear_down(void **state)
{
    (void)state;
    sl_tool_try_done(&try);
    sl_tool_rig_done(&rig);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(count_descriptors(), n_descriptors);
    return 0;
}

/* The number behind `name` in the live output. */
static pid_t pid_after(const char *name)
{
    const char *at = strstr(try.live[0], name);
    assert_non_null(at);
    int pid = 0;
    assert_int_equal(sscanf(at + strlen(name), "%d", &pid), 1); /* NOLINT(cert-err34-c) */
    return (pid_t)pid;
}

static void assert_gone(pid_t pid)
{
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void output_and_exit_code_come_back(void **state)
{
    (void)state;
    rig.limits.tool_drain = 60000; /* nobody else holds the pipes: there is nothing to wait for */
    sl_tool_rig_call(&rig, &try, VICTIM("words, one, two three"), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_string_equal(
        try.json, "{\"stdout\":\"[one][two three]\",\"stderr\":\"to stderr\",\"exit_code\":0}");
    assert_string_equal(try.live[0], "[one][two three]");
    assert_string_equal(try.live[1], "to stderr");
    assert_int_equal(try.attempts, 1);
    assert_true(try.has_exit_code);
    assert_int_equal(try.result_bytes, 25);
    assert_false(try.is_truncated);
}

static void a_call_counts_with_its_output(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("sleep"));
    sl_tool_rig_start(&rig, &try, tool, "");
    const uint64_t before = sl_tool_call_bytes(try.call);
    sl_tool_rig_await(&rig, &try, "sleeping"); /* its attempt has begun, and kept that */
    assert_true(sl_tool_call_bytes(try.call) > before + strlen("sleeping"));
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    (void)sl_tool_unref(tool);
}

/* T1, AL-6.3 */
static void a_nonzero_exit_is_a_failure_with_its_code(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, VICTIM("exit, '3'"), "{}");
    assert_int_equal(try.code, SL_TOOL_EXIT_NONZERO);
    assert_int_equal(try.exit_code, 3);
    assert_string_equal(try.error, "victim: exited with code 3");
}

/* T1 */
static void a_crash_names_its_signal(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, VICTIM("crash"), "");
    assert_int_equal(try.code, SL_TOOL_KILLED);
    assert_non_null(strstr(try.error, "SEGV"));
    assert_false(try.has_exit_code);
}

/* T1 */
static void a_missing_program_is_a_failed_start(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, ENTRY("command: [/no/such/program]", ""), "");
    assert_int_equal(try.code, SL_TOOL_SPAWN_FAILED);
    assert_non_null(strstr(try.error, "No such file"));
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, ENTRY("command: [no-such-program-in-path]", ""), "");
    assert_int_equal(try.code, SL_TOOL_SPAWN_FAILED);
    assert_non_null(strstr(try.error, "No such file"));
}

static void a_file_that_is_no_program_is_a_failed_start(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, ENTRY("command: [/etc/passwd]", ""), "");
    assert_int_equal(try.code, SL_TOOL_SPAWN_FAILED);
    assert_non_null(strstr(try.error, "Permission denied"));
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, ENTRY("command: [/bin/true], cwd: /no/such/folder", ""), "");
    assert_int_equal(try.code, SL_TOOL_SPAWN_FAILED);
}

static void a_program_is_found_in_path(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, ENTRY("command: [echo, hello]", ""), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_non_null(strstr(try.json, "hello"));
}

/* AL-6.5 */
static void a_tool_is_never_root_and_has_no_core(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, VICTIM("limits"), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    char expected[128];
    const int uid = geteuid() == 0 ? 65534 : (int)geteuid();
    const int gid = geteuid() == 0 ? 65534 : (int)getegid();
    (void)snprintf(expected, sizeof expected, "uid %d gid %d core 0 files 1024", uid, gid);
    assert_non_null(strstr(try.json, expected));
}

/* AL-6.5 */
static void only_three_descriptors_are_open(void **state)
{
    (void)state;
    const int extra = dup(0); /* one that is not closed on exec */
    sl_tool_rig_call(&rig, &try, VICTIM("descriptors"), "");
    (void)close(extra);
    assert_string_equal(try.json, "{\"stdout\":\"3\\n\",\"stderr\":\"\",\"exit_code\":0}");
}

/* AL-6.5, and the key of AL-6.2 */
static void the_environment_is_a_short_list(void **state)
{
    (void)state;
    sl_tool_rig_call(
        &rig, &try,
        ENTRY("command: [" SL_VICTIM ", environment], cwd: /tmp, env: {MINE: 'a b', LANG: C}", ""),
        "");
    assert_string_equal(
        try.live[0], "PATH=/usr/bin:/bin\nHOME=/tmp\nTZ=UTC\nTERM=dumb\nMINE=a b\nLANG=C\n"
                     "SLUICE_IDEMPOTENCY_KEY=run1:call1\n");
}

#define PARAMETERS                                                                                 \
    "parameters: {type: object, properties: {a: {type: string}, b: {type: integer}, c: {type: "    \
    "array}}, additionalProperties: false},"

static void arguments_take_the_places_of_whole_words(void **state)
{
    (void)state;
    static const char entry[] =
        ENTRY("command: [" SL_VICTIM ", words, '{{a}}', '{{b}}', '{{c}}']", PARAMETERS);
    sl_tool_rig_call(&rig, &try, entry, "{\"a\":\"$(id); x\",\"b\":-5,\"c\":[\"p q\",true]}");
    assert_string_equal(try.live[0], "[$(id); x][-5][p q][true]");
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, entry, "{\"a\":\"\"}");
    assert_string_equal(try.live[0], "[]");
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, entry, "{\"a\":\"--output=/etc/passwd\"}");
    assert_int_equal(try.code, SL_TOOL_INVALID_ARGS);
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, entry, "{\"d\":1}");
    assert_int_equal(try.code, SL_TOOL_INVALID_ARGS);
}

static void a_dash_is_allowed_behind_the_double_dash(void **state)
{
    (void)state;
    sl_tool_rig_call(
        &rig, &try, ENTRY("command: [" SL_VICTIM ", words, --, '{{a}}']", PARAMETERS),
        "{\"a\":\"-x\"}");
    assert_string_equal(try.live[0], "[--][-x]");
}

static void arguments_can_come_on_stdin(void **state)
{
    (void)state;
    sl_tool_rig_call(
        &rig, &try, ENTRY("command: [" SL_VICTIM ", input], stdin: arguments", PARAMETERS),
        "{\"a\": \"x\"}");
    assert_string_equal(try.live[0], "{\"a\":\"x\"}");
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, VICTIM("input"), "");
    assert_string_equal(try.live[0], "");
    assert_int_equal(try.code, SL_TOOL_OK);
}

/* T4, AL-6.4 */
static void binary_output_becomes_text(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, VICTIM("binary"), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_int_equal(try.result_bytes, 256);
    json_t *json = json_loads(try.json, 0, NULL);
    assert_int_equal(json_string_length(json_object_get(json, "stdout")), 127 + 129 * 3);
    json_decref(json);
}

/* T4, AL-6.4 */
static void a_flood_is_cut_off(void **state)
{
    (void)state;
    rig.limits.tool_output_kill = 8U << 20U;
    sl_tool_rig_call(&rig, &try, VICTIM("flood"), "");
    assert_int_equal(try.code, SL_TOOL_OUTPUT_LIMIT);
    assert_true(try.is_truncated);
    assert_true(try.result_bytes > 8U << 20U);
    assert_true(strlen(try.json) < 70000);
    assert_non_null(strstr(try.json, "bytes omitted"));
}

/* AL-7.3 */
static void a_cancel_ends_a_polite_tool_at_once(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("sleep"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "sleeping");
    sl_tool_call_cancel(try.call);
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
    assert_true(try.ms < 1500);
    assert_gone(pid_after("sleeping"));
}

static void a_cancel_in_the_same_turn_as_the_start_works(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("sleep"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
    assert_true(try.ms < 1500);
}

/* T2, AL-6.5 */
static void a_tool_that_ignores_sigterm_is_killed(void **state)
{
    (void)state;
    rig.limits.tool_kill = 300;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("ignore"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "sleeping");
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
    assert_true(try.ms >= 300);
    assert_true(try.ms < 2500);
    assert_gone(pid_after("sleeping"));
}

static bool is_stopped(pid_t pid)
{
    char path[64];
    char block[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    const bool is_read = file != NULL && fgets(block, sizeof block, file) != NULL;
    if (file != NULL) {
        (void)fclose(file);
    }
    return is_read && strstr(block, ") T ") != NULL;
}

/* T2 */
static void a_stopped_tool_is_ended(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("stop"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "stopping");
    for (int i = 0; i < 500 && !is_stopped(pid_after("stopping")); i++) {
        sl_loop_uv_step(rig.uv, 10);
    }
    assert_true(is_stopped(pid_after("stopping")));
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
    assert_true(try.ms < rig.limits.tool_kill); /* SIGTERM was enough */
    assert_gone(pid_after("stopping"));
}

/* T2, AL-6.2 */
static void a_tool_that_takes_too_long_times_out_with_what_it_said(void **state)
{
    (void)state;
    sl_tool_rig_call(&rig, &try, ENTRY("command: [" SL_VICTIM ", sleep]", "timeout_secs: 1,"), "");
    assert_int_equal(try.code, SL_TOOL_TIMEOUT);
    assert_string_equal(try.error, "victim: no result after 1.000 s, stopped");
    assert_non_null(strstr(try.json, "sleeping"));
    assert_int_equal(try.attempts, 1);
    assert_gone(pid_after("sleeping"));
}

/* T5, AL-6.5 */
static void an_escaped_grandchild_dies_with_the_tool(void **state)
{
    (void)state;
    rig.limits.tool_drain = 200;
    sl_tool_rig_call(&rig, &try, VICTIM("escape"), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_gone(pid_after("escaped"));
    assert_true(try.ms >= 200);
    assert_true(try.ms < 2000);
}

/* T5, AL-6.5 */
static void an_escaped_grandchild_dies_with_a_cancel(void **state)
{
    (void)state;
    rig.limits.tool_kill = 200;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("escape_stay"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "escaped");
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
    assert_gone(pid_after("escaped"));
}

/* T5, AL-6.5 */
static void pipes_that_stay_open_are_not_waited_for(void **state)
{
    (void)state;
    rig.limits.tool_drain = 200;
    sl_tool_rig_call(&rig, &try, VICTIM("hold"), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_true(try.ms < 2000);
}

/* T3 */
static void a_crowd_in_many_sessions_is_killed(void **state)
{
    (void)state;
    rig.limits.tool_kill = 200;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("bomb"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "bomb");
    sl_tool_call_cancel(try.call);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
    assert_true(try.ms < 3000);
}

/* T9 */
static void ten_tools_run_side_by_side(void **state)
{
    (void)state;
    static struct sl_tool_try tries[10];
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("words, x"));
    for (size_t i = 0; i < 10; i++) {
        sl_tool_rig_start(&rig, &tries[i], tool, "");
    }
    (void)sl_tool_unref(tool);
    assert_int_equal(sl_tools_n_calls(rig.tools), 10);
    assert_int_equal(sl_tools_n_children(rig.tools), 10);
    for (size_t i = 0; i < 10; i++) {
        sl_tool_rig_finish(&rig, &tries[i]);
        assert_int_equal(tries[i].code, SL_TOOL_OK);
        assert_string_equal(tries[i].live[0], "[x]");
        sl_tool_try_done(&tries[i]);
    }
}

/* AL-6.2 */
static void more_than_the_cap_wait_in_order_and_can_be_cancelled(void **state)
{
    (void)state;
    static struct sl_tool_try tries[3];
    sl_tool_slots_set_max(rig.tools->slots, 1);
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("sleep"));
    for (size_t i = 0; i < 3; i++) {
        sl_tool_rig_start(&rig, &tries[i], tool, "");
    }
    (void)sl_tool_unref(tool);
    assert_int_equal(sl_tools_n_children(rig.tools), 1);
    sl_tool_call_cancel(tries[1].call);
    sl_tool_rig_finish(&rig, &tries[1]);
    assert_int_equal(tries[1].code, SL_TOOL_CANCELLED);
    assert_int_equal(tries[1].attempts, 0);
    sl_tool_call_cancel(tries[0].call);
    sl_tool_rig_finish(&rig, &tries[0]);
    sl_tool_rig_await(&rig, &tries[2], "sleeping");
    sl_tool_call_cancel(tries[2].call);
    sl_tool_rig_finish(&rig, &tries[2]);
    for (size_t i = 0; i < 3; i++) {
        sl_tool_try_done(&tries[i]);
    }
}

/* Only where the supervisor has another uid than the tool: as root. */
static void a_tool_cannot_kill_its_supervisor(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    sl_tool_rig_call(&rig, &try, VICTIM("kill_parent"), "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_string_equal(try.live[0], "Operation not permitted\n");
}

static void a_child_of_the_program_itself_is_left_alone(void **state)
{
    (void)state;
    char *const argv[] = { (char[]){ SL_VICTIM }, (char[]){ "silent" }, NULL };
    pid_t own = 0;
    assert_int_equal(posix_spawn(&own, SL_VICTIM, NULL, NULL, argv, environ), 0);
    sl_tool_rig_call(&rig, &try, VICTIM("escape"), "");
    assert_int_equal(kill(own, 0), 0);
    assert_int_equal(waitpid(own, NULL, WNOHANG), 0);
    (void)kill(own, SIGKILL);
    assert_int_equal(waitpid(own, NULL, 0), own);
}

static size_t n_allowed;

static bool allow_some(size_t size)
{
    (void)size;
    if (n_allowed == 0) {
        return false;
    }
    n_allowed--;
    return true;
}

/* The k-th allocation of a call and all after it fail: each call ends, and says why. */
static void no_memory_ends_the_call(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("words, x"));
    size_t k = 0;
    for (try.code = SL_TOOL_INTERNAL; try.code != SL_TOOL_OK && k < 60; k++) {
        sl_tool_try_done(&try);
        n_allowed = k + 2; /* the call itself must be there */
        sl_mem_set_gate(allow_some);
        sl_tool_rig_start(&rig, &try, tool, "");
        while (try.n_done == 0) {
            sl_loop_uv_step(rig.uv, 10);
        }
        sl_mem_set_gate(NULL);
        assert_true(try.code == SL_TOOL_OK || try.code == SL_TOOL_OUT_OF_MEMORY);
    }
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_true(k > 5);
    (void)sl_tool_unref(tool);
}

/* T1 */
static void no_descriptors_is_a_failed_start(void **state)
{
    (void)state;
    struct rlimit limit;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("words, x"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int more = 0; more < 12; more++) {
        struct rlimit low = limit;
        low.rlim_cur = (rlim_t)count_descriptors() + (rlim_t)more;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        sl_tool_rig_start(&rig, &try, tool, "");
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        sl_tool_rig_finish(&rig, &try);
        assert_true(try.code == SL_TOOL_OK || try.code == SL_TOOL_SPAWN_FAILED);
        assert_int_equal(more == 0, more == 0 && try.code == SL_TOOL_SPAWN_FAILED);
        sl_tool_try_done(&try);
    }
    (void)sl_tool_unref(tool);
}

/* The fourth word of its stat, behind the name in brackets; *ret_state: the third. */
static pid_t parent_of(pid_t pid, char *ret_state)
{
    char path[40];
    char text[400] = "";
    int parent = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    *ret_state = 'X';
    if (file == NULL) {
        return 0;
    }
    const size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    const char *behind = size == 0 ? NULL : strrchr(text, ')');
    if (behind != NULL) {
        assert_int_equal(
            sscanf(behind + 1, " %c %d", ret_state, &parent), 2); /* NOLINT(cert-err34-c) */
    }
    return (pid_t)parent;
}

static void a_killed_supervisor_takes_its_tool_along(void **state)
{
    (void)state;
    char run_state = 'R';
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("sleep"));
    sl_tool_rig_start(&rig, &try, tool, "");
    (void)sl_tool_unref(tool);
    sl_tool_rig_await(&rig, &try, "sleeping");
    const pid_t leader = pid_after("sleeping");
    assert_int_equal(kill(parent_of(leader, &run_state), SIGKILL), 0);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_KILLED);
    assert_string_equal(try.error, "victim: its supervisor was killed");
    assert_non_null(strstr(try.json, "sleeping"));
    for (int i = 0; i < 5000 && run_state != 'Z' && run_state != 'X'; i++) {
        (void)poll(NULL, 0, 1); /* until the kernel has killed it, and perhaps init has reaped it */
        (void)parent_of(leader, &run_state);
    }
    assert_true(run_state == 'Z' || run_state == 'X');
}

static void a_launcher_that_is_not_there_is_a_failed_start(void **state)
{
    (void)state;
    char room[512];
    struct sl_tool_rig other;
    sl_tool_rig_init(&other, "/no/such/launcher", NULL);
    sl_tool_rig_mistake(&other, VICTIM("sleep"), room);
    assert_non_null(strstr(room, "/no/such/launcher"));
    sl_tool_rig_done(&other);
}

/* The program that has started a tool is killed without a word to anybody. */
_Noreturn static void run_and_be_killed(int write_fd)
{
    sl_tool_rig_init(&rig, SL_LAUNCHER, NULL);
    struct sl_tool *tool = sl_tool_rig_tool(&rig, VICTIM("escape_stay"));
    sl_tool_rig_start(&rig, &try, tool, "");
    sl_tool_rig_await(&rig, &try, "escaped");
    const pid_t pid = pid_after("escaped");
    if (write(write_fd, &pid, sizeof pid) != (ssize_t)sizeof pid) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

/* T7 */
static void a_tool_does_not_survive_the_program(void **state)
{
    (void)state;
    int ready[2];
    pid_t escaped = 0;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* to see all of them end */
    assert_int_equal(pipe(ready), 0);
    char number[16];
    (void)snprintf(number, sizeof number, "%d", ready[1]);
    char *const argv[] = { (char[]){ "test" }, number, NULL };
    pid_t program = 0;
    assert_int_equal(posix_spawn(&program, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &escaped, sizeof escaped), sizeof escaped);
    (void)close(ready[0]);
    assert_int_equal(kill(escaped, 0), 0);
    assert_int_equal(kill(program, SIGKILL), 0);
    while (waitpid(-1, NULL, 0) > 0) { /* ends when nobody is left; the time limit is the test's */
    }
    assert_gone(escaped);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

static int remove_victim(void **state)
{
    (void)state;
    return unlink(SL_VICTIM);
}

/* libuv keeps some descriptors from its first loop on, and a core limit must be there to be taken
 * away. */
static int warm_up(void **state)
{
    (void)state;
    struct rlimit core;
    if (!sl_tool_rig_copy_victim(SL_VICTIM_BUILT, SL_VICTIM) ||
        getrlimit(RLIMIT_CORE, &core) != 0) {
        return 1;
    }
    core.rlim_cur = core.rlim_max; /* so that the tool's 0 shows */
    if (setrlimit(RLIMIT_CORE, &core) != 0) {
        return 1;
    }
    sl_tool_rig_init(&rig, SL_LAUNCHER, NULL);
    sl_tool_rig_done(&rig);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    uint64_t write_fd = 0;
    if (argc > 1 && sl_parse_u64(sl_slice_str(argv[1]), 3, 1000, &write_fd) == SL_OK) {
        run_and_be_killed((int)write_fd);
    }
    const struct CMUnitTest tests[] = {
        TEST(output_and_exit_code_come_back),
        TEST(a_call_counts_with_its_output),
        TEST(a_nonzero_exit_is_a_failure_with_its_code),
        TEST(a_crash_names_its_signal),
        TEST(a_missing_program_is_a_failed_start),
        TEST(a_file_that_is_no_program_is_a_failed_start),
        TEST(a_program_is_found_in_path),
        TEST(a_tool_is_never_root_and_has_no_core),
        TEST(only_three_descriptors_are_open),
        TEST(the_environment_is_a_short_list),
        TEST(arguments_take_the_places_of_whole_words),
        TEST(a_dash_is_allowed_behind_the_double_dash),
        TEST(arguments_can_come_on_stdin),
        TEST(binary_output_becomes_text),
        TEST(a_flood_is_cut_off),
        TEST(a_cancel_ends_a_polite_tool_at_once),
        TEST(a_cancel_in_the_same_turn_as_the_start_works),
        TEST(a_tool_that_ignores_sigterm_is_killed),
        TEST(a_stopped_tool_is_ended),
        TEST(a_tool_that_takes_too_long_times_out_with_what_it_said),
        TEST(an_escaped_grandchild_dies_with_the_tool),
        TEST(an_escaped_grandchild_dies_with_a_cancel),
        TEST(pipes_that_stay_open_are_not_waited_for),
        TEST(a_crowd_in_many_sessions_is_killed),
        TEST(ten_tools_run_side_by_side),
        TEST(more_than_the_cap_wait_in_order_and_can_be_cancelled),
        TEST(a_tool_cannot_kill_its_supervisor),
        TEST(a_child_of_the_program_itself_is_left_alone),
        TEST(no_memory_ends_the_call),
        TEST(no_descriptors_is_a_failed_start),
        TEST(a_tool_does_not_survive_the_program),
        TEST(a_killed_supervisor_takes_its_tool_along),
        TEST(a_launcher_that_is_not_there_is_a_failed_start),
    };
    return cmocka_run_group_tests_name("tool_process", tests, warm_up, remove_victim);
}
