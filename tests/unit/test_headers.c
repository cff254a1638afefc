#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/headers.h"

static struct sl_arena arena;

static int setup(void **state)
{
    (void)state;
    sl_arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

static struct sl_h2_header field(const char *name, const char *value)
{
    return (struct sl_h2_header){ .name = sl_slice_str(name), .value = sl_slice_str(value) };
}

static void protocol_fields_are_found(void **state)
{
    (void)state;
    const struct sl_h2_header fields[] = {
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", "/a.B/C"),
        field(":authority", "me"),
        field("te", "trailers"),
        field("content-type", "application/grpc"),
        field("grpc-timeout", "1S"),
        field("grpc-encoding", ""),
        field("grpc-accept-encoding", "gzip"),
        field("grpc-accept-encoding", "deflate"),
        field("user-agent", "u"),
        field("grpc-timeout", "2S"),
    };
    struct sl_headers headers;
    sl_headers_scan(fields, SL_COUNT(fields), &headers);
    assert_true(sl_slice_equals(headers.method, "POST"));
    assert_true(sl_slice_equals(headers.path, "/a.B/C"));
    assert_true(sl_slice_equals(headers.authority, "me"));
    assert_true(sl_slice_equals(headers.timeout, "1S"));
    assert_non_null(headers.encoding.data);
    assert_int_equal(headers.encoding.size, 0);
    assert_null(headers.grpc_status.data);
    assert_true(sl_encoding_set_has(headers.accepted, SL_ENCODING_GZIP));
    assert_true(sl_encoding_set_has(headers.accepted, SL_ENCODING_DEFLATE));
    assert_int_equal(headers.n_authorities, 1);
    assert_int_equal(headers.n_hosts, 0);
    assert_false(headers.is_bad_base64);
}

static void host_takes_the_place_of_authority_adm_7(void **state)
{
    (void)state;
    const struct sl_h2_header fields[] = { field("host", "h"), field(":authority", "a") };
    struct sl_headers headers;
    sl_headers_scan(fields, 2, &headers);
    assert_true(sl_slice_equals(headers.authority, "a"));
    sl_headers_scan(fields, 1, &headers);
    assert_true(sl_slice_equals(headers.authority, "h"));
    assert_int_equal(headers.n_hosts, 1);
}

static bool is_bad(const char *value)
{
    const struct sl_h2_header fields[] = { field("x-bin", value) };
    struct sl_headers headers;
    sl_headers_scan(fields, 1, &headers);
    struct sl_metadata metadata = { 0 };
    const enum sl_status status = sl_headers_decode_metadata(fields, 1, &arena, &metadata);
    assert_int_equal(status, headers.is_bad_base64 ? SL_INTERNAL : SL_OK);
    return headers.is_bad_base64;
}

static void malformed_base64_is_found_adm_6(void **state)
{
    (void)state;
    assert_false(is_bad(""));
    assert_false(is_bad("YQ"));
    assert_false(is_bad("YQ=="));
    assert_false(is_bad("YQ==, YWI ,YWJj"));
    assert_true(is_bad("Y"));
    assert_true(is_bad("YQ="));
    assert_true(is_bad("Y-"));
    assert_true(is_bad("YQ,Y"));
    assert_true(is_bad("YQ==YQ=="));
    char big[4097];
    memset(big, 'A', sizeof(big));
    big[4096] = '\0';
    assert_false(is_bad(big));
    big[1023] = '=';
    assert_true(is_bad(big));
    big[1023] = 'A';
    big[4095] = '=';
    assert_false(is_bad(big));
    big[2000] = ' ';
    assert_true(is_bad(big));
}

static void metadata_is_what_the_protocol_does_not_use_adm_17(void **state)
{
    (void)state;
    const struct sl_h2_header fields[] = {
        field(":path", "/x"),
        field("te", "trailers"),
        field("content-type", "application/grpc"),
        field("grpc-timeout", "1S"),
        field("grpc-foo", "x"),
        field("host", "h"),
        field("UPPER", "x"),
        field("we!rd", "x"),
        field("user-agent", "u"),
        field("a", " \t v,w \t"),
        field("a", "\xC3\xA4"),
        field("b-bin", "YQ==,YWI,"),
        field("grpc-previous-rpc-attempts", "2"),
        field("grpc-trace-bin", "AA"),
    };
    struct sl_metadata metadata = { 0 };
    assert_int_equal(
        sl_headers_decode_metadata(fields, SL_COUNT(fields), &arena, &metadata), SL_OK);
    static const struct {
        const char *key, *value;
        size_t size;
    } expected[] = {
        { "user-agent", "u", 1 },
        { "a", "v,w", 3 },
        { "a", "\xC3\xA4", 2 },
        { "b-bin", "a", 1 },
        { "b-bin", "ab", 2 },
        { "b-bin", "", 0 },
        { "grpc-previous-rpc-attempts", "2", 1 },
        { "grpc-trace-bin", "\0", 1 },
    };
    assert_int_equal(metadata.n_items, SL_COUNT(expected));
    for (size_t i = 0; i < SL_COUNT(expected); i++) {
        assert_true(sl_slice_equals(metadata.items[i].key, expected[i].key));
        assert_int_equal(metadata.items[i].value.size, expected[i].size);
        assert_memory_equal(metadata.items[i].value.data, expected[i].value, expected[i].size);
    }
}

static void content_types_are_told_apart_adm_4_adm_5(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum sl_content_type type;
        const char *subtype;
    } cases[] = {
        { "application/grpc", SL_CONTENT_GRPC, "proto" },
        { "Application/GRPC ; charset=utf-8", SL_CONTENT_GRPC, "proto" },
        { "application/grpc;x", SL_CONTENT_GRPC, "proto" },
        { "application/grpc+proto", SL_CONTENT_GRPC, "proto" },
        { "application/grpc+Proto;a=b", SL_CONTENT_GRPC, "Proto" },
        { "application/grpc+json", SL_CONTENT_GRPC_OTHER, "json" },
        { "application/grpc+", SL_CONTENT_GRPC_OTHER, "" },
        { "application/grpc-web", SL_CONTENT_NOT_GRPC, "" },
        { "application/grpc-web+proto", SL_CONTENT_NOT_GRPC, "" },
        { "application/grpcfoo", SL_CONTENT_NOT_GRPC, "" },
        { "application/grp", SL_CONTENT_NOT_GRPC, "" },
        { "application/json", SL_CONTENT_NOT_GRPC, "" },
        { "", SL_CONTENT_NOT_GRPC, "" },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_slice subtype = { 0 };
        assert_int_equal(
            sl_headers_content_type(sl_slice_str(cases[i].value), &subtype), cases[i].type);
        assert_true(sl_slice_equals(subtype, cases[i].subtype));
    }
}

