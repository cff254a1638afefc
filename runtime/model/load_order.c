#include <stddef.h>

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/model/json.h"
#include "runtime/model/load.h"

enum { LOAD_INPUT_BYTES = 4096, LOAD_JSON_DEPTH = 4, SHOWN_KEY_BYTES = 40 };

#define LOAD_EVENTS_MAX UINT64_C(1000000000000)
#define LOAD_SMALL_MAX  UINT64_C(1000000)
#define LOAD_MS_MAX     UINT64_C(86400000)
#define LOAD_RATE_MAX   1e9

/* ---- The keys -------------------------------------------------------------------------------- */

enum key_id {
    KEY_EVENTS,
    KEY_BYTES,
    KEY_RATE,
    KEY_FIRST_MS,
    KEY_JITTER_MS,
    KEY_BURST,
    KEY_THINKING,
    KEY_TOOLS,
    KEY_HANG,
    KEY_FAIL_AFTER,
    KEY_CODE,
    KEY_SEED,
    KEY_STAMP,
    KEY_REFUSE,
    N_KEYS
};

enum key_kind { KIND_COUNT, KIND_RATE, KIND_BOOL, KIND_CODE, KIND_REFUSE };

struct key {
    const char *name;
    enum key_kind kind;
    size_t offset; /* of its field, for KIND_COUNT and KIND_BOOL */
    uint64_t min, max;
};

#define FIELD(field) offsetof(struct sl_load_order, field)

static const struct key keys[N_KEYS] = {
    [KEY_EVENTS] = { "events", KIND_COUNT, FIELD(events), 0, LOAD_EVENTS_MAX },
    [KEY_BYTES] = { "bytes", KIND_COUNT, FIELD(bytes), 1, SL_LOAD_BYTES_MAX },
    [KEY_RATE] = { "rate", KIND_RATE, 0, 0, 0 },
    [KEY_FIRST_MS] = { "first_ms", KIND_COUNT, FIELD(first_ms), 0, LOAD_MS_MAX },
    [KEY_JITTER_MS] = { "jitter_ms", KIND_COUNT, FIELD(jitter_ms), 0, LOAD_MS_MAX },
    [KEY_BURST] = { "burst", KIND_COUNT, FIELD(burst), 1, LOAD_SMALL_MAX },
    [KEY_THINKING] = { "thinking", KIND_COUNT, FIELD(thinking), 0, LOAD_SMALL_MAX },
    [KEY_TOOLS] = { "tools", KIND_COUNT, FIELD(tools), 0, SL_LOAD_TOOLS_MAX },
    [KEY_HANG] = { "hang", KIND_BOOL, FIELD(hang), 0, 0 },
    [KEY_FAIL_AFTER] = { "fail_after", KIND_COUNT, FIELD(fail_after), 0, LOAD_EVENTS_MAX },
    [KEY_CODE] = { "code", KIND_CODE, 0, 0, 0 },
    [KEY_SEED] = { "seed", KIND_COUNT, FIELD(seed), 0, UINT64_MAX },
    [KEY_STAMP] = { "stamp", KIND_BOOL, FIELD(stamp), 0, 0 },
    [KEY_REFUSE] = { "refuse", KIND_REFUSE, 0, 0, 0 },
};

#undef FIELD

/* AL-5.3: the reasons and their statuses. */
static const struct sl_load_refusal refusals[] = {
    { "UNAUTHENTICATED", SL_UNAUTHENTICATED },    { "FORBIDDEN", SL_PERMISSION_DENIED },
    { "AGENT_NOT_FOUND", SL_NOT_FOUND },          { "INVALID_REQUEST", SL_INVALID_ARGUMENT },
    { "REQUEST_ID_REUSED", SL_ALREADY_EXISTS },   { "SESSION_BUSY", SL_ABORTED },
    { "AGENT_DISABLED", SL_FAILED_PRECONDITION }, { "TENANT_LIMIT", SL_RESOURCE_EXHAUSTED },
    { "SERVER_FULL", SL_RESOURCE_EXHAUSTED },     { "DRAINING", SL_UNAVAILABLE },
};

/* What the two forms fill in. */
struct parse {
    struct sl_load_order order;
    bool has[N_KEYS];
    struct sl_error *err;
};

