#include "runtime/exec/agent.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "runtime/base/mem.h"
#include "runtime/exec/agent_builtin.h"

struct sl_agents {
    struct sl_agents_options options;
    struct sl_agent *first;
    size_t n_agents;
};

enum sl_status sl_agents_new(const struct sl_agents_options *options, struct sl_agents **ret_agents)
{
    struct sl_agents *agents = sl_calloc(1, sizeof(*agents));
    if (agents == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    agents->options = *options;
    *ret_agents = agents;
    return SL_OK;
}

struct sl_agent *sl_agent_free(struct sl_agent *agent)
{
    if (agent != NULL) {
        for (size_t i = 0; i < agent->n_tools; i++) {
            (void)sl_tool_unref(agent->tools[i]);
        }
        json_decref(agent->output.schema);
        sl_arena_done(&agent->arena);
    }
    return sl_free(agent);
}

static void free_list(struct sl_agent *agent)
{
    while (agent != NULL) {
        struct sl_agent *next = agent->next;
        (void)sl_agent_free(agent);
        agent = next;
    }
}

struct sl_agents *sl_agents_free(struct sl_agents *agents)
{
    if (agents != NULL) {
        free_list(agents->first);
    }
    return sl_free(agents);
}

size_t sl_agents_size(const struct sl_agents *agents)
{
    return agents->n_agents;
}

const struct sl_agent *sl_agents_first(const struct sl_agents *agents)
{
    return agents->first;
}

const struct sl_agent *sl_agents_find(const struct sl_agents *agents, const char *name)
{
    const struct sl_agent *agent = agents->first;
    while (agent != NULL && strcmp(agent->name, name) != 0) {
        agent = agent->next;
    }
    return agent;
}

static void insert(struct sl_agents *agents, struct sl_agent *agent)
{
    struct sl_agent **at = &agents->first;
    while (*at != NULL && strcmp((*at)->name, agent->name) < 0) {
        at = &(*at)->next;
    }
    agent->next = *at;
    *at = agent;
    agents->n_agents++;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static bool
is_taken(const struct sl_agents *agents, const struct sl_agent *others, const char *name)
{
    for (; others != NULL; others = others->next) {
        if (strcmp(others->name, name) == 0) {
            return true;
        }
    }
    return sl_agents_find(agents, name) != NULL;
}

/* Reads all documents; what could be read is in `*ret_list`, last one first. */
static enum sl_status
read_documents(struct sl_agents *agents, struct sl_conf *conf, struct sl_agent **ret_list)
{
    for (size_t i = 0; i < sl_conf_n_documents(conf); i++) {
        const struct sl_conf_node *document = sl_conf_document(conf, i);
        struct sl_agent *agent = NULL;
        SL_TRY(sl_agent_from_conf(&agents->options, conf, document, &agent));
        if (agent == NULL) {
            continue;
        }
        if (is_taken(agents, *ret_list, agent->name)) {
            sl_conf_error(conf, document, "there is another agent with the name '%s'", agent->name);
        }
        agent->next = *ret_list;
        *ret_list = agent;
    }
    return SL_OK;
}

static enum sl_status add_conf(
    struct sl_agents *agents,
    struct sl_conf *conf,
    sl_agent_problem_fn *on_problem,
    void *user_data)
{
    struct sl_agent *list = NULL;
    const enum sl_status status = read_documents(agents, conf, &list);
    if (status == SL_OK && sl_conf_n_documents(conf) == 0 && sl_conf_n_errors(conf) == 0) {
        sl_conf_error(conf, NULL, "there is no agent in this file");
    }
    if (status != SL_OK || sl_conf_n_errors(conf) > 0) {
        for (size_t i = 0; i < sl_conf_n_errors(conf); i++) {
            on_problem(sl_conf_error_at(conf, i), user_data);
        }
        free_list(list);
        return status != SL_OK ? status : SL_INVALID_ARGUMENT;
    }
    while (list != NULL) {
        struct sl_agent *agent = list;
        list = agent->next;
        insert(agents, agent);
    }
    return SL_OK;
}

enum sl_status sl_agents_add_yaml(
    struct sl_agents *agents,
    struct sl_slice yaml,
    const char *file,
    sl_agent_problem_fn *on_problem,
    void *user_data)
{
    struct sl_conf *conf = NULL;
    SL_TRY(sl_conf_parse(yaml, file, &conf));
    const enum sl_status status = add_conf(agents, conf, on_problem, user_data);
    (void)sl_conf_free(conf);
    return status;
}

/* A broken file is told about and left out; only a lack of memory is an error here. */
static enum sl_status add_file(
    struct sl_agents *agents, const char *path, sl_agent_problem_fn *on_problem, void *user_data)
{
    struct sl_conf *conf = NULL;
    struct sl_error err = { .status = SL_OK };
    enum sl_status status = sl_conf_read(path, &conf, &err);
    if (status != SL_OK) {
        on_problem(err.text, user_data);
        return status == SL_RESOURCE_EXHAUSTED ? status : SL_OK;
    }
    status = add_conf(agents, conf, on_problem, user_data);
    (void)sl_conf_free(conf);
    return status == SL_INVALID_ARGUMENT ? SL_OK : status;
}

static int is_agent_file(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL &&
           (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

static enum sl_status add_folder(
    struct sl_agents *agents,
    const char *path,
    sl_agent_problem_fn *on_problem,
    void *user_data,
    struct sl_error *err)
{
    struct dirent **entries = NULL;
    const int n_entries = scandir(path, &entries, is_agent_file, alphasort);
    if (n_entries < 0) {
        const enum sl_status code = errno == EACCES ? SL_PERMISSION_DENIED : SL_NOT_FOUND;
        return sl_fail(err, code, "%s: the folder cannot be read", path);
    }
    enum sl_status status = SL_OK;
    for (int i = 0; i < n_entries; i++) {
        const size_t room_bytes = strlen(path) + strlen(entries[i]->d_name) + 2;
        char *file = sl_alloc(room_bytes);
        if (file == NULL) {
            status = SL_RESOURCE_EXHAUSTED;
        } else if (status == SL_OK) {
            (void)snprintf(file, room_bytes, "%s/%s", path, entries[i]->d_name);
            status = add_file(agents, file, on_problem, user_data);
        }
        (void)sl_free(file);
        free(entries[i]);
    }
    free(entries);
    return status == SL_OK ? SL_OK : sl_fail(err, status, "%s: no memory", path);
}

enum sl_status sl_agents_add_path(
    struct sl_agents *agents,
    const char *path,
    sl_agent_problem_fn *on_problem,
    void *user_data,
    struct sl_error *err)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        const enum sl_status code = errno == EACCES ? SL_PERMISSION_DENIED : SL_NOT_FOUND;
        return sl_fail(err, code, "%s: there is no such file or folder", path);
    }
    if (S_ISDIR(info.st_mode)) {
        return add_folder(agents, path, on_problem, user_data, err);
    }
    const enum sl_status status = add_file(agents, path, on_problem, user_data);
    return status == SL_OK ? SL_OK : sl_fail(err, status, "%s: no memory", path);
}

/* ---- Built-in agents ------------------------------------------------------------------------- */

static void keep_problem(const char *line, void *user_data)
{
    struct sl_error *err = user_data;
    (void)sl_fail(err, SL_INTERNAL, "%s", line);
}

enum sl_status
sl_agents_add_builtin(struct sl_agents *agents, const char *name, struct sl_error *err)
{
    const struct sl_agent_builtin *builtin = sl_agent_builtin_find(name);
    if (builtin == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "there is no built-in agent '%s'", name);
    }
    if (sl_agents_find(agents, name) != NULL) {
        return sl_fail(err, SL_ALREADY_EXISTS, "there is another agent '%s'", name);
    }
    if (builtin->scenario != NULL) {
        SL_TRY(sl_models_add_scenario(
            agents->options.models, builtin->scenario_name, sl_slice_str(builtin->scenario), err));
    }
    struct sl_error problem = { .status = SL_OK };
    const enum sl_status status =
        sl_agents_add_yaml(agents, sl_slice_str(builtin->yaml), "built-in", keep_problem, &problem);
    if (status != SL_OK) {
        return sl_fail(err, status, "built-in agent '%s': %s", name, problem.text);
    }
    for (struct sl_agent *agent = agents->first; agent != NULL; agent = agent->next) {
        if (strcmp(agent->name, name) == 0) {
            agent->omits_content = builtin->omits_content;
            agent->is_never_recorded = builtin->is_never_recorded;
        }
    }
    return SL_OK;
}
