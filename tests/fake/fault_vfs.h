/* A SQLite file system over the real one, whose writes fail when a test says so, and which knows
 * what would be left of its files after a power cut.
 *
 *   write, write, sync ─▶ durable     write, write ─▶ pending: each sector of 512 bytes of each of
 *                                     them may be there afterwards, or not, in any order
 *
 * One for the process; all of it may be called by any thread. */
#ifndef SL_TESTS_FAKE_FAULT_VFS_H
#define SL_TESTS_FAKE_FAULT_VFS_H

#include <stdbool.h>
#include <stdint.h>

#define SL_FAULT_VFS "fault"

/* Registers it, once; counts from 0 again, no fault, nothing known of any file. */
void sl_fault_vfs_init(void);
/* The k-th write, truncation or sync from here on fails with SQLite's code `rc`, or with `for_ever`
 * that one and all later ones. 0: none does. Counts from 0 again. */
void sl_fault_vfs_fail(uint64_t k, int rc, bool for_ever);
/* Writes, truncations and syncs since the last call of _init or _fail. */
uint64_t sl_fault_vfs_count(void);
/* How often something failed since then. */
uint64_t sl_fault_vfs_failed(void);
/* From here on files are watched: what they have now is durable. Those at `path` and `path`-wal. */
void sl_fault_vfs_watch(const char *path);
/* Writes what a power cut would leave of them now to the same names at `to_path`. `seed` decides
 * over what is pending. */
void sl_fault_vfs_cut(const char *to_path, uint64_t seed);

#endif
