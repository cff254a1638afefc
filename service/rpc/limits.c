#include "service/rpc/limits.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/limits.h"
#include "runtime/base/mem.h"
#include "service/rpc/server.h"

/* What users of the library can reach of what this layer enforces: their servers have no observers.
 * The others of the list are limits of runs. */
static const enum sl_limit of_rpc[] = {
    SL_LIMIT_message_recv,
    SL_LIMIT_header_list_soft,
    SL_LIMIT_header_list_hard,
    SL_LIMIT_header_fields,
    SL_LIMIT_message_depth,
    SL_LIMIT_message_tags,
    SL_LIMIT_message_memory,
    SL_LIMIT_connections,
    SL_LIMIT_connections_per_address,
    SL_LIMIT_streams_per_connection,
    SL_LIMIT_runs_per_connection,
    SL_LIMIT_control_calls_per_connection,
    SL_LIMIT_stream_window,
    SL_LIMIT_connection_window,
    SL_LIMIT_connection_send,
    SL_LIMIT_handshake,
    SL_LIMIT_preface,
    SL_LIMIT_header_block,
    SL_LIMIT_message_gap,
    SL_LIMIT_stall,
    SL_LIMIT_keepalive_time,
    SL_LIMIT_keepalive_timeout,
    SL_LIMIT_keepalive_idle,
    SL_LIMIT_ping_interval,
    SL_LIMIT_connection_age,
    SL_LIMIT_connection_grace,
    SL_LIMIT_connection_idle,
    SL_LIMIT_linger,
    SL_LIMIT_reset_burst,
    SL_LIMIT_reset_rate,
    SL_LIMIT_own_reset_burst,
    SL_LIMIT_own_reset_rate,
    SL_LIMIT_empty_frames,
    SL_LIMIT_priority_per_stream,
    SL_LIMIT_unknown_frames,
    SL_LIMIT_closed_stream,
    SL_LIMIT_settings_burst,
    SL_LIMIT_send_total,
    SL_LIMIT_receive_total,
    SL_LIMIT_running_calls,
    SL_LIMIT_drain_ping,
    SL_LIMIT_pool_queue,
};

/* NULL: not ours. */
static const struct sl_limit_info *find(const char *name)
{
    for (size_t i = 0; i < SL_COUNT(of_rpc); i++) {
        const struct sl_limit_info *info = &sl_limit_infos[of_rpc[i]];
        if (strcmp(info->name, name) == 0) {
            return info;
        }
    }
    return NULL;
}

enum sl_status sl_limits_new(struct sl_limits **ret_limits)
{
    struct sl_limits *limits = sl_alloc(sizeof(*limits));
    if (limits == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_server_default_limits(limits);
    *ret_limits = limits;
    return SL_OK;
}

enum sl_status
sl_limits_set(struct sl_limits *limits, const char *name, uint64_t value, struct sl_error *err)
{
    const struct sl_limit_info *info = find(name);
    if (info == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "there is no limit '%s'", name);
    }
    if (value < info->least || value > info->greatest) {
        return sl_fail(
            err, SL_OUT_OF_RANGE, "limit %s: %" PRIu64 " is not between %" PRIu64 " and %" PRIu64,
            name, value, info->least, info->greatest);
    }
    *sl_limits_field(limits, info) = value;
    return SL_OK;
}

enum sl_status sl_limits_get(const struct sl_limits *limits, const char *name, uint64_t *ret_value)
{
    const struct sl_limit_info *info = find(name);
    if (info == NULL) {
        return SL_NOT_FOUND;
    }
    memcpy(ret_value, (const char *)limits + info->offset, sizeof(*ret_value));
    return SL_OK;
}

struct sl_limits *sl_limits_free(struct sl_limits *limits)
{
    return sl_free(limits);
}
