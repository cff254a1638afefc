/* Property: a scenario that is taken plays the same pieces twice, ends or hangs, and what it
 * renders is a stream that our own reader takes. */
#include "runtime/model/scenario.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_stream.h"

enum { MAX_PIECES = 20000 };

static void play(const struct sl_scenario *scenario, struct sl_buf *wire)
{
    const struct sl_scenario_wire about = { .id = "i", .model = "m", .created = 1 };
    const struct sl_scenario_facts facts = {
        .input = sl_slice_str("hello \"you\" \xC3\xA9"),
        .last_tool_result = sl_slice_str("42"),
        .model = "m",
        .iteration = 2,
    };
    struct sl_scenario_player *player = NULL;
    struct sl_scenario_piece piece = { .kind = SL_SCENARIO_TEXT };
    if (sl_scenario_play(scenario, &facts, &player, NULL) != SL_OK) {
        return;
    }
    for (int i = 0; i < MAX_PIECES && piece.kind != SL_SCENARIO_END; i++) {
        if (sl_scenario_next(player, &piece) != SL_OK) {
            break;
        }
        if (piece.kind == SL_SCENARIO_HANG) {
            break;
        }
        fuzz_must(piece.kind != SL_SCENARIO_TEXT || piece.text.size > 0);
        if (piece.kind != SL_SCENARIO_RAW) {
            fuzz_must(sl_scenario_render(&piece, &about, wire) == SL_OK);
        }
    }
    sl_scenario_player_free(player);
}

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct fuzz_stream *it = user_data;
    return sl_provider_openai.on_event(it->stream, event, NULL);
}

static void read_back(const struct sl_buf *wire)
{
    struct fuzz_stream it;
    struct sl_sse sse;
    size_t used = 0;
    fuzz_stream_open(&it);
    sl_sse_init(&sse, 1 << 22, 1 << 22);
    const enum sl_status status = sl_sse_feed(&sse, sl_buf_slice(wire), on_event, &it, &used);
    fuzz_must(status == SL_OK || status == SL_AGAIN);
    sl_sse_done(&sse);
    fuzz_stream_close(&it);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_scenario *scenario = NULL;
    struct sl_buf first;
    struct sl_buf second;
    struct sl_error error;
    if (size > 8192 ||
        sl_scenario_parse(sl_slice_of(data, size), "f", &scenario, &error) != SL_OK) {
        return 0;
    }
    sl_buf_init(&first, 1 << 27);
    sl_buf_init(&second, 1 << 27);
    play(scenario, &first);
    play(scenario, &second);
    fuzz_must(sl_slice_equal(sl_buf_slice(&first), sl_buf_slice(&second)));
    read_back(&first);
    sl_buf_done(&first);
    sl_buf_done(&second);
    sl_scenario_free(scenario);
    return 0;
}
