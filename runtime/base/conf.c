#include "runtime/base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/conf_tree.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"

enum { ARENA_BYTES = 64 * 1024 * 1024, MESSAGE_BYTES = 512, KEY_BYTES = 64 };

/* ---- Errors ---------------------------------------------------------------------------------- */

/* A message that finds no memory counts all the same: nobody may take a wrong file for a right one.
 */
static void add_message(struct sl_conf *conf, const char *place, const char *text)
{
    conf->n_errors++;
    if (conf->n_errors > SL_CONF_MAX_ERRORS) {
        conf->n_errors = SL_CONF_MAX_ERRORS;
        return;
    }
    const size_t size = strlen(conf->file) + strlen(place) + strlen(text) + 2;
    struct sl_conf_message *message = sl_arena_alloc(&conf->arena, sizeof(*message) + size);
    if (message != NULL) {
        message->next = NULL;
        (void)snprintf(message->text, size, "%s%s %s", conf->file, place, text);
        *conf->last_error = message;
        conf->last_error = &message->next;
    }
}

void sl_conf_error_at_line(struct sl_conf *conf, int line, int column, const char *fmt, ...)
{
    char place[64];
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)snprintf(place, sizeof(place), ":%d:%d:", line, column);
    add_message(conf, place, text);
}

/* ":3:5: spec.name: " */
static void add_at_node(
    struct sl_conf *conf, const struct sl_conf_node *node, int line, int column, const char *text)
{
    char place[64 + SL_CONF_PATH_BYTES];
    const char *path = sl_conf_path(node);
    (void)snprintf(
        place, sizeof(place), ":%d:%d:%s%s%s", line, column, path[0] == '\0' ? "" : " ", path,
        path[0] == '\0' ? "" : ":");
    add_message(conf, place, text);
}

void sl_conf_error_at_key(
    struct sl_conf *conf, const struct sl_conf_node *node, const char *fmt, ...)
{
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    add_at_node(conf, node, node->key_line, node->key_column, text);
}

void sl_conf_error(struct sl_conf *conf, const struct sl_conf_node *node, const char *fmt, ...)
{
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (node == NULL) {
        add_message(conf, ":", text);
    } else {
        add_at_node(conf, node, node->line, node->column, text);
    }
}

size_t sl_conf_n_errors(const struct sl_conf *conf)
{
    return conf->n_errors;
}

const char *sl_conf_error_at(const struct sl_conf *conf, size_t index)
{
    const struct sl_conf_message *message = conf->first_error;
    for (size_t i = 0; message != NULL && i < index; i++) {
        message = message->next;
    }
    return message == NULL ? "out of memory" : message->text;
}

/* ---- Life ------------------------------------------------------------------------------------ */

enum sl_status sl_conf_parse(struct sl_slice text, const char *file, struct sl_conf **ret_conf)
{
    struct sl_conf *conf = sl_calloc(1, sizeof(*conf));
    if (conf == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_arena_init(&conf->arena, ARENA_BYTES);
    conf->last_error = &conf->first_error;
    conf->file = sl_arena_dup(&conf->arena, sl_slice_str(file));
    const enum sl_status status =
        conf->file == NULL ? SL_RESOURCE_EXHAUSTED : sl_conf_build(conf, text);
    if (status != SL_OK) {
        sl_conf_free(conf);
        return status;
    }
    *ret_conf = conf;
    return SL_OK;
}

static enum sl_status from_errno(int code)
{
    switch (code) {
    case ENOENT:
    case ENOTDIR:
        return SL_NOT_FOUND;
    case EACCES:
    case EPERM:
        return SL_PERMISSION_DENIED;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return SL_RESOURCE_EXHAUSTED;
    default:
        return SL_INVALID_ARGUMENT;
    }
}

static enum sl_status fail_with_errno(struct sl_error *err, const char *path)
{
    const int code = errno;
    char room[128];
    const enum sl_status status =
        sl_fail(err, from_errno(code), "%s: %s", path, strerror_r(code, room, sizeof(room)));
    if (err != NULL) {
        err->sys_errno = code;
    }
    return status;
}

/* Reads what there is, up to one byte more than is allowed. */
static enum sl_status
read_all(int fd, const char *path, uint8_t *room, size_t *ret_size, struct sl_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return fail_with_errno(err, path);
    }
    if (!S_ISREG(info.st_mode)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "%s: not a file", path);
    }
    size_t size = 0;
    while (size <= SL_CONF_MAX_BYTES) {
        const ssize_t n = read(fd, room + size, SL_CONF_MAX_BYTES + 1 - size);
        if (n == 0) {
            *ret_size = size;
            return SL_OK;
        }
        if (n < 0 && errno != EINTR) {
            return fail_with_errno(err, path);
        }
        size += n > 0 ? (size_t)n : 0;
    }
    return sl_fail(err, SL_INVALID_ARGUMENT, "%s: larger than 1 MiB", path);
}

