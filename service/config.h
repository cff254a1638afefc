/* The configuration of sluiced: flags over environment over one YAML file over defaults, checked as
 * a whole. Every mistake is reported with its place; with one mistake the server does not start. */
#ifndef SL_SERVICE_CONFIG_H
#define SL_SERVICE_CONFIG_H

#include "runtime/base/conf.h"
#include "runtime/base/limits.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

enum { SL_CONFIG_LISTENERS = 16, SL_CONFIG_AGENT_PATHS = 16, SL_CONFIG_ORIGINS = 64 };

/* Where a value was given last; the later source wins. */
enum sl_config_source {
    SL_CONFIG_DEFAULT,
    SL_CONFIG_FILE,
    SL_CONFIG_ENVIRONMENT,
    SL_CONFIG_PROFILE,
    SL_CONFIG_FLAG
};

struct sl_config_origin {
    enum sl_config_source source;
    const char *name; /* of the file, the variable or the flag; NULL: a default */
    int line;         /* in the file; 0: none */
};

struct sl_config_listen {
    const char *address;
    /* Files; cert and key NULL: plaintext. */
    const char *tls_cert, *tls_key, *tls_client_ca;
    bool is_client_cert_required;
    bool is_reset_loss; /* `reset_is_disconnect` */
};

/* Where runs are recorded. */
struct sl_config_store {
    const char *path;          /* of the SQLite database; NULL: nothing outlives the process */
    int synchronous;           /* 0 full, 1 normal */
    uint64_t keep_ms;          /* ended runs are removed so long after their end; 0: never */
    uint64_t keep_bytes;       /* the oldest of them are removed over so many; 0: never */
    uint64_t min_free_percent; /* of the file system: no new runs below; 0: nobody looks */
    bool quarantine;           /* a damaged database is moved aside */
    const struct sl_conf_node *node; /* in the file; NULL: it is not there */
};

/* Texts belong to the configuration, the command line or the environment. */
struct sl_config {
    struct sl_config_listen listen[SL_CONFIG_LISTENERS];
    size_t n_listen;
    const char *agent_paths[SL_CONFIG_AGENT_PATHS];
    size_t n_agent_paths;
    bool is_insecure; /* plaintext on other addresses than loopback and unix sockets */
    bool is_load_profile;
    uint64_t n_loops; /* 0: one per core */
    int reflection;   /* 0 auto (loopback and unix listeners only), 1 on, 2 off */
    enum sl_log_level log_level;
    enum sl_log_format log_format;
    const char *ops_listen; /* NULL: no operations port */
    const char *port_file;  /* gets the first listener's address once calls are served */
    const char *launcher;   /* NULL: sluice-exec beside this program */
    struct sl_config_store store;
    struct sl_limits limits;
    bool only_check, only_help, only_version;

    /* For `sluice config show`: settings by the name of their flag ("log-level") or key
     * ("launcher"), and limits in the list's order. */
    struct {
        char key[32];
        struct sl_config_origin origin;
    } origins[SL_CONFIG_ORIGINS];
    size_t n_origins;
    struct sl_config_origin limit_origins[SL_LIMIT_COUNT];

    struct sl_conf *file;           /* NULL: no file was given */
    const struct sl_conf_node *top; /* its map; NULL: none */
};

/* Where mistakes go, one line each. */
typedef void(sl_config_problem_fn)(const char *line, void *user_data);

/* Reads everything but the keys that others read from `config->top` later (the runtime: providers,
 * default_provider, tools, builtin_agents; sl_identity_load(): identity, access): those are only
 * marked as known here, and sl_config_finish() reports what was recorded. Owns: the caller;
 * sl_config_done(). Fails: SL_INVALID_ARGUMENT usage, SL_FAILED_PRECONDITION mistakes in the file
 * or environment. */
SL_CHECK enum sl_status sl_config_load(
    struct sl_config *config,
    int argc,
    char **argv,
    sl_config_problem_fn *on_problem,
    void *user_data);
/* Reports every error recorded in the file, also those of the runtime. Fails:
 * SL_FAILED_PRECONDITION. */
SL_CHECK enum sl_status
sl_config_finish(struct sl_config *config, sl_config_problem_fn *on_problem, void *user_data);
void sl_config_done(struct sl_config *config);

/* Where a setting comes from, by the name of its flag or key. */
struct sl_config_origin sl_config_origin_of(const struct sl_config *config, const char *key);
/* As they are written in a file. */
const char *sl_config_level_name(const struct sl_config *config);
const char *sl_config_format_name(const struct sl_config *config);
const char *sl_config_reflection_name(const struct sl_config *config);
const char *sl_config_synchronous_name(const struct sl_config_store *store);

/* The defaults, and what `store` in the file says; mistakes are recorded there. */
void sl_config_init_store(struct sl_config_store *store);
void sl_config_load_store(
    struct sl_conf *file, const struct sl_conf_node *top, struct sl_config_store *store);

/* The environment, read through here and nowhere else. */
const char *sl_config_env(const char *name);
const char *const *sl_config_environment(void);

/* True for 127.0.0.0/8, ::1, localhost and unix sockets. */
bool sl_config_is_local(const char *address);

/* The text of --help. */
extern const char sl_config_usage[];

#endif
