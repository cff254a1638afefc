/* By which equal requests are known (AL-5.3, request_id): a hash over what is asked for, each part
 * with its length. Maps are taken in the order of their keys: a client may send them in any. */
#include <stdlib.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/runtime_private.h"

static enum sl_status add(struct sl_buf *buf, struct sl_slice text)
{
    const uint64_t size = text.size;
    SL_TRY(sl_buf_add(buf, sl_slice_of(&size, sizeof(size))));
    return sl_buf_add(buf, text);
}

static enum sl_status add_text(struct sl_buf *buf, const char *text)
{
    return add(buf, sl_slice_str(text));
}

static enum sl_status add_numbers(struct sl_buf *buf, const struct sl_run_spec *spec)
{
    const uint64_t numbers[] = {
        spec->has_max_iterations, spec->max_iterations,   spec->has_run_timeout,
        spec->run_timeout_ms,     spec->has_heartbeat,    spec->heartbeat_ms,
        spec->has_buffer_bytes,   spec->buffer_bytes,     spec->has_buffer_events,
        spec->buffer_events,      spec->has_max_tokens,   spec->max_tokens,
        spec->has_max_tool_calls, spec->max_tool_calls,   spec->has_cancel_on_reset,
        spec->cancel_on_reset,    spec->detach_ttl_ms,    spec->on_disconnect,
        spec->tool_call_deltas,   spec->omit_content,     spec->min_flush_ms,
        spec->max_delta_bytes,    spec->n_messages,       spec->n_metadata,
        spec->session_policy,     spec->replaces_session, spec->n_client_tools,
        spec->durability,         spec->slow_consumer,
    };
    return sl_buf_add(buf, sl_slice_of(numbers, sizeof(numbers)));
}

static enum sl_status add_message(struct sl_buf *buf, const struct sl_run_message *message)
{
    const uint64_t numbers[] = { message->role, message->is_error, message->n_calls };
    SL_TRY(sl_buf_add(buf, sl_slice_of(numbers, sizeof(numbers))));
    SL_TRY(add(buf, message->content));
    SL_TRY(add_text(buf, message->call_id));
    SL_TRY(add_text(buf, message->tool_name));
    for (size_t i = 0; i < message->n_calls; i++) {
        SL_TRY(add_text(buf, message->calls[i].id));
        SL_TRY(add_text(buf, message->calls[i].name));
        SL_TRY(add_text(buf, message->calls[i].arguments_json));
    }
    return SL_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct sl_run_pair *const *left = a;
    const struct sl_run_pair *const *right = b;
    const int order = strcmp((*left)->key, (*right)->key);
    return order != 0 ? order : (*left < *right ? -1 : 1); /* of equal keys the last one counts */
}

static enum sl_status add_metadata(struct sl_buf *buf, const struct sl_run_spec *spec)
{
    const struct sl_run_pair **sorted =
        sl_calloc(spec->n_metadata + 1, sizeof(struct sl_run_pair *));
    enum sl_status status = sorted == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
    for (size_t i = 0; i < spec->n_metadata && status == SL_OK; i++) {
        sorted[i] = &spec->metadata[i];
    }
    if (status == SL_OK) {
        qsort(sorted, spec->n_metadata, sizeof(struct sl_run_pair *), compare_keys);
    }
    for (size_t i = 0; i < spec->n_metadata && status == SL_OK; i++) {
        status = add_text(buf, sorted[i]->key);
        if (status == SL_OK) {
            status = add_text(buf, sorted[i]->value);
        }
    }
    (void)sl_free(sorted);
    return status;
}

static enum sl_status add_all(struct sl_buf *buf, const struct sl_run_spec *spec)
{
    SL_TRY(add_text(buf, spec->agent));
    SL_TRY(add(buf, spec->input));
    SL_TRY(add_text(buf, spec->session_id));
    SL_TRY(add_numbers(buf, spec));
    for (size_t i = 0; i < spec->n_messages; i++) {
        SL_TRY(add_message(buf, &spec->messages[i]));
    }
    for (size_t i = 0; i < spec->n_client_tools; i++) {
        SL_TRY(add_text(buf, spec->client_tools[i].name));
        SL_TRY(add_text(buf, spec->client_tools[i].description));
        SL_TRY(add_text(buf, spec->client_tools[i].parameters_json));
    }
    SL_TRY(add_metadata(buf, spec));
    /* Only where it is given: a store may know requests from before there was such a field. */
    return spec->has_max_cost ? add(buf, sl_slice_of(&spec->max_cost_micros, sizeof(uint64_t)))
                              : SL_OK;
}

enum sl_status
sl_run_spec_digest(const struct sl_run_spec *spec, uint8_t ret_digest[SL_SHA256_BYTES])
{
    struct sl_buf buf;
    sl_buf_init(&buf, SIZE_MAX / 2);
    enum sl_status status = add_all(&buf, spec);
    if (status == SL_OK) {
        status = sl_sha256(sl_buf_slice(&buf), ret_digest);
    }
    sl_buf_done(&buf);
    return status;
}
