/* Property: a number that is accepted, printed and read again is the same; an address likewise;
 * distances are symmetric, and zero only between equal texts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/parse.h"
#include "tests/fuzz/fuzz.h"

enum { HOST_BYTES = 64 };

static void require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void check_integers(struct sl_slice text)
{
    char printed[32];
    uint64_t u = 0;
    int64_t i = 0;
    if (sl_parse_u64(text, 0, UINT64_MAX, &u) == SL_OK) {
        size_t n_zeros = 0;
        while (n_zeros + 1 < text.size && text.data[n_zeros] == '0') {
            n_zeros++;
        }
        (void)snprintf(printed, sizeof(printed), "%" PRIu64, u);
        require(sl_slice_equals(sl_slice_of(text.data + n_zeros, text.size - n_zeros), printed));
        require(sl_parse_u64(text, 0, u, &u) == SL_OK && sl_parse_u64(text, u, u, &u) == SL_OK);
        require(u == 0 || sl_parse_u64(text, 0, u - 1, &u) == SL_OUT_OF_RANGE);
    }
    if (sl_parse_i64(text, INT64_MIN, INT64_MAX, &i) == SL_OK) {
        int64_t again = 0;
        (void)snprintf(printed, sizeof(printed), "%" PRId64, i);
        require(sl_parse_i64(sl_slice_str(printed), i, i, &again) == SL_OK && again == i);
    }
}

static void check_decimals(struct sl_slice text)
{
    char printed[64];
    double value = 0;
    double again = 0;
    if (sl_parse_double(text, &value) == SL_OK) {
        (void)snprintf(printed, sizeof(printed), "%.17g", value);
        require(sl_parse_double(sl_slice_str(printed), &again) == SL_OK);
        require(!(value < again) && !(value > again));
    }
}

static void check_units(struct sl_slice text)
{
    char printed[32];
    uint64_t value = 0;
    uint64_t again = 0;
    if (sl_parse_bytes(text, UINT64_MAX, &value) == SL_OK) {
        (void)snprintf(printed, sizeof(printed), "%" PRIu64 "B", value);
        require(sl_parse_bytes(sl_slice_str(printed), value, &again) == SL_OK && again == value);
    }
    if (sl_parse_duration_ms(text, UINT64_MAX, &value) == SL_OK) {
        (void)snprintf(printed, sizeof(printed), "%" PRIu64 "ms", value);
        require(sl_parse_duration_ms(sl_slice_str(printed), value, &again) == SL_OK);
        require(again == value);
    }
}

static void check_address(struct sl_slice text)
{
    char host[HOST_BYTES];
    char host_again[HOST_BYTES];
    char printed[HOST_BYTES + 16];
    uint16_t port = 0;
    uint16_t port_again = 0;
    bool is_unix = false;
    bool is_unix_again = false;
    if (sl_parse_address(text, host, sizeof(host), &port, &is_unix) == SL_OK) {
        if (is_unix) {
            /* "unix:///x" is "/x"; one more turn could take more slashes away */
            require(port == 0 && strlen(host) > 0);
            return;
        }
        const bool needs_brackets = strpbrk(host, ":%") != NULL;
        (void)snprintf(printed, sizeof(printed), needs_brackets ? "[%s]:%u" : "%s:%u", host, port);
        require(
            sl_parse_address(
                sl_slice_str(printed), host_again, sizeof(host_again), &port_again,
                &is_unix_again) == SL_OK);
        require(strcmp(host, host_again) == 0 && port == port_again && !is_unix_again);
    }
}

static void check_distance(const uint8_t *data, size_t size)
{
    char a[80] = "";
    char b[80] = "";
    const size_t cut = size == 0 ? 0 : data[0] % size;
    (void)snprintf(a, sizeof(a), "%.*s", (int)cut, (const char *)data);
    (void)snprintf(b, sizeof(b), "%.*s", (int)(size - cut), (const char *)data + cut);
    const unsigned distance = sl_parse_distance(a, b, 3);
    require(distance == sl_parse_distance(b, a, 3) && distance <= 4);
    require((distance == 0) == (strcmp(a, b) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sl_slice text = sl_slice_of(data, size);
    check_integers(text);
    check_decimals(text);
    check_units(text);
    check_address(text);
    if (size > 0) {
        check_distance(data, size < 150 ? size : 150);
    }
    return 0;
}
