/* Property: a wait is never negative; a date that is read is the same moment when the C library
 * writes it out again in the standard form. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/model/retry.h"
#include "tests/fuzz/fuzz.h"

static void must(bool is_good)
{
    if (!is_good) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[256];
    char date[64];
    struct tm parts;
    int64_t wait_ms = -1;
    int64_t seconds = 0;
    int64_t again = 0;
    if (size >= sizeof(text)) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    if (sl_retry_after_parse(NULL, text, 1700000000000, &wait_ms)) {
        must(wait_ms >= 0);
    }
    if (sl_retry_after_parse(text, text, 0, &wait_ms)) {
        must(wait_ms >= 0);
    }
    if (sl_retry_date_parse(sl_slice_of(data, size), &seconds) == SL_OK) {
        const time_t moment = (time_t)seconds;
        must(gmtime_r(&moment, &parts) != NULL);
        if (parts.tm_year + 1900 >= 0 && parts.tm_year + 1900 <= 9999) {
            must(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &parts) > 0);
            /* glibc does not pad years below 1000. */
            must(
                parts.tm_year + 1900 < 1000 ||
                (sl_retry_date_parse(sl_slice_str(date), &again) == SL_OK && again == seconds));
        }
    }
    return 0;
}
