# What the interop suites share: daemons on free ports, certificates, and counting. Sourced by run.sh.
# Every suite prints "ok NAME" or "FAIL NAME: why" per case on stdout.
# shellcheck shell=bash

n_passed=0
n_failed=0
pids=()

end_pids() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true # a second SIGTERM does not wait for the drain
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}

# start NAME FILE COMMAND...: runs a server in the background that writes its address to FILE; waits for that.
start() {
    local name=$1 file=$2 i
    shift 2
    "$@" >"$work/$name.out" 2>"$work/$name.log" &
    pids+=($!)
    started=$!
    for ((i = 0; i < 400; i++)); do
        [ ! -s "$file" ] || return 0
        kill -0 "$started" 2>/dev/null || break
        sleep 0.05
    done
    printf 'FAIL start of %s\n' "$name"
    tail -n 20 "$work/$name.log"
    n_failed=$((n_failed + 1))
    return 1
}

# suite NAME COMMAND...: runs it, shows its lines, and counts them. A suite that says nothing has failed.
suite() {
    local name=$1 out passed failed status=0
    shift
    printf -- '-- %s\n' "$name"
    out=$work/$name.cases
    timeout 900 "$@" >"$out" 2>"$work/$name.err" || status=$?
    cat "$out"
    passed=$(grep -c '^ok ' "$out" || true)
    failed=$(grep -c '^FAIL ' "$out" || true)
    if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
        printf 'FAIL %s: exit status %s\n' "$name" "$status"
        failed=1
    elif [ "$passed" = 0 ] && [ "$failed" = 0 ]; then
        printf 'FAIL %s: no case ran\n' "$name"
        failed=1
    fi
    [ "$failed" = 0 ] || tail -n 30 "$work/$name.err" >&2
    n_passed=$((n_passed + passed))
    n_failed=$((n_failed + failed))
}

# A CA, and a certificate for localhost and 127.0.0.1.
make_certificates() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -keyout "$work/ca.key" -out "$work/ca.pem" -subj '/CN=Interop CA' 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout "$work/server.key" -out "$work/server.csr" -subj '/CN=localhost' 2>/dev/null
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >"$work/san"
    openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" \
        -CAcreateserial -days 2 -extfile "$work/san" -out "$work/server.pem" 2>/dev/null
}

# npm_packages NAME@VERSION...: installs into build/interop once.
npm_packages() {
    local stamp
    stamp=$(printf '%s\n' "$@" | cksum | cut -d' ' -f1)
    mkdir -p build/interop
    if [ ! -f "build/interop/stamp-$stamp" ]; then
        printf 'Installing npm packages: %s\n' "$*"
        [ -f build/interop/package.json ] || printf '{"private":true}\n' >build/interop/package.json
        (cd build/interop && npm install --no-audit --no-fund --silent --ignore-scripts "$@" >/dev/null)
        touch "build/interop/stamp-$stamp"
    fi
}
