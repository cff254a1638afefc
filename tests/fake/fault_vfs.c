#include "tests/fake/fault_vfs.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"

enum { PATH_BYTES = 512, SECTOR_BYTES = 512, WATCHED = 2 };

struct change {
    struct change *next;
    sqlite3_int64 at;
    size_t size; /* TRUNCATE: of no use */
    bool is_truncate;
    uint8_t bytes[];
};

struct watched {
    char path[PATH_BYTES];
    uint8_t *durable;
    size_t size;
    struct change *first, *last; /* pending, in order */
};

static struct {
    pthread_mutex_t lock;
    uint64_t n_calls, n_failed, fail_at;
    int rc;
    bool for_ever;
    bool is_watching;
    struct watched files[WATCHED];
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;

struct file {
    sqlite3_file base;
    struct watched *watched; /* NULL: not, or not yet */
    char path[PATH_BYTES];
};

static sqlite3_file *real_of(sqlite3_file *file)
{
    return (sqlite3_file *)(void *)((struct file *)(void *)file + 1);
}

/* Under the lock: SQLITE_OK, or what the call is to fail with. */
static int count_call(void)
{
    shared.n_calls++;
    if (shared.fail_at > 0 && (shared.n_calls == shared.fail_at ||
                               (shared.for_ever && shared.n_calls > shared.fail_at))) {
        shared.n_failed++;
        return shared.rc;
    }
    return SQLITE_OK;
}

/* ---- What is durable ---------------------------------------------------------------------------
 */

static struct watched *find_watched(const char *path)
{
    for (size_t i = 0; i < WATCHED && shared.is_watching; i++) {
        if (strcmp(shared.files[i].path, path) == 0) {
            return &shared.files[i];
        }
    }
    return NULL;
}

static void drop_changes(struct watched *file)
{
    while (file->first != NULL) {
        struct change *change = file->first;
        file->first = change->next;
        (void)sl_free(change);
    }
    file->last = NULL;
}

static void load_durable(struct watched *file)
{
    struct stat look = { 0 };
    drop_changes(file);
    file->durable = sl_free(file->durable);
    file->size = 0;
    const int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    (void)fstat(fd, &look);
    file->durable = sl_alloc((size_t)look.st_size + 1);
    assert(file->durable != NULL);
    const ssize_t n = pread(fd, file->durable, (size_t)look.st_size, 0);
    file->size = n < 0 ? 0 : (size_t)n;
    (void)close(fd); /* SQLite's locks on it go, too: nobody else is there */
}

/* Puts the changes into the durable image, all of them whole. */
static void settle(struct watched *file)
{
    for (const struct change *change = file->first; change != NULL; change = change->next) {
        const size_t end = (size_t)change->at + change->size;
        if (change->is_truncate) {
            file->size = (size_t)change->at < file->size ? (size_t)change->at : file->size;
            continue;
        }
        if (end > file->size) {
            uint8_t *larger = sl_realloc(file->durable, end + 1);
            assert(larger != NULL);
            memset(larger + file->size, 0, end - file->size);
            file->durable = larger;
            file->size = end;
        }
        memcpy(file->durable + change->at, change->bytes, change->size);
    }
    drop_changes(file);
}

static void
add_change(struct watched *file, sqlite3_int64 at, const void *bytes, size_t size, bool is_truncate)
{
    struct change *change = sl_alloc(sizeof(*change) + size);
    assert(change != NULL);
    *change = (struct change){ .at = at, .size = size, .is_truncate = is_truncate };
    if (size > 0) {
        memcpy(change->bytes, bytes, size);
    }
    if (file->last == NULL) {
        file->first = change;
    } else {
        file->last->next = change;
    }
    file->last = change;
}

/* ---- Calls -------------------------------------------------------------------------------------
 */

static int file_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int file_read(sqlite3_file *file, void *bytes, int size, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), bytes, size, at);
}

static int file_write(sqlite3_file *base, const void *bytes, int size, sqlite3_int64 at)
{
    struct file *file = (struct file *)(void *)base;
    (void)pthread_mutex_lock(&shared.lock);
    int rc = count_call();
    if (rc == SQLITE_OK) {
        rc = real_of(base)->pMethods->xWrite(real_of(base), bytes, size, at);
        struct watched *watched = find_watched(file->path);
        if (watched != NULL) {
            add_change(watched, at, bytes, (size_t)size, false);
        }
    }
    (void)pthread_mutex_unlock(&shared.lock);
    return rc;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct file *file = (struct file *)(void *)base;
    (void)pthread_mutex_lock(&shared.lock);
    int rc = count_call();
    if (rc == SQLITE_OK) {
        rc = real_of(base)->pMethods->xTruncate(real_of(base), size);
        struct watched *watched = find_watched(file->path);
        if (watched != NULL) {
            add_change(watched, size, NULL, 0, true);
        }
    }
    (void)pthread_mutex_unlock(&shared.lock);
    return rc;
}

static int file_sync(sqlite3_file *base, int flags)
{
    struct file *file = (struct file *)(void *)base;
    (void)pthread_mutex_lock(&shared.lock);
    int rc = count_call();
    if (rc == SQLITE_OK) {
        rc = real_of(base)->pMethods->xSync(real_of(base), flags);
        struct watched *watched = find_watched(file->path);
        if (watched != NULL) {
            settle(watched);
        }
    }
    (void)pthread_mutex_unlock(&shared.lock);
    return rc;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), ret_size);
}