static enum sl_status refuse(const char *key, const char *what, struct sl_error *err)
{
    return sl_fail(err, SL_INVALID_ARGUMENT, "load: %s %s", key, what);
}

static enum sl_status
read_count(const struct key *key, struct sl_slice value, uint64_t *ret, struct sl_error *err)
{
    return sl_parse_u64(value, key->min, key->max, ret) == SL_OK
               ? SL_OK
               : sl_fail(
                     err, SL_INVALID_ARGUMENT, "load: %s must be a number from %llu to %llu",
                     key->name, (unsigned long long)key->min, (unsigned long long)key->max);
}

static enum sl_status
read_bool(const char *key, struct sl_slice value, bool *ret, struct sl_error *err)
{
    *ret = sl_slice_equals(value, "true");
    return *ret || sl_slice_equals(value, "false") ? SL_OK
                                                   : refuse(key, "must be true or false", err);
}

static enum sl_status read_rate(struct sl_slice value, double *ret, struct sl_error *err)
{
    if (sl_parse_double(value, ret) != SL_OK || *ret < 0 || *ret > LOAD_RATE_MAX) {
        return refuse("rate", "must be a number from 0 to 1e9", err);
    }
    return SL_OK;
}

static enum sl_status
read_refusal(struct sl_slice value, const struct sl_load_refusal **ret, struct sl_error *err)
{
    for (size_t i = 0; i < SL_COUNT(refusals); i++) {
        if (sl_slice_equals(value, refusals[i].reason)) {
            *ret = &refusals[i];
            return SL_OK;
        }
    }
    return refuse("refuse", "must be a reason for which a start is refused, as SERVER_FULL", err);
}

static enum sl_status read_key(struct parse *parse, struct sl_slice name, struct sl_slice value)
{
    struct sl_error *err = parse->err;
    size_t id = 0;
    while (id < N_KEYS && !sl_slice_equals(name, keys[id].name)) {
        id++;
    }
    if (id == N_KEYS) {
        const size_t size = name.size > SHOWN_KEY_BYTES ? SHOWN_KEY_BYTES : name.size;
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "load: unknown key '%.*s'", (int)size,
            (const char *)name.data);
    }
    const struct key *key = &keys[id];
    if (parse->has[id]) {
        return refuse(key->name, "is given twice", err);
    }
    parse->has[id] = true;
    char *field = (char *)&parse->order + key->offset;
    switch (key->kind) {
    case KIND_COUNT:
        return read_count(key, value, (uint64_t *)(void *)field, err);
    case KIND_BOOL:
        return read_bool(key->name, value, (bool *)(void *)field, err);
    case KIND_RATE:
        return read_rate(value, &parse->order.rate, err);
    case KIND_CODE:
        return sl_model_fault_from_name(value, &parse->order.code)
                   ? SL_OK
                   : refuse(key->name, "must be one of the model error codes", err);
    case KIND_REFUSE:
        return read_refusal(value, &parse->order.refuse, err);
    }
    return SL_OK;
}

/* ---- The two forms --------------------------------------------------------------------------- */

