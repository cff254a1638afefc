/* JSON text, and messages to fill in. jansson writes every double with 17 digits; this writes as
 * many as are needed. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/parse.h"
#include "service/schema/json_impl.h"

struct printer {
    struct sl_buf *out;
    bool is_indented;
    unsigned depth;
};

static enum sl_status print_value(struct printer *printer, const json_t *json);

static enum sl_status print_string(struct printer *printer, const char *text, size_t size)
{
    json_t *string = json_stringn(text, size);
    char *quoted = json_dumps(string, JSON_ENCODE_ANY);
    json_decref(string);
    const enum sl_status status =
        quoted == NULL ? SL_RESOURCE_EXHAUSTED : sl_buf_add_str(printer->out, quoted);
    free(quoted);
    return status;
}

static enum sl_status print_real(struct printer *printer, double value)
{
    enum { LEAST_DIGITS = 15, MOST_DIGITS = 17 };
    char text[40] = "-0.0"; /* "-0" would be read as an integer, without its sign */
    if (value != 0.0 || !__builtin_signbit(value)) {
        for (int digits = LEAST_DIGITS; digits <= MOST_DIGITS; digits++) {
            (void)snprintf(text, sizeof(text), "%.*g", digits, value);
            double read = 0;
            if (sl_parse_double(sl_slice_str(text), &read) == SL_OK && read == value) {
                break;
            }
        }
    }
    return sl_buf_add_str(printer->out, text);
}

static enum sl_status start_line(struct printer *printer)
{
    if (!printer->is_indented) {
        return SL_OK;
    }
    SL_TRY(sl_buf_add_byte(printer->out, '\n'));
    for (unsigned i = 0; i < printer->depth; i++) {
        SL_TRY(sl_buf_add_str(printer->out, "  "));
    }
    return SL_OK;
}

static enum sl_status print_object(struct printer *printer, const json_t *json)
{
    json_t *object = (json_t *)(uintptr_t)json; // NOLINT(performance-no-int-to-ptr): not written to
    bool is_first = true;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        SL_TRY(sl_buf_add_str(printer->out, is_first ? "" : ","));
        SL_TRY(start_line(printer));
        SL_TRY(print_string(printer, json_object_iter_key(at), json_object_iter_key_len(at)));
        SL_TRY(sl_buf_add_str(printer->out, printer->is_indented ? ": " : ":"));
        SL_TRY(print_value(printer, json_object_iter_value(at)));
        is_first = false;
    }
    return SL_OK;
}

static enum sl_status print_array(struct printer *printer, const json_t *json)
{
    for (size_t i = 0; i < json_array_size(json); i++) {
        SL_TRY(sl_buf_add_str(printer->out, i == 0 ? "" : ","));
        SL_TRY(start_line(printer));
        SL_TRY(print_value(printer, json_array_get(json, i)));
    }
    return SL_OK;
}

static enum sl_status print_container(struct printer *printer, const json_t *json)
{
    const bool is_object = json_is_object(json);
    const bool is_empty = is_object ? json_object_size(json) == 0 : json_array_size(json) == 0;
    SL_TRY(sl_buf_add_byte(printer->out, is_object ? '{' : '['));
    printer->depth++;
    SL_TRY(is_object ? print_object(printer, json) : print_array(printer, json));
    printer->depth--;
    if (!is_empty) {
        SL_TRY(start_line(printer));
    }
    return sl_buf_add_byte(printer->out, is_object ? '}' : ']');
}

static enum sl_status print_value(struct printer *printer, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        return print_container(printer, json);
    case JSON_STRING:
        return print_string(printer, json_string_value(json), json_string_length(json));
    case JSON_INTEGER:
        return sl_buf_addf(printer->out, "%lld", (long long)json_integer_value(json));
    case JSON_REAL:
        return print_real(printer, json_real_value(json));
    case JSON_TRUE:
        return sl_buf_add_str(printer->out, "true");
    case JSON_FALSE:
        return sl_buf_add_str(printer->out, "false");
    case JSON_NULL:
        break;
    }
    return sl_buf_add_str(printer->out, "null");
}

enum sl_status sl_schema_print(const json_t *json, bool is_indented, struct sl_buf *out)
{
    struct printer printer = { .out = out, .is_indented = is_indented };
    return print_value(&printer, json);
}
