"""
Lets Python look for garbage less often while many operations wait; it collects nothing itself.

Hundreds of operations that wait in the middle of an app hold a hundred thousand objects, none of
them garbage. Python looks through its youngest objects each time that there are some hundreds more,
and through all objects when these have grown by a quarter, which took 40 % of the time of such a
batch. Memory stays bounded, as what there may be more of is a number of objects and not a time.
"""

from __future__ import annotations

import gc
from threading import Lock
from typing import Final

# Objects between two looks; some 10 MiB of them.
_OBJECTS: Final = 100_000


class Patience:
    """
    A context in which the collector is patient; several may overlap.
    """

    __slots__ = ("_lock", "_thresholds", "_users")

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._thresholds = gc.get_threshold()

    def __enter__(self) -> None:
        """
        Be patient from now on, unless the app has chosen to be so, or not to collect at all.
        """
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._thresholds = gc.get_threshold()
                if 0 < self._thresholds[0] < _OBJECTS:
                    gc.set_threshold(_OBJECTS, *self._thresholds[1:])

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            # Whoever has changed it meanwhile had a reason.
            if not self._users and gc.get_threshold()[0] == _OBJECTS:
                gc.set_threshold(*self._thresholds)


#: The collector is that of the whole process.
patience: Final = Patience()


class SharedPatience:
    """
    The same for many that overlap in one event loop, of which only the first and the last pay.
    """

    __slots__ = ("_users",)

    def __init__(self) -> None:
        self._users = 0

    def __enter__(self) -> None:
        self._users += 1
        if self._users == 1:
            patience.__enter__()

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            patience.__exit__()
