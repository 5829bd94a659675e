"""A response that waits for its entries to become durable, while the connection reads on."""

from collections.abc import Callable

from appliance.invariant import invariant
from appliance.wire.requests import Response


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
            self._callback()

    def on_resolved(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when there is a response; at once if there is one already."""
        invariant(self._callback is None, "a response has one reader")
        self._callback = callback
        if self._response is not None:
            callback()
