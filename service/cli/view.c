#include "service/cli/view.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "service/cli/text.h"

enum { SPINNER_MS = 100, COLUMNS = 80, MICROS = 1000000 };

#define DIM    "\x1b[2m"
#define BOLD   "\x1b[1m"
#define RED    "\x1b[31m"
#define GREEN  "\x1b[32m"
#define NORMAL "\x1b[0m"

static const char *style(const struct sl_view *view, const char *code)
{
    return view->style.has_colours ? code : "";
}

static void clear_spinner(struct sl_view *view)
{
    if (view->has_spinner_line) {
        (void)fputs("\r\x1b[K", view->out);
        view->has_spinner_line = false;
    }
}

/* Ends a line of text that is still open. */
static void end_line(struct sl_view *view)
{
    if (view->open != SL_VIEW_NOTHING) {
        (void)fprintf(view->out, "%s%s", style(view, NORMAL), view->is_at_start ? "" : "\n");
        view->open = SL_VIEW_NOTHING;
    }
}

static double seconds_since(const struct sl_view *view, uint64_t since_ns)
{
    return (double)(sl_loop_now_ns(view->loop) - since_ns) / 1e9;
}

/* What the run waits for, in one line that is never wider than the terminal: a line that wraps
 * could not be wiped. */
static void put_waiting(const struct sl_view *view, size_t columns)
{
    char text[96];
    for (size_t i = 0; i < view->n_tools && columns > 0; i++) {
        (void)snprintf(
            text, sizeof(text), "%s%.64s %.1f s", i == 0 ? "" : ", ", view->tools[i].name,
            seconds_since(view, view->tools[i].since_ns));
        columns -= sl_text_put_columns(view->out, text, columns);
    }
    if (view->n_tools == 0) {
        (void)snprintf(
            text, sizeof(text), "waiting %.1f s", seconds_since(view, view->waiting_since_ns));
        (void)sl_text_put_columns(view->out, text, columns);
    }
}

static void draw_spinner(void *user_data)
{
    static const char *const turns[] = { "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" };
    struct sl_view *view = user_data;
    sl_timer_start_ms(&view->spinner, SPINNER_MS);
    if (view->open != SL_VIEW_NOTHING || view->is_held) {
        return; /* text is running: it is its own sign of life */
    }
    size_t columns = view->style.columns == NULL ? 0 : view->style.columns();
    columns = columns == 0 ? COLUMNS : columns;
    clear_spinner(view);
    (void)fprintf(
        view->out, "%s%s ", style(view, DIM), turns[view->spinner_turn++ % SL_COUNT(turns)]);
    put_waiting(view, columns > 4 ? columns - 3 : 1); /* the glyph, its space, the last column */
    (void)fputs(style(view, NORMAL), view->out);
    (void)fflush(view->out);
    view->has_spinner_line = true;
}

/* ---- Events ------------------------------------------------------------------------------------
 */

static void show_text(struct sl_view *view, const char *text, bool is_thinking)
{
    const int kind = is_thinking ? SL_VIEW_THINKING : SL_VIEW_TEXT;
    if ((int)view->open != kind) {
        end_line(view);
        view->is_at_start = false;
        if (is_thinking) {
            (void)fprintf(
                view->out, "%s%s", style(view, DIM), view->style.has_colours ? "" : "(thinking) ");
        }
    }
    sl_text_put(view->out, text);
    view->open = is_thinking ? SL_VIEW_THINKING : SL_VIEW_TEXT;
    if (text[0] != '\0') {
        view->is_at_start = text[strlen(text) - 1] == '\n';
    }
}

static void show_tool_start(struct sl_view *view, const Sluice__V1__ToolCallStart *start)
{
    end_line(view);
    (void)fprintf(view->out, "%s→%s ", style(view, BOLD), style(view, NORMAL));
    sl_text_put_line(view->out, start->tool_name, 64);
    (void)fputs(" ", view->out);
    sl_text_put_line(view->out, start->arguments_json, 120);
    (void)fputs("\n", view->out);
    if (view->n_tools < SL_VIEW_TOOLS) {
        (void)snprintf(
            view->tools[view->n_tools].id, sizeof(view->tools[0].id), "%s", start->tool_id);
        (void)snprintf(
            view->tools[view->n_tools].name, sizeof(view->tools[0].name), "%s", start->tool_name);
        view->tools[view->n_tools++].since_ns = sl_loop_now_ns(view->loop);
    }
}

