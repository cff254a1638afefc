/* The two halves of sl_provider_openai: openai_request.c writes requests, openai.c reads streams.
 */
#ifndef SL_RUNTIME_MODEL_OPENAI_H
#define SL_RUNTIME_MODEL_OPENAI_H

#include "runtime/model/provider.h"

/* sl_provider's build_request. */
enum sl_status sl_openai_build_request(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_provider_request *ret_request,
    struct sl_error *err);

#endif
