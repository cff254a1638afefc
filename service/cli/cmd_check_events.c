/* sluice check-events: proves that a recorded stream of events keeps the order of a run
 * (docs/events.md). Reads the lines of `sluice run --json`, or framed StreamEvents as they stand on
 * the wire (5-byte prefix each). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/exec/order.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"

enum { RECORD_MAX_BYTES = 64 * 1024 * 1024, PREFIX_BYTES = 5 };

struct check {
    FILE *in;
    const char *name;
    struct sl_event_order order;
    struct sl_buf record;
    uint64_t n_records, n_events, n_lines; /* lines with the empty ones */
    bool is_json;
};

static enum sl_status
check_event(struct check *check, const Sluice__V1__StreamEvent *event, struct sl_error *err)
{
    check->n_events += event->sequence != 0;
    return sl_event_order_check(&check->order, event, err);
}

static enum sl_status check_json(struct check *check, struct sl_error *err)
{
    struct sl_arena arena;
    json_error_t problem;
    const struct sl_slice line = sl_buf_slice(&check->record);
    json_t *json = json_loadb((const char *)line.data, line.size, JSON_REJECT_DUPLICATES, &problem);
    if (json == NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "no JSON: %s", problem.text);
    }
    sl_arena_init(&arena, RECORD_MAX_BYTES);
    Sluice__V1__StreamEvent *event;
    enum sl_status status = sl_event_from_json(json, &arena, &event, err);
    if (status == SL_OK) {
        status = check_event(check, event, err);
    }
    json_decref(json);
    sl_arena_done(&arena);
    return status;
}

static enum sl_status check_framed(struct check *check, struct sl_error *err)
{
    Sluice__V1__StreamEvent *event =
        sluice__v1__stream_event__unpack(NULL, check->record.size, check->record.data);
    if (event == NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "not a StreamEvent");
    }
    const enum sl_status status = check_event(check, event, err);
    sluice__v1__stream_event__free_unpacked(event, NULL);
    return status;
}

/* SL_END at the end of the file. */
static enum sl_status read_line(struct check *check, struct sl_error *err)
{
    sl_buf_clear(&check->record);
    int c = fgetc(check->in);
    if (c == EOF) {
        return SL_END;
    }
    check->n_lines++;
    for (; c != EOF && c != '\n'; c = fgetc(check->in)) {
        if (sl_buf_add_byte(&check->record, (uint8_t)c) != SL_OK) {
            return sl_fail(err, SL_RESOURCE_EXHAUSTED, "a line over %d bytes", RECORD_MAX_BYTES);
        }
    }
    return SL_OK;
}

static enum sl_status read_frame(struct check *check, struct sl_error *err)
{
    uint8_t prefix[PREFIX_BYTES];
    uint8_t *room;
    sl_buf_clear(&check->record);
    const size_t n = fread(prefix, 1, sizeof(prefix), check->in);
    if (n == 0) {
        return SL_END;
    }
    const size_t size =
        (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
    if (n < sizeof(prefix) || prefix[0] != 0) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "not a frame of an uncompressed message");
    }
    if (size > 0 && sl_buf_reserve(&check->record, size, &room) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "a message of %zu bytes", size);
    }
    if (size > 0 && fread(room, 1, size, check->in) != size) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the stream ends inside a message");
    }
    sl_buf_commit(&check->record, size);
    return SL_OK;
}

static enum sl_status check_all(struct check *check, bool may_be_cut, struct sl_error *err)
{
    const int first = fgetc(check->in);
    (void)ungetc(first, check->in);
    check->is_json = first != 0;
    for (;;) {
        const enum sl_status status =
            check->is_json ? read_line(check, err) : read_frame(check, err);
        if (status == SL_END) {
            break;
        }
        if (check->is_json && status == SL_OK && check->record.size == 0) {
            continue; /* an empty line */
        }
        check->n_records++;
        SL_TRY(status);
        SL_TRY(check->is_json ? check_json(check, err) : check_framed(check, err));
    }
    if (ferror(check->in) != 0) {
        return sl_fail(err, SL_UNAVAILABLE, "cannot be read on");
    }
    if (may_be_cut && check->n_records > 0) {
        return SL_OK;
    }
    return sl_event_order_finish(&check->order, err);
}

static int check_file(struct check *check, bool may_be_cut)
{
    struct sl_error err = { 0 };
    sl_buf_init(&check->record, RECORD_MAX_BYTES);
    const enum sl_status status = check_all(check, may_be_cut, &err);
    if (status == SL_OK) {
        (void)printf("%" PRIu64 " events, in order\n", check->n_events);
    } else {
        sl_cli_complain(
            "%s: %s %" PRIu64 ": %s", check->name, check->is_json ? "line" : "message",
            check->is_json ? check->n_lines : check->n_records, err.text);
    }
    sl_event_order_done(&check->order);
    sl_buf_done(&check->record);
    return status == SL_OK ? SL_EXIT_DONE : SL_EXIT_ERROR;
}

static int run_check_events(int argc, char **argv)
{
    struct sl_cli_options options;
    bool may_be_cut = false;
    if (sl_cli_parse(&options, &sl_cmd_check_events, &may_be_cut, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, NULL, 1)) {
        return sl_cli_usage(&sl_cmd_check_events);
    }
    struct check check = { .in = stdin, .name = "stdin" };
    if (argc == 1 && strcmp(argv[0], "-") != 0) {
        check.name = argv[0];
        check.in = fopen(argv[0], "rbe");
    }
    if (check.in == NULL) {
        sl_cli_complain("%s: cannot be read: %s", check.name, strerrordesc_np(errno));
        return SL_EXIT_USAGE;
    }
    const int exit_code = check_file(&check, may_be_cut);
    if (check.in != stdin) {
        (void)fclose(check.in);
    }
    return exit_code;
}

static const struct sl_cli_flag flags[] = {
    { "--may-be-cut", SL_CLI_SWITCH, 0, NULL,
      "the stream may lack its terminal event (ended by its deadline)" },
};

const struct sl_cli_command sl_cmd_check_events = {
    .name = "check-events",
    .arguments = "[FILE]",
    .text = "prove the order of a recorded event stream",
    .run = run_check_events,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .words = "<files>",
};
