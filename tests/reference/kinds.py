"""Kinds of differences: those that say the same thing of different rows are one kind."""

import re
from typing import Final

Difference = tuple[str, int, str, str, str, str]
"""(API, version, case, place, Kafka's, ours)."""
Kind = tuple[str, str, str, str]
"""(API, place without the names of rows, Kafka's, ours)."""

_MOST: Final = 60
_MADE: Final = (
    (re.compile(r"#\d+\]"), "]"),
    (re.compile(r"\[-?\d*\]"), "[]"),
    (re.compile(r"(fresh|scoped)-[a-z0-9-]+"), r"\1"),
    (re.compile(r"x{40,}"), "x..."),
    (re.compile(r"/tmp/reference-[^\]]*"), "a folder"),
)


def kind_of(difference: Difference) -> Kind:
    """What a difference has in common with others of its kind."""
    api, _, _, place, theirs, ours = difference
    for pattern, plain in _MADE:
        place = pattern.sub(plain, place)
    return api, place, theirs[:_MOST], ours[:_MOST]


def in_words(cell: str) -> str:
    """A table's cell, of which nothing is taken for markup."""
    if not cell:
        return "(the answer)"
    return cell if cell in {"there", "absent", "answered"} else f"`{cell.replace('|', '¦')}`"
