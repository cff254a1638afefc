#include "service/cli/follow.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"
#include "service/cli/message_json.h"
#include "service/cli/text.h"

enum { PAUSE_FIRST_MS = 250, PAUSE_MOST_MS = 8000, CANCEL_TIMEOUT_MS = 5000, NS_PER_MS = 1000000 };

static size_t columns_of_stdout(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static void finish(struct sl_cli_follow *follow, int exit_code)
{
    follow->is_over = true;
    sl_timer_stop(&follow->pause);
    sl_cli_question_done(&follow->question);
    if (follow->has_view) {
        sl_view_done(&follow->view);
    }
    sl_cli_stop(follow->cli, exit_code);
}

/* The run was ended from here. Of an output that is broken main() tells. */
static void finish_stopped(struct sl_cli_follow *follow)
{
    finish(follow, follow->is_given_up ? SL_EXIT_ERROR : SL_EXIT_CANCELLED);
    if (!follow->is_given_up) {
        sl_cli_complain("cancelled");
    }
}

/* A stream of Attach, or of a request id that was known, is an observer's: its end means nothing to
 * the run. */
static bool is_observer(const struct sl_cli_follow *follow)
{
    struct sl_slice value;
    const struct sl_metadata *headers = sl_client_call_headers(follow->call);
    return follow->is_attached ||
           (headers != NULL && sl_metadata_get(headers, "sluice-attached", 0, &value));
}

/* The headers name the run before its first event does. */
static void note_headers(struct sl_cli_follow *follow)
{
    struct sl_slice id;
    const struct sl_metadata *headers = sl_client_call_headers(follow->call);
    if (headers == NULL) {
        return;
    }
    follow->was_open = true;
    follow->may_attach = follow->may_attach || is_observer(follow);
    if (follow->run_id[0] == '\0' && sl_metadata_get(headers, "sluice-run-id", 0, &id)) {
        (void)snprintf(
            follow->run_id, sizeof(follow->run_id), "%.*s", (int)id.size, (const char *)id.data);
    }
}

/* ---- Ctrl-C ------------------------------------------------------------------------------------
 */

static void on_cancel_readable(struct sl_client_call *call, void *user_data)
{
    struct sl_cli_follow *follow = user_data;
    void *message;
    const enum sl_status status = sl_client_call_recv(call, &message);
    if (status == SL_AGAIN || follow->is_over) {
        return;
    }
    if (status != SL_OK && status != SL_END) {
        finish(follow, follow->is_given_up ? SL_EXIT_ERROR : SL_EXIT_CANCELLED);
        sl_cli_complain(
            "run %s may go on: it was not cancelled: %s: %s", follow->run_id,
            sl_status_name(status), sl_client_call_error(call)->text);
    } else if (follow->call == NULL) {
        finish_stopped(follow);
    } /* otherwise its last event comes, and the stream ends */
}

/* The run is ended by name: nobody has the stream that started it. */
static void send_cancel(struct sl_cli_follow *follow)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = CANCEL_TIMEOUT_MS,
                                                    .on_readable = on_cancel_readable,
                                                    .user_data = follow };
    struct sl_sluice__v1__agent_runtime__cancel_run__reader *reader;
    Sluice__V1__CancelRunRequest request;
    sluice__v1__cancel_run_request__init(&request);
    request.run_id = follow->run_id;
    sl_timer_stop(&follow->pause);
    if (sl_sluice__v1__agent_runtime__cancel_run__open(
            follow->cli->channel, &options, &request, &reader) == SL_OK) {
        follow->cancel = sl_sluice__v1__agent_runtime__cancel_run__client_call(reader);
    } else {
        finish(follow, SL_EXIT_CANCELLED);
        sl_cli_complain("run %s may go on: out of memory", follow->run_id);
    }
}

static void cancel_run(struct sl_cli_follow *follow)
{
    if (follow->call != NULL) {
        note_headers(follow);
    }
    if (follow->call != NULL && !is_observer(follow)) {
        sl_client_call_cancel(follow->call); /* on_readable tells the end */
    } else {
        send_cancel(follow);
    }
}

static void on_signal(struct sl_cli *cli, void *user_data)
{
    struct sl_cli_follow *follow = user_data;
    (void)cli;
    if (follow->is_over) {
        return;
    }
    if (follow->owns_run) {
        follow->is_cancelled = true;
        cancel_run(follow);
        return;
    }
    finish(follow, SL_EXIT_CANCELLED);
    sl_cli_complain(
        "the run goes on: sluice attach %s --after %" PRIu64 " follows it again", follow->run_id,
        follow->sequence);
}

/* ---- Events ------------------------------------------------------------------------------------
 */

static void print_json(const Sluice__V1__StreamEvent *event)
{
    json_t *json = sl_event_to_json(event);
    sl_text_put_json(stdout, json);
    (void)fflush(stdout);
    json_decref(json);
}

