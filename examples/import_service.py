"""
An import service on FastAPI: contacts and products in SQLite, large batches in the background.

``REDIS_URL`` says where batches are kept, and ``DATABASE`` in which file contacts and products are;
without them both are in memory. Run it with ``uvicorn examples.import_service:app`` or ``python
examples/import_service.py``. ``make demo`` shows what becomes of a batch whose server is killed.
"""

import os
import sqlite3
from typing import Annotated

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel, Field

from asgi_batch import BatchMiddleware, Limits, current_operation

# Each statement is a transaction of its own: what has been executed outlives a kill -9.
database = sqlite3.connect(
    os.environ.get("DATABASE", ":memory:"), isolation_level=None, check_same_thread=False
)
database.executescript(
    """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS contacts (email TEXT PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS products (sku TEXT PRIMARY KEY, name TEXT NOT NULL, cents INTEGER);
    CREATE TABLE IF NOT EXISTS starts (batch TEXT, operation TEXT, method TEXT, attempt INTEGER);
    """
)


class Contact(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    name: Annotated[str, Field(min_length=1)]


class Product(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    cents: Annotated[int, Field(ge=0)]


async def note_start(request: Request) -> None:
    """
    Write down that an operation has started, so that everybody can see what has started twice.
    """
    operation = current_operation()
    if operation is not None:
        database.execute(
            "INSERT INTO starts VALUES (?, ?, ?, ?)",
            (operation.batch_id, operation.operation_id, request.method, operation.attempt),
        )


api = FastAPI(title="Imports", dependencies=[Depends(note_start)])


@api.post("/contacts", status_code=201)
async def create_contact(contact: Contact, response: Response) -> Contact:
    """
    Create a contact and welcome it, which must not happen twice.

    A contact that is there already is answered with 200 and not welcomed, so that a client may send
    again what it does not know the outcome of.
    """
    await anyio.sleep(0.05)  # looks the address up
    created = database.execute(
        "INSERT INTO contacts VALUES (?, ?) ON CONFLICT DO NOTHING", (contact.email, contact.name)
    )
    if created.rowcount:
        await anyio.sleep(0.05)  # sends a mail of welcome
    else:
        response.status_code = 200
    return contact


@api.put("/products/{sku}")
async def put_product(sku: str, product: Product) -> Product:
    """
    Create or replace a product; to do so twice is to do it once.
    """
    await anyio.sleep(0.08)  # updates an index
    database.execute(
        "INSERT OR REPLACE INTO products VALUES (?, ?, ?)", (sku, product.name, product.cents)
    )
    return product


app = BatchMiddleware(
    api,
    store=os.environ.get("REDIS_URL", "memory://"),
    # So that the demo need not wait: a process that is silent for two seconds loses its batches to
    # another that looks every half second. The defaults are 30 and 5 seconds, since in production
    # a busy machine must not pass for a dead one.
    limits=Limits(lease=2, scan_interval=0.5),
    console=True,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
