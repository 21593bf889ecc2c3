"""
`Limits`: what each number may be, and what a wrong one is told; and the gate that counts.
"""

from contextlib import suppress
from dataclasses import FrozenInstanceError, fields

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from asgi_batch import ConfigurationError, GateStatistics, Limits
from asgi_batch._gate import Gate
from asgi_batch.errors import Overloaded

NAMES = [field.name for field in fields(Limits)]
SECONDS = [
    "operation_timeout",
    "batch_timeout",
    "body_timeout",
    "resend_interval",
    "max_queue_age",
    "lease",
    "scan_interval",
    "cancel_interval",
    "drain_timeout",
    "result_ttl",
    "retry_ttl",
]
MAY_BE_ZERO = ["retry_ttl"]
COUNTS = [name for name in NAMES if name not in SECONDS]


def the_error(**numbers):
    with pytest.raises(ConfigurationError) as error:
        Limits(**numbers)
    return str(error.value)


def test_defaults():
    """
    The defaults are part of the contract.
    """
    defaults = {field.name: field.default for field in fields(Limits)}

    assert defaults == {
        "max_operations": 1000,
        "sync_operations": 100,
        "concurrency": 10,
        "total_concurrency": 40,
        "max_body_bytes": 10 * 1024 * 1024,
        "max_operation_bytes": 1024 * 1024,
        "max_result_bytes": 1024 * 1024,
        "max_response_bytes": 64 * 1024 * 1024,
        "max_held_bytes": 256 * 1024 * 1024,
        "max_messages": 100_000,
        "max_abandoned": 16,
        "max_path_bytes": 2048,
        "max_query_bytes": 8192,
        "max_headers": 64,
        "max_header_bytes": 8192,
        "max_json_depth": 128,
        "max_problems": 100,
        "operation_timeout": 30.0,
        "batch_timeout": 60.0,
        "body_timeout": 30.0,
        "background_batches": 4,
        "max_background_batches": 1000,
        "owner_batches": 10,
        "chunk_operations": 50,
        "resend_interval": 30.0,
        "max_attempts": 3,
        "max_queue_age": 3600.0,
        "lease": 30.0,
        "scan_interval": 5.0,
        "cancel_interval": 1.0,
        "drain_timeout": 20.0,
        "result_ttl": 86_400.0,
        "retry_ttl": 3600.0,
        "max_event_streams": 100,
    }


def test_every_limit_is_described():
    """
    A number without its reason is of no use to whoever has to change it.
    """
    for name in NAMES:
        assert f"        {name}: " in Limits.__doc__


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, -1) for name in NAMES),
        *((name, 0) for name in NAMES if name not in MAY_BE_ZERO),
    ],
)
def test_a_number_must_be_above_zero(name, value):
    """
    Nothing can be switched off by a zero, and nothing is below it.
    """
    assert the_error(**{name: value}) == f"Limits({name}={value}): write a finite number above 0."


@pytest.mark.parametrize("name", MAY_BE_ZERO)
@pytest.mark.parametrize("value", [0, 0.0])
def test_a_time_of_zero_where_it_means_at_once(name, value):
    """
    Whoever wants no operations to be kept says so.
    """
    assert getattr(Limits(**{name: value}), name) == 0


@pytest.mark.parametrize("name", MAY_BE_ZERO)
def test_false_is_no_zero(name):
    """
    A switch is no number, also where zero is one.
    """
    assert "write a number of seconds" in the_error(**{name: False})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [1.0, "10", None, True, [1], float("inf")])
def test_a_count_must_be_whole(name, value):
    """
    The sentence names the argument and says what to write.
    """
    assert the_error(**{name: value}) == f"Limits({name}={value!r}): write a whole number above 0."


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", ["10", None, True, [1]])
def test_a_time_must_be_a_number(name, value):
    """
    Seconds may have a fraction.
    """
    assert the_error(**{name: value}) == (
        f"Limits({name}={value!r}): write a number of seconds above 0."
    )
    assert getattr(Limits(**{name: 0.5}), name) == 0.5
    assert getattr(Limits(**{name: 1}), name) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0.0) for name in SECONDS if name not in MAY_BE_ZERO),
        *(
            (name, value)
            for name in SECONDS
            for value in (float("inf"), float("-inf"), float("nan"), -0.5)
        ),
    ],
)
def test_a_time_must_be_finite(name, value):
    """
    Waiting for ever is not a setting.
    """
    assert the_error(**{name: value}) == (
        f"Limits({name}={value!r}): write a finite number above 0."
    )


