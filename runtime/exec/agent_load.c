/* One document of an agent file into one agent: the table of AL-9, field by field. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "runtime/exec/agent.h"
#include "runtime/exec/encode.h"
#include "runtime/tool/schema.h"

enum {
    AGENT_BYTES = 4 * 1024 * 1024,
    MAX_STOP = 16,
    MAX_TOOLS = 256,
    MIN_HEARTBEAT_MS = 1000,
    MAX_HEARTBEAT_MS = 60000,
    MIN_KEY_CHARS = 20,
    DEFAULT_ITERATIONS = 10,
    MS_PER_S = 1000,
    MAX_DETACH_S = 24 * 3600,
    MAX_APPROVERS = 64,
    DEFAULT_APPROVAL_S = 600,
    MAX_APPROVAL_S = 24 * 3600,
    DEFAULT_OUTPUT_RETRIES = 1,
    MAX_OUTPUT_RETRIES = 10
};

/* What the functions below share. */
struct load {
    const struct sl_agents_options *options;
    struct sl_conf *conf;
    struct sl_agent *agent;
    bool is_out_of_memory;
};

static const char *keep(struct load *load, const char *text)
{
    const char *copy = sl_arena_dup(&load->agent->arena, sl_slice_str(text));
    load->is_out_of_memory |= copy == NULL;
    return copy;
}

static void *room(struct load *load, size_t n, size_t size)
{
    void *block = sl_arena_calloc(&load->agent->arena, n == 0 ? 1 : n, size);
    load->is_out_of_memory |= block == NULL;
    return block;
}

/* ---- Secrets --------------------------------------------------------------------------------- */

static bool looks_like_key(const char *text)
{
    static const char *const beginnings[] = {
        "sk-",   "sk_live_", "ghp_", "github_pat_", "xoxb-",
        "xoxp-", "AIza",     "AKIA", "gsk_",        "Bearer "
    };
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+=";
    for (size_t i = 0; i < SL_COUNT(beginnings); i++) {
        const size_t size = strlen(beginnings[i]);
        if (strncmp(text, beginnings[i], size) == 0) {
            const size_t n_letters = strspn(text + size, letters);
            return n_letters + size >= MIN_KEY_CHARS && text[size + n_letters] == '\0';
        }
    }
    return false;
}

/* As deep as a configuration may be nested, which is 32. */
// NOLINTNEXTLINE(misc-no-recursion)
static void refuse_secrets(struct sl_conf *conf, const struct sl_conf_node *node)
{
    if (sl_conf_kind(node) == SL_CONF_SCALAR) {
        if (looks_like_key(sl_conf_text(node))) {
            sl_conf_error(conf, node, "this looks like a key; write env:NAME or file:/path");
        }
        return;
    }
    for (size_t i = 0; i < sl_conf_size(node); i++) {
        refuse_secrets(conf, sl_conf_at(node, i));
    }
}

/* ---- Small fields ---------------------------------------------------------------------------- */

static void refuse(struct load *load, const struct sl_conf_node *map, const char *key)
{
    const struct sl_conf_node *node = sl_conf_get(load->conf, map, key, SL_OPTIONAL);
    if (node != NULL) {
        sl_conf_error(load->conf, node, "is not supported yet");
    }
}

static bool is_name(const char *text)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static const char others[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t size = strlen(text);
    return size > 0 && size <= SL_AGENT_NAME_BYTES && strchr(first, text[0]) != NULL &&
           strspn(text, others) == size;
}

static void load_name(struct load *load, const struct sl_conf_node *map)
{
    const char *name = NULL;
    if (!sl_conf_str(load->conf, map, "name", SL_REQUIRED, &name)) {
        return;
    }
    if (!is_name(name)) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, map, "name", SL_OPTIONAL),
            "must be 1 to %d of a-z, 0-9, '.', '_', '-', and begin with a letter or a digit",
            SL_AGENT_NAME_BYTES);
    }
    load->agent->name = keep(load, name);
}

