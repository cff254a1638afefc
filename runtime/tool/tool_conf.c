/* Tools out of configuration: `tools:` of the daemon and one entry of an agent's `tools:` list. */
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"
#include "runtime/tool/builtin.h"
#include "runtime/tool/schema.h"

enum {
    MIN_OUTPUT_BYTES = 1024,
    MAX_OUTPUT_BYTES = 1048576,
    DEFAULT_OUTPUT_BYTES = 65536,
    PROCESS_TIMEOUT_MS = 60000
};

static const char *const policy_names[] = { "allow", "deny", "ask", NULL };

/* ---- Copies: a tool outlives the file it was read from ------------------------------------------
 */

static const char *copy(
    struct sl_arena *arena, struct sl_conf *conf, const struct sl_conf_node *node, const char *text)
{
    const char *copied = sl_arena_dup(arena, sl_slice_str(text));
    if (copied == NULL) {
        sl_conf_error(conf, node, "no memory");
    }
    return copied;
}

/* ---- allow_hosts and what belongs to it ---------------------------------------------------------
 */

static bool read_hosts(
    struct sl_arena *arena,
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    struct sl_egress_rules *rules)
{
    const struct sl_conf_node *list = sl_conf_get_list(conf, map, "allow_hosts", SL_OPTIONAL);
    if (list == NULL) {
        return false;
    }
    const size_t n = sl_conf_size(list);
    rules->hosts = sl_arena_calloc(arena, n + 1, sizeof *rules->hosts);
    if (rules->hosts == NULL) {
        sl_conf_error(conf, list, "no memory");
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        const char *text = sl_conf_text(node);
        if (sl_conf_kind(node) != SL_CONF_SCALAR || !sl_egress_is_pattern(text)) {
            sl_conf_error(
                conf, node,
                "not a host: write api.example.com, *.example.com, or either with a :port");
            continue;
        }
        const char *copied = copy(arena, conf, node, text);
        if (copied != NULL) {
            rules->hosts[rules->n_hosts++] = copied;
        }
    }
    return true;
}

void sl_tools_configure(
    struct sl_tools *tools, struct sl_conf *conf, const struct sl_conf_node *top)
{
    const struct sl_conf_node *map = sl_conf_get_map(conf, top, "tools", SL_OPTIONAL);
    if (map == NULL) {
        return;
    }
    int policy = (int)tools->default_policy;
    (void)sl_conf_enum(conf, map, "default_policy", policy_names, &policy);
    tools->default_policy = (enum sl_tool_policy)policy;
    const struct sl_conf_node *http = sl_conf_get_map(conf, map, "http_request", SL_OPTIONAL);
    if (http != NULL) {
        (void)read_hosts(&tools->arena, conf, http, &tools->egress);
        (void)sl_conf_bool(conf, http, "allow_private", &tools->egress.allows_private);
        (void)sl_conf_bool(conf, http, "allow_http", &tools->egress.allows_http);
        (void)sl_conf_bytes(
            conf, http, "max_body", MIN_OUTPUT_BYTES, tools->limits->tool_output_kill,
            &tools->http_max_body_bytes);
        sl_conf_end(conf, http);
    }
    sl_conf_end(conf, map);
}

/* ---- What every entry may say -------------------------------------------------------------------
 */

struct reader {
    struct sl_tools *tools;
    struct sl_conf *conf;
    const struct sl_conf_node *entry; /* NULL fields are not looked for in a bare name */
    const struct sl_conf_node *map;   /* the entry, when it is a map */
    struct sl_tool *tool;
    bool is_enabled;
};

/* Names of credentials that a request must bring for this tool. */
static void read_forward(struct reader *reader)
{
    struct sl_tool *tool = reader->tool;
    const struct sl_conf_node *list =
        sl_conf_get_list(reader->conf, reader->map, "forward", SL_OPTIONAL);
    const size_t n = list == NULL ? 0 : sl_conf_size(list);
    if (n == 0) {
        return;
    }
    if (!tool->kind->takes_credentials) {
        sl_conf_error(reader->conf, list, "only a tool of type Process can receive credentials");
        return;
    }
    const char **names = sl_arena_calloc(&tool->arena, n + 1, sizeof *names);
    if (names == NULL) {
        sl_conf_error(reader->conf, list, "no memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        const char *name = sl_conf_text(node);
        if (sl_conf_kind(node) != SL_CONF_SCALAR || !sl_credentials_is_name(name)) {
            sl_conf_error(
                reader->conf, node, "must be a name: 1 to %d letters, digits, '_', '-' or '.'",
                (int)SL_CREDENTIAL_NAME_BYTES);
            return;
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(names[k], name) == 0) {
                sl_conf_error(reader->conf, node, "is there twice");
                return;
            }
        }
        names[i] = copy(&tool->arena, reader->conf, node, name);
        if (names[i] == NULL) {
            return;
        }
    }
    tool->info.forward = names;
}

