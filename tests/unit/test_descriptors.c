#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "c_package.sl.h"
#include "custom_options.sl.h"
#include "names.sl.h"
#include "runtime/base/mem.h"
#include "service/std/descriptors.h"

struct bench {
    struct sl_server *server;
    struct sl_descriptors descriptors;
};

static struct bench the_bench;

static int set_up(void **state)
{
    struct bench *bench = &the_bench;
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    assert_int_equal(sl_server_new(&options, &bench->server), SL_OK);
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__register(bench->server, NULL, NULL), SL_OK);
    assert_int_equal(sl_acme__out_v2__store__register(bench->server, NULL, NULL), SL_OK);
    assert_int_equal(sl_custom__options__custom__register(bench->server, NULL, NULL), SL_OK);
    assert_int_equal(sl_descriptors_init(&bench->descriptors, bench->server), SL_OK);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    sl_descriptors_done(&bench->descriptors);
    bench->server = sl_server_free(bench->server);
    return 0;
}

/* The name of the file; "": none. */
static const char *file_at(const struct bench *bench, size_t index)
{
    return index == bench->descriptors.n_files ? "" : bench->descriptors.files[index]->name;
}

static const char *file_of(const struct bench *bench, const char *symbol)
{
    return file_at(bench, sl_descriptors_find_symbol(&bench->descriptors, symbol));
}

static void every_file_that_services_need_is_there_once(void **state)
{
    const struct bench *bench = *state;
    static const char *const files[] = { "names.proto",
                                         "c_package.proto",
                                         "custom_options.proto",
                                         "google/protobuf/empty.proto",
                                         "protobuf-c/protobuf-c.proto",
                                         "no_generate.proto",
                                         "google/protobuf/descriptor.proto" };
    assert_int_equal(bench->descriptors.n_files, SL_COUNT(files));
    for (size_t i = 0; i < SL_COUNT(files); i++) {
        const size_t index = sl_descriptors_find_name(&bench->descriptors, files[i]);
        assert_string_equal(file_at(bench, index), files[i]);
    }
    assert_string_equal(
        file_at(bench, sl_descriptors_find_name(&bench->descriptors, "other.proto")), "");
}

static void symbols_of_every_kind_are_found_SV_6(void **state)
{
    const struct bench *bench = *state;
    static const char *const symbols[][2] = {
        { "my_pkg.v1Beta.AgentAPI", "names.proto" },           /* service */
        { "my_pkg.v1Beta.AgentAPI.GetURLFor", "names.proto" }, /* method */
        { "my_pkg.v1Beta.HTTPRequest", "names.proto" },        /* message */
        { "my_pkg.v1Beta.HTTPRequest.InnerURL.deepest_one", "names.proto" },
        { "my_pkg.v1Beta.HTTPRequest.InnerURL.deepest_one.x2Y", "names.proto" }, /* field */
        { "my_pkg.v1Beta.HTTPRequest._timeout_ms", "names.proto" },              /* oneof */
        { "acme.inside.v1.Ask.Again", "c_package.proto" },
        { "custom.options.Holder.Level", "custom_options.proto" },  /* enum */
        { "custom.options.Holder.LOW", "custom_options.proto" },    /* its value, beside it */
        { "custom.options.first", "custom_options.proto" },         /* extension */
        { "custom.options.Holder.second", "custom_options.proto" }, /* nested */
        { "hidden.mark", "no_generate.proto" },
        { "google.protobuf.Empty", "google/protobuf/empty.proto" },
        { "google.protobuf.FieldDescriptorProto.TYPE_INT32", "google/protobuf/descriptor.proto" },
    };
    for (size_t i = 0; i < SL_COUNT(symbols); i++) {
        assert_string_equal(file_of(bench, symbols[i][0]), symbols[i][1]);
    }
}