/* A map of texts, in file order. */
static void load_pairs(
    struct load *load,
    const struct sl_conf_node *map,
    const char *key,
    const char ***ret_keys,
    const char ***ret_values,
    size_t *ret_n)
{
    const struct sl_conf_node *pairs = sl_conf_get_map(load->conf, map, key, SL_OPTIONAL);
    if (pairs == NULL) {
        return;
    }
    const size_t n = sl_conf_size(pairs);
    const char **keys = room(load, n, sizeof(*keys));
    const char **values = room(load, n, sizeof(*values));
    for (size_t i = 0; i < n && !load->is_out_of_memory; i++) {
        const char *value = "";
        (void)sl_conf_str(load->conf, pairs, sl_conf_key_at(pairs, i), SL_REQUIRED, &value);
        keys[i] = keep(load, sl_conf_key_at(pairs, i));
        values[i] = keep(load, value);
    }
    *ret_keys = keys;
    *ret_values = values;
    *ret_n = n;
}

static void load_instructions(struct load *load, const struct sl_conf_node *spec)
{
    const char *text = NULL;
    const char *alias = NULL;
    const bool has_text = sl_conf_str(load->conf, spec, "instructions", SL_OPTIONAL, &text);
    const bool has_alias = sl_conf_str(load->conf, spec, "system_prompt", SL_OPTIONAL, &alias);
    if (has_text && has_alias) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, spec, "system_prompt", SL_OPTIONAL),
            "is another name of 'instructions'; give one of them");
    }
    if (has_text || has_alias) {
        load->agent->instructions = keep(load, has_text ? text : alias);
    }
}

static void load_model(struct load *load, const struct sl_conf_node *spec)
{
    const char *model = NULL;
    const char *provider = NULL;
    const bool has_model = sl_conf_str(load->conf, spec, "model", SL_REQUIRED, &model);
    (void)sl_conf_str(load->conf, spec, "provider", SL_OPTIONAL, &provider);
    if (!has_model) {
        return;
    }
    struct sl_agent *agent = load->agent;
    struct sl_error err = { .status = SL_OK };
    model = keep(load, model);
    if (model == NULL) {
        return;
    }
    if (sl_models_resolve(
            load->options->models, model, provider, &agent->provider, &agent->model, &err) !=
        SL_OK) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, spec, "model", SL_OPTIONAL), "%s", err.text);
        return;
    }
    agent->price = sl_models_price(load->options->models, agent->provider, agent->model);
    if (sl_models_check(load->options->models, agent->provider, &err) != SL_OK) {
        agent->problem = keep(load, err.text);
    }
}

static void load_memory(struct load *load, const struct sl_conf_node *spec)
{
    const struct sl_conf_node *node = sl_conf_get(load->conf, spec, "memory", SL_OPTIONAL);
    if (node == NULL) {
        return;
    }
    const char *type = sl_conf_text(node);
    if (sl_conf_kind(node) == SL_CONF_MAP) {
        type = "";
        (void)sl_conf_str(load->conf, node, "type", SL_REQUIRED, &type);
        sl_conf_end(load->conf, node);
    }
    if (strcmp(type, "None") == 0) {
        load->agent->memory = SL_MEMORY_NONE;
    } else if (strcmp(type, "Store") == 0) {
        load->agent->memory = SL_MEMORY_STORE;
    } else if (strcmp(type, "InMemory") == 0) {
        load->agent->memory = SL_MEMORY_PROCESS;
    } else if (
        strncmp(type, "File", 4) == 0 || strcmp(type, "SQLite") == 0 ||
        strcmp(type, "PostgreSQL") == 0) {
        sl_conf_error(
            load->conf, node, "where conversations are kept is the daemon's setting 'store:'");
    } else {
        sl_conf_error(load->conf, node, "must be None, InMemory or Store");
    }
}

/* ---- The model's options --------------------------------------------------------------------- */

static const double *
load_double(struct load *load, const struct sl_conf_node *spec, const char *key, double max)
{
    double value = 0;
    if (!sl_conf_double(load->conf, spec, key, 0.0, max, &value)) {
        return NULL;
    }
    double *kept = room(load, 1, sizeof(*kept));
    if (kept != NULL) {
        *kept = value;
    }
    return kept;
}

static void load_stop(struct load *load, const struct sl_conf_node *spec)
{
    const struct sl_conf_node *list = sl_conf_get_list(load->conf, spec, "stop", SL_OPTIONAL);
    if (list == NULL) {
        return;
    }
    const size_t n = sl_conf_size(list);
    if (n > MAX_STOP) {
        sl_conf_error(load->conf, list, "at most %d stop sequences", MAX_STOP);
        return;
    }
    struct sl_agent *agent = load->agent;
    agent->stop = room(load, n, sizeof(*agent->stop));
    for (size_t i = 0; i < n && agent->stop != NULL; i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        if (sl_conf_kind(node) != SL_CONF_SCALAR || sl_conf_text(node)[0] == '\0') {
            sl_conf_error(load->conf, node, "must be a text that is not empty");
            continue;
        }
        agent->stop[agent->n_stop++] = keep(load, sl_conf_text(node));
    }
}

