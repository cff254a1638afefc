#include "runtime/model/models.h"

#include <stdio.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/model/http.h"
#include "runtime/model/http_library.h"

static enum sl_status copy_loops(struct sl_models *models, const struct sl_models_options *options)
{
    models->n_loops = options->n_loops;
    models->loops = sl_calloc(options->n_loops, sizeof(*models->loops));
    if (models->loops == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < options->n_loops; i++) {
        models->loops[i].loop = options->loops[i];
    }
    return SL_OK;
}

enum sl_status sl_models_new(
    const struct sl_models_options *options, struct sl_models **ret_models, struct sl_error *err)
{
    SL_TRY(sl_http_library_check(err));
    struct sl_models *models = sl_calloc(1, sizeof(*models));
    if (models == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the model providers");
    }
    models->limits = options->limits;
    models->env = options->env;
    sl_arena_init(&models->arena, 0);
    sl_list_init(&models->entries);
    sl_list_init(&models->scenarios);
    enum sl_status status = copy_loops(models, options);
    if (status == SL_OK) {
        status = sl_models_add_presets(models);
    }
    if (status != SL_OK) {
        sl_models_free(models);
        return sl_fail(err, status, "no memory for the model providers");
    }
    *ret_models = models;
    return SL_OK;
}

static void free_entry(struct sl_model_entry *entry)
{
    json_decref(entry->quirks.extra_body);
    sl_scenario_free(entry->scenario);
    sl_gate_done(&entry->gate);
    sl_list_remove(&entry->node);
    sl_free(entry);
}

struct sl_models *sl_models_free(struct sl_models *models)
{
    if (models == NULL) {
        return NULL;
    }
    SL_LIST_EACH(node, &models->entries) {
        free_entry(SL_CONTAINER(node, struct sl_model_entry, node));
    }
    SL_LIST_EACH(node, &models->scenarios) {
        struct sl_model_scenario *it = SL_CONTAINER(node, struct sl_model_scenario, node);
        sl_scenario_free(it->scenario);
        sl_free(it);
    }
    sl_arena_done(&models->arena);
    sl_free(models->loops);
    return sl_free(models);
}

void sl_models_count_turn(struct sl_models *models, int n)
{
    if (n > 0) {
        atomic_fetch_add(&models->n_turns, 1);
    } else {
        atomic_fetch_sub(&models->n_turns, 1);
    }
}

size_t sl_models_n_turns(const struct sl_models *models)
{
    return atomic_load(&models->n_turns);
}

/* ---- Entries --------------------------------------------------------------------------------- */

struct sl_model_entry *sl_models_add_entry(
    struct sl_models *models, const char *name, const char *kind_name, enum sl_model_kind kind)
{
    static const char *const no_headers[] = { NULL };
    struct sl_model_entry *entry = sl_calloc(1, sizeof(*entry));
    char *copy = sl_arena_dup(&models->arena, sl_slice_str(name));
    if (entry == NULL || copy == NULL) {
        sl_free(entry);
        return NULL;
    }
    entry->name = copy;
    entry->kind_name = kind_name;
    entry->kind = kind;
    entry->headers = no_headers;
    entry->proxy = "env";
    entry->limits = *models->limits;
    sl_gate_init(&entry->gate, entry->limits.model_concurrent);
    sl_retry_budget_init(&entry->budget);
    sl_list_add_last(&models->entries, &entry->node);
    return entry;
}

