#include "runtime/model/openai_calls.h"

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/random.h"
#include "runtime/model/call_arguments.h"
#include "runtime/model/json.h"
#include "runtime/model/json_write.h"
#include "runtime/model/openai_opaque.h"

/* A byte of a name takes six when it is escaped; a member has two quotes, a colon and a comma. */
enum { ID_TEXT_BYTES = 512, FIRST_SLOTS = 4, MOST_ESCAPED = 6, MEMBER_BYTES = 4 };

void sl_calls_init(struct sl_calls *calls, const struct sl_limits *limits)
{
    *calls = (struct sl_calls){ .limits = limits };
}

void sl_calls_done(struct sl_calls *calls)
{
    for (size_t i = 0; i < calls->n_slots; i++) {
        struct sl_call_slot *slot = &calls->slots[i];
        sl_free(slot->id);
        sl_free(slot->name);
        sl_buf_done(&slot->arguments);
        json_decref(slot->opaque);
    }
    calls->slots = sl_free(calls->slots);
    calls->n_slots = calls->capacity = 0;
}

/* ---- Which slot ------------------------------------------------------------------------------ */

static bool is_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* True when the fragment goes on where the slot is. Servers that number all calls 0 are told apart
 * by their ids. */
static bool goes_on(const struct sl_call_slot *slot, const struct sl_call_fragment *fragment)
{
    if (!fragment->has_index) {
        return is_same(fragment->id, slot->id);
    }
    return slot->has_index && slot->index == fragment->index &&
           (fragment->id == NULL || slot->id == NULL || is_same(fragment->id, slot->id));
}

/* The number of the slot that the fragment goes on; n_slots: a new one. Fails: SL_INVALID_ARGUMENT
 * there is nothing it could go on. */
static enum sl_status
choose(const struct sl_calls *calls, const struct sl_call_fragment *fragment, size_t *ret_slot)
{
    const size_t n = calls->n_slots;
    for (size_t i = n; i-- > 0;) {
        if (goes_on(&calls->slots[i], fragment)) {
            *ret_slot = i;
            return SL_OK;
        }
    }
    const bool is_new = fragment->has_index || fragment->id != NULL || fragment->name != NULL;
    *ret_slot = is_new ? n : n - 1;
    return is_new || n > 0 ? SL_OK : SL_INVALID_ARGUMENT;
}

