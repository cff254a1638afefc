/* How many requests a provider gets at once, over all loops: who comes too late waits in line. */
#ifndef SL_RUNTIME_MODEL_GATE_H
#define SL_RUNTIME_MODEL_GATE_H

#include <pthread.h>

#include "runtime/base/list.h"
#include "runtime/base/loop.h"

struct sl_gate {
    uint64_t max;
    struct {
        pthread_mutex_t lock;
        uint64_t n_inside;
        struct sl_list waiting;
    } shared;
};

enum sl_gate_place { SL_GATE_OUTSIDE, SL_GATE_WAITING, SL_GATE_CALLED, SL_GATE_INSIDE };

/* One request's place; embedded in its owner. */
struct sl_gate_ticket {
    struct sl_list node;
    struct sl_task task;
    struct sl_loop *loop;
    void (*on_open)(void *user_data); /* on `loop` */
    void *user_data;
    enum sl_gate_place place; /* WAITING and CALLED: under the gate's lock */
};

void sl_gate_init(struct sl_gate *gate, uint64_t max);
/* Nobody may be inside or wait. */
void sl_gate_done(struct sl_gate *gate);

void sl_gate_ticket_init(
    struct sl_gate_ticket *ticket,
    struct sl_loop *loop,
    void (*on_open)(void *user_data),
    void *user_data);
/* True: inside. False: on_open will come. Thread: the ticket's loop. */
bool sl_gate_enter(struct sl_gate *gate, struct sl_gate_ticket *ticket);
/* Leaves the gate or the line, and says where it was. CALLED: on_open comes all the same, because
 * it was on its way; the ticket must live until then, and leave again. Thread: the ticket's loop.
 */
enum sl_gate_place sl_gate_leave(struct sl_gate *gate, struct sl_gate_ticket *ticket);

#endif
