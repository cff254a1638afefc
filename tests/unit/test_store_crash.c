/* A process with a store is killed again and again: RL-X1 and RL-S5, the store's part of them. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/base/random.h"
#include "tests/fake/store_rig.h"

enum { KILLS = 6, MAX_RUNS = 4096, MAX_LINES = 600, ID_BYTES = 32 };

/* What the victim said: the last number of each run. */
static struct said {
    char run_id[ID_BYTES];
    uint64_t last_sequence;
    bool is_ended;
} said[MAX_RUNS];
static size_t n_said;

static struct sl_store_rig rig;

static struct said *find_said(struct sl_slice run_id)
{
    for (size_t i = n_said; i > 0; i--) {
        if (sl_slice_equals(run_id, said[i - 1].run_id)) {
            return &said[i - 1];
        }
    }
    assert_true(n_said < MAX_RUNS);
    struct said *run = &said[n_said++];
    *run = (struct said){ .last_sequence = 0 };
    (void)snprintf(run->run_id, sizeof(run->run_id), "%.*s", SL_SLICE_FMT(run_id));
    return run;
}

/* "RUN LAST" or "RUN LAST end" */
static void note_line(char *line)
{
    char *number = strchr(line, ' ');
    assert_non_null(number);
    struct said *run = find_said(sl_slice_of(line, (size_t)(number - line)));
    char *end = strchr(++number, ' ');
    const size_t size = end == NULL ? strlen(number) : (size_t)(end - number);
    assert_int_equal(
        sl_parse_u64(sl_slice_of(number, size), 0, UINT64_MAX, &run->last_sequence), SL_OK);
    run->is_ended = end != NULL;
}

/* Runs the victim until it has said so many lines; kills it, and reads what it had said by then. */
static void run_victim(uint64_t n_lines)
{
    int ends[2];
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    static char program[] = SL_STORE_VICTIM;
    char *arguments[] = { program, rig.path, NULL };
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO), 0);
    assert_int_equal(posix_spawn(&pid, program, &actions, NULL, arguments, NULL), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    FILE *lines = fdopen(ends[0], "r");
    assert_non_null(lines);
    char line[128];
    uint64_t n_read = 0;
    while (fgets(line, sizeof(line), lines) != NULL) {
        char *end = strchr(line, '\n');
        if (end != NULL) { /* else it was killed in the middle of it */
            *end = '\0';
            note_line(line);
        }
        if (++n_read == n_lines) {
            assert_int_equal(kill(pid, SIGKILL), 0);
        }
    }
    (void)fclose(lines);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* Everything that was acknowledged is there; nothing is torn; an end is whole or not there. */
static void check_run(const struct said *run)
{
    enum sl_status status = SL_OK;
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, run->run_id), SL_OK);
    assert_true(get.run.last_sequence >= run->last_sequence);
    assert_int_equal(sl_store_rig_read_all(&rig, run->run_id, &status), get.run.last_sequence);
    assert_int_equal(status, SL_OK);
    if (run->is_ended) {
        assert_int_equal(get.run.last_sequence, run->last_sequence);
    }
    const bool is_ended = get.run.ended_ms > 0;
    assert_true(is_ended || !run->is_ended);
    assert_int_equal(is_ended ? SL_STORE_STATE_DONE : SL_STORE_STATE_RUNNING, get.run.state);
    assert_int_equal(get.run.terminal.size, is_ended ? 105 : 0);
    sl_store_request_done(&get.request);
}

/* Ends what the victim left. */
static size_t close_orphans(void)
{
    for (size_t n_runs = 0;; n_runs++) {
        struct sl_store_log log = { 0 };
        struct sl_store_recover recover = { .request = sl_store_rig_request(&rig), .log = &log };
        const enum sl_status status =
            sl_store_rig_wait(&rig, &recover.request, sl_store_recover(rig.store, &recover));
        if (status == SL_END) {
            return n_runs;
        }
        assert_int_equal(status, SL_OK);
        struct said *run = find_said(sl_slice_str(recover.run.run_id));
        sl_store_request_done(&recover.request);
        assert_int_equal(sl_store_rig_end(&rig, &log, log.stored + 1, 1), SL_OK);
        run->last_sequence = log.stored + 1;
        run->is_ended = true;
    }
}

static void what_was_acknowledged_outlives_a_kill(void **state)
{
    (void)state;
    uint64_t seed = 1128;
    sl_store_rig_init(&rig);
    for (int i = 0; i < KILLS; i++) {
        run_victim(1 + sl_random_next(&seed) % MAX_LINES);
        sl_store_rig_open(&rig);
        assert_int_equal(sl_store_epoch(rig.store), 2 * i + 2);
        for (size_t k = 0; k < n_said; k++) {
            check_run(&said[k]);
        }
        assert_in_range(close_orphans(), 0, 8);
        assert_int_equal(sl_store_n_open(rig.store), 0);
        sl_store_rig_close(&rig);
    }
    sl_store_rig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_outlives_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
