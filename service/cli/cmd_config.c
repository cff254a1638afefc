/* sluice config show|check: what sluiced would run with, and whether it would. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "service/cli/cli.h"
#include "service/config.h"
#include "service/schema/schema.h"

enum { EXIT_CONFIG = 78, TEXT_BYTES = 32, PATH_BYTES = 4096, MAX_OUT_BYTES = 16 * 1024 * 1024 };

/* ---- Words ------------------------------------------------------------------------------------
 */

/* "4 MiB", "30 s", "10000": the unit that leaves no rest. */
static const char *spell(enum sl_limit_unit unit, uint64_t value, char room[TEXT_BYTES])
{
    static const struct {
        enum sl_limit_unit unit;
        uint64_t size;
        const char *name;
    } units[] = {
        { SL_UNIT_BYTES, UINT64_C(1) << 30, " GiB" },
        { SL_UNIT_BYTES, UINT64_C(1) << 20, " MiB" },
        { SL_UNIT_BYTES, UINT64_C(1) << 10, " KiB" },
        { SL_UNIT_BYTES, 1, " B" },
        { SL_UNIT_MS, 3600000, " h" },
        { SL_UNIT_MS, 60000, " m" },
        { SL_UNIT_MS, 1000, " s" },
        { SL_UNIT_MS, 1, " ms" },
        { SL_UNIT_COUNT, 1, "" },
    };
    size_t i = 0;
    while (i + 1 < SL_COUNT(units) &&
           (units[i].unit != unit ||
            (units[i].size > 1 && (value < units[i].size || value % units[i].size != 0)))) {
        i++;
    }
    (void)snprintf(
        room, TEXT_BYTES, "%llu%s", (unsigned long long)(value / units[i].size), units[i].name);
    return room;
}

static const char *
origin_text(const char *key, const struct sl_config_origin *origin, char *room, size_t room_bytes)
{
    switch (origin->source) {
    case SL_CONFIG_DEFAULT:
        return "default";
    case SL_CONFIG_FILE:
        (void)snprintf(room, room_bytes, "%s:%d", origin->name, origin->line);
        return room;
    case SL_CONFIG_FLAG:
        (void)snprintf(
            room, room_bytes, "%s%s", origin->name == NULL ? "--" : "",
            origin->name == NULL ? key : origin->name);
        return room;
    case SL_CONFIG_ENVIRONMENT:
    case SL_CONFIG_PROFILE:
        break;
    }
    return origin->name;
}

/* ---- Secrets ----------------------------------------------------------------------------------
 */

