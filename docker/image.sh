#!/usr/bin/env bash
# Builds the image with the first of docker, podman and buildah that works here, and runs the demo inside it.
#   image.sh [--with TOOL] [--base IMAGE] [--tag NAME] [--no-demo]
# --base debootstrap makes the base image from a Debian mirror, for machines that reach no image registry.
# Called by ./run image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=(docker podman buildah) base='' tag=sluice demo=true work=''
say() { printf '%s\n' "$*"; }
die() { printf 'image: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
    --with) tools=("${2:?--with: docker, podman or buildah}") && shift 2 ;;
    --base) base=${2:?--base: an image, or debootstrap} && shift 2 ;;
    --tag) tag=${2:?--tag: a name} && shift 2 ;;
    --no-demo) demo=false && shift ;;
    *) die "usage: ./run image [--with docker|podman|buildah] [--base IMAGE|debootstrap] [--tag NAME] [--no-demo]" ;;
    esac
done

# Installed is not enough: a client without its engine builds nothing.
works() {
    case $1 in
    docker) docker info ;;
    podman) podman info ;;
    buildah) buildah info ;;
    *) return 1 ;;
    esac >/dev/null 2>&1
}

pick_tool() {
    for tool in "${tools[@]}"; do
        if ! command -v "$tool" >/dev/null; then
            say "$tool: not installed"
        elif ! works "$tool"; then
            say "$tool: installed, but it does not work here ($tool info fails)"
        else
            say "$tool: works"
            return 0
        fi
    done
    die "none of ${tools[*]} works here; on Debian: apt-get install buildah"
}

# Rootless containers need user namespaces, which not every machine allows; a chroot needs nothing.
isolation() {
    if [ "$tool" = buildah ] && ! unshare --user --pid --fork true 2>/dev/null; then
        printf -- '--isolation chroot'
    elif [ "$tool" = buildah ]; then
        printf -- '--isolation %s' "${BUILDAH_ISOLATION:-chroot}"
    fi
}

clean_up() {
    [ -z "$work" ] || rm -rf --one-file-system "$work"
}

# A bare Debian 12 from its mirror, as an image of its own.
make_base() {
    command -v debootstrap >/dev/null || die "--base debootstrap: debootstrap is not installed"
    [ "$(id -u)" = 0 ] || die "--base debootstrap: only root can make it"
    work=$(mktemp -d)
    trap clean_up EXIT
    base=localhost/sluice-base
    say "Making the base image $base with debootstrap"
    debootstrap --variant=minbase bookworm "$work/root" http://deb.debian.org/debian >"$work/log" ||
        { tail -n 20 "$work/log" >&2; die "debootstrap failed"; }
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    if [ "$tool" = buildah ]; then
        local container
        container=$(buildah from scratch)
        buildah add -q "$container" "$work/root" / >/dev/null
        buildah commit -q --rm "$container" "$base" >/dev/null
    else
        tar -C "$work/root" -c . | "$tool" import - "$base" >/dev/null
    fi
}

build() {
    local arguments=(-f docker/Dockerfile -t "$tag")
    [ "$tool" = docker ] || arguments+=(--format docker) # OCI images have no health check
    [ -z "$base" ] || arguments+=(--build-arg "BASE=$base")
    say "Building the image $tag with $tool"
    # shellcheck disable=SC2046
    "$tool" build $(isolation) "${arguments[@]}" .
}

# The daemon and the demo in one container, as its own user, in the configuration of the image.
in_image='
    sluiced --port-file /tmp/address --limit drain_delay=0 2>/tmp/log & pid=$!
    for i in $(seq 200); do [ -s /tmp/address ] || sleep 0.05; done
    sluice health && sluice run demo "Show me what you can do."; status=$?
    kill $pid; wait $pid || status=$?
    [ $status = 0 ] || cat /tmp/log
    exit $status'

run_demo() {
    say "Running the demo inside the image, as user $("$tool" inspect --type image "$tag" | sed -n 's/.*"[Uu]ser": "\([0-9a-z:]*\)".*/\1/p' | head -n 1)"
    if [ "$tool" = buildah ]; then
        local container status=0
        container=$(buildah from --pull-never "$tag")
        # shellcheck disable=SC2046
        buildah run $(isolation) "$container" -- sh -c "$in_image" || status=$?
        buildah rm "$container" >/dev/null
        return "$status"
    fi
    "$tool" run --rm --read-only --tmpfs /tmp --cap-drop ALL --entrypoint sh "$tag" -c "$in_image"
}

pick_tool
[ "$base" != debootstrap ] || make_base
build
! $demo || run_demo
say "Image: $tag"
