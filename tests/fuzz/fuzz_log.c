/* Property: whatever a line holds, it stays one line of valid UTF-8 without control characters; as
 * JSON it parses; a quoted value has no open end; a known secret never appears. */
#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/log.h"
#include "runtime/base/log_text.h"
#include "runtime/base/utf8.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_BYTES = 3000, LINE_BYTES = 600 };

static const char secret[] = "abc\"def\\g";

static void require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void check_clean(struct sl_slice text)
{
    require(sl_utf8_is_clean(text));
    for (size_t i = 0; i < text.size; i++) {
        require(text.data[i] >= 0x20 && text.data[i] != 0x7F);
    }
    require(text.size == 0 || memmem(text.data, text.size, secret, sizeof(secret) - 1) == NULL);
}

static void check_quote(struct sl_slice text, size_t room_bytes)
{
    char *room = malloc(room_bytes);
    require(room != NULL);
    const struct sl_slice quoted = sl_slice_str(sl_log_quote(text, room, room_bytes));
    require(quoted.size >= 2 && quoted.size < room_bytes);
    require(quoted.data[0] == '"' && quoted.data[quoted.size - 1] == '"');
    check_clean(quoted);
    for (size_t i = 1; i + 1 < quoted.size; i++) {
        require(quoted.data[i] != '"');
        if (quoted.data[i] == '\\') {
            i++;
            require(i + 1 < quoted.size);
        }
    }
    free(room);
}

static void check_line(struct sl_slice text, bool is_cut)
{
    char scrubbed[MAX_BYTES];
    char room[LINE_BYTES + 1] = "{\"ts\":1";
    size_t size = sl_log_text_scrub(text, is_cut, scrubbed);
    require(size <= text.size);
    size = sl_log_text_tidy(scrubbed, size, LINE_BYTES, is_cut);
    const struct sl_slice line = sl_slice_of(scrubbed, size);
    require(size <= LINE_BYTES);
    check_clean(line);
    const size_t head = strlen(room);
    const size_t rest = sl_log_text_to_json(line, room + head, LINE_BYTES - head);
    require(head + rest <= LINE_BYTES);
    json_t *json = json_loadb(room, head + rest, 0, NULL);
    require(json != NULL || memmem(room, head + rest, "\\u0000", 6) != NULL);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool has_secret;
    if (!has_secret) {
        sl_log_add_secret(secret);
        has_secret = true;
    }
    if (size == 0 || size > MAX_BYTES) {
        return 0;
    }
    const struct sl_slice text = sl_slice_of(data + 1, size - 1);
    check_quote(text, 3 + data[0]);
    check_line(text, (data[0] & 1) != 0);
    return 0;
}
