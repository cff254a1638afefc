/* What a SQLite store does with its file: opening, schemas, damage. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/fake/store_rig.h"

static struct sl_store_rig rig;

static int new_rig(void **state)
{
    (void)state;
    sl_store_rig_init(&rig);
    return 0;
}

static int end_rig(void **state)
{
    (void)state;
    sl_store_rig_done(&rig);
    return 0;
}

/* With the store closed. */
static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static const char *name(const char *ending)
{
    static char path[SL_RIG_PATH_BYTES + 32];
    (void)snprintf(path, sizeof(path), "%s%s", rig.path, ending);
    return path;
}

static void write_file(const char *path, off_t at, const void *bytes, size_t size)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, at), size);
    (void)close(fd);
}

static int count_files(const char *part)
{
    int n_files = 0;
    DIR *folder = opendir(rig.folder);
    assert_non_null(folder);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        n_files += strstr(entry->d_name, part) != NULL ? 1 : 0;
    }
    (void)closedir(folder);
    return n_files;
}

static void expect_refusal(enum sl_status status, const char *part)
{
    assert_int_equal(sl_store_rig_try_open(&rig), status);
    assert_int_equal(rig.err.status, status);
    assert_non_null(strstr(rig.err.text, rig.path));
    assert_non_null(strstr(rig.err.text, part));
    assert_null(strchr(rig.err.text, '\n'));
}

/* ---- Opening -----------------------------------------------------------------------------------
 */

static void its_files_are_for_nobody_else(void **state)
{
    (void)state;
    static const char *const endings[] = { "", "-wal", "-shm", ".lock" };
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    for (size_t i = 0; i < SL_COUNT(endings); i++) {
        struct stat look;
        assert_int_equal(stat(name(endings[i]), &look), 0);
        assert_int_equal(look.st_mode & 0777, 0600);
    }
    sl_store_rig_close(&rig);
    assert_int_equal(chmod(rig.path, 0644), 0);
    sl_store_rig_open(&rig);
    struct stat look;
    assert_int_equal(stat(rig.path, &look), 0);
    assert_int_equal(look.st_mode & 0777, 0600);
}

static void a_store_that_is_closed_is_one_file(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    assert_int_equal(sl_store_epoch(rig.store), 1);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    sl_store_rig_close(&rig);
    assert_int_equal(count_files("s.db"), 2);
    enum sl_status status = SL_OK;
    sl_store_rig_open(&rig);
    assert_int_equal(sl_store_epoch(rig.store), 2);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 3);
}

/* RL-S8 */
static void a_second_store_on_the_same_file_is_refused(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    struct sl_store *second = NULL;
    struct sl_error err;
    assert_int_equal(sl_store_sqlite_new(&rig.options, &second, &err), SL_FAILED_PRECONDITION);
    assert_non_null(strstr(err.text, rig.path));
    assert_null(second);
    sl_store_rig_whole_run(&rig, "r1", 3, 1); /* the first is not disturbed */
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig);
}

/* RL-S8 */
static void file_systems_of_networks_are_known(void **state)
{
    (void)state;
    assert_string_equal(sl_sqlite_shared_file_system(0x6969), "NFS");
    assert_string_equal(sl_sqlite_shared_file_system(0xFF534D42), "CIFS");
    assert_string_equal(sl_sqlite_shared_file_system(0xFE534D42), "SMB");
    assert_string_equal(
        sl_sqlite_shared_file_system((unsigned long)-0xACB2BE), "CIFS"); /* extended */
    assert_null(sl_sqlite_shared_file_system(0xEF53));                   /* ext4 */
    assert_null(sl_sqlite_shared_file_system(0x01021994));               /* tmpfs */
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    (void)state;
    rig.options.path = "/tmp/sluice-no-such-folder/s.db";
    assert_int_equal(sl_store_rig_try_open(&rig), SL_UNAVAILABLE);
    assert_non_null(strstr(rig.err.text, "/tmp/sluice-no-such-folder/s.db"));
}

