/* The agents that are there from the first start, without key and network. */
#ifndef SL_RUNTIME_EXEC_AGENT_BUILTIN_H
#define SL_RUNTIME_EXEC_AGENT_BUILTIN_H

#include <stdbool.h>
#include <stddef.h>

struct sl_agent_builtin {
    const char *name;
    const char *yaml;
    const char *scenario_name; /* model name of provider "scripted" */
    const char *scenario;      /* NULL: none */
    bool is_never_recorded, omits_content;
};

extern const struct sl_agent_builtin sl_agent_builtins[];
extern const size_t sl_agent_n_builtins;

/* NULL: there is none of this name. */
const struct sl_agent_builtin *sl_agent_builtin_find(const char *name);

#endif
