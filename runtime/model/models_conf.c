/* `providers:` and `default_provider:` of the configuration. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/conf.h"
#include "runtime/base/log.h"
#include "runtime/base/log_text.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/model/models.h"

enum { NAME_BYTES = 64, SECRET_BYTES = 16384, MAX_ENTRY_HEADERS = 32 };

/* What the functions that read one entry share. */
struct reader {
    struct sl_models *models;
    struct sl_conf *conf;
    struct sl_model_entry *entry;
};

/* ---- Secrets ------------------------------------------------------------------------------------
 */

static const char *keep(struct sl_models *models, struct sl_slice text)
{
    return sl_arena_dup(&models->arena, text);
}

static enum sl_status
set_problem(struct sl_models *models, const char *what, const char *why, const char **ret_problem)
{
    char text[256];
    const int n = snprintf(text, sizeof(text), "%s %s", what, why);
    if (n < 0) {
        return SL_INTERNAL;
    }
    *ret_problem = keep(models, sl_slice_str(text));
    return *ret_problem == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

/* The text without the white space at its end. */
static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && strchr(" \t\r\n", text.data[text.size - 1]) != NULL) {
        text.size--;
    }
    return text;
}

static enum sl_status keep_secret(
    struct sl_models *models,
    const char *what,
    struct sl_slice value,
    const char **ret_value,
    const char **ret_problem)
{
    value = trim(value);
    if (value.size == 0) {
        return set_problem(models, what, "is empty", ret_problem);
    }
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < 0x20 || value.data[i] == 0x7F) {
            return set_problem(models, what, "has a control character", ret_problem);
        }
    }
    *ret_value = keep(models, value);
    if (*ret_value == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_log_add_secret(*ret_value);
    return SL_OK;
}

/* At the start of the daemon, so that it may block. */
static ssize_t read_file(const char *path, uint8_t *room, size_t room_bytes)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd < 0) {
        return -1;
    }
    ssize_t n = -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        n = read(fd, room, room_bytes);
    }
    (void)close(fd);
    return n;
}

enum sl_status sl_models_secret(
    struct sl_models *models, const char *spec, const char **ret_value, const char **ret_problem)
{
    if (strncmp(spec, "env:", 4) == 0 && spec[4] != '\0') {
        const char *value = models->env == NULL ? NULL : models->env(spec + 4);
        return value == NULL
                   ? set_problem(models, spec + 4, "is not set", ret_problem)
                   : keep_secret(models, spec + 4, sl_slice_str(value), ret_value, ret_problem);
    }
    if (strncmp(spec, "file:/", 6) != 0) {
        return SL_INVALID_ARGUMENT;
    }
    uint8_t room[SECRET_BYTES];
    const ssize_t n = read_file(spec + 5, room, sizeof(room));
    if (n < 0) {
        return set_problem(models, spec + 5, "cannot be read", ret_problem);
    }
    if ((size_t)n == sizeof(room)) {
        return set_problem(models, spec + 5, "is too long", ret_problem);
    }
    return keep_secret(models, spec + 5, sl_slice_of(room, (size_t)n), ret_value, ret_problem);
}

/* ---- Fields of an entry -------------------------------------------------------------------------
 */

static void out_of_memory(struct reader *reader, const struct sl_conf_node *node)
{
    sl_conf_error(reader->conf, node, "no memory");
}

static const char *
read_text(struct reader *reader, const struct sl_conf_node *map, const char *key, const char *old)
{
    const char *text = NULL;
    if (!sl_conf_str(reader->conf, map, key, SL_OPTIONAL, &text)) {
        return old;
    }
    const char *copy = keep(reader->models, sl_slice_str(text));
    if (copy == NULL) {
        out_of_memory(reader, map);
        return old;
    }
    return copy;
}

static void read_secret(struct reader *reader, const struct sl_conf_node *map)
{
    const char *spec = NULL;
    if (!sl_conf_str(reader->conf, map, "api_key", SL_OPTIONAL, &spec)) {
        return;
    }
    reader->entry->key = reader->entry->problem = NULL;
    switch (
        (int)sl_models_secret(reader->models, spec, &reader->entry->key, &reader->entry->problem)) {
    case SL_OK:
        break;
    case SL_INVALID_ARGUMENT:
        sl_conf_error(
            reader->conf, map, "api_key must be env:NAME or file:/path, never the key itself");
        break;
    default:
        out_of_memory(reader, map);
        break;
    }
}

