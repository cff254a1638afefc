/* Assembly of tool calls from the fragments of a stream (PM-2.3). Must survive servers that number
 * all calls 0, give no numbers, no ids, or everything in one piece. */
#ifndef SL_RUNTIME_MODEL_OPENAI_CALLS_H
#define SL_RUNTIME_MODEL_OPENAI_CALLS_H

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/base/limits.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "runtime/model/provider.h"

struct sl_call_slot {
    bool has_index;
    int64_t index;   /* the provider's */
    char *id, *name; /* NULL: not known */
    struct sl_buf arguments;
    bool is_over;   /* they were longer than their limit: only the beginning is here */
    json_t *opaque; /* members that nobody knows, name and JSON text, to be sent back; NULL: none */
    size_t opaque_bytes; /* at most, written with their names */
};

struct sl_calls {
    const struct sl_limits *limits;
    struct sl_call_slot *slots; /* in the order in which they were opened */
    size_t n_slots, capacity;
};

/* A piece of `tool_calls`, taken apart. */
struct sl_call_fragment {
    bool has_index;
    int64_t index;
    const char *id, *name; /* NULL: none */
    struct sl_slice arguments;
    json_t *call; /* for members that nobody knows; NULL: none */
};

void sl_calls_init(struct sl_calls *calls, const struct sl_limits *limits);
void sl_calls_done(struct sl_calls *calls);
/* Memory of the slots and their arguments; not there: JSON trees. */
size_t sl_calls_memory(const struct sl_calls *calls);

/* Adds a fragment; gives its slot's number. Fails: SL_INVALID_ARGUMENT it contradicts what came
 * before; SL_OUT_OF_RANGE too many calls, or too long unknown members;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_calls_add(struct sl_calls *calls, const struct sl_call_fragment *fragment, size_t *ret_slot);

/* All fragments are there: mints missing and repeated ids, and gives the order of the provider's
 * numbers. `order` has room for n_slots. Fails: SL_INVALID_ARGUMENT a call has no name;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_calls_close(struct sl_calls *calls, enum sl_quirk_id format, size_t *order);

/* Writes the members of the slot that nobody knows as one object. Gives: sl_free(). NULL: no
 * memory.
 */
SL_CHECK char *sl_calls_opaque(const struct sl_calls *calls, const struct sl_call_slot *slot);

/* A new id: "call_" and 24 characters, or 9 characters. */
enum { SL_CALL_ID_BYTES = 32 };
void sl_call_id_mint(enum sl_quirk_id format, char room[SL_CALL_ID_BYTES]);

#endif