struct sl_model_entry *sl_models_entry(const struct sl_models *models, const char *name)
{
    SL_LIST_EACH(node, &models->entries) {
        struct sl_model_entry *entry = SL_CONTAINER(node, struct sl_model_entry, node);
        if (strcmp(entry->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

static bool is_named(const char *known, const char *name, size_t size)
{
    return strlen(known) == size && strncasecmp(known, name, size) == 0;
}

struct sl_model_entry *sl_models_find(const struct sl_models *models, const char *name, size_t size)
{
    static const char *const aliases[][2] = {
        { "claude", "anthropic" },
        { "gpt", "openai" },
        { "google", "gemini" },
    };
    SL_LIST_EACH(node, &models->entries) {
        struct sl_model_entry *entry = SL_CONTAINER(node, struct sl_model_entry, node);
        if (is_named(entry->name, name, size)) {
            return entry;
        }
    }
    for (size_t i = 0; i < SL_COUNT(aliases); i++) {
        if (is_named(aliases[i][0], name, size)) {
            return sl_models_entry(models, aliases[i][1]);
        }
    }
    return NULL;
}

const struct sl_scenario *sl_models_scenario(
    const struct sl_models *models, const struct sl_model_entry *entry, const char *model)
{
    if (entry->scenario != NULL) {
        return entry->scenario;
    }
    SL_LIST_EACH(node, &models->scenarios) {
        const struct sl_model_scenario *it = SL_CONTAINER(node, struct sl_model_scenario, node);
        if (strcmp(it->model, model) == 0) {
            return it->scenario;
        }
    }
    return NULL;
}

enum sl_status sl_models_add_scenario(
    struct sl_models *models, const char *model, struct sl_slice yaml, struct sl_error *err)
{
    struct sl_scenario *scenario = NULL;
    SL_TRY(sl_scenario_parse(yaml, model, &scenario, err));
    struct sl_model_scenario *it = sl_calloc(1, sizeof(*it));
    char *copy = sl_arena_dup(&models->arena, sl_slice_str(model));
    if (it == NULL || copy == NULL) {
        sl_free(it);
        sl_scenario_free(scenario);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for scenario '%s'", model);
    }
    SL_LIST_EACH(node, &models->scenarios) {
        struct sl_model_scenario *old = SL_CONTAINER(node, struct sl_model_scenario, node);
        if (strcmp(old->model, model) == 0) {
            sl_list_remove(&old->node);
            sl_scenario_free(old->scenario);
            sl_free(old);
        }
    }
    it->model = copy;
    it->scenario = scenario;
    sl_list_add_last(&models->scenarios, &it->node);
    return SL_OK;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static enum sl_status
refuse_provider(const struct sl_models *models, const char *name, size_t size, struct sl_error *err)
{
    const char *why = sl_models_refused(name, size);
    if (why != NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "provider '%.*s' %s", (int)size, name, why);
    }
    SL_LIST_EACH(node, &models->entries) {
        const struct sl_model_entry *entry = SL_CONTAINER(node, struct sl_model_entry, node);
        if (sl_parse_distance(name, entry->name, 2) <= 2) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT, "unknown provider '%s' (did you mean '%s'?)", name,
                entry->name);
        }
    }
    return sl_fail(err, SL_INVALID_ARGUMENT, "unknown provider '%.*s'", (int)size, name);
}

/* The entry that the part before the first colon names; NULL: it names none. `*ret_rest` is what
 * follows the colon. */
static struct sl_model_entry *
find_prefix(const struct sl_models *models, const char *model, const char **ret_rest)
{
    const char *colon = strchr(model, ':');
    if (colon == NULL) {
        return NULL;
    }
    *ret_rest = colon + 1;
    return sl_models_find(models, model, (size_t)(colon - model));
}

static enum sl_status check_entry(
    const struct sl_models *models,
    const struct sl_model_entry *entry,
    const char *model,
    struct sl_error *err)
{
    if (entry->kind == SL_MODEL_KIND_UNSUPPORTED) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "provider kind %s is not supported yet by this build",
            entry->kind_name);
    }
    if (entry->kind == SL_MODEL_KIND_OPENAI_CHAT && entry->base_url == NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "provider '%s' needs a base_url: give it one under providers",
            entry->name);
    }
    if (entry->kind == SL_MODEL_KIND_SCRIPTED && sl_models_scenario(models, entry, model) == NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "provider '%s' has no scenario '%s'", entry->name, model);
    }
    return SL_OK;
}

/* Rules 2 and 3 of AL-9.2. */
static enum sl_status split_model(
    const struct sl_models *models,
    const char **model,
    struct sl_model_entry **ret_entry,
    struct sl_error *err)
{
    const char *rest = NULL;
    const char *colon = strchr(*model, ':');
    *ret_entry = find_prefix(models, *model, &rest);
    if (*ret_entry != NULL) {
        *model = rest;
        return SL_OK;
    }
    if (colon != NULL && sl_models_refused(*model, (size_t)(colon - *model)) != NULL) {
        return refuse_provider(models, *model, (size_t)(colon - *model), err);
    }
    if (models->default_provider == NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "model '%s' names no provider, and there is no default_provider", *model);
    }
    *ret_entry = sl_models_find(models, models->default_provider, strlen(models->default_provider));
    return *ret_entry != NULL
               ? SL_OK
               : refuse_provider(
                     models, models->default_provider, strlen(models->default_provider), err);
}

