"""A response that waits for its entries to become durable, while the connection reads on.

Rules: who decides many requests at once does so within `together`, and whoever writes replies is
called once when all are decided: one write for a connection, however many of its requests they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appliance.invariant import invariant
from appliance.wire.requests import Response

_gathered: list[Callable[[], None]] | None = None
"""Whom to call at the end of `together`, while one is under way; nothing in it ever waits."""


@contextmanager
def together() -> Iterator[None]:
    """Puts off what resolving calls to the end, each callback once. Nothing within may wait."""
    global _gathered
    outer, _gathered = _gathered, []
    try:
        yield
    finally:
        gathered, _gathered = _gathered, outer
        for callback in dict.fromkeys(gathered):
            callback()


class Pending:
    """Resolved once, on the event loop; whoever writes replies is called then, or at once."""

    __slots__ = ("_callback", "_response")

    def __init__(self) -> None:
        self._response: Response | None = None
        self._callback: Callable[[], None] | None = None

    @property
    def response(self) -> Response | None:
        """The response, or None while it is on its way."""
        return self._response

    def resolve(self, response: Response) -> None:
        """Sets the response and wakes the one who waits for it."""
        invariant(self._response is None, "a response is given once")
        self._response = response
        if self._callback is not None:
            if _gathered is None:
                self._callback()
            else:
                _gathered.append(self._callback)

    def on_resolved(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when there is a response; at once if there is one already."""
        invariant(self._callback is None, "a response has one reader")
        self._callback = callback
        if self._response is not None:
            callback()