const char *sl_models_url_fault(const char *url)
{
    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0) {
        return "must begin with http:// or https://";
    }
    return strpbrk(url, " \t\r\n@?#") == NULL ? NULL
                                              : "may have no blanks, user, query or fragment";
}

static void read_url(struct reader *reader, const struct sl_conf_node *map)
{
    const char *text = NULL;
    if (!sl_conf_str(reader->conf, map, "base_url", SL_OPTIONAL, &text)) {
        return;
    }
    const char *fault = sl_models_url_fault(text);
    if (fault != NULL) {
        sl_conf_error(reader->conf, map, "base_url %s", fault);
        return;
    }
    struct sl_slice url = sl_slice_str(text);
    while (url.size > 0 && url.data[url.size - 1] == '/') {
        url.size--;
    }
    const char *copy = keep(reader->models, url);
    if (copy == NULL) {
        out_of_memory(reader, map);
        return;
    }
    reader->entry->base_url = copy;
}

static bool is_token(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "!#$%&'*+-.^_`|~";
    return *text != '\0' && strspn(text, letters) == strlen(text);
}

/* The value of a header: a secret, or a text that does not look like one. NULL: it was refused. */
static const char *
read_header_value(struct reader *reader, const struct sl_conf_node *map, const char *key)
{
    const char *text = NULL;
    const char *value = NULL;
    if (!sl_conf_str(reader->conf, map, key, SL_REQUIRED, &text)) {
        return NULL;
    }
    if (strncmp(text, "env:", 4) == 0 || strncmp(text, "file:", 5) == 0) {
        if (sl_models_secret(reader->models, text, &value, &reader->entry->problem) != SL_OK) {
            sl_conf_error(reader->conf, map, "header %s: must be env:NAME or file:/path", key);
        }
        return value;
    }
    const struct sl_slice slice = sl_slice_str(text);
    for (size_t i = 0; i < slice.size; i++) {
        if (slice.data[i] < 0x20 || sl_log_text_secret_at(slice, i, false) > 0) {
            sl_conf_error(
                reader->conf, map, "header %s: a control character, or a secret in plain text",
                key);
            return NULL;
        }
    }
    return text;
}

static const char *
read_header(struct reader *reader, const struct sl_conf_node *map, const char *key)
{
    const char *value = read_header_value(reader, map, key);
    if (value == NULL) {
        return NULL;
    }
    if (!is_token(key)) {
        sl_conf_error(reader->conf, map, "'%s' is no name of a header", key);
        return NULL;
    }
    const size_t size = strlen(key) + strlen(value) + 3;
    char *line = sl_arena_alloc(&reader->models->arena, size);
    if (line == NULL) {
        out_of_memory(reader, map);
        return NULL;
    }
    (void)snprintf(line, size, "%s: %s", key, value);
    return line;
}

static void read_headers(struct reader *reader, const struct sl_conf_node *map)
{
    const struct sl_conf_node *headers = sl_conf_get_map(reader->conf, map, "headers", SL_OPTIONAL);
    if (headers == NULL) {
        return;
    }
    const size_t n = sl_conf_size(headers);
    if (n > MAX_ENTRY_HEADERS) {
        sl_conf_error(reader->conf, headers, "more than %d headers", MAX_ENTRY_HEADERS);
        return;
    }
    const char **list = sl_arena_calloc(&reader->models->arena, n + 1, sizeof(*list));
    if (list == NULL) {
        out_of_memory(reader, map);
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        list[kept] = read_header(reader, headers, sl_conf_key_at(headers, i));
        kept += list[kept] != NULL;
    }
    reader->entry->headers = list;
}

/* ---- Limits of an entry -------------------------------------------------------------------------
 */

struct limit_key {
    const char *key;   /* in the entry */
    const char *limit; /* in struct sl_limits */
};

static void
read_limit(struct reader *reader, const struct sl_conf_node *map, const struct limit_key *key)
{
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        const struct sl_limit_info *info = &sl_limit_infos[i];
        uint64_t *field = sl_limits_field(&reader->entry->limits, info);
        if (strcmp(info->name, key->limit) != 0) {
            continue;
        }
        switch (info->unit) {
        case SL_UNIT_COUNT:
            (void)sl_conf_u64(reader->conf, map, key->key, info->least, info->greatest, field);
            break;
        case SL_UNIT_BYTES:
            (void)sl_conf_bytes(reader->conf, map, key->key, info->least, info->greatest, field);
            break;
        case SL_UNIT_MS:
            (void)sl_conf_duration_ms(
                reader->conf, map, key->key, info->least, info->greatest, field);
            break;
        }
    }
}

