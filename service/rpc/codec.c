#include "service/rpc/codec.h"

#include <assert.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "runtime/base/metrics.h"
#include "service/rpc/prescan.h"

/* WS-6: a message may need message_memory times its size, and this. */
enum { MEMORY_EXTRA = 64 * 1024, ALIGNMENT = 16 };

/* What protobuf-c allocates for one message. It lives and dies with the arena. */
struct budget {
    struct sl_arena *arena;
    size_t left;
    bool is_refused;
    bool is_over; /* refused by the budget, not for want of memory */
};

static void *budget_alloc(void *allocator_data, size_t size)
{
    struct budget *budget = allocator_data;
    if (size > budget->left) {
        budget->is_refused = budget->is_over = true;
        return NULL;
    }
    void *block = sl_arena_alloc(budget->arena, size);
    if (block == NULL) {
        budget->is_refused = true;
        return NULL;
    }
    const size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    budget->left -= rounded < budget->left ? rounded : budget->left;
    return block;
}

/* The arena takes everything back at once. Memory that protobuf-c frees stays counted: the budget
 * also bounds the work of merging the same field again and again. */
static void budget_free(void *allocator_data, void *pointer)
{
    (void)allocator_data;
    (void)pointer;
}

static size_t budget_of(const struct sl_limits *limits, size_t size)
{
    const size_t factor = (size_t)limits->message_memory;
    return size > (SIZE_MAX - MEMORY_EXTRA) / factor ? SIZE_MAX : size * factor + MEMORY_EXTRA;
}

static enum sl_status decode(
    const struct sl_limits *limits,
    const void *type,
    struct sl_slice bytes,
    struct sl_arena *arena,
    void **ret_message,
    struct sl_error *err)
{
    const ProtobufCMessageDescriptor *descriptor = type;
    struct sl_slice checked;
    SL_TRY(sl_prescan(limits, descriptor, bytes, arena, &checked, err));
    struct budget budget = { .arena = arena, .left = budget_of(limits, bytes.size) };
    ProtobufCAllocator allocator = {
        .alloc = budget_alloc,
        .free = budget_free,
        .allocator_data = &budget,
    };
    /* protobuf-c wants a place even for nothing. */
    const uint8_t *data = checked.size == 0 ? (const uint8_t *)"" : checked.data;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, &allocator, checked.size, data);
    if (message == NULL && budget.is_refused) {
        if (budget.is_over) {
            sl_limit_reached(SL_LIMIT_message_memory);
        }
        return sl_fail(
            err, SL_RESOURCE_EXHAUSTED, "message %s of %zu bytes needs too much memory",
            descriptor->name, bytes.size);
    }
    if (message == NULL) {
        return sl_fail(
            err, SL_INTERNAL, "message %s does not parse: a required field is missing or malformed",
            descriptor->name);
    }
    *ret_message = message;
    return SL_OK;
}

static size_t encoded_size(const void *message)
{
    assert(protobuf_c_message_check(message));
    return protobuf_c_message_get_packed_size(message);
}

static void encode(const void *message, uint8_t *room)
{
    (void)protobuf_c_message_pack(message, room);
}

static void *create(const void *type, struct sl_arena *arena)
{
    const ProtobufCMessageDescriptor *descriptor = type;
    void *message = sl_arena_alloc(arena, descriptor->sizeof_message);
    if (message != NULL) {
        protobuf_c_message_init(descriptor, message);
    }
    return message;
}

const struct sl_codec sl_codec_proto = {
    .struct_size = sizeof(struct sl_codec),
    .subtype = "proto",
    .decode = decode,
    .encoded_size = encoded_size,
    .encode = encode,
    .create = create,
};
