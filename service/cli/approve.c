#include "service/cli/approve.h"

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"

enum { TIMEOUT_MS = 10000 };

static void make_room(const struct sl_cli_approve *approve, bool is_written)
{
    if (approve->on_line != NULL) {
        approve->on_line(is_written, approve->user_data);
    }
}

/* Whoever was first is shown by the run's events. */
static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct sl_cli_approve *approve = user_data;
    void *message;
    enum sl_status status = sl_client_call_recv(call, &message);
    while (status == SL_OK) {
        status = sl_client_call_recv(call, &message);
    }
    if (status != SL_AGAIN && status != SL_END && status != SL_FAILED_PRECONDITION) {
        make_room(approve, false);
        sl_cli_complain(
            "not decided: %s: %s", sl_status_name(status), sl_client_call_error(call)->text);
        make_room(approve, true);
    }
}

/* One that is free, or over. NULL: too many are open. */
static struct sl_client_call **find_place(struct sl_cli_approve *approve)
{
    for (size_t i = 0; i < SL_COUNT(approve->calls); i++) {
        struct sl_client_call **place = &approve->calls[i];
        if (*place != NULL && sl_client_call_status(*place) != SL_PENDING) {
            *place = sl_client_call_free(*place);
        }
        if (*place == NULL) {
            return place;
        }
    }
    return NULL;
}

void sl_cli_approve_send(
    struct sl_cli_approve *approve, const char *run_id, const Sluice__V1__ApprovalAnswer *answer)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = TIMEOUT_MS,
                                                    .on_readable = on_readable,
                                                    .user_data = approve };
    struct sl_sluice__v1__agent_runtime__decide_approval__reader *reader;
    Sluice__V1__DecideApprovalRequest request;
    sluice__v1__decide_approval_request__init(&request);
    request.run_id = sl_unconst(run_id);
    request.answer = sl_unconst(answer);
    struct sl_client_call **place = find_place(approve);
    if (place == NULL || sl_sluice__v1__agent_runtime__decide_approval__open(
                             approve->cli->channel, &options, &request, &reader) != SL_OK) {
        sl_cli_complain("not decided: out of memory");
        return;
    }
    *place = sl_sluice__v1__agent_runtime__decide_approval__client_call(reader);
}

Sluice__V1__ApprovalAnswer sl_cli_approve_answer(const Sluice__V1__ApprovalRequested *requested)
{
    Sluice__V1__ApprovalAnswer answer;
    sluice__v1__approval_answer__init(&answer);
    answer.approval_id = requested->approval_id;
    answer.arguments_digest = requested->arguments_digest;
    answer.decision = SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED;
    return answer;
}

void sl_cli_approve_done(struct sl_cli_approve *approve)
{
    for (size_t i = 0; i < SL_COUNT(approve->calls); i++) {
        approve->calls[i] = sl_client_call_free(approve->calls[i]);
    }
}
