#!/bin/bash
# Guarantees: .venv holds exactly what requirements.lock pins, checked by hash, and this package,
# editable. A stamp with the checksum of its inputs is written last, so an interrupted run leaves no
# stamp and the next run starts over; while the stamp fits, nothing is done.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

venv=$REPO/.venv
stamp=$venv/.memtotal-stamp

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    give_up "$PYTHON is older than Python 3.11: set PYTHON to a newer one"
fi

# The version of Python and the folder count too: a virtual environment survives neither's change.
wanted=$({
    cat "$REPO/requirements.lock" "$REPO/pyproject.toml"
    "$PYTHON" -VV
    echo "$venv"
} | sha256sum | cut -d ' ' -f 1)

is_ready() { [[ -f $stamp && $(<"$stamp") == "$wanted" && -x $venv/bin/memtotal ]]; }

if is_ready; then exit 0; fi
take_lock "$REPO"
if is_ready; then exit 0; fi # another set-up was quicker

say "creating .venv from requirements.lock"
rm -rf "$venv"
"$PYTHON" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
"${pip[@]}" install -qq --require-hashes -r "$REPO/requirements.lock"
"${pip[@]}" install -qq --no-index --no-deps --no-build-isolation -e "$REPO"
echo "$wanted" >"$stamp"
