/* Property: a request gets the same answer whole and byte by byte, and takes the same number of
 * bytes. */
#include <stdlib.h>

#include "service/gateway/http1.h"
#include "tests/fuzz/fuzz.h"

static enum sl_status feed(const uint8_t *data, size_t size, size_t step, size_t *ret_taken)
{
    struct sl_http1 http1;
    struct sl_error err;
    enum sl_status status = SL_AGAIN;
    size_t at = 0;
    sl_http1_init(&http1, 4096);
    while (at < size && status == SL_AGAIN) {
        size_t taken = 0;
        const size_t n = size - at < step ? size - at : step;
        status = sl_http1_feed(&http1, sl_slice_of(data + at, n), &taken, &err);
        at += taken;
    }
    sl_http1_done(&http1);
    *ret_taken = at;
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t whole, single;
    const enum sl_status first = feed(data, size, size, &whole);
    const enum sl_status second = feed(data, size, 1, &single);
    if (first != second || (first == SL_OK && whole != single)) {
        abort();
    }
    return 0;
}
