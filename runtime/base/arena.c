#include "runtime/base/arena.h"

#include "runtime/base/mem.h"

enum { FIRST_BLOCK_BYTES = 256, LAST_BLOCK_BYTES = 64 * 1024, ALIGNMENT = 16 };

struct sl_arena_block {
    struct sl_arena_block *next;
    size_t capacity; /* of `bytes` */
    size_t used;
    _Alignas(ALIGNMENT) uint8_t bytes[];
};

void sl_arena_init(struct sl_arena *arena, size_t max_bytes)
{
    *arena = (struct sl_arena){ .max_bytes = max_bytes };
}

/* Size of the block that holds `size` bytes: the next of the series, less near the maximum, more
 * for a large request. 0: the maximum does not allow it. */
static size_t choose_block_size(const struct sl_arena *arena, size_t size)
{
    size_t block_bytes = FIRST_BLOCK_BYTES;
    while (block_bytes < LAST_BLOCK_BYTES && block_bytes * 2 <= arena->used_bytes) {
        block_bytes *= 2;
    }
    const size_t least = sizeof(struct sl_arena_block) + size;
    if (block_bytes < least) {
        block_bytes = least;
    }
    if (arena->max_bytes == 0) {
        return block_bytes;
    }
    const size_t left = arena->max_bytes - arena->used_bytes;
    if (least > left) {
        return 0;
    }
    return block_bytes < left ? block_bytes : left;
}

static struct sl_arena_block *add_block(struct sl_arena *arena, size_t size)
{
    const size_t block_bytes = choose_block_size(arena, size);
    arena->is_full |= block_bytes == 0;
    struct sl_arena_block *block = block_bytes == 0 ? NULL : sl_alloc(block_bytes);
    if (block == NULL) {
        return NULL;
    }
    block->capacity = block_bytes - sizeof(*block);
    block->used = 0;
    arena->used_bytes += block_bytes;
    struct sl_arena_block *current = arena->blocks;
    /* The block with more room left stays first, so that a large request does not waste it. */
    if (current != NULL && current->capacity - current->used > block->capacity - size) {
        block->next = current->next;
        current->next = block;
    } else {
        block->next = current;
        arena->blocks = block;
    }
    return block;
}

void *sl_arena_alloc(struct sl_arena *arena, size_t size)
{
    if (size > SIZE_MAX - ALIGNMENT - sizeof(struct sl_arena_block)) {
        arena->is_refused = true;
        return NULL;
    }
    const size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct sl_arena_block *block = arena->blocks;
    if (block == NULL || block->capacity - block->used < rounded) {
        block = add_block(arena, rounded);
        if (block == NULL) {
            arena->is_refused = true;
            return NULL;
        }
    }
    void *room = block->bytes + block->used;
    block->used += rounded;
    return room;
}

void *sl_arena_calloc(struct sl_arena *arena, size_t n, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(n, size, &total)) {
        arena->is_refused = true;
        return NULL;
    }
    void *room = sl_arena_alloc(arena, total);
    if (room != NULL) {
        memset(room, 0, total);
    }
    return room;
}

char *sl_arena_dup(struct sl_arena *arena, struct sl_slice text)
{
    if (text.size == SIZE_MAX) {
        arena->is_refused = true;
        return NULL;
    }
    char *copy = sl_arena_alloc(arena, text.size + 1);
    if (copy != NULL) {
        if (text.size > 0) {
            memcpy(copy, text.data, text.size);
        }
        copy[text.size] = '\0';
    }
    return copy;
}

void sl_arena_done(struct sl_arena *arena)
{
    while (arena->blocks != NULL) {
        struct sl_arena_block *next = arena->blocks->next;
        sl_free(arena->blocks);
        arena->blocks = next;
    }
    arena->used_bytes = 0;
    arena->is_refused = false;
}
