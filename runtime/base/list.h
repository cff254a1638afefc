/* Intrusive doubly linked list. The head is a node of its own; all zero is not a valid head. */
#ifndef SL_RUNTIME_BASE_LIST_H
#define SL_RUNTIME_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/mem.h"

struct sl_list {
    struct sl_list *next, *previous;
};

static inline void sl_list_init(struct sl_list *head)
{
    head->next = head->previous = head;
}

static inline bool sl_list_is_empty(const struct sl_list *head)
{
    return head->next == head;
}

static inline void sl_list_add_last(struct sl_list *head, struct sl_list *node)
{
    node->previous = head->previous;
    node->next = head;
    head->previous->next = node;
    head->previous = node;
}

/* The node is a list of itself afterwards, so removing it twice is harmless. */
static inline void sl_list_remove(struct sl_list *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    sl_list_init(node);
}

/* NULL: empty. */
static inline struct sl_list *sl_list_first(const struct sl_list *head)
{
    return sl_list_is_empty(head) ? NULL : head->next;
}

/* `node` may be removed inside the loop, others may not. */
#define SL_LIST_EACH(node, head)                                                                   \
    /* NOLINTNEXTLINE(bugprone-macro-parentheses): a name that is declared takes none */           \
    for (struct sl_list *node = (head)->next, *sl_next_##node = (node)->next; (node) != (head);    \
         (node) = sl_next_##node, sl_next_##node = (node)->next)

#endif