/* RL-S8 */
static void a_file_that_was_replaced_is_not_written_any_more(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    char other[SL_RIG_PATH_BYTES + 8];
    (void)snprintf(other, sizeof(other), "%s.other", rig.path);
    write_file(other, 0, "another", 7);
    assert_int_equal(rename(other, rig.path), 0);
    enum sl_status status = SL_OK;
    uint64_t sequence = 1;
    for (int i = 0; i < 100 && status == SL_OK; i++) { /* until the next checkpoint */
        status = sl_store_rig_append(&rig, &log, sequence, 2000);
        sequence += 2000;
    }
    assert_int_equal(status, SL_UNAVAILABLE);
    assert_int_equal(sl_store_rig_append(&rig, &log, log.stored + 1, 1), SL_UNAVAILABLE);
}

/* RL-S1 */
static void no_run_begins_when_the_disk_is_nearly_full(void **state)
{
    (void)state;
    rig.options.min_free_percent = 100; /* no disk is that empty */
    sl_store_rig_open(&rig);
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_store_n_open(rig.store), 0);
}

/* RL-S3 */
static void a_lock_of_another_process_is_waited_for_and_then_given_up(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 1), SL_UNAVAILABLE);
    struct sl_store_stats stats;
    sl_store_stats(rig.store, &stats);
    assert_int_equal(stats.failed_commits, 1);
    assert_true(stats.is_failing);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 1), SL_OK);
    sl_store_stats(rig.store, &stats);
    assert_false(stats.is_failing);
    (void)sqlite3_close(db);
}

static uint64_t pragma(struct sl_sqlite_db *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db->db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    const uint64_t value = sl_sqlite_number(statement, 0);
    (void)sqlite3_finalize(statement);
    return value;
}

/* RL-S7 */
static void readers_neither_write_nor_checkpoint(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    struct sl_sqlite *store = SL_CONTAINER(rig.store, struct sl_sqlite, base);
    assert_int_equal(store->n_readers, 2);
    for (unsigned i = 0; i < store->n_readers; i++) {
        struct sl_sqlite_reader *reader = &store->readers[i];
        int no_checkpoint = 0;
        (void)pthread_mutex_lock(&reader->lock);
        const int rc = sl_sqlite_exec(&reader->db, "CREATE TABLE x (y)");
        const uint64_t n_pages = pragma(&reader->db, "PRAGMA wal_autocheckpoint");
        (void)sqlite3_db_config(
            reader->db.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1, &no_checkpoint);
        (void)pthread_mutex_unlock(&reader->lock); /* before anything can fail */
        assert_int_equal(rc & 0xFF, SQLITE_READONLY);
        assert_int_equal(n_pages, 0);
        assert_int_equal(no_checkpoint, 1);
    }
}

static void the_log_does_not_grow_for_ever(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    const struct sl_store_run run = sl_store_rig_run("r1");
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    for (uint64_t i = 0; i < 80; i++) { /* 16.8 MB */
        assert_int_equal(sl_store_rig_append(&rig, &log, i * 2000 + 1, 2000), SL_OK);
    }
    struct stat look;
    assert_int_equal(stat(name("-wal"), &look), 0);
    assert_in_range(look.st_size, 1, 8000000);
}

/* ---- Schemas -----------------------------------------------------------------------------------
 */

static struct sl_sqlite_schema later;
static const char *later_steps[8];

/* The real schema with steps behind it. */
static const struct sl_sqlite_schema *
make_later(const char *step, const char *second, uint32_t min_reader)
{
    const uint32_t n_steps = sl_sqlite_schema.n_steps;
    memcpy(later_steps, sl_sqlite_schema.steps, n_steps * sizeof(*later_steps));
    later_steps[n_steps] = step;
    later_steps[n_steps + 1] = second;
    later = (struct sl_sqlite_schema){ .steps = later_steps,
                                       .n_steps = n_steps + (second == NULL ? 1 : 2),
                                       .min_reader = min_reader };
    return &later;
}

