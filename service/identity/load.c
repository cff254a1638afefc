/* From the configuration to a table of identities. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/identity/pattern.h"
#include "service/identity/table.h"

enum { ARENA_BYTES = 16 * 1024 * 1024 };

struct loader {
    const struct sl_identity_options *options;
    struct sl_conf *conf;
    struct sl_identity *identity;
    void (*on_problem)(const char *line, void *user_data);
    void *user_data;
};

static const char *copy(struct loader *loader, const char *text)
{
    return sl_arena_dup(&loader->identity->arena, sl_slice_str(text));
}

/* A key that somebody began to write and left empty must not count as one that is not there: what
 * is not there does not narrow. Says so; true: it is absent, or has a value. */
static bool
is_whole(struct loader *loader, const struct sl_conf_node *map, const char *key, const char *hint)
{
    const struct sl_conf_node *node = sl_conf_get(loader->conf, map, key, SL_OPTIONAL);
    if (node == NULL || !sl_conf_is_null(node)) {
        return true;
    }
    sl_conf_error(loader->conf, node, "must have a value%s", hint);
    return false;
}

/* ---- Names -------------------------------------------------------------------------------------
 */

static bool read_name(
    struct loader *loader,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    const char **ret_name)
{
    const char *text = NULL;
    if (!is_whole(loader, map, key, "")) {
        return false;
    }
    if (!sl_conf_str(loader->conf, map, key, need, &text)) {
        return need == SL_OPTIONAL;
    }
    if (!sl_identity_is_name(sl_slice_str(text))) {
        sl_conf_error(
            loader->conf, sl_conf_get(loader->conf, map, key, SL_OPTIONAL),
            "1 to %d letters, digits or any of . _ : / @ + = -", SL_IDENTITY_NAME_BYTES);
        return false;
    }
    *ret_name = copy(loader, text);
    return *ret_name != NULL;
}

static bool check_pattern(struct loader *loader, const struct sl_conf_node *node)
{
    const bool is_valid = sl_conf_kind(node) == SL_CONF_SCALAR &&
                          sl_pattern_is_valid(sl_slice_str(sl_conf_text(node)));
    if (!is_valid) {
        sl_conf_error(loader->conf, node, "a name, with at most one * at the begin or the end");
    }
    return is_valid;
}

/* Patterns. Absent: `names` stays as it is. */
static bool read_names(
    struct loader *loader,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    struct sl_identity_names *names)
{
    if (!is_whole(loader, map, key, "; only a list that is not there does not narrow")) {
        return false;
    }
    const struct sl_conf_node *list = sl_conf_get_list(loader->conf, map, key, need);
    const size_t n = list == NULL ? 0 : sl_conf_size(list);
    if (list == NULL) {
        return need == SL_OPTIONAL;
    }
    if (n == 0 || n > SL_IDENTITY_PATTERNS) {
        sl_conf_error(loader->conf, list, "1 to %d names", SL_IDENTITY_PATTERNS);
        return false;
    }
    const char **items = sl_arena_calloc(&loader->identity->arena, n, sizeof(*items));
    bool is_right = items != NULL;
    for (size_t i = 0; i < n && items != NULL; i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        if (check_pattern(loader, node)) {
            items[i] = copy(loader, sl_conf_text(node));
        }
        is_right = is_right && items[i] != NULL;
    }
    names->items = items;
    names->n_items = n;
    return is_right;
}

/* ---- Certificates ------------------------------------------------------------------------------
 */

