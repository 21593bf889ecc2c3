"""
Clients that send batches of all kinds, follow each to its end, and note every one that gets lost.
"""

import random
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import httpx

# Seconds in which a batch must come to its end, whatever is done to the servers meanwhile.
PATIENCE = 60.0

_PATHS = ("/quick", "/quick", "/quick", "/work?seconds=0.02", "/block", "/fail", "/crash")
_METHODS = ("GET", "GET", "PUT", "POST")


class Lost(Exception):
    """
    Raised when a batch does not become what it must.
    """


def operations(number: int) -> list[dict[str, str]]:
    """
    So many operations, each of some kind.
    """
    return [
        {"method": random.choice(_METHODS), "path": random.choice(_PATHS), "id": f"op{index}"}
        for index in range(number)
    ]


class Load:
    """
    All clients.

    Args:
        urls: Of the servers, any of which will do for any request.
        end: When nothing new is sent, by the clock of the event loop.

    Attributes:
        sent: How many batches, operations and requests of each kind there were.
        lost: What has become of batches that got lost.
    """

    def __init__(self, urls: Sequence[str], end: float) -> None:
        self._urls = urls
        self._end = end
        self.sent: Counter[str] = Counter()
        self.lost: list[str] = []

    async def run(self) -> None:
        """
        Send and follow until the end, and until the last batch has come to its own.
        """
        limits = httpx.Limits(max_keepalive_connections=8)
        async with httpx.AsyncClient(limits=limits, timeout=10, trust_env=False) as client:
            self._client = client
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(self._repeat, self._later)
                for _ in range(2):
                    tasks.start_soon(self._repeat, self._now)

    async def _repeat(self, send: Any) -> None:
        while anyio.current_time() < self._end:
            try:
                await send()
            except Lost as reason:
                self.lost.append(str(reason))
            await anyio.sleep(random.uniform(0, 0.2))

    async def _now(self) -> None:
        number = random.randint(1, 100)
        body = {"operations": operations(number)}
        try:
            answer = await self._client.post(f"{random.choice(self._urls)}/batch", json=body)
        except httpx.TransportError:
            # Its server was being restarted: nobody has promised anything.
            self.sent["cut off"] += 1
            return
        self.sent["at once"] += 1
        self.sent["operations"] += number
        if answer.status_code != 200 or len(answer.json()["results"]) != number:
            raise Lost(f"a batch that was answered at once: {answer.text:.200}")

    async def _later(self) -> None:
        sent = operations(random.randint(1, 400))
        ids = [each["id"] for each in sent]
        accepted = await self._ask("POST", "/batch", json={"operations": sent})
        status = await self._follow(accepted, ids)
        if status["failed"] and random.random() < 0.3:
            bad = [
                result["id"] for result in await self._results(accepted) if result["status"] >= 400
            ]
            url = f"/batch/{accepted['batchId']}/retry"
            self.sent["retries"] += 1
            await self._follow(await self._ask("POST", url), bad)

    async def _follow(self, batch: dict[str, Any], ids: list[str]) -> dict[str, Any]:
        """
        The last status of *batch*, which may be cancelled on the way.
        """
        self.sent["later"] += 1
        self.sent["operations"] += len(ids)
        chance = random.random()
        if chance < 0.15:
            await anyio.sleep(random.uniform(0, 0.5))
            await self._ask("DELETE", f"/batch/{batch['batchId']}")
            self.sent["cancellations"] += 1
        elif chance < 0.4:
            await self._listen(batch)
        with anyio.move_on_after(PATIENCE):
            while True:
                status = await self._ask("GET", batch["statusUrl"])
                if status["finishedAt"]:
                    await self._check(batch, status, ids)
                    return status
                await anyio.sleep(0.05)
        raise Lost(f"not finished: {status}")

    async def _listen(self, batch: dict[str, Any]) -> None:
        url = random.choice(self._urls) + batch["eventsUrl"]
        self.sent["event streams"] += 1
        try:
            async with self._client.stream("GET", url) as answer:
                async for _ in answer.aiter_lines():
                    if random.random() < 0.02:
                        return
        except httpx.TransportError:
            self.sent["cut off"] += 1

    async def _check(self, batch: dict[str, Any], status: dict[str, Any], ids: list[str]) -> None:
        found = await self._results(batch)
        if [result["id"] for result in found] != ids or status["completed"] != len(ids):
            raise Lost(f"{len(found)} results of {len(ids)}: {status}")
        kinds = Counter(_kind(result) for result in found)
        if any(status[kind] != kinds[kind] for kind in ("succeeded", "failed", "skipped")):
            raise Lost(f"{dict(kinds)}: {status}")
        self.sent.update(
            result["error"]["code"] for result in found if result.get("source") == "batch"
        )

    async def _results(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        found, url = [], batch["resultsUrl"]
        while url:
            page = await self._ask("GET", url)
            found += page["results"]
            url = page["next"]
        return found

    async def _ask(self, method: str, path: str, **members: Any) -> dict[str, Any]:
        """
        What any server answers, asking on where one is away or its store is.
        """
        headers = {"prefer": "respond-async", "idempotency-key": f'"{secrets.token_hex(12)}"'}
        said = "nothing"
        with anyio.move_on_after(PATIENCE):
            while True:
                self.sent["requests"] += 1
                url = random.choice(self._urls) + path
                try:
                    answer = await self._client.request(method, url, headers=headers, **members)
                except httpx.TransportError as error:
                    said = repr(error)
                else:
                    if answer.status_code in (200, 202):
                        document: dict[str, Any] = answer.json()
                        return document
                    said = answer.text
                    if answer.status_code != 503:
                        break
                    self.sent["503"] += 1
                await anyio.sleep(0.1)
        raise Lost(f"{method} {path}: {said:.200}")


def _kind(result: dict[str, Any]) -> str:
    if result["status"] < 400:
        return "succeeded"
    is_skipped = result["status"] == 424 and result.get("source") == "batch"
    return "skipped" if is_skipped else "failed"
