"""
What has been counted for one endpoint; decides nothing.
"""

from __future__ import annotations


class Counts:
    """
    What callers have done with one method of one endpoint.
    """

    __slots__ = ("_merged_into", "bursts", "examples", "longest", "requests", "saved")

    def __init__(self) -> None:
        self.requests = 0
        self.bursts = 0
        self.saved = 0
        self.longest = 0
        #: A few targets of one burst.
        self.examples: tuple[str, ...] = ()
        self._merged_into: Counts | None = None

    def current(self) -> Counts:
        """
        Where to count now: another object, once the endpoint has turned out to be part of another.
        """
        counts = self
        while counts._merged_into is not None:
            counts = counts._merged_into
        return counts

    def add_burst(self, length: int, saved: int, examples: tuple[str, ...]) -> None:
        """
        Count a burst of *length* requests, of which a batch would have *saved* so many.
        """
        self.bursts += 1
        self.saved += saved
        if length > self.longest:
            self.longest = length
            self.examples = examples

    def merge_into(self, other: Counts) -> None:
        """
        Leave everything to *other*.
        """
        other.requests += self.requests
        other.bursts += self.bursts
        other.saved += self.saved
        if self.longest > other.longest:
            other.longest, other.examples = self.longest, self.examples
        self._merged_into = other


class Endpoint:
    """
    A path template, and what has been counted for each method.
    """

    __slots__ = ("methods", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        self.methods: dict[str, Counts] = {}

    def counts(self, method: str) -> Counts:
        """
        What has been counted for *method*.
        """
        found = self.methods.get(method)
        if found is None:
            found = self.methods[method] = Counts()
        return found

    def merge_into(self, other: Endpoint) -> None:
        """
        Leave everything to *other*.
        """
        for method, counts in self.methods.items():
            counts.merge_into(other.counts(method))
