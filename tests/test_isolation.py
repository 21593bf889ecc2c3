"""
What one operation does to the world around it stays its own: context, scope, exceptions,
cancellation, and whatever else it leaves behind.
"""

import asyncio
import gc
import logging
import re
from contextvars import ContextVar
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest
import sniffio

from asgi_batch import BatchMiddleware, Limits, _task_guard
from asgi_batch._gate import Door
from support import batch_scope, respond, settled, submit, submitted

# The operations of a batch run one after the other in the same task.
ONE_BY_ONE = Limits(concurrency=1, batch_timeout=5)

ASYNCIO = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)

colour: ContextVar[str] = ContextVar("colour", default="none")


def with_neighbours(bad, *, pauses=True):
    """
    An app that runs *bad* at ``/bad`` and is well-behaved elsewhere.
    """

    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            await bad(scope, receive, send)
            return
        if pauses:
            await anyio.sleep(0.01)
        await respond(send, b"fine")

    return app


# --- T5, F34: what operations could share


async def test_t5_context_variables_do_not_pass_from_one_to_the_next():
    """
    T5: what an operation sets, before or after a pause, no other sees, nor does the caller.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(colour.get())
        colour.set(scope["path"])
        await anyio.lowlevel.checkpoint()
        seen.append(colour.get())
        colour.set(scope["path"] + "!")
        await respond(send)

    outer = colour.set("outer")
    await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /a", "GET /b", "GET /c")
    seen.append(colour.get())
    colour.reset(outer)

    assert seen == ["outer", "/a", "outer", "/b", "outer", "/c", "outer"]


async def test_t5_context_variables_do_not_pass_between_running_operations():
    """
    T5: operations that take turns each keep their own values from turn to turn.
    """
    seen = []

    async def app(scope, receive, send):
        colour.set(scope["path"])
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
            seen.append(colour.get() == scope["path"])
        await respond(send)

    await submit(BatchMiddleware(app), *[f"GET /{number}" for number in range(20)])

    assert seen == [True] * 200


async def test_t5_an_exception_is_handled_in_the_context_of_its_operation():
    """
    T5: cleaning up after a cancellation, an app still finds its own context.
    """
    seen = []

    async def app(scope, receive, send):
        colour.set(scope["path"])
        try:
            await anyio.sleep_forever()
        finally:
            seen.append(colour.get())

    limits = Limits(operation_timeout=0.05)
    await submit(BatchMiddleware(app, limits=limits), "GET /a", "GET /b")

    assert sorted(seen) == ["/a", "/b"]


async def test_t5_a_failed_operation_leaves_its_context_behind():
    """
    T5: nor does a context pass on through an exception.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(colour.get())
        colour.set("leaked")
        if scope["path"] == "/late":
            await anyio.lowlevel.checkpoint()
        raise ValueError

    await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /a", "GET /late", "GET /b")

    assert seen == ["none"] * 3


async def test_f34_nothing_that_an_operation_changes_reaches_another():
    """
    F34, T5: scope, headers, state and extensions are each operation's own, as deep as ASGI goes.
    """
    seen = []

    def snapshot(scope):
        return {
            "keys": sorted(scope),
            "headers": sorted(map(tuple, scope["headers"])),
            "state": dict(scope["state"]),
            "extensions": {name: dict(value) for name, value in scope["extensions"].items()},
            "client": list(scope["client"]),
            "server": list(scope["server"]),
            "asgi": dict(scope["asgi"]),
        }

    async def app(scope, receive, send):
        seen.append(snapshot(scope))
        scope["user"] = "mallory"
        scope["path"] = "/elsewhere"
        scope["headers"].append((b"x-mallory", b"1"))
        scope["headers"][0] = (b"host", b"evil")
        scope["state"]["user"] = "mallory"
        scope["extensions"]["tls"]["client_cert_name"] = "CN=mallory"
        scope["extensions"]["mallory"] = {}
        scope["asgi"]["spec_version"] = "9"
        for address in ("client", "server"):
            if isinstance(scope[address], list):
                scope[address][0] = "mallory"
        await respond(send)

    outer = batch_scope(
        client=["192.0.2.7", 1],
        server=["testserver", 80],
        state={"pool": 1},
        extensions={"tls": {"client_cert_name": "CN=alice"}},
    )
    before = snapshot(outer)
    await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /", "GET /", "GET /", scope=outer)

    assert seen[1:] == [seen[0]] * 2
    assert snapshot(outer) == before


