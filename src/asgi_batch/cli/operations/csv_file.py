"""
Operations in CSV: one for each row, of a template for the path and a mapping for the body.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from asgi_batch.cli.problems import UsageProblem

_COLUMN = re.compile(r"\{([^{}]+)\}")
_FIELD = re.compile(r"([^:=]+)(?::(\w+))?=(.+)")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def _boolean(text: str) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
        text.strip().lower()
    ]


def _number(text: str) -> int | float:
    number: int | float
    try:
        number = int(text)
    except ValueError:
        number = float(text)
    # Python knows more numbers than JSON, such as NaN and 1_000.
    if "_" in text or not math.isfinite(number):
        raise ValueError(text)
    return number


def _json(text: str) -> Any:
    value = json.loads(text)
    json.dumps(value, allow_nan=False)
    return value


_TYPES: Final[dict[str, Callable[[str], Any]]] = {
    "string": str,
    "number": _number,
    "boolean": _boolean,
    "json": _json,
}


@dataclass(frozen=True, slots=True)
class Mapped:
    """
    How a row becomes an operation.

    Args:
        path: The path, with columns in braces: ``/users/{id}``.
        method: The same for all rows.
        fields: What goes into the body: field, type and column. Where there are none, a method with
            a body has all columns that are not in the path, as strings.
        name: The column with the id of the operation; None for the number of the row.
    """

    path: str
    method: str = "POST"
    fields: tuple[tuple[str, str, str], ...] = ()
    name: str | None = None

    def columns(self) -> set[str]:
        """
        The columns that there have to be.
        """
        named = {self.name} if self.name is not None else set()
        return {*_COLUMN.findall(self.path), *(column for _, _, column in self.fields), *named}

    def operation(self, row: Mapping[str, str]) -> dict[str, Any]:
        """
        The operation that *row* is.

        Raises:
            ValueError: A value is not of its type.
        """
        members: dict[str, Any] = {
            "method": self.method,
            "path": _COLUMN.sub(lambda found: quote(row[found[1]], safe=""), self.path),
        }
        if self.name is not None:
            members["id"] = row[self.name]
        if self.fields or self.method in _WITH_BODY:
            members["body"] = self._body(row)
        return members

    def _body(self, row: Mapping[str, str]) -> dict[str, Any]:
        if not self.fields:
            used = {*_COLUMN.findall(self.path), self.name}
            return {column: value for column, value in row.items() if column not in used}
        body = {}
        for field, kind, column in self.fields:
            try:
                body[field] = _TYPES[kind](row[column])
            except (ValueError, KeyError) as error:
                raise ValueError(f"{column} is no {kind}: {row[column]}") from error
        return body


def mapping_of(texts: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """
    What ``FIELD=COLUMN`` and ``FIELD:TYPE=COLUMN`` say.

    Raises:
        UsageProblem: One of *texts* is neither.
    """
    fields = []
    for text in texts:
        found = _FIELD.fullmatch(text)
        kind = (found[2] or "string") if found else ""
        if found is None or kind not in _TYPES:
            kinds = ", ".join(_TYPES)
            raise UsageProblem(
                f"--map {text}: write FIELD=COLUMN, or FIELD:TYPE=COLUMN with one of {kinds}."
            )
        fields.append((found[1], kind, found[3]))
    return tuple(fields)


def read_csv(source: BinaryIO, mapped: Mapped) -> Iterator[dict[str, Any]]:
    """
    The operation of each row of *source*, whose first row names the columns.

    Raises:
        UsageProblem: A row is none, or a column is missing.
    """
    text = TextIOWrapper(source, encoding="utf-8-sig", newline="")
    try:
        rows = csv.DictReader(text, strict=True)
        missing = mapped.columns() - set(rows.fieldnames or ())
        if missing:
            raise UsageProblem(f"There is no column {', '.join(sorted(missing))}.")
        for row in rows:
            # A row that is too long or too short has a None as a name or as a value.
            if None in row or None in row.values():
                raise ValueError("it has not as many values as there are columns")
            yield mapped.operation(row)
    except UnicodeDecodeError as error:
        raise UsageProblem("The file is not in UTF-8.") from error
    except (ValueError, csv.Error) as error:
        raise UsageProblem(f"Line {rows.line_num}: {error}.") from error
    finally:
        text.detach()
