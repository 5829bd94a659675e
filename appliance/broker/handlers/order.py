"""Answers in the order of the questions, refused ones among them.

Rules: `Authorized.asked` is read for the names of what was refused, never acted on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from appliance.errors import ErrorCode
from appliance.types import TopicId


class Named(Protocol):
    """A part of a request, for one topic."""

    @property
    def name(self) -> str:
        """The topic."""
        ...


class Identified(Named, Protocol):
    """A part of a request, for one topic that is named by its name or by its id."""

    @property
    def topic_id(self) -> TopicId | None:
        """The topic's id, if that is how it was asked for."""
        ...


N = TypeVar("N", bound=Named)
P = TypeVar("P", bound=Identified)
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


def in_order_or_by_id(
    asked: Sequence[P],
    granted: Sequence[P],
    codes: Mapping[str, ErrorCode],
    results: Sequence[A],
    refused: Callable[[P, ErrorCode], A],
) -> tuple[A, ...]:
    """As `in_order`, where parts may name their topic by id.

    An id that is not known and one that is refused get the same answer. `granted` are the parts
    that `results` belong to: those of `asked` that were granted, in their order.
    """
    if len(granted) == len(asked):
        return tuple(results)
    answers: list[A] = []
    place = 0
    for part in asked:
        by_id = part.topic_id is not None
        if place < len(granted) and (
            granted[place].topic_id == part.topic_id
            if by_id
            else granted[place].topic_id is None and granted[place].name == part.name
        ):
            answers.append(results[place])
            place += 1
        else:
            answers.append(refused(part, ErrorCode.UNKNOWN_TOPIC_ID if by_id else codes[part.name]))
    return tuple(answers)
