#!/bin/bash
# Guarantees: every program that builds, boots and packs is installed. On Debian 12 apt sees to that;
# on another distribution the user is told, in one message, everything that is missing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# With an argument, NAME, also those of the file packages-NAME: "test" has what the tests need.
table=$(grep -hv '^#' "$REPO/toolchain/packages" "${@/#/$REPO/toolchain/packages-}")

if is_debian_12; then
    mapfile -t packages < <(awk '{ print $1 }' <<<"$table")
    install_packages "${packages[@]}"
    exit
fi

missing=()
while read -r package program; do
    if [[ $program != - ]] && ! command -v "$program" >/dev/null; then
        missing+=("  $program (Debian: $package)")
    fi
done <<<"$table"

if [[ ! -d $MEMTOTAL_CACHE/linux-source-6.1 && ! -f /usr/src/linux-source-6.1.tar.xz ]]; then
    missing+=("  Linux 6.1, its files in /usr/src/linux-source-6.1.tar.xz below linux-source-6.1/")
fi
if [[ ! -f $MEMTOTAL_CACHE/busybox-armel ]]; then
    missing+=("  a static BusyBox for ARMv5 as $MEMTOTAL_CACHE/busybox-armel")
fi
if ((${#missing[@]})); then
    give_up "this is not Debian 12, so please install what is missing yourself:" "${missing[@]}"
fi
