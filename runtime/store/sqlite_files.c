#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/store/sqlite_private.h"

/* The database itself is never opened here: closing any descriptor of it would drop the locks that
 * SQLite holds for this process. */

enum { LEAST_BYTES = 512, PATH_BYTES = 4096 };

static enum sl_status
fail_errno(struct sl_error *err, enum sl_status status, const char *path, const char *doing)
{
    const int code = errno;
    char text[128] = { 0 };
    const char *reason = strerror_r(code, text, sizeof(text));
    (void)sl_fail(err, status, "%s: %s: %s", path, doing, reason);
    if (err != NULL) {
        err->sys_errno = code;
    }
    return status;
}

static char *join(const char *path, const char *ending)
{
    const size_t size = strlen(path) + strlen(ending) + 1;
    char *text = sl_alloc(size);
    if (text != NULL) {
        (void)snprintf(text, size, "%s%s", path, ending);
    }
    return text;
}

/* ---- File systems ------------------------------------------------------------------------------
 */

const char *sl_sqlite_shared_file_system(unsigned long type)
{
    /* Numbers of statfs(2). FUSE is not among them: it says nothing about what is behind. */
    static const struct {
        unsigned long type;
        const char *name;
    } shared[] = {
        { 0x6969, "NFS" },        { 0x517B, "SMB" },       { 0xFE534D42, "SMB" },
        { 0xFF534D42, "CIFS" },   { 0x5346414F, "AFS" },   { 0x73757245, "Coda" },
        { 0x01021997, "9P" },     { 0x00C36400, "Ceph" },  { 0x0BD00BD0, "Lustre" },
        { 0x01161970, "GFS2" },   { 0x7461636F, "OCFS2" }, { 0x47504653, "GPFS" },
        { 0x19830326, "BeeGFS" }, { 0xAAD7AAEA, "PanFS" },
    };
    for (size_t i = 0; i < SL_COUNT(shared); i++) {
        if (shared[i].type == (type & 0xFFFFFFFF)) {
            return shared[i].name;
        }
    }
    return NULL;
}

/* The folder of `path`, in `room`. */
static const char *folder_of(const char *path, char room[PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return ".";
    }
    const size_t size = slash == path ? 1 : (size_t)(slash - path);
    (void)snprintf(room, PATH_BYTES, "%.*s", (int)size, path);
    return room;
}

static enum sl_status look_at_file_system(const char *path, struct sl_error *err)
{
    char room[PATH_BYTES];
    struct statfs look = { 0 };
    if (statfs(folder_of(path, room), &look) != 0) {
        return fail_errno(err, SL_UNAVAILABLE, path, "its folder");
    }
    const char *name = sl_sqlite_shared_file_system((unsigned long)look.f_type);
    if (name != NULL) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION, "%s: a store cannot be on %s, it needs a local disk", path,
            name);
    }
    return SL_OK;
}

static enum sl_status sync_folder(const char *path, struct sl_error *err)
{
    char room[PATH_BYTES];
    const int fd = open(folder_of(path, room), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        const enum sl_status status = fail_errno(err, SL_UNAVAILABLE, path, "its folder");
        if (fd >= 0) {
            (void)close(fd);
        }
        return status;
    }
    (void)close(fd);
    return SL_OK;
}

/* ---- The lock ----------------------------------------------------------------------------------
 */

