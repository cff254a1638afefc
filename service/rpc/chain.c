#include "service/rpc/chain.h"

#include "runtime/base/mem.h"

enum {
    SMALL_BYTES = 1024,
    LARGE_BYTES = 16384,
    LONG_BYTES = 1024, /* a queue with more than this gets large blocks */
    POOL_BLOCKS = 16
};

struct sl_chain_block {
    struct sl_chain_block *next;
    size_t start, end, capacity;
    uint8_t bytes[];
};

static size_t room_of(const struct sl_chain_block *block)
{
    return block->capacity - block->end;
}

static struct sl_chain_block *new_block(struct sl_chain_pool *pool, size_t queued, size_t size)
{
    const size_t small = SMALL_BYTES - sizeof(struct sl_chain_block);
    size_t capacity = queued > LONG_BYTES ? LARGE_BYTES - sizeof(struct sl_chain_block) : small;
    capacity = size > capacity ? size : capacity;
    struct sl_chain_block *block = NULL;
    if (capacity == small && pool->blocks != NULL) {
        block = pool->blocks;
        pool->blocks = block->next;
        pool->n_blocks--;
    } else {
        block = capacity > SIZE_MAX - sizeof(*block) ? NULL : sl_alloc(sizeof(*block) + capacity);
    }
    if (block != NULL) {
        block->next = NULL;
        block->start = block->end = 0;
        block->capacity = capacity;
    }
    return block;
}

static void release_block(struct sl_chain_pool *pool, struct sl_chain_block *block)
{
    if (block->capacity == SMALL_BYTES - sizeof(*block) && pool->n_blocks < POOL_BLOCKS) {
        block->next = pool->blocks;
        pool->blocks = block;
        pool->n_blocks++;
        return;
    }
    (void)sl_free(block);
}

static void append_block(struct sl_chain *chain, struct sl_chain_block *block)
{
    if (chain->last == NULL) {
        chain->first = block;
    } else {
        chain->last->next = block;
    }
    chain->last = block;
}

uint8_t *sl_chain_reserve(struct sl_chain *chain, struct sl_chain_pool *pool, size_t size)
{
    if (chain->last == NULL || room_of(chain->last) < size) {
        struct sl_chain_block *block = new_block(pool, chain->size, size);
        if (block == NULL) {
            return NULL;
        }
        append_block(chain, block);
    }
    return chain->last->bytes + chain->last->end;
}

void sl_chain_commit(struct sl_chain *chain, size_t size)
{
    chain->last->end += size;
    chain->size += size;
}

enum sl_status
sl_chain_add(struct sl_chain *chain, struct sl_chain_pool *pool, struct sl_slice bytes)
{
    if (bytes.size == 0) {
        return SL_OK;
    }
    const size_t room = chain->last == NULL ? 0 : room_of(chain->last);
    const size_t head = bytes.size < room ? bytes.size : room;
    if (head < bytes.size) {
        struct sl_chain_block *block = new_block(pool, chain->size, bytes.size - head);
        if (block == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        block->end = bytes.size - head;
        memcpy(block->bytes, bytes.data + head, block->end);
        if (head > 0) {
            memcpy(chain->last->bytes + chain->last->end, bytes.data, head);
            chain->last->end += head;
        }
        append_block(chain, block);
    } else {
        memcpy(chain->last->bytes + chain->last->end, bytes.data, head);
        chain->last->end += head;
    }
    chain->size += bytes.size;
    return SL_OK;
}

struct sl_slice sl_chain_peek(const struct sl_chain *chain)
{
    const struct sl_chain_block *block = chain->first;
    while (block != NULL && block->start == block->end) {
        block = block->next; /* reserved, and nothing was committed */
    }
    return block == NULL ? (struct sl_slice){ 0 }
                         : sl_slice_of(block->bytes + block->start, block->end - block->start);
}

/* Copies when `dst` is not NULL. */
static void
remove_bytes(struct sl_chain *chain, struct sl_chain_pool *pool, uint8_t *dst, size_t size)
{
    chain->size -= size;
    for (struct sl_chain_block *block; size > 0 && (block = chain->first) != NULL;) {
        const size_t held = block->end - block->start;
        const size_t part = size < held ? size : held;
        if (dst != NULL && part > 0) {
            memcpy(dst, block->bytes + block->start, part);
            dst += part;
        }
        block->start += part;
        size -= part;
        if (block->start == block->end && (size > 0 || chain->size == 0)) {
            chain->first = block->next;
            chain->last = chain->first == NULL ? NULL : chain->last;
            release_block(pool, block);
        }
    }
}

void sl_chain_skip(struct sl_chain *chain, struct sl_chain_pool *pool, size_t size)
{
    remove_bytes(chain, pool, NULL, size);
}

void sl_chain_take(struct sl_chain *chain, struct sl_chain_pool *pool, uint8_t *dst, size_t size)
{
    remove_bytes(chain, pool, dst, size);
}

void sl_chain_done(struct sl_chain *chain, struct sl_chain_pool *pool)
{
    while (chain->first != NULL) {
        struct sl_chain_block *block = chain->first;
        chain->first = block->next;
        release_block(pool, block);
    }
    *chain = (struct sl_chain){ 0 };
}

void sl_chain_pool_done(struct sl_chain_pool *pool)
{
    while (pool->blocks != NULL) {
        struct sl_chain_block *block = pool->blocks;
        pool->blocks = block->next;
        (void)sl_free(block);
    }
    pool->n_blocks = 0;
}