static void what_is_no_symbol_is_not_found(void **state)
{
    const struct bench *bench = *state;
    static const char *const symbols[] = {
        "",
        ".",
        "my_pkg",
        "my_pkg.v1Beta",
        "my_pkg.v1Beta.",
        "my_pkg.v1Beta.HTTP",
        "my_pkg.v1Beta.HTTPRequest.",
        "my_pkg.v1Beta.HTTPRequest.url.deepest",
        "HTTPRequest",
        ".my_pkg.v1Beta.HTTPRequest",
        "custom.options.Holder.Level.LOW",
        "my_pkg.v1Beta.AgentAPI.GetURLFor.x",
        "my_pkg.v1Beta..HTTPRequest",
    };
    for (size_t i = 0; i < SL_COUNT(symbols); i++) {
        assert_string_equal(file_of(bench, symbols[i]), "");
    }
}

static void messages_are_told_from_other_symbols(void **state)
{
    const struct bench *bench = *state;
    const struct sl_descriptors *all = &bench->descriptors;
    assert_true(sl_descriptors_has_message(all, "custom.options.Extended"));
    assert_true(sl_descriptors_has_message(all, "my_pkg.v1Beta.HTTPRequest.InnerURL"));
    assert_false(sl_descriptors_has_message(all, "custom.options.Custom"));
    assert_false(sl_descriptors_has_message(all, "custom.options.Holder.Level"));
    assert_false(sl_descriptors_has_message(all, "custom.options.Extended.one"));
    assert_false(sl_descriptors_has_message(all, "custom.options"));
}

static void add_up(int32_t number, void *user_data)
{
    int32_t *sum = user_data;
    *sum = *sum * 1000 + number;
}

static void extensions_are_found_by_type_and_number_SV_6(void **state)
{
    const struct bench *bench = *state;
    const struct sl_descriptors *all = &bench->descriptors;
    const char *type = "custom.options.Extended";
    assert_string_equal(
        file_at(bench, sl_descriptors_find_extension(all, type, 100)), "custom_options.proto");
    assert_string_equal(
        file_at(bench, sl_descriptors_find_extension(all, type, 101)), "custom_options.proto");
    assert_string_equal(file_at(bench, sl_descriptors_find_extension(all, type, 102)), "");
    assert_string_equal(
        file_at(bench, sl_descriptors_find_extension(all, "google.protobuf.MethodOptions", 50001)),
        "no_generate.proto");
    assert_string_equal(
        file_at(bench, sl_descriptors_find_extension(all, "custom.options.Holder", 100)), "");
    int32_t sum = 0;
    sl_descriptors_each_extension(all, type, add_up, &sum);
    assert_true(sum == 100101 || sum == 101100);
    sum = 0;
    sl_descriptors_each_extension(all, "custom.options", add_up, &sum);
    assert_int_equal(sum, 0);
}

/* A table that was damaged is read no further, in a block of exactly its size. */
static void cut_tables_are_harmless(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    const struct sl_slice whole = sl_custom_options_proto__file.bytes;
    assert_true(whole.size <= sizeof(bytes));
    for (size_t size = 0; size < whole.size; size++) {
        uint8_t *copy = bytes + sizeof(bytes) - size;
        memcpy(copy, whole.data, size);
        const struct sl_file_desc file = { .name = "cut", .bytes = { copy, size } };
        const struct sl_file_desc *files[] = { &file };
        const struct sl_descriptors cut = { .files = files, .n_files = 1 };
        assert_in_range(sl_descriptors_find_symbol(&cut, "custom.options.Holder.LOW"), 0, 1);
        assert_in_range(sl_descriptors_find_extension(&cut, "custom.options.Extended", 101), 0, 1);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_file_that_services_need_is_there_once),
        CASE(symbols_of_every_kind_are_found_SV_6),
        CASE(what_is_no_symbol_is_not_found),
        CASE(messages_are_told_from_other_symbols),
        CASE(extensions_are_found_by_type_and_number_SV_6),
        CASE(cut_tables_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
