/* Property: a stream gives the same messages, the same end and the same credit, whole and in
 * pieces.
 *
 * Input: encoding (1 byte), number of cuts (1), a distance per cut (1 each), the stream. */
#include <stdlib.h>

#include "service/rpc/frame.h"
#include "tests/fuzz/fuzz.h"

enum { LIMIT = 4096, MAX_CUTS = 16 };

struct result {
    uint64_t digest;
    size_t n_messages;
    size_t credit;
    enum sl_status status;
};

static void add(struct result *result, struct sl_slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        result->digest = (result->digest ^ bytes.data[i]) * UINT64_C(1099511628211);
    }
    result->digest = (result->digest ^ bytes.size) * UINT64_C(1099511628211);
    result->n_messages++;
}

/* Takes what there is; the cheap question must have the same answer. */
static enum sl_status drain(struct sl_frame_reader *reader, struct result *result)
{
    for (;;) {
        struct sl_slice message;
        const enum sl_status expected = sl_frame_reader_status(reader);
        const enum sl_status status = sl_frame_reader_next(reader, &message, NULL);
        const bool is_late = expected == SL_OK && status != SL_AGAIN && status != SL_END;
        if (expected != status && !is_late) {
            abort();
        }
        if (status != SL_OK) {
            return status;
        }
        if (message.size > LIMIT) {
            abort();
        }
        add(result, message);
    }
}

static struct result
read_all(enum sl_encoding encoding, const uint8_t *cuts, size_t n_cuts, struct sl_slice bytes)
{
    struct result result = { .status = SL_AGAIN };
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_set_encoding(
        &reader, encoding == SL_ENCODING_UNKNOWN ? sl_slice_str("br")
                                                 : sl_slice_str(sl_encoding_name(encoding)));
    for (size_t i = 0; i <= n_cuts; i++) {
        const size_t size = i < n_cuts && cuts[i] < bytes.size ? cuts[i] : bytes.size;
        sl_frame_reader_feed(&reader, sl_slice_of(bytes.data, size));
        bytes.data += size;
        bytes.size -= size;
        if (i % 3 != 2) { /* sometimes more comes before anybody asks */
            (void)drain(&reader, &result);
        }
        result.credit += sl_frame_reader_take_credit(&reader);
    }
    sl_frame_reader_feed(&reader, bytes);
    sl_frame_reader_end(&reader);
    result.status = drain(&reader, &result);
    sl_frame_reader_done(&reader);
    result.credit += sl_frame_reader_take_credit(&reader);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const enum sl_encoding encoding = (enum sl_encoding)(data[0] % 4);
    const size_t wanted = data[1] % (MAX_CUTS + 1);
    const size_t n_cuts = wanted < size - 2 ? wanted : size - 2;
    const struct sl_slice stream = sl_slice_of(data + 2 + n_cuts, size - 2 - n_cuts);
    const struct result pieces = read_all(encoding, data + 2, n_cuts, stream);
    const struct result whole = read_all(encoding, NULL, 0, stream);
    if (pieces.digest != whole.digest || pieces.n_messages != whole.n_messages ||
        pieces.status != whole.status || pieces.credit != stream.size ||
        whole.credit != stream.size) {
        abort();
    }
    return 0;
}