enum sl_status sl_models_resolve(
    const struct sl_models *models,
    const char *model,
    const char *provider,
    const char **ret_provider,
    const char **ret_model,
    struct sl_error *err)
{
    struct sl_model_entry *entry = NULL;
    if (model == NULL || *model == '\0' || *model == ':') {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the model has no name");
    }
    if (provider != NULL && *provider != '\0') {
        const char *rest = NULL;
        entry = sl_models_find(models, provider, strlen(provider));
        if (entry == NULL) {
            return refuse_provider(models, provider, strlen(provider), err);
        }
        if (find_prefix(models, model, &rest) == entry) {
            model = rest;
        }
    } else {
        SL_TRY(split_model(models, &model, &entry, err));
    }
    if (*model == '\0') {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the model has no name");
    }
    SL_TRY(check_entry(models, entry, model, err));
    *ret_provider = entry->name;
    *ret_model = model;
    return SL_OK;
}

enum sl_status
sl_models_check(const struct sl_models *models, const char *provider, struct sl_error *err)
{
    const struct sl_model_entry *entry = sl_models_entry(models, provider);
    if (entry == NULL) {
        return sl_fail(err, SL_FAILED_PRECONDITION, "unknown provider '%s'", provider);
    }
    if (entry->problem != NULL) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION, "provider '%s': %s", entry->name, entry->problem);
    }
    return SL_OK;
}

enum sl_status sl_models_check_input(
    const struct sl_models *models,
    const char *provider,
    struct sl_slice input,
    const char **ret_reason,
    struct sl_error *err)
{
    const struct sl_model_entry *entry = sl_models_entry(models, provider);
    *ret_reason = "";
    if (entry != NULL && entry->kind == SL_MODEL_KIND_LOAD) {
        return sl_model_load_check(input, ret_reason, err);
    }
    return SL_OK;
}

/* ---- Turns ----------------------------------------------------------------------------------- */

enum sl_status sl_model_turn_start(
    struct sl_models *models,
    struct sl_loop *loop,
    const struct sl_model_request *request,
    const struct sl_model_sink *sink,
    struct sl_model_turn **ret_turn,
    struct sl_error *err)
{
    SL_ON_LOOP(loop);
    const struct sl_turn_start start = {
        .models = models,
        .entry = sl_models_entry(models, request->provider),
        .loop = loop,
        .request = request,
        .sink = sink,
    };
    if (start.entry == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "unknown provider '%s'", request->provider);
    }
    SL_TRY(sl_models_check(models, request->provider, err));
    switch (start.entry->kind) {
    case SL_MODEL_KIND_OPENAI_CHAT:
        return sl_http_turn_start(&start, ret_turn, err);
    case SL_MODEL_KIND_SCRIPTED:
        return sl_scripted_turn_start(&start, ret_turn, err);
    case SL_MODEL_KIND_ECHO:
        return sl_echo_turn_start(&start, ret_turn, err);
    case SL_MODEL_KIND_LOAD:
        return sl_load_turn_start(&start, ret_turn, err);
    case SL_MODEL_KIND_UNSUPPORTED:
        break;
    }
    return sl_fail(err, SL_NOT_FOUND, "provider '%s' cannot be used", request->provider);
}

static struct sl_models_loop *find_loop(struct sl_models *models, const struct sl_loop *loop)
{
    for (size_t i = 0; i < models->n_loops; i++) {
        if (models->loops[i].loop == loop) {
            return &models->loops[i];
        }
    }
    return NULL;
}

