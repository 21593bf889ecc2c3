#!/usr/bin/env bash
# Mutation testing: change the source in one place, and see whether a test notices.
#
#   scripts/mutants.sh                 all parts, side by side
#   scripts/mutants.sh core checks     these parts only
#   scripts/mutants.sh --again core    the survivors of the last run, with the tests as they are now
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
    [later]="$SOURCE/dialects/native_later.py"
    [answers]="$(ls $SOURCE/_{subrequest,call}.py | xargs)"
    [running]="$(ls $SOURCE/_{executor,crew,pending,worker,ledger}.py | xargs)"
)
# The quick ones first: most mutants go no further.
declare -A TESTS=(
    [core]="tests/core tests/dialects"
    [checks]="tests/dialects"
    [dialects]="tests/dialects"
    [later]="tests/test_later.py tests/test_events.py tests/test_retry.py $ONE_LOOP"
    [answers]="$(echo tests/test_{call,subrequest,faults,isolation}.py) $ONE_LOOP"
    [running]="$(echo tests/test_{crew,ledger,executor,call,fairness,carrier,faults,isolation}.py) $ONE_LOOP"
)

copy_tests() {
    local copy=$1
    rm -rf "$copy/tests"
    cp -r tests "$copy"
    find "$copy" -name __pycache__ -prune -exec rm -rf {} +
    # Fewer examples, and the same for every mutant.
    cat >> "$copy/tests/conftest.py" <<'PROFILE'

settings.register_profile("mutants", BASE, max_examples=25, derandomize=True, database=None)
settings.load_profile("mutants")
PROFILE
}

prepare() {
    local part=$1 copy=mutants/$1
    rm -rf "$copy"
    mkdir -p "$copy"
    cp -r src pyproject.toml docs "$copy"
    copy_tests "$copy"
    "$BIN/python" scripts/mutants.py configure "$copy" "${MODULES[$part]}" "${TESTS[$part]} ${MUTANTS_ARGS:-}"
}

# The survivors are known by their places, so what is changed must be what it was.
prepare_again() {
    local part=$1 copy=mutants/$1 module
    [ -f "$copy/run.sqlite" ] || { echo "$part has not been run." >&2; exit 1; }
    for module in ${MODULES[$part]}; do
        diff -rq -x __pycache__ "$module" "$copy/$module" || { echo "Run $part from the start." >&2; exit 1; }
    done
    rm -rf "$copy/src"
    cp -r src "$copy"
    copy_tests "$copy"
}

run() {
    local copy=mutants/$1
    cd "$copy"
    export PATH=$BIN:$PATH PYTHONPATH=$PWD/src PYTHONDONTWRITEBYTECODE=1
    export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 HYPOTHESIS_PROFILE=ci
    if [ -f run.sqlite ]; then
        python ../../scripts/mutants.py again run.sqlite
    else
        cosmic-ray init cosmic-ray.toml run.sqlite
        cr-filter-operators run.sqlite cosmic-ray.toml
        python ../../scripts/mutants.py skip run.sqlite
    fi
    cosmic-ray baseline cosmic-ray.toml
    cosmic-ray exec cosmic-ray.toml run.sqlite
}

prepare=prepare
if [ "${1:-}" = --again ]; then
    prepare=prepare_again
    shift
fi
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(checks dialects core later answers running)
for part in "${parts[@]}"; do
    "$prepare" "$part"
done
printf '%s\n' "${parts[@]}" | xargs -P "$(nproc)" -I{} bash -c "$(declare -f run); BIN='$BIN'; set -euo pipefail; run {} > mutants/{}/log 2>&1" \
    || { echo "A part could not be run; see mutants/*/log." >&2; exit 1; }
for part in "${parts[@]}"; do
    "$BIN/python" scripts/mutants.py report "$part" "mutants/$part/run.sqlite"
done
