#include <stdlib.h>

#include <yaml.h>

#include "runtime/base/conf_tree.h"
#include "runtime/base/mem.h"

/* A map or list that is still open. */
struct frame {
    struct sl_conf_node *node;
    struct sl_conf_node *first, **last;
    const char *key; /* of the value that comes next; NULL: a key comes next */
    int key_line, key_column;
};

struct builder {
    struct sl_conf *conf;
    struct frame frames[SL_CONF_MAX_DEPTH];
    size_t depth;
    struct sl_conf_node *root;
    bool must_stop; /* an error behind which nothing makes sense */
};

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

static int column_of(const yaml_event_t *event)
{
    return (int)event->start_mark.column + 1;
}

static void refuse(struct builder *builder, const yaml_event_t *event, const char *what)
{
    sl_conf_error_at_line(builder->conf, line_of(event), column_of(event), "%s", what);
}

static void refuse_and_stop(struct builder *builder, const yaml_event_t *event, const char *what)
{
    refuse(builder, event, what);
    builder->must_stop = true;
}

/* NULL: no memory, or too many (then it is told and the parse must stop). */
static struct sl_conf_node *
make_node(struct builder *builder, const yaml_event_t *event, enum sl_conf_kind kind)
{
    struct sl_conf *conf = builder->conf;
    if (conf->n_nodes >= SL_CONF_MAX_NODES) {
        refuse_and_stop(builder, event, "too many values in one file");
        return NULL;
    }
    struct sl_conf_node *node = sl_arena_calloc(&conf->arena, 1, sizeof(*node));
    if (node != NULL) {
        conf->n_nodes++;
        node->conf = conf;
        node->self = node;
        node->kind = kind;
        node->line = line_of(event);
        node->column = column_of(event);
        node->text = "";
    }
    return node;
}

/* Puts a finished or just opened value into its place. */
static void attach(struct builder *builder, struct sl_conf_node *node)
{
    if (builder->depth == 0) {
        builder->root = node;
        return;
    }
    struct frame *frame = &builder->frames[builder->depth - 1];
    node->parent = frame->node;
    node->key = frame->key;
    node->key_line = frame->key_line;
    node->key_column = frame->key_column;
    node->index = frame->node->n_children++;
    frame->key = NULL;
    *frame->last = node;
    frame->last = &node->next;
}

static bool is_key_next(const struct builder *builder)
{
    return builder->depth > 0 && builder->frames[builder->depth - 1].node->kind == SL_CONF_MAP &&
           builder->frames[builder->depth - 1].key == NULL;
}

static void check_marks(
    struct builder *builder,
    const yaml_event_t *event,
    const yaml_char_t *anchor,
    const yaml_char_t *tag)
{
    if (anchor != NULL) {
        refuse(builder, event, "anchors are not allowed");
    }
    if (tag != NULL) {
        refuse(builder, event, "tags are not allowed");
    }
}