static int file_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int file_check_lock(sqlite3_file *file, int *ret_is_locked)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret_is_locked);
}

static int file_control(sqlite3_file *file, int what, void *argument)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), what, argument);
}

static int file_sector(sqlite3_file *file)
{
    (void)file;
    return SECTOR_BYTES;
}

static int file_characteristics(sqlite3_file *file)
{
    (void)file;
    return 0; /* no promise: also not that of untorn neighbours */
}

static int file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret_map)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, ret_map);
}

static int file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int file_shm_unmap(sqlite3_file *file, int must_delete)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), must_delete);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

static int
vfs_open(sqlite3_vfs *self, const char *path, sqlite3_file *base, int flags, int *ret_flags)
{
    struct file *file = (struct file *)(void *)base;
    (void)self;
    file->base.pMethods = NULL;
    (void)snprintf(file->path, sizeof(file->path), "%s", path == NULL ? "" : path);
    const int rc = real_vfs->xOpen(real_vfs, path, real_of(base), flags, ret_flags);
    if (rc == SQLITE_OK) {
        file->base.pMethods = &methods;
    }
    return rc;
}

/* ---- Public ------------------------------------------------------------------------------------
 */

void sl_fault_vfs_init(void)
{
    if (real_vfs == NULL) {
        real_vfs = sqlite3_vfs_find(NULL);
        vfs = *real_vfs; /* what is not a file's goes to the real one as it is */
        vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
        vfs.zName = SL_FAULT_VFS;
        vfs.pNext = NULL;
        vfs.xOpen = vfs_open;
        (void)sqlite3_vfs_register(&vfs, 0);
    }
    (void)pthread_mutex_lock(&shared.lock);
    shared.is_watching = false;
    for (size_t i = 0; i < WATCHED; i++) {
        drop_changes(&shared.files[i]);
        shared.files[i].durable = sl_free(shared.files[i].durable);
    }
    (void)pthread_mutex_unlock(&shared.lock);
    sl_fault_vfs_fail(0, SQLITE_OK, false);
}

void sl_fault_vfs_fail(uint64_t k, int rc, bool for_ever)
{
    (void)pthread_mutex_lock(&shared.lock);
    shared.n_calls = shared.n_failed = 0;
    shared.fail_at = k;
    shared.rc = rc;
    shared.for_ever = for_ever;
    (void)pthread_mutex_unlock(&shared.lock);
}

uint64_t sl_fault_vfs_count(void)
{
    (void)pthread_mutex_lock(&shared.lock);
    const uint64_t n_calls = shared.n_calls;
    (void)pthread_mutex_unlock(&shared.lock);
    return n_calls;
}

uint64_t sl_fault_vfs_failed(void)
{
    (void)pthread_mutex_lock(&shared.lock);
    const uint64_t n_failed = shared.n_failed;
    (void)pthread_mutex_unlock(&shared.lock);
    return n_failed;
}

void sl_fault_vfs_watch(const char *path)
{
    (void)pthread_mutex_lock(&shared.lock);
    shared.is_watching = true;
    (void)snprintf(shared.files[0].path, PATH_BYTES, "%s", path);
    (void)snprintf(shared.files[1].path, PATH_BYTES, "%s-wal", path);
    load_durable(&shared.files[0]);
    load_durable(&shared.files[1]);
    (void)pthread_mutex_unlock(&shared.lock);
}

static void put(int fd, const uint8_t *bytes, size_t size, sqlite3_int64 at)
{
    const ssize_t n = pwrite(fd, bytes, size, at);
    assert(n == (ssize_t)size);
    (void)n;
}

static void cut_file(const struct watched *file, const char *to_path, uint64_t *seed)
{
    const int fd = open(to_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0);
    put(fd, file->durable, file->size, 0);
    /* How much of what is pending has come to the disk: none, all, or what chance says. */
    const uint64_t chance = sl_random_next(seed) % 3;
    for (const struct change *change = file->first; change != NULL; change = change->next) {
        if (change->is_truncate) {
            if (chance == 1 || (chance == 2 && sl_random_next(seed) % 2 == 0)) {
                (void)!ftruncate(fd, change->at);
            }
            continue;
        }
        for (size_t i = 0; i < change->size; i += SECTOR_BYTES) {
            const size_t left = change->size - i;
            if (chance == 1 || (chance == 2 && sl_random_next(seed) % 2 == 0)) {
                put(fd, change->bytes + i, left < SECTOR_BYTES ? left : SECTOR_BYTES,
                    change->at + (sqlite3_int64)i);
            }
        }
    }
    (void)close(fd);
}

void sl_fault_vfs_cut(const char *to_path, uint64_t seed)
{
    char wal_path[PATH_BYTES];
    (void)snprintf(wal_path, sizeof(wal_path), "%s-wal", to_path);
    (void)pthread_mutex_lock(&shared.lock);
    assert(shared.is_watching);
    cut_file(&shared.files[0], to_path, &seed);
    cut_file(&shared.files[1], wal_path, &seed);
    (void)pthread_mutex_unlock(&shared.lock);
}
