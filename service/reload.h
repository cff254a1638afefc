/* SIGHUP: the configuration is read again, all of it, and takes the place of the old one; or, with
 * one mistake anywhere, nothing changes (X5).
 *
 *   file, environment, flags ─▶ certificates ─▶ providers, tools, agents ─▶ commit
 *              └────────────────────┴─── a mistake: logged, counted, seen in health
 *
 * What cannot change while it runs is a mistake, too: listeners, loops, launcher, reflection, the
 * store, the log's format. Runs keep what they started with, connections what they came with. */
#ifndef SL_SERVICE_RELOAD_H
#define SL_SERVICE_RELOAD_H

#include <stdatomic.h>

#include "service/config.h"

struct sl_api;
struct sl_identity;
struct sl_net_tls;
struct sl_runtime;
struct sl_server;

struct sl_reload {
    int argc;
    char **argv;
    struct sl_config *config; /* in use; replaced */
    struct sl_net_tls **tls;  /* of its listeners, one each (NULL: plaintext); replaced */
    struct sl_runtime *runtime;
    struct sl_server *server;
    struct sl_api *api;
    bool has_identity; /* callers must be known */
    bool has_access;   /* and rules say what they may */
    _Atomic uint64_t n_done, n_failed;
    atomic_bool is_last_failed;
};

struct sl_reload_stats {
    uint64_t n_done, n_failed;
    bool is_last_failed; /* what is in use is not what the files say */
};

/* The context of a listener; NULL: plaintext. Owns: the caller; sl_net_tls_unref(). Fails: as
 * sl_net_tls_new_server. */
SL_CHECK enum sl_status sl_reload_make_tls(
    const struct sl_config_listen *listen, struct sl_net_tls **ret_tls, struct sl_error *err);
/* Who may call, as the configuration says; NULL: everybody. Owns: the caller; sl_identity_unref().
 * Fails: as sl_identity_load(). */
SL_CHECK enum sl_status sl_reload_load_identity(
    struct sl_config *config,
    sl_config_problem_fn *tell,
    void *user_data,
    struct sl_identity **ret_identity);
/* True: everything is new. Thread: main, before the drain. Never fails otherwise than by keeping
 * the old. */
bool sl_reload_run(struct sl_reload *reload);
/* Thread: any. */
void sl_reload_stats(const struct sl_reload *reload, struct sl_reload_stats *ret_stats);

#endif
