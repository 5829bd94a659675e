"""Metrics as clients push them: OpenTelemetry's MetricsData in protobuf, read as far as we use it.

Rules: the bytes are a stranger's. Each message is read by a function of its own, so depth is that
of the schema; what is not used is skipped by its length; numbers and names are bounded; a name that
is not of the plain form that KIP-714 prescribes is refused with everything beside it.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_PUSHED_METRICS

_NAME: Final = re.compile(rb"[a-z][a-z0-9._]{0,127}", re.ASCII)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_DOUBLE: Final = struct.Struct("<d")
_INT: Final = struct.Struct("<q")


class ClientMetric(Struct, frozen=True, gc=False):
    """One number that a client tells of itself; the last, where it tells several under a name."""

    name: str
    value: float


def read_client_metrics(data: memoryview) -> tuple[ClientMetric, ...]:
    """The gauges and sums of a push, by name.

    Raises:
        RequestError: INVALID_RECORD, for what is not of this form, or too much.
    """
    found: dict[str, float] = {}
    for resource in _inner(data, 1):
        for scope in _inner(resource, 2):
            for metric in _inner(scope, 2):
                _read_metric(metric, found)
                if len(found) > MAX_PUSHED_METRICS:
                    raise _refused("there are too many metrics")
    return tuple(ClientMetric(name, value) for name, value in found.items())


def _read_metric(metric: memoryview, found: dict[str, float]) -> None:
    """Adds a metric's last number, if it is a gauge (5) or a sum (7)."""
    name = ""
    value: float | None = None
    for number, kind, content in _fields(metric):
        if number == 1 and kind == _BYTES:
            if not _NAME.fullmatch(content):
                raise _refused("a metric's name is not of the prescribed form")
            name = str(content, "ascii")
        elif number in {5, 7} and kind == _BYTES:
            for point in _inner(content, 1):
                value = _number(point, value)
    if name and value is not None:
        found[name] = value


def _number(point: memoryview, before: float | None) -> float | None:
    """A data point's number: a double (4) or an integer (6)."""
    for number, kind, content in _fields(point):
        if kind == _FIXED64 and number == 4:
            before = float(_DOUBLE.unpack(content)[0])
        elif kind == _FIXED64 and number == 6:
            before = float(_INT.unpack(content)[0])
    return before


def _inner(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The embedded messages of one field."""
    for number, kind, content in _fields(message):
        if number == wanted and kind == _BYTES:
            yield content


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(number, wire type, content) of each field; a varint's content is left out."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
            yield number, kind, message[:0]
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _refused("there is no such wire type")
        if size > len(message) - at:
            raise _refused("a field is cut short")
        yield number, kind, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise _refused("a number is cut short")


def _refused(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_RECORD, message)
