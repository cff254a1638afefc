#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/sse.h"

struct events {
    struct sl_buf log;
    size_t stop_after; /* events; 0: never */
    size_t n;
};

static void add(struct events *events, struct sl_slice text)
{
    assert_int_equal(sl_buf_add(&events->log, text), SL_OK);
}

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct events *events = user_data;
    add(events, sl_slice_str(event->is_raw ? "raw<" : "<"));
    add(events, event->name);
    add(events, sl_slice_str("|"));
    add(events, event->data);
    add(events, sl_slice_str(event->is_cut ? "> cut\n" : ">\n"));
    events->n++;
    return events->n != events->stop_after;
}

/* Feeds the pieces [0, a), [a, b), [b, end), or single bytes when a > b; a callback that says stop
 * is fed the rest. */
static enum sl_status feed_all(struct sl_sse *sse, struct events *events, struct sl_slice bytes)
{
    while (bytes.size > 0) {
        size_t used = 0;
        const enum sl_status status = sl_sse_feed(sse, bytes, on_event, events, &used);
        assert_true(used <= bytes.size);
        if (status != SL_AGAIN) {
            return status;
        }
        bytes = sl_slice_of(bytes.data + used, bytes.size - used);
    }
    return SL_OK;
}

static char *parse(struct sl_slice text, size_t piece, size_t stop_after)
{
    struct events events = { .stop_after = stop_after };
    struct sl_sse sse;
    sl_buf_init(&events.log, 1 << 20);
    sl_sse_init(&sse, 1000, 2000);
    for (size_t at = 0; at < text.size; at += piece) {
        const size_t n = text.size - at < piece ? text.size - at : piece;
        uint8_t *copy = malloc(n); /* so that a look behind the end is seen */
        assert_non_null(copy);
        memcpy(copy, text.data + at, n);
        assert_int_equal(feed_all(&sse, &events, sl_slice_of(copy, n)), SL_OK);
        free(copy);
    }
    events.stop_after = 0;
    assert_int_equal(sl_sse_finish(&sse, on_event, &events), SL_OK);
    sl_sse_done(&sse);
    char *log = sl_buf_take(&events.log);
    assert_non_null(log);
    return log;
}

static void expect_pieces(struct sl_slice text, const char *log, size_t piece, size_t stop)
{
    char *got = parse(text, piece, stop);
    if (strcmp(got, log) != 0) {
        fail_msg("pieces of %zu:\n%s", piece, got);
    }
    sl_free(got);
}

static void expect_bytes(struct sl_slice text, const char *log)
{
    for (size_t piece = 1; piece <= text.size + 1; piece++) {
        for (size_t stop = 0; stop < 3; stop++) {
            expect_pieces(text, log, piece, stop);
        }
    }
}

static void expect(const char *text, const char *log)
{
    expect_bytes(sl_slice_str(text), log);
}

static void events_end_at_an_empty_line(void **state)
{
    (void)state;
    expect("data: a\n\ndata: b\n\n", "<|a>\n<|b>\n");
    expect("\n\n\ndata: a\n\n\n\n", "<|a>\n");
}

static void lines_end_at_lf_cr_or_both(void **state)
{
    (void)state;
    expect("data: a\r\n\r\ndata: b\r\rdata: c\n\r\ndata: d\r\n\n", "<|a>\n<|b>\n<|c>\n<|d>\n");
    expect("data: a\r\n\rdata: b\n\n", "<|a>\n<|b>\n");
    expect("data: a\r\ndata: b\r\n\r\n", "<|a\nb>\n");
}

static void a_byte_order_mark_is_skipped_once(void **state)
{
    (void)state;
    expect(
        "\xEF\xBB\xBF"
        "data: a\n\n",
        "<|a>\n");
    expect(
        "\xEF\xBB\xBF\xEF\xBB\xBF"
        "data: a\n\n",
        "");
    expect(
        "\xEF\xBB"
        "data: a\n\ndata: b\n\n",
        "<|b>\n");
    expect("\xEF\xBB", "");
}

static void fields_are_split_at_the_first_colon(void **state)
{
    (void)state;
    expect("data:a\ndata:  b:c\ndata\n\n", "<|a\n b:c\n>\n");
    expect("event: x\ndata: a\n\ndata: b\n\n", "<x|a>\n<|b>\n");
    expect("event: x\n\ndata: b\n\n", "<|b>\n");
    expect("nothing: x\ndatax: 1\n: comment\ndata: a\n\n", "<|a>\n");
    expect("data:\n\n", "<|>\n");
}

