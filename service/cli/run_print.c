#include "service/cli/run_print.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "service/cli/text.h"

enum {
    ID_WIDTH = 32,
    AGENT_WIDTH = 24,
    STATE_WIDTH = 16,
    TIME_BYTES = 32,
    VALUE_MAX_BYTES = 1000,
    MS_PER_SECOND = 1000
};

#define STATE_PREFIX "RUN_STATE_"

/* ---- States ------------------------------------------------------------------------------------
 */

void sl_run_state_name(Sluice__V1__RunState state, char room[SL_RUN_STATE_BYTES])
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&sluice__v1__run_state__descriptor, (int)state);
    if (value == NULL) {
        (void)snprintf(room, SL_RUN_STATE_BYTES, "%d", (int)state);
        return;
    }
    (void)snprintf(room, SL_RUN_STATE_BYTES, "%s", value->name + strlen(STATE_PREFIX));
    for (char *at = room; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
}

enum sl_status sl_run_state_find(const char *name, Sluice__V1__RunState *ret_state)
{
    const ProtobufCEnumDescriptor *states = &sluice__v1__run_state__descriptor;
    for (unsigned i = 0; i < states->n_values; i++) {
        char found[SL_RUN_STATE_BYTES];
        const int value = states->values[i].value;
        sl_run_state_name((Sluice__V1__RunState)value, found);
        if (value != SLUICE__V1__RUN_STATE__RUN_STATE_UNSPECIFIED && strcmp(found, name) == 0) {
            *ret_state = (Sluice__V1__RunState)value;
            return SL_OK;
        }
    }
    return SL_INVALID_ARGUMENT;
}

/* ---- Times -------------------------------------------------------------------------------------
 */

/* "2026-11-28T03:27:43Z"; what no calendar has is its number. */
static void name_time(uint64_t unix_ms, char room[TIME_BYTES])
{
    const time_t seconds = (time_t)(unix_ms / MS_PER_SECOND);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(room, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        (void)snprintf(room, TIME_BYTES, "%" PRIu64, unix_ms);
    }
}

/* Another machine's clock may be ahead of ours: never negative. */
static double seconds_of(const Sluice__V1__Run *run, uint64_t now_ms)
{
    const uint64_t end_ms = run->ended_at_ms == 0 ? now_ms : run->ended_at_ms;
    return end_ms < run->created_at_ms ? 0 : (double)(end_ms - run->created_at_ms) / MS_PER_SECOND;
}

/* ---- A table -----------------------------------------------------------------------------------
 */

void sl_run_print_head(FILE *out)
{
    (void)fprintf(
        out, "%-*s %-*s %-*s %-20s %10s %s\n", ID_WIDTH, "RUN", AGENT_WIDTH, "AGENT", STATE_WIDTH,
        "STATE", "STARTED", "DURATION", "EVENTS");
}

void sl_run_print_row(FILE *out, const Sluice__V1__Run *run, uint64_t now_ms)
{
    char state[SL_RUN_STATE_BYTES];
    char started[TIME_BYTES];
    sl_run_state_name(run->state, state);
    name_time(run->created_at_ms, started);
    sl_text_put_cell(out, run->run_id, ID_WIDTH);
    sl_text_put_cell(out, run->agent, AGENT_WIDTH);
    sl_text_put_cell(out, state, STATE_WIDTH);
    (void)fprintf(
        out, "%-20s %8.1f s %" PRIu64 "\n", started, seconds_of(run, now_ms), run->last_sequence);
}

/* ---- A page ------------------------------------------------------------------------------------
 */

static void put_line(FILE *out, const char *name, const char *value)
{
    (void)fprintf(out, "%-9s ", name);
    sl_text_put_line(out, value, VALUE_MAX_BYTES);
    (void)fputc('\n', out);
}

static void put_if_any(FILE *out, const char *name, const char *value)
{
    if (value[0] != '\0') {
        put_line(out, name, value);
    }
}

