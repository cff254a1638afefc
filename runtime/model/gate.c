#include "runtime/model/gate.h"

#include "runtime/base/metrics.h"

void sl_gate_init(struct sl_gate *gate, uint64_t max)
{
    *gate = (struct sl_gate){ .max = max };
    (void)pthread_mutex_init(&gate->shared.lock, NULL);
    sl_list_init(&gate->shared.waiting);
}

void sl_gate_done(struct sl_gate *gate)
{
    (void)pthread_mutex_destroy(&gate->shared.lock);
}

static void run_called(struct sl_task *task)
{
    struct sl_gate_ticket *ticket = SL_CONTAINER(task, struct sl_gate_ticket, task);
    ticket->place = SL_GATE_INSIDE;
    ticket->on_open(ticket->user_data);
}

void sl_gate_ticket_init(
    struct sl_gate_ticket *ticket,
    struct sl_loop *loop,
    void (*on_open)(void *user_data),
    void *user_data)
{
    *ticket = (struct sl_gate_ticket){
        .task = { .run = run_called },
        .loop = loop,
        .on_open = on_open,
        .user_data = user_data,
    };
    sl_list_init(&ticket->node);
}

bool sl_gate_enter(struct sl_gate *gate, struct sl_gate_ticket *ticket)
{
    (void)pthread_mutex_lock(&gate->shared.lock);
    const bool is_open = gate->shared.n_inside < gate->max;
    if (is_open) {
        gate->shared.n_inside++;
        ticket->place = SL_GATE_INSIDE;
    } else {
        sl_limit_reached(SL_LIMIT_model_concurrent);
        ticket->place = SL_GATE_WAITING;
        sl_list_add_last(&gate->shared.waiting, &ticket->node);
    }
    (void)pthread_mutex_unlock(&gate->shared.lock);
    return is_open;
}

/* The place that became free goes to the first in line, or back. Under the lock. */
static void pass_on(struct sl_gate *gate)
{
    struct sl_list *node = sl_list_first(&gate->shared.waiting);
    if (node == NULL) {
        gate->shared.n_inside--;
        return;
    }
    struct sl_gate_ticket *next = SL_CONTAINER(node, struct sl_gate_ticket, node);
    sl_list_remove(node);
    next->place = SL_GATE_CALLED;
    sl_loop_post(next->loop, &next->task);
}

enum sl_gate_place sl_gate_leave(struct sl_gate *gate, struct sl_gate_ticket *ticket)
{
    (void)pthread_mutex_lock(&gate->shared.lock);
    const enum sl_gate_place place = ticket->place;
    if (place == SL_GATE_WAITING) {
        sl_list_remove(&ticket->node);
    } else if (place == SL_GATE_INSIDE) {
        pass_on(gate);
    }
    if (place != SL_GATE_CALLED) {
        ticket->place = SL_GATE_OUTSIDE;
    }
    (void)pthread_mutex_unlock(&gate->shared.lock);
    return place;
}
