"""Answers in the order of the questions, refused ones among them.

Rules: `Authorized.asked` is read for the names of what was refused, never acted on.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from appliance.errors import ErrorCode


class Named(Protocol):
    """A part of a request, for one topic."""

    @property
    def name(self) -> str:
        """The topic."""
        ...


N = TypeVar("N", bound=Named)
A = TypeVar("A")


def in_order(
    asked: Iterable[N],
    codes: Mapping[str, ErrorCode],
    results: Iterable[A],
    refused: Callable[[N, ErrorCode], A],
) -> tuple[A, ...]:
    """Each asked part's result, or its refusal.

    Args:
        asked: the parts as the client sent them.
        codes: why each refused name was.
        results: what became of the granted parts, in their order.
        refused: makes the result of a refused part.
    """
    if not codes:
        return tuple(results)
    granted = iter(results)
    return tuple(
        refused(part, codes[part.name]) if part.name in codes else next(granted) for part in asked
    )