static void metadata_is_sent_clean_md_2_md_3(void **state)
{
    (void)state;
    const struct sl_metadatum items[] = {
        { sl_slice_str("a"), sl_slice_str("  plain ") },
        { sl_slice_str("b"), sl_slice_str("x\xC3\xA4\ny") },
        { sl_slice_str("c-bin"), sl_slice_of("a\0", 2) },
        { sl_slice_str("d-bin"), sl_slice_of(NULL, 0) },
        { sl_slice_str("authorization"), sl_slice_str("Bearer x") },
    };
    struct sl_header_list list = { 0 };
    assert_int_equal(sl_header_list_add_metadata(&list, &arena, items, SL_COUNT(items)), SL_OK);
    static const char *const expected[] = { "plain", "x???y", "YQA", "", "Bearer x" };
    for (size_t i = 0; i < SL_COUNT(expected); i++) {
        assert_true(sl_slice_equals(list.items[i].value, expected[i]));
        assert_int_equal(list.items[i].is_secret, i == 4);
    }
    assert_int_equal(sl_header_list_bytes(&list), 1 + 5 + 1 + 5 + 5 + 3 + 5 + 13 + 8 + 5 * 32);
}

static void binary_values_come_back(void **state)
{
    (void)state;
    uint8_t bytes[64];
    for (size_t size = 0; size < sizeof(bytes); size++) {
        bytes[size] = (uint8_t)(size * 37);
        const struct sl_slice value = sl_slice_of(bytes, size);
        struct sl_header_list list = { 0 };
        struct sl_slice back;
        assert_int_equal(sl_header_list_add_bin(&list, &arena, "x-bin", value), SL_OK);
        assert_null(memchr(list.items[0].value.data, '=', list.items[0].value.size));
        assert_int_equal(sl_headers_decode_bin(list.items[0].value, &arena, &back), SL_OK);
        assert_true(sl_slice_equal(back, value));
    }
}

static void long_lists_grow_and_a_full_arena_is_reported(void **state)
{
    (void)state;
    struct sl_header_list list = { 0 };
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(sl_header_list_add(&list, &arena, "n", sl_slice_str("v")), SL_OK);
    }
    assert_int_equal(sl_header_list_bytes(&list), 3400);
    struct sl_arena tiny;
    sl_arena_init(&tiny, 8);
    struct sl_header_list none = { 0 };
    assert_int_equal(
        sl_header_list_add(&none, &tiny, "n", sl_slice_str("v")), SL_RESOURCE_EXHAUSTED);
    sl_arena_done(&tiny);
}

static void what_carries_a_key_stays_out_of_the_tables_ng_17(void **state)
{
    (void)state;
    static const char *const secret[] = { "authorization", "proxy-authorization",
                                          "cookie",        "set-cookie",
                                          "api-key",       "x-goog-api-key" };
    static const char *const open[] = { "authorization-kind", "x-cookies", "key", "traceparent" };
    struct sl_metadatum items[SL_COUNT(secret) + SL_COUNT(open)];
    for (size_t i = 0; i < SL_COUNT(items); i++) {
        const bool is_secret = i < SL_COUNT(secret);
        items[i].key = sl_slice_str(is_secret ? secret[i] : open[i - SL_COUNT(secret)]);
        items[i].value = sl_slice_str("v");
    }
    struct sl_header_list list = { 0 };
    assert_int_equal(sl_header_list_add_metadata(&list, &arena, items, SL_COUNT(items)), SL_OK);
    for (size_t i = 0; i < SL_COUNT(items); i++) {
        assert_int_equal(list.items[i].is_secret, i < SL_COUNT(secret));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(protocol_fields_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(host_takes_the_place_of_authority_adm_7, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_base64_is_found_adm_6, setup, teardown),
        cmocka_unit_test_setup_teardown(
            metadata_is_what_the_protocol_does_not_use_adm_17, setup, teardown),
        cmocka_unit_test_setup_teardown(content_types_are_told_apart_adm_4_adm_5, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_is_sent_clean_md_2_md_3, setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_carries_a_key_stays_out_of_the_tables_ng_17, setup, teardown),
        cmocka_unit_test_setup_teardown(binary_values_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(
            long_lists_grow_and_a_full_arena_is_reported, setup, teardown),
    };
    return cmocka_run_group_tests_name("headers", tests, NULL, NULL);
}
