#include <stdio.h>

#include "runtime/base/conf_tree.h"
#include "runtime/base/log.h"
#include "runtime/base/parse.h"

enum { NEAR = 2, SHOWN_BYTES = 64 };

#define SHOW(node) sl_log_quote(sl_slice_str((node)->text), (char[SHOWN_BYTES]){ 0 }, SHOWN_BYTES)

static void remember(struct sl_conf *conf, struct sl_conf_node *map, const char *key)
{
    for (const struct sl_conf_known *known = map->known; known != NULL; known = known->next) {
        if (strcmp(known->key, key) == 0) {
            return;
        }
    }
    /* Without memory there is one suggestion less. */
    struct sl_conf_known *known = sl_arena_alloc(&conf->arena, sizeof(*known));
    const char *copy = sl_arena_dup(&conf->arena, sl_slice_str(key));
    if (known != NULL && copy != NULL) {
        *known = (struct sl_conf_known){ .next = map->known, .key = copy };
        map->known = known;
    }
}

/* Says once per node that it should be something else. */
static void want_kind(struct sl_conf *conf, const struct sl_conf_node *node, const char *what)
{
    if (!node->is_complained_about) {
        node->self->is_complained_about = true;
        sl_conf_error(conf, node, "must be %s", what);
    }
}

static struct sl_conf_node *
find(struct sl_conf *conf, const struct sl_conf_node *map, const char *key)
{
    if (map->kind != SL_CONF_MAP) {
        want_kind(conf, map, "a map");
        return NULL;
    }
    remember(conf, map->self, key);
    struct sl_conf_node *found = NULL;
    for (size_t i = 0; i < map->n_children; i++) {
        if (strcmp(map->children[i]->key, key) == 0) {
            map->children[i]->is_known = true; /* also a second one: it has been complained about */
            found = found == NULL ? map->children[i] : found;
        }
    }
    return found;
}

const struct sl_conf_node *sl_conf_get(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need)
{
    if (map == NULL) {
        return NULL;
    }
    const struct sl_conf_node *node = find(conf, map, key);
    if (node == NULL && need == SL_REQUIRED && map->kind == SL_CONF_MAP) {
        sl_conf_error(conf, map, "'%s' is missing", key);
    }
    return node;
}

/* As sl_conf_get, but "key:" and "key: null" count as absent. */
static const struct sl_conf_node *get_value(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need)
{
    const struct sl_conf_node *node = sl_conf_get(conf, map, key, need);
    if (node == NULL || !sl_conf_is_null(node)) {
        return node;
    }
    if (need == SL_REQUIRED) {
        sl_conf_error(conf, node, "must have a value");
    }
    return NULL;
}

static const struct sl_conf_node *get_collection(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    enum sl_conf_kind kind)
{
    const struct sl_conf_node *node = get_value(conf, map, key, need);
    if (node != NULL && node->kind != kind) {
        want_kind(conf, node, kind == SL_CONF_MAP ? "a map" : "a list");
        return NULL;
    }
    return node;
}

const struct sl_conf_node *sl_conf_get_map(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need)
{
    return get_collection(conf, map, key, need, SL_CONF_MAP);
}

const struct sl_conf_node *sl_conf_get_list(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need)
{
    return get_collection(conf, map, key, need, SL_CONF_LIST);
}

/* A scalar with a value. `is_plain_only`: quotes make it a text, which `what` is not. */
static const struct sl_conf_node *get_scalar(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    const char *what,
    bool is_plain_only)
{
    const struct sl_conf_node *node = get_value(conf, map, key, need);
    if (node == NULL) {
        return NULL;
    }
    if (node->kind != SL_CONF_SCALAR) {
        want_kind(conf, node, what);
        return NULL;
    }
    if (is_plain_only && node->is_quoted) {
        sl_conf_error(conf, node, "must be %s, without quotes", what);
        return NULL;
    }
    return node;
}

bool sl_conf_str(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    const char **ret_text)
{
    const struct sl_conf_node *node = get_scalar(conf, map, key, need, "a text", false);
    if (node != NULL) {
        *ret_text = node->text;
    }
    return node != NULL;
}

bool sl_conf_u64(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_value)
{
    const struct sl_conf_node *node = get_scalar(conf, map, key, SL_OPTIONAL, "a number", true);
    if (node == NULL) {
        return false;
    }
    if (sl_parse_u64(sl_slice_str(node->text), min, max, ret_value) != SL_OK) {
        sl_conf_error(
            conf, node, "%s is not a whole number from %llu to %llu", SHOW(node),
            (unsigned long long)min, (unsigned long long)max);
        return false;
    }
    return true;
}

