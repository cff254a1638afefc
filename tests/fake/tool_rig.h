/* Tools on a real loop, for tests: a set, a tool out of a piece of YAML, and one call at a time or
 * many. */
#ifndef SL_TESTS_FAKE_TOOL_RIG_H
#define SL_TESTS_FAKE_TOOL_RIG_H

#include "runtime/base/conf.h"
#include "runtime/base/loop_uv.h"
#include "runtime/tool/tool.h"

struct sl_tool_rig {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_limits limits;
    struct sl_tools *tools;
    struct sl_conf *top;
    const struct sl_credentials *credentials; /* of the calls; NULL: none */
};

/* A call and what came of it. */
struct sl_tool_try {
    struct sl_tool_call *call;
    int n_done;
    enum sl_tool_code code;
    char error[512];
    char *json; /* sl_free(); terminated */
    bool is_truncated;
    uint64_t result_bytes;
    uint32_t attempts;
    bool has_exit_code;
    int exit_code;
    uint64_t ms;
    char live[2][65536]; /* the beginning of what on_output gave */
    size_t live_size[2];
};

/* `configuration`: YAML text of the daemon's file; NULL: none. Fails the test when it is wrong. */
void sl_tool_rig_init(struct sl_tool_rig *rig, const char *launcher, const char *configuration);
/* Checks that nothing is left, too. */
void sl_tool_rig_done(struct sl_tool_rig *rig);

/* The tool of one entry, "- …". Fails the test when it is wrong. */
struct sl_tool *sl_tool_rig_tool(struct sl_tool_rig *rig, const char *entry);
/* The same, expecting it to be wrong: gives the first error. `room` of 512 bytes. */
void sl_tool_rig_mistake(struct sl_tool_rig *rig, const char *entry, char *room);

void sl_tool_rig_start(
    struct sl_tool_rig *rig, struct sl_tool_try *try, struct sl_tool *tool, const char *arguments);
/* Turns the loop until the call is done, or the bound of 10 s fails the test. */
void sl_tool_rig_finish(struct sl_tool_rig *rig, struct sl_tool_try *try);
/* Turns the loop until the live output has this text. */
void sl_tool_rig_await(struct sl_tool_rig *rig, struct sl_tool_try *try, const char *text);
/* All in one: makes the tool, calls it, waits. */
void sl_tool_rig_call(
    struct sl_tool_rig *rig, struct sl_tool_try *try, const char *entry, const char *arguments);
void sl_tool_try_done(struct sl_tool_try *try);

/* A tool does not run as root, and the build may lie where nobody else may look: the program is
 * copied to a place that everybody can reach. False: it cannot be. */
bool sl_tool_rig_copy_victim(const char *built, const char *place);

#endif
