#include "codegen/template.h"

#include <string.h>

static const char *find(const struct sl_variable *variables, const char *name, size_t size)
{
    for (const struct sl_variable *v = variables; v->name != NULL; v++) {
        if (strlen(v->name) == size && memcmp(v->name, name, size) == 0) {
            return v->value;
        }
    }
    return NULL;
}

void sl_template_add(struct sl_text *text, const struct sl_variable *variables, const char *pattern)
{
    for (;;) {
        const size_t plain = strcspn(pattern, "$");
        sl_text_add_bytes(text, pattern, plain);
        pattern += plain;
        if (*pattern == '\0') {
            return;
        }
        const size_t size = strcspn(pattern + 1, "$");
        const char *value = find(variables, pattern + 1, size);
        if (value == NULL || pattern[1 + size] != '$') {
            text->has_failed = true;
            return;
        }
        sl_text_add(text, value);
        pattern += size + 2;
    }
}