static enum sl_status try_schema(const struct sl_sqlite_schema *schema)
{
    return sl_sqlite_new(&rig.options, schema, NULL, &rig.store, &rig.err);
}

/* Reliability 4.2: version N-1 opens N's store, and N that of N-1. */
static void the_version_before_uses_what_this_one_leaves(void **state)
{
    (void)state;
    enum sl_status status = SL_OK;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    sl_store_rig_close(&rig);
    const struct sl_sqlite_schema *next = make_later(
        "ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';"
        "CREATE TABLE hats (run INTEGER PRIMARY KEY)",
        NULL, 1);
    assert_int_equal(try_schema(next), SL_OK);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 3);
    sl_store_rig_whole_run(&rig, "r2", 3, 1);
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r3", 3, 1);
    assert_int_equal(sl_store_rig_read_all(&rig, "r2", &status), 3);
    sl_store_rig_close(&rig);
    assert_int_equal(try_schema(next), SL_OK); /* nothing is done twice */
    assert_int_equal(sl_store_rig_read_all(&rig, "r3", &status), 3);
}

static void a_version_that_is_too_new_is_refused(void **state)
{
    (void)state;
    const uint32_t n_steps = sl_sqlite_schema.n_steps;
    assert_int_equal(
        try_schema(make_later("CREATE TABLE hats (run INTEGER)", NULL, n_steps + 1)), SL_OK);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    sl_store_rig_close(&rig);
    rig.options.quarantine = true; /* it is not damaged */
    expect_refusal(SL_FAILED_PRECONDITION, "newer");
    assert_int_equal(count_files("damaged"), 0);
    enum sl_status status = SL_OK;
    assert_int_equal(try_schema(&later), SL_OK);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 3);
}

/* RL-G18, of this store */
static void a_migration_that_fails_leaves_the_store_as_it_was(void **state)
{
    (void)state;
    enum sl_status status = SL_OK;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    sl_store_rig_close(&rig);
    assert_int_not_equal(
        try_schema(make_later("CREATE TABLE hats (run INTEGER)", "CREATE TABLE runs (x)", 1)),
        SL_OK);
    assert_int_equal(
        try_schema(make_later("CREATE TABLE hats (run INTEGER)", "CREATE TABLE shoes (x)", 1)),
        SL_OK);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 3);
}

/* ---- Damage: RL-S4 -----------------------------------------------------------------------------
 */

static void what_is_no_store_is_refused(void **state)
{
    (void)state;
    write_file(rig.path, 0, "", 0);
    expect_refusal(SL_DATA_LOSS, "too short");
    char text[2048];
    memset(text, 'x', sizeof(text));
    write_file(rig.path, 0, text, sizeof(text));
    expect_refusal(SL_DATA_LOSS, "not a database");
    assert_int_equal(unlink(rig.path), 0);
    run_sql("CREATE TABLE mine (x)");
    expect_refusal(SL_DATA_LOSS, "no store");
    assert_int_equal(unlink(rig.path), 0);
    write_file(name("-wal"), 0, text, sizeof(text));
    expect_refusal(SL_DATA_LOSS, "missing");
}

static void a_database_that_was_cut_is_refused(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 3000, 1);
    sl_store_rig_close(&rig);
    struct stat look;
    assert_int_equal(stat(rig.path, &look), 0);
    assert_int_equal(truncate(rig.path, look.st_size / 2), 0);
    expect_refusal(SL_DATA_LOSS, "");
}

