#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/compress.h"

enum { BIG_BYTES = 1000000 };

static const enum sl_encoding packers[] = { SL_ENCODING_GZIP, SL_ENCODING_DEFLATE };

static void compress(enum sl_encoding encoding, struct sl_slice plain, struct sl_buf *out)
{
    sl_buf_init(out, (size_t)2 * BIG_BYTES);
    assert_int_equal(sl_compress(encoding, plain, out), SL_OK);
}

static enum sl_status
expand(enum sl_encoding encoding, struct sl_slice packed, size_t max_bytes, struct sl_buf *out)
{
    sl_buf_init(out, (size_t)2 * BIG_BYTES);
    struct sl_error err;
    return sl_decompress(encoding, packed, max_bytes, out, &err);
}

static enum sl_status
expand_only(enum sl_encoding encoding, struct sl_slice packed, size_t max_bytes)
{
    struct sl_buf out;
    const enum sl_status status = expand(encoding, packed, max_bytes, &out);
    sl_buf_done(&out);
    return status;
}

static uint8_t *make_text(size_t size)
{
    uint8_t *text = sl_alloc(size);
    assert_non_null(text);
    uint32_t random = 1;
    for (size_t i = 0; i < size; i++) {
        random = random * 1664525 + 1013904223;
        text[i] = (uint8_t)("abcdefgh"[random >> 29]);
    }
    return text;
}

static void what_is_compressed_comes_back(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 100, 16383, 16384, 16385, BIG_BYTES };
    uint8_t *text = make_text(BIG_BYTES);
    for (size_t p = 0; p < SL_COUNT(packers); p++) {
        for (size_t i = 0; i < SL_COUNT(sizes); i++) {
            struct sl_buf packed;
            struct sl_buf plain;
            compress(packers[p], sl_slice_of(text, sizes[i]), &packed);
            assert_int_equal(expand(packers[p], sl_buf_slice(&packed), sizes[i], &plain), SL_OK);
            assert_true(sl_slice_equal(sl_buf_slice(&plain), sl_slice_of(text, sizes[i])));
            sl_buf_done(&packed);
            sl_buf_done(&plain);
        }
    }
    sl_free(text);
}

static void the_limit_holds_after_decompression_fr_4(void **state)
{
    (void)state;
    uint8_t *zeros = sl_calloc(BIG_BYTES, 1);
    for (size_t p = 0; p < SL_COUNT(packers); p++) {
        struct sl_buf packed;
        struct sl_buf plain;
        compress(packers[p], sl_slice_of(zeros, BIG_BYTES), &packed);
        assert_true(packed.size < 2000);
        assert_int_equal(
            expand(packers[p], sl_buf_slice(&packed), BIG_BYTES - 1, &plain),
            SL_RESOURCE_EXHAUSTED);
        assert_true(plain.size <= BIG_BYTES - 1);
        sl_buf_done(&plain);
        assert_int_equal(expand_only(packers[p], sl_buf_slice(&packed), 0), SL_RESOURCE_EXHAUSTED);
        assert_int_equal(expand_only(packers[p], sl_buf_slice(&packed), BIG_BYTES), SL_OK);
        sl_buf_done(&packed);
    }
    sl_free(zeros);
}

static void every_truncation_is_internal_fr_4(void **state)
{
    (void)state;
    for (size_t p = 0; p < SL_COUNT(packers); p++) {
        struct sl_buf packed;
        compress(packers[p], sl_slice_str("some text, some text, some text"), &packed);
        for (size_t size = 0; size < packed.size; size++) {
            assert_int_equal(
                expand_only(packers[p], sl_slice_of(packed.data, size), 1000), SL_INTERNAL);
        }
        sl_buf_done(&packed);
    }
}