/* Nobody reads on: a run of our own is given up, too. main() tells of it. */
static void give_up(struct sl_cli_follow *follow)
{
    if (follow->is_given_up) {
        return;
    }
    follow->is_given_up = true;
    if (follow->owns_run) {
        cancel_run(follow);
    } else {
        finish(follow, SL_EXIT_ERROR);
    }
}

static void note_started(struct sl_cli_follow *follow, const Sluice__V1__RunStarted *started)
{
    (void)snprintf(follow->run_id, sizeof(follow->run_id), "%s", started->run_id);
    follow->may_attach =
        follow->may_attach ||
        started->on_disconnect == SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH ||
        started->on_disconnect == SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH_FOR;
}

/* False: the server left something out, or sent it again. */
static bool note_event(struct sl_cli_follow *follow, const Sluice__V1__StreamEvent *event)
{
    follow->n_tries = 0;
    if (event->sequence == 0) {
        return true; /* a heartbeat */
    }
    if (follow->is_attached && event->sequence != follow->sequence + 1) {
        return false;
    }
    follow->sequence = event->sequence;
    if (event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_RUN_STARTED) {
        note_started(follow, event->run_started);
    }
    follow->has_terminal = event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_DONE ||
                           event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_ERROR;
    return true;
}

/* A question stays where it is while nothing is shown. */
static void show_event(struct sl_cli_follow *follow, const Sluice__V1__StreamEvent *event)
{
    (void)snprintf(follow->view.run_id, sizeof(follow->view.run_id), "%.63s", follow->run_id);
    if (event->sequence == 0) { /* a heartbeat, or the end that cannot be recorded */
        if (follow->has_terminal) {
            sl_cli_question_hide(&follow->question);
        }
        sl_view_event(&follow->view, event);
        return;
    }
    sl_cli_question_hide(&follow->question);
    sl_view_event(&follow->view, event);
    if (event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_DECIDED) {
        sl_cli_question_drop(&follow->question, event->approval_decided->approval_id);
    } else if (
        follow->asks && event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_REQUESTED) {
        sl_cli_question_add(&follow->question, event->approval_requested);
    }
    if (!follow->has_terminal) {
        sl_cli_question_show(&follow->question);
    }
}

static void take_event(struct sl_cli_follow *follow, const Sluice__V1__StreamEvent *event)
{
    if (!note_event(follow, event)) {
        finish(follow, SL_EXIT_ERROR);
        sl_cli_complain(
            "the server goes on with event %" PRIu64 " behind event %" PRIu64, event->sequence,
            follow->sequence);
        return;
    }
    if (follow->cli->options.is_json) {
        print_json(event);
    } else {
        show_event(follow, event);
    }
    if (event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_REQUESTED &&
        follow->approves_all) {
        const Sluice__V1__ApprovalAnswer answer = sl_cli_approve_answer(event->approval_requested);
        sl_cli_approve_send(&follow->approve, follow->run_id, &answer);
    }
    if (ferror(stdout) != 0) {
        give_up(follow);
    }
}

/* ---- The end of a stream, and the next one -----------------------------------------------------
 */

bool sl_cli_follow_is_lost(
    enum sl_status status, enum sl_error_origin origin, struct sl_slice reason)
{
    if (status == SL_ABORTED) {
        return sl_slice_equals(reason, "DRAINING");
    }
    if (status == SL_RESOURCE_EXHAUSTED) { /* inside a message a slow reader's is only reset */
        return origin == SL_ORIGIN_PEER && (reason.size == 0 || sl_slice_equals(reason, "STALLED"));
    }
    return status == SL_UNAVAILABLE; /* never of a run's own end */
}

uint64_t sl_cli_follow_pause_ms(unsigned n)
{
    uint64_t pause_ms = PAUSE_FIRST_MS;
    for (unsigned i = 0; i < n && pause_ms < PAUSE_MOST_MS; i++) {
        pause_ms *= 2;
    }
    return pause_ms;
}

static bool can_go_on(struct sl_cli_follow *follow)
{
    const struct sl_error_info *info = sl_client_call_error_info(follow->call);
    const struct sl_slice reason = info == NULL ? sl_slice_str("") : info->reason;
    const uint64_t pause_ns = sl_cli_follow_pause_ms(follow->n_tries) * NS_PER_MS;
    note_headers(follow);
    return follow->may_attach && follow->was_open && follow->run_id[0] != '\0' &&
           !follow->has_terminal && follow->n_tries < SL_CLI_ATTACH_TRIES &&
           sl_loop_now_ns(follow->cli->loop) + pause_ns < follow->due_ns &&
           sl_cli_follow_is_lost(
               sl_client_call_status(follow->call), sl_client_call_error(follow->call)->origin,
               reason);
}

/* Around a line of ours on stderr. */
static void on_line(bool is_written, void *user_data)
{
    struct sl_cli_follow *follow = user_data;
    if (follow->is_over) {
        return;
    }
    if (is_written) {
        sl_cli_question_show(&follow->question);
    } else {
        sl_cli_question_hide(&follow->question);
    }
}