static enum sl_status open_slot(struct sl_calls *calls, const struct sl_call_fragment *fragment)
{
    if (calls->n_slots >= calls->limits->calls_per_iteration) {
        sl_limit_reached(SL_LIMIT_calls_per_iteration);
        return SL_OUT_OF_RANGE;
    }
    if (calls->n_slots == calls->capacity) {
        const size_t capacity = calls->capacity == 0 ? FIRST_SLOTS : calls->capacity * 2;
        struct sl_call_slot *slots = sl_realloc(calls->slots, capacity * sizeof(*slots));
        if (slots == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        calls->slots = slots;
        calls->capacity = capacity;
    }
    struct sl_call_slot *slot = &calls->slots[calls->n_slots++];
    *slot = (struct sl_call_slot){ .has_index = fragment->has_index, .index = fragment->index };
    sl_buf_init(&slot->arguments, calls->limits->tool_arguments);
    return SL_OK;
}

/* ---- What a fragment brings ------------------------------------------------------------------ */

static enum sl_status set_once(char **text, const char *value)
{
    if (value == NULL || *text != NULL) {
        return SL_OK;
    }
    if (strlen(value) > ID_TEXT_BYTES) {
        return SL_OUT_OF_RANGE;
    }
    *text = sl_strdup(value);
    return *text == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

/* The cap of arguments holds for them, too. */
static enum sl_status keep_members(struct sl_call_slot *slot, json_t *members, size_t max_bytes)
{
    const char *key = NULL;
    json_t *text = NULL;
    json_object_foreach(members, key, text)
    {
        const size_t bytes = strlen(key) * MOST_ESCAPED + MEMBER_BYTES + json_string_length(text);
        if (bytes > max_bytes - slot->opaque_bytes) {
            sl_limit_reached(SL_LIMIT_tool_arguments);
            return SL_OUT_OF_RANGE;
        }
        slot->opaque_bytes += bytes;
        if (slot->opaque == NULL) {
            slot->opaque = json_object();
        }
        if (json_object_set(slot->opaque, key, text) != 0) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    return SL_OK;
}

static enum sl_status keep_opaque(struct sl_call_slot *slot, json_t *call, size_t max_bytes)
{
    json_t *members = sl_opaque_members(call);
    const enum sl_status status =
        members == NULL ? SL_RESOURCE_EXHAUSTED : keep_members(slot, members, max_bytes);
    json_decref(members);
    return status;
}

static enum sl_status fill(
    const struct sl_calls *calls,
    struct sl_call_slot *slot,
    const struct sl_call_fragment *fragment)
{
    if (fragment->name != NULL && slot->name != NULL && !is_same(fragment->name, slot->name)) {
        return SL_INVALID_ARGUMENT; /* two calls would be mixed */
    }
    SL_TRY(set_once(&slot->id, fragment->id));
    SL_TRY(set_once(&slot->name, fragment->name));
    SL_TRY(sl_call_arguments_add(&slot->arguments, fragment->arguments, &slot->is_over));
    return fragment->call == NULL
               ? SL_OK
               : keep_opaque(slot, fragment->call, calls->limits->tool_arguments);
}

enum sl_status
sl_calls_add(struct sl_calls *calls, const struct sl_call_fragment *fragment, size_t *ret_slot)
{
    size_t i = 0;
    SL_TRY(choose(calls, fragment, &i));
    if (i == calls->n_slots) {
        SL_TRY(open_slot(calls, fragment));
    }
    SL_TRY(fill(calls, &calls->slots[i], fragment));
    *ret_slot = i;
    return SL_OK;
}

char *sl_calls_opaque(const struct sl_calls *calls, const struct sl_call_slot *slot)
{
    struct sl_buf buf;
    sl_buf_init(&buf, calls->limits->tool_arguments + 2);
    struct sl_json_out out = { .buf = &buf };
    const char *key = NULL;
    json_t *text = NULL;
    const char *before = "{";
    json_object_foreach(slot->opaque, key, text)
    {
        sl_json_put(&out, before);
        sl_json_put_cstr(&out, key);
        sl_json_put(&out, ":");
        sl_json_put_bytes(&out, sl_json_slice(text));
        before = ",";
    }
    sl_json_put(&out, "}");
    char *object = out.status == SL_OK ? sl_buf_take(&buf) : NULL;
    sl_buf_done(&buf);
    return object;
}

/* ---- The end --------------------------------------------------------------------------------- */

void sl_call_id_mint(enum sl_quirk_id format, char room[SL_CALL_ID_BYTES])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const size_t n_prefix = format == SL_ID_CALL24 ? 5 : 0;
    const size_t n = format == SL_ID_CALL24 ? 24 : 9;
    memcpy(room, "call_", n_prefix);
    for (size_t i = 0; i < n; i++) {
        room[n_prefix + i] = letters[sl_random_below(sizeof(letters) - 1)];
    }
    room[n_prefix + n] = '\0';
}

static bool is_repeated(const struct sl_calls *calls, const size_t *order, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (is_same(calls->slots[order[i]].id, calls->slots[order[at]].id)) {
            return true;
        }
    }
    return false;
}

static int64_t rank_of(const struct sl_calls *calls, size_t i)
{
    return calls->slots[i].has_index ? calls->slots[i].index : (int64_t)i;
}

/* By the provider's numbers; those that have none keep their place. */
static void sort(const struct sl_calls *calls, size_t *order)
{
    for (size_t i = 0; i < calls->n_slots; i++) {
        size_t at = i;
        while (at > 0 && rank_of(calls, order[at - 1]) > rank_of(calls, i)) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
}

enum sl_status sl_calls_close(struct sl_calls *calls, enum sl_quirk_id format, size_t *order)
{
    sort(calls, order);
    for (size_t i = 0; i < calls->n_slots; i++) {
        struct sl_call_slot *slot = &calls->slots[order[i]];
        if (slot->name == NULL) {
            return SL_INVALID_ARGUMENT;
        }
        if (slot->id == NULL || is_repeated(calls, order, i)) {
            char id[SL_CALL_ID_BYTES];
            sl_call_id_mint(format, id);
            sl_free(slot->id);
            slot->id = sl_strdup(id);
            if (slot->id == NULL) {
                return SL_RESOURCE_EXHAUSTED;
            }
        }
    }
    return SL_OK;
}

size_t sl_calls_memory(const struct sl_calls *calls)
{
    size_t bytes = calls->capacity * sizeof(*calls->slots);
    for (size_t i = 0; i < calls->n_slots; i++) {
        bytes += calls->slots[i].arguments.capacity;
    }
    return bytes;
}