static enum sl_status take_scalar(struct builder *builder, const yaml_event_t *event)
{
    const bool is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    const struct sl_slice value = sl_slice_of(event->data.scalar.value, event->data.scalar.length);
    check_marks(builder, event, event->data.scalar.anchor, event->data.scalar.tag);
    if (value.size > 0 && memchr(value.data, 0, value.size) != NULL) {
        refuse(builder, event, "a text must not contain a NUL character");
    }
    const char *text = sl_arena_dup(&builder->conf->arena, value);
    if (text == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (is_key_next(builder)) {
        struct frame *frame = &builder->frames[builder->depth - 1];
        if (!is_quoted && sl_slice_equals(value, "<<")) {
            refuse(builder, event, "merge keys are not allowed");
        }
        frame->key = text;
        frame->key_line = line_of(event);
        frame->key_column = column_of(event);
        return SL_OK;
    }
    struct sl_conf_node *node = make_node(builder, event, SL_CONF_SCALAR);
    if (node == NULL) {
        return builder->must_stop ? SL_OK : SL_RESOURCE_EXHAUSTED;
    }
    node->text = text;
    node->is_quoted = is_quoted;
    attach(builder, node);
    return SL_OK;
}

static enum sl_status take_alias(struct builder *builder, const yaml_event_t *event)
{
    refuse(builder, event, "aliases are not allowed");
    if (is_key_next(builder)) {
        builder->must_stop = true;
        return SL_OK;
    }
    struct sl_conf_node *node = make_node(builder, event, SL_CONF_SCALAR);
    if (node == NULL) {
        return builder->must_stop ? SL_OK : SL_RESOURCE_EXHAUSTED;
    }
    attach(builder, node);
    return SL_OK;
}

static enum sl_status
open_collection(struct builder *builder, const yaml_event_t *event, enum sl_conf_kind kind)
{
    if (kind == SL_CONF_MAP) {
        check_marks(
            builder, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    } else {
        check_marks(
            builder, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
    }
    if (is_key_next(builder)) {
        refuse_and_stop(builder, event, "a key must be a plain word");
        return SL_OK;
    }
    if (builder->depth == SL_CONF_MAX_DEPTH) {
        refuse_and_stop(builder, event, "nested too deeply");
        return SL_OK;
    }
    struct sl_conf_node *node = make_node(builder, event, kind);
    if (node == NULL) {
        return builder->must_stop ? SL_OK : SL_RESOURCE_EXHAUSTED;
    }
    attach(builder, node);
    struct frame *frame = &builder->frames[builder->depth++];
    *frame = (struct frame){ .node = node };
    frame->last = &frame->first;
    return SL_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct sl_conf_node *const *left = a;
    const struct sl_conf_node *const *right = b;
    const int order = strcmp((*left)->key, (*right)->key);
    return order != 0 ? order : (*left)->index < (*right)->index ? -1 : 1;
}

/* Complains about keys that come twice, the second time. */
static enum sl_status check_duplicates(struct sl_conf *conf, const struct sl_conf_node *map)
{
    if (map->n_children < 2) {
        return SL_OK;
    }
    const struct sl_conf_node **sorted = sl_calloc(map->n_children, sizeof(const void *));
    if (sorted == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < map->n_children; i++) {
        sorted[i] = map->children[i];
    }
    qsort(sorted, map->n_children, sizeof(const void *), compare_keys);
    for (size_t i = 1; i < map->n_children; i++) {
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0) {
            sl_conf_error_at_key(
                conf, sorted[i], "the key is there already, in line %d", sorted[i - 1]->key_line);
        }
    }
    sl_free(sorted);
    return SL_OK;
}

static enum sl_status close_collection(struct builder *builder)
{
    struct sl_conf *conf = builder->conf;
    if (builder->depth == 0) {
        return SL_OK; /* cannot be: libyaml pairs its events */
    }
    const struct frame *frame = &builder->frames[--builder->depth];
    struct sl_conf_node *node = frame->node;
    node->children = sl_arena_calloc(&conf->arena, node->n_children, sizeof(void *));
    if (node->children == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t i = 0;
    for (struct sl_conf_node *child = frame->first; child != NULL; child = child->next) {
        node->children[i++] = child;
    }
    return node->kind == SL_CONF_MAP ? check_duplicates(conf, node) : SL_OK;
}

static enum sl_status close_document(struct builder *builder)
{
    struct sl_conf *conf = builder->conf;
    /* Rare and small: the list is copied for each document when it reaches a power of two. */
    if ((conf->n_documents & (conf->n_documents - 1)) == 0) {
        const size_t capacity = conf->n_documents == 0 ? 1 : conf->n_documents * 2;
        const struct sl_conf_node **documents =
            sl_arena_calloc(&conf->arena, capacity, sizeof(void *));
        if (documents == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        for (size_t i = 0; i < conf->n_documents; i++) {
            documents[i] = conf->documents[i];
        }
        conf->documents = documents;
    }
    conf->documents[conf->n_documents++] = builder->root;
    builder->root = NULL;
    return SL_OK;
}

static enum sl_status take_event(struct builder *builder, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(builder, event);
    case YAML_ALIAS_EVENT:
        return take_alias(builder, event);
    case YAML_MAPPING_START_EVENT:
        return open_collection(builder, event, SL_CONF_MAP);
    case YAML_SEQUENCE_START_EVENT:
        return open_collection(builder, event, SL_CONF_LIST);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        return close_collection(builder);
    case YAML_DOCUMENT_END_EVENT:
        return close_document(builder);
    case YAML_STREAM_END_EVENT:
        builder->must_stop = true;
        return SL_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_START_EVENT:
        return SL_OK;
    }
    return SL_OK;
}

static void report_syntax(struct sl_conf *conf, const yaml_parser_t *parser)
{
    const char *problem = parser->problem == NULL ? "not YAML" : parser->problem;
    const bool is_reader = parser->error == YAML_READER_ERROR;
    const yaml_mark_t mark = is_reader ? parser->mark : parser->problem_mark;
    const bool has_context = parser->context != NULL;
    sl_conf_error_at_line(
        conf, (int)mark.line + 1, (int)mark.column + 1, "%s%s%s",
        has_context ? parser->context : "", has_context ? ": " : "", problem);
}

static enum sl_status parse_all(struct builder *builder, yaml_parser_t *parser)
{
    enum sl_status status = SL_OK;
    while (status == SL_OK && !builder->must_stop) {
        yaml_event_t event;
        if (yaml_parser_parse(parser, &event) == 0) {
            if (parser->error == YAML_MEMORY_ERROR) {
                return SL_RESOURCE_EXHAUSTED;
            }
            report_syntax(builder->conf, parser);
            return SL_OK;
        }
        status = take_event(builder, &event);
        yaml_event_delete(&event);
    }
    return status;
}

enum sl_status sl_conf_build(struct sl_conf *conf, struct sl_slice text)
{
    if (text.size > SL_CONF_MAX_BYTES) {
        sl_conf_error(conf, NULL, "larger than 1 MiB");
        return SL_OK;
    }
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &parser, text.size == 0 ? (const uint8_t *)"" : text.data, text.size);
    struct builder builder = { .conf = conf };
    const enum sl_status status = parse_all(&builder, &parser);
    yaml_parser_delete(&parser);
    return status;
}
