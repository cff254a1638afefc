#!/bin/sh
# Fails when the documentation and the code disagree. Run: tests/check_docs.sh SOURCE_ROOT
#
#   limits        docs/configuration.md has exactly the rows that runtime/base/limits.h makes
#   counters      each limit has a call of sl_limit_reached, or stands in docs/operations.md as one that is never counted
#   metrics       docs/operations.md has exactly the rows that runtime/base/metrics.h makes
#   names         every flag, command, variable, key and error code of the code stands in README.md or docs/
#   troubleshooting  docs/troubleshooting.md has exactly the reasons, codes and budgets of the code
#   pages         README.md names every page
#   the other way every `--flag` and `VARIABLE=` that the documentation names is one
#   links         every relative link leads to a file
set -eu
cd "$1"
pages="README.md $(echo docs/*.md)"
text=$(cat $pages)
# What is written as code: fenced blocks, and what stands between backquotes.
code=$(awk '/^ *```/ { fenced = !fenced; next }
    fenced { print; next }
    { n = split($0, part, "`"); for (i = 2; i <= n; i += 2) print part[i] }' $pages)
bad=0
complain() { printf '%s\n' "$1"; bad=1; }

# ---- Limits ---------------------------------------------------------------------------------------------------------
# A row for each X(name, UNIT, default, least, greatest, "text"), as the page spells it.
rows_of_code() {
    awk '
    function digits(n,    s) { # 10000 -> 10,000
        s = sprintf("%.0f", n)
        while (match(s, /[0-9][0-9][0-9][0-9](,|$)/)) s = substr(s, 1, RSTART) "," substr(s, RSTART + 1)
        return s
    }
    function bytes(n) {
        if (n >= 1073741824 && n % 1073741824 == 0) return n / 1073741824 " GiB"
        if (n >= 1048576 && n % 1048576 == 0) return n / 1048576 " MiB"
        if (n >= 1024 && n % 1024 == 0) return n / 1024 " KiB"
        return n " B"
    }
    function time(n) {
        if (n >= 3600000 && n % 3600000 == 0) return n / 3600000 " h"
        if (n >= 60000 && n % 60000 == 0) return n / 60000 " m"
        if (n >= 1000 && n % 1000 == 0) return n / 1000 " s"
        return n " ms"
    }
    function spell(unit, n) { return unit == "BYTES" ? bytes(n) : unit == "MS" ? time(n) : digits(n) }
    /^ *X\([a-z_]+, [A-Z]+, [0-9]+/ {
        line = $0
        sub(/^ *X\(/, "", line)
        split(line, f, ", ")
        match(line, /".*"/)
        what = substr(line, RSTART + 1, RLENGTH - 2)
        printf "| `%s` | %s | %s to %s | %s |\n", f[1], spell(f[2], f[3]), spell(f[2], f[4]), spell(f[2], f[5]), what
    }' runtime/base/limits.h
}
rows_of_page() { sed -n '/^## Limits/,$p' docs/configuration.md | grep '^| `' || true; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows_of_code >"$work/code"
rows_of_page >"$work/page"
[ -s "$work/code" ] || complain "no limit was found in runtime/base/limits.h"
diff "$work/page" "$work/code" >"$work/diff" || {
    complain "docs/configuration.md and runtime/base/limits.h disagree (< page, > code):"
    grep '^[<>]' "$work/diff"
}

# ---- Each limit is counted where it bites, or the page says why not ----------------------------------------------------
# Its name in the code is SL_LIMIT_<name>, in a call of sl_limit_reached (or of police.c's over, which calls it).
limits=$(awk -F'[(,]' '/^    X\(/ { print $2 }' runtime/base/limits.h | sort)
find runtime service -name '*.c' -exec cat {} + | tr -s '\n ' '  ' |
    grep -oE '(sl_limit_reached|over)\([^;]*;' | grep -oE 'SL_LIMIT_[a-z_]+' | sed 's/SL_LIMIT_//' | sort -u >"$work/counted"
sed -n '/^### Limits that are never counted/,/^## /p' docs/operations.md | grep '^| `' | cut -d'|' -f2 |
    grep -oE '[a-z_]+' | sort >"$work/excused"
printf '%s\n' "$limits" >"$work/code"
sort "$work/counted" "$work/excused" >"$work/page"
[ -s "$work/counted" ] && [ -s "$work/excused" ] || complain "no limit is counted, or none is not: this check is blind"
diff "$work/page" "$work/code" >"$work/diff" || {
    complain "limits that are both counted and in docs/operations.md as never counted (<), or neither (>):"
    grep '^[<>]' "$work/diff"
}

# ---- Metrics --------------------------------------------------------------------------------------------------------
tr '\n\\' '  ' <runtime/base/metrics.h | tr -s ' ' |
    grep -oE 'X\([a-z_]+, (COUNTER|GAUGE|HISTOGRAM), [A-Z]+, [A-Z]+, "[a-z_,]*", "[^"]*"\)' | awk '{
        split($0, f, ", ")
        split($0, q, "\"")
        gsub(",", ", ", q[2])
        printf "| `%s%s` | %s | %s | %s |\n", substr(f[1], 3), f[2] == "COUNTER" ? "_total" : "", tolower(f[2]), q[2], q[4]
    }' >"$work/code"
sed -n '/^## Metrics/,/^## Alerts/p' docs/operations.md | grep -E '^\| `[a-z_]+` \| (counter|gauge|histogram) ' >"$work/page" || true
[ "$(wc -l <"$work/code")" = "$(grep -c '^    X(' runtime/base/metrics.h)" ] || complain "a metric of runtime/base/metrics.h was not read"
diff "$work/page" "$work/code" >"$work/diff" || {
    complain "docs/operations.md and runtime/base/metrics.h disagree (< page, > code):"
    grep '^[<>]' "$work/diff"
}

# ---- Names of the code ------------------------------------------------------------------------------------------------
# need WHAT NAME...: each as a word of its own, written as code. need_words: anywhere.
need() { need_in "$code" "$@"; }
need_words() { need_in "$text" "$@"; }
need_in() {
    pile=$1
    shift
    what=$1
    shift
    [ $# -gt 0 ] || complain "no $what was found in the code: this check is blind"
    for name in "$@"; do
        printf '%s' "$pile" | grep -qE -e "(^|[^A-Za-z0-9_-])$name([^A-Za-z0-9_-]|\$)" ||
            complain "$what $name is in no page of docs/, nor in README.md"
    done
}
quoted() { tr -d '"' | sort -u; }
# Second arguments of the getters: keys of a YAML map.
keys_of() {
    tr '\n' ' ' <"$1" | tr -s ' ' | grep -oE '\(( ?[a-z>._-]+,){2} "[a-zA-Z_]+"' | grep -oE '"[a-zA-Z_]+"' | quoted
}
flags=$(grep -ohE '"--[a-z-]+"' service/config.c | quoted)
need "flag of sluiced:" $flags
need "reason of a fault:" $(grep -ohE '(session_break\(session|over\(SL_LIMIT_[a-z_]+|return), "[a-z]+_[a-z_]+"' service/h2/*.c |
    grep -oE '"[a-z_]+"' | quoted) $(grep -oE '"[a-z_]+_timeout"' service/rpc/conn_timers.c | quoted) \
    $(grep -ohE 'sluice_faults, 1, "[a-z_]+"' service/net/*.c | grep -oE '"[a-z_]+"' | quoted)
need "reason of a refusal:" $(tr '\n' ' ' <service/rpc/admission.c | tr -s ' ' |
    grep -oE '(refuse(_http)?\( ?request|count\(), ?"[a-z_0-9]+"' | grep -oE '"[a-z_0-9]+"' | quoted)
need "variable:" $(grep -ohE '"[A-Z]+_[A-Z_]+"' service/config.c service/cli/options.c runtime/model/presets.c | quoted)
need "key of the configuration:" $(keys_of service/config.c) $(keys_of service/config_store.c) $(keys_of runtime/runtime.c) \
    $(sed -n '/runtime_keys\[\]/,/}/p' service/config.c | grep -oE '"[a-z_]+"' | quoted)
need "key of identity and access:" $(keys_of service/identity/load.c) \
    $(grep -oE '\(loader, map, "[a-z]+", SL_' service/identity/load.c | grep -oE '"[a-z]+"' | quoted)
need "why a caller is not known:" $(sed -n '/^const char \*sl_identity_fault_name/,/^}/p' service/identity/identity.c | grep -oE '"[a-z]+"' | quoted)
need "key of a provider:" $(keys_of runtime/model/models_conf.c) \
    $(grep -oE '\{ "[a-z_]+", "[a-z]+_[a-z_]+" \}' runtime/model/models_conf.c | grep -oE '^\{ "[a-z_]+"' | tr -d '{ ' | quoted)
need "provider:" $(grep -oE '\.name = "[a-z]+"' runtime/model/presets.c | grep -oE '"[a-z]+"' | quoted)
need "key of an agent:" $(keys_of runtime/exec/agent_load.c) \
    $(sed -n '/ later\[\]/,/}/p' runtime/exec/agent_load.c | grep -oE '"[a-z_]+"' | quoted)
need "key of a tool:" $(keys_of runtime/tool/tool_conf.c)
need "tool:" $(grep -oE '\.name = "[a-z_]+"' runtime/tool/builtin.c | grep -oE '"[a-z_]+"' | quoted) \
    $(sed -n '/ planned\[\]/,/}/p' runtime/tool/builtin.c | grep -oE '"[a-z_]+"' | quoted)
need "built-in agent:" $(grep -oE '\.name = "[a-z_]+"' runtime/exec/agent_builtin.c | grep -oE '"[a-z_]+"' | quoted)
need "knob of the agent load:" $(grep -oE '\{ "[a-z_]+", KIND_' runtime/model/load_order.c | grep -oE '"[a-z_]+"' | quoted)
need "key of a scenario:" $(keys_of runtime/model/scenario.c) \
    $(sed -n '/ step_names\[\]/,/}/p' runtime/model/scenario.c | grep -oE '"[a-z_]+"' | quoted)
need "command:" $(grep -ohE '\.name = "[a-z-]+"' service/cli/cmd_*.c | grep -oE '"[a-z-]+"' | quoted)
cli_flags=$(cat service/cli/*.c $(find service/cli/* -name '*.c' -path 'service/cli/*/*') | tr -s '\n ' '  ' |
    grep -oE '(\{ |FLAG\( ?|COMMON\( ?)"--[a-z-]+"' | grep -oE '"--[a-z-]+"' | quoted)
need "option of sluice:" $cli_flags
need "figure of sluice bench:" $(sed -n '/ figures\[\]/,/^}/p' service/cli/bench/figures.c | grep -oE '\{ "[a-z_]+"' | tr -d '{ ' | quoted) \
    $(sed -n '/ shares\[\]/,/^}/p' service/cli/bench/figures.c | grep -oE '"[a-z0-9]+_"' | quoted) \
    $(sed -n '/ suffixes\[/,/}/p' service/cli/bench/figures.c | grep -oE '"[a-z_]+"' | quoted)
need_words "error code:" $(grep -oE '^ *(TOOL_)?ERROR_CODE_[A-Z_]+ = [1-9]' proto/sluice/v1/events.proto |
    sed -E 's/ *(TOOL_)?ERROR_CODE_([A-Z_]+) = .*/\2/' | sort -u)
need "event:" $(sed -n '/oneof event/,/}/p' proto/sluice/v1/events.proto | sed -nE 's/^ *[A-Z][A-Za-z]+ ([a-z_]+) = [0-9]+;/\1/p')

# ---- Reasons, codes and budgets: one table of docs/troubleshooting.md for each -------------------------------------------
# The first column of the tables under a heading.
first_column() {
    sed -n "/^## $1/,/^## /p" docs/troubleshooting.md | grep '^| ' | cut -d'|' -f2 | grep -oE "$2" | sort -u || true
}
# same WHAT PAGE CODE: two lists, one word a line.
same() {
    [ -n "$3" ] || complain "no $1 was found in the code: this check is blind"
    printf '%s\n' "$2" >"$work/page"
    printf '%s\n' "$3" >"$work/code"
    diff "$work/page" "$work/code" >"$work/diff" || {
        complain "docs/troubleshooting.md and the code disagree about: $1 (< page, > code)"
        grep '^[<>]' "$work/diff"
    }
}
codes_of() { grep -oE "^ *$1_[A-Z_]+ = [1-9]" proto/sluice/v1/events.proto | sed -E "s/ *$1_(.*) = .*/\1/" | sort -u; }
word='[A-Z][A-Z_]+[A-Z]'
same "codes of runs" "$(first_column 'Runs that fail' "$word")" "$(codes_of ERROR_CODE)"
same "codes of tools" "$(first_column 'Tool calls that fail' "$word")" "$(codes_of TOOL_ERROR_CODE)"
same "budgets" "$(first_column Connections '^ `[a-z]+_[a-z_]+` $' | tr -d '` ')" \
    "$({ grep -ohE '(\?|:|return|=|over\(SL_LIMIT_[a-z_]+,) "[a-z]+_[a-z_]+"' service/h2/police.c service/h2/session.c | grep -oE '"[a-z_]+"' | quoted |
        grep -vE '_error$|^ping_flood$|^stream_closed$'; } | sort -u)"
# Reasons stand behind `reason =`, in a refusal, or in a table beside a status. A run's code is a reason, too.
reasons=$(cat service/rpc/*.c service/std/*.c service/api/*.c runtime/*.c runtime/model/load_order.c | tr '\n' ' ' | tr -s ' ' |
    grep -oE "(reason = [^;}\"]*|sl_server_reason\([^\"]*|sl_run_refuse\( ?stream, SL_[A-Z_]+, |\{ SL_[A-Z_]+, )\"$word\"|\{ \"$word\", SL_" |
    grep -oE "\"$word\"" | quoted)
same "reasons" "$({ first_column Refusals "$word"; first_column 'Streams that end early' "$word"; codes_of ERROR_CODE; } | sort -u)" \
    "$({ printf '%s\n' "$reasons"; codes_of ERROR_CODE; } | sort -u)"
for page in docs/*.md; do
    grep -q "]($page)" README.md || complain "README.md does not name $page"
done

# ---- Names of the documentation -----------------------------------------------------------------------------------------
other_flags="--all --stream-call-duration" # of ./run interop, of ghz
for flag in $(printf '%s' "$text" | grep -oE '(`|sluiced? [^`]*)--[a-z][a-z-]+' | grep -oE -e '--[a-z][a-z-]+' | sort -u); do
    printf '%s\n' $flags $cli_flags --help --version $other_flags | grep -qx -e "$flag" ||
        complain "the documentation names $flag, and neither sluiced nor sluice has it"
done
for variable in $(printf '%s' "$text" | grep -oE '\bSLUICE_[A-Z_]+' | sort -u); do
    grep -qE "\"$variable[\"=]" service/config.c service/cli/*.c runtime/model/presets.c runtime/tool/process_tool.c ||
        grep -qF "$variable" CMakeLists.txt package/exports.cmake ||
        complain "the documentation names $variable, and nothing reads it"
done

# ---- Links ----------------------------------------------------------------------------------------------------------
for page in $pages; do
    for link in $(grep -oE '\]\([^)#]+' "$page" | cut -c3- | grep -vE '^[a-z]+:' || true); do
        [ -e "$(dirname "$page")/$link" ] || complain "$page: no such file: $link"
    done
done
exit $bad