enum sl_status sl_models_http(
    struct sl_models *models, struct sl_loop *loop, struct sl_http **ret_http, struct sl_error *err)
{
    struct sl_models_loop *it = find_loop(models, loop);
    if (it == NULL) {
        return sl_fail(err, SL_INTERNAL, "the loop is not one of the providers'");
    }
    if (it->http == NULL) {
        SL_TRY(sl_http_new(loop, models->limits, &it->http, err));
    }
    *ret_http = it->http;
    return SL_OK;
}

static void tell_closed(struct sl_models_loop *it)
{
    if (it->is_http_closed && it->n_jobs == 0) {
        it->is_http_closed = false; /* once */
        it->on_closed(it->user_data);
    }
}

static void on_http_closed(void *user_data)
{
    struct sl_models_loop *it = user_data;
    it->is_http_closed = true;
    tell_closed(it);
}

static void run_closed(struct sl_task *task)
{
    on_http_closed(SL_CONTAINER(task, struct sl_models_loop, closed_task));
}

void sl_models_count_job(struct sl_models *models, struct sl_loop *loop, int n)
{
    struct sl_models_loop *it = find_loop(models, loop);
    assert(it != NULL);
    it->n_jobs = n > 0 ? it->n_jobs + 1 : it->n_jobs - 1;
    tell_closed(it);
}

void sl_models_close_loop(
    struct sl_models *models,
    struct sl_loop *loop,
    void (*on_closed)(void *user_data),
    void *user_data)
{
    struct sl_models_loop *it = find_loop(models, loop);
    assert(it != NULL);
    it->on_closed = on_closed;
    it->user_data = user_data;
    if (it->http != NULL) {
        sl_http_close(SL_TAKE(it->http), on_http_closed, it);
        return;
    }
    it->closed_task.run = run_closed;
    sl_loop_post(loop, &it->closed_task);
}

/* ---- Names of faults --------------------------------------------------------------------------
 */

static const char *const fault_names[] = {
    [SL_FAULT_PROVIDER_UNREACHABLE] = "PROVIDER_UNREACHABLE",
    [SL_FAULT_PROVIDER_TLS] = "PROVIDER_TLS",
    [SL_FAULT_PROVIDER_AUTH] = "PROVIDER_AUTH",
    [SL_FAULT_PROVIDER_REJECTED] = "PROVIDER_REJECTED",
    [SL_FAULT_PROVIDER_RATE_LIMITED] = "PROVIDER_RATE_LIMITED",
    [SL_FAULT_PROVIDER_QUOTA] = "PROVIDER_QUOTA",
    [SL_FAULT_PROVIDER_OVERLOADED] = "PROVIDER_OVERLOADED",
    [SL_FAULT_PROVIDER_TIMEOUT] = "PROVIDER_TIMEOUT",
    [SL_FAULT_PROVIDER_TRUNCATED] = "PROVIDER_TRUNCATED",
    [SL_FAULT_PROVIDER_PROTOCOL] = "PROVIDER_PROTOCOL",
    [SL_FAULT_PROVIDER_LIMIT] = "PROVIDER_LIMIT",
    [SL_FAULT_CONTEXT_OVERFLOW] = "CONTEXT_OVERFLOW",
    [SL_FAULT_DEADLINE] = "DEADLINE_EXCEEDED",
    [SL_FAULT_OUT_OF_MEMORY] = "OUT_OF_MEMORY",
    [SL_FAULT_INTERNAL] = "INTERNAL",
};

const char *sl_model_fault_name(enum sl_model_fault fault)
{
    return fault_names[fault];
}

bool sl_model_fault_from_name(struct sl_slice name, enum sl_model_fault *ret_fault)
{
    for (size_t i = 0; i < SL_COUNT(fault_names); i++) {
        if (sl_slice_equals(name, fault_names[i])) {
            *ret_fault = (enum sl_model_fault)i;
            return true;
        }
    }
    return false;
}

bool sl_model_fault_is_retryable(enum sl_model_fault fault)
{
    return fault == SL_FAULT_PROVIDER_UNREACHABLE || fault == SL_FAULT_PROVIDER_RATE_LIMITED ||
           fault == SL_FAULT_PROVIDER_OVERLOADED || fault == SL_FAULT_PROVIDER_TIMEOUT ||
           fault == SL_FAULT_PROVIDER_TRUNCATED || fault == SL_FAULT_OUT_OF_MEMORY;
}
