/* What a request brings besides its conversation: metadata, which is kept with the run, and
 * credentials, of which only those are kept that a tool of the agent forwards (AL-6.1). Of a name
 * that is there twice the last one counts, as in any protobuf map. No message here has a name or a
 * value in it. */
#include <inttypes.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"
#include "runtime/runtime_private.h"

static bool check_sizes(
    struct sl_run_stream *stream,
    const char *field,
    const struct sl_run_pair *pairs,
    size_t n,
    uint64_t max_n,
    uint64_t max_bytes)
{
    uint64_t bytes = 0;
    const bool is_metadata = strcmp(field, "metadata") == 0;
    if (n > max_n) {
        sl_limit_reached(is_metadata ? SL_LIMIT_metadata : SL_LIMIT_credentials);
        sl_run_refuse(
            stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "%s: %zu entries, at most %" PRIu64,
            field, n, max_n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bytes += sl_slice_str(pairs[i].key).size + sl_slice_str(pairs[i].value).size;
    }
    if (bytes > max_bytes) {
        sl_limit_reached(is_metadata ? SL_LIMIT_metadata_size : SL_LIMIT_credentials_size);
        sl_run_refuse(
            stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "%s: %" PRIu64 " bytes of keys and values, at most %" PRIu64, field, bytes, max_bytes);
        return false;
    }
    return true;
}

static bool refuse(struct sl_run_stream *stream, const char *text)
{
    sl_run_refuse(stream, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "%s", text);
    return false;
}

static bool check_texts(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    for (size_t i = 0; i < spec->n_metadata; i++) {
        if (sl_slice_str(spec->metadata[i].key).size == 0) {
            return refuse(stream, "metadata: a key is empty");
        }
    }
    for (size_t i = 0; i < spec->n_credentials; i++) {
        const struct sl_run_pair *pair = &spec->credentials[i];
        if (pair->key == NULL || !sl_credentials_is_name(pair->key)) {
            return refuse(
                stream, "credentials: a name must be 1 to 64 letters, digits, '_', '-' or '.'");
        }
        if (sl_slice_str(pair->value).size == 0 || !sl_utf8_is_clean(sl_slice_str(pair->value))) {
            return refuse(stream, "credentials: a value is empty or no text");
        }
    }
    return true;
}

static bool is_last_of_its_name(const struct sl_run_pair *pairs, size_t n, size_t index)
{
    for (size_t i = index + 1; i < n; i++) {
        if (strcmp(pairs[i].key, pairs[index].key) == 0) {
            return false;
        }
    }
    return true;
}

static enum sl_status copy_metadata(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    struct sl_history *history = &stream->start.history;
    struct sl_store_pair *kept = sl_arena_calloc(&history->arena, spec->n_metadata, sizeof(*kept));
    size_t n = 0;
    if (kept == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < spec->n_metadata; i++) {
        if (is_last_of_its_name(spec->metadata, spec->n_metadata, i)) {
            kept[n].key = sl_history_text(history, sl_slice_str(spec->metadata[i].key));
            kept[n].value = sl_history_text(history, sl_slice_str(spec->metadata[i].value));
            if (kept[n].key == NULL || kept[n].value == NULL) {
                return SL_RESOURCE_EXHAUSTED;
            }
            n++;
        }
    }
    stream->start.metadata = kept;
    stream->start.n_metadata = n;
    return SL_OK;
}

static bool is_forwarded(const struct sl_agent *agent, const char *name)
{
    for (size_t i = 0; i < agent->n_tools; i++) {
        const char *const *forward = sl_tool_info(agent->tools[i])->forward;
        for (size_t k = 0; forward != NULL && forward[k] != NULL; k++) {
            if (strcmp(forward[k], name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static enum sl_status copy_credentials(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    struct sl_credential *list = sl_calloc(spec->n_credentials, sizeof(*list));
    size_t n = 0;
    if (list == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < spec->n_credentials; i++) {
        const struct sl_run_pair *pair = &spec->credentials[i];
        if (is_last_of_its_name(spec->credentials, spec->n_credentials, i) &&
            is_forwarded(stream->start.agent, pair->key)) {
            list[n++] = (struct sl_credential){ .name = pair->key, .value = pair->value };
        }
    }
    enum sl_status status = SL_OK;
    if (n > 0) {
        status = sl_credentials_new(list, n, &stream->start.credentials);
    }
    (void)sl_free(list);
    return status;
}

bool sl_run_check_pairs(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_limits *limits = &stream->generation->limits;
    return check_sizes(
               stream, "metadata", spec->metadata, spec->n_metadata, limits->metadata,
               limits->metadata_size) &&
           check_sizes(
               stream, "credentials", spec->credentials, spec->n_credentials, limits->credentials,
               limits->credentials_size) &&
           check_texts(stream, spec);
}

enum sl_status sl_run_copy_pairs(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    if (spec->n_metadata > 0) {
        SL_TRY(copy_metadata(stream, spec));
    }
    return spec->n_credentials > 0 ? copy_credentials(stream, spec) : SL_OK;
}