bool sl_conf_double(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    double min,
    double max,
    double *ret_value)
{
    const struct sl_conf_node *node = get_scalar(conf, map, key, SL_OPTIONAL, "a number", true);
    double value = 0;
    if (node == NULL) {
        return false;
    }
    if (sl_parse_double(sl_slice_str(node->text), &value) != SL_OK || value < min || value > max) {
        sl_conf_error(conf, node, "%s is not a number from %g to %g", SHOW(node), min, max);
        return false;
    }
    *ret_value = value;
    return true;
}

bool sl_conf_bool(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, bool *ret_value)
{
    const struct sl_conf_node *node =
        get_scalar(conf, map, key, SL_OPTIONAL, "true or false", true);
    if (node == NULL) {
        return false;
    }
    const bool is_true = strcmp(node->text, "true") == 0;
    if (!is_true && strcmp(node->text, "false") != 0) {
        sl_conf_error(conf, node, "%s is neither true nor false", SHOW(node));
        return false;
    }
    *ret_value = is_true;
    return true;
}

/* A number with a unit, and how to speak of it. */
struct quantity {
    const char *what, *unit, *examples;
    enum sl_status (*parse)(struct sl_slice text, uint64_t max, uint64_t *ret_value);
};

static bool get_quantity(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    const struct quantity *quantity,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_value)
{
    const struct sl_conf_node *node =
        get_scalar(conf, map, key, SL_OPTIONAL, quantity->what, false);
    uint64_t value = 0;
    if (node == NULL) {
        return false;
    }
    if (quantity->parse(sl_slice_str(node->text), max, &value) != SL_OK || value < min) {
        sl_conf_error(
            conf, node, "%s is not %s from %llu to %llu %s, such as %s", SHOW(node), quantity->what,
            (unsigned long long)min, (unsigned long long)max, quantity->unit, quantity->examples);
        return false;
    }
    *ret_value = value;
    return true;
}

bool sl_conf_bytes(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_bytes)
{
    static const struct quantity size = { .what = "a size",
                                          .unit = "bytes",
                                          .examples = "512, 256KiB or 4MiB",
                                          .parse = sl_parse_bytes };
    return get_quantity(conf, map, key, &size, min, max, ret_bytes);
}

bool sl_conf_duration_ms(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_ms)
{
    static const struct quantity duration = { .what = "a time",
                                              .unit = "ms",
                                              .examples = "250ms, 10s, 5m or 2h",
                                              .parse = sl_parse_duration_ms };
    return get_quantity(conf, map, key, &duration, min, max, ret_ms);
}

/* "a, b or c" */
static void list_names(const char *const *names, char *room, size_t room_bytes)
{
    size_t size = 0;
    for (size_t i = 0; names[i] != NULL && size < room_bytes; i++) {
        const char *before = i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ";
        const int n = snprintf(room + size, room_bytes - size, "%s%s", before, names[i]);
        size += n < 0 ? 0 : (size_t)n;
    }
}

bool sl_conf_enum(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    const char *const *names,
    int *ret_index)
{
    const struct sl_conf_node *node = get_scalar(conf, map, key, SL_OPTIONAL, "a word", false);
    if (node == NULL) {
        return false;
    }
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(node->text, names[i]) == 0) {
            *ret_index = i;
            return true;
        }
    }
    char known[256] = "";
    list_names(names, known, sizeof(known));
    sl_conf_error(conf, node, "%s is not one of %s", SHOW(node), known);
    return false;
}

void sl_conf_allow(struct sl_conf *conf, const struct sl_conf_node *map, const char *key)
{
    if (map != NULL) {
        (void)find(conf, map, key);
    }
}

static const char *find_nearest(const struct sl_conf_node *map, const char *key)
{
    const char *nearest = NULL;
    unsigned least = NEAR + 1;
    for (const struct sl_conf_known *known = map->known; known != NULL; known = known->next) {
        const unsigned distance = sl_parse_distance(key, known->key, NEAR);
        if (distance < least) {
            least = distance;
            nearest = known->key;
        }
    }
    return nearest;
}

void sl_conf_end(struct sl_conf *conf, const struct sl_conf_node *map)
{
    if (map == NULL) {
        return;
    }
    if (map->kind != SL_CONF_MAP) {
        want_kind(conf, map, "a map");
        return;
    }
    for (size_t i = 0; i < map->n_children; i++) {
        struct sl_conf_node *child = map->children[i];
        if (child->is_known) {
            continue;
        }
        child->is_known = true;
        const char *nearest = find_nearest(map, child->key);
        if (nearest != NULL) {
            sl_conf_error_at_key(conf, child, "unknown key; did you mean '%s'?", nearest);
        } else {
            sl_conf_error_at_key(conf, child, "unknown key");
        }
    }
}
