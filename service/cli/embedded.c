#include "service/cli/embedded.h"

#include "proto/google/rpc/details.sl.h"
#include "proto/grpc/health/v1/health.sl.h"
#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"

/* Called for each file, imports first. */
typedef enum sl_status(visit_fn)(const struct sl_file_desc *file, void *user_data);

enum { MAX_FILES = 64 };

struct walk {
    const struct sl_file_desc *seen[MAX_FILES];
    size_t n_seen;
    visit_fn *visit;
    void *user_data;
};

/* Imports of our own tables have no cycles. */
static enum sl_status walk_file(struct walk *walk, const struct sl_file_desc *file)
{
    for (size_t i = 0; i < walk->n_seen; i++) {
        if (strcmp(walk->seen[i]->name, file->name) == 0) {
            return SL_OK;
        }
    }
    if (walk->n_seen == MAX_FILES) {
        return SL_RESOURCE_EXHAUSTED;
    }
    walk->seen[walk->n_seen++] = file;
    for (size_t i = 0; i < file->n_imports; i++) {
        SL_TRY(walk_file(walk, file->imports[i]));
    }
    return walk->visit(file, walk->user_data);
}

static enum sl_status walk_api(visit_fn *visit, void *user_data)
{
    struct walk walk = { .visit = visit, .user_data = user_data };
    SL_TRY(walk_file(&walk, &sl_sluice__v1__runtime_proto__file));
    return walk_file(&walk, &sl_grpc__health__v1__health_proto__file);
}

struct target {
    struct sl_schema *schema;
    struct sl_error *err;
};

static enum sl_status add_to_schema(const struct sl_file_desc *file, void *user_data)
{
    const struct target *target = user_data;
    return sl_schema_add_file(target->schema, file->bytes, target->err);
}

enum sl_status sl_embedded_api(struct sl_schema *schema, struct sl_error *err)
{
    struct target target = { schema, err };
    return walk_api(add_to_schema, &target);
}

enum sl_status sl_embedded_details(struct sl_schema *schema, struct sl_error *err)
{
    struct target target = { schema, err };
    struct walk walk = { .visit = add_to_schema, .user_data = &target };
    return walk_file(&walk, &sl_google__rpc__details_proto__file);
}

/* FileDescriptorSet.file = 1 */
static enum sl_status add_to_set(const struct sl_file_desc *file, void *user_data)
{
    struct sl_buf *out = user_data;
    size_t size = file->bytes.size;
    SL_TRY(sl_buf_add_byte(out, 1 << 3 | 2));
    for (; size >= 0x80; size >>= 7) {
        SL_TRY(sl_buf_add_byte(out, (uint8_t)(size | 0x80)));
    }
    SL_TRY(sl_buf_add_byte(out, (uint8_t)size));
    return sl_buf_add(out, file->bytes);
}

enum sl_status sl_embedded_set(struct sl_buf *out)
{
    return walk_api(add_to_set, out);
}