static void read_group(
    struct reader *reader,
    const struct sl_conf_node *map,
    const char *group,
    const struct limit_key *keys,
    size_t n)
{
    const struct sl_conf_node *node = sl_conf_get_map(reader->conf, map, group, SL_OPTIONAL);
    if (node == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        read_limit(reader, node, &keys[i]);
    }
    sl_conf_end(reader->conf, node);
}

static void read_limits(struct reader *reader, const struct sl_conf_node *map)
{
    static const struct limit_key timers[] = {
        { "connect", "model_connect" },     { "first_byte", "model_first_byte" },
        { "idle", "model_idle" },           { "no_progress", "model_no_progress" },
        { "end_grace", "model_end_grace" },
    };
    static const struct limit_key caps[] = {
        { "line", "model_line" },
        { "event", "model_event" },
        { "stream", "model_stream" },
        { "error_body", "model_error_body" },
        { "reply", "model_reply" },
        { "request", "model_request" },
        { "arguments", "tool_arguments" },
        { "calls", "calls_per_iteration" },
        { "json_depth", "model_json_depth" },
    };
    static const struct limit_key retry[] = {
        { "max", "model_retries" },
        { "retry_after_max", "model_retry_after" },
    };
    static const struct limit_key concurrent = { "max_concurrent", "model_concurrent" };
    read_group(reader, map, "timers", timers, SL_COUNT(timers));
    read_group(reader, map, "caps", caps, SL_COUNT(caps));
    read_group(reader, map, "retry", retry, SL_COUNT(retry));
    read_limit(reader, map, &concurrent);
    reader->entry->gate.max = reader->entry->limits.model_concurrent;
}

/* ---- Quirks -------------------------------------------------------------------------------------
 */

static void read_extra_body(struct reader *reader, const struct sl_conf_node *quirks)
{
    static const char *const taken[] = { "model", "messages", "stream", "tools" };
    const struct sl_conf_node *node =
        sl_conf_get_map(reader->conf, quirks, "extra_body", SL_OPTIONAL);
    if (node == NULL) {
        return;
    }
    json_t *body = sl_conf_to_json(node);
    if (body == NULL) {
        out_of_memory(reader, node);
        return;
    }
    for (size_t i = 0; i < SL_COUNT(taken); i++) {
        if (json_object_get(body, taken[i]) != NULL) {
            sl_conf_error(reader->conf, node, "extra_body may not set %s", taken[i]);
        }
    }
    json_decref(reader->entry->quirks.extra_body);
    reader->entry->quirks.extra_body = body;
}

/* One of two names, the second of which sets the flag. */
static void read_flag(
    struct reader *reader,
    const struct sl_conf_node *map,
    const char *key,
    const char *const *names,
    bool *flag)
{
    int index = *flag ? 1 : 0;
    (void)sl_conf_enum(reader->conf, map, key, names, &index);
    *flag = index == 1;
}

static void read_quirk_names(struct reader *reader, const struct sl_conf_node *node)
{
    static const char *const tokens[] = { "max_tokens", "max_completion_tokens", NULL };
    static const char *const echoes[] = { "none", "reasoning_content", "reasoning", NULL };
    static const char *const ids[] = { "call24", "alnum9", NULL };
    static const char *const auths[] = { "bearer", "api-key", NULL };
    static const char *const parallel[] = { "unset", "true", "false", NULL };
    struct sl_quirks *quirks = &reader->entry->quirks;
    int max_tokens = (int)quirks->max_tokens_field;
    int echo = (int)quirks->reasoning_echo;
    int id = (int)quirks->tool_id_format;
    int auth = (int)quirks->auth;
    int calls = (int)quirks->parallel_tool_calls;
    (void)sl_conf_enum(reader->conf, node, "max_tokens_field", tokens, &max_tokens);
    (void)sl_conf_enum(reader->conf, node, "reasoning_echo", echoes, &echo);
    (void)sl_conf_enum(reader->conf, node, "tool_id_format", ids, &id);
    (void)sl_conf_enum(reader->conf, node, "auth", auths, &auth);
    (void)sl_conf_enum(reader->conf, node, "parallel_tool_calls", parallel, &calls);
    quirks->max_tokens_field = (enum sl_quirk_max_tokens)max_tokens;
    quirks->reasoning_echo = (enum sl_quirk_echo)echo;
    quirks->tool_id_format = (enum sl_quirk_id)id;
    quirks->auth = (enum sl_quirk_auth)auth;
    quirks->parallel_tool_calls = (enum sl_quirk_parallel)calls;
}

