/* Property: what the scanner recognises is what jansson finds, chunk by chunk; it recognises
 * nothing that jansson refuses. */
#include "runtime/model/delta_scan.h"
#include "runtime/model/json.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_stream.h"

/* With a first event that names the model, so that the scanner is asked; `document` keeps it out.
 */
static void run(struct sl_slice event_data, json_t *document, struct fuzz_stream *it)
{
    const struct sl_sse_event first = { .data = sl_slice_str("{\"model\":\"m\"}") };
    const struct sl_sse_event event = { .data = event_data };
    fuzz_stream_open(it);
    fuzz_must(sl_provider_openai.on_event(it->stream, &first, NULL));
    (void)sl_provider_openai.on_event(it->stream, &event, document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_buf text;
    struct sl_buf scratch;
    struct sl_delta delta;
    uint8_t *room = NULL;
    json_t *document = NULL;
    struct fuzz_stream scanned;
    struct fuzz_stream parsed;
    if (size > 16384) {
        return 0;
    }
    /* The SSE parser gives clean text only. */
    sl_buf_init(&text, 1 << 20);
    sl_buf_init(&scratch, 1 << 20);
    fuzz_must(sl_buf_reserve(&text, sl_utf8_repaired_max(size), &room) == SL_OK);
    sl_buf_commit(&text, sl_utf8_repair(sl_slice_of(data, size), room));
    uint8_t *exact = malloc(text.size == 0 ? 1 : text.size);
    fuzz_must(exact != NULL);
    if (text.size > 0) {
        memcpy(exact, text.data, text.size);
    }
    const struct sl_slice json = sl_slice_of(exact, text.size);
    if (sl_delta_scan(json, &scratch, &delta)) {
        fuzz_must(sl_json_parse(json, 16, &document) == SL_OK);
        run(json, NULL, &scanned);
        run(json, document, &parsed);
        fuzz_must(sl_slice_equal(sl_buf_slice(&scanned.log), sl_buf_slice(&parsed.log)));
        fuzz_stream_close(&scanned);
        fuzz_stream_close(&parsed);
        json_decref(document);
    }
    free(exact);
    sl_buf_done(&text);
    sl_buf_done(&scratch);
    return 0;
}