enum sl_status sl_conf_read(const char *path, struct sl_conf **ret_conf, struct sl_error *err)
{
    /* Non-blocking, so that a pipe in the place of the file is refused and not waited for. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return fail_with_errno(err, path);
    }
    uint8_t *room = sl_alloc(SL_CONF_MAX_BYTES + 1);
    size_t size = 0;
    enum sl_status status = room == NULL
                                ? sl_fail(err, SL_RESOURCE_EXHAUSTED, "%s: no memory", path)
                                : read_all(fd, path, room, &size, err);
    if (status == SL_OK) {
        status = sl_conf_parse(sl_slice_of(room, size), path, ret_conf);
        if (status != SL_OK) {
            (void)sl_fail(err, status, "%s: no memory", path);
        }
    }
    sl_free(room);
    (void)close(fd);
    return status;
}

struct sl_conf *sl_conf_free(struct sl_conf *conf)
{
    if (conf != NULL) {
        sl_arena_done(&conf->arena);
    }
    return sl_free(conf);
}

/* ---- The tree -------------------------------------------------------------------------------- */

size_t sl_conf_n_documents(const struct sl_conf *conf)
{
    return conf->n_documents;
}

const struct sl_conf_node *sl_conf_document(const struct sl_conf *conf, size_t index)
{
    return index < conf->n_documents ? conf->documents[index] : NULL;
}

enum sl_conf_kind sl_conf_kind(const struct sl_conf_node *node)
{
    return node->kind;
}

int sl_conf_line(const struct sl_conf_node *node)
{
    return node->line;
}

int sl_conf_column(const struct sl_conf_node *node)
{
    return node->column;
}

const char *sl_conf_text(const struct sl_conf_node *node)
{
    return node->text;
}

bool sl_conf_is_quoted(const struct sl_conf_node *node)
{
    return node->is_quoted;
}

bool sl_conf_is_null(const struct sl_conf_node *node)
{
    static const char *const spellings[] = { "", "~", "null", "Null", "NULL" };
    for (size_t i = 0; node->kind == SL_CONF_SCALAR && !node->is_quoted && i < SL_COUNT(spellings);
         i++) {
        if (strcmp(node->text, spellings[i]) == 0) {
            return true;
        }
    }
    return false;
}

size_t sl_conf_size(const struct sl_conf_node *node)
{
    return node->n_children;
}

const struct sl_conf_node *sl_conf_at(const struct sl_conf_node *node, size_t index)
{
    return index < node->n_children ? node->children[index] : NULL;
}

const char *sl_conf_key_at(const struct sl_conf_node *node, size_t index)
{
    return index < node->n_children ? node->children[index]->key : NULL;
}

static bool is_plain_key(const char *key)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const size_t size = strlen(key);
    return size > 0 && size < KEY_BYTES && strspn(key, letters) == size;
}

/* One step of a path: "[2]", "name", or `"odd name"`. */
static void format_step(const struct sl_conf_node *node, char *room, size_t room_bytes)
{
    char quoted[KEY_BYTES];
    const bool has_dot = node->parent->parent != NULL;
    if (node->key == NULL) {
        (void)snprintf(room, room_bytes, "[%zu]", node->index);
    } else {
        const bool is_plain = is_plain_key(node->key);
        (void)snprintf(
            room, room_bytes, "%s%s", has_dot ? "." : "",
            is_plain ? node->key : sl_log_quote(sl_slice_str(node->key), quoted, sizeof(quoted)));
    }
}

const char *sl_conf_path(const struct sl_conf_node *node)
{
    const struct sl_conf_node *steps[SL_CONF_MAX_DEPTH + 1];
    size_t n_steps = 0;
    for (; node->parent != NULL && n_steps < SL_COUNT(steps); node = node->parent) {
        steps[n_steps++] = node;
    }
    char path[SL_CONF_PATH_BYTES] = "";
    size_t size = 0;
    while (n_steps > 0) {
        char step[KEY_BYTES + 32];
        format_step(steps[--n_steps], step, sizeof(step));
        const size_t step_size = strlen(step);
        if (step_size >= sizeof(path) - size) {
            break;
        }
        memcpy(path + size, step, step_size + 1);
        size += step_size;
    }
    const char *copy = sl_arena_dup(&node->conf->arena, sl_slice_of(path, size));
    return copy == NULL ? "" : copy;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* A number as JSON spells it; "007" and "+1" are texts. */
static json_t *number_to_json(const char *text)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    int64_t integer = 0;
    double real = 0;
    if (digits[0] == '+' || (digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9')) {
        return NULL;
    }
    if (sl_parse_i64(sl_slice_str(text), INT64_MIN, INT64_MAX, &integer) == SL_OK) {
        return json_integer(integer);
    }
    return sl_parse_double(sl_slice_str(text), &real) == SL_OK ? json_real(real) : NULL;
}

static json_t *scalar_to_json(const struct sl_conf_node *node)
{
    if (sl_conf_is_null(node)) {
        return json_null();
    }
    if (!node->is_quoted) {
        if (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0) {
            return json_boolean(node->text[0] == 't');
        }
        json_t *number = number_to_json(node->text);
        if (number != NULL) {
            return number;
        }
    }
    return json_string(node->text);
}

json_t *sl_conf_to_json(const struct sl_conf_node *node)
{
    if (node->kind == SL_CONF_SCALAR) {
        return scalar_to_json(node);
    }
    const bool is_map = node->kind == SL_CONF_MAP;
    json_t *json = is_map ? json_object() : json_array();
    for (size_t i = 0; json != NULL && i < node->n_children; i++) {
        json_t *child = sl_conf_to_json(node->children[i]); /* at most SL_CONF_MAX_DEPTH deep */
        const int rc = is_map ? json_object_set_new(json, node->children[i]->key, child)
                              : json_array_append_new(json, child);
        if (rc != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    return json;
}
