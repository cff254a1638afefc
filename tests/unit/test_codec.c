#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/rpc/codec.h"

static struct sl_limits limits;
static struct sl_arena arena;

static int setup(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

static enum sl_status decode(struct sl_slice bytes, Sluice__Test__Types **ret_message)
{
    void *message = NULL;
    struct sl_error err;
    const enum sl_status status = sl_codec_proto.decode(
        &limits, &sluice__test__types__descriptor, bytes, &arena, &message, &err);
    *ret_message = message;
    return status;
}

static void a_message_comes_back(void **state)
{
    (void)state;
    Sluice__Test__Types *message = sl_codec_proto.create(&sluice__test__types__descriptor, &arena);
    assert_non_null(message);
    int32_t numbers[] = { 1, -1, 150 };
    message->number = 7;
    message->text = sl_arena_dup(&arena, sl_slice_str("h\xC3\xA4"));
    message->packed = numbers;
    message->n_packed = 3;
    const size_t size = sl_codec_proto.encoded_size(message);
    uint8_t *room = sl_arena_alloc(&arena, size);
    assert_non_null(room);
    sl_codec_proto.encode(message, room);
    Sluice__Test__Types *back;
    assert_int_equal(decode(sl_slice_of(room, size), &back), SL_OK);
    assert_int_equal(back->number, 7);
    assert_string_equal(back->text, "h\xC3\xA4");
    assert_int_equal(back->n_packed, 3);
    assert_int_equal(back->packed[1], -1);
}

static void no_bytes_are_a_message_of_defaults_fr_5(void **state)
{
    (void)state;
    Sluice__Test__Types *message;
    assert_int_equal(decode(sl_slice_of(NULL, 0), &message), SL_OK);
    assert_int_equal(message->number, 0);
    assert_string_equal(message->text, "");
}

static void old_and_new_peers_understand_each_other_pb_5(void **state)
{
    (void)state;
    Sluice__Test__Types *message;
    static const char bytes[] = "\x08\5\xC3\x3E\x08\1\xC4\x3E\x2A\1x\x52\2\1\2\x50\3";
    assert_int_equal(decode(sl_slice_of(bytes, sizeof(bytes) - 1), &message), SL_OK);
    assert_int_equal(message->number, 5);
    assert_int_equal(message->flag, 0);
    assert_int_equal(message->n_packed, 3);
    assert_int_equal(message->packed[2], 3);
}

static void a_request_that_does_not_parse_is_internal_fr_11(void **state)
{
    (void)state;
    Sluice__Test__Types *message;
    assert_int_equal(decode(sl_slice_str("\x08"), &message), SL_INTERNAL);
    assert_int_equal(decode(sl_slice_str("\x3A\1\xFF"), &message), SL_INTERNAL);
}

static void empty_map_entries_do_not_eat_the_memory_ws_6(void **state)
{
    (void)state;
    const size_t size = 400000;
    uint8_t *bytes = sl_alloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i += 2) {
        bytes[i] = 0x7A;
        bytes[i + 1] = 0;
    }
    const uint64_t n_reached = sl_limit_n_reached(SL_LIMIT_message_memory);
    Sluice__Test__Types *message;
    assert_int_equal(decode(sl_slice_of(bytes, size), &message), SL_RESOURCE_EXHAUSTED);
    assert_true(arena.used_bytes <= 2 * (16 * size + 65536));
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_message_memory), n_reached + 1);
    limits.message_memory = 256;
    assert_int_equal(decode(sl_slice_of(bytes, size), &message), SL_OK);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_message_memory), n_reached + 1);
    sl_free(bytes);
}

/* Each repetition of a singular message is merged into the one before, which copies its list. */
static void merging_again_and_again_is_stopped_ws_6(void **state)
{
    (void)state;
    static const uint8_t repeated[6] = { 0xAA, 1, 3, 0x0A, 1, 1 };
    const size_t size = 600000;
    uint8_t *bytes = sl_alloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i += 6) {
        memcpy(bytes + i, repeated, sizeof(repeated));
    }
    Sluice__Test__Types *message;
    assert_int_equal(decode(sl_slice_of(bytes, size), &message), SL_RESOURCE_EXHAUSTED);
    sl_free(bytes);
}

static void an_arena_with_a_maximum_is_respected(void **state)
{
    (void)state;
    arena.max_bytes = 64;
    const uint64_t n_reached = sl_limit_n_reached(SL_LIMIT_message_memory);
    Sluice__Test__Types *message;
    assert_int_equal(decode(sl_slice_str("\x08\1"), &message), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(
        sl_limit_n_reached(SL_LIMIT_message_memory), n_reached); /* not the message's fault */
    assert_null(sl_codec_proto.create(&sluice__test__types__descriptor, &arena));
}

static size_t n_allowed;
static bool refuse_after(size_t size)
{
    (void)size;
    return n_allowed > 0 && n_allowed-- > 0;
}

static void running_out_of_memory_is_no_parse_fault_pb_7(void **state)
{
    (void)state;
    static const uint8_t child[5] = { 0x72, 3, 0x3A, 1, 'x' };
    uint8_t bytes[250];
    for (size_t i = 0; i < sizeof(bytes); i += 5) {
        memcpy(bytes + i, child, sizeof(child));
    }
    for (size_t k = 0;; k++) {
        struct sl_arena own;
        sl_arena_init(&own, 0);
        void *message;
        n_allowed = k;
        sl_mem_set_gate(refuse_after);
        const enum sl_status status = sl_codec_proto.decode(
            &limits, &sluice__test__types__descriptor, sl_slice_of(bytes, 250), &own, &message,
            NULL);
        sl_mem_set_gate(NULL);
        sl_arena_done(&own);
        if (status == SL_OK) {
            assert_true(k > 3);
            break;
        }
        assert_int_equal(status, SL_RESOURCE_EXHAUSTED);
    }
}

#ifndef NDEBUG
static sigjmp_buf place_of_abort;

static void on_abort(int number)
{
    (void)number;
    siglongjmp(place_of_abort, 1);
}
#endif

/* PB-12: without the check, packing would follow the pointer. A release does not pay for it. */
static void a_message_with_a_hole_is_not_packed(void **state)
{
    (void)state;
#ifdef NDEBUG
    skip();
#else
    Sluice__Test__Types *message = sl_codec_proto.create(&sluice__test__types__descriptor, &arena);
    assert_non_null(message);
    Sluice__Test__Types *nobody[] = { NULL };
    message->children = nobody;
    message->n_children = 1;
    void (*const before)(int) = signal(SIGABRT, on_abort);
    const bool is_aborted = sigsetjmp(place_of_abort, 1) != 0;
    if (!is_aborted) {
        (void)sl_codec_proto.encoded_size(message);
    }
    (void)signal(SIGABRT, before);
    assert_true(is_aborted);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(no_bytes_are_a_message_of_defaults_fr_5, setup, teardown),
        cmocka_unit_test_setup_teardown(
            old_and_new_peers_understand_each_other_pb_5, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_request_that_does_not_parse_is_internal_fr_11, setup, teardown),
        cmocka_unit_test_setup_teardown(
            empty_map_entries_do_not_eat_the_memory_ws_6, setup, teardown),
        cmocka_unit_test_setup_teardown(merging_again_and_again_is_stopped_ws_6, setup, teardown),
        cmocka_unit_test_setup_teardown(an_arena_with_a_maximum_is_respected, setup, teardown),
        cmocka_unit_test_setup_teardown(
            running_out_of_memory_is_no_parse_fault_pb_7, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_with_a_hole_is_not_packed, setup, teardown),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
