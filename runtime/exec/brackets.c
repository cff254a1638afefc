#include "runtime/exec/brackets.h"

static void read_on(struct sl_brackets *brackets);

static void finish(struct sl_brackets *brackets, enum sl_status status)
{
    if (status == SL_OK) {
        struct sl_closing_events events;
        status =
            sl_closing_write_brackets(&brackets->closing, sl_loop_wall_ms(brackets->loop), &events);
        if (status == SL_OK) {
            brackets->segment = events.segment;
            brackets->last_sequence = events.last_sequence;
        }
    }
    sl_closing_done(&brackets->closing);
    brackets->on_done(brackets, status);
}

static void page_read(struct sl_brackets *brackets, enum sl_status status)
{
    const bool is_empty = brackets->read.bytes.size == 0;
    if (status == SL_OK) {
        status =
            is_empty ? SL_DATA_LOSS : sl_closing_feed(&brackets->closing, brackets->read.bytes);
    }
    sl_store_request_done(&brackets->read.request);
    if (status == SL_OK && brackets->closing.sequence < brackets->stored) {
        read_on(brackets);
    } else {
        finish(brackets, status);
    }
}

static void on_read(struct sl_store_request *request)
{
    page_read(SL_CONTAINER(request, struct sl_brackets, read.request), request->status);
}

static void read_on(struct sl_brackets *brackets)
{
    if (brackets->must_stop) {
        finish(brackets, SL_CANCELLED);
        return;
    }
    brackets->read = (struct sl_store_read){
        .request = { .loop = brackets->loop, .on_done = on_read },
        .run_id = brackets->run_id,
        .after_sequence = brackets->closing.sequence,
    };
    const enum sl_status status = sl_store_read(brackets->store, &brackets->read);
    if (status != SL_PENDING) {
        page_read(brackets, status);
    }
}

void sl_brackets_begin(struct sl_brackets *brackets)
{
    sl_closing_init(&brackets->closing, 0);
    brackets->segment = NULL;
    if (brackets->stored == 0) {
        finish(brackets, SL_OK);
        return;
    }
    read_on(brackets);
}
