/* The conversation of a run, as it is sent to the model: system texts and old turns that the caller
 * gave, then the input, then what the run adds. Everything is copied into one arena.
 *
 *   [ old turns … | input | assistant + results | assistant + results … ]
 *                   ▲ begin of the current turn: never pruned
 *
 * A call is never without its result, and no result without its call (AL-6.6). */
#ifndef SL_RUNTIME_EXEC_HISTORY_H
#define SL_RUNTIME_EXEC_HISTORY_H

#include "runtime/base/arena.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "runtime/model/model.h"

struct sl_history {
    struct sl_arena arena;
    struct sl_chat_message *messages;
    size_t n_messages, capacity;
    size_t turn_begin; /* index of the input; n_messages until it is there */
    size_t n_stored;   /* the first ones are a session's, and were not given with this request */
    size_t content_bytes;
    uint32_t n_repairs;
};

/* `max_bytes`: of all that it copies. */
void sl_history_init(struct sl_history *history, size_t max_bytes);
void sl_history_done(struct sl_history *history);

/* Appends a copy. Texts are repaired (clean UTF-8, no NUL). Fails: SL_RESOURCE_EXHAUSTED over the
 * maximum or no memory; the history is then as before. */
SL_CHECK enum sl_status
sl_history_add(struct sl_history *history, const struct sl_chat_message *message);

/* Removes all messages from index `n_messages` on. */
void sl_history_cut(struct sl_history *history, size_t n_messages);

/* The first `n_given` messages came with the request, those behind them are a session's: they
 * change places, and a system message that is given and was stored before is dropped. Before
 * _begin_turn. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_history_put_stored(struct sl_history *history, size_t n_given);

/* Ends the old part: repairs it (a call without result gets one, a result without call and an
 * empty message are dropped) and appends the input as the last user message, unless the last
 * message that was given is a user message with the same text or the input is empty. Fails: as
 * _add. */
SL_CHECK enum sl_status sl_history_begin_turn(struct sl_history *history, struct sl_slice input);

/* Ends the conversation: calls of the last answer that have no result get one that says so. Without
 * memory for that the answer is dropped, and what results it has. */
void sl_history_end(struct sl_history *history);

/* Drops whole old turns, oldest first, until at most `max_messages` old messages and about
 * `max_tokens` tokens are left; 0: no bound. System messages stay. */
void sl_history_prune(struct sl_history *history, size_t max_messages, uint64_t max_tokens);

/* A clean, terminated copy of `text` in the arena. NULL: no memory. */
SL_CHECK char *sl_history_text(struct sl_history *history, struct sl_slice text);

/* True when `text` is a JSON object without duplicate keys. */
bool sl_history_is_object(const char *text);

/* Bytes of content and arguments: the base of an estimate of its tokens. */
size_t sl_history_bytes(const struct sl_history *history);

#endif