/* "uri:", "dns:" or "email:" and a pattern; names of DNS have no case. */
static bool
read_san(struct loader *loader, const struct sl_conf_node *map, struct sl_san_rule *rule)
{
    static const char *const kinds[] = { "uri:", "dns:", "email:" };
    const char *text = NULL;
    if (!sl_conf_str(loader->conf, map, "san", SL_REQUIRED, &text)) {
        return false;
    }
    for (size_t i = 0; i < SL_COUNT(kinds); i++) {
        const size_t n = strlen(kinds[i]);
        if (strncmp(text, kinds[i], n) != 0 || !sl_pattern_is_valid(sl_slice_str(text + n))) {
            continue;
        }
        rule->kind_bytes = n;
        char *pattern = sl_arena_dup(&loader->identity->arena, sl_slice_str(text));
        for (char *c = pattern; pattern != NULL && i == 1 && *c != '\0'; c++) {
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
        }
        rule->pattern = pattern;
        return pattern != NULL;
    }
    sl_conf_error(
        loader->conf, sl_conf_get(loader->conf, map, "san", SL_OPTIONAL),
        "uri:, dns: or email: and a name, with at most one * at the begin or the end of it");
    return false;
}

static void load_certificates(struct loader *loader, const struct sl_conf_node *list)
{
    struct sl_identity *identity = loader->identity;
    const size_t n = sl_conf_size(list);
    if (n == 0 || n > SL_IDENTITY_RULES) {
        sl_conf_error(loader->conf, list, "1 to %d rules", SL_IDENTITY_RULES);
        return;
    }
    if (!loader->options->has_client_certificates) {
        sl_conf_error(loader->conf, list, "no listener asks for client certificates (client_ca)");
    }
    identity->sans = sl_arena_calloc(&identity->arena, n, sizeof(*identity->sans));
    for (size_t i = 0; i < n && identity->sans != NULL; i++) {
        const struct sl_conf_node *map = sl_conf_at(list, i);
        struct sl_san_rule *rule = &identity->sans[i];
        if (sl_conf_kind(map) != SL_CONF_MAP) {
            sl_conf_error(loader->conf, map, "a map with `san`, `tenant` and perhaps `principal`");
            continue;
        }
        (void)read_san(loader, map, rule);
        (void)read_name(loader, map, "principal", SL_OPTIONAL, &rule->principal);
        (void)read_name(loader, map, "tenant", SL_REQUIRED, &rule->tenant);
        sl_conf_end(loader->conf, map);
        identity->n_sans = i + 1;
    }
}

/* ---- The two keys ------------------------------------------------------------------------------
 */

static void load_open(struct loader *loader, const struct sl_conf_node *list)
{
    loader->identity->is_health_open = false;
    for (size_t i = 0; i < sl_conf_size(list); i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        const char *text = sl_conf_kind(node) == SL_CONF_SCALAR ? sl_conf_text(node) : "";
        if (strcmp(text, "health") == 0) {
            loader->identity->is_health_open = true;
        } else if (strcmp(text, "reflection") == 0) {
            loader->identity->is_reflection_open = true;
        } else {
            sl_conf_error(loader->conf, node, "health or reflection");
        }
    }
}

static enum sl_status load_keys(struct loader *loader, const char *path)
{
    const enum sl_status status = sl_keys_read(
        path, loader->options->max_keys, loader->on_problem, loader->user_data,
        &loader->identity->keys);
    if (status == SL_OK && sl_keys_count(loader->identity->keys) == 0) {
        char line[512]; /* most often a file that somebody is writing */
        (void)snprintf(line, sizeof(line), "%.300s: there is no key in it", path);
        loader->on_problem(line, loader->user_data);
        return SL_FAILED_PRECONDITION;
    }
    return status;
}

static enum sl_status load_identity(struct loader *loader, const struct sl_conf_node *map)
{
    const char *path = NULL;
    enum sl_status status = SL_OK;
    const bool is_right = is_whole(loader, map, "keys", "") &&
                          is_whole(loader, map, "certificates", "") &&
                          is_whole(loader, map, "open", "; [] is nothing");
    const struct sl_conf_node *sans =
        sl_conf_get_list(loader->conf, map, "certificates", SL_OPTIONAL);
    const struct sl_conf_node *open = sl_conf_get_list(loader->conf, map, "open", SL_OPTIONAL);
    const bool has_keys = sl_conf_str(loader->conf, map, "keys", SL_OPTIONAL, &path);
    loader->identity->is_health_open = true;
    if (sans != NULL) {
        load_certificates(loader, sans);
    }
    if (open != NULL) {
        load_open(loader, open);
    }
    if (has_keys) {
        status = load_keys(loader, path);
    } else if (sans == NULL && is_right) {
        sl_conf_error(loader->conf, map, "`keys` or `certificates` is missing");
    }
    sl_conf_end(loader->conf, map);
    return status;
}