/* Nobody would look at this page before the first conversation is asked for. */
static void a_damaged_page_is_found_when_the_store_opens(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    sl_store_rig_close(&rig);
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(
            db, "SELECT rootpage FROM sqlite_master WHERE name = 'sessions'", -1, &statement, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    const off_t page = (off_t)sl_sqlite_number(statement, 0);
    (void)sqlite3_finalize(statement);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    write_file(rig.path, (page - 1) * 4096, "xxxxxxxx", 8);
    expect_refusal(SL_DATA_LOSS, "damaged");
}

static void a_log_that_is_missing_shows(void **state)
{
    (void)state;
    struct sl_store_rig copy;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    sl_store_rig_init(&copy);
    sl_store_rig_copy_files(&copy, rig.path); /* as after a crash */
    sl_store_rig_close(&rig);
    const struct sl_store_rig first = rig;
    rig = copy;
    rig.options.path = rig.path;
    assert_int_equal(unlink(name("-wal")), 0);
    expect_refusal(SL_DATA_LOSS, "missing");
    /* With it everything is there. */
    sl_store_rig_copy_files(&rig, first.path);
    sl_store_rig_done(&rig);
    rig = first;
    rig.options.path = rig.path;
}

static void a_damaged_store_is_moved_aside_on_request(void **state)
{
    (void)state;
    char text[4096];
    memset(text, 'x', sizeof(text));
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 3, 1);
    sl_store_rig_close(&rig);
    write_file(rig.path, 0, text, sizeof(text));
    expect_refusal(SL_DATA_LOSS, "");
    rig.options.quarantine = true;
    sl_store_rig_open(&rig);
    assert_int_equal(count_files("damaged"), 1);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_NOT_FOUND);
    sl_store_rig_whole_run(&rig, "r2", 3, 1);
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig); /* a sound one stays where it is */
    assert_int_equal(count_files("damaged"), 1);
    assert_int_equal(sl_store_rig_get(&rig, &get, "r2"), SL_OK);
    sl_store_request_done(&get.request);
}

static void a_damaged_row_is_the_loss_of_its_run_only(void **state)
{
    (void)state;
    enum sl_status status = SL_OK;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 2000, 1);
    sl_store_rig_whole_run(&rig, "r2", 2000, 1);
    struct sl_store_session session = { "acme", "helper", "s1", sl_slice_str("hello") };
    struct sl_store_save save = { .request = sl_store_rig_request(&rig), .session = &session };
    assert_int_equal(
        sl_store_rig_wait(&rig, &save.request, sl_store_save(rig.store, &save)), SL_OK);
    sl_store_rig_close(&rig);
    run_sql("UPDATE events SET crc = crc + 1 WHERE run = 1 AND first_sequence > 1"
            " AND last_sequence < 2000;"
            "UPDATE sessions SET messages = 'jello'");
    sl_store_rig_open(&rig);
    const uint64_t n_good = sl_store_rig_read_all(&rig, "r1", &status);
    assert_int_equal(status, SL_DATA_LOSS);
    assert_in_range(n_good, 100, 1000); /* what is before it is given */
    assert_int_equal(sl_store_rig_read_all(&rig, "r2", &status), 2000);
    assert_int_equal(status, SL_OK);
    struct sl_store_load load = { .request = sl_store_rig_request(&rig),
                                  .tenant = "acme",
                                  .agent = "helper",
                                  .session_id = "s1" };
    assert_int_equal(
        sl_store_rig_wait(&rig, &load.request, sl_store_load(rig.store, &load)), SL_DATA_LOSS);
    assert_int_equal(load.messages.size, 0);
}

static void a_row_that_is_missing_is_a_loss_and_no_gap(void **state)
{
    (void)state;
    enum sl_status status = SL_OK;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r1", 2000, 1);
    sl_store_rig_whole_run(&rig, "r2", 3, 1);
    sl_store_rig_close(&rig);
    run_sql("DELETE FROM events WHERE run = 1 AND first_sequence > 1 AND last_sequence < 1999;"
            "DELETE FROM events WHERE run = 2 AND last_sequence = 3");
    sl_store_rig_open(&rig);
    (void)sl_store_rig_read_all(&rig, "r1", &status);
    assert_int_equal(status, SL_DATA_LOSS);
    assert_int_equal(sl_store_rig_read_all(&rig, "r2", &status), 2);
    assert_int_equal(status, SL_DATA_LOSS);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r2"), SL_OK); /* the run is known all the same */
    assert_int_equal(get.run.terminal.size, 0);
    sl_store_request_done(&get.request);
}

