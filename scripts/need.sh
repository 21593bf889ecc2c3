#!/usr/bin/env bash
# Makes sure that system packages are there: need.sh COMMAND[=PACKAGE]...
# Installs only what is missing, and only where there is apt-get; else it says what to install.
set -euo pipefail

packages=()
for need in "$@"; do
    if ! command -v "${need%%=*}" >/dev/null; then
        packages+=("${need##*=}")
    fi
done
if [ ${#packages[@]} -eq 0 ]; then
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
fi
if ! command -v apt-get >/dev/null || ! command -v ${as_root:-env} >/dev/null; then
    echo "Missing: ${packages[*]}. Please install it with your package manager, then try again." >&2
    exit 1
fi

echo "Installing ${packages[*]} with apt-get"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
