"""What the catalogue promises of one topic, as a register: it is there, with a mark, or it is not.

Each creation gives its topic a mark of its own, by which a description may tell which one it saw;
another may tell only that there is one.
"""

from enum import Enum
from typing import NamedTuple


class Verb(Enum):
    """What a client asks."""

    CREATE = "create"
    DELETE = "delete"
    DESCRIBE = "describe"


class Answer(Enum):
    """What it was told."""

    DONE = "done"
    EXISTS = "it exists"
    UNKNOWN = "no such topic"


class Asked(NamedTuple):
    """A request; `mark` is of a creation."""

    verb: Verb
    mark: int = 0


class Saw(NamedTuple):
    """A description: the mark of the topic that is there, 0 for none."""

    mark: int


ABSENT = 0
"""The state before the first creation."""


def step(state: object, asked: Asked, answer: Answer | Saw | None) -> object | None:
    """See `linearizability.Step`; the state is the mark of the topic that is there."""
    match asked.verb:
        case Verb.CREATE:
            expected = Answer.DONE if state == ABSENT else Answer.EXISTS
            following = asked.mark if state == ABSENT else state
        case Verb.DELETE:
            expected = Answer.UNKNOWN if state == ABSENT else Answer.DONE
            following = ABSENT
        case Verb.DESCRIBE:
            expected = Answer.UNKNOWN if state == ABSENT else Answer.EXISTS
            following = state
            if isinstance(answer, Saw):
                return state if answer.mark == state else None
    return following if answer in {None, expected} else None
