#!/usr/bin/env bash
# Other people's clients and model servers against the real binaries. Called by ./run interop.
#   run.sh [--all] [SUITE...]      the suites are below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/interop/lib.sh

suites=()
wants_all=false
for word in "$@"; do
    if [ "$word" = --all ]; then wants_all=true; else suites+=("$word"); fi
done
# Pages before the examples: the page builds what the examples' suite calls.
[ ${#suites[@]} -gt 0 ] || suites=(python node buf aimock quickstart troubleshooting examples)
if $wants_all; then suites+=(local-model quickstart-more examples-more load-testing migration deployment prometheus); fi
mapfile -t suites < <(printf '%s\n' "${suites[@]}" | awk '!seen[$0]++') # one that was named runs once

work=$(mktemp -d)
trap 'end_pids; rm -rf "$work"' EXIT
bin=$PWD/build/release/bin
export SLUICE_BIN=$bin SLUICE_WORK=$work SLUICE_ROOT=$PWD

make_certificates
npm_packages @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1 @bufbuild/buf@1.75.0 @copilotkit/aimock@1.43.0
export PATH=$PWD/build/interop/node_modules/.bin:$PATH NODE_PATH=$PWD/build/interop/node_modules

# One daemon, in the clear and with TLS.
cat >"$work/sluiced.yaml" <<YAML
listen:
  - 127.0.0.1:0
  - address: 127.0.0.1:0
    tls: {cert: $work/server.pem, key: $work/server.key}
ops_listen: unix:$work/ops
limits: {drain_delay: 0ms}
YAML
start sluiced "$work/address" "$bin/sluiced" --config "$work/sluiced.yaml" --port-file "$work/address" || exit 1
SLUICE_ADDR=$(head -n 1 "$work/address")
SLUICE_PID=$started
SLUICE_TLS_ADDR=$(sed -n 's/.*address=\([^ ]*\) tls=true.*/\1/p' "$work/sluiced.log" | head -n 1)
export SLUICE_ADDR SLUICE_PID SLUICE_TLS_ADDR SLUICE_LOG=$work/sluiced.log

for name in "${suites[@]}"; do
    suite "$name" "tests/interop/$name/run"
done
printf '%d passed, %d failed\n' "$n_passed" "$n_failed"
[ "$n_failed" = 0 ] && [ "$n_passed" -gt 0 ]
