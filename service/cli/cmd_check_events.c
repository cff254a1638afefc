/* sluice check-events: proves that a recorded stream of events keeps the order of a run
 * (docs/events.md), and that several streams of one run say the same. Reads the lines of
 * `sluice run --json`, or framed StreamEvents as they stand on the wire (5-byte prefix each). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/exec/order.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/streams.h"

enum { RECORD_MAX_BYTES = 64 * 1024 * 1024, PREFIX_BYTES = 5 };

/* Begins with the options. */
struct check {
    bool may_be_cut, is_joined;
    struct sl_cli_list after_words;

    struct sl_event_order order;
    struct sl_cli_streams streams;
    size_t n_files;
    bool is_first_json;
    /* Of the file that is read. */
    FILE *in;
    const char *name;
    struct sl_buf record, packed;
    uint64_t n_records, n_events, n_lines; /* lines with the empty ones */
    bool is_json;
};

/* The bytes of an event that is in the log: of JSON, those that it has as a message. */
static enum sl_status
compare(struct check *check, const Sluice__V1__StreamEvent *event, struct sl_error *err)
{
    uint8_t *room;
    if (!check->is_json) {
        return sl_cli_streams_add(&check->streams, sl_buf_slice(&check->record), err);
    }
    sl_buf_clear(&check->packed);
    if (sl_buf_reserve(
            &check->packed, sluice__v1__stream_event__get_packed_size(event) + 1, &room) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    sl_buf_commit(&check->packed, sluice__v1__stream_event__pack(event, room));
    return sl_cli_streams_add(&check->streams, sl_buf_slice(&check->packed), err);
}

static enum sl_status
check_event(struct check *check, const Sluice__V1__StreamEvent *event, struct sl_error *err)
{
    check->n_events += event->sequence != 0;
    SL_TRY(sl_event_order_check(&check->order, event, err));
    const bool is_compared = check->n_files > 1 && !check->is_joined && event->sequence != 0;
    return is_compared ? compare(check, event, err) : SL_OK;
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

static enum sl_status check_records(struct check *check, struct sl_error *err)
{
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
    return ferror(check->in) != 0 ? sl_fail(err, SL_UNAVAILABLE, "cannot be read on") : SL_OK;
}

static enum sl_status check_all(struct check *check, bool is_last, struct sl_error *err)
{
    const int first = fgetc(check->in);
    (void)ungetc(first, check->in);
    check->is_json = first != 0;
    check->is_first_json = check->streams.n_items == 1 ? check->is_json : check->is_first_json;
    if (check->n_files > 1 && !check->is_joined && check->is_json != check->is_first_json) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "JSON and messages have no bytes in common: convert one");
    }
    SL_TRY(check_records(check, err));
    if ((check->may_be_cut && check->n_records > 0) || (check->is_joined && !is_last)) {
        return SL_OK;
    }
    return sl_event_order_finish(&check->order, err);
}

static void print_result(const struct check *check)
{
    if (check->n_files > 1) {
        (void)printf("%s: ", check->name);
    }
    (void)printf("%" PRIu64 " events, in order\n", check->n_events);
}

static int check_file(struct check *check, bool is_last)
{
    struct sl_error err = { 0 };
    check->n_records = check->n_events = check->n_lines = 0;
    sl_buf_init(&check->record, RECORD_MAX_BYTES);
    sl_buf_init(&check->packed, RECORD_MAX_BYTES);
    const enum sl_status status = check_all(check, is_last, &err);
    if (status == SL_OK) {
        print_result(check);
    } else {
        sl_cli_complain(
            "%s: %s %" PRIu64 ": %s", check->name, check->is_json ? "line" : "message",
            check->is_json ? check->n_lines : check->n_records, err.text);
    }
    sl_buf_done(&check->record);
    sl_buf_done(&check->packed);
    return status == SL_OK ? SL_EXIT_DONE : SL_EXIT_ERROR;
}

/* ---- Files -------------------------------------------------------------------------------------
 */

