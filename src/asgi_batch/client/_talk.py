"""
Flows of single requests to one batch endpoint: its limits, and batches that it has accepted.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from asgi_batch.client._effects import Ask, Flow, Give, Lost, Pause, Reply
from asgi_batch.client._limits import ServerLimits, limits_of
from asgi_batch.client._refusals import (
    delay_before,
    is_worth_repeating,
    refusal_of,
    retry_after_of,
)
from asgi_batch.client._results import Page, WireResult, read
from asgi_batch.errors import BatchFailed, RequestRefused

#: Results on a page, as many as there can be.
_PAGE: Final = 1000
#: Seconds between two looks where the server does not say.
_LOOK: Final = 1.0
# Seconds beyond its own time that the answer of the server may take.
_MARGIN: Final = 10.0

Outcome = Literal["succeeded", "failed", "skipped"]


class Accepted(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """
    A batch that the server carries out in the background.

    Attributes:
        batch_id: Its id.
        total: How many operations it has.
        durability: What it survives: ``"process"`` or ``"store"``.
    """

    batch_id: str
    total: int
    durability: str = ""


class Status(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """
    How far a batch is, with the members that the wire contract lists.
    """

    batch_id: str
    status: str
    total: int
    completed: int
    succeeded: int
    failed: int
    skipped: int
    progress: float
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    parent: str | None = None
    error: dict[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """
        Whether each operation has its result, or none will get one any more.
        """
        return self.finished_at is not None


class Talk:
    """
    One batch endpoint, and what has been learnt of it.

    Args:
        retries: How often a request is repeated that may be repeated.
    """

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self.known: ServerLimits | None = None
        #: Whether it accepts batches for later, as far as is known.
        self.keeps = True

    def ask(self, ask: Ask, *, is_repeatable: bool = True) -> Flow[Reply]:
        """
        Send a request, again where that is safe and may help.

        Raises:
            RequestRefused: The server has refused it.
        """
        attempt = 0
        while True:
            answer: Reply | Lost = yield ask
            if isinstance(answer, Lost):
                if attempt >= self.retries or not (is_repeatable or answer.is_unsent):
                    raise answer.error
                asked = None
            elif answer.status < _REFUSED:
                return answer
            else:
                refusal = refusal_of(answer)
                is_worth_it = is_worth_repeating(refusal, is_repeatable=is_repeatable)
                if attempt >= self.retries or not is_worth_it:
                    raise refusal
                asked = refusal.retry_after
            yield Pause(delay_before(attempt, asked))
            attempt += 1

    def limits(self) -> Flow[ServerLimits]:
        """
        The server's limits, which are asked for once.
        """
        if self.known is None:
            try:
                reply = yield from self.ask(Ask(method="OPTIONS"))
            except RequestRefused:
                self.known = ServerLimits()
            else:
                self.known = limits_of(reply) or ServerLimits()
        return self.known

    def patience(self) -> float:
        """
        Seconds that the answer to a batch may take.
        """
        return (self.known or ServerLimits()).batch_timeout + _MARGIN

    def status(self, batch_id: str) -> Flow[Status]:
        """
        How far a batch is.
        """
        return (yield from self._look(batch_id))[0]

    def _look(self, batch_id: str) -> Flow[tuple[Status, float]]:
        reply = yield from self.ask(Ask(below=f"/{_segment(batch_id)}/status"))
        retry_after = retry_after_of(reply.headers)
        return read(reply.content, Status), _LOOK if retry_after is None else retry_after

    def watch(self, batch_id: str) -> Flow[None]:
        """
        Hand out how far a batch is, each time that it has got further, until its end.
        """
        known = None
        while True:
            status, delay = yield from self._look(batch_id)
            if known is None or status.updated_at != known.updated_at:
                yield Give([status])
            if status.is_finished:
                return
            known = status
            yield Pause(delay)

    def wait(self, batch_id: str) -> Flow[Status]:
        """
        How far a batch is at its end.
        """
        while True:
            status, delay = yield from self._look(batch_id)
            if status.is_finished:
                return status
            yield Pause(delay)

    def page(
        self, batch_id: str, after: int, outcome: Outcome | None
    ) -> Flow[tuple[list[WireResult], int | None]]:
        """
        The results after the operation of that index, and the index from which to go on.
        """
        query = f"after={after}&limit={_PAGE}" + (f"&status={outcome}" if outcome else "")
        # Whatever operations are to accept; a page has another form in other types.
        headers = {"accept": "application/json"}
        ask = Ask(below=f"/{_segment(batch_id)}/results?{query}", headers=headers)
        reply = yield from self.ask(ask)
        page = read(reply.content, Page)
        following = None
        if page.next is not None:
            following = int(parse_qs(urlsplit(page.next).query)["after"][0])
        return page.results, following

    def results(self, batch_id: str, outcome: Outcome | None) -> Flow[None]:
        """
        Hand out the results of a batch as they come, in order, until it has come to its end.
        """
        count = itertools.count()

        def give(results: list[WireResult]) -> Flow[None]:
            yield Give([each.at(next(count)) for each in results])

        yield from self.pages(batch_id, outcome, give, lambda _: None)

    def pages(
        self,
        batch_id: str,
        outcome: Outcome | None,
        take: Callable[[list[WireResult]], Flow[None]],
        note: Callable[[Status], None],
    ) -> Flow[None]:
        """
        Hand each page of results to *take* as it comes, and each status to *note*.

        Raises:
            BatchFailed: The batch has ended without all of its results.
        """
        after: int | None = -1
        while after is not None:
            # Asked before the page, so that a page after the end misses nothing.
            status, delay = yield from self._look(batch_id)
            note(status)
            before = after
            results, after = yield from self.page(batch_id, after, outcome)
            if results:
                yield from take(results)
            if after == before:
                if status.is_finished:
                    raise BatchFailed(batch_id, (status.error or {}).get("code", "unknown"))
                yield Pause(delay)

    def cancel(self, batch_id: str) -> Flow[Status]:
        """
        Let no further operation of a batch start.
        """
        reply = yield from self.ask(Ask(method="DELETE", below=f"/{_segment(batch_id)}"))
        return read(reply.content, Status)

    def retry(self, batch_id: str, key: str | None) -> Flow[Accepted]:
        """
        A new batch of what has not succeeded.
        """
        headers = later(key or new_key())
        ask = Ask(method="POST", below=f"/{_segment(batch_id)}/retry", headers=headers)
        return read((yield from self.ask(ask)).content, Accepted)

    def submit(self, content: bytes, key: str | None) -> Flow[Accepted]:
        """
        Have a batch carried out in the background.
        """
        headers = {**JSON, **later(key or new_key())}
        ask = Ask(method="POST", headers=headers, content=content, patience=self.patience())
        return read((yield from self.ask(ask)).content, Accepted)


_REFUSED: Final = 300

#: Headers of a batch.
JSON: Final = {"content-type": "application/json"}


def later(key: str) -> Mapping[str, str]:
    """
    The headers with which a batch is accepted at once, and once only.
    """
    return {"prefer": "respond-async", "idempotency-key": key}


def new_key() -> str:
    """
    A key that nobody else has.
    """
    return str(uuid.uuid4())


def _segment(batch_id: str) -> str:
    return quote(batch_id, safe="")
