#include "service/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"

const char sl_config_usage[] =
    "usage: sluiced [OPTIONS]\n"
    "\n"
    "  --config FILE          the configuration (SLUICE_CONFIG)\n"
    "  --listen ADDR:PORT     listen here; also unix:PATH; repeatable (SLUICE_LISTEN; "
    "127.0.0.1:50051)\n"
    "  --ops-listen ADDR:PORT health, metrics and dump here, in plaintext (SLUICE_OPS_LISTEN)\n"
    "  --agents PATH          a folder of agent files, or one file; repeatable (SLUICE_AGENTS)\n"
    "  --tls-cert FILE        certificate chain, PEM, for the listeners given by flag "
    "(SLUICE_TLS_CERT)\n"
    "  --tls-key FILE         its private key, PEM (SLUICE_TLS_KEY)\n"
    "  --tls-client-ca FILE   client certificates are required and checked against this "
    "(SLUICE_TLS_CLIENT_CA)\n"
    "  --insecure             allow plaintext on addresses that are not loopback "
    "(SLUICE_INSECURE=true)\n"
    "  --store FILE           record runs in this SQLite database (SLUICE_STORE)\n"
    "  --quarantine           a damaged store is moved aside, and an empty one begun\n"
    "  --profile load         lift the limits that count connections, streams and runs; loopback "
    "only\n"
    "  --loops N              event loops; 0: one per core (SLUICE_LOOPS)\n"
    "  --limit NAME=VALUE     one limit, as under `limits:` in the file; repeatable\n"
    "  --log-level LEVEL      error, warn, info or debug (SLUICE_LOG_LEVEL)\n"
    "  --log-format FORMAT    logfmt or json (SLUICE_LOG_FORMAT)\n"
    "  --port-file FILE       write the first listener's address there once calls are served\n"
    "  --check                check the configuration and the agents, then exit\n"
    "  --version, --help\n";

static const char *const level_names[] = { "error", "warn", "info", "debug", NULL };
static const char *const format_names[] = { "logfmt", "json", NULL };
static const char *const reflection_names[] = { "auto", "on", "off", NULL };
static const char *const profile_names[] = { "default", "load", NULL };
static const char *const client_auth_names[] = { "require", "request", NULL };

/* Where a value comes from; a later source wins over an earlier one. */
enum source { FROM_FILE, FROM_ENVIRONMENT, FROM_FLAGS };

/* What is loaded, and whether something was wrong so far. */
struct loader {
    struct sl_config *config;
    sl_config_problem_fn *on_problem;
    void *user_data;
    bool is_usage_wrong, is_wrong;
    enum source source, listen_source, agents_source; /* now; and who gave the lists so far */
    const char *tls_cert, *tls_key, *tls_client_ca;   /* for listeners that are not the file's */
    const struct sl_conf_node *listen_nodes[SL_CONFIG_LISTENERS]; /* of the file's listeners */
    const char *file;
    const char *variable; /* of the environment, that is being read; NULL: none */
};

SL_PRINTF(2, 3) static void problem(struct loader *loader, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    loader->is_wrong = true;
    if (loader->variable != NULL) {
        char place[600];
        (void)snprintf(place, sizeof(place), "%s: %s", loader->variable, line);
        loader->on_problem(place, loader->user_data);
        return;
    }
    loader->on_problem(line, loader->user_data);
}

const char *sl_config_env(const char *name)
{
    return getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody calls setenv */
}

const char *const *sl_config_environment(void)
{
    return (const char *const *)environ;
}

