#include "runtime/tool/builtin.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/tool/timezone.h"

static void no_memory(struct sl_tool_outcome *outcome)
{
    sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the tool's result");
}

/* ---- current_time -------------------------------------------------------------------------------
 */

static const char *const week_days[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                         "Thursday", "Friday", "Saturday" };

/* "2026-11-22T10:00:00+01:00" */
static void write_iso8601(const struct tm *tm, int offset_s, char *room, size_t room_bytes)
{
    const int minutes = (offset_s < 0 ? -offset_s : offset_s) / 60;
    int n = snprintf(
        room, room_bytes, "%04d-%02d-%02dT%02d:%02d:%02d", tm->tm_year + 1900, tm->tm_mon + 1,
        tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec);
    if (n < 0 || (size_t)n >= room_bytes) {
        return;
    }
    if (offset_s == 0) {
        (void)snprintf(room + n, room_bytes - (size_t)n, "Z");
    } else {
        (void)snprintf(
            room + n, room_bytes - (size_t)n, "%c%02d:%02d", offset_s < 0 ? '-' : '+', minutes / 60,
            minutes % 60);
    }
}

static void
run_current_time(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome)
{
    const char *zone = json_string_value(json_object_get(options->arguments, "timezone"));
    const char *format = json_string_value(json_object_get(options->arguments, "format"));
    zone = zone == NULL ? "UTC" : zone;
    const int64_t now_s = (int64_t)(sl_loop_wall_ms(options->loop) / 1000);
    int offset_s = 0;
    struct sl_error err = { 0 };
    if (sl_timezone_offset(zone, now_s, &offset_s, &err) != SL_OK) {
        sl_outcome_fail(outcome, SL_TOOL_INVALID_ARGS, "%s", err.text);
        return;
    }
    const time_t local_s = (time_t)(now_s + offset_s);
    struct tm tm;
    if (gmtime_r(&local_s, &tm) == NULL) {
        sl_outcome_fail(outcome, SL_TOOL_INTERNAL, "the clock is out of range");
        return;
    }
    char text[64] = "";
    write_iso8601(&tm, offset_s, text, sizeof text);
    if (format != NULL && strcmp(format, "unix") == 0) {
        outcome->result = json_pack("{s:I}", "time", (json_int_t)now_s);
    } else {
        outcome->result = json_pack(
            "{s:s, s:s, s:s, s:I}", "time", text, "timezone", zone, "weekday",
            week_days[tm.tm_wday], "unix", (json_int_t)now_s);
    }
    if (outcome->result == NULL) {
        no_memory(outcome);
    }
}

const struct sl_tool_kind sl_tool_kind_current_time = { .name = "current_time",
                                                        .run = run_current_time };

/* ---- system_info --------------------------------------------------------------------------------
 */

/* Nothing that names the machine or its users. */
static void
run_system_info(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome)
{
    (void)options;
    struct utsname names;
    struct sysinfo info;
    if (uname(&names) != 0 || sysinfo(&info) != 0) {
        sl_outcome_fail(outcome, SL_TOOL_INTERNAL, "the kernel does not say");
        return;
    }
    const json_int_t unit = (json_int_t)info.mem_unit;
    outcome->result = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "os", names.sysname, "kernel", names.release,
        "architecture", names.machine, "cpus", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN),
        "memory_total_bytes", (json_int_t)info.totalram * unit, "memory_free_bytes",
        (json_int_t)info.freeram * unit, "uptime_seconds", (json_int_t)info.uptime);
    if (outcome->result == NULL) {
        no_memory(outcome);
    }
}

const struct sl_tool_kind sl_tool_kind_system_info = { .name = "system_info",
                                                       .run = run_system_info };

/* ---- Table --------------------------------------------------------------------------------------
 */

const struct sl_builtin sl_builtins[] = {
    {
        .name = "current_time",
        .description = "The current date and time. Takes a time zone: UTC (default), an offset "
                       "like +02:00, or a name like Europe/Berlin.",
        .parameters_json =
            "{\"type\":\"object\",\"properties\":{"
            "\"timezone\":{\"type\":\"string\",\"maxLength\":64,\"description\":\"UTC, +02:00 or "
            "Europe/Berlin\"},"
            "\"format\":{\"type\":\"string\",\"enum\":[\"iso8601\",\"unix\"]}},"
            "\"additionalProperties\":false}",
        .timeout_ms = 10000,
        .is_idempotent = true,
        .kind = &sl_tool_kind_current_time,
    },
    {
        .name = "system_info",
        .description = "Operating system, kernel, architecture, processors, memory and uptime of "
                       "the machine that runs the agent.",
        .parameters_json = "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}",
        .timeout_ms = 10000,
        .is_idempotent = true,
        .kind = &sl_tool_kind_system_info,
    },
    {
        .name = "http_request",
        .alias = "http",
        .description = "Sends one HTTP request to one of the hosts that the operator allows and "
                       "gives status, some headers and the body.",
        .parameters_json =
            "{\"type\":\"object\",\"properties\":{"
            "\"url\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096},"
            "\"method\":{\"type\":\"string\",\"enum\":[\"GET\",\"HEAD\",\"POST\",\"PUT\","
            "\"PATCH\",\"DELETE\"],\"default\":\"GET\"},"
            "\"headers\":{\"type\":\"object\",\"maxProperties\":32,\"additionalProperties\":{"
            "\"type\":\"string\",\"maxLength\":4096}},"
            "\"body\":{\"type\":\"string\"}},"
            "\"required\":[\"url\"],\"additionalProperties\":false}",
        .timeout_ms = 30000,
        .kind = &sl_tool_kind_http,
    },
};
const size_t sl_n_builtins = SL_COUNT(sl_builtins);

static const char *const planned[] = {
    "shell", "bash", "sh",     "git",       "kubectl",    "terraform",      "aws",
    "helm",  "mcp",  "docker", "read_file", "write_file", "list_directory", "search_files",
};

const struct sl_builtin *sl_builtin_find(const char *name)
{
    for (size_t i = 0; i < sl_n_builtins; i++) {
        const struct sl_builtin *builtin = &sl_builtins[i];
        if (strcmp(builtin->name, name) == 0 ||
            (builtin->alias != NULL && strcmp(builtin->alias, name) == 0)) {
            return builtin;
        }
    }
    return NULL;
}

bool sl_builtin_is_planned(const char *name)
{
    for (size_t i = 0; i < SL_COUNT(planned); i++) {
        if (strcmp(planned[i], name) == 0) {
            return true;
        }
    }
    return false;
}

const char *sl_builtin_nearest(const char *name)
{
    const char *nearest = NULL;
    unsigned best = 3;
    for (size_t i = 0; i < sl_n_builtins; i++) {
        const unsigned distance = sl_parse_distance(name, sl_builtins[i].name, 2);
        if (distance < best) {
            best = distance;
            nearest = sl_builtins[i].name;
        }
    }
    return nearest;
}
