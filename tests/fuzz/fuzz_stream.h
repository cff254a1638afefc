/* A stream of openai_chat whose chunks are written down; for fuzz_openai_delta and
 * fuzz_delta_scanner. */
#ifndef SL_TESTS_FUZZ_FUZZ_STREAM_H
#define SL_TESTS_FUZZ_FUZZ_STREAM_H

#include <stdlib.h>

#include "runtime/base/utf8.h"
#include "runtime/model/provider.h"

struct fuzz_stream {
    struct sl_limits limits;
    struct sl_quirks quirks;
    struct sl_provider_settings settings;
    struct sl_provider_stream *stream;
    struct sl_buf log;
    enum sl_model_chunk_kind last;
    bool has_last, is_over;
};

static inline void fuzz_must(bool is_good)
{
    if (!is_good) {
        abort();
    }
}

static inline void fuzz_stream_add(struct fuzz_stream *it, const char *text)
{
    if (text != NULL) {
        fuzz_must(sl_buf_add_str(&it->log, text) == SL_OK);
    }
    fuzz_must(sl_buf_add_byte(&it->log, 0) == SL_OK);
}

/* Invariants of model.h: clean text that is not empty, one end, names and ids of calls. Minted ids
 * are random and are not written down. */
static inline bool fuzz_stream_emit(void *user_data, const struct sl_model_chunk *chunk)
{
    struct fuzz_stream *it = user_data;
    const bool is_text = chunk->kind == SL_CHUNK_TEXT || chunk->kind == SL_CHUNK_REASONING;
    fuzz_must(!it->is_over);
    fuzz_must(!is_text || chunk->text.size > 0);
    fuzz_must(sl_utf8_is_clean(chunk->text));
    if (chunk->kind == SL_CHUNK_CALL) {
        fuzz_must(chunk->id != NULL && chunk->name != NULL && chunk->text.size > 0);
        fuzz_must(chunk->text.size <= it->limits.tool_arguments);
        fuzz_stream_add(it, chunk->name);
        fuzz_stream_add(it, chunk->opaque);
    }
    it->is_over = chunk->kind == SL_CHUNK_FINISH || chunk->kind == SL_CHUNK_FAIL;
    fuzz_must(sl_buf_add_byte(&it->log, (uint8_t)(1 + chunk->kind)) == SL_OK);
    fuzz_must(sl_buf_add(&it->log, chunk->text) == SL_OK);
    fuzz_must(sl_buf_addf(&it->log, "%d %d;", (int)chunk->finish, (int)chunk->fault) == SL_OK);
    if (chunk->kind == SL_CHUNK_USAGE) {
        fuzz_must(
            sl_buf_addf(
                &it->log, "%llu %llu;", (unsigned long long)chunk->usage.input_tokens,
                (unsigned long long)chunk->usage.output_tokens) == SL_OK);
    }
    return !it->is_over;
}

static inline void fuzz_stream_open(struct fuzz_stream *it)
{
    *it = (struct fuzz_stream){ .stream = NULL };
    sl_limits_init(&it->limits);
    it->limits.model_json_depth = 16;
    it->limits.calls_per_iteration = 4;
    it->limits.tool_arguments = 64;
    it->quirks.reasoning_details_echo = true;
    it->settings = (struct sl_provider_settings){ .quirks = &it->quirks, .limits = &it->limits };
    sl_buf_init(&it->log, 1 << 26);
    fuzz_must(
        sl_provider_openai.stream_new(&it->settings, fuzz_stream_emit, it, &it->stream) == SL_OK);
}

static inline void fuzz_stream_close(struct fuzz_stream *it)
{
    sl_provider_openai.stream_free(it->stream);
    sl_buf_done(&it->log);
}

#endif