static void load_access(struct loader *loader, const struct sl_conf_node *list)
{
    struct sl_identity *identity = loader->identity;
    const size_t n = sl_conf_size(list);
    if (n > SL_IDENTITY_RULES) {
        sl_conf_error(loader->conf, list, "at most %d rules", SL_IDENTITY_RULES);
        return;
    }
    identity->has_access = true;
    identity->access = sl_arena_calloc(&identity->arena, n, sizeof(*identity->access));
    for (size_t i = 0; i < n && identity->access != NULL; i++) {
        const struct sl_conf_node *map = sl_conf_at(list, i);
        struct sl_access_rule *rule = &identity->access[i];
        if (sl_conf_kind(map) != SL_CONF_MAP) {
            sl_conf_error(
                loader->conf, map,
                "a map with `agents`, and perhaps `tenants`, `principals`, "
                "`methods`");
            continue;
        }
        (void)read_names(loader, map, "tenants", SL_OPTIONAL, &rule->tenants);
        (void)read_names(loader, map, "principals", SL_OPTIONAL, &rule->principals);
        (void)read_names(loader, map, "agents", SL_REQUIRED, &rule->agents);
        (void)read_names(loader, map, "methods", SL_OPTIONAL, &rule->methods);
        sl_conf_end(loader->conf, map);
        identity->n_access = i + 1;
    }
}

static enum sl_status load_all(struct loader *loader)
{
    const struct sl_conf_node *top = loader->options->top;
    if (!is_whole(loader, top, "identity", "") ||
        !is_whole(loader, top, "access", "; [] is nobody")) {
        return SL_FAILED_PRECONDITION;
    }
    const struct sl_conf_node *identity =
        sl_conf_get_map(loader->conf, top, "identity", SL_OPTIONAL);
    const struct sl_conf_node *access = sl_conf_get_list(loader->conf, top, "access", SL_OPTIONAL);
    enum sl_status status = SL_OK;
    if (access != NULL) {
        load_access(loader, access);
    }
    if (identity != NULL) {
        status = load_identity(loader, identity);
    } else if (access != NULL) {
        sl_conf_error(loader->conf, access, "needs `identity`: without it nobody is known");
    }
    if (loader->identity->arena.is_refused) {
        return SL_RESOURCE_EXHAUSTED;
    }
    return status;
}

enum sl_status sl_identity_load(
    const struct sl_identity_options *options,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_identity **ret_identity)
{
    *ret_identity = NULL;
    if (options->top == NULL ||
        (sl_conf_get(options->conf, options->top, "identity", SL_OPTIONAL) == NULL &&
         sl_conf_get(options->conf, options->top, "access", SL_OPTIONAL) == NULL)) {
        return SL_OK;
    }
    struct sl_identity *identity = sl_calloc(1, sizeof(*identity));
    if (identity == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    atomic_store(&identity->n_refs, 1);
    sl_arena_init(&identity->arena, ARENA_BYTES);
    struct loader loader = { .options = options,
                             .conf = options->conf,
                             .identity = identity,
                             .on_problem = on_problem,
                             .user_data = user_data };
    enum sl_status status = load_all(&loader);
    if (status == SL_OK && sl_conf_n_errors(options->conf) > 0) {
        status = SL_FAILED_PRECONDITION; /* wherever: the whole counts, or nothing of it */
    }
    if (status != SL_OK) {
        (void)sl_identity_unref(identity);
        return status;
    }
    *ret_identity = identity;
    return SL_OK;
}
