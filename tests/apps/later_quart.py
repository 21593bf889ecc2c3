"""
A Quart app whose batches are carried out later, wrapped from inside and from outside.
"""

from typing import Any

from quart import Quart, ResponseReturnValue, current_app, request

from apps.later import GREETING, SETTINGS, is_met, note, shown, take_a_moment
from asgi_batch import BatchMiddleware


async def start_up() -> None:
    note("startup")
    current_app.config["GREETING"] = GREETING


async def shut_down() -> None:
    note("shutdown")


def greeting() -> ResponseReturnValue:
    return {"app": current_app.name, "greeting": current_app.config["GREETING"]}


async def echo() -> ResponseReturnValue:
    return shown(request.scope, await request.get_data())


async def moment() -> ResponseReturnValue:
    return await take_a_moment()


async def flaky(name: str) -> ResponseReturnValue:
    return {"name": name}, 200 if is_met(name) else 503


async def crash() -> ResponseReturnValue:
    raise RuntimeError("This endpoint always crashes.")


def make() -> Any:
    quart = Quart("quart")
    quart.before_serving(start_up)
    quart.after_serving(shut_down)
    quart.add_url_rule("/greeting", view_func=greeting)
    quart.add_url_rule("/echo", view_func=echo, methods=["GET", "PUT", "POST"])
    quart.add_url_rule("/moment", view_func=moment, methods=["GET", "POST"])
    quart.add_url_rule("/flaky/<name>", view_func=flaky)
    quart.add_url_rule("/crash", view_func=crash)
    return quart


app = make()
app.asgi_app = BatchMiddleware(app.asgi_app, **SETTINGS)

outside = BatchMiddleware(make(), **SETTINGS)