/* The n-th --after is the n-th file's. */
static enum sl_status after_of(const struct check *check, size_t at, uint64_t *ret_after)
{
    *ret_after = 0;
    if (at >= check->after_words.n_items) {
        return SL_OK;
    }
    const char *text = check->after_words.items[at];
    if (sl_parse_u64(sl_slice_str(text), 0, INT64_MAX, ret_after) != SL_OK) {
        sl_cli_complain("--after: '%s' is not the sequence of an event", text);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

static enum sl_status check_command(const struct check *check)
{
    uint64_t after;
    for (size_t i = 0; i < check->after_words.n_items; i++) {
        SL_TRY(after_of(check, i, &after));
    }
    if (check->after_words.n_items > (check->is_joined ? 1 : check->n_files)) {
        sl_cli_complain(
            "--after: given more often than there are streams%s",
            check->is_joined ? ": with --join the next one begins where this one ends" : "");
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

/* Joined streams are one. */
static enum sl_status begin_file(struct check *check, size_t at)
{
    uint64_t after;
    SL_TRY(after_of(check, at, &after));
    if (!check->is_joined || at == 0) {
        sl_event_order_done(&check->order);
        sl_event_order_resume(&check->order, after);
    }
    sl_cli_streams_begin(&check->streams, check->name, after);
    return SL_OK;
}

static int check_named(struct check *check, const char *name, size_t at)
{
    const bool is_stdin = strcmp(name, "-") == 0;
    check->name = is_stdin ? "stdin" : name;
    check->in = is_stdin ? stdin : fopen(name, "rbe");
    if (check->in == NULL) {
        sl_cli_complain("%s: cannot be read: %s", check->name, strerrordesc_np(errno));
        return SL_EXIT_USAGE;
    }
    int exit_code = SL_EXIT_USAGE;
    if (begin_file(check, at) == SL_OK) {
        exit_code = check_file(check, at + 1 == check->n_files);
    }
    if (!is_stdin) {
        (void)fclose(check->in);
    }
    return exit_code;
}

static int check_files(struct check *check, char **names)
{
    static char from_stdin[] = "-";
    int exit_code = SL_EXIT_DONE;
    for (size_t i = 0; i < check->n_files && exit_code == SL_EXIT_DONE; i++) {
        exit_code = check_named(check, names == NULL ? from_stdin : names[i], i);
    }
    if (exit_code == SL_EXIT_DONE && check->n_files > 1 && !check->is_joined) {
        (void)printf("%" PRIu64 " events seen again, with the same bytes\n", check->streams.n_same);
    }
    return exit_code;
}

static int run_check_events(int argc, char **argv)
{
    struct sl_cli_options options;
    struct check check = { 0 };
    if (sl_cli_parse(&options, &sl_cmd_check_events, &check, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, NULL, SL_CLI_STREAMS_MAX)) {
        return sl_cli_usage(&sl_cmd_check_events);
    }
    check.n_files = argc == 0 ? 1 : (size_t)argc;
    if (check_command(&check) != SL_OK) {
        return SL_EXIT_USAGE;
    }
    const int exit_code = check_files(&check, argc == 0 ? NULL : argv);
    sl_event_order_done(&check.order);
    sl_cli_streams_done(&check.streams);
    return exit_code;
}

#define FLAG(name, kind, field, value, text)                                                       \
    {                                                                                              \
        name, kind, offsetof(struct check, field), value, text                                     \
    }
static const struct sl_cli_flag flags[] = {
    FLAG(
        "--may-be-cut",
        SL_CLI_SWITCH,
        may_be_cut,
        NULL,
        "a stream may lack its terminal event (ended by its deadline)"),
    FLAG(
        "--after",
        SL_CLI_LIST,
        after_words,
        "N",
        "the stream begins behind this event; once for each file"),
    FLAG("--join", SL_CLI_SWITCH, is_joined, NULL, "each file goes on where the one before ends"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_check_events = {
    .name = "check-events",
    .arguments = "[FILE...]",
    .text = "prove the order of recorded event streams",
    .run = run_check_events,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .words = "<files>",
};
