"""
What tests of bulk calls on real databases share: an app over a table of users.
"""

from contextlib import asynccontextmanager

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, bulk
from sqlalchemy_support import User

LONG = 1000.0


class Shop:
    """
    An app whose users are added by a bulk function, with one INSERT for each call.

    Args:
        database: Where they are.
        before_commit: Called in each call of the function, with the users.
        limits: Of the middleware.
        settings: Of the bulk function; nothing but the number of items decides, unless one says so.
    """

    def __init__(self, database, *, before_commit=None, limits=None, **settings):
        self.database = database
        self.calls = []
        self.insert = bulk(**{"max_delay": LONG, **settings})(self._insert)
        self._before_commit = before_commit
        routes = [
            Route("/users/{number:int}", self._create, methods=["POST"]),
            Route("/looking/{number:int}", self._look, methods=["POST"]),
            Route("/holding/{number:int}", self._hold, methods=["POST"]),
        ]
        limits = Limits(**{"sync_operations": 1000, **(limits or {})})
        self.app = BatchMiddleware(Starlette(routes=routes), transaction=database, limits=limits)

    async def _insert(self, users):
        self.calls.append([user["id"] for user in users])
        async with self.database.session() as session:
            await session.execute(insert(User).values(users))
            if self._before_commit is not None:
                await self._before_commit(users)
            await session.commit()
        return users

    async def _answer(self, ask, request):
        number = request.path_params["number"]
        name = request.query_params.get("name", f"user {number}")
        if name == "invalid":
            return JSONResponse({}, 422)
        try:
            user = await ask({"id": number, "name": name or None})
        except IntegrityError:
            return JSONResponse({}, 409)
        return JSONResponse(user, 201)

    async def _create(self, request):
        return await self._answer(self.insert, request)

    async def _look(self, request):
        """
        Has used its session, and given its connection back by the time of the call.
        """
        async with self.database.session() as session:
            await session.scalar(select(func.count()).select_from(User))
            await session.commit()
            return await self._answer(self.insert, request)

    async def _hold(self, request):
        """
        Goes on to use its session after the call.
        """
        ask = self.insert.at_once if "at_once" in request.query_params else self.insert
        async with self.database.session() as session:
            before = await session.scalar(select(func.count()).select_from(User))
            answer = await self._answer(ask, request)
            assert await session.scalar(select(func.count()).select_from(User)) >= before
            await session.commit()
        return answer


@asynccontextmanager
async def shop_at(place, engine=None, **options):
    """
    A shop over *place*, with two connections unless the options of its *engine* say otherwise.
    """
    async with place.opened(**{"pool_size": 2, "pool_timeout": 20, **(engine or {})}) as database:
        yield Shop(database, **options)


def users(count, path="/users", **names):
    """
    So many operations; *names* are of those that have names of their own, as ``_7="Ada"``.
    """
    special = {int(number[1:]): name for number, name in names.items()}
    return [
        f"POST {path}/{number}" + (f"?name={special[number]}" if number in special else "")
        for number in range(count)
    ]


def assert_answers_are_true(place, exchange, more=()):
    """
    What was created is there, and nothing else.
    """
    created = [result["result"]["name"] for result in exchange.results if result["status"] == 201]
    assert sorted(place.names) == sorted([*created, *more])
