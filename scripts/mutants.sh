#!/usr/bin/env bash
# Mutation testing: change the source in one place, and see whether a test notices.
#
#   scripts/mutants.sh                 all parts, side by side
#   scripts/mutants.sh core checks     these parts only
#
# Each part is run in a copy of the repository under mutants/. The survivors are printed at the end;
# docs/mutants.md says why they survive.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=$PWD/.venv/bin
SOURCE=src/asgi_batch
ONE_LOOP='-k "not uvloop and not trio"'

declare -A MODULES=(
    [core]="$SOURCE/_core"
    [checks]="$SOURCE/dialects/_native_checks.py $SOURCE/dialects/_native_wire.py"
    [dialects]="$SOURCE/dialects/native.py $SOURCE/dialects/_native_refusal.py $SOURCE/dialects/_strict_json.py"
    [answers]="$(ls $SOURCE/_{subrequest,call}.py | xargs)"
    [running]="$(ls $SOURCE/_{executor,crew,pending,worker,ledger}.py | xargs)"
)
declare -A TESTS=(
    [core]="tests/core tests/dialects"
    [checks]="tests/dialects"
    [dialects]="tests/dialects"
    [answers]="$(ls tests/test_{subrequest,call,isolation,faults}.py | xargs) $ONE_LOOP"
    [running]="$(ls tests/test_{ledger,executor,call,isolation,fairness,faults}.py | xargs) $ONE_LOOP"
)

prepare() {
    local part=$1 copy=mutants/$1
    rm -rf "$copy"
    mkdir -p "$copy"
    cp -r src tests pyproject.toml docs "$copy"
    find "$copy" -name __pycache__ -prune -exec rm -rf {} +
    # Fewer examples, and the same for every mutant.
    cat >> "$copy/tests/conftest.py" <<'PROFILE'

settings.register_profile("mutants", BASE, max_examples=25, derandomize=True, database=None)
settings.load_profile("mutants")
PROFILE
    "$BIN/python" scripts/mutants.py configure "$copy" "${MODULES[$part]}" "${TESTS[$part]} ${MUTANTS_ARGS:-}"
}

run() {
    local copy=mutants/$1
    cd "$copy"
    export PATH=$BIN:$PATH PYTHONPATH=$PWD/src PYTHONDONTWRITEBYTECODE=1
    export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 HYPOTHESIS_PROFILE=ci
    cosmic-ray init cosmic-ray.toml run.sqlite
    cr-filter-operators run.sqlite cosmic-ray.toml
    python ../../scripts/mutants.py skip run.sqlite
    cosmic-ray baseline cosmic-ray.toml
    cosmic-ray exec cosmic-ray.toml run.sqlite
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(checks dialects core answers running)
for part in "${parts[@]}"; do
    prepare "$part"
done
printf '%s\n' "${parts[@]}" | xargs -P "$(nproc)" -I{} bash -c "$(declare -f run); BIN='$BIN'; set -euo pipefail; run {} > mutants/{}/log 2>&1" \
    || { echo "A part could not be run; see mutants/*/log." >&2; exit 1; }
for part in "${parts[@]}"; do
    "$BIN/python" scripts/mutants.py report "$part" "mutants/$part/run.sqlite"
done