static enum sl_status take_lock(struct sl_sqlite_files *files, struct sl_error *err)
{
    files->lock_fd = open(files->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (files->lock_fd < 0) {
        return fail_errno(err, SL_UNAVAILABLE, files->lock_path, "cannot be opened");
    }
    if (flock(files->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? sl_fail(
                         err, SL_FAILED_PRECONDITION, "%s: another sluiced has this store open",
                         files->path)
                   : fail_errno(err, SL_UNAVAILABLE, files->lock_path, "cannot be locked");
    }
    return SL_OK;
}

enum sl_status
sl_sqlite_files_init(struct sl_sqlite_files *files, const char *path, struct sl_error *err)
{
    *files = (struct sl_sqlite_files){ .lock_fd = -1 };
    if (strlen(path) == 0 || strlen(path) > PATH_BYTES - 64) {
        return sl_fail(err, SL_UNAVAILABLE, "the path of the store is empty or too long");
    }
    files->path = join(path, "");
    files->wal_path = join(path, "-wal");
    files->shm_path = join(path, "-shm");
    files->lock_path = join(path, ".lock");
    files->new_path = join(path, ".new");
    if (files->path == NULL || files->wal_path == NULL || files->shm_path == NULL ||
        files->lock_path == NULL || files->new_path == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "%s: no memory", path);
    }
    SL_TRY(look_at_file_system(path, err));
    return take_lock(files, err);
}

void sl_sqlite_files_done(struct sl_sqlite_files *files)
{
    if (files->lock_fd >= 0) {
        (void)close(files->lock_fd);
        files->lock_fd = -1;
    }
    files->path = sl_free(files->path);
    files->wal_path = sl_free(files->wal_path);
    files->shm_path = sl_free(files->shm_path);
    files->lock_path = sl_free(files->lock_path);
    files->new_path = sl_free(files->new_path);
}

static bool is_marked_open(const struct sl_sqlite_files *files)
{
    char mark = 0;
    return pread(files->lock_fd, &mark, 1, 0) == 1 && mark == 'o';
}

enum sl_status
sl_sqlite_files_mark(struct sl_sqlite_files *files, bool is_open, struct sl_error *err)
{
    const char mark = is_open ? 'o' : 'c';
    if (pwrite(files->lock_fd, &mark, 1, 0) != 1 || fsync(files->lock_fd) != 0) {
        return fail_errno(err, SL_UNAVAILABLE, files->lock_path, "cannot be written");
    }
    return is_open ? sync_folder(files->path, err) : SL_OK;
}

/* ---- What is there -----------------------------------------------------------------------------
 */

enum sl_status
sl_sqlite_files_check(const struct sl_sqlite_files *files, bool *ret_is_there, struct sl_error *err)
{
    struct stat look = { 0 };
    struct stat wal = { 0 };
    const bool has_wal = stat(files->wal_path, &wal) == 0;
    if (stat(files->path, &look) != 0) {
        if (errno != ENOENT) {
            return fail_errno(err, SL_UNAVAILABLE, files->path, "cannot be looked at");
        }
        if (has_wal && wal.st_size > 0) {
            return sl_fail(
                err, SL_DATA_LOSS, "%s: the database is missing, and its log is there",
                files->path);
        }
        *ret_is_there = false;
        return SL_OK;
    }
    if (!S_ISREG(look.st_mode)) {
        return sl_fail(err, SL_UNAVAILABLE, "%s: this is no file", files->path);
    }
    if (look.st_size < LEAST_BYTES) {
        return sl_fail(err, SL_DATA_LOSS, "%s: this is no database: it is too short", files->path);
    }
    if (is_marked_open(files) && !has_wal) {
        return sl_fail(
            err, SL_DATA_LOSS, "%s: the log %s is missing, and the store was not closed",
            files->path, files->wal_path);
    }
    if ((look.st_mode & 077) != 0 && chmod(files->path, 0600) != 0) {
        return fail_errno(err, SL_UNAVAILABLE, files->path, "its mode");
    }
    *ret_is_there = true;
    return SL_OK;
}

enum sl_status sl_sqlite_files_identify(struct sl_sqlite_files *files, struct sl_error *err)
{
    struct stat look = { 0 };
    if (stat(files->path, &look) != 0) {
        return fail_errno(err, SL_UNAVAILABLE, files->path, "cannot be looked at");
    }
    files->device = look.st_dev;
    files->inode = look.st_ino;
    return SL_OK;
}

bool sl_sqlite_files_are_same(const struct sl_sqlite_files *files)
{
    struct stat look = { 0 };
    return stat(files->path, &look) == 0 && look.st_dev == files->device &&
           look.st_ino == files->inode;
}

/* ---- Aside, and new ----------------------------------------------------------------------------
 */

enum sl_status sl_sqlite_files_quarantine(struct sl_sqlite_files *files, struct sl_error *err)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct tm date = { 0 };
    (void)gmtime_r(&now.tv_sec, &date);
    char when[32];
    (void)strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &date);
    char target[PATH_BYTES];
    for (int i = 0; i < 1000; i++) { /* of the same second */
        (void)snprintf(target, sizeof(target), "%s.damaged-%s-%d", files->path, when, i);
        if (access(target, F_OK) != 0) {
            break;
        }
    }
    if (rename(files->path, target) != 0 && errno != ENOENT) {
        return fail_errno(err, SL_UNAVAILABLE, files->path, "cannot be moved aside");
    }
    char *wal_target = join(target, "-wal");
    if (wal_target == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "%s: no memory", files->path);
    }
    const bool is_moved = rename(files->wal_path, wal_target) == 0 || errno == ENOENT;
    (void)sl_free(wal_target);
    if (!is_moved) {
        return fail_errno(err, SL_UNAVAILABLE, files->wal_path, "cannot be moved aside");
    }
    (void)unlink(files->shm_path); /* made anew of the other two */
    sl_log(
        SL_WARN, SL_LOG_STORE,
        "path=%s moved_to=%s msg=\"the store is damaged and was moved aside\"",
        SL_LOG_QUOTE(sl_slice_str(files->path)), SL_LOG_QUOTE(sl_slice_str(target)));
    return sl_sqlite_files_mark(files, false, err);
}