static void read_quirks(struct reader *reader, const struct sl_conf_node *map)
{
    static const char *const roles[] = { "system", "developer", NULL };
    static const char *const usage[] = { "option", "never", NULL };
    static const char *const done[] = { "error", "end_turn", NULL };
    const struct sl_conf_node *node = sl_conf_get_map(reader->conf, map, "quirks", SL_OPTIONAL);
    struct sl_quirks *quirks = &reader->entry->quirks;
    if (node == NULL) {
        return;
    }
    read_quirk_names(reader, node);
    read_flag(reader, node, "system_role", roles, &quirks->developer_role);
    read_flag(reader, node, "stream_usage", usage, &quirks->no_stream_usage);
    read_flag(reader, node, "done_without_finish", done, &quirks->done_is_end);
    (void)sl_conf_bool(reader->conf, node, "openai_stream_options", &quirks->no_obfuscation);
    (void)sl_conf_bool(
        reader->conf, node, "reasoning_details_echo", &quirks->reasoning_details_echo);
    quirks->path = read_text(reader, node, "path", quirks->path);
    if (quirks->path != NULL && *quirks->path != '/') {
        sl_conf_error(reader->conf, node, "path must begin with a slash");
    }
    quirks->idempotency_header =
        read_text(reader, node, "idempotency_header", quirks->idempotency_header);
    if (quirks->idempotency_header != NULL && !is_token(quirks->idempotency_header)) {
        sl_conf_error(reader->conf, node, "idempotency_header is no name of a header");
    }
    read_extra_body(reader, node);
    sl_conf_end(reader->conf, node);
}

/* ---- Entries ------------------------------------------------------------------------------------
 */

static void read_scenario(struct reader *reader, const struct sl_conf_node *map)
{
    const char *path = NULL;
    struct sl_conf *file = NULL;
    struct sl_error error = { .text = "" };
    if (!sl_conf_str(reader->conf, map, "scenario", SL_REQUIRED, &path)) {
        return;
    }
    enum sl_status status = sl_conf_read(path, &file, &error);
    if (status == SL_OK) {
        status = sl_scenario_from_conf(file, &reader->entry->scenario);
        for (size_t i = 0; i < sl_conf_n_errors(file); i++) {
            sl_conf_error(reader->conf, map, "%s", sl_conf_error_at(file, i));
        }
    } else {
        sl_conf_error(reader->conf, map, "scenario: %s", error.text);
    }
    if (status == SL_RESOURCE_EXHAUSTED) {
        out_of_memory(reader, map);
    }
    sl_conf_free(file);
}

static bool is_good_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const size_t n = strlen(name);
    return n >= 1 && n <= NAME_BYTES && strspn(name, letters) == n &&
           sl_models_refused(name, n) == NULL;
}

/* The kind that the entry names, or that its preset has. False: it was refused. */
static bool find_kind(
    struct reader *reader,
    const struct sl_conf_node *map,
    const char **ret_name,
    enum sl_model_kind *ret_kind)
{
    static const char *const names[] = {
        "openai_chat", "scripted", "openai_responses", "anthropic", "gemini", "ollama", NULL,
    };
    static const enum sl_model_kind kinds[] = {
        SL_MODEL_KIND_OPENAI_CHAT,
        SL_MODEL_KIND_SCRIPTED,
    };
    int index = -1;
    if (!sl_conf_enum(reader->conf, map, "kind", names, &index)) {
        if (reader->entry == NULL) {
            sl_conf_error(reader->conf, map, "kind is missing");
            return false;
        }
        *ret_name = reader->entry->kind_name;
        *ret_kind = reader->entry->kind;
        return true;
    }
    if ((size_t)index >= SL_COUNT(kinds)) {
        sl_conf_error(
            reader->conf, map, "provider kind %s is not supported yet by this build", names[index]);
        return false;
    }
    *ret_name = names[index];
    *ret_kind = kinds[index];
    return true;
}

