/* What schema.c (values) and schema_check.c (schemas) share: where a walk stands, and references.
 */
#ifndef SL_RUNTIME_TOOL_SCHEMA_WALK_H
#define SL_RUNTIME_TOOL_SCHEMA_WALK_H

#include "runtime/tool/schema.h"

enum { SL_SCHEMA_PATH_BYTES = 128 };

/* The path is one buffer: each level writes behind its parent's part and cuts it off again. */
struct sl_schema_walk {
    json_t *root;
    struct sl_error *err;
    unsigned depth;
    unsigned n_steps;
    char path[SL_SCHEMA_PATH_BYTES];
    size_t path_size;
};

/* One level down: a key, or with NULL an index. Gives what sl_schema_pop() wants. */
size_t sl_schema_push(struct sl_schema_walk *walk, const char *key, size_t index);
void sl_schema_pop(struct sl_schema_walk *walk, size_t before);
/* "/a/0", or "/" at the top. */
const char *sl_schema_place(const struct sl_schema_walk *walk);
/* The place of "#/a/b" in `root`. NULL: it leads nowhere, or out of this document. */
json_t *sl_schema_follow(json_t *root, const char *ref);
/* "object", "integer", … */
const char *sl_schema_type_name(json_t *value);

#endif
