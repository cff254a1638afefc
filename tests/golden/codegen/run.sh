#!/bin/sh
# Golden test of the generators (GC-9): what protoc-gen-sluice-c makes of proto/ equals expected/, compiles together
# with protoc-gen-c's output, and what it makes of bad/ are the errors stored there.
#   run.sh SOURCE_ROOT DIR_OF_THE_PLUGINS CC SCRATCH_DIR
# SL_GOLDEN_UPDATE=1 in the environment stores what it finds instead.
set -eu
root=$1 plugins=$2 cc=$3 scratch=$4
golden=$root/tests/golden/codegen
rm -rf "$scratch"
mkdir -p "$scratch/all" "$scratch/one" "$scratch/errors" "$scratch/o"

run() { # PLUGIN OUT_DIR OPTION... -- FILE...
    plugin=$1 out=$2
    shift 2
    [ "$plugin" != sluice-c ] || set -- --sluice-c_opt=rpc_header=service/rpc/rpc.h "$@" # of the tree
    protoc --plugin="protoc-gen-$plugin=$plugins/protoc-gen-$plugin" "--${plugin}_out=$out" \
        -I "$golden/proto" -I "$golden/bad" -I /usr/include "$@"
}

# All files in one run, each in its own run, and all again: the output depends on nothing but the file (GC-2).
cd "$golden/proto"
files=$(find . -name '*.proto' | sed 's,^\./,,' | LC_ALL=C sort)
run sluice-c "$scratch/all" $files
for file in $files; do
    run sluice-c "$scratch/one" "$file"
done
diff -r "$scratch/all" "$scratch/one"

# The stored files leave out the bytes of Debian's own protos, which come and go with its versions.
for file in $(cd "$scratch/all" && find . -type f); do
    mkdir -p "$scratch/golden/$(dirname "$file")"
    awk '/^static const uint8_t sl_(google__protobuf__|protobuf_c__).*__bytes/ { print; skip = 1; next }
        /^};/ { skip = 0 }
        !skip' "$scratch/all/$file" >"$scratch/golden/$file"
done

# Errors: protoc prints "PREFIX: text" and fails.
cd "$golden/bad"
for file in *.proto; do
    if run sluice-c "$scratch/errors" "$file" 2>"$scratch/errors/${file%.proto}.txt"; then
        echo "$file was accepted" >&2
        exit 1
    fi
done
if run sluice-c "$scratch/errors" --sluice-c_opt=colour=blue names.proto 2>"$scratch/errors/parameter.txt"; then
    echo "an unknown parameter was accepted" >&2
    exit 1
fi
rm -f "$scratch"/errors/*.sl.?

# A request that is none: an error in the answer, exit status 0.
for plugin in sluice-c sluice-pb-c; do
    printf 'no request' | "$plugins/protoc-gen-$plugin" >"$scratch/errors/no_request.$plugin.bin"
done

if [ "${SL_GOLDEN_UPDATE:-0}" = 1 ]; then
    rm -rf "$golden/expected"
    mkdir "$golden/expected"
    cp -r "$scratch/golden" "$golden/expected/output"
    cp -r "$scratch/errors" "$golden/expected/errors"
fi
diff -r "$golden/expected/output" "$scratch/golden"
diff -r "$golden/expected/errors" "$scratch/errors"

# The parameters change what they say.
mkdir "$scratch/parameters"
run sluice-c "$scratch/parameters" --sluice-c_opt=rpc_header=other/rpc.h,carry=names.proto c_package.proto
grep -q '#include "other/rpc.h"' "$scratch/parameters/c_package.sl.h"
grep -q '__attribute__((weak)) const struct sl_file_desc sl_names_proto__file' "$scratch/parameters/c_package.sl.c"

# Together with the messages.
cd "$golden/proto"
run sluice-pb-c "$scratch/all" --sluice-pb-c_opt=no_services $files \
    google/protobuf/empty.proto google/protobuf/any.proto google/protobuf/timestamp.proto google/protobuf/descriptor.proto
compile() { # NAME
    [ -e "$scratch/all/$1" ] || return 0
    "$cc" -std=c11 -Wall -Wextra -Werror -I "$scratch/all" -I "$root" -c "$scratch/all/$1" \
        -o "$scratch/o/$(echo "$1" | tr / _).o"
}
for file in $files; do
    compile "${file%.proto}.sl.c"
    compile "${file%.proto}.pb-c.c"
done

# And beside the services of protoc-gen-c, whose names are all taken (GC-3, PB-10).
run sluice-pb-c "$scratch/all" names.proto no_package.proto c_package.proto c_package_of_none.proto options.proto oneof_names.proto
for name in names no_package c_package c_package_of_none options oneof_names; do
    grep -q '_ServiceDestroy' "$scratch/all/$name.pb-c.h"
    compile $name.sl.c
    compile $name.pb-c.c
done

# No two files define one symbol, but for weak tables.
"$cc" -nostdlib -r -o "$scratch/o/all" "$scratch"/o/*.o

# Code of another generation is refused by its header (GC-10).
sed 's/^#if SL_GEN_VERSION != .*/#if SL_GEN_VERSION != 0/' "$scratch/all/names.sl.h" >"$scratch/all/other.sl.h"
printf '#include "other.sl.h"\n' >"$scratch/all/other.c"
if "$cc" -std=c11 -I "$scratch/all" -I "$root" -c "$scratch/all/other.c" -o "$scratch/o/other.o" 2>"$scratch/other.txt"; then
    echo "code of another generation was accepted" >&2
    exit 1
fi
grep -q '#error' "$scratch/other.txt"