static void unlink_new(const struct sl_sqlite_files *files)
{
    static const char *const endings[] = { "", "-journal", "-wal", "-shm" };
    for (size_t i = 0; i < SL_COUNT(endings); i++) {
        char *path = join(files->new_path, endings[i]);
        if (path != NULL) {
            (void)unlink(path);
        }
        (void)sl_free(path);
    }
}

static enum sl_status fill_new(
    const struct sl_sqlite_files *files,
    const char *vfs,
    const struct sl_sqlite_schema *schema,
    struct sl_error *err)
{
    /* SQLite gives its other files the mode of this one. */
    const int fd = open(files->new_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fail_errno(err, SL_UNAVAILABLE, files->new_path, "cannot be made");
    }
    (void)close(fd);
    struct sl_sqlite_db db;
    int rc = sl_sqlite_db_open(&db, files->new_path, vfs, SL_SQLITE_WRITER, false);
    if (rc != SQLITE_OK) {
        return sl_fail(err, sl_sqlite_status(rc), "%s: %s", files->new_path, sl_sqlite_text(rc));
    }
    const enum sl_status status = sl_sqlite_schema_apply(&db, schema, files->new_path, err);
    if (status == SL_OK) {
        rc = sl_sqlite_exec(&db, "PRAGMA journal_mode = WAL");
    }
    (void)sqlite3_db_config(db.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    sl_sqlite_db_close(&db);
    if (status == SL_OK && rc != SQLITE_OK) {
        return sl_fail(err, sl_sqlite_status(rc), "%s: %s", files->new_path, sl_sqlite_text(rc));
    }
    return status;
}

enum sl_status sl_sqlite_files_create(
    const struct sl_sqlite_files *files,
    const char *vfs,
    const struct sl_sqlite_schema *schema,
    struct sl_error *err)
{
    unlink_new(files);
    (void)unlink(files->wal_path); /* empty, or there would be no new one */
    (void)unlink(files->shm_path);
    enum sl_status status = fill_new(files, vfs, schema, err);
    if (status == SL_OK && rename(files->new_path, files->path) != 0) {
        status = fail_errno(err, SL_UNAVAILABLE, files->path, "cannot be made");
    }
    if (status != SL_OK) {
        unlink_new(files);
        return status;
    }
    return sync_folder(files->path, err);
}