bool sl_config_is_local(const char *address)
{
    char host[256];
    uint16_t port;
    bool is_unix;
    if (sl_parse_address(sl_slice_str(address), host, sizeof(host), &port, &is_unix) != SL_OK) {
        return false;
    }
    const bool is_loopback4 =
        strncmp(host, "127.", 4) == 0 && host[strspn(host, "0123456789.")] == '\0'; /* no name */
    return is_unix || is_loopback4 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

/* ---- Origins -----------------------------------------------------------------------------------
 */

struct sl_config_origin sl_config_origin_of(const struct sl_config *config, const char *key)
{
    for (size_t i = 0; i < config->n_origins; i++) {
        if (strcmp(config->origins[i].key, key) == 0) {
            return config->origins[i].origin;
        }
    }
    return (struct sl_config_origin){ .source = SL_CONFIG_DEFAULT };
}

static void
set_origin(struct sl_config *config, const char *key, const struct sl_config_origin *origin)
{
    size_t i = 0;
    while (i < config->n_origins && strcmp(config->origins[i].key, key) != 0) {
        i++;
    }
    if (i == SL_CONFIG_ORIGINS || strlen(key) >= sizeof(config->origins[i].key)) {
        return; /* more than there are keys: they are mistakes, and reported as such */
    }
    config->n_origins = i == config->n_origins ? i + 1 : config->n_origins;
    (void)snprintf(config->origins[i].key, sizeof(config->origins[i].key), "%s", key);
    config->origins[i].origin = *origin;
}

/* Of a value that is read from a flag, or from a variable that stands for one. */
static struct sl_config_origin origin_now(const struct loader *loader, const char *flag)
{
    return loader->variable != NULL
               ? (struct sl_config_origin){ SL_CONFIG_ENVIRONMENT, loader->variable, 0 }
               : (struct sl_config_origin){ SL_CONFIG_FLAG, flag, 0 };
}

static void note_flag(struct loader *loader, const char *flag)
{
    const struct sl_config_origin origin = origin_now(loader, NULL);
    set_origin(loader->config, flag + 2, &origin); /* whoever prints it knows the flag by its key */
}

/* Every key of a map of the file, behind `prefix`. */
static void note_keys(struct loader *loader, const struct sl_conf_node *map, const char *prefix)
{
    const bool is_map = map != NULL && sl_conf_kind(map) == SL_CONF_MAP;
    for (size_t i = 0; is_map && i < sl_conf_size(map); i++) {
        const struct sl_config_origin origin = { SL_CONFIG_FILE, loader->file,
                                                 sl_conf_line(sl_conf_at(map, i)) };
        char key[64];
        (void)snprintf(key, sizeof(key), "%s%s", prefix, sl_conf_key_at(map, i));
        for (char *underscore = strchr(key, '_'); underscore != NULL;
             underscore = strchr(underscore, '_')) {
            *underscore = '-'; /* as flags are spelt */
        }
        set_origin(loader->config, key, &origin);
    }
}

/* ---- Single values -----------------------------------------------------------------------------
 */

static int name_index(const char *const *names, const char *name)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static int
choice(struct loader *loader, const char *what, const char *const *names, const char *value)
{
    const int index = name_index(names, value);
    if (index < 0) {
        char list[128] = "";
        for (size_t i = 0, n = 0; names[i] != NULL && n < sizeof(list); i++) {
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i == 0 ? "" : ", ", names[i]);
        }
        problem(loader, "%s: '%s' is not one of %s", what, value, list);
        return 0;
    }
    return index;
}

/* A list of a later source replaces the earlier one. */
static void add_listen(struct loader *loader, const char *address)
{
    struct sl_config *config = loader->config;
    if (loader->listen_source < loader->source) {
        loader->listen_source = loader->source;
        config->n_listen = 0;
    }
    if (config->n_listen == SL_CONFIG_LISTENERS) {
        problem(loader, "--listen: at most %d listeners", SL_CONFIG_LISTENERS);
        return;
    }
    config->listen[config->n_listen++] = (struct sl_config_listen){ .address = address };
}

static void add_agents(struct loader *loader, const char *path)
{
    struct sl_config *config = loader->config;
    if (loader->agents_source < loader->source) {
        loader->agents_source = loader->source;
        config->n_agent_paths = 0;
    }
    if (config->n_agent_paths == SL_CONFIG_AGENT_PATHS) {
        problem(loader, "--agents: at most %d paths", SL_CONFIG_AGENT_PATHS);
        return;
    }
    config->agent_paths[config->n_agent_paths++] = path;
}

static void set_loops(struct loader *loader, const char *what, const char *value)
{
    if (sl_parse_u64(sl_slice_str(value), 0, 256, &loader->config->n_loops) != SL_OK) {
        problem(loader, "%s: '%s' is not a number from 0 to 256", what, value);
    }
}

static enum sl_status
parse_limit(const struct sl_limit_info *info, const char *value, uint64_t *ret_value)
{
    const struct sl_slice text = sl_slice_str(value);
    switch (info->unit) {
    case SL_UNIT_COUNT:
        return sl_parse_u64(text, 0, UINT64_MAX, ret_value);
    case SL_UNIT_BYTES:
        return sl_parse_bytes(text, UINT64_MAX, ret_value);
    case SL_UNIT_MS:
        return sl_parse_duration_ms(text, UINT64_MAX, ret_value);
    }
    return SL_INVALID_ARGUMENT;
}

