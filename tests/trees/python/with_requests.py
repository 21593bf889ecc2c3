"""
Calls of requests; those in loops end with a comment that says what is to be found.
"""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote, urljoin

import requests
import requests as r
from requests import Session, exceptions, get
from yarl import URL
from requests import post as send

BASE = "https://api.example.com/v1"
USER = BASE + "/users/%s"
session = requests.Session()


def in_for(ids, names):
    for user_id in ids:
        requests.get(f"{BASE}/users/{user_id}", timeout=3)  # LOOP GET /v1/users/{user_id}
        r.delete(USER % user_id)  # LOOP DELETE /v1/users/{user_id}
        get("https://api.example.com/orders/{}".format(user_id))  # LOOP GET /orders/{user_id}
    for name in names:
        url = urljoin(BASE, "/tags/" + quote(name))
        send(url, json={"name": name})  # LOOP POST /tags/{name}
        session.put(BASE + "/tags", params={"name": name})  # LOOP PUT /v1/tags?name={name}
    for user in ids:
        response = session.request("PATCH", f"/users/{user['id']}")  # LOOP PATCH /users/{id}
        response.raise_for_status()
    for _ in range(10):
        requests.post(BASE + "/events", json={"kind": "tick"})  # LOOP POST /v1/events


def in_while(queue, page):
    while queue:
        requests.get("/jobs/" + str(queue.pop()))  # LOOP GET /jobs/{pop}
    while page < 10:
        requests.get(BASE, params={"page": page})  # LOOP GET /v1?page={page}
        page += 1
    while True:
        requests.post("/things", json={"id": str(uuid.uuid4())})  # LOOP POST /things


def in_comprehensions(ids, groups):
    first = [session.get(f"/a/{i}") for i in ids]  # LOOP GET /a/{i}
    second = {i: session.get(f"/b/{i}").json() for i in ids}  # LOOP GET /b/{i}
    third = {session.head(url=f"/c/{i}").status_code for i in ids}  # LOOP HEAD /c/{i}
    fourth = list(session.get(f"/d/{i}") for i in ids)  # LOOP GET /d/{i}
    fifth = [i for g in groups for i in session.get(f"/e/{g}").json()]  # LOOP GET /e/{g}
    sixth = [i for i in ids if session.get(f"/f/{i}").ok]  # LOOP GET /f/{i}
    return first, second, third, fourth, fifth, sixth


def in_pools(ids):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda i: requests.get(f"/p/{i}"), ids))  # LOOP GET /p/{i}
        list(pool.map(fetch, ids))  # LOOP GET /fetched/{user}
        list(map(requests.get, ids))  # LOOP GET /{url}
        [pool.submit(requests.get, f"/s/{i}") for i in ids]  # LOOP GET /s/{i}
        [pool.submit(partial(fetch, i)) for i in ids]  # LOOP GET /fetched/{user}


def nested(users, days):
    for user in users:
        for day in days:
            requests.get(f"/logs/{user}/{day}")  # LOOP GET /logs/{user}/{day}


def through_functions(ids):
    for i in ids:
        fetch(i)  # LOOP GET /fetched/{user}
    for i in ids:
        outer(i)  # LOOP GET /fetched/{user}


def through_more_functions(ids):
    for i in ids:
        walk(i)  # LOOP GET /nodes/{node}
    for i in ids:
        report(i)  # LOOP GET /reports/{name}


def walk(node):
    requests.get(f"/nodes/{node}")
    walk(node + 1)


def report(name):
    requests.get(f"/reports/{name}")
    for user in name:
        fetch(user)  # LOOP GET /fetched/{user}


def fetch(user):
    return requests.get(f"/fetched/{user}").json()


def outer(user):
    return fetch(user)["name"]


class Api:
    http: Session

    def __init__(self, http=None):
        self.session = http or requests.session()

    def one(self, key):
        return self.session.get(f"/one/{key}")

    def all(self, keys):
        for key in keys:
            self.one(key)  # LOOP GET /one/{key}
        for key in keys:
            self.http.get(f"/two/{key}")  # LOOP GET /two/{key}

    def open(self) -> Session:
        return self.session

    def some(self, keys):
        with self.open() as opened:
            for key in keys:
                opened.get(f"/three/{key}")  # LOOP GET /three/{key}
            for key in keys:
                self.unknown(key)

    @classmethod
    def make(cls) -> "Api":
        return cls(Session())


def opened():
    return requests.Session()


def with_opened(ids):
    with opened() as http:
        for i in ids:
            http.get(f"/opened/{i}")  # LOOP GET /opened/{i}


def with_parameter(http, ids):
    for i in ids:
        http.get(f"/given/{i}")  # LOOP GET /given/{i}


def gives_parameter(ids):
    with_parameter(session, ids=ids)


def unpacked(pairs, rest):
    for first, (second, *others) in pairs:
        requests.get(f"/first/{first}")  # LOOP GET /first/{first}
        requests.get(f"/second/{second}")  # LOOP GET /second/{second}
        requests.get("/others", params=others)  # LOOP GET /others
    for item in rest:
        number: int = item.number
        requests.get(BASE + "/%d/%s" % (number, item))  # LOOP GET /v1/{number}/{item}
        requests.get("/%(kind)s/%s" % item[0])  # LOOP GET /{kind}/{item}
        requests.get("/{}/{}/{kind}".format(item))  # LOOP GET /{item}/{value}/{kind}
        requests.get(URL(BASE) / "x" / [item][0])  # LOOP GET /v1/x/{value}
        requests.get("/n/" + str(7) + (yield item))  # LOOP GET /n/7{value}


def changed(rows):
    payload = {}
    for row in rows:
        payload.update(row)
        requests.post("/rows", data=json.dumps(payload))  # LOOP POST /rows


for item in range(3):
    requests.get(f"/module/{item}")  # LOOP GET /module/{item}
