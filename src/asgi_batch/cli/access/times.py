"""
The times that access logs are written with, as seconds since 1970.

A log has many lines for one second, so what was read last is remembered.
"""

from __future__ import annotations

from datetime import UTC, datetime

# A number of seconds above this is one of milliseconds, and so on: it would be the year 5138.
_LARGEST_SECONDS = 1e11


class Times:
    """
    Reads times; one object for each log.
    """

    def __init__(self) -> None:
        self._text = ""
        self._time: float | None = None
        self._day = ""
        self._midnight = 0.0

    def common(self, text: str) -> float | None:
        """
        The time in ``10/Oct/2000:13:55:36 -0700``, as Apache and nginx write it.
        """
        if text != self._text:
            self._text = text
            self._time = self._read_common(text)
        return self._time

    def iso(self, text: str) -> float | None:
        """
        The time in ``2000-10-10 13:55:36,123``, or in one of the other forms of ISO 8601.
        """
        if text != self._text:
            self._text = text
            self._time = _read_iso(text)
        return self._time

    def any(self, value: object) -> float | None:
        """
        The time in a field of a JSON log: text in one of the two forms, or a number.
        """
        if isinstance(value, str):
            return self.common(value) if "/" in value[:3] else self.iso(value)
        if isinstance(value, int | float):
            seconds = float(value)
            while seconds > _LARGEST_SECONDS:
                seconds /= 1000
            return seconds
        return None

    def _read_common(self, text: str) -> float | None:
        day = text[:11] + text[20:]
        try:
            if day != self._day:
                midnight = datetime.strptime(day, "%d/%b/%Y %z")
                self._midnight = midnight.timestamp()
                self._day = day
            return (
                self._midnight + int(text[12:14]) * 3600 + int(text[15:17]) * 60 + int(text[18:20])
            )
        except ValueError:
            return None


def _read_iso(text: str) -> float | None:
    try:
        time = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