/* "NAME=VALUE" */
static void set_limit(struct loader *loader, const char *text)
{
    const char *equals = strchr(text, '=');
    const size_t name_bytes = equals == NULL ? strlen(text) : (size_t)(equals - text);
    for (size_t i = 0; equals != NULL && i < sl_limit_n_infos; i++) {
        const struct sl_limit_info *info = &sl_limit_infos[i];
        if (strlen(info->name) != name_bytes || strncmp(info->name, text, name_bytes) != 0) {
            continue;
        }
        uint64_t value;
        if (parse_limit(info, equals + 1, &value) != SL_OK || value < info->least ||
            value > info->greatest) {
            problem(
                loader, "--limit %s: outside %llu to %llu", text, (unsigned long long)info->least,
                (unsigned long long)info->greatest);
            return;
        }
        *sl_limits_field(&loader->config->limits, info) = value;
        loader->config->limit_origins[i] = origin_now(loader, "--limit");
        return;
    }
    problem(loader, "--limit %s: no such limit (NAME=VALUE)", text);
}

/* ---- Flags and environment ---------------------------------------------------------------------
 */

/* Is it a flag with a value? */
static bool is_option(const char *flag)
{
    static const char *const names[] = { "--config",     "--listen",    "--agents",
                                         "--tls-cert",   "--tls-key",   "--tls-client-ca",
                                         "--loops",      "--log-level", "--log-format",
                                         "--port-file",  "--limit",     "--profile",
                                         "--ops-listen", "--store",     NULL };
    return name_index(names, flag) >= 0;
}

/* A flag with a value. */
static void take_option(struct loader *loader, const char *flag, const char *value)
{
    struct sl_config *config = loader->config;
    if (strcmp(flag, "--listen") == 0) {
        add_listen(loader, value);
    } else if (strcmp(flag, "--agents") == 0) {
        add_agents(loader, value);
    } else if (strcmp(flag, "--tls-cert") == 0) {
        loader->tls_cert = value;
    } else if (strcmp(flag, "--tls-key") == 0) {
        loader->tls_key = value;
    } else if (strcmp(flag, "--tls-client-ca") == 0) {
        loader->tls_client_ca = value;
    } else if (strcmp(flag, "--profile") == 0) {
        config->is_load_profile = choice(loader, flag, profile_names, value) == 1;
    } else if (strcmp(flag, "--loops") == 0) {
        set_loops(loader, flag, value);
    } else if (strcmp(flag, "--log-level") == 0) {
        config->log_level = (enum sl_log_level)choice(loader, flag, level_names, value);
    } else if (strcmp(flag, "--log-format") == 0) {
        config->log_format = (enum sl_log_format)choice(loader, flag, format_names, value);
    } else if (strcmp(flag, "--ops-listen") == 0) {
        config->ops_listen = value;
    } else if (strcmp(flag, "--store") == 0) {
        config->store.path = value;
    } else if (strcmp(flag, "--port-file") == 0) {
        config->port_file = value;
    } else if (strcmp(flag, "--limit") == 0) {
        set_limit(loader, value);
    } /* --config was read first */
    note_flag(loader, flag);
}

static bool take_switch(struct loader *loader, const char *flag)
{
    struct sl_config *config = loader->config;
    if (strcmp(flag, "--insecure") == 0) {
        config->is_insecure = true;
        note_flag(loader, flag);
    } else if (strcmp(flag, "--quarantine") == 0) {
        config->store.quarantine = true;
    } else if (strcmp(flag, "--check") == 0) {
        config->only_check = true;
    } else if (strcmp(flag, "--help") == 0) {
        config->only_help = true;
    } else if (strcmp(flag, "--version") == 0) {
        config->only_version = true;
    } else {
        return false;
    }
    return true;
}

