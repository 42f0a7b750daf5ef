# Sourced by the other scripts, which set `root` first: virtual environments that match their lock file.

# venv_ready FOLDER REQUIREMENTS: when nothing changed, this costs one `cmp`.
venv_ready() {
    [ -x "$1/bin/python" ] && cmp -s "$2" "$1/requirements.lock"
}

# ensure_venv FOLDER REQUIREMENTS, both relative to the root, which is the current directory.
ensure_venv() {
    venv_ready "$1" "$2" && return
    if ! command -v flock >/dev/null; then # macOS
        build_venv "$1" "$2"
        return
    fi
    # Two first starts at once: the second waits, then finds the work done.
    (
        if ! flock -w 1800 9; then
            say "another set-up has held $1.lock for half an hour"
            exit 1
        fi
        venv_ready "$1" "$2" || build_venv "$1" "$2"
    ) 9>"$1.lock"
}

# --no-deps: the lock file names every library. Left to look for dependencies itself, pip (23.2) takes the newest
# `google-auth[requests]` there is for a candidate, and fails on the day one newer than the locked one comes out.
# The copy of the lock file is written last, so an interrupted set-up has none and is done again. One that
# fails puts the old environment back: it still serves whoever checks out the release before.
build_venv() {
    python=$(find_python) || return 1
    say "setting up $1 (once, and after each change of $2)"
    if venv_ready "$1" "$1/requirements.lock"; then
        rm -rf "$1.old"
        mv "$1" "$1.old"
    fi
    if "$python" -m venv --clear "$1" &&
        "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-input --no-deps --require-hashes -r "$2" &&
        cp "$2" "$1/requirements.new" &&
        mv "$1/requirements.new" "$1/requirements.lock"; then
        rm -rf "$1.old"
        return
    fi
    rm -rf "$1"
    [ ! -d "$1.old" ] || mv "$1.old" "$1"
    say "could not set up $1; the reason is above"
    return 1
}

# The real file behind `python3` is printed, with its version in its name: when the system's Python is
# replaced by a newer one, the link in the environment dangles and the environment is made again.
find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        "$candidate" -c '
import ensurepip, os, sys, venv
if sys.version_info < (3, 11):
    raise SystemExit(1)
print(os.path.realpath(sys.executable))' 2>/dev/null && return
    done
    say "Python 3.11 or newer with venv and pip is needed:"
    say "  apt-get install -y python3 python3-venv"
    return 1
}

# Debian packages that tests or benchmarks want and this machine lacks.
missing_packages() {
    for pair in curl:curl jq:jq wrk:wrk nginx:nginx-light redis-server:redis-server; do
        PATH=$PATH:/usr/sbin command -v "${pair%:*}" >/dev/null || printf '%s ' "${pair#*:}"
    done
}

say() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
}
