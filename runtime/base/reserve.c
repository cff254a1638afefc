#include "runtime/base/reserve.h"

#include <assert.h>
#include <stdint.h>

#include "runtime/base/mem.h"

enum { ALIGNMENT = 16 };

/* In front of each block, used or free; blocks fill the piece without a gap. */
struct head {
    uint32_t size; /* bytes behind this head */
    uint32_t is_used;
    uint64_t unused; /* so that what follows is aligned */
};

struct sl_reserve_piece {
    struct sl_reserve_piece *next;
    size_t n_used;
    _Alignas(ALIGNMENT) uint8_t bytes[SL_RESERVE_BYTES];
};

static struct head *head_at(struct sl_reserve_piece *piece, size_t at)
{
    return (struct head *)(void *)(piece->bytes + at);
}

static size_t behind(const struct head *head, size_t at)
{
    return at + sizeof(*head) + head->size;
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

static void clear(struct sl_reserve_piece *piece)
{
    *head_at(piece, 0) = (struct head){ .size = SL_RESERVE_BYTES - sizeof(struct head) };
}

static enum sl_status add_piece(struct sl_reserve *reserve)
{
    struct sl_reserve_piece *piece =
        reserve->n_pieces < SL_RESERVE_PIECES ? sl_alloc(sizeof(*piece)) : NULL;
    if (piece == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    piece->n_used = 0;
    clear(piece);
    piece->next = reserve->pieces;
    reserve->pieces = piece;
    reserve->n_pieces++;
    reserve->free_bytes += SL_RESERVE_BYTES;
    return SL_OK;
}

enum sl_status sl_reserve_fill(struct sl_reserve *reserve)
{
    return reserve->free_bytes >= SL_RESERVE_LEAST ? SL_OK : add_piece(reserve);
}

static struct sl_reserve_piece **find_piece(struct sl_reserve *reserve, const void *block)
{
    struct sl_reserve_piece **at = &reserve->pieces;
    for (; *at != NULL; at = &(*at)->next) {
        const uintptr_t first = (uintptr_t)(*at)->bytes;
        if ((uintptr_t)block > first && (uintptr_t)block < first + SL_RESERVE_BYTES) {
            break;
        }
    }
    return at;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* Joins the free blocks from `at` on into one. */
static void join(struct sl_reserve_piece *piece, size_t at)
{
    struct head *head = head_at(piece, at);
    for (size_t next = behind(head, at); next < SL_RESERVE_BYTES; next = behind(head, at)) {
        const struct head *neighbour = head_at(piece, next);
        if (neighbour->is_used != 0) {
            return;
        }
        head->size += (uint32_t)(sizeof(*neighbour) + neighbour->size);
    }
}

/* Cuts the block so that the rest is a block of its own, if it is worth it. */
static void cut(struct sl_reserve_piece *piece, size_t at, size_t size)
{
    struct head *head = head_at(piece, at);
    if (head->size < size + sizeof(struct head) + ALIGNMENT) {
        return;
    }
    const size_t rest = head->size - size - sizeof(struct head);
    head->size = (uint32_t)size;
    *head_at(piece, behind(head, at)) = (struct head){ .size = (uint32_t)rest };
}

static struct head *take(struct sl_reserve_piece *piece, size_t size)
{
    for (size_t at = 0; at < SL_RESERVE_BYTES; at = behind(head_at(piece, at), at)) {
        struct head *head = head_at(piece, at);
        if (head->is_used != 0) {
            continue;
        }
        join(piece, at);
        if (head->size >= size) {
            cut(piece, at, size);
            head->is_used = 1;
            piece->n_used++;
            return head;
        }
    }
    return NULL;
}

void *sl_reserve_alloc(struct sl_reserve *reserve, size_t size, size_t keep)
{
    if (size > SL_RESERVE_BYTES || reserve->free_bytes < keep + size + sizeof(struct head)) {
        return NULL;
    }
    size = size == 0 ? ALIGNMENT : (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (struct sl_reserve_piece *piece = reserve->pieces; piece != NULL; piece = piece->next) {
        struct head *head = take(piece, size);
        if (head != NULL) {
            reserve->free_bytes -= sizeof(*head) + head->size;
            reserve->n_blocks++;
            return head + 1;
        }
    }
    return NULL;
}

bool sl_reserve_has(const struct sl_reserve *reserve, const void *block)
{
    return reserve->n_blocks > 0 && block != NULL &&
           *find_piece((struct sl_reserve *)sl_unconst(reserve), block) != NULL;
}

size_t sl_reserve_size(const void *block)
{
    const struct head *head = block;
    return head[-1].size;
}

void sl_reserve_free(struct sl_reserve *reserve, void *block)
{
    struct sl_reserve_piece **at = find_piece(reserve, block);
    struct sl_reserve_piece *piece = *at;
    assert(piece != NULL);
    struct head *head = (struct head *)block - 1;
    assert(head->is_used == 1);
    head->is_used = 0;
    reserve->free_bytes += sizeof(*head) + head->size;
    reserve->n_blocks--;
    piece->n_used--;
    if (piece->n_used > 0) {
        return;
    }
    clear(piece);
    if (reserve->n_pieces > 1) {
        *at = piece->next;
        reserve->n_pieces--;
        reserve->free_bytes -= SL_RESERVE_BYTES;
        (void)sl_free(piece);
    }
}

void sl_reserve_done(struct sl_reserve *reserve)
{
    assert(reserve->n_blocks == 0);
    while (reserve->pieces != NULL) {
        struct sl_reserve_piece *piece = reserve->pieces;
        reserve->pieces = piece->next;
        (void)sl_free(piece);
    }
    *reserve = (struct sl_reserve){ 0 };
}
