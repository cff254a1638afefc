/* One run on a fake loop, with a fake model and fake tools, and what its reader sees of it, as
 * text:
 *
 *   "start 1/10|text hello|complete 1 END_TURN|done hello" */
#ifndef SL_TESTS_FAKE_EXEC_RIG_H
#define SL_TESTS_FAKE_EXEC_RIG_H

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/buf.h"
#include "runtime/exec/agent.h"
#include "runtime/exec/order.h"
#include "runtime/exec/run.h"
#include "tests/fake/fake_loop.h"
#include "tests/fake/fake_model.h"
#include "tests/fake/fake_tool.h"

struct sl_exec_rig {
    struct sl_fake_loop loop;
    struct sl_limits limits;
    struct sl_models models;
    struct sl_tools tools;
    struct sl_store *store;
    struct sl_exec_stats stats;
    struct sl_run_env env;
    struct sl_agents *agents;
    struct sl_run_settings settings; /* changed before _start */
    struct sl_history history;       /* the context, before _start; what was said, at the end */
    const char *tenant, *session_id, *request_id;
    struct sl_slice digest;
    struct sl_store *session_store; /* with a session */
    size_t n_settled;
    size_t n_events_when_settled; /* that were read */
    const struct sl_store_pair *metadata;
    size_t n_metadata;
    struct sl_credentials *credentials; /* the run takes them */
    const char *caller;                 /* before _start, as the next two; NULL: not known */
    struct sl_tool *client_tools[4];
    size_t n_client_tools;
    struct sl_run *run;
    struct sl_event_cursor cursor;
    bool is_reading; /* what comes is read at once */
    struct sl_event_order order;
    struct sl_buf trace;
    size_t n_events;
    Sluice__V1__StreamEvent *last; /* event that was read last */
    size_t n_heartbeats;
    Sluice__V1__RunPhase phase; /* of the last heartbeat, as the next three */
    uint64_t last_sequence, elapsed_ms;
    size_t n_open_tools;
    char approval_id[SL_ID_BYTES]; /* of the last ApprovalRequested, as the next two */
    uint8_t approval_digest[SL_SHA256_BYTES];
    uint64_t expires_at_ms;
    size_t n_inputs_taken;
    bool has_unheard; /* at the end */
    struct sl_approvals approvals;
    bool has_begun; /* of a recorded run: on_begun said so */
    bool is_refused;
    enum sl_status refused_status;
    char found_run_id[64];
    bool found_same;
    bool has_ended;
    struct sl_ending ending;
    struct sl_buf bytes; /* all that was read */
};

/* The agent is "a" of this YAML. */
void sl_exec_rig_init(struct sl_exec_rig *rig, const char *yaml);
void sl_exec_rig_start(struct sl_exec_rig *rig, const char *input);
/* The run that ended was parked, or its process is gone, and `stored` events of it are stored: it
 * is taken up from `bytes`. The reader attaches behind what he has. */
void sl_exec_rig_take_up(struct sl_exec_rig *rig, struct sl_slice bytes, uint64_t stored);
/* The process is gone: nothing of the run is heard any more. */
void sl_exec_rig_crash(struct sl_exec_rig *rig);
/* Runs the loop until nothing is left to do, and reads. */
void sl_exec_rig_turn(struct sl_exec_rig *rig);
void sl_exec_rig_advance_ms(struct sl_exec_rig *rig, uint64_t ms);
/* Reads at most `max` bytes. */
void sl_exec_rig_read(struct sl_exec_rig *rig, size_t max);
/* What was read since the last time. */
const char *sl_exec_rig_trace(struct sl_exec_rig *rig);
/* The reader goes. */
void sl_exec_rig_part(struct sl_exec_rig *rig, enum sl_run_gone how);
/* Checks that the run has ended in order, that its conversation could go on and that nothing of it
 * is left, and ends. */
void sl_exec_rig_done(struct sl_exec_rig *rig);

#endif