static bool is_secret(const char *key)
{
    static const char *const words[] = { "key",     "token",  "secret",        "password",
                                         "passwd",  "bearer", "authorization", "credential",
                                         "headers", "env",    "cookie" };
    for (size_t i = 0; i < SL_COUNT(words); i++) {
        if (strcasestr(key, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* A copy with "***" for every string below a key that sounds like a secret, but for the names of
 * variables: they are not secret, and are what a person looks for. */
static json_t *mask(json_t *json, bool is_below)
{
    json_t *copy = NULL;
    if (json_is_object(json)) {
        copy = json_object();
        for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
            const char *key = json_object_iter_key(at);
            const size_t n = strlen(key);
            const bool is_name = n > 4 && strcmp(key + n - 4, "_env") == 0;
            (void)json_object_set_new(
                copy, key,
                mask(json_object_iter_value(at), !is_name && (is_below || is_secret(key))));
        }
        return copy;
    }
    if (json_is_array(json)) {
        copy = json_array();
        for (size_t i = 0; i < json_array_size(json); i++) {
            (void)json_array_append_new(copy, mask(json_array_get(json, i), is_below));
        }
        return copy;
    }
    return is_below && !json_is_null(json) && !json_is_boolean(json) ? json_string("***")
                                                                     : json_incref(json);
}

/* ---- What there is, as JSON -------------------------------------------------------------------
 */

static json_t *setting(const struct sl_config *config, const char *key, json_t *value)
{
    char room[PATH_BYTES];
    const struct sl_config_origin origin = sl_config_origin_of(config, key);
    return json_pack(
        "{s:o, s:s}", "value", value, "source", origin_text(key, &origin, room, sizeof(room)));
}

static json_t *listeners(const struct sl_config *config)
{
    json_t *list = json_array();
    for (size_t i = 0; i < config->n_listen; i++) {
        const struct sl_config_listen *listen = &config->listen[i];
        json_t *item = json_pack("{s:s}", "address", listen->address);
        if (listen->tls_cert != NULL) {
            (void)json_object_set_new(
                item, "tls",
                json_pack(
                    "{s:s, s:s?, s:s?, s:s}", "cert", listen->tls_cert, "key", listen->tls_key,
                    "client_ca", listen->tls_client_ca, "client_auth",
                    listen->tls_client_ca == NULL     ? "off"
                    : listen->is_client_cert_required ? "require"
                                                      : "request"));
        }
        (void)json_array_append_new(list, item);
    }
    return list;
}

static json_t *agent_paths(const struct sl_config *config)
{
    json_t *list = json_array();
    for (size_t i = 0; i < config->n_agent_paths; i++) {
        (void)json_array_append_new(list, json_string(config->agent_paths[i]));
    }
    return list;
}

static json_t *text_or_null(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

static json_t *store_of(const struct sl_config_store *store)
{
    return store->path == NULL
               ? json_null()
               : json_pack(
                     "{s:s, s:s, s:I, s:I, s:I, s:b}", "path", store->path, "synchronous",
                     sl_config_synchronous_name(store), "keep_ms", (json_int_t)store->keep_ms,
                     "keep_bytes", (json_int_t)store->keep_bytes, "min_free_percent",
                     (json_int_t)store->min_free_percent, "quarantine", store->quarantine);
}

static json_t *settings_of(const struct sl_config *config)
{
    const struct {
        const char *name, *key;
        json_t *value;
    } rows[] = {
        { "listen", "listen", listeners(config) },
        { "ops_listen", "ops-listen", text_or_null(config->ops_listen) },
        { "agents", "agents", agent_paths(config) },
        { "insecure", "insecure", json_boolean(config->is_insecure) },
        { "profile", "profile", json_string(config->is_load_profile ? "load" : "default") },
        { "loops", "loops", json_integer((json_int_t)config->n_loops) },
        { "reflection", "reflection", json_string(sl_config_reflection_name(config)) },
        { "log.level", "log-level", json_string(sl_config_level_name(config)) },
        { "log.format", "log-format", json_string(sl_config_format_name(config)) },
        { "port_file", "port-file", text_or_null(config->port_file) },
        { "store", "store", store_of(&config->store) },
        { "launcher", "launcher", text_or_null(config->launcher) },
    };
    json_t *settings = json_object();
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        (void)json_object_set_new(
            settings, rows[i].name, setting(config, rows[i].key, rows[i].value));
    }
    return settings;
}

static json_t *limits_of(struct sl_config *config)
{
    static const char *const units[] = { "count", "bytes", "ms" };
    json_t *limits = json_object();
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        const struct sl_limit_info *info = &sl_limit_infos[i];
        char room[PATH_BYTES];
        (void)json_object_set_new(
            limits, info->name,
            json_pack(
                "{s:I, s:s, s:I, s:I, s:I, s:s, s:s}", "value",
                (json_int_t)*sl_limits_field(&config->limits, info), "unit", units[info->unit],
                "default", (json_int_t)info->value, "least", (json_int_t)info->least, "greatest",
                (json_int_t)info->greatest, "source",
                origin_text(info->name, &config->limit_origins[i], room, sizeof(room)), "text",
                info->text));
    }
    return limits;
}

/* The parts of the file that others read; what is shown above is left out. */
static json_t *rest_of(const struct sl_config *config)
{
    static const char *const keys[] = { "providers",      "default_provider", "tools",
                                        "builtin_agents", "identity",         "access" };
    json_t *rest = json_object();
    json_t *all = config->top == NULL ? NULL : sl_conf_to_json(config->top);
    for (size_t i = 0; i < SL_COUNT(keys); i++) {
        json_t *value = json_object_get(all, keys[i]);
        const bool has_no_secrets = strcmp(keys[i], "identity") == 0; /* its `keys` is a path */
        if (value != NULL) {
            (void)json_object_set_new(
                rest, keys[i], has_no_secrets ? json_incref(value) : mask(value, false));
        }
    }
    json_decref(all);
    return rest;
}

/* ---- Output -----------------------------------------------------------------------------------
 */

static int print(const json_t *json, bool is_indented)
{
    struct sl_buf out;
    sl_buf_init(&out, MAX_OUT_BYTES);
    const enum sl_status status = sl_schema_print(json, is_indented, &out);
    if (status == SL_OK) {
        (void)printf("%.*s\n", SL_SLICE_FMT(sl_buf_slice(&out)));
    }
    sl_buf_done(&out);
    return status == SL_OK ? SL_EXIT_DONE : SL_EXIT_ERROR;
}

static void print_setting(const char *name, json_t *row)
{
    struct sl_buf text;
    json_t *value = json_object_get(row, "value");
    sl_buf_init(&text, MAX_OUT_BYTES);
    const bool is_plain = json_is_string(value);
    if (is_plain || sl_schema_print(value, false, &text) == SL_OK) {
        (void)printf(
            "%-12s %-44s %s\n", name, is_plain ? json_string_value(value) : sl_buf_cstr(&text),
            json_string_value(json_object_get(row, "source")));
    }
    sl_buf_done(&text);
}

static void print_limits(struct sl_config *config)
{
    (void)printf(
        "\n%-30s %-10s %-10s %-22s %-24s %s\n", "LIMIT", "VALUE", "DEFAULT", "RANGE", "SOURCE",
        "WHAT");
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        const struct sl_limit_info *info = &sl_limit_infos[i];
        char value[TEXT_BYTES];
        char normal[TEXT_BYTES];
        char least[TEXT_BYTES];
        char greatest[TEXT_BYTES];
        char range[2 * TEXT_BYTES + 8];
        char room[PATH_BYTES];
        (void)snprintf(
            range, sizeof(range), "%s to %s", spell(info->unit, info->least, least),
            spell(info->unit, info->greatest, greatest));
        (void)printf(
            "%-30s %-10s %-10s %-22s %-24s %s\n", info->name,
            spell(info->unit, *sl_limits_field(&config->limits, info), value),
            spell(info->unit, info->value, normal), range,
            origin_text(info->name, &config->limit_origins[i], room, sizeof(room)), info->text);
    }
}

static int show_text(struct sl_config *config)
{
    json_t *settings = settings_of(config);
    json_t *rest = rest_of(config);
    int exit_code = SL_EXIT_DONE;
    for (void *at = json_object_iter(settings); at != NULL;
         at = json_object_iter_next(settings, at)) {
        print_setting(json_object_iter_key(at), json_object_iter_value(at));
    }
    if (json_object_size(rest) > 0) {
        (void)printf("\nfrom the file, for the runtime:\n");
        exit_code = print(rest, true);
    }
    print_limits(config);
    json_decref(settings);
    json_decref(rest);
    return exit_code;
}

static int show_json(struct sl_config *config)
{
    json_t *all = json_pack(
        "{s:o, s:o, s:o}", "settings", settings_of(config), "limits", limits_of(config), "file",
        rest_of(config));
    const int exit_code = all == NULL ? SL_EXIT_ERROR : print(all, false);
    json_decref(all);
    return exit_code;
}

static void print_problem(const char *line, void *user_data)
{
    (void)user_data;
    sl_cli_complain("%s", line);
}

static int show(int argc, char **argv, bool is_json)
{
    static struct sl_config config;
    const enum sl_status status = sl_config_load(&config, argc, argv, print_problem, NULL);
    const enum sl_status finished = sl_config_finish(&config, print_problem, NULL);
    int exit_code = EXIT_CONFIG;
    if (status == SL_INVALID_ARGUMENT) {
        exit_code = SL_EXIT_USAGE;
    } else if (status == SL_OK && finished == SL_OK) {
        exit_code = is_json ? show_json(&config) : show_text(&config);
    }
    sl_config_done(&config);
    return exit_code;
}

/* ---- The command ------------------------------------------------------------------------------
 */

/* The daemon itself checks: it alone loads agents, tools and providers. */
static int check(char **argv)
{
    char path[PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("sluiced"));
    char *slash = n <= 0 ? NULL : memrchr(path, '/', (size_t)n);
    if (slash != NULL) {
        memcpy(slash + 1, "sluiced", sizeof("sluiced"));
        (void)execv(path, argv);
    }
    sl_cli_complain("sluiced is not beside this program (errno %d)", errno);
    return SL_EXIT_ERROR;
}

static int run_config(int argc, char **argv)
{
    const bool is_show = argc > 0 && strcmp(argv[0], "show") == 0;
    const bool is_check = argc > 0 && strcmp(argv[0], "check") == 0;
    if (!is_show && !is_check) {
        return sl_cli_usage(&sl_cmd_config);
    }
    /* sluiced's own parser gets all but --json, with a name in front and an end behind. */
    char **words = sl_calloc((size_t)argc + 2, sizeof(*words));
    bool is_json = false;
    int n_words = 0;
    if (words == NULL) {
        return SL_EXIT_ERROR;
    }
    words[n_words++] = sl_unconst("sluiced");
    for (int i = 1; i < argc; i++) {
        const bool is_ours = strcmp(argv[i], "--json") == 0;
        is_json = is_json || is_ours;
        if (!is_ours) {
            words[n_words++] = argv[i];
        }
    }
    if (is_check) {
        words[n_words] = sl_unconst("--check");
    }
    const int exit_code = is_show ? show(n_words, words, is_json) : check(words);
    (void)sl_free(words);
    return exit_code;
}

/* For --help and completion; sluiced's own parser gets the rest. */
static const struct sl_cli_flag flags[] = {
    { "--json", SL_CLI_SWITCH, 0, NULL, "show: one object" },
};

const struct sl_cli_command sl_cmd_config = {
    .name = "config",
    .arguments = "show|check",
    .text = "what sluiced would run with, and where each value comes from",
    .run = run_config,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .words = "show check",
    .notes = "Takes the options of sluiced (sluiced --help) and reads its environment, as sluiced "
             "would\n"
             "where this command runs. check is sluiced --check: exit status 0, or 78 with the "
             "mistakes.\n",
};
