#include "service/reload.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/runtime.h"
#include "service/api/api.h"
#include "service/identity/identity.h"
#include "service/net/net.h"
#include "service/rpc/rpc.h"

enum { MAX_LINES = 50, LINE_BYTES = 1024, NAMES_BYTES = 512 };

/* One try. */
struct attempt {
    struct sl_reload *reload;
    struct sl_config fresh;
    struct sl_net_tls *tls[SL_CONFIG_LISTENERS];
    struct sl_generation *draft;
    struct sl_identity *identity;
    size_t n_problems;
};

/* ---- Mistakes ----------------------------------------------------------------------------------
 */

static void on_problem(const char *line, void *user_data)
{
    struct attempt *attempt = user_data;
    char room[LINE_BYTES];
    if (++attempt->n_problems <= MAX_LINES) {
        sl_log(
            SL_ERROR, SL_LOG_MAIN, "msg=\"mistake in the configuration\" problem=%s",
            sl_log_quote(sl_slice_str(line), room, sizeof(room)));
    }
}

SL_PRINTF(2, 3) static void problem(struct attempt *attempt, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    on_problem(line, attempt);
}

/* ---- What cannot change ------------------------------------------------------------------------
 */

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool has_same_listeners(const struct sl_config *old, const struct sl_config *fresh)
{
    bool is_same_all = old->n_listen == fresh->n_listen;
    for (size_t i = 0; is_same_all && i < old->n_listen; i++) {
        is_same_all = is_same(old->listen[i].address, fresh->listen[i].address) &&
                      (old->listen[i].tls_cert == NULL) == (fresh->listen[i].tls_cert == NULL) &&
                      old->listen[i].is_reset_loss == fresh->listen[i].is_reset_loss;
    }
    return is_same_all;
}

/* At its key in the file, if it stands there: the sources that win over the file never change. */
static void refuse_change(struct attempt *attempt, const char *key)
{
    struct sl_conf *file = attempt->fresh.file;
    const struct sl_conf_node *node =
        attempt->fresh.top == NULL ? NULL : sl_conf_get(file, attempt->fresh.top, key, SL_OPTIONAL);
    if (file == NULL) {
        problem(attempt, "%s: cannot change while sluiced runs: start it anew", key);
        return;
    }
    sl_conf_error(
        file, node == NULL ? attempt->fresh.top : node,
        "cannot change while sluiced runs: start it anew");
}

static bool has_same_store(const struct sl_config_store *old, const struct sl_config_store *fresh)
{
    return is_same(old->path, fresh->path) && old->synchronous == fresh->synchronous &&
           old->keep_ms == fresh->keep_ms && old->keep_bytes == fresh->keep_bytes &&
           old->min_free_percent == fresh->min_free_percent && old->quarantine == fresh->quarantine;
}

static void check_fixed(struct attempt *attempt)
{
    const struct sl_config *old = attempt->reload->config;
    const struct sl_config *fresh = &attempt->fresh;
    const struct {
        bool is_changed;
        const char *key;
    } checks[] = { { !has_same_listeners(old, fresh), "listen" },
                   { old->n_loops != fresh->n_loops, "loops" },
                   { old->reflection != fresh->reflection, "reflection" },
                   { !is_same(old->launcher, fresh->launcher), "launcher" },
                   { !has_same_store(&old->store, &fresh->store), "store" },
                   { !is_same(old->ops_listen, fresh->ops_listen), "ops_listen" },
                   { old->log_format != fresh->log_format, "log" } };
    for (size_t i = 0; i < SL_COUNT(checks); i++) {
        if (checks[i].is_changed) {
            refuse_change(attempt, checks[i].key);
        }
    }
}

/* ---- Reading -----------------------------------------------------------------------------------
 */

enum sl_status sl_reload_make_tls(
    const struct sl_config_listen *listen, struct sl_net_tls **ret_tls, struct sl_error *err)
{
    *ret_tls = NULL;
    if (listen->tls_cert == NULL) {
        return SL_OK;
    }
    const struct sl_net_tls_options options = { .cert_file = listen->tls_cert,
                                                .key_file = listen->tls_key,
                                                .ca_file = listen->tls_client_ca,
                                                .client_auth = listen->tls_client_ca == NULL
                                                                   ? SL_NET_CLIENT_AUTH_OFF
                                                               : listen->is_client_cert_required
                                                                   ? SL_NET_CLIENT_AUTH_REQUIRE
                                                                   : SL_NET_CLIENT_AUTH_REQUEST };
    return sl_net_tls_new_server(&options, ret_tls, err);
}