static void forget_tool(struct sl_view *view, const char *id)
{
    for (size_t i = 0; i < view->n_tools; i++) {
        /* a longer id was cut when it was kept */
        if (strncmp(view->tools[i].id, id, sizeof(view->tools[i].id) - 1) == 0) {
            view->tools[i] = view->tools[--view->n_tools];
            return;
        }
    }
}

static void show_tool_complete(struct sl_view *view, const Sluice__V1__ToolCallComplete *complete)
{
    end_line(view);
    forget_tool(view, complete->tool_id);
    const bool is_ok = complete->success != 0;
    (void)fprintf(
        view->out, "%s%s%s ", style(view, is_ok ? GREEN : RED), is_ok ? "✓" : "✗",
        style(view, NORMAL));
    sl_text_put_line(view->out, complete->tool_name, 64);
    (void)fprintf(
        view->out, " %s%" PRIu64 " ms%s ", style(view, DIM), complete->execution_time_ms,
        style(view, NORMAL));
    sl_text_put_line(view->out, is_ok ? complete->result_json : complete->error, 120);
    (void)fputs("\n", view->out);
}

static void show_iteration(struct sl_view *view, const Sluice__V1__IterationStart *start)
{
    end_line(view);
    (void)fprintf(
        view->out, "%s── iteration %u of %u", style(view, DIM), start->iteration,
        start->max_iterations);
    if (start->attempt > 1) {
        (void)fprintf(view->out, ", attempt %u", start->attempt);
    }
    (void)fprintf(view->out, " ──%s\n", style(view, NORMAL));
    view->waiting_since_ns = sl_loop_now_ns(view->loop);
}

static void show_usage(struct sl_view *view, const Sluice__V1__Usage *usage)
{
    if (usage == NULL) {
        return;
    }
    (void)fprintf(
        view->out, ", %s%" PRIu64 " tokens in, %" PRIu64 " out",
        usage->estimated != 0 ? "about " : "", usage->input_tokens, usage->output_tokens);
    if (usage->cache_read_tokens > 0) {
        (void)fprintf(view->out, ", %" PRIu64 " cached", usage->cache_read_tokens);
    }
    if (usage->reasoning_tokens > 0) {
        (void)fprintf(view->out, ", %" PRIu64 " thinking", usage->reasoning_tokens);
    }
    if (usage->_cost_micros_case == SLUICE__V1__USAGE___COST_MICROS_COST_MICROS) {
        (void)fprintf(
            view->out, ", %" PRIu64 ".%06" PRIu64 " ", usage->cost_micros / MICROS,
            usage->cost_micros % MICROS);
        sl_text_put_line(view->out, usage->currency, 8);
    }
}

static void show_done(struct sl_view *view, const Sluice__V1__RunDone *done)
{
    end_line(view);
    (void)fprintf(
        view->out, "%s✓ done%s: %u iteration%s, %.1f s", style(view, GREEN), style(view, NORMAL),
        done->total_iterations, done->total_iterations == 1 ? "" : "s",
        (double)done->execution_time_ms / 1000);
    show_usage(view, done->usage);
    (void)fputs("\n", view->out);
}

static void show_error(struct sl_view *view, const Sluice__V1__RunError *error)
{
    end_line(view);
    const ProtobufCEnumValue *code =
        protobuf_c_enum_descriptor_get_value(&sluice__v1__error_code__descriptor, (int)error->code);
    (void)fprintf(
        view->out, "%s✗ %s%s: ", style(view, RED),
        code == NULL ? "error" : code->name + strlen("ERROR_CODE_"), style(view, NORMAL));
    sl_text_put_line(view->out, error->message, 240);
    (void)fprintf(view->out, " (%.1f s", (double)error->execution_time_ms / 1000);
    show_usage(view, error->usage);
    if (error->error_id[0] != '\0') {
        (void)fputs(", error id ", view->out);
        sl_text_put_line(view->out, error->error_id, 64);
    }
    (void)fputs(")\n", view->out);
}

static void show_started(struct sl_view *view, const Sluice__V1__RunStarted *started)
{
    (void)fprintf(view->out, "%s● ", style(view, BOLD));
    sl_text_put_line(view->out, started->agent_name, 64);
    (void)fprintf(view->out, "%s%s  ", style(view, NORMAL), style(view, DIM));
    sl_text_put_line(view->out, started->provider, 64);
    (void)fputs(":", view->out);
    sl_text_put_line(view->out, started->model, 64);
    (void)fputs("  run ", view->out);
    sl_text_put_line(view->out, started->run_id, 64);
    (void)fprintf(view->out, "%s\n", style(view, NORMAL));
}