/* The store opens or says that it is damaged; a run comes whole or is lost; nothing else. */
static void flipped_bytes_never_become_events(void **state)
{
    (void)state;
    uint64_t seed = 42;
    int n_refused = 0;
    int n_lost = 0;
    sl_store_rig_open(&rig);
    for (int i = 0; i < 8; i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%d", i);
        sl_store_rig_whole_run(&rig, run_id, 400, 1);
    }
    sl_store_rig_close(&rig);
    struct stat look;
    assert_int_equal(stat(rig.path, &look), 0);
    static uint8_t whole[4 * 1024 * 1024];
    const int fd = open(rig.path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, whole, sizeof(whole)), look.st_size);
    (void)close(fd);
    for (int round = 0; round < 30; round++) {
        write_file(rig.path, 0, whole, (size_t)look.st_size);
        for (int i = 0; i < 3; i++) {
            const uint64_t random = sl_random_next(&seed);
            const off_t at = (off_t)(random % (uint64_t)look.st_size);
            const uint8_t byte = (uint8_t)(whole[at] ^ (1 + (random >> 32) % 255));
            write_file(rig.path, at, &byte, 1);
        }
        const enum sl_status opened = sl_store_rig_try_open(&rig);
        if (opened != SL_OK) {
            assert_true(
                opened == SL_DATA_LOSS || opened == SL_FAILED_PRECONDITION ||
                opened == SL_UNAVAILABLE);
            n_refused++;
            continue;
        }
        for (int i = 0; i < 8; i++) {
            char run_id[16];
            enum sl_status status = SL_OK;
            (void)snprintf(run_id, sizeof(run_id), "r%d", i);
            const uint64_t n = sl_store_rig_read_all(&rig, run_id, &status);
            assert_true(
                status == SL_OK || status == SL_DATA_LOSS || status == SL_NOT_FOUND ||
                status == SL_OUT_OF_RANGE);
            assert_true(n == 400 || status != SL_OK || n < 400);
            n_lost += status == SL_OK ? 0 : 1;
        }
        sl_store_rig_close(&rig);
    }
    assert_true(n_refused + n_lost > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_rig, end_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(its_files_are_for_nobody_else),
        TEST(a_store_that_is_closed_is_one_file),
        TEST(a_second_store_on_the_same_file_is_refused),
        TEST(file_systems_of_networks_are_known),
        TEST(a_folder_that_is_not_there_is_named),
        TEST(a_file_that_was_replaced_is_not_written_any_more),
        TEST(no_run_begins_when_the_disk_is_nearly_full),
        TEST(a_lock_of_another_process_is_waited_for_and_then_given_up),
        TEST(readers_neither_write_nor_checkpoint),
        TEST(the_log_does_not_grow_for_ever),
        TEST(the_version_before_uses_what_this_one_leaves),
        TEST(a_version_that_is_too_new_is_refused),
        TEST(a_migration_that_fails_leaves_the_store_as_it_was),
        TEST(what_is_no_store_is_refused),
        TEST(a_database_that_was_cut_is_refused),
        TEST(a_damaged_page_is_found_when_the_store_opens),
        TEST(a_log_that_is_missing_shows),
        TEST(a_damaged_store_is_moved_aside_on_request),
        TEST(a_damaged_row_is_the_loss_of_its_run_only),
        TEST(a_row_that_is_missing_is_a_loss_and_no_gap),
        TEST(flipped_bytes_never_become_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
