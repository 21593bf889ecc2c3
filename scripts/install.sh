#!/usr/bin/env bash
# Installs this project with one of its extras: install.sh EXTRA
# Makes .venv where there is none, with the first Python of 3.11 or later that it finds.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=$1

runs() {
    "$@" >/dev/null 2>&1 </dev/null
}

find_python() {
    for name in python3.11 python3 python3.12 python3.13 python3.14 python; do
        if runs "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$name"
            return
        fi
    done
    echo "asgi_batch needs Python 3.11 or later, and there is none on the PATH." >&2
    return 1
}

if ! runs .venv/bin/python -m pip --version; then
    python=$(find_python)
    echo "Creating .venv with $("$python" --version)"
    if ! runs "$python" -c 'import ensurepip, venv'; then
        # Debian keeps these two in a package of their own.
        scripts/need.sh ensurepip=python3-venv
    fi
    "$python" -m venv --clear .venv
fi

echo "Installing asgi-batch[$extra] into .venv"
.venv/bin/python -m pip install -qq --disable-pip-version-check --editable ".[$extra]"
