#include "tests/judge/interop/flags.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/parse.h"

static struct flag *find(struct flag *flags, const char *name, size_t size)
{
    for (; flags->name != NULL; flags++) {
        if (strlen(flags->name) == size && memcmp(flags->name, name, size) == 0) {
            return flags;
        }
    }
    return NULL;
}

bool flags_parse(struct flag *flags, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        const char *equals = strchr(text, '=');
        struct flag *flag = strncmp(text, "--", 2) == 0 && equals != NULL
                                ? find(flags, text + 2, (size_t)(equals - text) - 2)
                                : NULL;
        if (flag == NULL) {
            (void)fprintf(stderr, "no flag --NAME=VALUE of this program: %s\n", text);
            return false;
        }
        flag->value = equals + 1;
    }
    return true;
}

const char *flags_text(const struct flag *flags, const char *name)
{
    for (; flags->name != NULL; flags++) {
        if (strcmp(flags->name, name) == 0) {
            return flags->value;
        }
    }
    abort();
}

bool flags_bool(const struct flag *flags, const char *name)
{
    const char *text = flags_text(flags, name);
    return text != NULL && strcmp(text, "true") == 0;
}

uint32_t flags_number(const struct flag *flags, const char *name)
{
    const char *text = flags_text(flags, name);
    uint64_t number = 0;
    return text != NULL && sl_parse_u64(sl_slice_str(text), 0, UINT32_MAX, &number) == SL_OK
               ? (uint32_t)number
               : 0;
}