static void load_flags(struct loader *loader, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (take_switch(loader, argv[i])) {
            continue;
        }
        const char *equals = strncmp(argv[i], "--", 2) == 0 ? strchr(argv[i], '=') : NULL;
        char flag[32];
        const size_t flag_bytes = equals == NULL ? strlen(argv[i]) : (size_t)(equals - argv[i]);
        (void)snprintf(flag, sizeof(flag), "%.*s", (int)flag_bytes, argv[i]);
        const char *value = equals != NULL ? equals + 1 : (i + 1 < argc ? argv[i + 1] : NULL);
        const bool is_known = flag_bytes < sizeof(flag) && is_option(flag);
        if (!is_known || value == NULL) {
            problem(
                loader, "%s: %s", argv[i], is_known ? "its value is missing" : "no such option");
            loader->is_usage_wrong = true;
            return;
        }
        take_option(loader, flag, value);
        i += equals == NULL;
    }
}

static void load_environment(struct loader *loader)
{
    static const struct {
        const char *variable, *flag;
    } table[] = {
        { "SLUICE_LISTEN", "--listen" },         { "SLUICE_OPS_LISTEN", "--ops-listen" },
        { "SLUICE_AGENTS", "--agents" },         { "SLUICE_TLS_CERT", "--tls-cert" },
        { "SLUICE_TLS_KEY", "--tls-key" },       { "SLUICE_TLS_CLIENT_CA", "--tls-client-ca" },
        { "SLUICE_LOOPS", "--loops" },           { "SLUICE_LOG_LEVEL", "--log-level" },
        { "SLUICE_LOG_FORMAT", "--log-format" }, { "SLUICE_STORE", "--store" }
    };
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        const char *value = sl_config_env(table[i].variable);
        if (value != NULL && value[0] != '\0') {
            loader->variable = table[i].variable;
            take_option(loader, table[i].flag, value);
        }
    }
    loader->variable = NULL;
    const char *insecure = sl_config_env("SLUICE_INSECURE");
    if (insecure == NULL || insecure[0] == '\0') {
        return;
    }
    loader->config->is_insecure = strcmp(insecure, "true") == 0;
    loader->variable = "SLUICE_INSECURE";
    note_flag(loader, "--insecure");
    loader->variable = NULL;
    if (!loader->config->is_insecure && strcmp(insecure, "false") != 0) {
        problem(loader, "SLUICE_INSECURE: '%s' is not true or false", insecure);
    }
}

/* The last value of a flag that has its say before the others are read; NULL: not given. */
static const char *find_flag(const char *flag, int argc, char **argv)
{
    const size_t n = strlen(flag);
    const char *value = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], flag) == 0 && i + 1 < argc) {
            value = argv[++i];
        } else if (strncmp(argv[i], flag, n) == 0 && argv[i][n] == '=') {
            value = argv[i] + n + 1;
        }
    }
    return value;
}

/* The file is read before everything that wins over it, so its name is looked up first. */
static const char *find_file(int argc, char **argv)
{
    const char *file = find_flag("--config", argc, argv);
    file = file != NULL ? file : sl_config_env("SLUICE_CONFIG");
    return file != NULL && file[0] != '\0' ? file : NULL;
}

/* ---- The file ----------------------------------------------------------------------------------
 */

static void load_listener(struct loader *loader, const struct sl_conf_node *node)
{
    struct sl_config *config = loader->config;
    struct sl_conf *file = config->file;
    struct sl_config_listen listen = { 0 };
    if (sl_conf_kind(node) == SL_CONF_SCALAR) {
        listen.address = sl_conf_text(node);
    } else if (sl_conf_kind(node) == SL_CONF_MAP) {
        (void)sl_conf_str(file, node, "address", SL_REQUIRED, &listen.address);
        const struct sl_conf_node *tls = sl_conf_get_map(file, node, "tls", SL_OPTIONAL);
        int auth = 0;
        (void)sl_conf_str(file, tls, "cert", SL_REQUIRED, &listen.tls_cert);
        (void)sl_conf_str(file, tls, "key", SL_REQUIRED, &listen.tls_key);
        (void)sl_conf_str(file, tls, "client_ca", SL_OPTIONAL, &listen.tls_client_ca);
        (void)sl_conf_enum(file, tls, "client_auth", client_auth_names, &auth);
        listen.is_client_cert_required = auth == 0;
        if (tls != NULL) {
            sl_conf_end(file, tls);
        }
        (void)sl_conf_bool(file, node, "reset_is_disconnect", &listen.is_reset_loss);
        sl_conf_end(file, node);
    } else {
        sl_conf_error(file, node, "an address, or a map with `address` and `tls`");
    }
    if (listen.address == NULL) {
        return;
    }
    if (config->n_listen == SL_CONFIG_LISTENERS) {
        sl_conf_error(file, node, "at most %d listeners", SL_CONFIG_LISTENERS);
        return;
    }
    loader->listen_nodes[config->n_listen] = node;
    config->listen[config->n_listen++] = listen;
}

