"""
The flow of operations of any number: cut into batches, sent, waited for, tried again, in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from asgi_batch.client._effects import Ask, Flow, Give, Pause, Pull, Reply
from asgi_batch.client._limits import TOO_LARGE, ServerLimits
from asgi_batch.client._operations import Prepared
from asgi_batch.client._refusals import delay_before, retry_after_of
from asgi_batch.client._results import Page, Result, WireResult, made_here, read
from asgi_batch.client._talk import JSON, Accepted, Talk, later, new_key
from asgi_batch.client._terms import Sent, Terms
from asgi_batch.errors import AnswerUnreadable, RequestRefused

#: Seconds for which a batch is waited for, before it is asked how far it is.
WAIT: Final = 1

# Of a batch, and between its operations.
_FRAME: Final = 256
_COMMA: Final = 1

# Refusals of batches that are to be kept, where smaller ones are answered at once all the same.
_NOT_KEPT: Final = frozenset(("background_unavailable", "credentials_refused"))
# The operation never ran, through no fault of its own.
_SEND_AGAIN: Final = frozenset(("batch_response_too_large", "batch_timeout", "expired"))
_LATER: Final = frozenset((429, 503))


class Run:
    """
    One pass through operations.

    Args:
        talk: The endpoint.
        terms: How they are to be carried out.
    """

    def __init__(self, talk: Talk, terms: Terms) -> None:
        self._talk = talk
        self._terms = terms
        self._key = terms.key or new_key()
        self._next = terms.first
        self._ready: dict[int, Result] = {}
        self._again: list[Prepared] = []
        self._delay = 0.0
        self._attempt = 0
        self._has_failed = False
        self._batch_id: str | None = None
        self._in_flight: Ask | None = None

    def flow(self) -> Flow[None]:
        """
        Hand out all results, in the order of the operations.
        """
        yield from self._talk.limits()
        left: Prepared | None = yield Pull(self._next)
        while left is not None:
            operations, left = yield from self._gather(left)
            if self._terms.atomic and left is not None:
                raise RequestRefused(413, "", "An atomic batch cannot be split.")
            yield from self._carry_out(operations)

    def leave(self) -> Flow[None]:
        """
        Let nothing start any more that has been handed over.
        """
        if self._batch_id is None and self._in_flight is not None:
            # It may have been accepted; the same request again tells its id.
            reply = yield self._in_flight
            if isinstance(reply, Reply) and reply.status == _ACCEPTED:
                self._batch_id = read(reply.content, Accepted).batch_id
        if self._batch_id is not None:
            yield from self._talk.cancel(self._batch_id)

    def _gather(self, first: Prepared) -> Flow[tuple[list[Prepared], Prepared | None]]:
        """
        As many operations as fit into one batch, and the one after them.
        """
        operations, room = [first], self._room() - len(first.wire)
        while (following := (yield Pull(operations[-1].index + 1))) is not None:
            room -= len(following.wire) + _COMMA
            if room < 0 or len(operations) >= self._most():
                return operations, following
            operations.append(following)
        return operations, None

    @property
    def _limits(self) -> ServerLimits:
        return self._talk.known or ServerLimits()

    def _most(self) -> int:
        limits = self._limits
        most = limits.max_operations
        return most if self._talk.keeps else min(most, limits.sync_operations)

    def _room(self) -> int:
        return self._limits.max_body_bytes - _FRAME

    def _carry_out(self, operations: list[Prepared]) -> Flow[None]:
        self._attempt = 0
        while operations:
            self._again, self._delay = [], 0.0
            yield from self._send(operations)
            if operations := self._again:
                yield Pause(self._delay)
                self._attempt += 1

    def _send(self, operations: list[Prepared]) -> Flow[None]:
        for part in self._parts(operations):
            if self._has_failed and self._terms.on_error == "stop":
                yield from self._skip(part)
                continue
            try:
                yield from self._send_batch(part)
            except RequestRefused as refusal:
                rest = yield from self._after(refusal, part)
                yield from self._send(rest)

    def _parts(self, operations: list[Prepared]) -> Iterator[list[Prepared]]:
        """
        *operations*, cut where they are more than fits into one batch.
        """
        if self._terms.atomic:
            yield operations
            return
        part: list[Prepared] = []
        room = self._room()
        for each in operations:
            room -= len(each.wire) + _COMMA
            if part and (room < 0 or len(part) >= self._most()):
                yield part
                part, room = [], self._room() - len(each.wire)
            part.append(each)
        if part:
            yield part

    def _send_batch(self, operations: list[Prepared]) -> Flow[None]:
        content = self._terms.document(operations)
        is_repeatable = all(each.is_repeatable for each in operations)
        is_large = len(operations) > self._limits.sync_operations
        key = self._key_of(operations)
        headers, patience = dict(JSON), self._talk.patience()
        if self._talk.keeps and (is_large or not is_repeatable or self._terms.key):
            headers |= {"idempotency-key": key, "prefer": f"wait={WAIT}"}
            patience, is_repeatable = 0.0, True
            self._in_flight = Ask(method="POST", headers={**JSON, **later(key)}, content=content)
        ask = Ask(method="POST", headers=headers, content=content, patience=patience)
        reply = yield from self._talk.ask(ask, is_repeatable=is_repeatable)
        self._in_flight = None
        if reply.status == _ACCEPTED:
            yield from self._follow(operations, key, reply)
        else:
            yield from self._settle(operations, read(reply.content, Page).results)

    def _key_of(self, operations: list[Prepared]) -> str:
        """
        The same for the same operations of the same pass, each time that they are sent.
        """
        attempt = f".{self._attempt}" if self._attempt else ""
        return f"{self._key}.{operations[0].index}{attempt}"

    def _follow(self, operations: list[Prepared], key: str, reply: Reply) -> Flow[None]:
        accepted = read(reply.content, Accepted)
        self._batch_id = accepted.batch_id
        sent = Sent(accepted.batch_id, key, operations[0].index, len(operations))
        if self._terms.on_batch is not None:
            self._terms.on_batch(sent)
        remaining = iter(operations)

        def take(results: list[WireResult]) -> Flow[None]:
            yield from self._settle(list(itertools.islice(remaining, len(results))), results)

        note = self._terms.on_status or (lambda _: None)
        yield from self._talk.pages(accepted.batch_id, None, take, note)
        self._batch_id = None

    def _settle(self, operations: list[Prepared], results: list[WireResult]) -> Flow[None]:
        """
        Keep what is to be tried again, and hand out what comes next.
        """
        if len(results) != len(operations):
            told = f"{len(results)} results for {len(operations)} operations"
            raise AnswerUnreadable(f"This is no answer of a batch endpoint: {told}.")
        for operation, wire in zip(operations, results, strict=True):
            result = wire.at(operation.index, operation.id)
            if self._is_to_be_repeated(operation, result):
                self._again.append(operation)
                asked = retry_after_of(result.headers)
                self._delay = max(self._delay, delay_before(self._attempt, asked))
            else:
                self._has_failed = self._has_failed or not result.is_success
                self._ready[operation.index] = result
        yield from self._give()

    def _is_to_be_repeated(self, operation: Prepared, result: Result) -> bool:
        if result.is_success or not self._terms.is_free or self._attempt >= self._talk.retries:
            return False
        if result.source == "app":
            return result.status in _LATER and "retry-after" in result.headers
        return result.code in _SEND_AGAIN and (result.is_skipped or operation.is_repeatable)

    def _give(self) -> Flow[None]:
        ready = []
        while (result := self._ready.pop(self._next, None)) is not None:
            ready.append(result)
            self._next += 1
        if ready:
            yield Give(ready)

    def _skip(self, operations: list[Prepared]) -> Flow[None]:
        detail = "Not sent: an operation before it has failed."
        for each in operations:
            self._ready[each.index] = made_here(
                name=each.id, index=each.index, status=424, code="skipped", detail=detail
            )
        yield from self._give()

    def _after(self, refusal: RequestRefused, operations: list[Prepared]) -> Flow[list[Prepared]]:
        """
        What is to be sent after a refusal, once something has been learnt from it.

        Raises:
            RequestRefused: There is nothing to be learnt.
        """
        self._in_flight = None
        if self._has_learnt(refusal, operations):
            return operations
        refusal.problems = [_moved(each, operations) for each in refusal.problems]
        invalid = {each["index"]: each for each in refusal.problems if "index" in each}
        if refusal.status == TOO_LARGE:
            # It cannot be cut any further, so that it is one operation that is too large.
            invalid[operations[0].index] = {"code": refusal.code, "detail": refusal.detail}
        if not (invalid and self._terms.is_free and self._terms.invalid == "result"):
            raise refusal
        self._fail(operations, invalid, refusal.status)
        yield from self._give()
        return [each for each in operations if each.index not in invalid]

    def _has_learnt(self, refusal: RequestRefused, operations: list[Prepared]) -> bool:
        count = len(operations)
        size = sum(len(each.wire) + _COMMA for each in operations)
        if refusal.code in _NOT_KEPT and self._talk.keeps:
            self._talk.keeps = False
            return not self._terms.atomic or count <= self._limits.sync_operations
        if self._terms.atomic:
            return False
        if refusal.code == "rate_limited" and refusal.retry_after is None and count > 1:
            # So many operations would never pass together.
            self._talk.known = msgspec.structs.replace(self._limits, max_operations=count // 2)
            return True
        after = self._limits.after(refusal, operations=count, size=size)
        self._talk.known = after or self._talk.known
        return after is not None

    def _fail(self, operations: list[Prepared], invalid: dict[int, Any], status: int) -> None:
        for each in operations:
            if (problem := invalid.get(each.index)) is not None:
                self._ready[each.index] = made_here(
                    name=each.id,
                    index=each.index,
                    status=status,
                    code=str(problem.get("code", "")),
                    detail=str(problem.get("detail", "")),
                )


_ACCEPTED: Final = 202


def _moved(problem: Any, operations: list[Prepared]) -> Any:
    """
    *problem* with the index that its operation has among all that were handed over.
    """
    index = problem.get("index")
    return problem if index is None else {**problem, "index": operations[index].index}
