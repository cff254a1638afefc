#include "runtime/model/openai_opaque.h"

#include <stdlib.h>

#include "runtime/base/mem.h"

/* Not UTF-8: jansson refuses it in a text. */
static const char written_key[] = "\xFF";

/* A JSON string with the text of `value`. NULL: no memory. */
static json_t *write_value(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    json_t *string = text == NULL ? NULL : json_string_nocheck(text);
    free(text);
    return string;
}

static bool is_known(const char *key)
{
    static const char *const known[] = { "index", "id", "type", "function", written_key };
    for (size_t i = 0; i < SL_COUNT(known); i++) {
        if (strcmp(key, known[i]) == 0) {
            return true;
        }
    }
    return false;
}

json_t *sl_opaque_members(json_t *call)
{
    json_t *written = json_object_get(call, written_key);
    if (written != NULL) {
        return json_incref(written);
    }
    json_t *members = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(call, key, value)
    {
        if (members == NULL || is_known(key) || json_is_null(value)) {
            continue;
        }
        if (json_object_set_new(members, key, write_value(value)) != 0) {
            json_decref(members);
            members = NULL;
        }
    }
    return members;
}

enum sl_status sl_opaque_details(json_t *delta, json_t **ret_text)
{
    const json_t *list = json_object_get(delta, "reasoning_details");
    json_t *written = json_object_get(delta, written_key);
    if (written != NULL) {
        *ret_text = json_incref(written);
        return SL_OK;
    }
    *ret_text = json_array_size(list) == 0 ? NULL : write_value(list);
    return *ret_text != NULL || json_array_size(list) == 0 ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

/* ---- On the pool ------------------------------------------------------------------------------
 */

static enum sl_status prepare_call(json_t *call)
{
    json_t *function = json_object_get(call, "function");
    const json_t *arguments = json_object_get(function, "arguments");
    if (!json_is_object(call)) {
        return SL_OK;
    }
    if (json_is_object(arguments) &&
        json_object_set_new(function, "arguments", write_value(arguments)) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    return json_object_set_new_nocheck(call, written_key, sl_opaque_members(call)) == 0
               ? SL_OK
               : SL_RESOURCE_EXHAUSTED;
}

enum sl_status sl_opaque_prepare(json_t *document)
{
    json_t *choice = json_array_get(json_object_get(document, "choices"), 0);
    json_t *delta = json_object_get(choice, "delta");
    json_t *text = NULL;
    size_t i = 0;
    json_t *call = NULL;
    if (!json_is_object(delta)) {
        delta = json_object_get(choice, "message");
    }
    json_array_foreach(json_object_get(delta, "tool_calls"), i, call)
    {
        SL_TRY(prepare_call(call));
    }
    SL_TRY(sl_opaque_details(delta, &text));
    return text == NULL || json_object_set_new_nocheck(delta, written_key, text) == 0
               ? SL_OK
               : SL_RESOURCE_EXHAUSTED;
}