async def test_f34_operations_share_no_mutable_object():
    """
    F34: whatever hangs on a scope and can be changed hangs on one scope only.
    """
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    outer = batch_scope(
        client=["192.0.2.7", 1],
        server=["testserver", 80],
        extensions={"tls": {"client_cert_chain": ["…"]}},
    )
    await submit(BatchMiddleware(app), "GET /", "GET /", scope=outer)
    mutable = [_mutable_objects(scope) for scope in (*scopes, outer)]

    assert [mutable[0] & mutable[1], mutable[0] & mutable[2], mutable[1] & mutable[2]] == [
        set()
    ] * 3


def _mutable_objects(value):
    found = {id(value)} if isinstance(value, (dict, list, set, bytearray)) else set()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        return found.union(*map(_mutable_objects, value))
    return found


async def test_t49_nothing_of_an_operation_reaches_the_outer_answer():
    """
    T49, T40: neither its status, nor its headers become the batch's, and cookies nobody sees.
    """

    async def app(scope, receive, send):
        headers = [
            (b"set-cookie", b"session=secret"),
            (b"location", b"/elsewhere"),
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"content-encoding", b"gzip"),
            (b"cache-control", b"public"),
            (b"x-outer", b"injected"),
        ]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    answer = await submit(BatchMiddleware(app), "GET /")

    assert answer.status == 200
    assert answer.headers == {
        "batch-operations": "1",
        "content-type": "application/json",
        "content-length": str(len(answer.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    assert set(answer.results[0]["headers"]) == {"location", "content-encoding", "cache-control"}
    assert b"secret" not in answer.body


async def test_t49_header_values_cannot_leave_their_json_string():
    """
    T49: whatever bytes an app puts into a header are text in the result.
    """
    nasty = b'a"},"status":200,"x":"\r\nset-cookie: a=b\x00\xff'

    async def app(scope, receive, send):
        headers = [(b"etag", nasty)]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    answer = await submit(BatchMiddleware(app), "GET /")

    assert answer.results == [
        {"id": "0", "status": 204, "headers": {"etag": nasty.decode("latin-1")}}
    ]


# --- F25: exceptions


class Raised(BaseException):
    """
    Derived from the root of all exceptions, which some ``except`` clauses forget.
    """


def cancelled_by_hand():
    """
    The event loop's own cancellation, although nobody cancelled anything.
    """
    return anyio.get_cancelled_exc_class()() if _is_asyncio() else Raised()


EXCEPTIONS = {
    "ValueError": lambda: ValueError("boom"),
    "OSError": lambda: OSError("boom"),
    "AssertionError": lambda: AssertionError("boom"),
    "RuntimeError": lambda: RuntimeError("boom"),
    "StopIteration": lambda: StopIteration("boom"),
    "StopAsyncIteration": lambda: StopAsyncIteration("boom"),
    "GeneratorExit": lambda: GeneratorExit("boom"),
    "SystemExit": lambda: SystemExit("boom"),
    "BaseException": lambda: Raised("boom"),
    "CancelledError": cancelled_by_hand,
    "TimeoutError": lambda: TimeoutError("boom"),
    "RecursionError": lambda: RecursionError("boom"),
    "MemoryError": lambda: MemoryError("boom"),
    "ExceptionGroup": lambda: ExceptionGroup("boom", [ValueError("boom"), OSError("boom")]),
    "group of SystemExit": lambda: BaseExceptionGroup("boom", [SystemExit("boom")]),
    "group of CancelledError": lambda: BaseExceptionGroup("boom", [cancelled_by_hand()]),
}


@pytest.mark.parametrize("pauses", [False, True], ids=["at once", "after a pause"])
@pytest.mark.parametrize("make", EXCEPTIONS.values(), ids=EXCEPTIONS.keys())
@pytest.mark.parametrize("concurrency", [1, 10])
async def test_f25_an_exception_is_that_operations_500(make, pauses, concurrency, caplog):
    """
    F25: whatever an app raises fails its operation, is logged once, and touches no neighbour.
    """

    async def bad(scope, receive, send):
        if pauses:
            await anyio.lowlevel.checkpoint()
        raise make()

    limits = Limits(concurrency=concurrency)
    middleware = BatchMiddleware(with_neighbours(bad), limits=limits)
    answer = await submit(middleware, "GET /a", "GET /bad", "GET /b", "GET /bad", "GET /c")

    assert answer.status == 200
    assert answer.bodies == ["fine", "app_exception", "fine", "app_exception", "fine"]
    assert b"boom" not in answer.body
    assert _errors(caplog) == 2
    assert middleware.statistics().running == 0


def _errors(caplog):
    return sum(record.levelno >= logging.ERROR for record in caplog.records)


async def test_f28_the_error_id_of_a_broken_protocol(caplog):
    """
    F28, T46: it has an id in the log, too.
    """

    async def bad(scope, receive, send):
        await send({"type": "http.response.nonsense"})

    answer = await submit(BatchMiddleware(with_neighbours(bad)), "GET /bad")
    error_id = answer.results[0]["error"]["errorId"]

    assert re.fullmatch("[0-9a-f]{12}", error_id)
    assert f"error id {error_id}" in caplog.records[0].getMessage()


async def test_f25_the_error_id_is_the_logs(caplog):
    """
    F25, T46: the client gets an id, and the log has the exception under the same id.
    """

    async def bad(scope, receive, send):
        raise ValueError("boom")

    answer = await submit(BatchMiddleware(with_neighbours(bad)), "GET /bad")
    error_id = answer.results[0]["error"]["errorId"]
    (record,) = caplog.records

    assert re.fullmatch("[0-9a-f]{12}", error_id)
    assert f"error id {error_id}" in record.getMessage()
    assert isinstance(record.exc_info[1], ValueError)


@pytest.mark.parametrize("pauses", [False, True], ids=["at once", "after a pause"])
@pytest.mark.parametrize("make", EXCEPTIONS.values(), ids=EXCEPTIONS.keys())
async def test_f32_an_exception_after_the_answer_changes_nothing(make, pauses, caplog):
    """
    F32: the answer stands; the exception is logged.
    """

    async def bad(scope, receive, send):
        await respond(send, b"answered")
        if pauses:
            await anyio.lowlevel.checkpoint()
        raise make()

    middleware = BatchMiddleware(with_neighbours(bad), limits=ONE_BY_ONE)
    answer = await submit(middleware, "GET /a", "GET /bad", "GET /b")

    assert answer.bodies == ["fine", "answered", "fine"]
    assert _errors(caplog) == 1


# --- apps that are no plain coroutine functions


def not_async(scope, receive, send):
    """
    An ``async`` was forgotten.
    """


def raises_when_called(scope, receive, send):
    """
    Raises before there is anything to await.
    """
    raise LookupError("boom")


def stops_when_called(scope, receive, send):
    """
    Raises what a finished coroutine raises.
    """
    raise StopIteration


@pytest.mark.parametrize("bad", [not_async, raises_when_called, stops_when_called])
async def test_f25_an_app_may_fail_before_it_can_be_awaited(bad):
    """
    F25: calling the app is part of the operation.
    """

    def app(scope, receive, send):
        return bad(scope, receive, send) if scope["path"] == "/bad" else respond(send, b"fine")

    answer = await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /a", "GET /bad", "GET /b")

    assert answer.bodies == ["fine", "app_exception", "fine"]


# --- cancellation that is not ours


@ASYNCIO
@pytest.mark.parametrize("moment", ["before the answer", "after the answer"])
@pytest.mark.parametrize("then", ["pauses", "returns"])
@pytest.mark.parametrize("paths", [["/a", "/bad", "/b"], ["/a", "/b", "/bad"], ["/bad"]])
@pytest.mark.parametrize("concurrency", [1, 10])
async def test_an_app_that_cancels_its_own_task_harms_itself_only(moment, then, paths, concurrency):
    """
    The task is shared by several operations; its cancellation must not be (T5).
    """

    async def bad(scope, receive, send):
        if moment == "after the answer":
            await respond(send, b"answered")
        asyncio.current_task().cancel()
        if then == "pauses":
            await asyncio.sleep(0)
        if moment == "before the answer":
            await respond(send, b"answered")

    limits = Limits(concurrency=concurrency, batch_timeout=5)
    middleware = BatchMiddleware(with_neighbours(bad), limits=limits)
    answer = await submit(middleware, *[f"GET {path}" for path in paths])
    is_hit = moment == "before the answer" and then == "pauses"
    expected = {"/bad": "app_exception" if is_hit else "answered"}

    assert answer.bodies == [expected.get(path, "fine") for path in paths]
    assert middleware.statistics().running == 0


@ASYNCIO
async def test_an_app_that_swallows_its_own_cancellation_harms_nobody():
    """
    A task that has been cancelled and went on is not used for other operations' work.
    """

    async def bad(scope, receive, send):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await respond(send, b"answered")

    middleware = BatchMiddleware(with_neighbours(bad), limits=ONE_BY_ONE)
    answer = await submit(middleware, "GET /a", "GET /bad", "GET /b")

    assert answer.bodies == ["fine", "answered", "fine"]


@ASYNCIO
async def test_timeouts_of_asyncio_itself_work_inside_operations():
    """
    asyncio.timeout() cancels the task it runs in, and takes that back.
    """

    async def app(scope, receive, send):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            await respond(send, b"timed out")

    answer = await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /a", "GET /b", "GET /c")

    assert answer.bodies == ["timed out"] * 3


@ASYNCIO
async def test_task_groups_of_asyncio_itself_work_inside_operations():
    """
    asyncio.TaskGroup cancels the task it runs in where a child fails, and takes that back.
    """

    async def fails():
        raise LookupError("of a child")

    async def app(scope, receive, send):
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fails())
                await asyncio.sleep(10)
        except* LookupError:
            await asyncio.wait_for(respond(send, b"child failed"), 1)

    answer = await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /a", "GET /b", "GET /c")

    assert answer.bodies == ["child failed"] * 3


async def test_cancel_scopes_and_task_groups_work_inside_operations():
    """
    An app may cancel what it started itself, as anywhere else.
    """

    async def app(scope, receive, send):
        with anyio.move_on_after(0.01) as late:
            await anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await respond(send, b"%d" % late.cancelled_caught)

    answer = await submit(BatchMiddleware(app, limits=ONE_BY_ONE), "GET /a", "GET /b", "GET /c")

    assert answer.bodies == ["1"] * 3


# --- things left behind


def leaves_scope_open():
    """
    A scope that nobody leaves.
    """
    anyio.CancelScope().__enter__()


def leaves_cancelled_scope_open():
    """
    A scope that is cancelled and that nobody leaves.
    """
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()


def leaves_deadline_open():
    """
    A timeout that nobody takes back, and that strikes while the next operation runs.
    """
    anyio.move_on_after(0.01).__enter__()


def leaves_several_scopes_open():
    """
    As above, in one another.
    """
    leaves_scope_open()
    leaves_deadline_open()
    leaves_cancelled_scope_open()


LEAKS = [
    leaves_scope_open,
    leaves_cancelled_scope_open,
    leaves_deadline_open,
    leaves_several_scopes_open,
]


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("moment", ["before the answer", "after the answer", "with an exception"])
@pytest.mark.parametrize("paths", [["/a", "/bad", "/b"], ["/bad"]])
@pytest.mark.parametrize("concurrency", [1, 10])
async def test_a_leaked_cancel_scope_harms_nobody_else(leak, moment, paths, concurrency):
    """
    An abandoned timeout or task group of one operation neither cuts nor loses another (T5).
    """

    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            if moment == "after the answer":
                await respond(send, b"answered")
            leak()
            if moment == "with an exception":
                raise ValueError
            if moment == "before the answer":
                await respond(send, b"answered")
        else:
            await anyio.sleep(0.03)
            await respond(send, b"fine")

    limits = Limits(concurrency=concurrency, batch_timeout=5)
    middleware = BatchMiddleware(app, limits=limits)
    answer = await submit(middleware, *[f"GET {path}" for path in paths])
    bad = "app_exception" if moment == "with an exception" else "answered"

    assert answer.status == 200
    assert answer.bodies == [bad if path == "/bad" else "fine" for path in paths]
    assert middleware.statistics().running == 0


async def test_an_abandoned_generator_with_a_timeout_harms_nobody_else():
    """
    The usual way to leak a cancel scope: a timeout in a generator that is not run to its end.
    """
    kept = []

    async def numbers():
        with anyio.move_on_after(0.01):
            yield 1
            yield 2

    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            generator = numbers()
            kept.append(generator)
            await anext(generator)
            await respond(send, b"answered")
        else:
            await anyio.sleep(0.03)
            await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=ONE_BY_ONE)
    answer = await submit(middleware, "GET /a", "GET /bad", "GET /b")

    assert answer.bodies == ["fine", "answered", "fine"]


@pytest.mark.parametrize("leak", LEAKS)
async def test_an_operation_may_leak_and_never_return(leak):
    """
    Late is late: the deadline holds inside of scopes that nobody leaves.
    """

    async def bad(scope, receive, send):
        leak()
        await anyio.sleep_forever()

    limits = Limits(concurrency=1, operation_timeout=0.2)
    middleware = BatchMiddleware(with_neighbours(bad), limits=limits)
    answer = await submit(middleware, "GET /a", "GET /bad", "GET /b")
    is_cut = leak != leaves_scope_open

    assert answer.bodies == ["fine", "app_exception" if is_cut else "operation_timeout", "fine"]
    assert middleware.statistics().abandoned == 0


async def test_a_leaked_task_group_harms_nobody_else():
    """
    A task group that is never left, with a task that ends by itself.
    """
    kept = []

    async def bad(scope, receive, send):
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        kept.append(tasks)
        tasks.start_soon(anyio.sleep, 0.005)
        await respond(send, b"answered")

    middleware = BatchMiddleware(with_neighbours(bad), limits=ONE_BY_ONE)
    answer = await submit(middleware, "GET /a", "GET /bad", "GET /b")

    assert answer.bodies == ["fine", "answered", "fine"]


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_leak_ends_with_a_gone_client(leak):
    """
    F19: tasks that were put aside end with their batch, also when nobody waits for it.
    """

    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            await respond(send, b"answered")
            leak()
        else:
            await anyio.sleep_forever()

    middleware = BatchMiddleware(app, limits=ONE_BY_ONE)
    async with submitted(middleware, "GET /bad", "GET /a", "GET /b") as exchange:
        await settled()
        exchange.disconnect()
        await exchange.returned.wait()

    assert exchange.sent == []
    assert middleware.statistics().running == 0


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_leak_ends_with_a_cancelled_request(leak):
    """
    F19: nor does a server that shuts down wait for them.
    """

    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            await respond(send, b"answered")
            leak()
        else:
            await anyio.sleep_forever()

    middleware = BatchMiddleware(app, limits=ONE_BY_ONE)
    with anyio.move_on_after(0.2) as shutdown:
        await submit(middleware, "GET /bad", "GET /a", "GET /b")

    assert shutdown.cancelled_caught
    assert middleware.statistics().running == 0


@ASYNCIO
@pytest.mark.parametrize("leak", LEAKS)
async def test_a_leak_does_not_hide_that_the_request_was_cancelled(leak):
    """
    F19: asyncio's own cancellation, which is said only once, comes out again.
    """

    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            await respond(send, b"answered")
            leak()
        else:
            await anyio.sleep_forever()

    middleware = BatchMiddleware(app, limits=ONE_BY_ONE)
    request = asyncio.create_task(submit(middleware, "GET /bad", "GET /a", "GET /b"))
    await settled()
    request.cancel()
    await asyncio.wait([request])

    assert request.cancelled()
    assert middleware.statistics().running == 0


async def test_an_error_of_the_library_is_not_taken_for_a_leak(monkeypatch, caplog):
    """
    Should the library itself fail, the server hears of it, once, and by its right name.
    """

    async def acquire(gate, borrower):
        raise RuntimeError("of the gate")

    monkeypatch.setattr(Door, "acquire", acquire)
    with pytest.raises(ExceptionGroup) as raised:
        await submit(BatchMiddleware(with_neighbours(None)), "GET /a", "GET /b")

    assert raised.group_contains(RuntimeError, match="of the gate")
    assert caplog.records == []


# --- where a task cannot be looked at


@pytest.fixture
def blind(monkeypatch):
    """
    A later anyio that keeps the state of tasks elsewhere.
    """
    monkeypatch.setattr(_task_guard, "anyio_asyncio", SimpleNamespace())


@ASYNCIO
@pytest.mark.usefixtures("blind")
async def test_without_a_guard_every_operation_has_a_task_of_its_own():
    """
    What cannot be checked is not relied on.
    """
    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.current_task())
        await anyio.lowlevel.checkpoint()
        await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=Limits(concurrency=3))
    answer = await submit(middleware, *["GET /"] * 30)

    assert answer.bodies == ["fine"] * 30
    assert len(set(tasks)) == 30
    assert middleware.statistics().running == 0


