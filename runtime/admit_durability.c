/* Whether a run is recorded (reliability 4.1): what the request says, else the agent, else the
 * server. */
#include "runtime/runtime_private.h"

static const char *name_of(enum sl_store_durability durability)
{
    return durability == SL_STORE_SYNC ? "SYNC" : "ASYNC";
}

/* Nobody who asks for a record gets a run without one. */
static void refuse(
    struct sl_run_stream *stream, const struct sl_run_spec *spec, enum sl_store_durability wanted)
{
    const struct sl_agent *agent = stream->start.agent;
    if (agent->is_never_recorded) {
        sl_run_refuse(
            stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "options.durability: runs of the agent '%s' are never recorded, only NONE",
            agent->name);
    } else if (spec->durability != SL_RUN_DURABILITY_DEFAULT) {
        sl_run_refuse(
            stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "options.durability: this server has no store for %s, only NONE", name_of(wanted));
    } else {
        sl_run_refuse(
            stream, SL_FAILED_PRECONDITION, "AGENT_DISABLED",
            "the agent '%s' wants durability %s, and this server has no store", agent->name,
            name_of(wanted));
    }
}

static enum sl_store_durability
choose(const struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_agent *agent = stream->start.agent;
    switch (spec->durability) {
    case SL_RUN_DURABILITY_NONE:
        return SL_STORE_NONE;
    case SL_RUN_DURABILITY_ASYNC:
        return SL_STORE_ASYNC;
    case SL_RUN_DURABILITY_SYNC:
        return SL_STORE_SYNC;
    case SL_RUN_DURABILITY_DEFAULT:
        break;
    }
    if (agent->has_durability) {
        return agent->durability;
    }
    return sl_store_has(stream->runtime->store, SL_STORE_ASYNC) ? SL_STORE_ASYNC : SL_STORE_NONE;
}

bool sl_run_set_durability(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const enum sl_store_durability wanted = choose(stream, spec);
    const bool is_there = wanted == SL_STORE_NONE || (!stream->start.agent->is_never_recorded &&
                                                      sl_store_has(stream->runtime->store, wanted));
    if (!is_there) {
        refuse(stream, spec, wanted);
    }
    stream->start.settings.durability = wanted;
    return is_there;
}
