#!/usr/bin/env bash
# Builds the three servers of ./run bench --peers, and their schema, into a folder.
#   build.sh RELEASE_BUILD FOLDER
set -euo pipefail
release=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "${BASH_SOURCE[0]}")"

cmake --install "$release" --prefix "$out/installed" >/dev/null
cmake -S . -B "$out/cmake" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$out/installed" >/dev/null
cmake --build "$out/cmake" >/dev/null
cp "$out"/cmake/{peer_sluice,peer_grpc,peers.protoset} "$out/"

export GOBIN=$out/tools GOFLAGS="-modcacherw -mod=readonly -buildvcs=false"
[ -x "$GOBIN/protoc-gen-go" ] || go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
[ -x "$GOBIN/protoc-gen-go-grpc" ] || go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
mkdir -p "$out/go"
cp go/main.go go/go.mod go/go.sum "$out/go/"
PATH=$GOBIN:$PATH protoc -I . --go_out="$out/go" --go_opt=module=sluice.example/peers \
    --go-grpc_out="$out/go" --go-grpc_opt=module=sluice.example/peers peers.proto
(cd "$out/go" && go build -o ../peer_go .)
