"""The settings of a topic: Kafka's names, and only what is honoured.

Rules: a setting that would be ignored is refused, because an operator who sets it relies on it. A
setting given as null, or not given, has its default.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from appliance.errors import ErrorCode, RequestError
from appliance.limits import DEFAULT_BATCH_BYTES, KIB, MAX_BATCH_BYTES
from appliance.wire.kafka.records import TimestampLimits

Given = Iterable[tuple[str, str | None]]
MAX_SETTINGS: Final = 64
_MAX_MS: Final = (1 << 63) - 1


class TopicSettings(msgspec.Struct, frozen=True):
    """What the settings mean."""

    max_batch_bytes: int
    timestamps: TimestampLimits


def _exactly(value: str) -> Callable[[str], str | None]:
    return lambda given: None if given == value else f"only '{value}' is served"


def _between(least: int, most: int) -> Callable[[str], str | None]:
    def fault(given: str) -> str | None:
        digits = given.removeprefix("-")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= 19
        if is_number and least <= int(given) <= most:
            return None
        return f"must be a number from {least} to {most}"

    return fault


_FAULTS: Final[Mapping[str, Callable[[str], str | None]]] = MappingProxyType(
    {
        "max.message.bytes": _between(KIB, MAX_BATCH_BYTES),
        "message.timestamp.type": _exactly("CreateTime"),
        "message.timestamp.before.max.ms": _between(0, _MAX_MS),
        "message.timestamp.after.max.ms": _between(0, _MAX_MS),
        "compression.type": _exactly("producer"),
        "cleanup.policy": _exactly("delete"),
        "retention.ms": _exactly("-1"),
        "retention.bytes": _exactly("-1"),
        "min.insync.replicas": _exactly("1"),
        "unclean.leader.election.enable": _exactly("false"),
        "memorystreamer.key.domain": _exactly("cluster"),
    }
)
"""Per setting, what is wrong with a value, or None."""


def check_settings(given: Given) -> tuple[tuple[str, str], ...]:
    """The settings as the catalogue keeps them, sorted; nulls are left out.

    Raises RequestError(INVALID_CONFIG), naming the setting.
    """
    kept: dict[str, str] = {}
    for name, value in given:
        if len(kept) >= MAX_SETTINGS or name in kept:
            raise _invalid("each setting is given once")
        if value is None:
            continue
        fault_of = _FAULTS.get(name)
        fault = "there is no such setting here" if fault_of is None else fault_of(value)
        if fault is not None:
            raise _invalid(f"{name[:64]}: {fault}")
        kept[name] = value
    return tuple(sorted(kept.items()))


def meaning(kept: tuple[tuple[str, str], ...]) -> TopicSettings:
    """What checked settings amount to, defaults filled in."""
    values = dict(kept)
    defaults = TimestampLimits()
    before = values.get("message.timestamp.before.max.ms")
    after = values.get("message.timestamp.after.max.ms")
    return TopicSettings(
        max_batch_bytes=int(values.get("max.message.bytes", DEFAULT_BATCH_BYTES)),
        timestamps=TimestampLimits(
            defaults.before_ms if before is None else int(before),
            defaults.after_ms if after is None else int(after),
        ),
    )


def _invalid(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_CONFIG, message)
