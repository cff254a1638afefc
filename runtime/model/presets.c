/* What is there without configuration: the vendors' names, and the models that need no network. */
#include <stdio.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/model/models.h"

struct preset {
    const char *name;
    const char *kind_name;
    enum sl_model_kind kind;
    const char *base_url; /* NULL: the configuration must say */
    const char *base_env; /* overrides base_url; NULL: nothing does */
    const char *key_env[2];
    struct sl_quirks quirks;
};

static const struct preset presets[] = {
    { .name = "openai",
      .kind_name = "openai_chat",
      .base_url = "https://api.openai.com/v1",
      .base_env = "OPENAI_BASE_URL",
      .key_env = { "OPENAI_API_KEY" },
      .quirks = { .max_tokens_field = SL_MAX_TOKENS_COMPLETION, .no_obfuscation = true } },
    { .name = "anthropic",
      .kind_name = "anthropic",
      .kind = SL_MODEL_KIND_UNSUPPORTED,
      .base_url = "https://api.anthropic.com",
      .key_env = { "ANTHROPIC_API_KEY" } },
    { .name = "gemini",
      .kind_name = "gemini",
      .kind = SL_MODEL_KIND_UNSUPPORTED,
      .base_url = "https://generativelanguage.googleapis.com",
      .key_env = { "GEMINI_API_KEY", "GOOGLE_API_KEY" } },
    { .name = "groq",
      .kind_name = "openai_chat",
      .base_url = "https://api.groq.com/openai/v1",
      .base_env = "GROQ_BASE_URL",
      .key_env = { "GROQ_API_KEY" } },
    { .name = "ollama", .kind_name = "openai_chat", .base_url = "http://127.0.0.1:11434/v1" },
    { .name = "azure",
      .kind_name = "openai_chat",
      .quirks = { .max_tokens_field = SL_MAX_TOKENS_COMPLETION, .auth = SL_AUTH_API_KEY } },
    { .name = "deepseek",
      .kind_name = "openai_chat",
      .quirks = { .reasoning_echo = SL_ECHO_REASONING_CONTENT } },
    { .name = "mistral", .kind_name = "openai_chat", .quirks = { .tool_id_format = SL_ID_ALNUM9 } },
    { .name = "openrouter",
      .kind_name = "openai_chat",
      .quirks = { .reasoning_details_echo = true } },
    { .name = "moonshot", .kind_name = "openai_chat" },
    { .name = "vllm",
      .kind_name = "openai_chat",
      .quirks = { .reasoning_echo = SL_ECHO_REASONING } },
    { .name = "scripted", .kind_name = "scripted", .kind = SL_MODEL_KIND_SCRIPTED },
    { .name = "echo", .kind_name = "echo", .kind = SL_MODEL_KIND_ECHO },
    { .name = "load", .kind_name = "load", .kind = SL_MODEL_KIND_LOAD },
};

const char *sl_models_refused(const char *name, size_t size)
{
    static const char *const names[] = { "bedrock", "aws" };
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        if (strlen(names[i]) == size && strncasecmp(names[i], name, size) == 0) {
            return "is not supported";
        }
    }
    return NULL;
}

/* A variable that is set and not empty; NULL otherwise. */
static const char *get(const struct sl_models *models, const char *name)
{
    const char *value = name == NULL || models->env == NULL ? NULL : models->env(name);
    return value == NULL || *value == '\0' ? NULL : value;
}

/* Takes the base URL that the variable `name` has, without the slashes at its end. */
static enum sl_status
set_url(struct sl_models *models, struct sl_model_entry *entry, const char *name, const char *url)
{
    char text[128];
    struct sl_slice slice = sl_slice_str(url);
    while (slice.size > 0 && slice.data[slice.size - 1] == '/') {
        slice.size--;
    }
    entry->base_url = sl_arena_dup(&models->arena, slice);
    const char *fault = sl_models_url_fault(url);
    if (fault != NULL) {
        (void)snprintf(text, sizeof(text), "%s %s", name, fault);
        entry->problem = sl_arena_dup(&models->arena, sl_slice_str(text));
    }
    return entry->base_url == NULL || (fault != NULL && entry->problem == NULL)
               ? SL_RESOURCE_EXHAUSTED
               : SL_OK;
}