/* A scalar as the text that read_key takes. `room` holds numbers. */
static enum sl_status
text_of(const char *key, const json_t *value, char *room, size_t room_bytes, struct sl_slice *ret)
{
    const bool is_name =
        strcmp(key, keys[KEY_CODE].name) == 0 || strcmp(key, keys[KEY_REFUSE].name) == 0;
    if (json_is_string(value) && is_name) {
        *ret = sl_json_slice(value);
        return SL_OK;
    }
    if (json_is_boolean(value)) {
        *ret = sl_slice_str(json_is_true(value) ? "true" : "false");
        return SL_OK;
    }
    if (!json_is_number(value)) {
        return SL_INVALID_ARGUMENT;
    }
    const size_t n = json_dumpb(value, room, room_bytes, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    *ret = sl_slice_of(room, n > room_bytes ? 0 : n);
    return SL_OK;
}

static enum sl_status parse_json(struct parse *parse, struct sl_slice input)
{
    json_t *document = NULL;
    const char *key = NULL;
    json_t *value = NULL;
    enum sl_status status = sl_json_parse(input, LOAD_JSON_DEPTH, &document);
    if (status == SL_RESOURCE_EXHAUSTED) {
        return sl_fail(parse->err, status, "load: no memory for the input");
    }
    if (status != SL_OK) {
        return refuse("the input", "is neither a JSON object nor key=value words", parse->err);
    }
    json_object_foreach(document, key, value)
    {
        char room[40];
        struct sl_slice text = { 0 };
        status = text_of(key, value, room, sizeof(room), &text);
        if (status != SL_OK) {
            text = sl_slice_str("?"); /* no key takes it: the message names the key */
        }
        status = read_key(parse, sl_slice_str(key), text);
        if (status != SL_OK) {
            break;
        }
    }
    json_decref(document);
    return status;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',';
}

static enum sl_status parse_words(struct parse *parse, struct sl_slice input)
{
    size_t at = 0;
    while (at < input.size) {
        if (is_blank(input.data[at])) {
            at++;
            continue;
        }
        size_t end = at;
        while (end < input.size && !is_blank(input.data[end])) {
            end++;
        }
        const struct sl_slice word = sl_slice_of(input.data + at, end - at);
        const uint8_t *equal = memchr(word.data, '=', word.size);
        const size_t n_key = equal == NULL ? word.size : (size_t)(equal - word.data);
        const struct sl_slice value =
            equal == NULL ? sl_slice_str("true") : sl_slice_of(equal + 1, word.size - n_key - 1);
        SL_TRY(read_key(parse, sl_slice_of(word.data, n_key), value));
        at = end;
    }
    return SL_OK;
}

/* ---- The whole ------------------------------------------------------------------------------- */

/* A key that could have no effect is a mistake. */
static enum sl_status check_together(const struct parse *parse)
{
    const struct sl_load_order *order = &parse->order;
    if (order->stamp && order->bytes < SL_LOAD_STAMP_BYTES) {
        return refuse("stamp", "needs bytes of 48 or more", parse->err);
    }
    if (parse->has[KEY_BURST] && order->rate <= 0) {
        return refuse("burst", "needs a rate above 0", parse->err);
    }
    if (parse->has[KEY_JITTER_MS] && order->rate <= 0) {
        return refuse("jitter_ms", "needs a rate above 0", parse->err);
    }
    if (parse->has[KEY_CODE] && !parse->has[KEY_FAIL_AFTER]) {
        return refuse("code", "needs fail_after", parse->err);
    }
    if (parse->has[KEY_FAIL_AFTER] && order->hang) {
        return refuse("hang", "and fail_after exclude each other", parse->err);
    }
    return SL_OK;
}

static size_t skip_blanks(struct sl_slice input)
{
    size_t at = 0;
    while (at < input.size && is_blank(input.data[at])) {
        at++;
    }
    return at;
}

enum sl_status
sl_load_parse(struct sl_slice input, struct sl_load_order *ret_order, struct sl_error *err)
{
    struct parse parse = {
        .order = {
            .events = 100,
            .bytes = 100,
            .burst = 1,
            .code = SL_FAULT_PROVIDER_OVERLOADED,
        },
        .err = err,
    };
    if (input.size > LOAD_INPUT_BYTES) {
        return refuse("the input", "is too long", err);
    }
    const size_t at = skip_blanks(input);
    const struct sl_slice rest = sl_slice_of(input.data + at, input.size - at);
    if (rest.size > 0 && rest.data[0] == '{') {
        SL_TRY(parse_json(&parse, rest));
    } else {
        SL_TRY(parse_words(&parse, rest));
    }
    SL_TRY(check_together(&parse));
    parse.order.has_fail_after = parse.has[KEY_FAIL_AFTER];
    parse.order.has_seed = parse.has[KEY_SEED];
    *ret_order = parse.order;
    return SL_OK;
}

enum sl_status
sl_model_load_check(struct sl_slice input, const char **ret_reason, struct sl_error *err)
{
    struct sl_load_order order = { .refuse = NULL };
    *ret_reason = "INVALID_REQUEST";
    const enum sl_status status = sl_load_parse(input, &order, err);
    if (status == SL_RESOURCE_EXHAUSTED) {
        *ret_reason = "SERVER_FULL";
    }
    if (status != SL_OK || order.refuse == NULL) {
        return status;
    }
    *ret_reason = order.refuse->reason;
    return sl_fail(err, order.refuse->status, "load: refused as ordered");
}