static void warn_of_plaintext(const struct sl_config *config)
{
    for (size_t i = 0; i < config->n_listen; i++) {
        const struct sl_config_listen *listen = &config->listen[i];
        if (listen->tls_cert != NULL || sl_config_is_local(listen->address)) {
            continue;
        }
        sl_log(
            SL_WARN, SL_LOG_MAIN, "msg=\"keys cross the network in plaintext\" address=%s",
            listen->address);
    }
}

enum sl_status sl_reload_load_identity(
    struct sl_config *config,
    sl_config_problem_fn *tell,
    void *user_data,
    struct sl_identity **ret_identity)
{
    struct sl_identity_options options = { .conf = config->file,
                                           .top = config->top,
                                           .max_keys = config->limits.keys };
    for (size_t i = 0; i < config->n_listen; i++) {
        options.has_client_certificates |= config->listen[i].tls_client_ca != NULL;
    }
    SL_TRY(sl_identity_load(&options, tell, user_data, ret_identity));
    if (sl_identity_has_keys(*ret_identity)) {
        warn_of_plaintext(config);
    }
    return SL_OK;
}

/* Whoever takes `identity` out by accident would open the server to everybody, and whoever takes
 * `access` out, every agent to everybody who is known. */
static void read_identity(struct attempt *attempt)
{
    const enum sl_status status =
        sl_reload_load_identity(&attempt->fresh, on_problem, attempt, &attempt->identity);
    if (status == SL_RESOURCE_EXHAUSTED) {
        problem(attempt, "identity: out of memory");
    } else if (status == SL_OK && attempt->identity == NULL && attempt->reload->has_identity) {
        problem(attempt, "identity: cannot be taken away while sluiced runs: start it anew");
    } else if (
        status == SL_OK && attempt->reload->has_access &&
        !sl_identity_has_access(attempt->identity)) {
        problem(
            attempt, "access: cannot be taken away while sluiced runs: start it anew, or write "
                     "[{agents: [\"*\"]}] to allow every agent");
    }
}

static void read_certificates(struct attempt *attempt)
{
    struct sl_error err = { .text = "" };
    for (size_t i = 0; i < attempt->fresh.n_listen; i++) {
        if (sl_reload_make_tls(&attempt->fresh.listen[i], &attempt->tls[i], &err) != SL_OK) {
            problem(attempt, "%s", err.text);
        }
    }
}

static void read_agents(struct attempt *attempt)
{
    struct sl_error err = { .text = "" };
    const struct sl_config *fresh = &attempt->fresh;
    if (sl_runtime_draft_new(attempt->reload->runtime, &fresh->limits, &attempt->draft, &err) !=
        SL_OK) {
        problem(attempt, "%s", err.text);
        return;
    }
    sl_runtime_draft_configure(attempt->draft, fresh->file, fresh->top);
    for (size_t i = 0; i < fresh->n_agent_paths; i++) {
        if (sl_runtime_draft_load_agents(
                attempt->draft, fresh->agent_paths[i], on_problem, attempt, &err) != SL_OK) {
            problem(attempt, "%s", err.text);
        }
    }
    sl_runtime_draft_check(attempt->draft, on_problem, attempt);
}

/* A file that somebody is writing is empty for a moment. */
static void check_empty(struct attempt *attempt)
{
    if (attempt->fresh.file != NULL && attempt->fresh.top == NULL &&
        sl_conf_n_errors(attempt->fresh.file) == 0) {
        problem(attempt, "the configuration file is empty");
    }
}

static void read_all(struct attempt *attempt)
{
    const struct sl_reload *reload = attempt->reload;
    struct sl_config *fresh = &attempt->fresh;
    const enum sl_status status =
        sl_config_load(fresh, reload->argc, reload->argv, on_problem, attempt);
    check_empty(attempt);
    if (status == SL_OK && attempt->n_problems == 0 &&
        (fresh->file == NULL || sl_conf_n_errors(fresh->file) == 0)) {
        check_fixed(attempt);
        read_certificates(attempt);
        read_identity(attempt);
        read_agents(attempt);
    }
    (void)!sl_config_finish(fresh, on_problem, attempt);
    attempt->n_problems += status != SL_OK && attempt->n_problems == 0;
}