static void corrupt_bytes_are_internal_fr_4(void **state)
{
    (void)state;
    for (size_t p = 0; p < SL_COUNT(packers); p++) {
        struct sl_buf packed;
        compress(packers[p], sl_slice_str("some text, some text, some text"), &packed);
        packed.data[packed.size - 2] ^= 0x40; /* the check sum (zlib) or the length (gzip) */
        assert_int_equal(expand_only(packers[p], sl_buf_slice(&packed), 1000), SL_INTERNAL);
        sl_buf_done(&packed);
    }
    assert_int_equal(expand_only(SL_ENCODING_GZIP, sl_slice_str("hello"), 1000), SL_INTERNAL);
}

static void bytes_behind_the_end_are_internal_fr_4(void **state)
{
    (void)state;
    for (size_t p = 0; p < SL_COUNT(packers); p++) {
        struct sl_buf packed;
        compress(packers[p], sl_slice_str("some text"), &packed);
        assert_int_equal(sl_buf_add_byte(&packed, 0), SL_OK);
        assert_int_equal(expand_only(packers[p], sl_buf_slice(&packed), 1000), SL_INTERNAL);
        sl_buf_done(&packed);
    }
}

static void a_second_zlib_stream_is_internal_fr_4(void **state)
{
    (void)state;
    struct sl_buf packed;
    compress(SL_ENCODING_DEFLATE, sl_slice_str("some text"), &packed);
    assert_int_equal(sl_compress(SL_ENCODING_DEFLATE, sl_slice_str("more"), &packed), SL_OK);
    assert_int_equal(expand_only(SL_ENCODING_DEFLATE, sl_buf_slice(&packed), 1000), SL_INTERNAL);
    sl_buf_done(&packed);
}