static void show_progress(struct sl_view *view, const Sluice__V1__ToolProgress *progress)
{
    end_line(view);
    (void)fprintf(view->out, "%s  ", style(view, DIM));
    sl_text_put_line(
        view->out, progress->output_chunk[0] != '\0' ? progress->output_chunk : progress->message,
        200);
    (void)fprintf(view->out, "%s\n", style(view, NORMAL));
}

/* Everything that somebody needs who decides elsewhere. */
static void show_requested(struct sl_view *view, const Sluice__V1__ApprovalRequested *requested)
{
    end_line(view);
    (void)fprintf(view->out, "%s?%s ", style(view, BOLD), style(view, NORMAL));
    sl_text_put_line(view->out, requested->tool_name, 64);
    (void)fputs(" needs an approval: sluice approve ", view->out);
    sl_text_put_line(view->out, view->run_id, 64);
    (void)fputs(" ", view->out);
    sl_text_put_line(view->out, requested->approval_id, 64);
    (void)fputs("\n", view->out);
}

static void show_decided(struct sl_view *view, const Sluice__V1__ApprovalDecided *decided)
{
    static const char *const names[] = { "decided", "approved", "denied", "expired", "cancelled" };
    const unsigned decision = (unsigned)decided->decision;
    end_line(view);
    (void)fprintf(
        view->out, "%s?%s %s", style(view, BOLD), style(view, NORMAL),
        names[decision < SL_COUNT(names) ? decision : 0]);
    if (decided->decided_by[0] != '\0') {
        (void)fputs(" by ", view->out);
        sl_text_put_line(view->out, decided->decided_by, 64);
    }
    if (decided->comment[0] != '\0') {
        (void)fputs(": ", view->out);
        sl_text_put_line(view->out, decided->comment, 120);
    }
    (void)fputs("\n", view->out);
}

void sl_view_event(struct sl_view *view, const Sluice__V1__StreamEvent *event)
{
    clear_spinner(view);
    switch (event->event_case) {
    case SLUICE__V1__STREAM_EVENT__EVENT_RUN_STARTED:
        show_started(view, event->run_started);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_TEXT_DELTA:
        show_text(view, event->text_delta->delta, false);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_THINKING:
        show_text(view, event->thinking->content, true);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_START:
        show_tool_start(view, event->tool_call_start);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_COMPLETE:
        show_tool_complete(view, event->tool_call_complete);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_TOOL_PROGRESS:
        show_progress(view, event->tool_progress);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_ITERATION_START:
        show_iteration(view, event->iteration_start);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_ITERATION_COMPLETE:
        end_line(view);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_DONE:
        show_done(view, event->done);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_ERROR:
        show_error(view, event->error);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_REQUESTED:
        show_requested(view, event->approval_requested);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_DECIDED:
        show_decided(view, event->approval_decided);
        break;
    case SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_DELTA:
    case SLUICE__V1__STREAM_EVENT__EVENT_HEARTBEAT:
    case SLUICE__V1__STREAM_EVENT__EVENT__NOT_SET:
    case _SLUICE__V1__STREAM_EVENT__EVENT__CASE_IS_INT_SIZE:
    default: /* newer than this program */
        break;
    }
    (void)fflush(view->out);
}

void sl_view_init(
    struct sl_view *view, FILE *out, const struct sl_view_style *style, struct sl_loop *loop)
{
    *view = (struct sl_view){
        .out = out, .style = *style, .loop = loop, .waiting_since_ns = sl_loop_now_ns(loop)
    };
    sl_timer_init(&view->spinner, loop, draw_spinner, view);
    if (style->is_terminal) {
        sl_timer_start_ms(&view->spinner, SPINNER_MS);
    }
}

void sl_view_interrupt(struct sl_view *view)
{
    if (view->style.is_terminal) {
        clear_spinner(view);
        end_line(view);
        (void)fflush(view->out);
    }
}

void sl_view_hold(struct sl_view *view, bool is_held)
{
    if (is_held) {
        clear_spinner(view);
        end_line(view);
    }
    view->is_held = is_held;
    (void)fflush(view->out);
}

void sl_view_done(struct sl_view *view)
{
    sl_timer_stop(&view->spinner);
    clear_spinner(view);
    end_line(view);
    (void)fflush(view->out);
}