static void read_common(struct reader *reader)
{
    struct sl_conf *conf = reader->conf;
    struct sl_tool_info *info = &reader->tool->info;
    (void)sl_conf_bool(conf, reader->map, "enabled", &reader->is_enabled);
    uint64_t timeout_s = 0;
    if (sl_conf_u64(
            conf, reader->map, "timeout_secs", 1, reader->tools->limits->tool_timeout / 1000,
            &timeout_s)) {
        info->timeout_ms = timeout_s * 1000;
    }
    if (info->timeout_ms > reader->tools->limits->tool_timeout) {
        info->timeout_ms = reader->tools->limits->tool_timeout;
    }
    (void)sl_conf_bool(conf, reader->map, "idempotent", &info->is_idempotent);
    int policy = (int)reader->tools->default_policy;
    (void)sl_conf_enum(conf, reader->map, "policy", policy_names, &policy);
    info->policy = (enum sl_tool_policy)policy;
    info->max_output_bytes = DEFAULT_OUTPUT_BYTES;
    (void)sl_conf_bytes(
        conf, reader->map, "max_output_bytes", MIN_OUTPUT_BYTES, MAX_OUTPUT_BYTES,
        &info->max_output_bytes);
    read_forward(reader);
    reader->tool->max_arguments_bytes = (size_t)reader->tools->limits->tool_arguments;
}

/* Takes the schema and writes it out for the model. */
static void set_parameters(struct reader *reader, const struct sl_conf_node *node, json_t *schema)
{
    struct sl_tool *tool = reader->tool;
    tool->parameters = schema;
    const size_t size = schema == NULL ? 0 : json_dumpb(schema, NULL, 0, JSON_COMPACT);
    char *text = size == 0 ? NULL : sl_arena_alloc(&tool->arena, size + 1);
    if (text == NULL || json_dumpb(schema, text, size, JSON_COMPACT) != size) {
        sl_conf_error(reader->conf, node, "no memory");
        return;
    }
    text[size] = '\0';
    tool->info.parameters_json = text;
}

/* ---- Builtins -----------------------------------------------------------------------------------
 */

/* This entry's own, narrower rules of http_request. */
static void read_http_config(struct reader *reader, const struct sl_conf_node *config)
{
    struct sl_tool *tool = reader->tool;
    tool->narrow_egress = sl_arena_calloc(&tool->arena, 1, sizeof *tool->narrow_egress);
    if (tool->narrow_egress == NULL) {
        sl_conf_error(reader->conf, config, "no memory");
        return;
    }
    /* the rest is the daemon's to say */
    tool->narrow_egress->allows_private = true;
    tool->narrow_egress->allows_http = true;
    if (!read_hosts(&tool->arena, reader->conf, config, tool->narrow_egress)) {
        tool->narrow_egress = NULL;
    }
    (void)sl_conf_bytes(
        reader->conf, config, "max_body", MIN_OUTPUT_BYTES, reader->tools->http_max_body_bytes,
        &tool->max_body_bytes);
}

static void read_builtin(struct reader *reader, const struct sl_builtin *builtin)
{
    struct sl_tool *tool = reader->tool;
    tool->info.name = builtin->name;
    tool->info.description = builtin->description;
    tool->info.timeout_ms = builtin->timeout_ms;
    tool->info.is_idempotent = builtin->is_idempotent;
    json_error_t error;
    set_parameters(reader, reader->entry, json_loads(builtin->parameters_json, 0, &error));
    read_common(reader);
    const struct sl_conf_node *config =
        sl_conf_get_map(reader->conf, reader->map, "config", SL_OPTIONAL);
    if (builtin->kind == &sl_tool_kind_http) {
        tool->egress = &reader->tools->egress;
        tool->max_body_bytes = reader->tools->http_max_body_bytes;
        if (config != NULL) {
            read_http_config(reader, config);
        }
    }
    if (config != NULL) {
        sl_conf_end(reader->conf, config);
    }
}

