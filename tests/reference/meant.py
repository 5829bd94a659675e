"""The differences that are meant, each with its reason."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True)
class Meant:
    """A difference: at which APIs, cases and places (patterns of `fnmatch`), and why it is so."""

    why: str
    api: str = "*"
    case: str = "*"
    place: str = "*"
    kafka: str = "*"
    ours: str = "*"
    versions: range = range(-1, 1_000)


MEANT: Final[tuple[Meant, ...]] = ()


def explain(api: str, version: int, case: str, place: str, theirs: str, ours: str) -> int | None:
    """The number of the first reason that fits a difference."""
    for number, each in enumerate(MEANT):
        if (
            version in each.versions
            and fnmatchcase(api, each.api)
            and fnmatchcase(case, each.case)
            and fnmatchcase(place, each.place.replace("[", "[[]"))
            and fnmatchcase(theirs, each.kafka)
            and fnmatchcase(ours, each.ours)
        ):
            return number
    return None
