"""
A client that submits, follows and cancels batches, and writes down what it asked and heard.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import httpx

from chaos.history import Document, History, Observation, Planned, Submission
from chaos.history import Final as FinalState

_TIMEOUT: Final = 1.5
_PATIENCE: Final = 30.0
_PAGE: Final = 7

# Seconds that operations take, from and to.
_SPANS: Final = ((0.0, 0.0), (0.0, 0.05), (0.0, 0.05), (0.05, 0.3), (0.05, 0.3), (0.4, 1.0))
_SLOW: Final = ((0.7, 1.4),)
_IN_TRANSACTION: Final = ((0.0, 0.05), (0.05, 0.3), (0.05, 0.3))


def submission_of(rng: Random, tag: str) -> Submission:
    """
    A batch at random.
    """
    if rng.random() < 0.3:
        return _atomic_submission_of(rng, tag)
    # Where all are slow, each fault finds some running and some about to start.
    is_slow = rng.random() < 0.25
    spans = _SLOW if is_slow else _SPANS
    count = rng.randint(5, 8 if is_slow else 16)
    return Submission(
        tag=tag,
        operations=tuple(_planned(rng, index, spans) for index in range(count)),
        stops_on_error=rng.random() < 0.2,
        key=_key_of(rng, tag),
    )


def _atomic_submission_of(rng: Random, tag: str) -> Submission:
    """
    A batch that is committed as a whole; most of them are.
    """
    count = rng.randint(2, 6)
    return Submission(
        tag=tag,
        operations=tuple(_planned(rng, index, _IN_TRANSACTION) for index in range(count)),
        key=_key_of(rng, tag),
        commit=rng.choice((*["done"] * 6, "refused", "lost", "unheard")),
        commit_seconds=round(rng.choice((0.0, rng.uniform(0.3, 1.5))), 3),
    )


def _key_of(rng: Random, tag: str) -> str | None:
    return f"key-{tag}" if rng.random() < 0.4 else None


def _planned(rng: Random, index: int, spans: Sequence[tuple[float, float]]) -> Planned:
    method = rng.choice(("GET", "GET", "GET", "PUT", "DELETE", "POST", "POST", "PATCH", "POST"))
    return Planned(
        index=index,
        method=method,
        seconds=round(rng.uniform(*rng.choice(spans)), 3),
        status=500 if rng.random() < 0.06 else 200,
        has_key=method in ("POST", "PATCH") and rng.random() < 0.2,
    )


def document_of(submission: Submission) -> Document:
    """
    The body of its request.
    """
    operations = []
    for each in submission.operations:
        query = f"s={each.seconds}&status={each.status}&tag={submission.tag}"
        if submission.commit is not None:
            query += f"&commit={submission.commit}&c={submission.commit_seconds}"
        operation: Document = {"method": each.method, "path": f"/work?{query}"}
        if each.has_key:
            operation["headers"] = {"idempotency-key": f"{submission.tag}-{each.index}"}
        operations.append(operation)
    if submission.commit is not None:
        return {"operations": operations, "atomic": True}
    return {
        "operations": operations,
        "onError": "stop" if submission.stops_on_error else "continue",
    }


class Client:
    """
    Asks whichever server it happens on.

    Args:
        http: What it asks with.
        urls: Of the servers.
        rng: Chooses.
        history: Where everything is written down.
    """

    def __init__(
        self, http: httpx.AsyncClient, urls: Sequence[str], rng: Random, history: History
    ) -> None:
        self._http = http
        self._urls = urls
        self._rng = rng
        self._history = history

    async def submit(self, submission: Submission) -> str | None:
        """
        Send a batch; its id, or None where that is not known.

        With a key it is sent until there is an answer. Without one it is sent again only where it
        has certainly not arrived.
        """
        self._history.submissions[submission.tag] = submission
        headers = {"prefer": "respond-async"}
        if submission.key is not None:
            headers["idempotency-key"] = f'"{submission.key}"'
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = await self._http.post(
                    f"{self._rng.choice(self._urls)}/batch",
                    json=document_of(submission),
                    headers=headers,
                    timeout=_TIMEOUT,
                )
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
                continue
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                submission.batch_ids.append(answer.json()["batchId"])
                return submission.batch_ids[-1]
            if answer is not None and answer.status_code != 503:
                raise AssertionError(f"{answer.status_code}: {answer.text}")
            submission.unknown += 1
            if submission.key is None:
                return None
            await asyncio.sleep(0.1)
        raise AssertionError(f"{submission.tag} was not taken in {_PATIENCE} seconds")

    async def observe(self, batch_id: str) -> Observation | None:
        """
        Ask for the status; None where there is no answer.
        """
        seen = await self._ask("GET", f"/batch/{batch_id}/status", batch_id)
        if seen is not None:
            self._history.observations.append(seen)
        return seen

    async def follow(self, batch_id: str, progress: float = math.inf) -> None:
        """
        Ask for the status until its end, or until it is as far as *progress*.
        """
        while True:
            seen = await self.observe(batch_id)
            if seen and (seen.document is None or seen.document["finishedAt"]):
                return
            if seen and seen.document["progress"] >= progress:
                return
            await asyncio.sleep(self._rng.uniform(0.02, 0.1))

    async def cancel(self, batch_id: str) -> None:
        """
        Cancel until there is an answer.
        """
        while True:
            seen = await self._ask("DELETE", f"/batch/{batch_id}", batch_id)
            if seen is not None:
                self._history.cancellations.append(seen)
                return
            await asyncio.sleep(0.05)

    async def final(self, url: str, batch_id: str) -> FinalState:
        """
        A batch after its end, as the server at *url* tells it, its results page by page.
        """
        status = await self._http.get(f"{url}/batch/{batch_id}/status", timeout=_PATIENCE)
        results: list[Any] = []
        following: str | None = f"/batch/{batch_id}/results?limit={_PAGE}"
        while following is not None:
            page = (await self._http.get(url + following, timeout=_PATIENCE)).json()
            results += page["results"]
            following = page["next"]
        return FinalState(batch_id, status.json(), results)

    async def _ask(self, method: str, path: str, batch_id: str) -> Observation | None:
        asked_at = time.monotonic()
        try:
            answer = await self._http.request(
                method, self._rng.choice(self._urls) + path, timeout=_TIMEOUT
            )
        except httpx.TransportError:
            return None
        answered_at = time.monotonic()
        if answer.status_code == 404:
            return Observation(batch_id, asked_at, answered_at, None)
        if answer.status_code != 200:
            return None
        version = int(answer.headers["etag"].strip('"'))
        return Observation(batch_id, asked_at, answered_at, answer.json(), version)
