/* The insides of sl_models, for the files of this room: entries, presets, and what a loop needs. */
#ifndef SL_RUNTIME_MODEL_MODELS_H
#define SL_RUNTIME_MODEL_MODELS_H

#include <stdatomic.h>

#include "runtime/base/arena.h"
#include "runtime/base/list.h"
#include "runtime/model/gate.h"
#include "runtime/model/model.h"
#include "runtime/model/provider.h"
#include "runtime/model/retry.h"
#include "runtime/model/scenario.h"

struct sl_http;

enum sl_model_kind {
    SL_MODEL_KIND_OPENAI_CHAT,
    SL_MODEL_KIND_SCRIPTED,
    SL_MODEL_KIND_ECHO,
    SL_MODEL_KIND_LOAD,
    SL_MODEL_KIND_UNSUPPORTED /* its name is known, this build cannot speak it */
};

/* Of one model of a provider; "*": of all others. */
struct sl_model_priced {
    const char *model;
    struct sl_model_price price;
};

/* A provider entry. Set up before runs exist; the gate and the budget are shared by all loops. */
struct sl_model_entry {
    struct sl_list node;
    const char *name;
    const char *kind_name;
    enum sl_model_kind kind;
    const char *base_url;       /* NULL: not known */
    const char *key;            /* NULL: none */
    const char *problem;        /* why the entry cannot be used now; NULL: it can */
    const char *const *headers; /* "Name: value", NULL-terminated */
    const char *proxy;          /* as in sl_http_options */
    bool http2;
    struct sl_limits limits;
    struct sl_quirks quirks;
    struct sl_scenario *scenario; /* kind scripted: its own; NULL: by the model's name */
    const struct sl_model_priced *priced;
    size_t n_priced;
    struct sl_gate gate;
    struct sl_retry_budget budget;
};

struct sl_model_scenario {
    struct sl_list node;
    const char *model;
    struct sl_scenario *scenario;
};

/* What a loop needs, and how it is told that nothing is left of it. */
struct sl_models_loop {
    struct sl_loop *loop;
    struct sl_http *http; /* made when first used */
    size_t n_jobs;        /* documents that are parsed on the pool */
    bool is_http_closed;
    struct sl_task closed_task;
    void (*on_closed)(void *user_data);
    void *user_data;
};

struct sl_models {
    const struct sl_limits *limits;
    const char *(*env)(const char *name);
    struct sl_arena arena; /* texts */
    struct sl_list entries;
    struct sl_list scenarios;
    const char *default_provider; /* NULL: none */
    size_t n_loops;
    struct sl_models_loop *loops;
    atomic_size_t n_turns;
};

void sl_models_count_turn(struct sl_models *models, int n);
/* One more (1) or one less (-1) job on the pool; the loop is not closed before they have ended. */
void sl_models_count_job(struct sl_models *models, struct sl_loop *loop, int n);

/* A new entry with the defaults. NULL: no memory. `name` is copied. */
struct sl_model_entry *sl_models_add_entry(
    struct sl_models *models, const char *name, const char *kind_name, enum sl_model_kind kind);
/* By exact name. NULL: none. */
struct sl_model_entry *sl_models_entry(const struct sl_models *models, const char *name);
/* By name or alias, whatever their case. NULL: none. `size` bytes of `name`. */
struct sl_model_entry *
sl_models_find(const struct sl_models *models, const char *name, size_t size);
/* The scenario of a model's name; NULL: none. */
const struct sl_scenario *sl_models_scenario(
    const struct sl_models *models, const struct sl_model_entry *entry, const char *model);
/* The transfers of a loop, made now if they are not there. Fails: as sl_http_new. */
SL_CHECK enum sl_status sl_models_http(
    struct sl_models *models,
    struct sl_loop *loop,
    struct sl_http **ret_http,
    struct sl_error *err);

/* "env:NAME" or "file:/path": the value, copied and registered as a secret. `*ret_problem` is set
 * when it cannot be had. Fails: SL_INVALID_ARGUMENT neither form; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_models_secret(
    struct sl_models *models, const char *spec, const char **ret_value, const char **ret_problem);
/* What is wrong with a base URL; NULL: nothing. Static. */
const char *sl_models_url_fault(const char *url);
/* Presets and built-ins (presets.c). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_models_add_presets(struct sl_models *models);
/* Name of a provider that will never be there: an explanation; NULL: no such name. */
const char *sl_models_refused(const char *name, size_t size);

/* ---- Kinds of turns -------------------------------------------------------------------------- */

struct sl_turn_start {
    struct sl_models *models;
    struct sl_model_entry *entry;
    struct sl_loop *loop;
    const struct sl_model_request *request;
    const struct sl_model_sink *sink;
};

SL_CHECK enum sl_status sl_http_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err);
SL_CHECK enum sl_status sl_scripted_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err);
SL_CHECK enum sl_status sl_echo_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err);
SL_CHECK enum sl_status sl_load_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err);

/* Reads `prices:` of the entry's map. Mistakes are recorded in `conf`. */
void sl_models_read_prices(
    struct sl_models *models,
    struct sl_model_entry *entry,
    struct sl_conf *conf,
    const struct sl_conf_node *map);

#endif