static void attach_again(struct sl_cli_follow *follow)
{
    const uint64_t pause_ms = sl_cli_follow_pause_ms(follow->n_tries);
    on_line(false, follow);
    if (follow->has_view) {
        sl_view_interrupt(&follow->view);
    }
    sl_cli_complain(
        "%s: %s; attaching behind event %" PRIu64 " in %" PRIu64 " ms, try %u of %d",
        sl_status_name(sl_client_call_status(follow->call)),
        sl_client_call_error(follow->call)->text, follow->sequence, pause_ms, follow->n_tries + 1,
        SL_CLI_ATTACH_TRIES);
    follow->call = sl_client_call_free(follow->call);
    on_line(true, follow);
    follow->n_tries++;
    sl_timer_start_ms(&follow->pause, pause_ms);
}

/* CancelRun is not answered, and the run's last event has not come. */
static bool is_cancelling(const struct sl_cli_follow *follow)
{
    return follow->cancel != NULL && !follow->has_terminal &&
           sl_client_call_status(follow->cancel) == SL_PENDING;
}

static void end_stream(struct sl_cli_follow *follow, enum sl_status status)
{
    if (status == SL_END) {
        finish(follow, SL_EXIT_DONE);
    } else if (is_cancelling(follow)) {
        follow->call = sl_client_call_free(follow->call); /* on_cancel_readable tells the end */
    } else if (follow->is_given_up || follow->is_cancelled) {
        finish_stopped(follow);
    } else if (can_go_on(follow)) {
        attach_again(follow);
    } else {
        const struct sl_client_call *call = follow->call;
        finish(follow, SL_EXIT_ERROR);
        sl_cli_stop(follow->cli, sl_cli_report(call));
    }
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct sl_cli_follow *follow = user_data;
    void *message;
    enum sl_status status = SL_AGAIN;
    while (!follow->is_over && (status = sl_client_call_recv(call, &message)) == SL_OK) {
        take_event(follow, message);
    }
    if (!follow->is_over && status != SL_AGAIN) {
        end_stream(follow, status);
    }
}

/* ---- Calls -------------------------------------------------------------------------------------
 */

struct sl_client_call_options sl_cli_follow_options(struct sl_cli_follow *follow)
{
    const uint64_t now_ns = sl_loop_now_ns(follow->cli->loop);
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options),
        .timeout_ms = follow->due_ns == SL_NEVER_NS ? 0
                      : follow->due_ns <= now_ns
                          ? 1
                          : (follow->due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS,
        .on_readable = on_readable,
        .user_data = follow
    };
    return options;
}

void sl_cli_follow_attach(struct sl_cli_follow *follow)
{
    const struct sl_client_call_options options = sl_cli_follow_options(follow);
    struct sl_sluice__v1__agent_runtime__attach__reader *reader;
    Sluice__V1__AttachRequest request;
    sluice__v1__attach_request__init(&request);
    request.run_id = follow->run_id;
    request.after_sequence = follow->sequence;
    follow->is_attached = true;
    if (sl_sluice__v1__agent_runtime__attach__open(
            follow->cli->channel, &options, &request, &reader) != SL_OK) {
        finish(follow, SL_EXIT_ERROR);
        sl_cli_complain("out of memory");
        return;
    }
    follow->call = sl_sluice__v1__agent_runtime__attach__client_call(reader);
}

static void on_pause_end(void *user_data)
{
    sl_cli_follow_attach(user_data);
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static void open_view(struct sl_cli_follow *follow)
{
    struct sl_view_style style = { .columns = columns_of_stdout };
    sl_cli_terminal(&style.is_terminal, &style.has_colours);
    if (style.has_colours) {
        atomic_store(&follow->cli->restore, "\x1b[0m\n");
    }
    sl_view_init(&follow->view, stdout, &style, follow->cli->loop);
    follow->has_view = true;
}

void sl_cli_follow_init(struct sl_cli_follow *follow, struct sl_cli *cli)
{
    const uint64_t timeout_ms = cli->options.timeout_ms;
    *follow =
        (struct sl_cli_follow){ .cli = cli,
                                .due_ns = SL_NEVER_NS,
                                .approve = { .cli = cli, .on_line = on_line, .user_data = follow },
                                .question = { .approve = &follow->approve,
                                              .view = &follow->view,
                                              .run_id = follow->run_id,
                                              .lines = { .loop = cli->loop } } };
    if (timeout_ms > 0) {
        follow->due_ns = sl_loop_now_ns(cli->loop) + timeout_ms * NS_PER_MS;
    }
    sl_timer_init(&follow->pause, cli->loop, on_pause_end, follow);
    if (!cli->options.is_json) {
        open_view(follow);
    }
    cli->on_signal = on_signal;
    cli->user_data = follow;
}

void sl_cli_follow_done(struct sl_cli_follow *follow)
{
    follow->call = sl_client_call_free(follow->call);
    follow->cancel = sl_client_call_free(follow->cancel);
    sl_cli_question_done(&follow->question);
    sl_cli_approve_done(&follow->approve);
}
