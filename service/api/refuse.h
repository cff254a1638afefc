/* How the handlers refuse a call: a status with its reason, whose ErrorInfo always says whether a
 * run exists (ST-6). */
#ifndef SL_SERVICE_API_REFUSE_H
#define SL_SERVICE_API_REFUSE_H

#include "service/identity/identity.h"
#include "service/rpc/rpc.h"

/* Makes `info` the one ErrorInfo of `status`. Both must outlive it. */
void sl_refuse_say_started(
    struct sl_call_status *status, struct sl_metadatum *info, bool is_started);

/* Sets what the call ends with: code, message and reason of `why`, and that no run was started.
 * Gives the code. */
SL_CHECK enum sl_status sl_refuse(struct sl_call *call, const struct sl_call_status *why);

/* What a caller is told whose stream may not go on; of a new call, too, as far as one would be
 * refused. */
struct sl_call_status sl_refuse_standing(enum sl_identity_standing standing);

/* As sl_refuse() for what sl_identify_…() said: SL_UNAUTHENTICATED, SL_PERMISSION_DENIED. */
SL_CHECK enum sl_status sl_refuse_caller(struct sl_call *call, enum sl_status verdict);

#endif
