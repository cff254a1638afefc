/* What becomes of a reader that is too slow (AL-8): what the request says, else the agent, else it
 * holds its run back. Whoever does not, needs a store to read on from. */
#include "runtime/exec/encode.h"
#include "runtime/runtime_private.h"

static enum sl_slow_consumer
choose(const struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    switch (spec->slow_consumer) {
    case SL_RUN_SLOW_PAUSE:
        return SL_SLOW_PAUSE;
    case SL_RUN_SLOW_SPILL:
        return SL_SLOW_SPILL;
    case SL_RUN_SLOW_DISCONNECT:
        return SL_SLOW_DISCONNECT;
    case SL_RUN_SLOW_DEFAULT:
        break;
    }
    return stream->start.agent->slow_consumer;
}

/* The one who asked for what does not go together is told: the request, or the agent's file. */
static void
refuse(struct sl_run_stream *stream, const struct sl_run_spec *spec, enum sl_slow_consumer wanted)
{
    const char *name = wanted == SL_SLOW_SPILL ? "SPILL" : "DISCONNECT";
    const bool has_store = sl_store_has(stream->runtime->store, SL_STORE_ASYNC);
    if (spec->slow_consumer != SL_RUN_SLOW_DEFAULT) {
        sl_run_refuse(
            stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "options.slow_consumer: %s needs a store: durability ASYNC or SYNC", name);
    } else if (has_store && spec->durability == SL_RUN_DURABILITY_NONE) {
        sl_run_refuse(
            stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "options.durability: the agent '%s' has slow_consumer %s, which needs ASYNC or SYNC; "
            "with NONE ask for PAUSE",
            stream->start.agent->name, name);
    } else {
        sl_run_refuse(
            stream, SL_FAILED_PRECONDITION, "AGENT_DISABLED",
            "the agent '%s' wants slow_consumer %s, which needs a store: durability ASYNC or SYNC",
            stream->start.agent->name, name);
    }
}

/* Nobody who reads at once can be too slow; without a stream there is nobody at all. */
static enum sl_slow_consumer
adapt(const struct sl_run_spec *spec, enum sl_slow_consumer wanted, bool is_recorded)
{
    if (spec->has_no_stream && is_recorded) {
        return SL_SLOW_SPILL;
    }
    return spec->wants_only_end && wanted == SL_SLOW_DISCONNECT ? SL_SLOW_SPILL : wanted;
}

bool sl_run_set_slow_consumer(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const enum sl_slow_consumer wanted = choose(stream, spec);
    const bool is_recorded = stream->start.settings.durability != SL_STORE_NONE;
    const bool needs_store = wanted == SL_SLOW_SPILL || wanted == SL_SLOW_DISCONNECT;
    if (needs_store && !is_recorded) {
        refuse(stream, spec, wanted);
        return false;
    }
    stream->slow_consumer = adapt(spec, wanted, is_recorded);
    return true;
}