static void what_is_not_text_is_repaired_per_line(void **state)
{
    (void)state;
    expect("data: \xC3\xA9\xC3\n\n", "<|\xC3\xA9\xEF\xBF\xBD>\n");
    expect_bytes(
        sl_slice_of("data: a\0b\n\n", 11), "<|a\xEF\xBF\xBD"
                                           "b>\n");
}

static void the_end_gives_what_is_pending(void **state)
{
    (void)state;
    expect("data: a\n", "<|a> cut\n");
    expect("data: a", "<|a> cut\n");
    expect("data: a\n\nevent: b", "<|a>\n");
    expect("", "");
}

static void bare_json_is_a_block_of_its_own(void **state)
{
    (void)state;
    expect(
        "data: a\n{\"error\":\ndata: 1}\n\ndata: b\n\n",
        "<|a>\nraw<|{\"error\":\ndata: 1}\n>\n<|b>\n");
    expect("[1]", "raw<|[1]\n> cut\n");
}

static void id_and_retry_are_kept(void **state)
{
    struct events events = { .n = 0 };
    struct sl_sse sse;
    size_t used = 0;
    uint64_t ms = 7;
    (void)state;
    sl_buf_init(&events.log, 1 << 20);
    sl_sse_init(&sse, 1000, 2000);
    assert_false(sl_sse_retry_ms(&sse, &ms));
    assert_int_equal(ms, 7);
    const char text[] = "id: 1\nretry: 250\n\nretry: 2x\nid: a\0b\n\n";
    assert_int_equal(
        sl_sse_feed(&sse, sl_slice_of(text, sizeof(text) - 1), on_event, &events, &used), SL_OK);
    assert_true(sl_slice_equals(sl_sse_last_id(&sse), "1"));
    assert_true(sl_sse_retry_ms(&sse, &ms));
    assert_int_equal(ms, 250);
    sl_sse_done(&sse);
    sl_buf_done(&events.log);
}

/* What the parser says to `n` times the byte between two texts. */
static enum sl_status feed_long(const char *before, char c, size_t n, size_t times, size_t piece)
{
    struct events events = { .n = 0 };
    struct sl_sse sse;
    struct sl_buf text;
    enum sl_status status = SL_OK;
    sl_buf_init(&events.log, 1 << 20);
    sl_buf_init(&text, 1 << 20);
    sl_sse_init(&sse, 1000, 2000);
    for (size_t i = 0; i < times; i++) {
        assert_int_equal(sl_buf_add_str(&text, before), SL_OK);
        for (size_t j = 0; j < n; j++) {
            assert_int_equal(sl_buf_add_byte(&text, (uint8_t)c), SL_OK);
        }
    }
    for (size_t at = 0; at < text.size && status == SL_OK; at += piece) {
        const size_t size = text.size - at < piece ? text.size - at : piece;
        status = feed_all(&sse, &events, sl_slice_of(text.data + at, size));
    }
    sl_sse_done(&sse);
    sl_buf_done(&events.log);
    sl_buf_done(&text);
    return status;
}

static void lines_events_and_blocks_have_limits(void **state)
{
    static const size_t pieces[] = { 1, 7, 100000 };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(pieces); i++) {
        assert_int_equal(feed_long("data: ", 'a', 994, 1, pieces[i]), SL_OK);
        assert_int_equal(feed_long("data: ", 'a', 995, 1, pieces[i]), SL_OUT_OF_RANGE);
        assert_int_equal(feed_long(": ", 'a', 999, 1, pieces[i]), SL_OUT_OF_RANGE);
        assert_int_equal(feed_long("\ndata: ", 'a', 900, 4, pieces[i]), SL_OUT_OF_RANGE);
        assert_int_equal(feed_long("\n\ndata: ", 'a', 900, 30, pieces[i]), SL_OK);
        assert_int_equal(feed_long("\n{", 'a', 900, 100, pieces[i]), SL_OUT_OF_RANGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_end_at_an_empty_line),
        cmocka_unit_test(lines_end_at_lf_cr_or_both),
        cmocka_unit_test(a_byte_order_mark_is_skipped_once),
        cmocka_unit_test(fields_are_split_at_the_first_colon),
        cmocka_unit_test(what_is_not_text_is_repaired_per_line),
        cmocka_unit_test(the_end_gives_what_is_pending),
        cmocka_unit_test(bare_json_is_a_block_of_its_own),
        cmocka_unit_test(id_and_retry_are_kept),
        cmocka_unit_test(lines_events_and_blocks_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
