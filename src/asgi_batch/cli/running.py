"""
A run: from its beginning or where another was stopped, to its end or where it is stopped.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from asgi_batch.cli.bar import Bar, say
from asgi_batch.cli.operations.source import Source
from asgi_batch.cli.problems import INTERRUPTED, Refused, TransportProblem, UsageProblem
from asgi_batch.cli.remote import Server
from asgi_batch.cli.sending import Sending
from asgi_batch.cli.sink import Sink
from asgi_batch.cli.state import State, StateFile
from asgi_batch.client import BatchClient


@dataclass(frozen=True, slots=True)
class Options:
    """
    What is wanted of a run.

    Args:
        source: Where operations come from.
        output: Where results go; None for standard output.
        only_failed: Whether results that are good are left out.
        retry_failed: Whether what fails is sent once more, after all others.
        resume: Whether to go on with a run that was stopped.
    """

    source: Source
    output: Path | None
    only_failed: bool
    retry_failed: bool
    resume: bool


def run(server: Server, options: Options) -> Sending:
    """
    Send what is to be sent; what has come of it.

    Raises:
        UsageProblem: It cannot be done as it stands.
        TransportProblem: The server cannot be reached, or refuses.
    """
    source = options.source
    if not source.is_repeatable and (options.resume or options.retry_failed):
        raise UsageProblem("Standard input cannot be read twice: use a file.")
    if options.resume and options.output is None:
        raise UsageProblem("--resume goes with --output: the results so far are there.")
    if options.output is not None and source.is_file(options.output):
        raise UsageProblem(f"{options.output} has the operations: write results to another file.")
    # Looks at each operation before the first one is sent.
    total = source.count() if source.is_repeatable else None
    can_go_on = source.is_repeatable and options.output is not None
    states = StateFile(options.output) if can_go_on and options.output else None
    state = _state(server, options, states)
    with _as_interrupt(), _hinting(state, states), server.client() as client:
        state.chunk = state.chunk or client.limits().max_operations
        with Sink(options.output, state.offset) as sink:
            sending = Sending(source, sink, state, states.save if states else None)
            _send(sending, client, total)
    if states is not None:
        states.remove()
    return sending


def _state(server: Server, options: Options, states: StateFile | None) -> State:
    """
    How far the run is that is gone on with, or that of a new one.
    """
    state = State(
        url=server.url,
        fingerprint=options.source.fingerprint() if states else "",
        only_failed=options.only_failed,
        retry_failed=options.retry_failed,
    )
    if states is not None and options.resume:
        return states.load(state)
    if states is not None and states.exists():
        raise UsageProblem(
            f"{options.output} is of a run that was stopped: go on with it with --resume, "
            f"or remove {states.path}."
        )
    return state


def _send(sending: Sending, client: BatchClient, total: int | None) -> None:
    """
    Run *sending* to its end, and remember how far it is wherever it ends.
    """
    before, started = sending.completed, time.monotonic()
    sending.remember()
    try:
        with Bar(total) as bar:
            sending.run(client, bar)
    finally:
        # Whoever presses Ctrl-C again does not want to lose what was done either.
        with _deaf():
            sending.remember()
    seconds = time.monotonic() - started
    done = sending.completed - before
    say(
        f"{sending.succeeded + sending.failed:,} operations: {sending.succeeded:,} succeeded, "
        f"{sending.failed:,} failed; {done:,} in {seconds:.1f} s"
    )


@contextmanager
def _hinting(state: State, states: StateFile | None) -> Iterator[None]:
    """
    Whoever is stopped is told how to go on.
    """
    try:
        yield
    except Refused:
        if states is not None and state.acknowledged == state.stage == 0:
            states.remove()
        raise
    except (TransportProblem, UsageProblem):
        _hint(state, states)
        raise
    except KeyboardInterrupt:
        say("Interrupted.")
        _hint(state, states)
        sys.exit(INTERRUPTED)


def _hint(state: State, states: StateFile | None) -> None:
    if states is not None and states.exists():
        say(f"{state.acknowledged:,} results are written. The same command with --resume goes on.")
        if not state.is_kept:
            say("The server keeps no batches: the operations under way may be run again then.")


@contextmanager
def _as_interrupt() -> Iterator[None]:
    """
    Whoever asks the process to end gets what Ctrl-C gets.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deaf() -> Iterator[None]:
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
