/* What an error of a provider that speaks OpenAI's language means (PM-1.8). */
#ifndef SL_RUNTIME_MODEL_OPENAI_ERROR_H
#define SL_RUNTIME_MODEL_OPENAI_ERROR_H

#include <jansson.h>

#include "runtime/model/provider.h"

/* From its parts: HTTP status (0: in the stream), type, code and message (each may be NULL). */
void sl_openai_map_error(
    uint32_t status,
    const char *type,
    const char *code,
    const char *message,
    struct sl_provider_error *ret_error);

/* From a document with `error`, `message` or `detail`; NULL: there was none. */
void sl_openai_map_document(
    uint32_t status, const json_t *document, struct sl_provider_error *ret_error);

/* sl_provider's map_error. */
void sl_openai_map_body(
    uint32_t status,
    struct sl_slice body,
    const struct sl_limits *limits,
    struct sl_provider_error *ret_error);

#endif
