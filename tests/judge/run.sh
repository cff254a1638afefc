#!/usr/bin/env bash
# Public judges of gRPC and HTTP/2 against our test programs. Called by ./run judge.
#   run.sh [--asan] NAME [ARGUMENTS]     NAME is a folder beside this file
# A judge runs and ends with "N passed, N failed". What it needs it installs into build/judge: before our programs are
# built, in a script of its own, `prepare`, when they need something of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

preset=release
if [ "${1:-}" = --asan ]; then
    preset=dev
    shift
fi
name=${1:-}
if [ -z "$name" ] || [ ! -x "tests/judge/$name/run" ]; then
    printf 'usage: ./run judge [--asan] NAME [ARGUMENTS]\njudges:'
    for file in tests/judge/*/run; do printf ' %s' "$(basename "$(dirname "$file")")"; done
    printf '\n'
    exit 2
fi >&2
shift

export JUDGE_BIN=$PWD/build/$preset/bin JUDGE_HOME=$PWD/build/judge
mkdir -p "$JUDGE_HOME/bin"
[ ! -x "tests/judge/$name/prepare" ] || "tests/judge/$name/prepare"
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" -t judge_programs >/dev/null
JUDGE_WORK=$(mktemp -d)
export JUDGE_WORK
trap 'rm -rf "$JUDGE_WORK"' EXIT
"tests/judge/$name/run" "$@"
