"""
What a user installs: its names, its files, its imports and its promises about them.
"""

import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

import asgi_batch
from asgi_batch import errors
from asgi_batch._core.failures import Failure
from asgi_batch.errors import AsgiBatchError, BatchRefused

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What the runtime dependencies need in turn.
ALLOWED_IMPORTS = {
    "anyio",
    "asgi_batch",
    "idna",
    "msgspec",
    "orjson",
    "sniffio",
    "typing_extensions",
}

# Clients rely on these: a change is a new major version, an addition belongs into the changelog.
REFUSALS = {
    "atomic_not_supported": 422,
    "atomic_required": 422,
    "transaction_unavailable": 503,
    "background_unavailable": 503,
    "batch_not_finished": 409,
    "batch_not_found": 404,
    "too_many_batches": 429,
    "owner_unknown": 503,
    "record_corrupt": 500,
    "rate_limited": 429,
    "rate_limit_unavailable": 503,
    "credentials_refused": 422,
    "cross_site_request": 403,
    "batch_refused": 400,
    "duplicate_key": 400,
    "idempotency_key_reused": 422,
    "invalid_batch": 422,
    "invalid_json": 400,
    "invalid_parameter": 400,
    "invalid_unicode": 400,
    "json_too_deep": 400,
    "method_not_allowed": 405,
    "nested_batch": 400,
    "nothing_to_retry": 409,
    "operations_erased": 410,
    "overloaded": 503,
    "payload_too_large": 413,
    "request_timeout": 408,
    "store_full": 503,
    "store_unavailable": 503,
    "too_many_operations": 413,
    "unsupported_content_encoding": 415,
    "unsupported_media_type": 415,
    "wrong_process": 503,
}
FAILURES = {
    ("app_exception", 500),
    ("commit_failed", 424),
    ("commit_unknown", 502),
    ("rolled_back", 424),
    ("app_incomplete_response", 502),
    ("app_no_response", 502),
    ("app_protocol_error", 502),
    ("batch_response_too_large", 424),
    ("batch_response_too_large", 502),
    ("batch_timeout", 424),
    ("batch_timeout", 504),
    ("cancelled", 424),
    ("operation_timeout", 504),
    ("outcome_unknown", 502),
    ("response_too_large", 502),
    ("skipped", 424),
    ("streaming_not_supported", 502),
    ("worker_lost", 502),
    ("expired", 424),
}


def run(*command, cwd=ROOT):
    """
    The output of *command*, which must succeed.
    """
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def family(root):
    """
    *root* and all classes below it.
    """
    return [root, *(each for child in root.__subclasses__() for each in family(child))]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """
    The wheel that a user would install.
    """
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (path,) = folder.glob("*.whl")
    return path


def test_all_is_complete_and_sorted():
    """
    ``__all__`` lists every public name of the front door, in order.
    """
    public = [
        name
        for name, value in vars(asgi_batch).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]

    assert asgi_batch.__all__ == sorted(public)


@pytest.mark.parametrize("name", asgi_batch.__all__)
def test_public_name_has_a_docstring(name):
    """
    Each public name says what it is, and so does each of its public methods.
    """
    thing = getattr(asgi_batch, name)
    methods = [
        value
        for key, value in vars(thing).items()
        if not key.startswith("_") and inspect.isroutine(value)
    ]

    assert [each for each in [thing, *methods] if not each.__doc__] == []


def test_import_brings_no_extra():
    """
    Whoever installs the library alone can import it.
    """
    program = """
import sys
before = set(sys.modules)
import asgi_batch
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    imported = set(run(sys.executable, "-c", program).split())

    assert imported - sys.stdlib_module_names - ALLOWED_IMPORTS == set()


def test_layers_hold():
    """
    Arrows only go down, and the cellar knows no IO, no clock and no randomness.
    """
    output = run(str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache")

    assert "0 broken" in output


def test_refusals_have_distinct_stable_codes():
    """
    Each error that refuses a batch has a code of its own and the status that clients know.
    """
    refusals = family(BatchRefused)

    assert {each.code: each.status for each in refusals} == REFUSALS
    assert len(refusals) == len(REFUSALS)


def test_failures_have_distinct_stable_codes():
    """
    Each failure of an operation can be told from the others by its code and status.
    """
    failures = [(failure.code, failure.status) for failure in Failure]

    assert set(failures) == FAILURES
    assert len(failures) == len(FAILURES)


def test_errors_have_one_root_and_a_drawn_tree():
    """
    The tree in the docstring of `asgi_batch.errors` is the tree of the classes.
    """
    drawn = re.findall(r"^[│├└─ ]*(\w+)(?:  +(\d{3}) (\w+))?", errors.__doc__, re.MULTILINE)
    classes = {(name, status, code) for name, status, code in drawn if hasattr(errors, name)}
    expected = {
        (each.__name__, str(each.status), each.code)
        if issubclass(each, BatchRefused) and each is not BatchRefused
        else (each.__name__, "", "")
        for each in family(AsgiBatchError)
    }

    assert classes == expected


def test_changelog_is_about_this_version():
    """
    The changelog's newest entry, the project and the installed package agree on the version.
    """
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([^]]+)\]", changelog, re.MULTILINE)

    assert newest is not None
    assert newest[1] == PROJECT["version"] == version("asgi-batch")


def test_wheel_holds_the_package_and_nothing_else(wheel):
    """
    The wheel has every file of the package, the mark for type checkers, and no other file.
    """
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for pattern in ("*.py", "*.lua", "*.html", "*.css", "*.js", "*.json")
        for path in source.rglob(pattern)
    }

    assert names == expected | {"asgi_batch/py.typed"}


def test_wheel_requires_three_packages(wheel):
    """
    Installed without extras, the library needs anyio, msgspec and orjson.
    """
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(name).decode()
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)

    assert sorted(required) == ["anyio", "msgspec", "orjson"]
