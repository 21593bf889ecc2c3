"""
Nothing here is to be found.
"""

import time

import aiohttp
import httpx
import redis
import requests
from aiohttp import web
from mylib import get as lookup
from starlette.testclient import TestClient

URL = "https://api.example.com/status"
cache = redis.Redis()


def outside_of_loops(ids):
    requests.get(URL)
    users = [user["id"] for user in requests.get("/users").json()]
    for user in requests.get("/users").json():
        print(user)
    else:
        requests.get("/none")
    while len(ids) > 3:
        ids.pop()
    else:
        requests.get("/left")
    return users


def other_things(ids, settings, session, client):
    for i in ids:
        settings.get(i)
        {}.get(i)
        cache.get(i)
        lookup(i)
        session.get(i)
        client.get(f"/users/{i}")
        requests.codes.get(i)
        requests.exceptions.get(i)
        (settings or {}).get(i)
    test = TestClient(None)
    return [test.get(f"/{i}") for i in ids]


def defined_in_a_loop(ids):
    later = []
    for i in ids:

        def inner(i=i):
            return requests.get(f"/{i}")

        class Local:
            def method(self):
                return requests.get(f"/{i}")

        later.append(inner)
        later.append(lambda i=i: requests.get(f"/{i}"))
        later.append(Local)
    return later


def retry():
    for _ in range(3):
        try:
            return requests.get(URL)
        except requests.ConnectionError:
            time.sleep(1)
    while True:
        response = requests.get(URL)
        if response.ok:
            break
    return response


def poll():
    while requests.get(URL).json()["status"] == "running":
        time.sleep(1)


def follow(client: httpx.Client):
    url = "/pages/1"
    while url:
        page = client.get(url).json()
        rows = page["rows"]
        url = page["next"]
    return rows


def recursive(node):
    requests.get(f"/{node}")
    recursive(node)


def shadowed(requests, ids):
    for i in ids:
        requests.get(f"/{i}")


class Repository:
    def get(self, key):
        return self.cache.get(key)

    def all(self, keys):
        return [self.get(key) for key in keys]


def kept_elsewhere(things, ids):
    things["http"] = requests.Session()
    things.http = requests.Session()
    for i in ids:
        things["http"].get(f"/{i}")
        things.http.get(f"/{i}")


def annotations(one: "not a type", two: dict[str, httpx.Client], ids: tuple[()]):  # noqa
    for i in ids:
        one.get(i)
        two.get(i)
        aiohttp.get(i)
