/* The real loop: sl_loop over libuv. One per thread. */
#ifndef SL_RUNTIME_BASE_LOOP_UV_H
#define SL_RUNTIME_BASE_LOOP_UV_H

#include <uv.h>

#include "runtime/base/loop.h"
#include "runtime/base/status.h"

struct sl_loop_uv;

/* Gives a loop. Owns: the caller; sl_loop_uv_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_loop_uv_new(uint32_t index, struct sl_loop_uv **ret_loop);

// install: off
/* Timers then fire when they are due, not at the next whole millisecond; each arming is a system
 * call. For what measures. Before the first run. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_loop_uv_set_precise(struct sl_loop_uv *loop);

// install: on
/* The same loop, as everybody else knows it. */
struct sl_loop *sl_loop_uv_base(struct sl_loop_uv *loop);

// install: off
/* libuv's handle of a loop that was made here: for net, http and process, which own uv handles. */
uv_loop_t *sl_loop_uv_handle(struct sl_loop *loop);

// install: on
/* Runs until sl_loop_uv_stop(); the calling thread becomes the loop's. A second run is allowed. */
void sl_loop_uv_run(struct sl_loop_uv *loop);

/* One turn: waits at most `timeout_ms` (-1: until something happens; 0: not at all). */
void sl_loop_uv_step(struct sl_loop_uv *loop, int timeout_ms);

/* Readable when sl_loop_uv_step(0) has work; -1 never happens on Linux. */
int sl_loop_uv_fd(struct sl_loop_uv *loop);

/* Milliseconds until a step is due even if the descriptor stays quiet; -1: no timer runs. */
int sl_loop_uv_timeout(struct sl_loop_uv *loop);

/* Ends sl_loop_uv_run() after this turn. Thread: any. */
void sl_loop_uv_stop(struct sl_loop_uv *loop);

/* Closes what the loop itself opened and runs the close callbacks; every other handle must have
 * been closed by its owner. Accepts NULL; gives NULL. */
struct sl_loop_uv *sl_loop_uv_free(struct sl_loop_uv *loop);

#endif
