#!/bin/bash
# kernel.sh [VERSION]: guarantees that the source of Debian's linux-source-VERSION (6.1 unless told)
# lies in $MEMTOTAL_CACHE/linux-source-VERSION, whole, as packed, of the version of the installed
# package. It appears by one rename with its stamp inside, so a half is never taken for the whole.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=linux-source-${1:-6.1}
archive=/usr/src/$name.tar.xz
tree=$MEMTOTAL_CACHE/$name
half=$MEMTOTAL_CACHE/.unpacking-$name
old=$MEMTOTAL_CACHE/.replaced-$name

if is_debian_12; then
    install_packages "$name"
elif [[ ! -f $archive && -d $tree ]]; then
    exit 0 # a tree the user put there
elif [[ ! -f $archive ]]; then
    give_up "$archive is missing: on Debian 12 it comes with the package $name"
fi
wanted=$(dpkg-query --show --showformat='${Version}' "$name" 2>/dev/null ||
    stat --format='%s bytes of %Y' "$archive")

# A tree in which `make` ran without O= refuses every later build outside of it.
is_ready() {
    [[ -f $tree/.memtotal-stamp && $(<"$tree/.memtotal-stamp") == "$wanted" ]] &&
        [[ ! -e $tree/.config && ! -e $tree/include/config && ! -e $half && ! -e $old ]]
}

if is_ready; then exit 0; fi
mkdir -p "$MEMTOTAL_CACHE"
take_lock "$MEMTOTAL_CACHE"
if is_ready; then exit 0; fi # another set-up was quicker

say "unpacking $archive to $tree"
rm -rf "$half" "$old"
mkdir "$half"
tar --extract --xz --no-same-owner --directory "$half" --file "$archive"
echo "$wanted" >"$half/$name/.memtotal-stamp"
# As old as the source: the same package makes the same tree on every machine, and the times of its
# files are what a study knows its tree by.
touch --reference="$half/$name/Makefile" "$half/$name/.memtotal-stamp"
if [[ -e $tree ]]; then mv "$tree" "$old"; fi
mv "$half/$name" "$tree"
rm -rf "$half" "$old"
