#include "runtime/account.h"

#include "runtime/exec/account.h"
#include "runtime/known.h"

/* Only what does not change, and atomics: its reader may be on another loop. */
static uint64_t stream_bytes(const struct sl_run_stream *stream)
{
    const uint64_t page = atomic_load_explicit(&stream->stored_bytes, memory_order_relaxed);
    const bool has_relay = stream->is_remote && page == 0 && !sl_run_stream_is_closed(stream);
    return sizeof(*stream) + strlen(stream->tenant) + 1 + page +
           (has_relay ? sl_event_relay_memory() : 0);
}

static uint64_t readers_bytes(const struct sl_known_run *known)
{
    uint64_t bytes = 0;
    SL_LIST_EACH(node, &known->readers) {
        bytes += stream_bytes(SL_CONTAINER(node, struct sl_run_stream, run.reader_node));
    }
    return bytes;
}

void sl_run_stream_account(const struct sl_run_stream *stream, struct sl_account *ret_account)
{
    const struct sl_known_run *known = stream->run.known;
    sl_run_account(stream->run.run, ret_account);
    ret_account->readers = stream_bytes(stream);
    if (known != NULL) {
        ret_account->own += sizeof(*known);
        ret_account->readers += readers_bytes(known);
    }
}

static uint64_t runs_bytes(const struct sl_runtime_loop *at)
{
    uint64_t bytes = 0;
    SL_LIST_EACH(node, &at->loop.streams) {
        struct sl_account account;
        sl_run_stream_account(SL_CONTAINER(node, struct sl_run_stream, run.node), &account);
        bytes += sl_account_total(&account);
    }
    return bytes;
}

static uint64_t waiting_bytes(const struct sl_runtime_loop *at)
{
    uint64_t bytes = 0;
    SL_LIST_EACH(node, &at->loop.queued) {
        const struct sl_run_stream *stream =
            SL_CONTAINER(node, struct sl_run_stream, reader.queued_node);
        bytes += stream_bytes(stream) + sl_history_memory(&stream->start.history);
    }
    return bytes;
}

static uint64_t kept_bytes(const struct sl_runtime_loop *at)
{
    uint64_t bytes = 0;
    SL_LIST_EACH(node, &at->loop.kept) {
        const struct sl_known_run *known = SL_CONTAINER(node, struct sl_known_run, ended_node);
        bytes += sl_known_memory(known) + readers_bytes(known);
    }
    return bytes;
}

void sl_runtime_memory(
    const struct sl_runtime *runtime,
    const struct sl_loop *loop,
    struct sl_runtime_memory *ret_memory)
{
    SL_ON_LOOP(loop);
    const struct sl_runtime_loop *at = &runtime->loops[loop->index];
    *ret_memory = (struct sl_runtime_memory){
        .runs = runs_bytes(at),
        .waiting = waiting_bytes(at),
        .kept = kept_bytes(at),
        .records = sl_record_room_bytes(&at->loop.records),
    };
}
