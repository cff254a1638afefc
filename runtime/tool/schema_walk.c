#include "runtime/tool/schema_walk.h"

#include <stdio.h>

size_t sl_schema_push(struct sl_schema_walk *walk, const char *key, size_t index)
{
    const size_t before = walk->path_size;
    const size_t room = sizeof walk->path - before;
    const int n = key != NULL ? snprintf(walk->path + before, room, "/%s", key)
                              : snprintf(walk->path + before, room, "/%zu", index);
    if (n > 0) {
        walk->path_size += (size_t)n < room ? (size_t)n : room - 1;
    }
    return before;
}

void sl_schema_pop(struct sl_schema_walk *walk, size_t before)
{
    walk->path_size = before;
    walk->path[before] = '\0';
}

const char *sl_schema_place(const struct sl_schema_walk *walk)
{
    return walk->path_size == 0 ? "/" : walk->path;
}

const char *sl_schema_type_name(json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        return "null";
    }
    return "?";
}

/* ---- References ---------------------------------------------------------------------------------
 */

/* The next part of a JSON pointer, "~1" and "~0" undone. False: too long. */
static bool next_token(const char **pointer, char *token, size_t token_bytes)
{
    size_t n = 0;
    const char *p = *pointer + 1; /* the '/' */
    for (; *p != '\0' && *p != '/'; p++) {
        char c = *p;
        if (c == '~' && (p[1] == '0' || p[1] == '1')) {
            c = p[1] == '0' ? '~' : '/';
            p++;
        }
        if (n + 1 >= token_bytes) {
            return false;
        }
        token[n++] = c;
    }
    token[n] = '\0';
    *pointer = p;
    return true;
}

static json_t *array_item(json_t *array, const char *token)
{
    size_t index = 0;
    if (*token == '\0' || strlen(token) > 6) {
        return NULL;
    }
    for (const char *p = token; *p != '\0'; p++) {
        if (*p < '0' || *p > '9') {
            return NULL;
        }
        index = index * 10 + (size_t)(*p - '0');
    }
    return json_array_get(array, index);
}

json_t *sl_schema_follow(json_t *root, const char *ref)
{
    if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/')) {
        return NULL;
    }
    json_t *at = root;
    const char *pointer = ref + 1;
    while (at != NULL && *pointer == '/') {
        char token[128];
        if (!next_token(&pointer, token, sizeof token)) {
            return NULL;
        }
        at = json_is_array(at) ? array_item(at, token) : json_object_get(at, token);
    }
    return at;
}
