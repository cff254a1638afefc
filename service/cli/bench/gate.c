#include "service/cli/bench/gate.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"

static const struct {
    const char *text;
    enum sl_bench_operator how;
} operators[] = {
    /* the longer ones first: ">=" begins with ">" */
    { ">=", SL_BENCH_AT_LEAST }, { "<=", SL_BENCH_AT_MOST }, { "==", SL_BENCH_EQUAL },
    { "!=", SL_BENCH_UNEQUAL },  { ">", SL_BENCH_ABOVE },    { "<", SL_BENCH_BELOW },
};

static const char *skip_blanks(const char *at)
{
    while (*at == ' ') {
        at++;
    }
    return at;
}

static enum sl_status
refuse(const char *text, const char *at, const char *what, struct sl_error *err)
{
    return sl_fail(
        err, SL_INVALID_ARGUMENT, "'%.80s': character %zu: %s", text, (size_t)(at - text) + 1,
        what);
}

static enum sl_status read_name(
    const char **at,
    bool (*has_name)(const char *name),
    struct sl_bench_gate *gate,
    struct sl_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    const size_t size = strspn(*at, letters);
    if (size == 0) {
        return refuse(gate->text, *at, "the name of a figure is expected", err);
    }
    if (size < sizeof(gate->name)) {
        memcpy(gate->name, *at, size);
        gate->name[size] = '\0';
    }
    if (size >= sizeof(gate->name) || !has_name(gate->name)) {
        return refuse(
            gate->text, *at, "no figure has this name, they are in docs/load-testing.md", err);
    }
    *at = skip_blanks(*at + size);
    return SL_OK;
}

static enum sl_status
read_operator(const char **at, struct sl_bench_gate *gate, struct sl_error *err)
{
    for (size_t i = 0; i < SL_COUNT(operators); i++) {
        const size_t size = strlen(operators[i].text);
        if (strncmp(*at, operators[i].text, size) == 0) {
            gate->how = operators[i].how;
            *at = skip_blanks(*at + size);
            return SL_OK;
        }
    }
    return refuse(gate->text, *at, "one of > >= < <= == != is expected", err);
}

enum sl_status sl_bench_gate_parse(
    const char *text,
    bool (*has_name)(const char *name),
    struct sl_bench_gate *ret_gate,
    struct sl_error *err)
{
    struct sl_bench_gate gate = { .text = text };
    const char *at = skip_blanks(text);
    SL_TRY(read_name(&at, has_name, &gate, err));
    SL_TRY(read_operator(&at, &gate, err));
    size_t size = strlen(at);
    while (size > 0 && at[size - 1] == ' ') {
        size--;
    }
    if (sl_parse_double(sl_slice_of(at, size), &gate.value) != SL_OK) {
        return refuse(text, at, "a number is expected", err);
    }
    *ret_gate = gate;
    return SL_OK;
}

bool sl_bench_gate_fails(const struct sl_bench_gate *gate, double value)
{
    switch (gate->how) {
    case SL_BENCH_ABOVE:
        return value > gate->value;
    case SL_BENCH_AT_LEAST:
        return value >= gate->value;
    case SL_BENCH_BELOW:
        return value < gate->value;
    case SL_BENCH_AT_MOST:
        return value <= gate->value;
    case SL_BENCH_EQUAL:
        return !(value < gate->value || value > gate->value);
    case SL_BENCH_UNEQUAL:
        return value < gate->value || value > gate->value;
    }
    return true;
}
