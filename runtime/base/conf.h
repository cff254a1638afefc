/* Files that people write (configuration, agents, scenarios): YAML in, a tree with positions out,
 * and typed getters that know how to complain.
 *
 *   struct sl_conf *conf; sl_conf_parse(text, "agents/a.yaml", &limits, &conf);
 *   for each document: map = sl_conf_document(conf, i);
 *       sl_conf_str(conf, map, "name", SL_REQUIRED, &name);
 *       sl_conf_u64(conf, map, "max_iterations", SL_OPTIONAL, 1, 1000, &n);
 *       sl_conf_end(conf, map);      // every key that no getter asked for is an error, with the
 * nearest one if (sl_conf_n_errors(conf) > 0) … each is "file:line:column: path: message"
 *
 * All errors of a file are collected, not only the first. Anchors, aliases, tags and merge keys are
 * refused; duplicate keys are errors; depth 32, size 1 MiB. A string takes the scalar's text as
 * written
 * (`name: no` is "no"); booleans are only true and false; numbers must parse completely. */
#ifndef SL_RUNTIME_BASE_CONF_H
#define SL_RUNTIME_BASE_CONF_H

#include <jansson.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_conf;
struct sl_conf_node; /* a map, a list or a scalar; lives as long as its sl_conf */

enum sl_conf_kind { SL_CONF_MAP, SL_CONF_LIST, SL_CONF_SCALAR };
enum sl_conf_need { SL_OPTIONAL, SL_REQUIRED };

/* Parses all documents. A syntax error is an error in the result, too: the call itself fails only
 * with SL_RESOURCE_EXHAUSTED (no memory). Copies `text` and `file`. Owns: the caller;
 * sl_conf_free(). */
SL_CHECK enum sl_status
sl_conf_parse(struct sl_slice text, const char *file, struct sl_conf **ret_conf);
/* Reads the file first. Fails also: SL_NOT_FOUND, SL_PERMISSION_DENIED, SL_INVALID_ARGUMENT (not a
 * file, or over 1 MiB), named in `err`. */
SL_CHECK enum sl_status
sl_conf_read(const char *path, struct sl_conf **ret_conf, struct sl_error *err);
struct sl_conf *sl_conf_free(struct sl_conf *conf);

size_t sl_conf_n_documents(const struct sl_conf *conf);
const struct sl_conf_node *sl_conf_document(const struct sl_conf *conf, size_t index);

enum sl_conf_kind sl_conf_kind(const struct sl_conf_node *node);
int sl_conf_line(const struct sl_conf_node *node);
int sl_conf_column(const struct sl_conf_node *node);
/* The scalar's text; "" for others. Valid as long as the conf. */
const char *sl_conf_text(const struct sl_conf_node *node);
/* True when the scalar was written in quotes (so `"null"` and `"1"` are strings). */
bool sl_conf_is_quoted(const struct sl_conf_node *node);
bool sl_conf_is_null(const struct sl_conf_node *node);
/* Children of a map or list, in order; the key of a map's child (NULL in a list). */
size_t sl_conf_size(const struct sl_conf_node *node);
const struct sl_conf_node *sl_conf_at(const struct sl_conf_node *node, size_t index);
const char *sl_conf_key_at(const struct sl_conf_node *node, size_t index);
/* "spec.tools[2].name" */
const char *sl_conf_path(const struct sl_conf_node *node);

/* ---- Getters. `map` may be NULL (nothing is found, nothing is complained about). An absent
 * optional key leaves `*ret` as it is and gives false. A wrong value records an error and gives
 * false. The key counts as known from then on.
 * ----------------------------------------------------------------------- */
const struct sl_conf_node *sl_conf_get(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need);
const struct sl_conf_node *sl_conf_get_map(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need);
const struct sl_conf_node *sl_conf_get_list(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, enum sl_conf_need need);
bool sl_conf_str(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    const char **ret_text);
bool sl_conf_u64(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_value);
bool sl_conf_double(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    double min,
    double max,
    double *ret_value);
bool sl_conf_bool(
    struct sl_conf *conf, const struct sl_conf_node *map, const char *key, bool *ret_value);
/* "4MiB"; "10s" in milliseconds. */
bool sl_conf_bytes(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_bytes);
bool sl_conf_duration_ms(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    uint64_t min,
    uint64_t max,
    uint64_t *ret_ms);
/* One of `names` (NULL-terminated): its index. */
bool sl_conf_enum(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    const char *const *names,
    int *ret_index);
/* Marks a key as known without reading it. */
void sl_conf_allow(struct sl_conf *conf, const struct sl_conf_node *map, const char *key);
/* Complains about each key of `map` that nobody asked for, naming the nearest known one at distance
 * <= 2. */
void sl_conf_end(struct sl_conf *conf, const struct sl_conf_node *map);

/* The tree as JSON: unquoted true, false, null and numbers get their types. Gives: json_decref().
 * NULL: no memory. */
SL_CHECK json_t *sl_conf_to_json(const struct sl_conf_node *node);

/* Records "file:line:column: path: message" at `node` (NULL: the file). */
SL_PRINTF(3, 4)
void sl_conf_error(struct sl_conf *conf, const struct sl_conf_node *node, const char *fmt, ...);
size_t sl_conf_n_errors(const struct sl_conf *conf);
const char *sl_conf_error_at(const struct sl_conf *conf, size_t index);

#endif
