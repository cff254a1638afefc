/* Property: what is read as a conversation is written as the same bytes; what is refused leaves
 * nothing behind; and what is read can be repaired, so that each call has its result. */
#include <stdlib.h>
#include <string.h>

#include "runtime/exec/session_codec.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_BYTES = 1 << 22 };

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

/* Of each call, in call order, right behind it. */
static void check_results(const struct sl_history *history)
{
    for (size_t i = 0; i < history->n_messages; i++) {
        const struct sl_chat_message *message = &history->messages[i];
        for (size_t k = 0; k < message->n_calls; k++) {
            must(i + k + 1 < history->n_messages);
            const struct sl_chat_message *result = &history->messages[i + k + 1];
            must(result->role == SL_CHAT_TOOL);
            must(strcmp(result->call_id, message->calls[k].id) == 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_history history;
    sl_history_init(&history, MAX_BYTES);
    const enum sl_status status = sl_session_read(sl_slice_of(data, size), &history);
    if (status != SL_OK) {
        must(history.n_messages == 0 && sl_history_bytes(&history) == 0);
    } else {
        struct sl_buf buf;
        sl_buf_init(&buf, MAX_BYTES);
        must(sl_session_write(history.messages, history.n_messages, &buf) == SL_OK);
        must(sl_slice_equal(sl_buf_slice(&buf), sl_slice_of(data, size)));
        sl_buf_done(&buf);
        if (sl_history_put_stored(&history, 0) == SL_OK &&
            sl_history_begin_turn(&history, sl_slice_str("and now?")) == SL_OK) {
            must(history.turn_begin == history.n_messages - 1);
            check_results(&history);
        }
    }
    sl_history_done(&history);
    return 0;
}
