/* A sink for the tests of runtime/model: writes what comes as one line per chunk, so that a test
 * can compare a whole answer with a text. */
#ifndef SL_TESTS_UNIT_TEST_MODEL_SINK_H
#define SL_TESTS_UNIT_TEST_MODEL_SINK_H

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/model/model.h"

struct test_sink {
    struct sl_buf log;  /* the chunks; neighbouring texts of a kind are joined when `joins` */
    struct sl_buf text; /* all TEXT */
    bool joins;
    enum sl_model_chunk_kind last_kind;
    size_t n_chunks, n_texts;
    size_t full_after;           /* n_texts at which the sink is full; 0: never */
    struct sl_model_turn **turn; /* freed when n_chunks reaches free_after; NULL: never */
    size_t free_after;
    bool is_over;
    enum sl_model_fault fault;
    struct sl_model_chunk end;
    char end_message[512];
    size_t n_retry_waits;
    enum sl_model_fault retried; /* the last one */
};

static inline void test_sink_add(struct test_sink *sink, const char *text)
{
    if (sl_buf_add_str(&sink->log, text) != SL_OK) {
        abort();
    }
}

static inline void test_sink_add_slice(struct test_sink *sink, struct sl_slice text)
{
    if (sl_buf_add(&sink->log, text) != SL_OK) {
        abort();
    }
}

static inline void test_sink_call(struct test_sink *sink, const struct sl_model_chunk *chunk)
{
    char line[1024];
    (void)snprintf(
        line, sizeof(line), "call %s %s ",
        strncmp(chunk->id, "call_", 5) == 0 && strlen(chunk->id) == 29 ? "MINTED" : chunk->id,
        chunk->name);
    test_sink_add(sink, line);
    if (chunk->is_cut) { /* and large: nobody has looked into it */
        test_sink_add(sink, "CUT");
    } else {
        test_sink_add_slice(sink, chunk->text);
    }
    if (chunk->over_bytes > 0) {
        test_sink_add(sink, "... OVER");
    }
    if (chunk->opaque != NULL) {
        test_sink_add(sink, " opaque ");
        test_sink_add(sink, chunk->opaque);
    }
}

static inline void test_sink_line(struct test_sink *sink, const struct sl_model_chunk *chunk)
{
    static const char *const finishes[] = {
        "END_TURN",       "MAX_TOKENS", "STOP_SEQUENCE", "TOOL_USE",
        "CONTENT_FILTER", "PAUSE_TURN", "UNKNOWN",
    };
    char line[1024];
    switch (chunk->kind) {
    case SL_CHUNK_TEXT:
    case SL_CHUNK_REASONING:
        if (sink->joins && sink->n_chunks > 0 && sink->last_kind == chunk->kind) {
            sink->log.size--; /* the line goes on */
        } else {
            test_sink_add(sink, chunk->kind == SL_CHUNK_TEXT ? "text " : "reasoning ");
        }
        test_sink_add_slice(sink, chunk->text);
        break;
    case SL_CHUNK_CALL_FRAGMENT:
        if (sink->joins) {
            return;
        }
        (void)snprintf(
            line, sizeof(line), "fragment %u %s ", chunk->index,
            chunk->name == NULL ? "-" : chunk->name);
        test_sink_add(sink, line);
        test_sink_add_slice(sink, chunk->text);
        break;
    case SL_CHUNK_CALL:
        test_sink_call(sink, chunk);
        break;
    case SL_CHUNK_OPAQUE:
        test_sink_add(sink, "opaque ");
        test_sink_add_slice(sink, chunk->text);
        break;
    case SL_CHUNK_USAGE:
        (void)snprintf(
            line, sizeof(line), "usage %s%" PRIu64 " %s%" PRIu64 " %" PRIu64 " %" PRIu64,
            chunk->usage.has_input ? "" : "?", chunk->usage.input_tokens,
            chunk->usage.has_output ? "" : "?", chunk->usage.output_tokens,
            chunk->usage.cache_read_tokens, chunk->usage.reasoning_tokens);
        test_sink_add(sink, line);
        break;
    case SL_CHUNK_FINISH:
        (void)snprintf(line, sizeof(line), "finish %s", finishes[chunk->finish]);
        test_sink_add(sink, line);
        break;
    case SL_CHUNK_FAIL:
        (void)snprintf(
            line, sizeof(line), "fail %s%s", sl_model_fault_name(chunk->fault),
            chunk->is_retryable ? " retryable" : "");
        test_sink_add(sink, line);
        break;
    }
    test_sink_add(sink, "\n");
    sink->last_kind = chunk->kind;
}

static inline void test_sink_on_chunk(void *user_data, const struct sl_model_chunk *chunk)
{
    struct test_sink *sink = user_data;
    if (sink->is_over) {
        abort(); /* nothing may follow the end */
    }
    test_sink_line(sink, chunk);
    sink->n_chunks++;
    if (chunk->kind == SL_CHUNK_TEXT) {
        sink->n_texts++;
        if (sl_buf_add(&sink->text, chunk->text) != SL_OK) {
            abort();
        }
    }
    if (chunk->kind == SL_CHUNK_FINISH || chunk->kind == SL_CHUNK_FAIL) {
        sink->is_over = true;
        sink->fault = chunk->fault;
        sink->end = *chunk;
        (void)snprintf(
            sink->end_message, sizeof(sink->end_message), "%s",
            chunk->message == NULL ? "" : chunk->message);
        sink->end.message = sink->end_message;
    }
    if (sink->turn != NULL && sink->free_after > 0 && sink->n_chunks == sink->free_after) {
        *sink->turn = sl_model_turn_free(*sink->turn);
    }
}

static inline bool test_sink_is_full(void *user_data)
{
    const struct test_sink *sink = user_data;
    return sink->full_after > 0 && sink->n_texts >= sink->full_after;
}

static inline void test_sink_on_retry(void *user_data, enum sl_model_fault fault)
{
    struct test_sink *sink = user_data;
    sink->n_retry_waits++;
    sink->retried = fault;
}

static inline void test_sink_init(struct test_sink *sink)
{
    *sink = (struct test_sink){ .joins = true };
    sl_buf_init(&sink->log, 256 << 20);
    sl_buf_init(&sink->text, 256 << 20);
}

static inline void test_sink_done(struct test_sink *sink)
{
    sl_buf_done(&sink->log);
    sl_buf_done(&sink->text);
}

static inline struct sl_model_sink test_sink_of(struct test_sink *sink)
{
    return (struct sl_model_sink){
        .on_chunk = test_sink_on_chunk,
        .is_full = test_sink_is_full,
        .on_retry = test_sink_on_retry,
        .user_data = sink,
    };
}

static inline const char *test_sink_log(struct test_sink *sink)
{
    const char *text = sl_buf_cstr(&sink->log);
    return text == NULL ? "" : text;
}

#endif
