#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"

static struct sl_conf *parse(const char *text)
{
    struct sl_conf *conf = NULL;
    assert_int_equal(sl_conf_parse(sl_slice_str(text), "a.yaml", &conf), SL_OK);
    return conf;
}

/* Parses `text`, which must give exactly these errors. */
static void expect(const char *text, const char *const *errors)
{
    struct sl_conf *conf = parse(text);
    size_t n = 0;
    for (; errors[n] != NULL; n++) {
        assert_true(n < sl_conf_n_errors(conf));
        assert_string_equal(sl_conf_error_at(conf, n), errors[n]);
    }
    assert_int_equal(sl_conf_n_errors(conf), n);
    sl_conf_free(conf);
}

#define EXPECT(text, ...) expect((text), (const char *const[]){ __VA_ARGS__, NULL })

static void documents_become_trees_with_positions(void **state)
{
    (void)state;
    struct sl_conf *conf = parse("name: echo\nspec:\n  tools:\n    - x\n    - name: 'y z'\n"
                                 "---\n[1, \"2\"]\n");
    assert_int_equal(sl_conf_n_errors(conf), 0);
    assert_int_equal(sl_conf_n_documents(conf), 2);
    const struct sl_conf_node *root = sl_conf_document(conf, 0);
    assert_int_equal(sl_conf_kind(root), SL_CONF_MAP);
    assert_string_equal(sl_conf_key_at(root, 0), "name");
    const struct sl_conf_node *tools = sl_conf_get_list(
        conf, sl_conf_get_map(conf, root, "spec", SL_REQUIRED), "tools", SL_REQUIRED);
    assert_int_equal(sl_conf_size(tools), 2);
    const struct sl_conf_node *second = sl_conf_at(tools, 1);
    assert_string_equal(sl_conf_path(second), "spec.tools[1]");
    const struct sl_conf_node *name = sl_conf_get(conf, second, "name", SL_REQUIRED);
    assert_string_equal(sl_conf_text(name), "y z");
    assert_string_equal(sl_conf_path(name), "spec.tools[1].name");
    assert_true(sl_conf_is_quoted(name));
    assert_int_equal(sl_conf_line(name), 5);
    assert_int_equal(sl_conf_column(name), 13);
    assert_null(sl_conf_at(tools, 2));
    assert_null(sl_conf_key_at(tools, 0));
    assert_null(sl_conf_document(conf, 2));
    assert_int_equal(sl_conf_kind(sl_conf_document(conf, 1)), SL_CONF_LIST);
    sl_conf_free(conf);
}

static void files_without_content_have_no_documents(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "# only a comment\n", "\n\n", "\xEF\xBB\xBF" };
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        struct sl_conf *conf = parse(texts[i]);
        assert_int_equal(sl_conf_n_errors(conf), 0);
        assert_int_equal(sl_conf_n_documents(conf), 0);
        sl_conf_free(conf);
    }
    assert_null(sl_conf_free(NULL));
}

static void what_yaml_has_too_much_of_is_refused(void **state)
{
    (void)state;
    EXPECT("a: &x 1\nb: 2\n", "a.yaml:1:4: anchors are not allowed");
    EXPECT("a: 1\nb: *x\n", "a.yaml:2:4: aliases are not allowed");
    EXPECT("a: !!str 1\n", "a.yaml:1:4: tags are not allowed");
    EXPECT(
        "a: !t {b: 1}\nc: &d [1]\n", "a.yaml:1:4: tags are not allowed",
        "a.yaml:2:4: anchors are not allowed");
    EXPECT("<<: {a: 1}\n", "a.yaml:1:1: merge keys are not allowed");
    EXPECT("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: a: the key is there already, in line 1");
    EXPECT("? [1]\n: 2\n", "a.yaml:1:3: a key must be a plain word");
    EXPECT("*x : 2\n", "a.yaml:1:1: aliases are not allowed");
    EXPECT("a: \"x\\0y\"\n", "a.yaml:1:4: a text must not contain a NUL character");
}

static void syntax_errors_have_line_and_column(void **state)
{
    (void)state;
    static const char *const texts[] = { "a: [1, 2\n", "a: b: c\n",
                                         "\ta: 1\n",   "a: \"x\n",
                                         "{",          "a: 1\n b: 2\n",
                                         "a: \xff\n",  "%YAML 9\n---\na: 1\n",
                                         "a: @x\n",    "- 1\nb: 2\n" };
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        struct sl_conf *conf = parse(texts[i]);
        assert_true(sl_conf_n_errors(conf) > 0);
        assert_memory_equal(sl_conf_error_at(conf, 0), "a.yaml:", 7);
        assert_in_range(sl_conf_error_at(conf, 0)[7], '1', '9');
        sl_conf_free(conf);
    }
}

