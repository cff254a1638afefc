#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/model/json.h"
#include "runtime/model/load.h"

enum { LOAD_INPUT_BYTES = 4096, LOAD_JSON_DEPTH = 4 };

#define LOAD_EVENTS_MAX UINT64_C(1000000000000)
#define LOAD_MS_MAX     UINT64_C(86400000)
#define LOAD_RATE_MAX   1e9

static enum sl_status refuse(const char *key, const char *what, struct sl_error *err)
{
    return sl_fail(err, SL_INVALID_ARGUMENT, "load: %s %s", key, what);
}

static enum sl_status read_count(
    const char *key,
    struct sl_slice value,
    uint64_t min,
    uint64_t max,
    uint64_t *ret,
    struct sl_error *err)
{
    return sl_parse_u64(value, min, max, ret) == SL_OK
               ? SL_OK
               : sl_fail(
                     err, SL_INVALID_ARGUMENT, "load: %s must be a number from %llu to %llu", key,
                     (unsigned long long)min, (unsigned long long)max);
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

static enum sl_status read_key(
    struct sl_load_order *order, struct sl_slice key, struct sl_slice value, struct sl_error *err)
{
    if (sl_slice_equals(key, "events")) {
        return read_count("events", value, 0, LOAD_EVENTS_MAX, &order->events, err);
    }
    if (sl_slice_equals(key, "bytes")) {
        return read_count("bytes", value, 1, SL_LOAD_BYTES_MAX, &order->bytes, err);
    }
    if (sl_slice_equals(key, "rate")) {
        return read_rate(value, &order->rate, err);
    }
    if (sl_slice_equals(key, "first_ms")) {
        return read_count("first_ms", value, 0, LOAD_MS_MAX, &order->first_ms, err);
    }
    if (sl_slice_equals(key, "hang")) {
        return read_bool("hang", value, &order->hang, err);
    }
    if (sl_slice_equals(key, "fail_after")) {
        order->has_fail_after = true;
        return read_count("fail_after", value, 0, LOAD_EVENTS_MAX, &order->fail_after, err);
    }
    if (sl_slice_equals(key, "code")) {
        return sl_model_fault_from_name(value, &order->code)
                   ? SL_OK
                   : refuse("code", "must be one of the model error codes", err);
    }
    if (sl_slice_equals(key, "seed")) {
        order->has_seed = true;
        return read_count("seed", value, 0, UINT64_MAX, &order->seed, err);
    }
    if (sl_slice_equals(key, "stamp")) {
        return read_bool("stamp", value, &order->stamp, err);
    }
    return sl_fail(
        err, SL_INVALID_ARGUMENT, "load: unknown key '%.*s'", (int)(key.size > 40 ? 40 : key.size),
        (const char *)key.data);
}

/* ---- The two forms --------------------------------------------------------------------------- */

/* A scalar as the text that read_key takes. `room` holds numbers. */
static enum sl_status
text_of(const char *key, const json_t *value, char *room, size_t room_bytes, struct sl_slice *ret)
{
    if (json_is_string(value) && strcmp(key, "code") == 0) {
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

static enum sl_status
parse_json(struct sl_slice input, struct sl_load_order *order, struct sl_error *err)
{
    json_t *document = NULL;
    const char *key = NULL;
    json_t *value = NULL;
    enum sl_status status = sl_json_parse(input, LOAD_JSON_DEPTH, &document);
    if (status == SL_RESOURCE_EXHAUSTED) {
        return status;
    }
    if (status != SL_OK) {
        return refuse("the input", "is neither a JSON object nor key=value words", err);
    }
    json_object_foreach(document, key, value)
    {
        char room[40];
        struct sl_slice text = { 0 };
        status = text_of(key, value, room, sizeof(room), &text);
        if (status != SL_OK) {
            text = sl_slice_str("?"); /* no key takes it: the message names the key */
        }
        status = read_key(order, sl_slice_str(key), text, err);
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

static enum sl_status
parse_words(struct sl_slice input, struct sl_load_order *order, struct sl_error *err)
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
        SL_TRY(read_key(order, sl_slice_of(word.data, n_key), value, err));
        at = end;
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
    struct sl_load_order order = {
        .events = 100,
        .bytes = 100,
        .code = SL_FAULT_PROVIDER_OVERLOADED,
    };
    if (input.size > LOAD_INPUT_BYTES) {
        return refuse("the input", "is too long", err);
    }
    const size_t at = skip_blanks(input);
    const struct sl_slice rest = sl_slice_of(input.data + at, input.size - at);
    if (rest.size > 0 && rest.data[0] == '{') {
        SL_TRY(parse_json(rest, &order, err));
    } else {
        SL_TRY(parse_words(rest, &order, err));
    }
    if (order.stamp && order.bytes < SL_LOAD_STAMP_BYTES) {
        return refuse("stamp", "needs bytes of 48 or more", err);
    }
    *ret_order = order;
    return SL_OK;
}

enum sl_status sl_model_load_check(struct sl_slice input, struct sl_error *err)
{
    struct sl_load_order order;
    return sl_load_parse(input, &order, err);
}
