"""
The server that a command talks to: its options, its client, and its errors as sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click
import msgspec

from asgi_batch.cli.problems import Refused, TransportProblem, UsageProblem
from asgi_batch.client import BatchClient, ClientError, RequestRefused
from asgi_batch.client._flavours import installed
from asgi_batch.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_CONNECT: Final = 10.0
_PROBLEMS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Server:
    """
    Where batches go.

    Args:
        url: Of the batch endpoint.
        headers: Sent with each request.
    """

    url: str
    headers: tuple[tuple[str, str], ...]

    @contextmanager
    def client(self) -> Iterator[BatchClient]:
        """
        A client of the server; what goes wrong with it is one sentence.

        Raises:
            TransportProblem: The server cannot be reached, or refuses.
            UsageProblem: The URL cannot be that of a batch endpoint.
        """
        library = installed()[0]
        # How long an answer may take is for the client to say, who knows what it has asked for.
        timeout = library.Timeout(None, connect=_CONNECT)
        try:
            with library.Client(headers=list(self.headers), timeout=timeout) as http:
                yield BatchClient(http, self.url)
        except (library.HTTPError, library.InvalidURL) as error:
            raise TransportProblem(f"{self.url} cannot be reached: {_reason(error)}.") from error
        except ConfigurationError as error:
            raise UsageProblem(f"{error}") from error
        except RequestRefused as refusal:
            raise Refused(_sentence(refusal)) from refusal
        except (ClientError, msgspec.DecodeError) as error:
            raise TransportProblem(f"{self.url} answers nonsense: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _sentence(refusal: RequestRefused) -> str:
    said = [f"The server refuses: {refusal}".rstrip()]
    said += [
        f"  {each.get('pointer', '')}: {each.get('detail', '')}"
        for each in refusal.problems[:_PROBLEMS_SHOWN]
    ]
    return "\n".join(said)


def _headers(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> Any:
    headers = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or not text.isascii():
            raise click.BadParameter(f"{text!r}: write 'Name: value'.")
        headers.append((name.strip(), value.strip()))
    return tuple(headers)


def talks_to_server(command: F) -> F:
    """
    Give *command* the options that say which server it talks to.
    """
    url = click.option(
        "--url",
        envvar="ASGI_BATCH_URL",
        required=True,
        metavar="URL",
        help="The batch endpoint; or set ASGI_BATCH_URL.",
    )
    header = click.option(
        "-H",
        "--header",
        "headers",
        multiple=True,
        callback=_headers,
        metavar="'NAME: VALUE'",
        help="Send this header, such as authorization, with each request.",
    )
    return url(header(command))
