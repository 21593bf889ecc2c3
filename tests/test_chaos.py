"""
Everything at once: several batches, each a random mix of operations that behave, misbehave and
leave things behind, while clients hang up and servers cancel.

The mix is drawn from a seed, so that a failure can be run again. What each kind of operation must
come to does not depend on its neighbours; that is the whole point.
"""

import asyncio
import logging
import random
import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio

from asgi_batch import BatchMiddleware, Limits
from support import Exchange, batch_body, batch_scope, call, respond

TIMEOUT = 0.3


async def fine(send, name):
    await respond(send, name)


async def patient(send, name):
    for _ in range(random.Random(name).randrange(8)):
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(0.001)
    await respond(send, name)


async def in_thread(send, name):
    await anyio.to_thread.run_sync(time.sleep, 0.002)
    await respond(send, name)


async def raises(send, name):
    raise ValueError(name)


async def raises_late(send, name):
    await anyio.lowlevel.checkpoint()
    raise BaseExceptionGroup("several", [SystemExit(1), ValueError(name)])


async def exits(send, name):
    raise SystemExit


async def silent(send, name):
    await anyio.lowlevel.checkpoint()


async def half(send, name):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await anyio.lowlevel.checkpoint()
    await send({"type": "http.response.body", "body": name, "more_body": True})


async def broken(send, name):
    await send({"type": "http.response.body", "body": name})


async def too_large(send, name):
    await respond(send, name * 10_000)


async def never(send, name):
    await anyio.sleep_forever()


async def deaf(send, name):
    for _ in range(3):
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001
            await anyio.lowlevel.cancel_shielded_checkpoint()
    await respond(send, b"too late")


async def goes_on(send, name):
    await respond(send, name)
    await anyio.sleep(0.01)


async def goes_on_and_raises(send, name):
    await respond(send, name)
    await anyio.lowlevel.checkpoint()
    raise KeyError(name)


async def answers_in_a_child(send, name):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(goes_on, send, name)


async def leaks(send, name):
    anyio.CancelScope().__enter__()
    await respond(send, name)


async def leaks_a_deadline(send, name):
    await respond(send, name)
    anyio.move_on_after(0.003).__enter__()


async def leaks_a_cancellation(send, name):
    await respond(send, name)
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()


async def cancels_itself(send, name):
    await respond(send, name)
    if sniffio.current_async_library() == "asyncio":
        asyncio.current_task().cancel()


ANSWERED = {
    fine,
    patient,
    in_thread,
    goes_on,
    goes_on_and_raises,
    answers_in_a_child,
    leaks,
    leaks_a_deadline,
    leaks_a_cancellation,
    cancels_itself,
}
CODES = {
    raises: "app_exception",
    raises_late: "app_exception",
    exits: "app_exception",
    silent: "app_no_response",
    half: "app_incomplete_response",
    broken: "app_protocol_error",
    too_large: "response_too_large",
    never: "operation_timeout",
    deaf: "operation_timeout",
}
FATES = {fate.__name__: fate for fate in (*ANSWERED, *CODES)}


async def app(scope, receive, send):
    """
    Does what the path says.
    """
    _, fate, name = scope["path"].split("/")
    await FATES[fate](send, name.encode())


@pytest.fixture(autouse=True)
def quiet(caplog):
    """
    The log of these tests is long and known.
    """
    caplog.set_level(logging.CRITICAL, "asgi_batch")


@pytest.mark.parametrize("seed", range(20))
async def test_chaos(seed):
    """
    Every operation comes to what it deserves, and at the end there is nothing left.
    """
    chance = random.Random(seed)
    concurrency = chance.choice([1, 2, 5, 10])
    limits = Limits(
        concurrency=concurrency,
        total_concurrency=concurrency + chance.choice([0, 1, 10]),
        operation_timeout=TIMEOUT,
        batch_timeout=60,
        max_result_bytes=1000,
        max_abandoned=1000,
    )
    middleware = BatchMiddleware(app, limits=limits)
    exchanges, watched = [], []
    async with anyio.create_task_group() as tasks:
        for _ in range(chance.randint(1, 4)):
            fates = chance.choices(list(FATES), weights=_weights(chance), k=chance.randint(1, 40))
            paths = [f"GET /{fate}/{number}" for number, fate in enumerate(fates)]
            exchange = Exchange(batch_scope(), batch_body(paths))
            exchanges.append((exchange, fates))
            end = chance.choice(["answer", "answer", "disconnect", "cancel"])
            watched.append(end == "answer")
            tasks.start_soon(run, middleware, exchange, end, chance.random() * 0.05)
    statistics = middleware.statistics()

    for (exchange, fates), is_watched in zip(exchanges, watched, strict=True):
        assert exchange.answered.is_set() or not is_watched
        if exchange.answered.is_set():
            assert exchange.bodies == [expected(fate, n) for n, fate in enumerate(fates)]
    assert (statistics.running, statistics.waiting, statistics.abandoned) == (0, 0, 0)
    assert statistics.held_bytes == 0


def _weights(chance):
    # Operations that are late take their time; a few of them are enough.
    return [
        0.2 if fate in (never, deaf) else chance.choice([0, 1, 1, 3]) or 0.1
        for fate in FATES.values()
    ]


async def run(middleware, exchange, end, delay):
    """
    Send one batch, which comes to its *end* in one way or another.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, middleware, exchange)
        if end != "answer":
            await anyio.sleep(delay)
            if end == "disconnect":
                exchange.disconnect()
            else:
                tasks.cancel_scope.cancel()


def expected(fate, number):
    """
    The result's body or code.
    """
    return CODES.get(FATES[fate], str(number))
