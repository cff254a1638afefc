#!/usr/bin/env bash
# Measures the release build: what an event, a run and an idle stream cost the server. Called by ./run bench.
#   run.sh [--short] [--rounds N] [--callgrind] [--bare] [--peers] [--durability [--store FOLDER]] [--json FILE] [--bin DIR]
# The server has core 0, the client core 1; what is counted is the server's own CPU time, so that the
# client's cost and its waiting are not in it. docs/performance.md says what the figures mean.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ " $* " != *" --peers "* ]] || tests/bench/peers/build.sh build/release build/bench/peers
exec python3 tests/bench/measure.py "$@"
