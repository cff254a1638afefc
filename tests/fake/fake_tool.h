/* Tools that do what the test tells them to: tool.h without processes and builtins. Any name is a
 * tool, but for those that begin with "no_". Calls stay open until the test answers them. */
#ifndef SL_TESTS_FAKE_FAKE_TOOL_H
#define SL_TESTS_FAKE_FAKE_TOOL_H

#include "runtime/base/loop.h"
#include "runtime/tool/tool.h"

enum { SL_FAKE_TOOL_CALLS = 128 };

struct sl_tools {
    struct sl_loop *loop;
    size_t n_tools;                                 /* counted tools that are alive */
    struct sl_tool_call *calls[SL_FAKE_TOOL_CALLS]; /* in the order of their start; NULL: freed */
    size_t n_started, n_live, n_most_live, n_cancelled;
    uint64_t remaining_ms; /* of the run, as the last call was told */
    uint64_t call_bytes;   /* what a call says that it takes, besides itself */
    enum sl_status start_status;
    bool ignores_cancel; /* a cancelled call waits for the test */
    bool has_no_room;    /* calls end before they were begun */
};

void sl_fake_tools_init(struct sl_tools *tools, struct sl_loop *loop);
/* One that is in no configuration: a client's. "asked…" has the policy ask, "denied…" deny. */
struct sl_tool *sl_fake_tool_new(struct sl_tools *tools, const char *name);
/* Answers call number `index` (from 0). */
void sl_fake_tool_done(
    struct sl_tools *tools, size_t index, enum sl_tool_code code, const char *result_json);
void sl_fake_tool_output(struct sl_tools *tools, size_t index, bool is_stderr, const char *text);
/* The credentials of the run that it got; NULL: none. */
const struct sl_credentials *sl_fake_tool_credentials(const struct sl_tools *tools, size_t index);
/* The arguments that it got. */
const char *sl_fake_tool_arguments(const struct sl_tools *tools, size_t index);

#endif
