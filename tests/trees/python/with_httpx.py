"""
Calls of httpx and aiohttp; those in loops end with a comment that says what is to be found.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Optional

import aiohttp
import anyio
import httpx
from httpx import AsyncClient


async def with_client(ids, stack: AsyncExitStack):
    async with AsyncClient(base_url="https://api.example.com") as client:
        for i in ids:
            await client.get(f"/a/{i}")  # LOOP GET /a/{i}
        async for i in ids:
            await client.post(f"/b/{i}", json={})  # LOOP POST /b/{i}
        await asyncio.gather(*(client.get(f"/c/{i}") for i in ids))  # LOOP GET /c/{i}
        async with asyncio.TaskGroup() as tasks:
            for i in ids:
                tasks.create_task(client.put(f"/d/{i}"))  # LOOP PUT /d/{i}
        async with anyio.create_task_group() as group:
            for i in ids:
                group.start_soon(load, client, i)  # LOOP GET /loaded/{key}
                group.start_soon(client.get, f"/e/{i}")  # LOOP GET /e/{i}
        for i in ids:
            async with client.stream("GET", f"/f/{i}") as response:  # LOOP GET /f/{i}
                await response.aread()
    entered = await stack.enter_async_context(httpx.AsyncClient())
    return [await entered.delete(f"/g/{i}") for i in ids]  # LOOP DELETE /g/{i}


async def load(client: httpx.AsyncClient, key):
    return (await client.get(f"/loaded/{key}")).json()


def annotated(
    one: httpx.Client | None, two: Optional[httpx.Client], three: Annotated[httpx.Client, 1],
    four: "httpx.Client", ids
):
    for i in ids:
        one.get(f"/h/{i}")  # LOOP GET /h/{i}
        two.get(f"/i/{i}")  # LOOP GET /i/{i}
        three.get(f"/j/{i}")  # LOOP GET /j/{i}
        four.get(f"/k/{i}")  # LOOP GET /k/{i}
    if (five := one or httpx.Client()) and (six := one if ids else None):
        for i in ids:
            five.get(f"/l/{i}")  # LOOP GET /l/{i}
            six.get(f"/m/{i}")  # LOOP GET /m/{i}


def with_functions(ids):
    for i in ids:
        httpx.request("DELETE", f"/n/{i}")  # LOOP DELETE /n/{i}
        with httpx.stream(method="GET", url=f"/o/{i}") as response:  # LOOP GET /o/{i}
            response.read()
    for kind in ids:
        httpx.request(kind, "/p")  # LOOP GET /p


async def fetch(session, key):
    async with session.get(f"/users/{key}") as response:
        return await response.json()


async def with_aiohttp(ids):
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*[fetch(session, i) for i in ids])  # LOOP GET /users/{key}
        await asyncio.gather(*map(lambda i: fetch(session, i), ids))  # LOOP GET /users/{key}
        for i in ids:
            async with session.post(f"/q/{i}") as response:  # LOOP POST /q/{i}
                await response.text()
            async with aiohttp.request("GET", f"/r/{i}") as response:  # LOOP GET /r/{i}
                await response.text()


def typed_maker() -> httpx.Client:
    return make()


def uses_makers(ids):
    with typed_maker() as client:
        alias = client
        for i in ids:
            alias.get(f"/t/{i}")  # LOOP GET /t/{i}
