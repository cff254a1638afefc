#include "service/cli/view.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/mem.h"

enum { SPINNER_MS = 100 };

#define DIM    "\x1b[2m"
#define BOLD   "\x1b[1m"
#define RED    "\x1b[31m"
#define GREEN  "\x1b[32m"
#define NORMAL "\x1b[0m"

static const char *style(const struct sl_view *view, const char *code)
{
    return view->is_terminal ? code : "";
}

/* Text from outside: no control character but newline and tab reaches the terminal. C1 controls are
 * two bytes in UTF-8, C2 80 to C2 9F. */
static void print_text(const struct sl_view *view, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        const bool is_c1 = at[0] == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F;
        if (is_c1 || *at == 0x7F || (*at < 0x20 && *at != '\n' && *at != '\t')) {
            (void)fputc('.', view->out);
            at += is_c1;
        } else {
            (void)fputc(*at, view->out);
        }
    }
}

/* One line of it, cut. */
static void print_short(const struct sl_view *view, const char *text, size_t max)
{
    char line[256];
    size_t n = 0;
    for (; text[n] != '\0' && n < max && n < sizeof(line) - 4; n++) {
        line[n] = text[n];
        if (text[n] == '\n' || text[n] == '\t') {
            line[n] = ' ';
        }
    }
    while (text[n] != '\0' && n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) {
        n--; /* not inside a character */
    }
    line[n] = '\0';
    print_text(view, line);
    if (text[n] != '\0') {
        (void)fputs("…", view->out);
    }
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
        (void)fprintf(view->out, "%s\n", style(view, NORMAL));
        view->open = SL_VIEW_NOTHING;
    }
}

static void draw_spinner(void *user_data)
{
    static const char *const turns[] = { "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" };
    struct sl_view *view = user_data;
    sl_timer_start_ms(&view->spinner, SPINNER_MS);
    if (view->open != SL_VIEW_NOTHING) {
        return; /* text is running: it is its own sign of life */
    }
    const uint64_t now_ns = sl_loop_now_ns(view->loop);
    clear_spinner(view);
    (void)fprintf(view->out, DIM "%s ", turns[view->spinner_turn++ % SL_COUNT(turns)]);
    for (size_t i = 0; i < view->n_tools; i++) {
        (void)fputs(i == 0 ? "" : ", ", view->out);
        print_short(view, view->tools[i].name, sizeof(view->tools[i].name));
        (void)fprintf(view->out, " %.1f s", (double)(now_ns - view->tools[i].since_ns) / 1e9);
    }
    if (view->n_tools == 0) {
        (void)fprintf(view->out, "waiting %.1f s", (double)(now_ns - view->waiting_since_ns) / 1e9);
    }
    (void)fputs(NORMAL, view->out);
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
        if (is_thinking) {
            (void)fprintf(
                view->out, "%s%s", style(view, DIM), view->is_terminal ? "" : "(thinking) ");
        }
    }
    print_text(view, text);
    view->open = is_thinking ? SL_VIEW_THINKING : SL_VIEW_TEXT;
}

static void show_tool_start(struct sl_view *view, const Sluice__V1__ToolCallStart *start)
{
    end_line(view);
    (void)fprintf(view->out, "%s→%s ", style(view, BOLD), style(view, NORMAL));
    print_short(view, start->tool_name, 64);
    (void)fputs(" ", view->out);
    print_short(view, start->arguments_json, 120);
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
    print_short(view, complete->tool_name, 64);
    (void)fprintf(
        view->out, " %s%" PRIu64 " ms%s ", style(view, DIM), complete->execution_time_ms,
        style(view, NORMAL));
    print_short(view, is_ok ? complete->result_json : complete->error, 120);
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
    print_short(view, error->message, 240);
    (void)fprintf(view->out, " (%.1f s", (double)error->execution_time_ms / 1000);
    show_usage(view, error->usage);
    if (error->error_id[0] != '\0') {
        (void)fputs(", error id ", view->out);
        print_short(view, error->error_id, 64);
    }
    (void)fputs(")\n", view->out);
}

static void show_started(struct sl_view *view, const Sluice__V1__RunStarted *started)
{
    (void)fprintf(view->out, "%s● ", style(view, BOLD));
    print_short(view, started->agent_name, 64);
    (void)fprintf(view->out, "%s%s  ", style(view, NORMAL), style(view, DIM));
    print_short(view, started->provider, 64);
    (void)fputs(":", view->out);
    print_short(view, started->model, 64);
    (void)fputs("  run ", view->out);
    print_short(view, started->run_id, 64);
    (void)fprintf(view->out, "%s\n", style(view, NORMAL));
}

static void show_progress(struct sl_view *view, const Sluice__V1__ToolProgress *progress)
{
    end_line(view);
    (void)fprintf(view->out, "%s  ", style(view, DIM));
    print_short(
        view, progress->output_chunk[0] != '\0' ? progress->output_chunk : progress->message, 200);
    (void)fprintf(view->out, "%s\n", style(view, NORMAL));
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
    case SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_DELTA:
    case SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_REQUESTED:
    case SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_DECIDED:
    case SLUICE__V1__STREAM_EVENT__EVENT_HEARTBEAT:
    case SLUICE__V1__STREAM_EVENT__EVENT__NOT_SET:
    case _SLUICE__V1__STREAM_EVENT__EVENT__CASE_IS_INT_SIZE:
    default: /* newer than this program */
        break;
    }
    (void)fflush(view->out);
}

void sl_view_init(struct sl_view *view, FILE *out, bool is_terminal, struct sl_loop *loop)
{
    *view = (struct sl_view){ .out = out,
                              .is_terminal = is_terminal,
                              .loop = loop,
                              .waiting_since_ns = sl_loop_now_ns(loop) };
    sl_timer_init(&view->spinner, loop, draw_spinner, view);
    if (is_terminal) {
        sl_timer_start_ms(&view->spinner, SPINNER_MS);
    }
}

void sl_view_done(struct sl_view *view)
{
    sl_timer_stop(&view->spinner);
    clear_spinner(view);
    end_line(view);
    (void)fflush(view->out);
}
