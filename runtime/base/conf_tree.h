/* The tree behind conf.h, shared by its files: conf_parse.c builds it, conf.c answers and
 * complains, conf_get.c has the typed getters. Everything lies in the conf's arena. */
#ifndef SL_RUNTIME_BASE_CONF_TREE_H
#define SL_RUNTIME_BASE_CONF_TREE_H

#include "runtime/base/arena.h"
#include "runtime/base/conf.h"

enum {
    SL_CONF_MAX_BYTES = 1024 * 1024,
    SL_CONF_MAX_DEPTH = 32,
    SL_CONF_MAX_NODES = 100000,
    SL_CONF_MAX_ERRORS = 1000,
    SL_CONF_PATH_BYTES = 256
};

/* A key that somebody asked a map for. */
struct sl_conf_known {
    struct sl_conf_known *next;
    const char *key;
};

struct sl_conf_node {
    struct sl_conf *conf;
    struct sl_conf_node *self; /* what is noted on a const node goes through here */
    struct sl_conf_node *parent;
    struct sl_conf_node *next; /* while the parent is built */
    enum sl_conf_kind kind;
    int line, column;         /* of the value */
    int key_line, key_column; /* of its key; 0: it has none */
    const char *key;          /* NULL: item of a list, or a document */
    size_t index;             /* among its siblings */
    const char *text;
    bool is_quoted;
    bool is_known;            /* some getter asked for it */
    bool is_complained_about; /* "must be a map" was said */
    struct sl_conf_node **children;
    size_t n_children;
    struct sl_conf_known *known;
};

struct sl_conf_message {
    struct sl_conf_message *next;
    char text[];
};

struct sl_conf {
    struct sl_arena arena;
    const char *file;
    const struct sl_conf_node **documents;
    size_t n_documents;
    size_t n_nodes;
    struct sl_conf_message *first_error, **last_error;
    size_t n_errors;
};

/* Reads YAML into `conf`. Fails: SL_RESOURCE_EXHAUSTED no memory. */
SL_CHECK enum sl_status sl_conf_build(struct sl_conf *conf, struct sl_slice text);

/* As sl_conf_error, at a place that is no node. */
SL_PRINTF(4, 5)
void sl_conf_error_at_line(struct sl_conf *conf, int line, int column, const char *fmt, ...);

/* As sl_conf_error, at the key of `node`. */
SL_PRINTF(3, 4)
void sl_conf_error_at_key(
    struct sl_conf *conf, const struct sl_conf_node *node, const char *fmt, ...);

#endif
