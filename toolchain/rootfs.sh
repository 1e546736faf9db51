#!/bin/bash
# Guarantees: $MEMTOTAL_CACHE/rootfs-armel.cpio.gz is the initramfs described by toolchain/rootfs/,
# with the same bytes for the same input on every machine. Needs no root, changes nothing of the
# host's dpkg, and writes nothing into the kernel tree. Its stamp is written last.
#
# BusyBox is fetched once and kept as $MEMTOTAL_CACHE/busybox-armel; a static BusyBox for ARMv5 the
# user puts there is used as it is.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=$REPO/toolchain/rootfs
busybox=$MEMTOTAL_CACHE/busybox-armel
image=$MEMTOTAL_CACHE/rootfs-armel.cpio.gz
stamp=$image.stamp

digest() {
    (cd "$REPO/toolchain" && sha256sum rootfs.sh rootfs/* && sha256sum <"$busybox" &&
        sha256sum <"$image") 2>/dev/null | sha256sum
}
is_ready() { [[ -f $stamp && -f $image && -f $busybox && $(<"$stamp") == "$(digest)" ]]; }

# The armel package, by an apt whose state, cache and architecture are its own. Sources, keys and so
# the check of the signatures are the host's. /tmp, for apt's unprivileged user must reach it.
fetch_busybox() {
    local apt=(
        apt-get -qq
        -o "Dir::State=$work/apt/state" -o "Dir::State::status=$work/apt/status"
        -o "Dir::Cache=$work/apt/cache"
        -o APT::Architecture=armel -o APT::Architectures::=armel
        -o Acquire::Languages=none -o Dpkg::Use-Pty=0
    )
    mkdir -p "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
    : >"$work/apt/status"
    say "fetching busybox-static for armel"
    "${apt[@]}" update || true # as far as BusyBox is concerned, the next line decides
    if ! "${apt[@]}" install --yes --download-only --no-install-recommends busybox-static; then
        give_up "apt's sources have no busybox-static for armel;" \
            "put a static BusyBox for ARMv5 to $busybox, then try again"
    fi
    dpkg-deb --fsys-tarfile "$work"/apt/cache/archives/busybox-static_*_armel.deb |
        tar --extract --to-stdout ./bin/busybox >"$busybox.new"
    chmod 755 "$busybox.new"
    mv "$busybox.new" "$busybox"
}

# One file with a hard link per command: a symbolic link would cost the guest an inode each.
print_list() {
    cat "$data/list"
    # shellcheck disable=SC2016 # gen_init_cpio, not this shell, replaces the variable
    printf 'file /bin/busybox ${ROOTFS}/busybox 0755 0 0'
    awk '!/^#/ { printf " /bin/%s", $1 } END { print "" }' "$data/applets"
}

if is_ready; then exit 0; fi
mkdir -p "$MEMTOTAL_CACHE"
take_lock "$MEMTOTAL_CACHE"
if is_ready; then exit 0; fi # another set-up was quicker

work=$(mktemp --directory --tmpdir memtotal-rootfs.XXXXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
if [[ ! -f $busybox ]]; then fetch_busybox; fi

say "packing $image"
mkdir "$work/files"
cp "$data"/* "$busybox" "$work/files/"
mv "$work/files/busybox-armel" "$work/files/busybox"
touch --date=@0 "$work"/files/*
print_list >"$work/list"
gcc -O1 -o "$work/gen_init_cpio" "$MEMTOTAL_CACHE/linux-source-6.1/usr/gen_init_cpio.c"
ROOTFS=$work/files "$work/gen_init_cpio" -t 0 "$work/list" | gzip -9 --no-name >"$image.new"
mv "$image.new" "$image"
digest >"$stamp"