static void nesting_and_size_have_limits(void **state)
{
    (void)state;
    char deep[80];
    for (size_t depth = 31; depth <= 34; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        deep[2 * depth] = '\0';
        struct sl_conf *conf = parse(deep);
        assert_int_equal(sl_conf_n_errors(conf), depth <= 32 ? 0 : 1);
        sl_conf_free(conf);
    }
    const size_t size = (1 << 20) + 1;
    char *large = sl_alloc(size);
    assert_non_null(large);
    memset(large, '#', size);
    struct sl_conf *conf = NULL;
    assert_int_equal(sl_conf_parse(sl_slice_of(large, size), "f", &conf), SL_OK);
    assert_int_equal(sl_conf_n_errors(conf), 1);
    assert_string_equal(sl_conf_error_at(conf, 0), "f: larger than 1 MiB");
    conf = sl_conf_free(conf);
    assert_int_equal(sl_conf_parse(sl_slice_of(large, size - 1), "f", &conf), SL_OK);
    assert_int_equal(sl_conf_n_errors(conf), 0);
    conf = sl_conf_free(conf);
    for (size_t i = 0; i < size - 1; i += 2) { /* more values than one file may have */
        large[i] = 'a';
        large[i + 1] = ',';
    }
    large[0] = '[';
    assert_int_equal(sl_conf_parse(sl_slice_of(large, size - 1), "f", &conf), SL_OK);
    assert_int_equal(sl_conf_n_errors(conf), 1);
    sl_conf_free(conf);
    sl_free(large);
}

static void getters_read_values_of_their_type(void **state)
{
    (void)state;
    static const char *const names[] = { "low", "high", NULL };
    struct sl_conf *conf = parse("s: no\nn: 42\nf: 1.5\nb: true\nsize: 4MiB\ntime: 10s\ne: high\n"
                                 "q: \"null\"\nnothing:\nalso: ~\n");
    const struct sl_conf_node *map = sl_conf_document(conf, 0);
    const char *s = NULL;
    uint64_t n = 0;
    uint64_t size = 0;
    uint64_t time = 0;
    double f = 0;
    bool b = false;
    int e = -1;
    assert_true(sl_conf_str(conf, map, "s", SL_REQUIRED, &s));
    assert_string_equal(s, "no");
    assert_true(sl_conf_u64(conf, map, "n", 1, 42, &n));
    assert_int_equal(n, 42);
    assert_true(sl_conf_double(conf, map, "f", 0, 2, &f));
    assert_true(f == 1.5);
    assert_true(sl_conf_bool(conf, map, "b", &b));
    assert_true(b);
    assert_true(sl_conf_bytes(conf, map, "size", 0, 1 << 30, &size));
    assert_int_equal(size, 4 << 20);
    assert_true(sl_conf_duration_ms(conf, map, "time", 0, 60000, &time));
    assert_int_equal(time, 10000);
    assert_true(sl_conf_enum(conf, map, "e", names, &e));
    assert_int_equal(e, 1);
    assert_true(sl_conf_str(conf, map, "q", SL_REQUIRED, &s));
    assert_string_equal(s, "null");
    s = "kept";
    assert_false(sl_conf_str(conf, map, "nothing", SL_OPTIONAL, &s));
    assert_false(sl_conf_str(conf, map, "absent", SL_OPTIONAL, &s));
    assert_false(sl_conf_str(conf, NULL, "s", SL_REQUIRED, &s));
    assert_string_equal(s, "kept");
    sl_conf_allow(conf, map, "also");
    sl_conf_end(conf, map);
    sl_conf_end(conf, NULL);
    assert_int_equal(sl_conf_n_errors(conf), 0);
    sl_conf_free(conf);
}

