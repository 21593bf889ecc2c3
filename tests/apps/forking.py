"""
A process that opens a store, forks while it is in use, and goes on with it on both sides.

``REDIS`` names the store, ``LOOP`` the event loop. What each side has seen is written as JSON, one
line a side.
"""

import asyncio
import gc
import json
import os
import sys

import uvloop

from asgi_batch.stores.redis import RedisStore
from store_support import a_batch

_CALLS = 200


async def ask(store, ids):
    """
    Ask for all batches over and over, many at a time; what came back for each.
    """
    answers = await asyncio.gather(*(store.snapshot(ids[n % len(ids)]) for n in range(_CALLS)))
    return all(each.batch_id == ids[n % len(ids)] for n, each in enumerate(answers))


async def clients(store):
    """
    The connections that the server knows of, by their ids.
    """
    (listed,) = await store._link.read(("CLIENT LIST",))
    return {each["id"] for each in listed}


async def before(store):
    """
    Open the store and make use of it; the batches that it has, and its connections.
    """
    await store.open(60.0)
    ids = [(await store.create(a_batch(store), limit=100)).snapshot.batch_id for _ in range(10)]
    await ask(store, ids)
    return ids, await clients(store)


async def of_child(store, ids, inherited):
    """
    Go on with the store that the parent has opened, then close it and open it anew.
    """
    is_right = await ask(store, ids)
    seen = await clients(store)
    await store.open(60.0)
    is_right = await ask(store, ids) and is_right
    await store.aclose()
    # Whatever is left of the parent's connections must not be closed by the way.
    gc.collect()
    await asyncio.sleep(0)
    return {"is_right": is_right, "is_apart": inherited < seen}


async def of_parent(store, inherited):
    """
    See that all connections are still there, then close the store.
    """
    seen = await clients(store)
    await store.aclose()
    return inherited <= seen


def new_loop():
    """
    The event loop that is asked for.
    """
    return uvloop.new_event_loop() if os.environ["LOOP"] == "uvloop" else asyncio.new_event_loop()


def tell(side, seen):
    """
    One line, whole, whoever else writes.
    """
    os.write(sys.stdout.fileno(), (json.dumps({"side": side, **seen}) + "\n").encode())


store = RedisStore(os.environ["REDIS"], allow_clear_text=True)
loop = new_loop()
ids, inherited = loop.run_until_complete(before(store))
child = os.fork()
if child == 0:
    tell("child", new_loop().run_until_complete(of_child(store, ids, inherited)))
    os._exit(0)
is_right = True
while os.waitpid(child, os.WNOHANG) == (0, 0):
    is_right = loop.run_until_complete(ask(store, ids)) and is_right
is_right = loop.run_until_complete(ask(store, ids)) and is_right
is_apart = loop.run_until_complete(of_parent(store, inherited))
tell("parent", {"is_right": is_right, "is_apart": is_apart})
