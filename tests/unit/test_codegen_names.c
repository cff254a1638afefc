#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/names.h"
#include "codegen/template.h"

static void assert_dotted(enum sl_name_style style, const char *name, const char *expected)
{
    struct sl_text text = { 0 };
    sl_name_add_dotted(&text, style, name);
    assert_string_equal(sl_text_get(&text), expected);
    sl_text_done(&text);
}

/* The examples of PB-9, measured with protoc-gen-c. */
static void names_are_made_as_protobuf_c_makes_them_PB_9(void **state)
{
    (void)state;
    const char *name = "my_pkg.v1Beta.HTTPServer.InnerURL";
    assert_dotted(SL_NAME_TYPE, name, "MyPkg__V1Beta__HTTPServer__InnerURL");
    assert_dotted(SL_NAME_LOWER, name, "my_pkg__v1_beta__httpserver__inner_url");
    assert_dotted(SL_NAME_UPPER, name, "MY_PKG__V1_BETA__HTTPSERVER__INNER_URL");
    assert_dotted(SL_NAME_LOWER, "AgentAPI", "agent_api");
    assert_dotted(SL_NAME_LOWER, "GetURLFor", "get_urlfor");
    assert_dotted(SL_NAME_LOWER, "Foo_Bar2X", "foo__bar2_x");
    assert_dotted(SL_NAME_TYPE, "foo_barBaz_2q", "FooBarBaz2q");
    assert_dotted(SL_NAME_LOWER, "", "");
    assert_dotted(SL_NAME_LOWER, ".a.B", "a__b");
}

static void assert_file(const char *name, const char *expected)
{
    struct sl_text text = { 0 };
    sl_name_add_file(&text, name);
    assert_string_equal(sl_text_get(&text), expected);
    sl_text_done(&text);
}

static void file_names_become_identifiers_that_no_other_file_has(void **state)
{
    (void)state;
    assert_file("foo/v1/agent.proto", "foo__v1__agent_proto");
    assert_file("my_file.proto", "my_file_proto");
    static const char *const odd[] = { "a-b.proto",          "a.b.proto",  "a_/b.proto",
                                       "a__b.proto",         "_a.proto",   "a.protodevel",
                                       "protobuf-c/c.proto", "a/b_.proto", "a" };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct sl_text text = { 0 };
        sl_name_add_file(&text, odd[i]);
        const char *hash = strrchr(sl_text_get(&text), '_');
        assert_non_null(hash);
        assert_int_equal(strspn(hash + 1, "0123456789abcdef"), 8);
        assert_int_equal(strlen(hash + 1), 8);
        sl_text_done(&text);
    }
}

static void a_base_is_the_name_without_its_ending(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        { "a/b.proto", "a/b" }, { "a.b.protodevel", "a.b" }, { "a", "a" }, { "a.c", "a.c" }
    };
    for (size_t i = 0; i < 4; i++) {
        struct sl_text text = { 0 };
        sl_name_add_file_base(&text, names[i][0]);
        assert_string_equal(sl_text_get(&text), names[i][1]);
        sl_text_done(&text);
    }
}

static void literals_cannot_end_a_string_or_a_comment(void **state)
{
    (void)state;
    struct sl_text text = { 0 };
    sl_name_add_escaped(&text, "a/b.proto\"\\\n*/?\x80");
    assert_string_equal(sl_text_get(&text), "a/b.proto\\042\\134\\012\\052/\\077\\200");
    sl_text_done(&text);
}

static void comments_stay_comments(void **state)
{
    (void)state;
    struct sl_text text = { 0 };
    sl_name_add_comment(&text, " one */ two /* \nthree*\r\n\n/four\\\n");
    assert_string_equal(
        sl_text_get(&text), "    /* one * / two / *\n     * three*\n     *\n     * /four\\ */\n");
    sl_text_done(&text);
}

static void words_that_cannot_name_a_member_are_known(void **state)
{
    (void)state;
    static const char *const reserved[] = { "alignas",     "and",    "default", "int",   "register",
                                            "struct_size", "switch", "while",   "xor_eq" };
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        assert_true(sl_name_is_reserved(reserved[i]));
    }
    assert_false(sl_name_is_reserved("get"));
    assert_false(sl_name_is_reserved(""));
    assert_false(sl_name_is_reserved("zzz"));
}

static void every_word_is_found_so_the_list_is_sorted(void **state)
{
    (void)state;
    static const char *const keywords =
        "auto break case char const continue default do double else enum extern float for goto if "
        "inline int long register restrict return short signed sizeof static struct switch typedef "
        "union unsigned void volatile while class delete new private protected public this throw "
        "template try catch using virtual namespace operator friend explicit export mutable bool "
        "true false or not linux unix errno stdin stdout stderr noreturn typeof typeid typename";
    char copy[1024];
    (void)strncpy(copy, keywords, sizeof(copy) - 1);
    copy[sizeof(copy) - 1] = '\0';
    char *rest = copy;
    for (char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " ")) {
        if (!sl_name_is_reserved(word)) {
            fail_msg("%s is missing", word);
        }
    }
}

static void templates_replace_each_variable_once(void **state)
{
    (void)state;
    const struct sl_variable variables[] = { { "a", "<$b$>" }, { "b", "" }, { NULL, NULL } };
    struct sl_text text = { 0 };
    sl_template_add(&text, variables, "$a$ and $b$$a$.");
    assert_false(text.has_failed);
    assert_string_equal(sl_text_get(&text), "<$b$> and <$b$>.");
    sl_text_done(&text);
}

static void templates_refuse_what_is_no_variable(void **state)
{
    (void)state;
    const struct sl_variable variables[] = { { "a", "1" }, { NULL, NULL } };
    static const char *const bad[] = { "$c$", "$", "x $a", "$a$ $ab$" };
    for (size_t i = 0; i < 4; i++) {
        struct sl_text text = { 0 };
        sl_template_add(&text, variables, bad[i]);
        assert_true(text.has_failed);
        sl_text_done(&text);
    }
}

static void a_text_that_failed_stays_failed(void **state)
{
    (void)state;
    struct sl_text text = { 0 };
    sl_text_add(&text, "before");
    sl_text_add_bytes(&text, "", SL_TEXT_MAX);
    assert_true(text.has_failed);
    sl_text_add(&text, "after");
    assert_string_equal(sl_text_get(&text), "before");
    assert_null(sl_text_take(&text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_made_as_protobuf_c_makes_them_PB_9),
        cmocka_unit_test(file_names_become_identifiers_that_no_other_file_has),
        cmocka_unit_test(a_base_is_the_name_without_its_ending),
        cmocka_unit_test(literals_cannot_end_a_string_or_a_comment),
        cmocka_unit_test(comments_stay_comments),
        cmocka_unit_test(words_that_cannot_name_a_member_are_known),
        cmocka_unit_test(every_word_is_found_so_the_list_is_sorted),
        cmocka_unit_test(templates_replace_each_variable_once),
        cmocka_unit_test(templates_refuse_what_is_no_variable),
        cmocka_unit_test(a_text_that_failed_stays_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