static void wrong_values_are_named_with_their_place(void **state)
{
    (void)state;
    static const char *const names[] = { "low", "mid", "high", NULL };
    struct sl_conf *conf = parse("a:\n  n: 43\n  m: '4'\n  f: x\n  b: yes\n  size: 4MB\n"
                                 "  time: [1]\n  e: none\n  s: {}\n  empty:\n  l: 1\n");
    const struct sl_conf_node *map =
        sl_conf_get_map(conf, sl_conf_document(conf, 0), "a", SL_REQUIRED);
    uint64_t n = 7;
    double f = 7;
    bool b = false;
    int e = 7;
    const char *s = NULL;
    assert_false(sl_conf_u64(conf, map, "n", 1, 42, &n));
    assert_false(sl_conf_u64(conf, map, "m", 1, 42, &n));
    assert_false(sl_conf_double(conf, map, "f", 0, 2, &f));
    assert_false(sl_conf_bool(conf, map, "b", &b));
    assert_false(sl_conf_bytes(conf, map, "size", 1, 100, &n));
    assert_false(sl_conf_duration_ms(conf, map, "time", 0, 100, &n));
    assert_false(sl_conf_enum(conf, map, "e", names, &e));
    assert_false(sl_conf_str(conf, map, "s", SL_REQUIRED, &s));
    assert_false(sl_conf_str(conf, map, "empty", SL_REQUIRED, &s));
    assert_null(sl_conf_get_list(conf, map, "l", SL_OPTIONAL));
    assert_null(sl_conf_get_map(conf, map, "missing", SL_REQUIRED));
    sl_conf_error(conf, NULL, "the file is %s", "odd");
    static const char *const expected[] = {
        "a.yaml:2:6: a.n: \"43\" is not a whole number from 1 to 42",
        "a.yaml:3:6: a.m: must be a number, without quotes",
        "a.yaml:4:6: a.f: \"x\" is not a number from 0 to 2",
        "a.yaml:5:6: a.b: \"yes\" is neither true nor false",
        ("a.yaml:6:9: a.size: \"4MB\" is not a size from 1 to 100 bytes, such as 512, 256KiB or "
         "4MiB"),
        "a.yaml:7:9: a.time: must be a time",
        "a.yaml:8:6: a.e: \"none\" is not one of low, mid or high",
        "a.yaml:9:6: a.s: must be a text",
        "a.yaml:10:9: a.empty: must have a value",
        "a.yaml:11:6: a.l: must be a list",
        "a.yaml:2:3: a: 'missing' is missing",
        "a.yaml: the file is odd",
    };
    assert_int_equal(sl_conf_n_errors(conf), SL_COUNT(expected));
    for (size_t i = 0; i < SL_COUNT(expected); i++) {
        assert_string_equal(sl_conf_error_at(conf, i), expected[i]);
    }
    assert_int_equal(n + (uint64_t)f + (uint64_t)e, 21); /* nothing was touched */
    sl_conf_free(conf);
}

static void unknown_keys_are_named_with_the_nearest_known_one(void **state)
{
    (void)state;
    struct sl_conf *conf = parse("nmae: x\nfrobnicate: 1\n\"odd key\": 2\nname: y\n");
    const struct sl_conf_node *map = sl_conf_document(conf, 0);
    const char *s = NULL;
    (void)sl_conf_str(conf, map, "name", SL_REQUIRED, &s);
    (void)sl_conf_str(conf, map, "model", SL_OPTIONAL, &s);
    sl_conf_end(conf, map);
    sl_conf_end(conf, map); /* said once */
    assert_int_equal(sl_conf_n_errors(conf), 3);
    assert_string_equal(
        sl_conf_error_at(conf, 0), "a.yaml:1:1: nmae: unknown key; did you mean 'name'?");
    assert_string_equal(sl_conf_error_at(conf, 1), "a.yaml:2:1: frobnicate: unknown key");
    assert_string_equal(sl_conf_error_at(conf, 2), "a.yaml:3:1: \"odd key\": unknown key");
    sl_conf_free(conf);
}

static void something_else_than_a_map_is_told_once(void **state)
{
    (void)state;
    struct sl_conf *conf = parse("- 1\n");
    const struct sl_conf_node *list = sl_conf_document(conf, 0);
    const char *s = NULL;
    assert_false(sl_conf_str(conf, list, "a", SL_REQUIRED, &s));
    assert_false(sl_conf_str(conf, list, "b", SL_REQUIRED, &s));
    sl_conf_end(conf, list);
    assert_int_equal(sl_conf_n_errors(conf), 1);
    assert_string_equal(sl_conf_error_at(conf, 0), "a.yaml:1:1: must be a map");
    sl_conf_free(conf);
}

