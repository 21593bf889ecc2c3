"""
Where the time of an operation goes: the steps of a batch, each timed by itself.

The steps run over a batch of 1000 operations, as `benchmarks.overhead` sends it, outside of any
event loop. They do not add up to the whole exactly: alone, each step finds its data in the cache.
"""

import argparse
import contextvars
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asgi_batch._core.models import CurrentOperation, Result
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._ledger import Ledger
from asgi_batch._pending import Pending
from asgi_batch._subrequest import Subrequest
from asgi_batch.dialects import native
from asgi_batch.dialects._native_checks import OperationChecks
from asgi_batch.dialects._native_wire import accounted_size, decode_envelope
from asgi_batch.dialects._strict_json import solid_size
from benchmarks.apps import bare, batch_of, wrapped
from benchmarks.asgi import batch_scope
from benchmarks.report import finish, table

_COUNT = 1000
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"11")],
}
_BODY = {"type": "http.response.body", "body": b'{"ok":true}'}


def _drive(call: Coroutine[Any, Any, None]) -> None:
    try:
        call.send(None)
    except StopIteration:
        return


def _steps() -> dict[str, Callable[[], object]]:
    document = batch_of(_COUNT)
    settings = wrapped(bare)._settings
    rules, bounds = settings.rules, settings.engine.bounds
    envelope = decode_envelope(document)
    batch = native.decode(document, rules)
    operations = batch.operations
    template = ScopeTemplate(batch_scope(document))
    mark = CurrentOperation("batch", "0", 0, _COUNT)
    context = contextvars.copy_context()
    results = [Result(each, 200, _START["headers"], _BODY["body"]) for each in operations]

    def check() -> None:
        checks = OperationChecks(rules)
        for index, wire in enumerate(envelope.operations):
            checks.check(index, wire)

    def make_ready() -> None:
        pending = Pending(
            operations, batch_id="batch", total=_COUNT, template=template, context=context
        )
        while pending.refill(id, id, bounds):
            pending.ready.clear()

    def answer() -> None:
        for operation in operations:
            subrequest = Subrequest(operation, id, id, bounds)
            _drive(subrequest.send(_START))
            _drive(subrequest.send(_BODY))

    def record() -> None:
        ledger = Ledger(batch, settings.encode, 2**30)
        ledger.record_all(results)

    return {
        "parse the envelope": lambda: decode_envelope(document),
        "account for every byte": lambda: (solid_size(document), accounted_size(envelope)),
        "check ids, methods, paths, headers, bodies": check,
        "make scopes": lambda: [template.scope_for(each, mark) for each in operations],
        "make scopes, contexts and subrequests": make_ready,
        "take two messages of an answer": answer,
        "check and write the results": record,
    }


def _time(step: Callable[[], object], rounds: int) -> float:
    """
    Microseconds per operation, the best of *rounds*.
    """
    best = float("inf")
    for _ in range(rounds):
        started = perf_counter()
        step()
        best = min(best, perf_counter() - started)
    return best / _COUNT * 1e6


def main() -> int:
    """
    Time every step.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of each, to try it out")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else 300
    costs = {name: _time(step, rounds) for name, step in _steps().items()}
    print("Microseconds per operation, best of", rounds)
    table(("step", "µs"), [(name, f"{cost:.2f}") for name, cost in costs.items()])
    figures = {"microseconds": {name: round(cost, 3) for name, cost in costs.items()}}
    return finish("steps", figures, [], check=False)


if __name__ == "__main__":
    sys.exit(main())
