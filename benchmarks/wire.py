"""
What is sent over the wire: the same operations as single requests and as one batch.
"""

import httpx
import orjson

from benchmarks.apps import Call, batch_of, calls
from benchmarks.calling import send

OPERATIONS = 100
# Connections that stay open, for single requests and for batches alike.
CONNECTIONS = 10

SINGLES = calls(OPERATIONS)
BATCH = Call("POST", "/batch", batch_of(OPERATIONS))


async def check_answers(client: httpx.AsyncClient) -> int:
    """
    Make sure that both ways give the same answers; the size of the batch's.
    """
    expected = [(await send(client, call)).json() for call in SINGLES]
    answer = (await send(client, BATCH)).content
    if [result["result"] for result in orjson.loads(answer)["results"]] != expected:
        raise SystemExit("The batch does not answer what the app answers.")
    return len(answer)
