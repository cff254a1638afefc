#include "codegen/names.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Without the locale: proto names are ASCII. */
static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_upper(c) || is_lower(c) || is_digit(c);
}

static char to_upper(char c)
{
    if (is_lower(c)) {
        c = (char)(c - 'a' + 'A');
    }
    return c;
}

static char to_lower(char c)
{
    if (is_upper(c)) {
        c = (char)(c - 'A' + 'a');
    }
    return c;
}

static char keep(char c)
{
    return c;
}

static void add_char(struct sl_text *text, char c)
{
    sl_text_add_bytes(text, &c, 1);
}

/* A word begins at a capital after anything that is none; runs of capitals stay together. */
static void add_words(struct sl_text *text, bool wants_upper, const char *part, size_t size)
{
    bool was_upper = true;
    for (size_t i = 0; i < size; i++) {
        if (is_upper(part[i]) && !was_upper) {
            add_char(text, '_');
        }
        was_upper = is_upper(part[i]);
        char (*const convert)(char c) = wants_upper ? to_upper : to_lower;
        add_char(text, convert(part[i]));
    }
}

/* A capital at the start and in place of each underscore; the rest as it is. */
static void add_type(struct sl_text *text, const char *part, size_t size)
{
    bool is_start = true;
    for (size_t i = 0; i < size; i++) {
        if (part[i] == '_') {
            is_start = true;
        } else {
            char (*const convert)(char c) = is_start ? to_upper : keep;
            add_char(text, convert(part[i]));
            is_start = false;
        }
    }
}

static void add_sized(struct sl_text *text, enum sl_name_style style, const char *part, size_t size)
{
    switch (style) {
    case SL_NAME_LOWER:
        add_words(text, false, part, size);
        break;
    case SL_NAME_UPPER:
        add_words(text, true, part, size);
        break;
    case SL_NAME_TYPE:
        add_type(text, part, size);
        break;
    }
}

void sl_name_add_part(struct sl_text *text, enum sl_name_style style, const char *part)
{
    add_sized(text, style, part, strlen(part));
}

void sl_name_add_dotted(struct sl_text *text, enum sl_name_style style, const char *dotted)
{
    bool is_first = true;
    while (*dotted != '\0') {
        const size_t size = strcspn(dotted, ".");
        if (size > 0) {
            sl_text_add(text, is_first ? "" : "__");
            add_sized(text, style, dotted, size);
            is_first = false;
        }
        dotted += size;
        dotted += *dotted == '.' ? 1 : 0;
    }
}

static bool ends_with(const char *text, const char *end)
{
    const size_t size = strlen(text);
    const size_t end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static size_t base_size(const char *file_name)
{
    const size_t size = strlen(file_name);
    if (ends_with(file_name, ".protodevel")) {
        return size - strlen(".protodevel");
    }
    return size - (ends_with(file_name, ".proto") ? strlen(".proto") : 0);
}

/* True when no other name gives the same: words joined by single '_' or '/', then ".proto". */
static bool is_plain_file_name(const char *file_name)
{
    const size_t size = base_size(file_name);
    if (strcmp(file_name + size, ".proto") != 0) {
        return false;
    }
    bool was_word = false;
    for (size_t i = 0; i < size; i++) {
        const char c = file_name[i];
        if (!is_word(c) && (!was_word || (c != '_' && c != '/'))) {
            return false;
        }
        was_word = is_word(c);
    }
    return was_word;
}

/* FNV-1a. */
static uint32_t hash(const char *text)
{
    uint32_t value = UINT32_C(2166136261);
    for (; *text != '\0'; text++) {
        value = (value ^ (uint8_t)*text) * UINT32_C(16777619);
    }
    return value;
}

void sl_name_add_file(struct sl_text *text, const char *file_name)
{
    for (const char *c = file_name; *c != '\0'; c++) {
        if (*c == '/') {
            sl_text_add(text, "__");
        } else {
            add_char(text, (char)(is_word(*c) ? *c : '_'));
        }
    }
    if (!is_plain_file_name(file_name)) {
        sl_text_addf(text, "_%08x", (unsigned int)hash(file_name));
    }
}

void sl_name_add_file_base(struct sl_text *text, const char *file_name)
{
    sl_text_add_bytes(text, file_name, base_size(file_name));
}

void sl_name_add_escaped(struct sl_text *text, const char *value)
{
    for (; *value != '\0'; value++) {
        if (is_word(*value) || strchr("_./- ", *value) != NULL) {
            add_char(text, *value);
        } else {
            sl_text_addf(text, "\\%03o", (unsigned int)(uint8_t)*value);
        }
    }
}

/* Without what would end the comment or begin another. */
static void add_comment_line(struct sl_text *text, const char *line, size_t size)
{
    char previous = ' ';
    for (size_t i = 0; i < size; i++) {
        if ((line[i] == '/' && previous == '*') || (line[i] == '*' && previous == '/')) {
            add_char(text, ' ');
        }
        add_char(text, line[i]);
        previous = line[i];
    }
}

void sl_name_add_comment(struct sl_text *text, const char *comment)
{
    const char *separator = "    /*";
    while (*comment != '\0') {
        const size_t whole = strcspn(comment, "\n");
        size_t size = whole;
        while (size > 0 && strchr(" \t\r", comment[size - 1]) != NULL) {
            size--;
        }
        sl_text_add(text, separator);
        if (size > 0 && *comment != ' ') {
            add_char(text, ' ');
        }
        add_comment_line(text, comment, size);
        separator = "\n     *";
        comment += whole;
        comment += *comment == '\n' ? 1 : 0;
    }
    sl_text_add(text, " */\n");
}

static int compare_words(const void *key, const void *element)
{
    return strcmp(key, *(const char *const *)element);
}

bool sl_name_is_reserved(const char *name)
{
    static const char *const words[] = {
        /* sorted */
        "alignas",      "alignof",
        "and",          "and_eq",
        "asm",          "auto",
        "bitand",       "bitor",
        "bool",         "break",
        "case",         "catch",
        "char",         "class",
        "compl",        "complex",
        "concept",      "const",
        "const_cast",   "consteval",
        "constexpr",    "constinit",
        "continue",     "decltype",
        "default",      "delete",
        "do",           "double",
        "dynamic_cast", "else",
        "enum",         "errno",
        "explicit",     "export",
        "extern",       "false",
        "float",        "for",
        "friend",       "goto",
        "if",           "imaginary",
        "inline",       "int",
        "linux",        "long",
        "mutable",      "namespace",
        "new",          "noexcept",
        "noreturn",     "not",
        "not_eq",       "nullptr",
        "operator",     "or",
        "or_eq",        "private",
        "protected",    "public",
        "register",     "reinterpret_cast",
        "requires",     "restrict",
        "return",       "short",
        "signed",       "sizeof",
        "static",       "static_assert",
        "static_cast",  "stderr",
        "stdin",        "stdout",
        "struct",       "struct_size",
        "switch",       "template",
        "this",         "thread_local",
        "throw",        "true",
        "try",          "typedef",
        "typeid",       "typename",
        "typeof",       "union",
        "unix",         "unsigned",
        "using",        "virtual",
        "void",         "volatile",
        "wchar_t",      "while",
        "xor",          "xor_eq",
    };
    return bsearch(
               name, words, sizeof(words) / sizeof(words[0]), sizeof(words[0]), compare_words) !=
           NULL;
}
