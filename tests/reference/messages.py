"""Messages as nested dictionaries of the declarations' names, and back to bytes.

A request is written from what a case gives and sensible values for the rest, so that one case fits
every version. A value may be a function of the side that it is sent to (its topic ids, its member
ids), and may be wrong on purpose: null where none is allowed is written as it would be.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from kafka_declared import read, usual, whole
from msgspec.structs import replace

from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.compiler import Encode, compile_encoder
from appliance.wire.kafka.primitives import Output
from appliance.wire.kafka.records import Codec, Record, encode_batch
from appliance.wire.kafka.schema import Api, Array, Field, Fields, Scalar

if TYPE_CHECKING:
    from sides import Side

Row = dict[str, object]
Value = object
Given = Callable[["Side"], object]
"""A value that each side has its own of."""

BY_NAME: Final = {api.name: api for api in APIS}
PLAIN_BATCH: Final = bytes(
    encode_batch([Record(b"k", b"v", timestamp_ms=1_700_000_000_000)], codec=Codec.NONE)
)

_USUAL: Final[dict[Scalar, object]] = {
    Scalar.BOOL: False,
    Scalar.STRING: "x",
    Scalar.BYTES: b"x",
    Scalar.RECORDS: PLAIN_BATCH,
    Scalar.UUID: None,
    Scalar.FLOAT64: 1.0,
}


def filled(api: Api, version: int, given: Row) -> Row:
    """What a request of this version holds: what is given of it, and the usual for the rest."""
    return _row(whole(api, version, "request"), given)


def _row(fields: Fields, given: Row) -> Row:
    return {field.name: _value(field, given) for field in fields.fields}


def _value(field: Field, given: Row) -> object:
    if field.name not in given:
        return usual(field) if field.tag is not None else _made_up(field.kind)
    value = given[field.name]
    if isinstance(field.kind, Fields) and isinstance(value, dict):
        return _row(field.kind, value)
    if isinstance(field.kind, Array) and isinstance(field.kind.of, Fields):
        row = field.kind.of
        if isinstance(value, list):
            return [_row(row, each) if isinstance(each, dict) else each for each in value]
    return value


def _made_up(kind: Scalar | Array | Fields) -> object:
    if isinstance(kind, Array):
        return [_made_up(kind.of)]
    if isinstance(kind, Fields):
        return _row(kind, {})
    return _USUAL.get(kind, 0)


def body(api: Api, version: int, values: Row, side: "Side") -> bytes:
    """The bytes of a request's message, as `side` is to get it."""
    output = Output()
    bold(api, version)(output, _tuple(whole(api, version, "request"), values, side))
    return b"".join(output.buffers())


@cache
def bold(api: Api, version: int) -> Encode:
    """A writer that writes null wherever it is given, allowed or not."""
    fields = _nullable(whole(api, version, "request"))
    return compile_encoder(fields, version, flexible=api.is_flexible(version))


def _nullable(fields: Fields) -> Fields:
    changed = []
    for field in fields.fields:
        kind = field.kind
        if isinstance(kind, Array) and isinstance(kind.of, Fields):
            kind = Array(_nullable(kind.of))
        elif isinstance(kind, Fields):
            kind = _nullable(kind)
        never = isinstance(kind, Fields) or field.kind is Scalar.UUID
        changed.append(replace(field, kind=kind, nullable_from=field.nullable_from if never else 0))
    return Fields(tuple(changed))


def _tuple(fields: Fields, values: Row, side: "Side") -> tuple[object, ...]:
    return tuple(_plain(field, values[field.name], side) for field in fields.fields)


def _plain(field: Field, value: object, side: "Side") -> object:
    if callable(value):
        value = value(side)
    if value is None:
        return None
    if isinstance(field.kind, Array) and isinstance(value, list):
        of = field.kind.of
        inner = Field("", of)
        return tuple(_plain(inner, each, side) for each in value)
    if isinstance(field.kind, Fields) and isinstance(value, dict):
        return _tuple(field.kind, value, side)
    if field.kind is Scalar.RECORDS and isinstance(value, bytes):
        return memoryview(value)
    return value


def answer(api: Api, version: int, data: bytes) -> Row:
    """A response as dictionaries; raises ProtocolViolation if it is not one."""
    fields = whole(api, version, "response")
    values = read(api, version, "response", data)
    named = _named(fields, values)
    if not isinstance(named, dict):
        raise TypeError(named)
    return named


def _named(kind: Scalar | Array | Fields, value: object) -> object:
    if value is None or isinstance(kind, Scalar):
        return bytes(value) if isinstance(value, memoryview) else value
    if not isinstance(value, tuple):
        return value  # a row's default, where a tagged one was not sent
    if isinstance(kind, Array):
        return [_named(kind.of, each) for each in value]
    return {f.name: _named(f.kind, v) for f, v in zip(kind.fields, value, strict=True)}


def places(fields: Fields, values: Row, before: tuple[str | int, ...] = ()) -> Iterator[
    tuple[tuple[str | int, ...], Field, object]
]:  # fmt: skip
    """Every field of a request with where it stands; of each array its first element."""
    for field in fields.fields:
        if field.tag is not None:
            continue
        value = values[field.name]
        place = (*before, field.name)
        yield place, field, value
        if isinstance(field.kind, Array) and isinstance(value, list) and value:
            of = field.kind.of
            if isinstance(of, Fields) and isinstance(value[0], dict):
                yield from places(of, value[0], (*place, 0))
            elif isinstance(of, Scalar):
                yield (*place, 0), Field(field.name, of), value[0]
        if isinstance(field.kind, Fields) and isinstance(value, dict):
            yield from places(field.kind, value, place)


def changed(values: object, place: tuple[str | int, ...], value: object) -> object:
    """A copy with another value at one place."""
    if not place:
        return value
    first, *rest = place
    if isinstance(values, dict):
        return {**values, first: changed(values[first], tuple(rest), value)}
    if isinstance(values, list) and isinstance(first, int):
        return [*values[:first], changed(values[first], tuple(rest), value), *values[first + 1 :]]
    raise TypeError(place)