@pytest.mark.parametrize("name", SECONDS)
def test_a_time_that_no_clock_can_hold(name):
    """
    A number beyond all floats is told like any other wrong one.
    """
    assert "write a finite number above 0" in the_error(**{name: 10**400})


def test_a_count_may_be_as_large_as_one_likes():
    """
    There is no largest whole number.
    """
    assert Limits(max_body_bytes=10**400).max_body_bytes == 10**400


def test_counts_that_must_fit_together():
    """
    A part is at most its whole; the same is fine.
    """
    assert the_error(max_operations=10, sync_operations=11) == (
        "Limits(sync_operations=11, max_operations=10):"
        " write a sync_operations of at most max_operations."
    )
    assert the_error(total_concurrency=4, concurrency=5) == (
        "Limits(concurrency=5, total_concurrency=4):"
        " write a concurrency of at most total_concurrency."
    )
    assert Limits(max_operations=10, sync_operations=10).sync_operations == 10
    assert Limits(total_concurrency=5, concurrency=5).concurrency == 5


@pytest.mark.parametrize(
    "name", [name for name in COUNTS if name not in ("max_operations", "total_concurrency")]
)
def test_one_is_enough(name):
    """
    The smallest number of each.
    """
    assert getattr(Limits(**{name: 1}), name) == 1


def test_limits_are_settings_not_state():
    """
    Nobody changes a limit under a running batch, and nobody mistakes one number for another.
    """
    with pytest.raises(FrozenInstanceError):
        Limits().concurrency = 20
    with pytest.raises(TypeError):
        Limits(1000)
    with pytest.raises(TypeError, match="max_operation"):
        Limits(max_operation=1)


class Line:
    """
    Borrowers at a gate, and the order in which they got through.
    """

    def __init__(self, total):
        self.gate = Gate(total)
        self.order = []

    async def enter(self, name):
        await self.gate.door().acquire(name)
        self.order.append(name)


async def test_t33_the_gate_is_first_come_first_served():
    """
    T33: whoever comes later does not overtake those who wait, even if a token is free by then.
    """
    line = Line(1)
    await line.enter("a")
    async with anyio.create_task_group() as tasks:
        for name in "bc":
            tasks.start_soon(line.enter, name)
            await wait_all_tasks_blocked()
        waiting = line.gate.statistics()
        line.gate.door().release("a")
        tasks.start_soon(line.enter, "d")
        for name in "bc":
            await wait_all_tasks_blocked()
            line.gate.door().release(name)
    line.gate.door().release("d")

    assert waiting == GateStatistics(running=1, waiting=2, abandoned=0, held_bytes=0)
    assert line.order == ["a", "b", "c", "d"]
    assert line.gate.statistics() == GateStatistics(running=0, waiting=0, abandoned=0, held_bytes=0)


async def test_a_free_token_is_taken_without_giving_way():
    """
    Nobody waits for a token that is there.
    """
    line = Line(2)
    turns = []

    async def other():
        turns.append(len(line.order))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await line.enter("a")
        await line.enter("b")
        entered = list(line.order), list(turns)
        await checkpoint()

    assert entered == (["a", "b"], [])
    assert line.gate.statistics().running == 2


async def test_f19_a_borrower_that_gives_up_leaves_the_line():
    """
    F19: a cancelled wait leaves neither a token nor a place behind.
    """
    line = Line(1)
    await line.enter("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.enter, "b")
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    line.gate.door().release("a")
    await line.enter("c")

    assert line.order == ["a", "c"]
    assert line.gate.statistics() == GateStatistics(running=1, waiting=0, abandoned=0, held_bytes=0)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_stream_gives_its_place_back(error):
    """
    As many as may be, and one more as soon as one has ended, however it did.
    """
    gate = Gate(1)
    with gate.streaming(2):
        with suppress(ValueError, KeyboardInterrupt), gate.streaming(2):
            with pytest.raises(Overloaded), gate.streaming(2):
                pass
            if error is not None:
                raise error
        with gate.streaming(2), pytest.raises(Overloaded), gate.streaming(2):
            pass
    with gate.streaming(1):
        pass
