/* Property: a body gives the same chunks whole and a byte at a time; chunks keep the promises of
 * model.h; there is exactly one end. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_stream.h"

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct fuzz_stream *it = user_data;
    return sl_provider_openai.on_event(it->stream, event, NULL);
}

static void run(struct sl_slice body, size_t piece, struct fuzz_stream *it)
{
    struct sl_sse sse;
    enum sl_status status = SL_OK;
    fuzz_stream_open(it);
    sl_sse_init(&sse, 1 << 16, 1 << 16);
    for (size_t at = 0; at < body.size && status == SL_OK; at += piece) {
        size_t used = 0;
        const size_t n = body.size - at < piece ? body.size - at : piece;
        status = sl_sse_feed(&sse, sl_slice_of(body.data + at, n), on_event, it, &used);
    }
    if (status == SL_OK) {
        status = sl_sse_finish(&sse, on_event, it);
    }
    if (status == SL_OK || status == SL_AGAIN) {
        sl_provider_openai.on_end(it->stream);
        fuzz_must(it->is_over);
    }
    sl_sse_done(&sse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sl_slice body = sl_slice_of(data, size);
    struct fuzz_stream whole;
    struct fuzz_stream bytes;
    if (size == 0 || size > 16384) {
        return 0;
    }
    run(body, size, &whole);
    run(body, 1, &bytes);
    fuzz_must(sl_slice_equal(sl_buf_slice(&whole.log), sl_buf_slice(&bytes.log)));
    fuzz_stream_close(&whole);
    fuzz_stream_close(&bytes);
    return 0;
}