static void put_times(FILE *out, const Sluice__V1__Run *run, uint64_t now_ms)
{
    char time[TIME_BYTES];
    name_time(run->created_at_ms, time);
    put_line(out, "started", time);
    if (run->ended_at_ms != 0) {
        name_time(run->ended_at_ms, time);
        put_line(out, "ended", time);
    }
    (void)fprintf(out, "%-9s %.1f s\n", "duration", seconds_of(run, now_ms));
    (void)fprintf(out, "%-9s %" PRIu64 "\n", "events", run->last_sequence);
}

static void put_usage(FILE *out, const Sluice__V1__Usage *usage)
{
    if (usage != NULL) {
        (void)fprintf(
            out, "%-9s %s%" PRIu64 " in, %" PRIu64 " out\n", "tokens",
            usage->estimated != 0 ? "about " : "", usage->input_tokens, usage->output_tokens);
    }
}

static void put_error(FILE *out, const Sluice__V1__RunError *error)
{
    const ProtobufCEnumValue *code =
        protobuf_c_enum_descriptor_get_value(&sluice__v1__error_code__descriptor, (int)error->code);
    (void)fprintf(
        out, "%-9s %s: ", "error", code == NULL ? "?" : code->name + strlen("ERROR_CODE_"));
    sl_text_put_line(out, error->message, VALUE_MAX_BYTES);
    (void)fputc('\n', out);
}

static void put_ending(FILE *out, const Sluice__V1__Run *run)
{
    if (run->ending_case == SLUICE__V1__RUN__ENDING_ERROR) {
        put_error(out, run->error);
    } else if (run->ending_case == SLUICE__V1__RUN__ENDING_DONE && run->done->content[0] != '\0') {
        (void)fputc('\n', out);
        sl_text_put(out, run->done->content);
        (void)fputc('\n', out);
    }
}

void sl_run_print_page(FILE *out, const Sluice__V1__Run *run, uint64_t now_ms)
{
    char state[SL_RUN_STATE_BYTES];
    sl_run_state_name(run->state, state);
    put_line(out, "run", run->run_id);
    put_line(out, "agent", run->agent);
    put_line(out, "state", state);
    put_if_any(out, "session", run->session_id);
    put_if_any(out, "node", run->node);
    put_times(out, run, now_ms);
    put_usage(out, run->usage);
    for (size_t i = 0; i < run->n_metadata; i++) {
        (void)fprintf(out, "%-9s ", "metadata");
        sl_text_put_line(out, run->metadata[i]->key, VALUE_MAX_BYTES);
        (void)fputs(" = ", out);
        sl_text_put_line(out, run->metadata[i]->value, VALUE_MAX_BYTES);
        (void)fputc('\n', out);
    }
    put_ending(out, run);
}

/* ---- The conversation --------------------------------------------------------------------------
 */

static void put_role(FILE *out, const Sluice__V1__Message *message)
{
    static const char *const roles[] = { "?", "system", "user", "assistant", "tool" };
    const int role = (int)message->role;
    (void)fprintf(
        out, "\n── %s", role >= 0 && role <= SLUICE__V1__ROLE__ROLE_TOOL ? roles[role] : "?");
    if (message->tool_name[0] != '\0') {
        (void)fputc(' ', out);
        sl_text_put_line(out, message->tool_name, VALUE_MAX_BYTES);
    }
    (void)fprintf(out, "%s ──\n", message->is_error != 0 ? ", failed" : "");
}

void sl_run_print_context(FILE *out, const Sluice__V1__Context *context)
{
    for (size_t i = 0; i < context->n_messages; i++) {
        const Sluice__V1__Message *message = context->messages[i];
        put_role(out, message);
        if (message->content[0] != '\0') {
            sl_text_put(out, message->content);
            (void)fputc('\n', out);
        }
        for (size_t j = 0; j < message->n_tool_calls; j++) {
            (void)fputs("→ ", out);
            sl_text_put_line(out, message->tool_calls[j]->name, VALUE_MAX_BYTES);
            (void)fputc(' ', out);
            sl_text_put_line(out, message->tool_calls[j]->arguments_json, VALUE_MAX_BYTES);
            (void)fputc('\n', out);
        }
    }
}