static void load_agent_paths(struct loader *loader, const struct sl_conf_node *node)
{
    struct sl_config *config = loader->config;
    const size_t n = sl_conf_kind(node) == SL_CONF_LIST ? sl_conf_size(node) : 1;
    for (size_t i = 0; i < n; i++) {
        const struct sl_conf_node *item =
            sl_conf_kind(node) == SL_CONF_LIST ? sl_conf_at(node, i) : node;
        if (sl_conf_kind(item) != SL_CONF_SCALAR) {
            sl_conf_error(config->file, item, "a path");
        } else if (config->n_agent_paths == SL_CONFIG_AGENT_PATHS) {
            sl_conf_error(config->file, item, "at most %d paths", SL_CONFIG_AGENT_PATHS);
            return;
        } else {
            config->agent_paths[config->n_agent_paths++] = sl_conf_text(item);
        }
    }
}

static void load_limits(struct loader *loader, const struct sl_conf_node *top)
{
    struct sl_config *config = loader->config;
    const struct sl_conf_node *map = sl_conf_get_map(config->file, top, "limits", SL_OPTIONAL);
    for (size_t i = 0; map != NULL && i < sl_limit_n_infos; i++) {
        const struct sl_limit_info *info = &sl_limit_infos[i];
        uint64_t *field = sl_limits_field(&config->limits, info);
        const struct sl_conf_node *node = sl_conf_get(config->file, map, info->name, SL_OPTIONAL);
        if (node != NULL) {
            config->limit_origins[i] =
                (struct sl_config_origin){ SL_CONFIG_FILE, loader->file, sl_conf_line(node) };
        }
        switch (info->unit) {
        case SL_UNIT_COUNT:
            (void)sl_conf_u64(config->file, map, info->name, info->least, info->greatest, field);
            break;
        case SL_UNIT_BYTES:
            (void)sl_conf_bytes(config->file, map, info->name, info->least, info->greatest, field);
            break;
        case SL_UNIT_MS:
            (void)sl_conf_duration_ms(
                config->file, map, info->name, info->least, info->greatest, field);
            break;
        }
    }
    if (map != NULL) {
        sl_conf_end(config->file, map);
    }
}

static void load_log(struct sl_config *config, const struct sl_conf_node *top)
{
    const struct sl_conf_node *map = sl_conf_get_map(config->file, top, "log", SL_OPTIONAL);
    if (map == NULL) {
        return;
    }
    int level = (int)config->log_level;
    int format = (int)config->log_format;
    (void)sl_conf_enum(config->file, map, "level", level_names, &level);
    (void)sl_conf_enum(config->file, map, "format", format_names, &format);
    sl_conf_end(config->file, map);
    config->log_level = (enum sl_log_level)level;
    config->log_format = (enum sl_log_format)format;
}

static void load_top(struct loader *loader, const struct sl_conf_node *top)
{
    static const char *const runtime_keys[] = { "providers",      "default_provider", "tools",
                                                "builtin_agents", "identity",         "access" };
    struct sl_config *config = loader->config;
    struct sl_conf *file = config->file;
    const struct sl_conf_node *listen = sl_conf_get_list(file, top, "listen", SL_OPTIONAL);
    for (size_t i = 0; listen != NULL && i < sl_conf_size(listen); i++) {
        load_listener(loader, sl_conf_at(listen, i));
    }
    const struct sl_conf_node *agents = sl_conf_get(file, top, "agents", SL_OPTIONAL);
    if (agents != NULL) {
        load_agent_paths(loader, agents);
    }
    (void)sl_conf_bool(file, top, "insecure", &config->is_insecure);
    (void)sl_conf_u64(file, top, "loops", 0, 256, &config->n_loops);
    (void)sl_conf_enum(file, top, "reflection", reflection_names, &config->reflection);
    (void)sl_conf_str(file, top, "launcher", SL_OPTIONAL, &config->launcher);
    (void)sl_conf_str(file, top, "ops_listen", SL_OPTIONAL, &config->ops_listen);
    sl_config_load_store(file, top, &config->store);
    load_log(config, top);
    load_limits(loader, top);
    note_keys(loader, top, "");
    note_keys(loader, sl_conf_get(file, top, "log", SL_OPTIONAL), "log-");
    for (size_t i = 0; i < SL_COUNT(runtime_keys); i++) {
        sl_conf_allow(file, top, runtime_keys[i]);
    }
    sl_conf_end(file, top);
}