@ASYNCIO
@pytest.mark.usefixtures("blind")
async def test_without_a_guard_deadlines_and_cancellation_still_work():
    """
    It costs speed, and nothing else.
    """

    async def never(scope, receive, send):
        await anyio.sleep_forever()

    middleware = BatchMiddleware(never, limits=Limits(operation_timeout=0.1, concurrency=2))
    answer = await submit(middleware, *["GET /"] * 4)
    with anyio.move_on_after(0.05) as shutdown:
        await submit(middleware, *["GET /"] * 4)

    assert answer.bodies == ["operation_timeout"] * 4
    assert shutdown.cancelled_caught
    assert middleware.statistics().running == 0


@ASYNCIO
async def test_a_task_that_anyio_does_not_know_is_never_clean():
    """
    A task without anyio's own record could hide anything.
    """
    guard = await asyncio.create_task(_make_guard())

    assert not guard.is_in_scope()
    assert not guard.is_clean()


async def _make_guard():
    return _task_guard.guard_factory()()


# --- nothing stays


def _is_asyncio():
    return sniffio.current_async_library() == "asyncio"


async def test_a_batch_leaves_no_reference_to_its_operations():
    """
    What an operation held is free once the batch is answered.
    """

    class Big:
        pass

    async def app(scope, receive, send):
        scope["state"]["big"] = Big()
        colour.set(Big())
        if scope["path"] != "/at-once":
            await anyio.lowlevel.checkpoint()
        if scope["path"] != "/silent":
            await respond(send)

    middleware = BatchMiddleware(app)
    await submit(middleware, "GET /a", "GET /at-once", "GET /silent", "GET /b")
    await settled()
    gc.collect()

    assert [each for each in gc.get_objects() if isinstance(each, Big)] == []
    assert middleware.statistics().held_bytes == 0
