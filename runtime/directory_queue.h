/* Who of those that wait for a slot comes next, and how long that is likely to take: part of the
 * directory, under its lock (reliability 5.1).
 *
 *   queue ─▶ line of a tenant ─▶ its tickets, first come first
 *
 * Tenants take turns. One that has half of the slots gets no more while another waits. When the
 * queue has been slow for a while, the newest of a tenant comes first: those that wait longest
 * would only be served when nobody waits for their answers any more. */
#ifndef SL_RUNTIME_DIRECTORY_QUEUE_H
#define SL_RUNTIME_DIRECTORY_QUEUE_H

#include "runtime/directory.h"

/* The first has waited for so long, for so long: then the newest come first, and wait so long. */
enum { SL_QUEUE_SLOW_MS = 500, SL_QUEUE_SLOW_FOR_MS = 5000, SL_QUEUE_SHORT_WAIT_MS = 500 };

/* Of one tenant. All zero but for the list. */
struct sl_queue_line {
    struct sl_list node;    /* of the queue, while somebody waits */
    struct sl_list waiting; /* sl_ticket.line_node */
    uint64_t n_running;     /* slots that the tenant has */
};

struct sl_directory_queue {
    struct sl_list waiting; /* sl_ticket.node, of all, in the order in which they came */
    struct sl_list lines;   /* in the order of their turns */
    uint64_t now_ns;        /* the latest time that was told */
    bool is_slow, is_newest_first;
    uint64_t slow_since_ns;
    bool has_freed;
    uint64_t freed_ns, gap_ns; /* when a slot became free for one that waited; mean time between */
};

void sl_directory_queue_init(struct sl_directory_queue *queue);
void sl_queue_line_init(struct sl_queue_line *line);
/* Tells what time it is; times may come out of order. */
void sl_directory_queue_tick(struct sl_directory_queue *queue, uint64_t now_ns);
/* Sets whether the ticket is to wait for a short time only. */
void sl_directory_queue_add(
    struct sl_directory_queue *queue, struct sl_queue_line *line, struct sl_ticket *ticket);
void sl_directory_queue_remove(struct sl_directory_queue *queue, struct sl_ticket *ticket);
/* Takes out who is next; NULL: nobody waits. `max_runs`: slots. */
struct sl_ticket *sl_directory_queue_next(struct sl_directory_queue *queue, uint64_t max_runs);
/* A slot has become free. */
void sl_directory_queue_freed(struct sl_directory_queue *queue);
/* How long one more would wait behind `n_waiting`. 0: nobody knows. */
uint64_t sl_directory_queue_wait_ms(const struct sl_directory_queue *queue, uint64_t n_waiting);

#endif
