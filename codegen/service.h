/* The names of one service and its methods in C, as variables for templates.
 *
 * Of every method:  svc "sl_foo__v1__agent"   SVC "SL_FOO__V1__AGENT"   service "foo.v1.Agent"
 *                   m "get_urlfor"   M "GET_URLFOR"   method "GetURLFor"   member "get_urlfor"
 *                   Req "Foo__V1__Url", Rep: message types   req "foo__v1__url", rep: their
 * functions' prefix kind, idempotency: enumerators   comment: "" or lines   index "0" */
#ifndef SL_CODEGEN_SERVICE_H
#define SL_CODEGEN_SERVICE_H

#include "codegen/model.h"
#include "codegen/template.h"

enum sl_service_kind {
    SL_SERVICE_UNARY,
    SL_SERVICE_CLIENT_STREAMING,
    SL_SERVICE_SERVER_STREAMING,
    SL_SERVICE_BIDIRECTIONAL
};

enum { SL_SERVICE_N_SHARED = 3, SL_SERVICE_N_VARIABLES = 15 };

struct sl_service_method {
    enum sl_service_kind kind;
    struct sl_variable variables[SL_SERVICE_N_VARIABLES + 1];
};

struct sl_service {
    struct sl_variable variables[SL_SERVICE_N_SHARED + 1]; /* svc, SVC, service */
    struct sl_service_method *methods;
    size_t n_methods;
    char **strings; /* what the variables point to */
    size_t n_strings;
};

/* Fails, with a sentence in `why`: names that would clash in C; types that the request lacks; no
 * memory. */
bool sl_service_load(
    struct sl_service *service,
    const struct sl_model *model,
    const struct sl_proto *proto,
    const Google__Protobuf__ServiceDescriptorProto *descriptor,
    struct sl_text *why);
/* The value of one of the service's own variables. */
const char *sl_service_variable(const struct sl_service *service, const char *name);
void sl_service_done(struct sl_service *service);

#endif