static void further_gzip_members_count_toward_the_limit_fr_4(void **state)
{
    (void)state;
    struct sl_buf packed;
    struct sl_buf plain;
    sl_buf_init(&packed, 1000);
    assert_int_equal(sl_compress(SL_ENCODING_GZIP, sl_slice_str("abc"), &packed), SL_OK);
    assert_int_equal(sl_compress(SL_ENCODING_GZIP, sl_slice_str("defg"), &packed), SL_OK);
    assert_int_equal(expand(SL_ENCODING_GZIP, sl_buf_slice(&packed), 7, &plain), SL_OK);
    assert_true(sl_slice_equals(sl_buf_slice(&plain), "abcdefg"));
    sl_buf_done(&plain);
    assert_int_equal(
        expand_only(SL_ENCODING_GZIP, sl_buf_slice(&packed), 6), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(
        expand_only(SL_ENCODING_GZIP, sl_buf_slice(&packed), 3), SL_RESOURCE_EXHAUSTED);
    sl_buf_done(&packed);
}

static void deflate_is_zlib_and_never_raw_fr_9(void **state)
{
    (void)state;
    struct sl_buf packed;
    compress(SL_ENCODING_DEFLATE, sl_slice_str("text"), &packed);
    assert_int_equal(packed.data[0], 0x78);
    const struct sl_slice raw = sl_slice_of(packed.data + 2, packed.size - 6);
    assert_int_equal(expand_only(SL_ENCODING_DEFLATE, raw, 100), SL_INTERNAL);
    sl_buf_done(&packed);
}

static void names_are_exact_and_unknown_ones_are_refused(void **state)
{
    (void)state;
    assert_int_equal(sl_encoding_parse(sl_slice_str("")), SL_ENCODING_IDENTITY);
    assert_int_equal(sl_encoding_parse(sl_slice_str("identity")), SL_ENCODING_IDENTITY);
    assert_int_equal(sl_encoding_parse(sl_slice_str("gzip")), SL_ENCODING_GZIP);
    assert_int_equal(sl_encoding_parse(sl_slice_str("deflate")), SL_ENCODING_DEFLATE);
    assert_int_equal(sl_encoding_parse(sl_slice_str("GZIP")), SL_ENCODING_UNKNOWN);
    assert_int_equal(sl_encoding_parse(sl_slice_str("snappy")), SL_ENCODING_UNKNOWN);
    assert_string_equal(sl_encoding_name(SL_ENCODING_DEFLATE), "deflate");
    assert_string_equal(sl_encoding_name(SL_ENCODING_UNKNOWN), "?");
    assert_int_equal(expand_only(SL_ENCODING_UNKNOWN, sl_slice_str("x"), 9), SL_UNIMPLEMENTED);
    struct sl_buf out;
    sl_buf_init(&out, 100);
    assert_int_equal(sl_compress(SL_ENCODING_UNKNOWN, sl_slice_str("x"), &out), SL_UNIMPLEMENTED);
}

static void accepted_encodings_are_a_list_that_may_repeat_fr_10(void **state)
{
    (void)state;
    sl_encoding_set set = 0;
    assert_true(sl_encoding_set_has(set, SL_ENCODING_IDENTITY));
    assert_false(sl_encoding_set_has(set, SL_ENCODING_GZIP));
    set = sl_encoding_set_add(set, sl_slice_str("br , \tdeflate,"));
    assert_true(sl_encoding_set_has(set, SL_ENCODING_DEFLATE));
    assert_false(sl_encoding_set_has(set, SL_ENCODING_GZIP));
    assert_false(sl_encoding_set_has(set, SL_ENCODING_UNKNOWN));
    set = sl_encoding_set_add(set, sl_slice_str("gzip"));
    assert_true(sl_encoding_set_has(set, SL_ENCODING_GZIP));
    assert_true(sl_encoding_set_has(set, SL_ENCODING_DEFLATE));
    assert_int_equal(sl_encoding_set_add(0, sl_slice_str("gzipx,xgzip,g zip")), 0);
}

static size_t n_allowed;
static bool refuse_after(size_t size)
{
    (void)size;
    return n_allowed > 0 && n_allowed-- > 0;
}

static void running_out_of_memory_is_an_error_at_every_step(void **state)
{
    (void)state;
    uint8_t *text = make_text(100000);
    enum sl_status status = SL_RESOURCE_EXHAUSTED;
    for (size_t k = 0; status != SL_OK; k++) {
        struct sl_buf packed;
        struct sl_buf plain;
        sl_buf_init(&packed, BIG_BYTES);
        sl_buf_init(&plain, BIG_BYTES);
        n_allowed = k;
        sl_mem_set_gate(refuse_after);
        status = sl_compress(SL_ENCODING_GZIP, sl_slice_of(text, 100000), &packed);
        if (status == SL_OK) {
            status = sl_decompress(SL_ENCODING_GZIP, sl_buf_slice(&packed), 100000, &plain, NULL);
        }
        sl_mem_set_gate(NULL);
        assert_true(status == SL_OK || status == SL_RESOURCE_EXHAUSTED);
        sl_buf_done(&packed);
        sl_buf_done(&plain);
        assert_true(k < 100);
    }
    sl_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_compressed_comes_back),
        cmocka_unit_test(the_limit_holds_after_decompression_fr_4),
        cmocka_unit_test(every_truncation_is_internal_fr_4),
        cmocka_unit_test(corrupt_bytes_are_internal_fr_4),
        cmocka_unit_test(bytes_behind_the_end_are_internal_fr_4),
        cmocka_unit_test(a_second_zlib_stream_is_internal_fr_4),
        cmocka_unit_test(further_gzip_members_count_toward_the_limit_fr_4),
        cmocka_unit_test(deflate_is_zlib_and_never_raw_fr_9),
        cmocka_unit_test(names_are_exact_and_unknown_ones_are_refused),
        cmocka_unit_test(accepted_encodings_are_a_list_that_may_repeat_fr_10),
        cmocka_unit_test(running_out_of_memory_is_an_error_at_every_step),
    };
    return cmocka_run_group_tests_name("compress", tests, NULL, NULL);
}
