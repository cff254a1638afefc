/* A line of JSON that is taken as an event gives JSON that is taken again, and gives the same. */
#include <stdlib.h>
#include <string.h>

#include "service/cli/message_json.h"
#include "tests/fuzz/fuzz.h"

enum { ARENA_BYTES = 4 * 1024 * 1024 };

static void expect(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

/* The event of a text, as text; NULL: it is none. */
static char *again(const char *text, size_t size)
{
    json_t *json = json_loadb(text, size, 0, NULL);
    if (json == NULL) {
        return NULL;
    }
    struct sl_arena arena;
    struct sl_error err = { .text = "" };
    Sluice__V1__StreamEvent *event = NULL;
    char *out = NULL;
    sl_arena_init(&arena, ARENA_BYTES);
    const enum sl_status status = sl_event_from_json(json, &arena, &event, &err);
    expect((status == SL_OK) == (event != NULL));
    expect(status == SL_OK || err.text[0] != '\0');
    if (status == SL_OK) {
        json_t *back = sl_event_to_json(event);
        expect(back != NULL);
        out = json_dumps(back, JSON_COMPACT);
        expect(out != NULL);
        json_decref(back);
    }
    sl_arena_done(&arena);
    json_decref(json);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *first = again((const char *)data, size);
    if (first == NULL) {
        return 0;
    }
    char *second = again(first, strlen(first));
    expect(second != NULL && strcmp(first, second) == 0);
    free(first);
    free(second);
    return 0;
}