/* ---- Processes ----------------------------------------------------------------------------------
 */

static bool is_tool_name(const char *name)
{
    size_t n = 0;
    for (; name[n] != '\0'; n++) {
        const char c = name[n];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-')) {
            return false;
        }
    }
    return n >= 1 && n <= 64;
}

static bool is_variable_name(const char *name)
{
    for (const char *p = name; *p != '\0'; p++) {
        const bool is_letter = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || *p == '_';
        if (!is_letter && (p == name || *p < '0' || *p > '9')) {
            return false;
        }
    }
    return *name != '\0';
}

/* "{{name}}": gives the name's size; 0: the word is none. */
static size_t placeholder(const char *word)
{
    const size_t size = strlen(word);
    const bool is_one =
        size > 4 && strncmp(word, "{{", 2) == 0 && strcmp(word + size - 2, "}}") == 0;
    return is_one ? size - 4 : 0;
}

static void check_placeholder(
    struct reader *reader, const struct sl_conf_node *node, const char *word, size_t name_size)
{
    const json_t *properties = json_object_get(reader->tool->parameters, "properties");
    char name[128];
    if (name_size >= sizeof name) {
        sl_conf_error(reader->conf, node, "the name is too long");
        return;
    }
    memcpy(name, word + 2, name_size);
    name[name_size] = '\0';
    if (json_object_get(properties, name) == NULL) {
        sl_conf_error(
            reader->conf, node, "there is no parameter '%s' in parameters.properties", name);
    }
}

static void
check_program(struct reader *reader, const struct sl_conf_node *node, const char *program)
{
    if (program[0] == '\0' || placeholder(program) > 0) {
        sl_conf_error(reader->conf, node, "the first word must be a program");
    } else if (program[0] != '/' && strchr(program, '/') != NULL) {
        sl_conf_error(
            reader->conf, node, "must be a name that is looked up in PATH, or begin with '/'");
    }
}

