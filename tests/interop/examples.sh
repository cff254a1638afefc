# Puts the example client of a language to the test: the six things that each must do. Sourced by the suites.
# shellcheck shell=bash

failed=0
verdict() {
    if [ -z "$2" ]; then
        echo "ok example.$1"
    else
        echo "FAIL example.$1: $2"
        failed=1
    fi
}

# says NAME EXIT_STATUS EXPECTED COMMAND...: what it prints, text and errors, must have EXPECTED.
says() {
    local name=$1 expected=$2 text=$3 status=0 out
    shift 3
    out=$(timeout 30 "$@" 2>&1) || status=$?
    if [ "$status" != "$expected" ]; then
        verdict "$name" "exit status $status: $(printf '%s' "$out" | tail -n 1)"
    elif [[ $out != *"$text"* ]]; then
        verdict "$name" "it does not say '$text': $(printf '%s' "$out" | tail -n 1)"
    else
        verdict "$name" ""
    fi
}

n_resets() { grep -c 'msg="ended" agent=load .*cancel_reason=CLIENT_RESET' "$SLUICE_LOG"; }

# until_true COMMAND...: within 20 s.
until_true() {
    local i
    for ((i = 0; i < 400; i++)); do
        ! "$@" || return 0
        sleep 0.05
    done
    return 1
}
has_text() { grep -q 'quick brown' "$SLUICE_WORK/example.out"; }
is_reset() { [ "$(n_resets)" -gt "$before" ]; }
is_idle() { [ "$(grep -c 'msg="started" agent=load ' "$SLUICE_LOG")" = "$(grep -c 'msg="ended" agent=load ' "$SLUICE_LOG")" ]; }
is_gone() { ! kill -0 "$client" 2>/dev/null; }

# example LANGUAGE COMMAND...
example() {
    local language=$1 status=0 why="" client
    shift
    says "$language.a_run_is_streamed" 0 "one two three" "$@" echo "one two three"
    says "$language.a_refusal_has_its_reason" 1 "AGENT_NOT_FOUND (no run was started)" "$@" nobody x
    says "$language.a_failed_run_has_its_reason" 1 "PROVIDER_OVERLOADED (the run had started)" "$@" load "events=5 fail_after=2"
    says "$language.a_deadline_ends_it" 1 "(the run had started)" "$@" load hang=true 5 # a JVM starts within it
    says "$language.tls_is_checked_and_used" 0 "by TLS" env SLUICE_ADDR="$SLUICE_TLS_ADDR" SLUICE_CA="$SLUICE_WORK/ca.pem" "$@" echo "by TLS"
    until_true is_idle || why="a run of an earlier case has not ended" # its reset is not this one's
    before=$(n_resets)
    : >"$SLUICE_WORK/example.out" # the text of another client is not this one's
    "$@" load hang=true >"$SLUICE_WORK/example.out" 2>&1 &
    client=$!
    until_true has_text || why="no text came: $(tail -n 1 "$SLUICE_WORK/example.out")"
    kill -INT "$client"
    # Its deadline of 60 s would end it too, and the server's may come first.
    until_true is_gone || { why="it goes on after Ctrl-C" && kill -KILL "$client"; }
    wait "$client" || status=$?
    [ -n "$why" ] || [ "$status" = 130 ] || why="exit status $status"
    [ -n "$why" ] || until_true is_reset || why="the server's log has no CLIENT_RESET"
    verdict "$language.ctrl_c_cancels_the_run" "$why"
}