static void load_file(struct loader *loader)
{
    struct sl_config *config = loader->config;
    struct sl_error err;
    if (loader->file == NULL) {
        return;
    }
    if (sl_conf_read(loader->file, &config->file, &err) != SL_OK) {
        problem(loader, "%s", err.text);
        return;
    }
    const size_t n = sl_conf_n_documents(config->file);
    if (n != 1 || sl_conf_kind(sl_conf_document(config->file, 0)) != SL_CONF_MAP) {
        if (sl_conf_n_errors(config->file) == 0 && n > 0) {
            sl_conf_error(config->file, NULL, "one document, a map, is expected");
        }
        return;
    }
    config->top = sl_conf_document(config->file, 0);
    load_top(loader, config->top);
}

/* ---- The whole ---------------------------------------------------------------------------------
 */

/* Over the file's limits, under those of --limit. */
static void apply_profile(struct sl_config *config, const char *profile)
{
    if (profile == NULL || strcmp(profile, "load") != 0) {
        return;
    }
    const struct sl_limits before = config->limits;
    config->limits.connections = 1000000;
    config->limits.connections_per_address = 1000000;
    config->limits.streams_per_connection = 1000000;
    config->limits.runs_per_connection = 1000000;
    config->limits.observers_per_connection = 1000000;
    config->limits.running_calls = 0;
    config->limits.runs = 10000000;
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        struct sl_limits old = before;
        const struct sl_limit_info *info = &sl_limit_infos[i];
        if (*sl_limits_field(&config->limits, info) != *sl_limits_field(&old, info)) {
            config->limit_origins[i] =
                (struct sl_config_origin){ SL_CONFIG_PROFILE, "--profile load", 0 };
        }
    }
}