static void load_reasoning(struct load *load, const struct sl_conf_node *spec)
{
    const struct sl_conf_node *map = sl_conf_get_map(load->conf, spec, "reasoning", SL_OPTIONAL);
    if (map == NULL) {
        return;
    }
    const char *effort = NULL;
    bool is_shown = true;
    if (sl_conf_str(load->conf, map, "effort", SL_OPTIONAL, &effort)) {
        load->agent->reasoning_effort = keep(load, effort);
    }
    (void)sl_conf_bool(load->conf, map, "show", &is_shown);
    load->agent->hides_reasoning = !is_shown;
    sl_conf_end(load->conf, map);
}

static void load_sampling(struct load *load, const struct sl_conf_node *spec)
{
    struct sl_agent *agent = load->agent;
    agent->temperature = load_double(load, spec, "temperature", 2.0);
    agent->top_p = load_double(load, spec, "top_p", 1.0);
    (void)sl_conf_u64(load->conf, spec, "max_tokens", 1, 100000000, &agent->max_tokens);
    load_stop(load, spec);
    load_reasoning(load, spec);
}

/* ---- The output ------------------------------------------------------------------------------ */

/* False: there is none, or a mistake. */
static bool load_schema(struct load *load, const struct sl_conf_node *spec)
{
    struct sl_output *output = &load->agent->output;
    const struct sl_conf_node *map =
        sl_conf_get_map(load->conf, spec, "output_schema", SL_OPTIONAL);
    if (map == NULL) {
        return false;
    }
    struct sl_error err = { .text = "" };
    output->schema = sl_conf_to_json(map);
    char *text = output->schema == NULL ? NULL : json_dumps(output->schema, JSON_COMPACT);
    if (text == NULL) {
        load->is_out_of_memory = true;
    } else {
        output->schema_json = keep(load, text);
    }
    free(text);
    if (output->schema != NULL && sl_schema_check(output->schema, &err) != SL_OK) {
        sl_conf_error(load->conf, map, "%s", err.text);
    }
    return true;
}

static void load_output(struct load *load, const struct sl_conf_node *spec)
{
    static const char *const modes[] = { "strict", "lenient", NULL };
    static const char *const rules[] = { "fail", "retry", "passthrough", NULL };
    static const char *const others[] = { "validation_mode", "on_validation_error", "max_retries" };
    struct sl_output *output = &load->agent->output;
    int mode = 0;
    int rule = 0;
    output->max_retries = DEFAULT_OUTPUT_RETRIES;
    const bool has_schema = load_schema(load, spec);
    (void)sl_conf_enum(load->conf, spec, "validation_mode", modes, &mode);
    (void)sl_conf_enum(load->conf, spec, "on_validation_error", rules, &rule);
    const bool has_max =
        sl_conf_u64(load->conf, spec, "max_retries", 1, MAX_OUTPUT_RETRIES, &output->max_retries);
    output->is_lenient = mode == 1;
    output->rule = (enum sl_output_rule)rule; /* in the order of their names */
    for (size_t i = 0; i < SL_COUNT(others); i++) {
        const struct sl_conf_node *node = sl_conf_get(load->conf, spec, others[i], SL_OPTIONAL);
        if (node != NULL && !has_schema) {
            sl_conf_error(load->conf, node, "needs 'output_schema'");
        }
    }
    if (has_schema && has_max && output->rule != SL_OUTPUT_RETRY) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, spec, "max_retries", SL_OPTIONAL),
            "is for on_validation_error: retry");
    }
}

/* ---- The run's options ----------------------------------------------------------------------- */

static void load_heartbeat(struct load *load, const struct sl_conf_node *spec)
{
    uint64_t value = 0;
    if (!sl_conf_u64(load->conf, spec, "heartbeat_ms", 0, MAX_HEARTBEAT_MS, &value)) {
        return;
    }
    if (value != 0 && value < MIN_HEARTBEAT_MS) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, spec, "heartbeat_ms", SL_OPTIONAL),
            "must be 0 or %d to %d", MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS);
    }
    load->agent->heartbeat_ms = value;
}

