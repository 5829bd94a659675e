"""Checks of what this program itself guarantees.

`assert` vanishes under `python -O`; these checks never do. They are for our own promises only: what
a
peer or a client sends is judged by codecs and raises from `appliance.errors`.
"""


class InvariantViolation(Exception):
    """This program broke one of its own promises; it must not go on with this state."""


def invariant(holds: bool, promise: str) -> None:
    """Raises InvariantViolation, naming the promise, unless it holds."""
    if not holds:
        raise InvariantViolation(promise)