/* ---- Commit ------------------------------------------------------------------------------------
 */

/* "runs,message_recv"; "-" for none. */
static void name_changes(const struct sl_limits *old, const struct sl_limits *fresh, char *room)
{
    size_t size = (size_t)snprintf(room, NAMES_BYTES, "-");
    size_t n = 0;
    for (size_t i = 0; i < sl_limit_n_infos; i++) {
        const size_t offset = sl_limit_infos[i].offset;
        const char *name = sl_limit_infos[i].name;
        const bool is_changed =
            memcmp((const char *)old + offset, (const char *)fresh + offset, sizeof(uint64_t)) != 0;
        if (is_changed && size + strlen(name) + 2 < NAMES_BYTES) {
            size = n == 0 ? 0 : size;
            size +=
                (size_t)snprintf(room + size, NAMES_BYTES - size, "%s%s", n == 0 ? "" : ",", name);
            n++;
        }
    }
}

static bool commit(struct attempt *attempt)
{
    static const char *const levels[] = { "error", "warn", "info", "debug" };
    struct sl_reload *reload = attempt->reload;
    struct sl_config *config = reload->config;
    struct sl_config *fresh = &attempt->fresh;
    struct sl_runtime_change change;
    char names[NAMES_BYTES];
    if (sl_server_reload(reload->server, &fresh->limits, attempt->tls, fresh->n_listen) != SL_OK) {
        problem(attempt, "out of memory");
        return false;
    }
    sl_api_set_identity(reload->api, attempt->identity);
    reload->has_identity = attempt->identity != NULL;
    reload->has_access = sl_identity_has_access(attempt->identity);
    sl_runtime_draft_commit(SL_TAKE(attempt->draft), &change);
    for (size_t i = 0; i < fresh->n_listen; i++) {
        (void)sl_net_tls_unref(reload->tls[i]);
        reload->tls[i] = SL_TAKE(attempt->tls[i]);
    }
    name_changes(&config->limits, &fresh->limits, names);
    sl_log_set_level(fresh->log_level);
    sl_config_done(config);
    *config = *fresh;
    *fresh = (struct sl_config){ 0 };
    sl_log(
        SL_INFO, SL_LOG_MAIN,
        "msg=\"reloaded\" agents=%zu added=%zu removed=%zu changed=%zu limits=%s log_level=%s",
        change.n_agents, change.n_added, change.n_removed, change.n_changed, names,
        levels[config->log_level]);
    return true;
}

/* What was read, and is not in use. */
static void drop(struct attempt *attempt)
{
    attempt->draft = sl_runtime_draft_drop(attempt->draft);
    for (size_t i = 0; i < SL_CONFIG_LISTENERS; i++) {
        attempt->tls[i] = sl_net_tls_unref(attempt->tls[i]);
    }
    attempt->identity = sl_identity_unref(attempt->identity);
    sl_config_done(&attempt->fresh);
}

bool sl_reload_run(struct sl_reload *reload)
{
    struct attempt attempt = { .reload = reload };
    read_all(&attempt);
    const bool is_done = attempt.n_problems == 0 && commit(&attempt);
    drop(&attempt);
    if (!is_done) {
        sl_log(
            SL_ERROR, SL_LOG_MAIN, "msg=\"not reloaded, the old configuration stays\" mistakes=%zu",
            attempt.n_problems);
    }
    (void)atomic_fetch_add(is_done ? &reload->n_done : &reload->n_failed, 1);
    SL_METRIC_ADD(sluice_config_reloads, 1, is_done ? "done" : "failed");
    atomic_store(&reload->is_last_failed, !is_done);
    (void)!sl_api_set_config_state(
        reload->api, is_done); /* its name is known: no memory is needed */
    return is_done;
}

void sl_reload_stats(const struct sl_reload *reload, struct sl_reload_stats *ret_stats)
{
    *ret_stats = (struct sl_reload_stats){ .n_done = atomic_load(&reload->n_done),
                                           .n_failed = atomic_load(&reload->n_failed),
                                           .is_last_failed = atomic_load(&reload->is_last_failed) };
}
