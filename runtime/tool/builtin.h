/* The tools that are there from the start, as a table: name, what the model is told, kind. */
#ifndef SL_RUNTIME_TOOL_BUILTIN_H
#define SL_RUNTIME_TOOL_BUILTIN_H

#include "runtime/tool/kind.h"

struct sl_builtin {
    const char *name, *alias; /* alias: NULL, or another name in agent files */
    const char *description;
    const char *parameters_json;
    uint64_t timeout_ms;
    bool is_idempotent;
    const struct sl_tool_kind *kind;
};

extern const struct sl_builtin sl_builtins[];
extern const size_t sl_n_builtins;

/* By name or alias; NULL: there is none. */
const struct sl_builtin *sl_builtin_find(const char *name);

/* Is it one of the names that have a meaning, but are not built yet (shell, git, …)? */
bool sl_builtin_is_planned(const char *name);

/* The nearest name at distance <= 2; NULL: none is near. */
const char *sl_builtin_nearest(const char *name);

#endif
