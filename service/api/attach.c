#include "service/api/attach.h"

#include "service/api/follow.h"
#include "service/api/refuse.h"

static enum sl_status fail_memory(struct sl_call *call)
{
    const struct sl_call_status status = { .code = SL_RESOURCE_EXHAUSTED,
                                           .message = "out of memory",
                                           .reason = "SERVER_FULL" };
    return sl_refuse(call, &status);
}

enum sl_status sl_attach_start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__AttachRequest *request)
{
    const enum sl_status verdict = sl_identify_check(identify, call);
    if (verdict != SL_OK) {
        return sl_refuse_caller(call, verdict);
    }
    if (request->run_id[0] == '\0') {
        const struct sl_call_status status = { .code = SL_INVALID_ARGUMENT,
                                               .message = "run_id: must be given",
                                               .reason = "INVALID_REQUEST" };
        return sl_refuse(call, &status);
    }
    struct sl_follow *follow = sl_arena_alloc(sl_call_arena(call), sizeof(*follow));
    if (follow == NULL) {
        return fail_memory(call);
    }
    sl_follow_init(follow, call);
    follow->is_observer = true; /* also before the run says so */
    if (sl_recheck_start(&follow->recheck, identify, NULL) != SL_OK) {
        return fail_memory(call);
    }
    const struct sl_call_identity *caller = sl_call_identity(call);
    const struct sl_run_attach_spec spec = { .run_id = request->run_id,
                                             .after_sequence = request->after_sequence,
                                             .tenant = caller == NULL ? NULL : caller->tenant };
    struct sl_run_callbacks callbacks = sl_follow_run_callbacks;
    callbacks.user_data = follow;
    if (sl_run_attach(runtime, sl_call_loop(call), &spec, &callbacks, &follow->stream) != SL_OK) {
        sl_recheck_stop(&follow->recheck);
        return fail_memory(call);
    }
    sl_call_set_callbacks(call, &sl_follow_call_callbacks, follow);
    return SL_PENDING;
}
