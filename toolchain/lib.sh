# Sourced by the scripts beside it. Guarantees: REPO, MEMTOTAL_CACHE and PYTHON are set; one way to
# speak, to give up (exit status 2: the user can mend it), to keep two set-ups apart, and to ask apt.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for those who source this
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MEMTOTAL_CACHE=${MEMTOTAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/memtotal}
PYTHON=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*"; }

give_up() {
    printf 'setup: %s\n' "$@" >&2
    exit 2
}

# take_lock PATH: waits until no other set-up holds PATH, a file or folder that exists; held until
# this script ends. Its children inherit the lock, so one orphaned by a kill still keeps others out
# of the half it is writing.
take_lock() {
    exec {lock_fd}<"$1"
    if ! flock --nonblock "$lock_fd"; then
        say "waiting for another set-up to leave $1"
        flock "$lock_fd"
    fi
}

is_debian_12() {
    # shellcheck disable=SC1091 # a file of the system, not of this repository
    (source /etc/os-release && [[ ${ID-} == debian && ${VERSION_ID-} == 12 ]]) 2>/dev/null
}

# A package is there only when it is configured too: an interrupted dpkg leaves it half installed.
has_package() {
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# install_packages NAME...: asks apt for those that are missing, and nobody when none is.
install_packages() {
    local name missing=() as_root=()
    for name; do
        has_package "$name" || missing+=("$name")
    done
    if ((${#missing[@]} == 0)); then return; fi

    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            give_up "these packages are missing, and without root or sudo I cannot install them:" \
                "  apt-get install --no-install-recommends ${missing[*]}"
        fi
        as_root=(sudo)
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    say "installing ${missing[*]}"
    "${as_root[@]}" dpkg --configure -a # finishes what an interrupted run left half done
    # A broken third-party source is no reason to stop here; whether a package is found is.
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" apt-get install -qq --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "${missing[@]}"
}
