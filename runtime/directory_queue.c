#include "runtime/directory_queue.h"

/* The mean follows the last eight gaps or so. */
enum { GAP_WEIGHT = 8 };

void sl_directory_queue_init(struct sl_directory_queue *queue)
{
    *queue = (struct sl_directory_queue){ .is_slow = false };
    sl_list_init(&queue->waiting);
    sl_list_init(&queue->lines);
}

void sl_queue_line_init(struct sl_queue_line *line)
{
    *line = (struct sl_queue_line){ .n_running = 0 };
    sl_list_init(&line->node);
    sl_list_init(&line->waiting);
}

/* Looks how long the first one has waited. Newest first ends when nobody waits any more. */
static void look(struct sl_directory_queue *queue)
{
    struct sl_list *first = sl_list_first(&queue->waiting);
    if (first == NULL) {
        queue->is_slow = queue->is_newest_first = false;
        return;
    }
    const uint64_t waited_ns =
        queue->now_ns - SL_CONTAINER(first, struct sl_ticket, node)->since_ns;
    if (waited_ns <= SL_QUEUE_SLOW_MS * SL_NS_PER_MS) {
        queue->is_slow = false;
    } else if (!queue->is_slow) {
        queue->is_slow = true;
        queue->slow_since_ns = queue->now_ns;
    } else if (queue->now_ns - queue->slow_since_ns > SL_QUEUE_SLOW_FOR_MS * SL_NS_PER_MS) {
        queue->is_newest_first = true;
    }
}

/* Loops read their clocks at different moments. */
void sl_directory_queue_tick(struct sl_directory_queue *queue, uint64_t now_ns)
{
    if (now_ns > queue->now_ns) {
        queue->now_ns = now_ns;
    }
    look(queue);
}

void sl_directory_queue_add(
    struct sl_directory_queue *queue, struct sl_queue_line *line, struct sl_ticket *ticket)
{
    ticket->line = line;
    ticket->since_ns = queue->now_ns;
    ticket->is_short = queue->is_newest_first;
    sl_list_add_last(&queue->waiting, &ticket->node);
    if (sl_list_is_empty(&line->waiting)) {
        sl_list_add_last(&queue->lines, &line->node);
    }
    sl_list_add_last(&line->waiting, &ticket->line_node);
}

void sl_directory_queue_remove(struct sl_directory_queue *queue, struct sl_ticket *ticket)
{
    struct sl_queue_line *line = SL_TAKE(ticket->line);
    sl_list_remove(&ticket->node);
    sl_list_remove(&ticket->line_node);
    if (sl_list_is_empty(&line->waiting)) {
        sl_list_remove(&line->node);
    }
    look(queue);
}

/* The first in turn that has less than half of the slots; when all have as much, the first. */
static struct sl_queue_line *choose_line(struct sl_directory_queue *queue, uint64_t max_runs)
{
    SL_LIST_EACH(node, &queue->lines) {
        struct sl_queue_line *line = SL_CONTAINER(node, struct sl_queue_line, node);
        if (line->n_running < max_runs / 2) {
            return line;
        }
    }
    struct sl_list *first = sl_list_first(&queue->lines);
    return first == NULL ? NULL : SL_CONTAINER(first, struct sl_queue_line, node);
}

struct sl_ticket *sl_directory_queue_next(struct sl_directory_queue *queue, uint64_t max_runs)
{
    struct sl_queue_line *line = choose_line(queue, max_runs);
    if (line == NULL) {
        return NULL;
    }
    struct sl_list *node = queue->is_newest_first ? line->waiting.previous : line->waiting.next;
    struct sl_ticket *ticket = SL_CONTAINER(node, struct sl_ticket, line_node);
    sl_list_remove(&line->node);
    sl_list_add_last(&queue->lines, &line->node); /* its next turn is after the others' */
    sl_directory_queue_remove(queue, ticket);
    return ticket;
}

/* While nobody waits the gaps say nothing about how long one would. */
void sl_directory_queue_freed(struct sl_directory_queue *queue)
{
    if (sl_list_is_empty(&queue->waiting)) {
        queue->has_freed = false;
        return;
    }
    if (queue->has_freed) {
        const uint64_t gap_ns = queue->now_ns - queue->freed_ns;
        queue->gap_ns =
            queue->gap_ns == 0 ? gap_ns : (queue->gap_ns * (GAP_WEIGHT - 1) + gap_ns) / GAP_WEIGHT;
    }
    queue->has_freed = true;
    queue->freed_ns = queue->now_ns;
}

uint64_t sl_directory_queue_wait_ms(const struct sl_directory_queue *queue, uint64_t n_waiting)
{
    const uint64_t gap_ms = queue->gap_ns / SL_NS_PER_MS;
    const uint64_t n = n_waiting + 1;
    return gap_ms > UINT64_MAX / n ? UINT64_MAX : gap_ms * n;
}
