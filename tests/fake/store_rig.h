/* A store in a folder of its own, events whose bytes can be checked, and requests that are waited
 * for. */
#ifndef SL_TESTS_FAKE_STORE_RIG_H
#define SL_TESTS_FAKE_STORE_RIG_H

#include "runtime/base/loop_uv.h"
#include "runtime/store/sqlite_private.h"
#include "runtime/store/store.h"

enum { SL_RIG_PATH_BYTES = 256 };

struct sl_store_rig {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_store *store; /* NULL: closed */
    const char *vfs;        /* NULL: the system's */
    char folder[SL_RIG_PATH_BYTES], path[SL_RIG_PATH_BYTES];
    struct sl_store_sqlite_options options;
    struct sl_error err;
};

/* An empty folder; nothing is open. */
void sl_store_rig_init(struct sl_store_rig *rig);
/* Opens the store with rig->options, and must succeed; or tries to. */
void sl_store_rig_open(struct sl_store_rig *rig);
enum sl_status sl_store_rig_try_open(struct sl_store_rig *rig);
void sl_store_rig_close(struct sl_store_rig *rig);
/* Closes, and removes the folder. */
void sl_store_rig_done(struct sl_store_rig *rig);
/* Copies the files of a store, as they are, to the beginning of `rig`'s path. */
void sl_store_rig_copy_files(struct sl_store_rig *rig, const char *from_path);

/* `n_events` framed events of a run, in one segment; event k has `size` payload bytes, made of k
 * and `seed`. */
struct sl_segment *
sl_store_rig_events(uint64_t first_sequence, size_t n_events, size_t size, unsigned seed);
/* Is `bytes` what sl_store_rig_events() makes? */
bool sl_store_rig_are_events(
    struct sl_slice bytes, uint64_t first_sequence, size_t n_events, size_t size, unsigned seed);

/* What a call said, or if that is PENDING or AGAIN, what its answer says. */
enum sl_status
sl_store_rig_wait(struct sl_store_rig *rig, struct sl_store_request *request, enum sl_status said);
/* Made ready to be asked. */
struct sl_store_request sl_store_rig_request(struct sl_store_rig *rig);

/* ---- The usual, asked and answered ------------------------------------------------------------
 */

struct sl_store_run sl_store_rig_run(const char *run_id);
enum sl_status sl_store_rig_begin(
    struct sl_store_rig *rig, struct sl_store_log *log, const struct sl_store_run *run);
enum sl_status sl_store_rig_append(
    struct sl_store_rig *rig, struct sl_store_log *log, uint64_t first_sequence, size_t n_events);
/* Its terminal event is of seed 0 and 100 bytes, as those of the append. */
enum sl_status sl_store_rig_end(
    struct sl_store_rig *rig, struct sl_store_log *log, uint64_t sequence, uint64_t ended_ms);
/* Begins a run, appends, and ends it if asked; all must succeed. */
void sl_store_rig_whole_run(
    struct sl_store_rig *rig, const char *run_id, size_t n_events, uint64_t ended_ms);
enum sl_status
sl_store_rig_get(struct sl_store_rig *rig, struct sl_store_get *get, const char *run_id);
/* Reads all events and checks them; gives their number. `*ret_status`: how it ended. */
uint64_t
sl_store_rig_read_all(struct sl_store_rig *rig, const char *run_id, enum sl_status *ret_status);

#endif
