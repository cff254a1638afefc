/* A run's events as a person wants to see them: live text, what each tool does and how long it
 * took, iterations, and the tokens at the end. On a terminal with colours and a spinner line while
 * nothing happens. What models and tools say cannot move the cursor: control characters are shown
 * as dots. */
#ifndef SL_SERVICE_CLI_VIEW_H
#define SL_SERVICE_CLI_VIEW_H

#include <stdio.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/loop.h"

enum { SL_VIEW_TOOLS = 64 };

/* What the output can do. All false: a file. */
struct sl_view_style {
    bool is_terminal;        /* a line can be wiped: there is a spinner */
    bool has_colours;        /* no colours where NO_COLOR is set */
    size_t (*columns)(void); /* of the terminal, now; NULL or 0: unknown */
};

struct sl_view {
    FILE *out;
    struct sl_view_style style;
    struct sl_loop *loop;
    struct sl_timer spinner;
    unsigned spinner_turn;
    bool has_spinner_line;
    enum { SL_VIEW_NOTHING, SL_VIEW_TEXT, SL_VIEW_THINKING } open; /* a line that is not ended */
    bool is_at_start; /* the text that is open ended its line itself */
    uint64_t waiting_since_ns;
    struct {
        char id[64], name[64];
        uint64_t since_ns;
    } tools[SL_VIEW_TOOLS]; /* asked for and not complete */
    size_t n_tools;
    bool is_held;    /* somebody else's line is open: no spinner */
    char run_id[64]; /* "": not known; its owner may set it */
};

/* `loop` drives the spinner. Borrows both. */
void sl_view_init(
    struct sl_view *view, FILE *out, const struct sl_view_style *style, struct sl_loop *loop);
void sl_view_event(struct sl_view *view, const Sluice__V1__StreamEvent *event);
/* Makes room for a line of somebody else's: on a terminal, what is open ends here. A file stays as
 * it is, for that line goes elsewhere. */
void sl_view_interrupt(struct sl_view *view);
/* The line behind the last event is somebody else's, or no longer. */
void sl_view_hold(struct sl_view *view, bool is_held);
/* Ends an open line and the spinner. */
void sl_view_done(struct sl_view *view);

#endif