static void read_proxy(struct reader *reader, const struct sl_conf_node *map)
{
    const char *proxy = read_text(reader, map, "proxy", reader->entry->proxy);
    reader->entry->proxy = proxy != NULL && strcmp(proxy, "none") == 0 ? NULL : proxy;
}

static void read_http(struct reader *reader, const struct sl_conf_node *map)
{
    read_url(reader, map);
    read_secret(reader, map);
    read_headers(reader, map);
    read_proxy(reader, map);
    (void)sl_conf_bool(reader->conf, map, "http2", &reader->entry->http2);
    read_quirks(reader, map);
    if (reader->entry->base_url == NULL) {
        sl_conf_error(reader->conf, map, "base_url is missing");
    }
}

static void
read_entry(struct sl_models *models, struct sl_conf *conf, const struct sl_conf_node *map)
{
    struct reader reader = { .models = models, .conf = conf };
    const char *name = NULL;
    const char *kind_name = NULL;
    enum sl_model_kind kind = SL_MODEL_KIND_UNSUPPORTED;
    if (sl_conf_kind(map) != SL_CONF_MAP) {
        sl_conf_error(conf, map, "a provider is a map");
        return;
    }
    if (!sl_conf_str(conf, map, "name", SL_REQUIRED, &name)) {
        return;
    }
    if (!is_good_name(name)) {
        sl_conf_error(conf, map, "'%s' cannot be the name of a provider", name);
        return;
    }
    reader.entry = sl_models_entry(models, name); /* a preset, which this entry changes */
    if (!find_kind(&reader, map, &kind_name, &kind)) {
        return;
    }
    if (reader.entry == NULL) {
        reader.entry = sl_models_add_entry(models, name, kind_name, kind);
    }
    if (reader.entry == NULL) {
        sl_conf_error(conf, map, "no memory");
        return;
    }
    reader.entry->kind = kind;
    reader.entry->kind_name = kind_name;
    read_limits(&reader, map);
    sl_models_read_prices(models, reader.entry, conf, map);
    if (kind == SL_MODEL_KIND_SCRIPTED) {
        read_scenario(&reader, map);
    } else if (kind == SL_MODEL_KIND_OPENAI_CHAT) {
        read_http(&reader, map);
    }
    sl_conf_end(conf, map);
}

static bool
is_repeated(const struct sl_conf_node *list, size_t at, struct sl_conf *conf, const char *name)
{
    for (size_t i = 0; i < at; i++) {
        const char *other = NULL;
        const struct sl_conf_node *map = sl_conf_at(list, i);
        if (sl_conf_kind(map) == SL_CONF_MAP &&
            sl_conf_str(conf, map, "name", SL_OPTIONAL, &other) && strcasecmp(name, other) == 0) {
            return true;
        }
    }
    return false;
}

static void
read_entries(struct sl_models *models, struct sl_conf *conf, const struct sl_conf_node *list)
{
    for (size_t i = 0; i < sl_conf_size(list); i++) {
        const struct sl_conf_node *map = sl_conf_at(list, i);
        const char *name = NULL;
        if (sl_conf_kind(map) == SL_CONF_MAP &&
            sl_conf_str(conf, map, "name", SL_OPTIONAL, &name) &&
            is_repeated(list, i, conf, name)) {
            sl_conf_error(conf, map, "provider '%s' is there twice", name);
            continue;
        }
        read_entry(models, conf, map);
    }
}

void sl_models_configure(
    struct sl_models *models, struct sl_conf *conf, const struct sl_conf_node *top)
{
    const char *name = NULL;
    const struct sl_conf_node *list = sl_conf_get_list(conf, top, "providers", SL_OPTIONAL);
    if (list != NULL) {
        read_entries(models, conf, list);
    }
    if (!sl_conf_str(conf, top, "default_provider", SL_OPTIONAL, &name)) {
        return;
    }
    const struct sl_model_entry *entry = sl_models_find(models, name, strlen(name));
    if (entry == NULL) {
        sl_conf_error(conf, top, "default_provider: there is no provider '%s'", name);
        return;
    }
    models->default_provider = entry->name;
}