/* A mistake of a listener: at its place in the file, when it stands there. */
SL_PRINTF(3, 4)
static void listen_problem(struct loader *loader, size_t index, const char *fmt, ...)
{
    char line[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (loader->listen_source == FROM_FILE) {
        sl_conf_error(loader->config->file, loader->listen_nodes[index], "%s", line);
    } else {
        problem(loader, "listen: %s", line);
    }
}

static void check_listener(struct loader *loader, size_t index)
{
    const struct sl_config_listen *listen = &loader->config->listen[index];
    const char *address = listen->address;
    char host[256];
    uint16_t port;
    bool is_unix;
    if (sl_parse_address(sl_slice_str(address), host, sizeof(host), &port, &is_unix) != SL_OK) {
        listen_problem(loader, index, "'%s' is not HOST:PORT, [IPv6]:PORT or unix:PATH", address);
        return;
    }
    if ((listen->tls_cert == NULL) != (listen->tls_key == NULL)) {
        listen_problem(loader, index, "%s: a certificate and its key belong together", address);
    } else if (listen->tls_client_ca != NULL && listen->tls_cert == NULL) {
        listen_problem(
            loader, index, "%s: client certificates need a certificate of the server, and its key",
            address);
    }
    const bool is_local = sl_config_is_local(address);
    if (listen->tls_cert == NULL && !is_local && !loader->config->is_insecure) {
        listen_problem(
            loader, index, "plaintext on %s, which is not loopback, needs --insecure", address);
    }
    if (loader->config->is_load_profile && !is_local) {
        listen_problem(loader, index, "%s: --profile load is for loopback only", address);
    }
}

/* Certificates of flags and environment never reach the file's listeners. */
static void check_certificates(struct loader *loader)
{
    const struct {
        const char *flag, *value;
    } given[] = { { "--tls-cert", loader->tls_cert },
                  { "--tls-key", loader->tls_key },
                  { "--tls-client-ca", loader->tls_client_ca } };
    for (size_t i = 0; i < SL_COUNT(given); i++) {
        if (given[i].value != NULL) {
            problem(
                loader,
                "%s: is for listeners that a flag or SLUICE_LISTEN gives; those of %s have `tls`",
                given[i].flag, loader->file);
            return;
        }
    }
}

static void check_listeners(struct loader *loader)
{
    struct sl_config *config = loader->config;
    if (config->n_listen == 0) {
        config->listen[config->n_listen++] =
            (struct sl_config_listen){ .address = "127.0.0.1:50051" };
        loader->listen_source = FROM_ENVIRONMENT;
    }
    if (loader->listen_source == FROM_FILE) {
        check_certificates(loader);
    }
    for (size_t i = 0; i < config->n_listen; i++) {
        struct sl_config_listen *listen = &config->listen[i];
        if (loader->listen_source != FROM_FILE) {
            listen->tls_cert = loader->tls_cert;
            listen->tls_key = loader->tls_key;
            listen->tls_client_ca = loader->tls_client_ca;
            listen->is_client_cert_required = true;
        }
        check_listener(loader, i);
    }
}

/* Any address will do: it runs nothing. */
static void check_ops(struct loader *loader)
{
    char host[256];
    uint16_t port;
    bool is_unix;
    const char *address = loader->config->ops_listen;
    if (address != NULL &&
        sl_parse_address(sl_slice_str(address), host, sizeof(host), &port, &is_unix) != SL_OK) {
        problem(loader, "ops_listen: '%s' is not HOST:PORT, [IPv6]:PORT or unix:PATH", address);
    }
}

/* FC-2. */
static void check_windows(struct loader *loader)
{
    const struct sl_limits *limits = &loader->config->limits;
    if (limits->connection_window <= limits->stream_window) {
        problem(
            loader,
            "limits: connection_window (%llu) must be larger than stream_window (%llu), or one "
            "upload that stalls stops the others of its connection",
            (unsigned long long)limits->connection_window,
            (unsigned long long)limits->stream_window);
    }
}

/* A section without a path is a mistake, unless a flag or the environment has it. */
static void check_store(struct loader *loader)
{
    const struct sl_config_store *store = &loader->config->store;
    if (store->node != NULL && store->path == NULL) {
        sl_conf_error(loader->config->file, store->node, "sqlite.path is missing");
    } else if (store->path != NULL && store->path[0] == '\0') {
        problem(loader, "store: the path is empty");
    } else if (store->path == NULL && store->quarantine) {
        problem(loader, "--quarantine: there is no store");
    }
}

enum sl_status sl_config_load(
    struct sl_config *config,
    int argc,
    char **argv,
    sl_config_problem_fn *on_problem,
    void *user_data)
{
    struct loader loader = { .config = config, .on_problem = on_problem, .user_data = user_data };
    *config = (struct sl_config){ .log_level = SL_INFO };
    sl_limits_init(&config->limits);
    sl_config_init_store(&config->store);
    loader.file = find_file(argc, argv);
    load_file(&loader);
    loader.source = FROM_ENVIRONMENT;
    load_environment(&loader);
    loader.source = FROM_FLAGS;
    apply_profile(config, find_flag("--profile", argc, argv));
    load_flags(&loader, argc, argv);
    if (loader.is_usage_wrong) {
        return SL_INVALID_ARGUMENT;
    }
    if (config->only_help || config->only_version) {
        return SL_OK;
    }
    check_listeners(&loader);
    check_ops(&loader);
    check_windows(&loader);
    check_store(&loader);
    return loader.is_wrong ? SL_FAILED_PRECONDITION : SL_OK;
}

enum sl_status
sl_config_finish(struct sl_config *config, sl_config_problem_fn *on_problem, void *user_data)
{
    const size_t n = config->file == NULL ? 0 : sl_conf_n_errors(config->file);
    for (size_t i = 0; i < n; i++) {
        on_problem(sl_conf_error_at(config->file, i), user_data);
    }
    return n == 0 ? SL_OK : SL_FAILED_PRECONDITION;
}

const char *sl_config_level_name(const struct sl_config *config)
{
    return level_names[config->log_level];
}

const char *sl_config_format_name(const struct sl_config *config)
{
    return format_names[config->log_format];
}

const char *sl_config_reflection_name(const struct sl_config *config)
{
    return reflection_names[config->reflection];
}

void sl_config_done(struct sl_config *config)
{
    config->file = sl_conf_free(config->file);
    config->top = NULL;
}