static void load_disconnect(struct load *load, const struct sl_conf_node *spec)
{
    static const char *const names[] = { "CANCEL", "DETACH", "DETACH_FOR", NULL };
    static const Sluice__V1__OnDisconnect values[] = { SL_DISCONNECT(CANCEL), SL_DISCONNECT(DETACH),
                                                       SL_DISCONNECT(DETACH_FOR) };
    struct sl_agent *agent = load->agent;
    int index = 0;
    uint64_t ttl_s = 0;
    (void)sl_conf_enum(load->conf, spec, "on_disconnect", names, &index);
    agent->on_disconnect = values[index];
    const bool has_ttl = sl_conf_u64(load->conf, spec, "detach_ttl_secs", 1, MAX_DETACH_S, &ttl_s);
    agent->detach_ttl_ms = ttl_s * MS_PER_S;
    if (agent->on_disconnect == SL_DISCONNECT(DETACH_FOR) && !has_ttl) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, spec, "on_disconnect", SL_OPTIONAL),
            "DETACH_FOR needs 'detach_ttl_secs'");
    }
}

static void load_durability(struct load *load, const struct sl_conf_node *spec)
{
    static const char *const names[] = { "NONE", "ASYNC", "SYNC", NULL };
    static const enum sl_store_durability values[] = { SL_STORE_NONE, SL_STORE_ASYNC,
                                                       SL_STORE_SYNC };
    int index = 0;
    load->agent->has_durability = sl_conf_enum(load->conf, spec, "durability", names, &index);
    load->agent->durability = values[index];
}

/* After load_durability(). */
static void load_slow_consumer(struct load *load, const struct sl_conf_node *spec)
{
    static const char *const names[] = { "PAUSE", "SPILL", "DISCONNECT", NULL };
    static const enum sl_slow_consumer values[] = { SL_SLOW_PAUSE, SL_SLOW_SPILL,
                                                    SL_SLOW_DISCONNECT };
    const struct sl_agent *agent = load->agent;
    int index = 0;
    (void)sl_conf_enum(load->conf, spec, "slow_consumer", names, &index);
    load->agent->slow_consumer = values[index];
    if (index > 0 && agent->has_durability && agent->durability == SL_STORE_NONE) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, spec, "slow_consumer", SL_OPTIONAL),
            "%s needs durability ASYNC or SYNC", names[index]);
    }
}

static void load_budget(struct load *load, const struct sl_conf_node *spec)
{
    const struct sl_conf_node *map = sl_conf_get_map(load->conf, spec, "budget", SL_OPTIONAL);
    if (map == NULL) {
        return;
    }
    struct sl_agent *agent = load->agent;
    (void)sl_conf_u64(load->conf, map, "max_tokens", 1, INT64_MAX, &agent->budget_tokens);
    (void)sl_conf_u64(
        load->conf, map, "max_tool_calls", 1, load->options->limits->calls_per_run,
        &agent->budget_tool_calls);
    if (sl_conf_u64(load->conf, map, "max_cost_micros", 1, INT64_MAX, &agent->budget_cost_micros) &&
        agent->model != NULL && !agent->price.is_known) {
        sl_conf_error(
            load->conf, sl_conf_get(load->conf, map, "max_cost_micros", SL_OPTIONAL),
            "needs 'prices' of model '%s' in the entry of provider '%s'", agent->model,
            agent->provider);
    }
    sl_conf_end(load->conf, map);
}

static void load_approvers(struct load *load, const struct sl_conf_node *map)
{
    const struct sl_conf_node *list = sl_conf_get_list(load->conf, map, "approvers", SL_OPTIONAL);
    if (list == NULL) {
        return;
    }
    const size_t n = sl_conf_size(list);
    if (n > MAX_APPROVERS) {
        sl_conf_error(load->conf, list, "at most %d approvers", MAX_APPROVERS);
        return;
    }
    struct sl_agent *agent = load->agent;
    agent->approvers = room(load, n, sizeof(*agent->approvers));
    for (size_t i = 0; i < n && agent->approvers != NULL; i++) {
        const struct sl_conf_node *node = sl_conf_at(list, i);
        if (sl_conf_kind(node) != SL_CONF_SCALAR || sl_conf_text(node)[0] == '\0') {
            sl_conf_error(load->conf, node, "must be a principal, or * for every one");
            continue;
        }
        agent->approvers[agent->n_approvers++] = keep(load, sl_conf_text(node));
    }
}