static enum sl_status
set_key(struct sl_models *models, struct sl_model_entry *entry, const struct preset *preset)
{
    char spec[80];
    if (preset->key_env[0] == NULL) {
        return SL_OK;
    }
    const bool has_first = get(models, preset->key_env[0]) != NULL;
    const bool has_second = get(models, preset->key_env[1]) != NULL;
    const char *name = !has_first && has_second ? preset->key_env[1] : preset->key_env[0];
    if (!has_first && !has_second && get(models, preset->base_env) != NULL) {
        return SL_OK; /* a server of the user's own: it may need no key */
    }
    (void)snprintf(spec, sizeof(spec), "env:%s", name);
    return sl_models_secret(models, spec, &entry->key, &entry->problem);
}

/* OLLAMA_HOST as Ollama reads it: a host, host:port or a URL; a server's "any address" is this
 * machine. */
static enum sl_status
set_ollama(struct sl_models *models, struct sl_model_entry *entry, const char *host)
{
    char url[512];
    const char *scheme = strstr(host, "://");
    const char *rest = scheme == NULL ? host : scheme + 3;
    const int n_scheme = scheme == NULL ? 4 : (int)(scheme - host);
    const size_t n_rest = strcspn(rest, "/");
    const bool is_any = strncmp(rest, "0.0.0.0", 7) == 0;
    const char *port = strrchr(rest, ':');
    const bool has_port = port != NULL && strchr(port, ']') == NULL;
    const int n = snprintf(
        url, sizeof(url), "%.*s://%s%.*s%s/v1", n_scheme, scheme == NULL ? "http" : host,
        is_any ? "127.0.0.1" : "", (int)(is_any ? n_rest - 7 : n_rest), is_any ? rest + 7 : rest,
        has_port || scheme != NULL ? "" : ":11434");
    if (n < 0 || (size_t)n >= sizeof(url)) {
        entry->problem = "OLLAMA_HOST is too long";
        return SL_OK;
    }
    return set_url(models, entry, "OLLAMA_HOST", url);
}

static enum sl_status add_preset(struct sl_models *models, const struct preset *preset)
{
    struct sl_model_entry *entry =
        sl_models_add_entry(models, preset->name, preset->kind_name, preset->kind);
    if (entry == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    entry->quirks = preset->quirks;
    entry->base_url = preset->base_url;
    const char *base = get(models, preset->base_env);
    if (base != NULL) {
        SL_TRY(set_url(models, entry, preset->base_env, base));
    }
    return set_key(models, entry, preset);
}

/* SLUICE_BASE_URL alone is enough for an agent that names only a model. */
static enum sl_status add_default(struct sl_models *models)
{
    const char *base = get(models, "SLUICE_BASE_URL");
    if (base == NULL) {
        return SL_OK;
    }
    struct sl_model_entry *entry =
        sl_models_add_entry(models, "default", "openai_chat", SL_MODEL_KIND_OPENAI_CHAT);
    if (entry == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    models->default_provider = entry->name;
    SL_TRY(set_url(models, entry, "SLUICE_BASE_URL", base));
    return get(models, "SLUICE_API_KEY") == NULL
               ? SL_OK
               : sl_models_secret(models, "env:SLUICE_API_KEY", &entry->key, &entry->problem);
}

enum sl_status sl_models_add_presets(struct sl_models *models)
{
    for (size_t i = 0; i < SL_COUNT(presets); i++) {
        SL_TRY(add_preset(models, &presets[i]));
    }
    struct sl_model_entry *ollama = sl_models_entry(models, "ollama");
    const char *base = get(models, "OLLAMA_BASE_URL");
    const char *host = get(models, "OLLAMA_HOST");
    if (base != NULL) {
        SL_TRY(set_url(models, ollama, "OLLAMA_BASE_URL", base));
    } else if (host != NULL) {
        SL_TRY(set_ollama(models, ollama, host));
    }
    return add_default(models);
}