static void read_command(struct reader *reader, const struct sl_conf_node *config)
{
    const struct sl_conf_node *list =
        sl_conf_get_list(reader->conf, config, "command", SL_REQUIRED);
    const size_t n = list == NULL ? 0 : sl_conf_size(list);
    if (n == 0) {
        if (list != NULL) {
            sl_conf_error(reader->conf, list, "must name a program");
        }
        return;
    }
    struct sl_arena *arena = &reader->tool->arena;
    const char **argv = sl_arena_calloc(arena, n + 1, sizeof *argv);
    if (argv == NULL) {
        sl_conf_error(reader->conf, list, "no memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        const char *word = sl_conf_text(node);
        if (sl_conf_kind(node) != SL_CONF_SCALAR) {
            sl_conf_error(reader->conf, node, "must be a word");
            continue;
        }
        const size_t name_size = placeholder(word);
        if (i == 0) {
            check_program(reader, node, word);
        } else if (name_size > 0) {
            check_placeholder(reader, node, word, name_size);
        } else if (strstr(word, "{{") != NULL) {
            sl_conf_error(
                reader->conf, node, "a {{parameter}} must be a whole word: there is no shell");
        }
        argv[i] = copy(arena, reader->conf, node, word);
    }
    reader->tool->process.argv = argv;
}

static const char *variable(
    struct reader *reader, const struct sl_conf_node *node, const char *name, const char *value)
{
    const size_t size = strlen(name) + strlen(value) + 2;
    char *text = sl_arena_alloc(&reader->tool->arena, size);
    if (text == NULL) {
        sl_conf_error(reader->conf, node, "no memory");
        return NULL;
    }
    (void)snprintf(text, size, "%s=%s", name, value);
    return text;
}

static void check_variable(struct reader *reader, const struct sl_conf_node *node, const char *name)
{
    const char *value = sl_conf_text(node);
    if (sl_conf_kind(node) != SL_CONF_SCALAR) {
        sl_conf_error(reader->conf, node, "must be a text");
    } else if (!is_variable_name(name) || strncmp(name, "SLUICE_", 7) == 0) {
        sl_conf_error(reader->conf, node, "not a name that a tool may have in its environment");
    } else if (strncmp(value, "env:", 4) == 0 || strncmp(value, "file:", 5) == 0) {
        sl_conf_error(reader->conf, node, "secrets do not go into a tool's environment");
    }
}

/* The allow-list first; the entry's own come after it and replace what has the same name. */
static void read_environment(struct reader *reader, const struct sl_conf_node *config)
{
    const struct sl_tools *tools = reader->tools;
    const struct sl_conf_node *map = sl_conf_get_map(reader->conf, config, "env", SL_OPTIONAL);
    const size_t n_own = map == NULL ? 0 : sl_conf_size(map);
    const char **list = sl_arena_calloc(&reader->tool->arena, n_own + 8, sizeof *list);
    if (list == NULL) {
        sl_conf_error(reader->conf, config, "no memory");
        return;
    }
    const char *const defaults[][2] = { { "PATH", tools->path },
                                        { "HOME", reader->tool->process.cwd },
                                        { "LANG", tools->lang },
                                        { "TZ", tools->time_zone },
                                        { "TERM", "dumb" } };
    size_t n = 0;
    for (size_t i = 0; i < SL_COUNT(defaults); i++) {
        const char *name = defaults[i][0];
        bool is_replaced = defaults[i][1] == NULL;
        for (size_t k = 0; k < n_own; k++) {
            is_replaced = is_replaced || strcmp(sl_conf_key_at(map, k), name) == 0;
        }
        if (!is_replaced) {
            list[n++] = variable(reader, config, name, defaults[i][1]);
        }
    }
    for (size_t k = 0; k < n_own; k++) {
        const struct sl_conf_node *node = sl_conf_at(map, k);
        check_variable(reader, node, sl_conf_key_at(map, k));
        list[n++] = variable(reader, node, sl_conf_key_at(map, k), sl_conf_text(node));
        sl_conf_allow(reader->conf, map, sl_conf_key_at(map, k));
    }
    reader->tool->process.environment = list;
}

static void read_process_config(struct reader *reader, const struct sl_conf_node *config)
{
    static const char *const inputs[] = { "none", "arguments", NULL };
    struct sl_tool *tool = reader->tool;
    tool->process.cwd = "/";
    const char *cwd = NULL;
    if (sl_conf_str(reader->conf, config, "cwd", SL_OPTIONAL, &cwd)) {
        if (cwd[0] != '/') {
            sl_conf_error(
                reader->conf, sl_conf_get(reader->conf, config, "cwd", SL_OPTIONAL),
                "must begin with '/'");
        }
        tool->process.cwd = copy(&tool->arena, reader->conf, config, cwd);
    }
    int input = 0;
    (void)sl_conf_enum(reader->conf, config, "stdin", inputs, &input);
    tool->process.has_arguments_on_stdin = input == 1;
    (void)sl_conf_bool(reader->conf, config, "allow_dashes", &tool->process.allows_dashes);
    if (tool->process.cwd != NULL) {
        read_environment(reader, config);
    }
    read_command(reader, config);
    sl_conf_end(reader->conf, config);
}

static void read_parameters(struct reader *reader)
{
    const struct sl_conf_node *node =
        sl_conf_get_map(reader->conf, reader->map, "parameters", SL_OPTIONAL);
    if (node == NULL) {
        json_error_t error;
        set_parameters(
            reader, reader->entry,
            json_loads(
                "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}", 0,
                &error));
        return;
    }
    set_parameters(reader, node, sl_conf_to_json(node));
    struct sl_error err = { 0 };
    if (reader->tool->parameters != NULL &&
        sl_schema_check(reader->tool->parameters, &err) != SL_OK) {
        sl_conf_error(reader->conf, node, "%s", err.text);
    }
}

static void read_process(struct reader *reader)
{
    struct sl_tool *tool = reader->tool;
    struct sl_conf *conf = reader->conf;
    const char *text = NULL;
    tool->info.name = "";
    tool->info.description = "";
    if (sl_conf_str(conf, reader->map, "name", SL_REQUIRED, &text)) {
        if (!is_tool_name(text)) {
            sl_conf_error(
                conf, sl_conf_get(conf, reader->map, "name", SL_OPTIONAL),
                "must be 1 to 64 letters, digits, '_' or '-'");
        }
        tool->info.name = copy(&tool->arena, conf, reader->map, text);
    }
    if (sl_conf_str(conf, reader->map, "description", SL_REQUIRED, &text)) {
        tool->info.description = copy(&tool->arena, conf, reader->map, text);
    }
    tool->info.timeout_ms = PROCESS_TIMEOUT_MS;
    read_common(reader);
    read_parameters(reader);
    const struct sl_conf_node *config = sl_conf_get_map(conf, reader->map, "config", SL_REQUIRED);
    if (config != NULL) {
        read_process_config(reader, config);
    }
    const char *launcher = reader->tools->launcher;
    if (launcher == NULL || access(launcher, X_OK) != 0) {
        sl_conf_error(
            conf, reader->map, "the program that starts tools (%s) is not there",
            launcher == NULL ? "sluice-exec" : launcher);
    }
}

/* ---- Entries ------------------------------------------------------------------------------------
 */

static bool make_tool(struct reader *reader, const struct sl_tool_kind *kind)
{
    reader->tool = sl_tool_new(kind);
    if (reader->tool == NULL) {
        sl_conf_error(reader->conf, reader->entry, "no memory");
    }
    return reader->tool != NULL;
}

static void read_named(struct reader *reader, const struct sl_conf_node *node, const char *name)
{
    const struct sl_builtin *builtin = sl_builtin_find(name);
    if (builtin != NULL) {
        if (make_tool(reader, builtin->kind)) {
            read_builtin(reader, builtin);
        }
        return;
    }
    const char *nearest = sl_builtin_nearest(name);
    if (sl_builtin_is_planned(name)) {
        sl_conf_error(reader->conf, node, "the tool '%s' is not supported yet by this build", name);
    } else if (nearest != NULL) {
        sl_conf_error(
            reader->conf, node, "there is no tool '%s'; did you mean '%s'?", name, nearest);
    } else {
        sl_conf_error(
            reader->conf, node,
            "there is no tool '%s'; there are current_time, system_info and http_request", name);
    }
}

static void read_typed(struct reader *reader, const char *type)
{
    static const char *const later[] = { "Shell", "HTTP", "MCP" };
    const struct sl_conf_node *node = sl_conf_get(reader->conf, reader->map, "type", SL_OPTIONAL);
    if (strcmp(type, "Process") == 0) {
        if (make_tool(reader, &sl_tool_kind_process)) {
            read_process(reader);
            sl_conf_end(reader->conf, reader->map);
        }
        return;
    }
    for (size_t i = 0; i < SL_COUNT(later); i++) {
        if (strcmp(type, later[i]) == 0) {
            sl_conf_error(
                reader->conf, node, "the type '%s' is not supported yet by this build", type);
            return;
        }
    }
    sl_conf_error(reader->conf, node, "there is no type '%s'; there is Process", type);
}

static void read_map(struct reader *reader)
{
    static const char *const sources[] = { "builtin", "mcp", NULL };
    const char *text = NULL;
    if (sl_conf_get(reader->conf, reader->map, "type", SL_OPTIONAL) != NULL) {
        if (sl_conf_str(reader->conf, reader->map, "type", SL_REQUIRED, &text)) {
            read_typed(reader, text);
        }
        return;
    }
    int source = 0;
    (void)sl_conf_enum(reader->conf, reader->map, "source", sources, &source);
    if (source == 1) {
        sl_conf_error(
            reader->conf, sl_conf_get(reader->conf, reader->map, "source", SL_OPTIONAL),
            "tools of MCP servers are not supported yet by this build");
        return;
    }
    if (sl_conf_str(reader->conf, reader->map, "name", SL_REQUIRED, &text)) {
        read_named(reader, sl_conf_get(reader->conf, reader->map, "name", SL_OPTIONAL), text);
        if (reader->tool != NULL) {
            sl_conf_end(reader->conf, reader->map);
        }
    }
}

struct sl_tool *
sl_tools_from_conf(struct sl_tools *tools, struct sl_conf *conf, const struct sl_conf_node *entry)
{
    const size_t n_errors = sl_conf_n_errors(conf);
    struct reader reader = { .tools = tools, .conf = conf, .entry = entry, .is_enabled = true };
    switch (sl_conf_kind(entry)) {
    case SL_CONF_SCALAR:
        read_named(&reader, entry, sl_conf_text(entry));
        break;
    case SL_CONF_MAP:
        reader.map = entry;
        read_map(&reader);
        break;
    case SL_CONF_LIST:
        sl_conf_error(conf, entry, "must be a tool's name or a map");
        break;
    }
    if (sl_conf_n_errors(conf) != n_errors || !reader.is_enabled) {
        return sl_tool_unref(reader.tool);
    }
    return reader.tool;
}