static void load_approval(struct load *load, const struct sl_conf_node *spec)
{
    const struct sl_conf_node *map = sl_conf_get_map(load->conf, spec, "approval", SL_OPTIONAL);
    uint64_t timeout_s = DEFAULT_APPROVAL_S;
    if (map != NULL) {
        load_approvers(load, map);
        (void)sl_conf_u64(load->conf, map, "timeout_secs", 1, MAX_APPROVAL_S, &timeout_s);
        (void)sl_conf_bool(load->conf, map, "self", &load->agent->approval_self);
        sl_conf_end(load->conf, map);
    }
    load->agent->approval_timeout_ms = timeout_s * MS_PER_S;
}

static void load_run_options(struct load *load, const struct sl_conf_node *spec)
{
    struct sl_agent *agent = load->agent;
    const struct sl_limits *limits = load->options->limits;
    uint64_t timeout_s = 0;
    (void)sl_conf_u64(
        load->conf, spec, "max_context_messages", 1, 1000000, &agent->max_context_messages);
    (void)sl_conf_u64(
        load->conf, spec, "max_context_tokens", 0, INT64_MAX, &agent->max_context_tokens);
    (void)sl_conf_u64(
        load->conf, spec, "max_iterations", 1, limits->iterations, &agent->max_iterations);
    const uint64_t max_timeout_s = (limits->run_timeout + MS_PER_S - 1) / MS_PER_S;
    if (sl_conf_u64(load->conf, spec, "run_timeout_secs", 1, max_timeout_s, &timeout_s) &&
        timeout_s * MS_PER_S < agent->run_timeout_ms) {
        agent->run_timeout_ms = timeout_s * MS_PER_S;
    }
    (void)sl_conf_u64(
        load->conf, spec, "parallel_tools", 1, limits->parallel_tools, &agent->parallel_tools);
    load_heartbeat(load, spec);
    load_disconnect(load, spec);
    load_durability(load, spec);
    load_slow_consumer(load, spec);
    (void)sl_conf_bool(load->conf, spec, "tool_call_deltas", &agent->tool_call_deltas);
    (void)sl_conf_bool(load->conf, spec, "restart_interrupted", &agent->restart_interrupted);
    load_budget(load, spec);
    load_approval(load, spec);
    refuse(load, spec, "mcp_servers");
}

/* ---- Tools ----------------------------------------------------------------------------------- */

