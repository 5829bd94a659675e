"""What a table of settings is made of: names, defaults, what is honoured and what is refused.

Rules: a setting that would be ignored is refused, with the reason, because an operator who sets it
relies on it. The documentation's tables are made from the same values.
"""

import re
from collections.abc import Callable
from enum import StrEnum

import msgspec

from appliance.wire.requests import SettingKind

_LONGEST_NUMBER = 19
_FRACTION = re.compile(r"[01](\.[0-9]{1,15})?", re.ASCII)


class Standing(StrEnum):
    """What is done with a setting."""

    HONOURED = "honoured"
    ONE_VALUE = "one value only"
    REFUSED = "refused"


class Known(msgspec.Struct, frozen=True):
    """One setting under Kafka's name.

    `value` is the default, of one that is refused None. `fault` says what is wrong with a value, or
    None. `why` says what the setting does, or why there is only one value or none.
    """

    name: str
    kind: SettingKind
    value: str | None
    standing: Standing
    fault: Callable[[str], str | None]
    why: str


def honoured(
    name: str, kind: SettingKind, value: str, fault: Callable[[str], str | None], why: str
) -> Known:
    """A setting that does what it says."""
    return Known(name, kind, value, Standing.HONOURED, fault, why)


def only(name: str, kind: SettingKind, value: str, why: str) -> Known:
    """A setting with one value, which it may be given."""
    return Known(name, kind, value, Standing.ONE_VALUE, exactly(value), why)


def refused(name: str, why: str) -> Known:
    """A setting of Kafka's that may not be given."""
    return Known(name, SettingKind.STRING, None, Standing.REFUSED, lambda _: why, why)


def exactly(value: str) -> Callable[[str], str | None]:
    """Only this value will do."""
    return lambda given: None if given == value else f"only '{value}' is served"


def one_of(*values: str) -> Callable[[str], str | None]:
    """One of a few words."""
    return lambda given: None if given in values else f"must be one of {', '.join(values)}"


def words(*known: str) -> Callable[[str], str | None]:
    """Some of a few words, each at most once, with commas between them."""

    def fault(given: str) -> str | None:
        parts = [part.strip() for part in given.split(",")]
        if set(parts) <= set(known) and len(set(parts)) == len(parts):
            return None
        return f"must be a list of {', '.join(known)}"

    return fault


def fraction() -> Callable[[str], str | None]:
    """A decimal number from 0 to 1."""

    def fault(given: str) -> str | None:
        if _FRACTION.fullmatch(given) and float(given) <= 1:
            return None
        return "must be a number from 0 to 1"

    return fault


def between(least: int, most: int) -> Callable[[str], str | None]:
    """A whole number within bounds."""

    def fault(given: str) -> str | None:
        digits = given.removeprefix("-")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_NUMBER
        if is_number and least <= int(given) <= most:
            return None
        return f"must be a number from {least} to {most}"

    return fault