static void a_tree_becomes_json_with_types(void **state)
{
    (void)state;
    struct sl_conf *conf = parse("a: 1\nb: '1'\nc: true\nd: null\ne: [1.5, -2, 007, +1, no, ~]\n"
                                 "f: {g: |\n  x\n}\n");
    sl_conf_free(conf);
    conf = parse("a: 1\nb: '1'\nc: true\nd: null\ne: [1.5, -2, 007, +1, no, ~, 1e2]\nf: |\n  x\n"
                 "g: 99999999999999999999\nh:\n");
    assert_int_equal(sl_conf_n_errors(conf), 0);
    json_t *json = sl_conf_to_json(sl_conf_document(conf, 0));
    char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(
        text, "{\"a\":1,\"b\":\"1\",\"c\":true,\"d\":null,\"e\":[1.5,-2,\"007\",\"+1\",\"no\",null,"
              "100.0],"
              "\"f\":\"x\\n\",\"g\":1e20,\"h\":null}");
    free(text);
    json_decref(json);
    sl_conf_free(conf);
}

static void very_many_errors_are_bounded(void **state)
{
    (void)state;
    char *text = sl_alloc(200000);
    size_t size = 0;
    for (int i = 0; i < 5000; i++) {
        size += (size_t)snprintf(text + size, 200000 - size, "k%d: &a 1\n", i);
    }
    struct sl_conf *conf = NULL;
    assert_int_equal(sl_conf_parse(sl_slice_of(text, size), "f", &conf), SL_OK);
    assert_int_equal(sl_conf_n_errors(conf), 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_memory_equal(sl_conf_error_at(conf, i), "f:", 2);
    }
    sl_conf_free(conf);
    sl_free(text);
}

static void files_are_read_and_what_is_no_file_is_refused(void **state)
{
    (void)state;
    char folder[] = "/tmp/sl_test_conf_XXXXXX";
    char path[64];
    struct sl_conf *conf = NULL;
    struct sl_error err = { .status = SL_OK };
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/a.yaml", folder);
    assert_int_equal(sl_conf_read(path, &conf, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
    assert_true(err.sys_errno != 0);
    assert_int_equal(sl_conf_read(folder, &conf, &err), SL_INVALID_ARGUMENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(sl_conf_read(path, &conf, NULL), SL_INVALID_ARGUMENT);
    assert_int_equal(unlink(path), 0);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs("a: 1\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(sl_conf_read(path, &conf, &err), SL_OK);
    assert_int_equal(sl_conf_n_documents(conf), 1);
    conf = sl_conf_free(conf);
    assert_int_equal(truncate(path, (1 << 20) + 1), 0);
    assert_int_equal(sl_conf_read(path, &conf, &err), SL_INVALID_ARGUMENT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static int n_allowed;

static bool allow_some(size_t size)
{
    (void)size;
    return n_allowed-- > 0;
}

static void without_memory_a_parse_fails_and_leaks_nothing(void **state)
{
    (void)state;
    static const char text[] = "a: {b: [1, 2, 3], c: x}\nd: 1\nd: 2\n---\n- 1\n---\n- 2\n";
    enum sl_status status = SL_RESOURCE_EXHAUSTED;
    for (int k = 0; status == SL_RESOURCE_EXHAUSTED; k++) {
        struct sl_conf *conf = NULL;
        n_allowed = k;
        sl_mem_set_gate(allow_some);
        status = sl_conf_parse(sl_slice_str(text), "f", &conf);
        sl_mem_set_gate(NULL);
        if (status == SL_OK) {
            assert_int_equal(sl_conf_n_errors(conf), 1);
            assert_true(k > 3);
        }
        sl_conf_free(conf);
    }
    assert_int_equal(status, SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_become_trees_with_positions),
        cmocka_unit_test(files_without_content_have_no_documents),
        cmocka_unit_test(what_yaml_has_too_much_of_is_refused),
        cmocka_unit_test(syntax_errors_have_line_and_column),
        cmocka_unit_test(nesting_and_size_have_limits),
        cmocka_unit_test(getters_read_values_of_their_type),
        cmocka_unit_test(wrong_values_are_named_with_their_place),
        cmocka_unit_test(unknown_keys_are_named_with_the_nearest_known_one),
        cmocka_unit_test(something_else_than_a_map_is_told_once),
        cmocka_unit_test(a_tree_becomes_json_with_types),
        cmocka_unit_test(very_many_errors_are_bounded),
        cmocka_unit_test(files_are_read_and_what_is_no_file_is_refused),
        cmocka_unit_test(without_memory_a_parse_fails_and_leaks_nothing),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