static bool has_tool(const struct sl_agent *agent, const char *name)
{
    for (size_t i = 0; i < agent->n_tools; i++) {
        if (strcmp(agent->chat_tools[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void load_tool(struct load *load, const struct sl_conf_node *entry)
{
    struct sl_agent *agent = load->agent;
    struct sl_tool *tool = sl_tools_from_conf(load->options->tools, load->conf, entry);
    if (tool == NULL) {
        return;
    }
    const struct sl_tool_info *info = sl_tool_info(tool);
    if (has_tool(agent, info->name)) {
        sl_conf_error(load->conf, entry, "there is another tool with the name '%s'", info->name);
        (void)sl_tool_unref(tool);
        return;
    }
    agent->chat_tools[agent->n_tools] = (struct sl_chat_tool){
        .name = info->name,
        .description = info->description,
        .parameters_json = info->parameters_json,
    };
    agent->tools[agent->n_tools++] = tool;
}

static void load_tools(struct load *load, const struct sl_conf_node *spec)
{
    const struct sl_conf_node *list = sl_conf_get_list(load->conf, spec, "tools", SL_OPTIONAL);
    if (list == NULL) {
        return;
    }
    const size_t n = sl_conf_size(list);
    if (n > MAX_TOOLS) {
        sl_conf_error(load->conf, list, "at most %d tools", MAX_TOOLS);
        return;
    }
    load->agent->tools = room(load, n, sizeof(struct sl_tool *));
    load->agent->chat_tools = room(load, n, sizeof(struct sl_chat_tool));
    for (size_t i = 0; i < n && !load->is_out_of_memory; i++) {
        load_tool(load, sl_conf_at(list, i));
    }
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void load_version(struct load *load, const struct sl_conf_node *document)
{
    json_t *json = sl_conf_to_json(document);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_SORT_KEYS | JSON_COMPACT);
    char hex[SL_SHA256_HEX_BYTES] = "";
    if (text == NULL || sl_sha256_hex(sl_slice_str(text), hex) != SL_OK) {
        load->is_out_of_memory = true;
    } else {
        hex[SL_AGENT_VERSION_CHARS] = '\0';
        load->agent->version = keep(load, hex);
    }
    free(text);
    json_decref(json);
}

/* Gives the map that has the spec's fields, after the resource's own ones were read. */
static const struct sl_conf_node *
load_resource(struct load *load, const struct sl_conf_node *document)
{
    static const char *const versions[] = { "aof.dev/v1", "sluice.dev/v1", NULL };
    static const char *const kinds[] = { "Agent", NULL };
    int index = 0;
    struct sl_agent *agent = load->agent;
    (void)sl_conf_get(load->conf, document, "apiVersion", SL_REQUIRED);
    (void)sl_conf_enum(load->conf, document, "apiVersion", versions, &index);
    (void)sl_conf_get(load->conf, document, "kind", SL_REQUIRED);
    (void)sl_conf_enum(load->conf, document, "kind", kinds, &index);
    const struct sl_conf_node *metadata =
        sl_conf_get_map(load->conf, document, "metadata", SL_REQUIRED);
    if (metadata != NULL) {
        load_name(load, metadata);
        load_pairs(
            load, metadata, "labels", &agent->label_keys, &agent->label_values, &agent->n_labels);
        load_pairs(
            load, metadata, "annotations", &agent->annotation_keys, &agent->annotation_values,
            &agent->n_annotations);
        sl_conf_end(load->conf, metadata);
    }
    const struct sl_conf_node *spec = sl_conf_get_map(load->conf, document, "spec", SL_REQUIRED);
    sl_conf_end(load->conf, document);
    return spec;
}

static bool has_key(const struct sl_conf_node *map, const char *key)
{
    for (size_t i = 0; i < sl_conf_size(map); i++) {
        if (strcmp(sl_conf_key_at(map, i), key) == 0) {
            return true;
        }
    }
    return false;
}

static void load_document(struct load *load, const struct sl_conf_node *document)
{
    const struct sl_conf_node *spec = document;
    if (has_key(document, "apiVersion") || has_key(document, "kind")) {
        spec = load_resource(load, document);
    } else {
        load_name(load, document);
    }
    if (spec == NULL) {
        return;
    }
    load_model(load, spec);
    load_instructions(load, spec);
    load_memory(load, spec);
    load_sampling(load, spec);
    load_output(load, spec);
    load_run_options(load, spec);
    load_tools(load, spec);
    sl_conf_end(load->conf, spec);
    refuse_secrets(load->conf, document);
    load_version(load, document);
}

static void set_defaults(struct sl_agent *agent, const struct sl_limits *limits)
{
    agent->max_iterations =
        limits->iterations < DEFAULT_ITERATIONS ? limits->iterations : DEFAULT_ITERATIONS;
    agent->run_timeout_ms = limits->run_timeout;
    agent->parallel_tools = limits->parallel_tools;
    agent->heartbeat_ms = limits->heartbeat;
    agent->on_disconnect = SL_DISCONNECT(CANCEL);
}

enum sl_status sl_agent_from_conf(
    const struct sl_agents_options *options,
    struct sl_conf *conf,
    const struct sl_conf_node *document,
    struct sl_agent **ret_agent)
{
    *ret_agent = NULL;
    const size_t n_errors = sl_conf_n_errors(conf);
    if (sl_conf_kind(document) != SL_CONF_MAP) {
        sl_conf_error(conf, document, "an agent is a map");
        return SL_OK;
    }
    struct sl_agent *agent = sl_calloc(1, sizeof(*agent));
    if (agent == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_arena_init(&agent->arena, AGENT_BYTES);
    set_defaults(agent, options->limits);
    struct load load = { .options = options, .conf = conf, .agent = agent };
    load_document(&load, document);
    if (load.is_out_of_memory || sl_conf_n_errors(conf) > n_errors) {
        (void)sl_agent_free(agent);
        return load.is_out_of_memory ? SL_RESOURCE_EXHAUSTED : SL_OK;
    }
    *ret_agent = agent;
    return SL_OK;
}
