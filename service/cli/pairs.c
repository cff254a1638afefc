#include "service/cli/pairs.h"

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "service/config.h"

enum { VALUE_BYTES = 64 * 1024 };

static bool is_twice(const struct sl_cli_pairs *pairs, const char *name)
{
    for (size_t i = 0; i < pairs->n_items; i++) {
        if (strcmp(pairs->items[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The name in front of '=', copied; the rest of the word. NULL after a line on stderr. */
static const char *take_name(
    struct sl_cli_pairs *pairs,
    const char *flag,
    const char *form,
    const char *word,
    const char **rest)
{
    const char *equals = strchr(word, '=');
    const size_t size = equals == NULL ? 0 : (size_t)(equals - word);
    if (size == 0 || !sl_utf8_is_clean(sl_slice_of(word, size))) {
        sl_cli_complain("%s: expected %s", flag, form); /* the word could be a secret */
        return NULL;
    }
    const char *name = sl_arena_dup(&pairs->arena, sl_slice_of(word, size));
    if (name != NULL && is_twice(pairs, name)) {
        sl_cli_complain("%s %.60s: given twice", flag, name);
        return NULL;
    }
    *rest = equals + 1;
    return name;
}

static enum sl_status
add(struct sl_cli_pairs *pairs, const char *flag, const char *name, struct sl_slice value)
{
    if (value.size > VALUE_BYTES || (value.size > 0 && !sl_utf8_is_clean(value))) {
        sl_cli_complain(
            "%s %.60s: its value is over %d bytes, no UTF-8, or has a NUL", flag, name,
            VALUE_BYTES);
        return SL_INVALID_ARGUMENT;
    }
    struct sl_cli_pair *pair = &pairs->items[pairs->n_items];
    *pair = (struct sl_cli_pair){ .name = name, .value = sl_arena_dup(&pairs->arena, value) };
    pairs->n_items += pair->value != NULL;
    return pair->value == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static enum sl_status open_list(const struct sl_cli_list *words, struct sl_cli_pairs *pairs)
{
    *pairs = (struct sl_cli_pairs){ .n_items = 0 };
    sl_arena_init(&pairs->arena, 0);
    pairs->items = sl_arena_calloc(&pairs->arena, words->n_items, sizeof(*pairs->items));
    return pairs->items == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

enum sl_status
sl_cli_read_pairs(const struct sl_cli_list *words, const char *flag, struct sl_cli_pairs *ret_pairs)
{
    SL_TRY(open_list(words, ret_pairs));
    for (size_t i = 0; i < words->n_items; i++) {
        const char *value = NULL;
        const char *name = take_name(ret_pairs, flag, "KEY=VALUE", words->items[i], &value);
        if (name == NULL) {
            return SL_INVALID_ARGUMENT;
        }
        SL_TRY(add(ret_pairs, flag, name, sl_slice_str(value)));
    }
    return SL_OK;
}

/* ---- Secrets -----------------------------------------------------------------------------------
 */

static enum sl_status
read_file(struct sl_cli_pairs *pairs, const char *flag, const char *name, const char *path)
{
    const size_t room_bytes = VALUE_BYTES + SL_CLI_SECRET_MORE;
    char *room = sl_alloc(room_bytes);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t size = 0;
    enum sl_status status = sl_cli_read_secret(path, room, room_bytes, &size);
    if (status == SL_INVALID_ARGUMENT) {
        sl_cli_complain("%s %.60s: %s: cannot be read", flag, name, path);
    } else if (status != SL_OK) {
        sl_cli_complain("%s %.60s: %s: over %d bytes", flag, name, path, VALUE_BYTES);
        status = SL_INVALID_ARGUMENT;
    } else {
        status = add(pairs, flag, name, sl_slice_of(room, size));
    }
    explicit_bzero(room, room_bytes);
    (void)sl_free(room);
    return status;
}

static enum sl_status
read_secret(struct sl_cli_pairs *pairs, const char *flag, const char *name, const char *place)
{
    if (strncmp(place, "file:", 5) == 0 && place[5] != '\0') {
        return read_file(pairs, flag, name, place + 5);
    }
    if (strncmp(place, "env:", 4) != 0 || place[4] == '\0') {
        sl_cli_complain(
            "%s %.60s: expected env:VARIABLE or file:PATH, never the value itself", flag, name);
        return SL_INVALID_ARGUMENT;
    }
    const char *value = sl_config_env(place + 4);
    if (value == NULL) {
        sl_cli_complain("%s %.60s: %s is not set", flag, name, place + 4);
        return SL_INVALID_ARGUMENT;
    }
    return add(pairs, flag, name, sl_slice_str(value));
}

enum sl_status sl_cli_read_secrets(
    const struct sl_cli_list *words, const char *flag, struct sl_cli_pairs *ret_pairs)
{
    SL_TRY(open_list(words, ret_pairs));
    for (size_t i = 0; i < words->n_items; i++) {
        const char *place = NULL;
        const char *name = take_name(
            ret_pairs, flag, "NAME=env:VARIABLE or NAME=file:PATH", words->items[i], &place);
        if (name == NULL) {
            return SL_INVALID_ARGUMENT;
        }
        SL_TRY(read_secret(ret_pairs, flag, name, place));
    }
    return SL_OK;
}

void sl_cli_pairs_done(struct sl_cli_pairs *pairs)
{
    for (size_t i = 0; i < pairs->n_items; i++) {
        explicit_bzero(pairs->items[i].value, strlen(pairs->items[i].value));
    }
    sl_arena_done(&pairs->arena);
    *pairs = (struct sl_cli_pairs){ .n_items = 0 };
}
