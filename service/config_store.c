/* The key `store` of the file: where runs are recorded. */
#include "service/config.h"

enum { KEEP_MS = 7 * 24 * 3600 * 1000, MIN_FREE_PERCENT = 5 };

static const uint64_t max_keep_ms = UINT64_C(3650) * 24 * 3600 * 1000;
static const uint64_t max_keep_bytes = UINT64_C(1) << 50;
static const char *const synchronous_names[] = { "full", "normal", NULL };

void sl_config_init_store(struct sl_config_store *store)
{
    *store = (struct sl_config_store){ .keep_ms = KEEP_MS, .min_free_percent = MIN_FREE_PERCENT };
}

void sl_config_load_store(
    struct sl_conf *file, const struct sl_conf_node *top, struct sl_config_store *store)
{
    const struct sl_conf_node *map = sl_conf_get_map(file, top, "store", SL_OPTIONAL);
    if (map == NULL) {
        return;
    }
    const struct sl_conf_node *sqlite = sl_conf_get_map(file, map, "sqlite", SL_REQUIRED);
    if (sqlite != NULL) {
        (void)sl_conf_str(file, sqlite, "path", SL_OPTIONAL, &store->path);
        (void)sl_conf_enum(file, sqlite, "synchronous", synchronous_names, &store->synchronous);
        (void)sl_conf_duration_ms(file, sqlite, "keep", 0, max_keep_ms, &store->keep_ms);
        (void)sl_conf_bytes(file, sqlite, "keep_bytes", 0, max_keep_bytes, &store->keep_bytes);
        (void)sl_conf_u64(file, sqlite, "min_free_percent", 0, 100, &store->min_free_percent);
        (void)sl_conf_bool(file, sqlite, "quarantine", &store->quarantine);
        sl_conf_end(file, sqlite);
    }
    sl_conf_end(file, map);
    store->node = map;
}

const char *sl_config_synchronous_name(const struct sl_config_store *store)
{
    return synchronous_names[store->synchronous];
}
