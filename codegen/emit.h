/* Writes the generated files. What a caller of them sees is in emit_header.c; the rest is tables
 * and the functions that start calls. */
#ifndef SL_CODEGEN_EMIT_H
#define SL_CODEGEN_EMIT_H

#include "codegen/model.h"
#include "codegen/service.h"
#include "codegen/template.h"

/* SL_GEN_VERSION of the library that the code is for (GC-10). */
#define SL_EMIT_GEN_VERSION "1"

struct sl_emit_options {
    const char *rpc_header; /* what the code includes of the library */
    const char **carried;   /* file names; their tables come along, weak */
    size_t n_carried;
};

/* One file to generate. Texts fail without memory. */
struct sl_emit {
    const struct sl_model *model;
    const struct sl_proto *proto;
    const struct sl_emit_options *options;
    struct sl_service *services; /* none when the file is suppressed */
    size_t n_services;
    /* Variables: file "foo/v1/agent.proto", base "foo/v1/agent", symbol "sl_foo__v1__agent_proto"
     */
    struct sl_variable variables[4];
};

void sl_emit_header(const struct sl_emit *emit, struct sl_text *text);
void sl_emit_source(const struct sl_emit *emit, struct sl_text *text);
/* A pattern with the method's variables and $view$. */
void sl_emit_with_view(
    struct sl_text *text,
    const struct sl_service_method *method,
    const char *view,
    const char *pattern);
/* The file's own table and those that come along. */
void sl_emit_tables(const struct sl_emit *emit, struct sl_text *text);

#endif
