"""
Clients for tests that need to see, or to do, what an HTTP library hides.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, Request, TextMessage

from servers import HOST, Server

# Seconds for anything that a test waits for, on a machine that is busy.
PATIENCE = 20.0


@contextmanager
def connected(server: Server) -> Iterator[http.client.HTTPConnection]:
    """
    One connection that is never opened a second time.
    """
    connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)
    connection.connect()
    connection.auto_open = 0
    try:
        yield connection
    finally:
        connection.close()


def post_batch(
    connection: http.client.HTTPConnection, operations: list[Any]
) -> tuple[int, dict[str, Any]]:
    """
    Send a batch; the status and the document that answer it.
    """
    body = json.dumps({"operations": operations})
    connection.request("POST", "/batch", body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def send_batch(client: socket.socket, operations: list[Any]) -> None:
    """
    Send a batch and leave it at that.
    """
    body = json.dumps({"operations": operations}).encode()
    client.sendall(post_head(f"Content-Length: {len(body)}") + body)


def post_head(*headers: str, path: str = "/batch") -> bytes:
    """
    The head of a batch request, down to its empty line.
    """
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def read_response(client: socket.socket) -> http.client.HTTPResponse:
    """
    Read the head of the response that *client* gets.
    """
    client.settimeout(PATIENCE)
    response = http.client.HTTPResponse(client)
    response.begin()
    return response


def talk_websocket(server: Server, path: str, text: str) -> str:
    """
    Open a websocket, say *text* and return what is said in reply.
    """
    connection = WSConnection(ConnectionType.CLIENT)
    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as client:
        client.sendall(connection.send(Request(host="localhost", target=path)))
        _next_event(client, connection, AcceptConnection)
        client.sendall(connection.send(TextMessage(data=text)))
        return _next_event(client, connection, TextMessage).data


def _next_event(client: socket.socket, connection: WSConnection, kind: type[Event]) -> Any:
    while True:
        for event in connection.events():
            assert isinstance(event, kind), event
            return event
        connection.receive_data(client.recv(4096) or None)


def wait_until(is_so: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """
    Wait until *is_so*; fail when that takes too long.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"still not so after {seconds:g} seconds"
        time.sleep(0.02)
