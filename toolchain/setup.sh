#!/bin/bash
# Guarantees: everything `memtotal` needs is there. Each step does only what is missing, and can be
# interrupted anywhere: the next run goes on. With nothing missing it needs neither root nor network.
# setup.sh [test] [bench]: with "test" also what the tests need, with "bench" what bench-build does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=lib.sh
source ./lib.sh

./packages.sh "$@"
./kernel.sh 6.1
./rootfs.sh
./venv.sh
say "everything is in place"
