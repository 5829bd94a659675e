"""Cases: requests that both sides get, in the same order, valid ones and ones with one thing wrong.

Most are made from the declarations: a valid request of each API and version, and for each of its
fields the values that a broker must be ready for. They are the same in every run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from bases import BASES, LEFT_OUT, Base
from messages import BY_NAME, Row, changed, filled, places

from appliance.wire.kafka.schema import Api, Array, Fields, Scalar

NOBODY_S_ID: Final = UUID(int=0xDEAD_BEEF)
_LONG: Final = "x" * 300

_INTS: Final = {
    Scalar.INT8: 7, Scalar.INT16: 15, Scalar.INT32: 31, Scalar.INT64: 63, Scalar.UINT16: 16,
}  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """One request: what is sent, and what is done to its frame before."""

    api: str
    version: int
    values: Row
    change: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Case:
    """Requests in a row; `scope` says what they share with other cases."""

    name: str
    asks: tuple[Ask, ...]
    scope: str = ""


def wrong_values(kind: Scalar | Array | Fields, value: object) -> Iterator[tuple[str, object]]:
    """What else could stand in a field, with a name for each."""
    if isinstance(kind, Array):
        yield "null", None
        if isinstance(value, list) and value:
            yield "empty", []
            yield "twice", [*value, *value]
    elif isinstance(kind, Fields):
        yield "null", None
    elif kind in _INTS:
        bits = _INTS[kind]
        least = 0 if kind is Scalar.UINT16 else -(1 << bits)
        for number in (0, 1, -1, -2, 99, (1 << bits) - 1):
            if number != value and number >= least:
                yield str(number), number
    elif kind is Scalar.BOOL:
        yield "flipped", not value
    elif kind is Scalar.UUID:
        yield "none", None
        yield "of nobody", NOBODY_S_ID
    elif kind is Scalar.FLOAT64:
        yield from (("nan", float("nan")), ("negative", -1.0))
    else:
        yield from _wrong_texts(kind)


def _wrong_texts(kind: Scalar) -> Iterator[tuple[str, object]]:
    yield "null", None
    if kind is Scalar.STRING:
        yield from (("empty", ""), ("unknown", "no-such-thing"), ("ill-formed", "bad name!"))
        yield "long", _LONG
    else:
        yield from (("empty", b""), ("short", b"\x00\x01"))


def made(api: Api, version: int) -> Iterator[Case]:
    """The valid request of a version, and one case for each value that could be wrong in it."""
    base = BASES.get(api.name, Base())
    where = f"{api.name} v{version}"

    def case(name: str, values: Row, change: Callable[[bytes], bytes] | None = None) -> Case:
        before = tuple(Ask(each.api, each.version, each.values) for each in base.before)
        return Case(name, (*before, Ask(api.name, version, values, change)), where)

    valid = filled(api, version, base.values)
    yield case("as it should be", valid)
    for place, field, value in places(_request(api, version), valid):
        told = ".".join(str(part) for part in place)
        given = value if not callable(value) else None
        for name, other in wrong_values(field.kind, given):
            if (api.name, told, name) in LEFT_OUT:
                continue
            wrong = changed(valid, place, other)
            if isinstance(wrong, dict):
                yield case(f"{told} {name}", wrong)
    yield case("a byte short", valid, lambda frame: frame[:-1])
    yield case("a byte long", valid, lambda frame: frame + b"\x00")
    if api.is_flexible(version):
        yield case("an unknown tag", valid, lambda frame: frame[:-1] + b"\x01\x63\x02ab")


def _request(api: Api, version: int) -> Fields:
    from kafka_declared import whole  # noqa: PLC0415 - beside its one use

    return whole(api, version, "request")


def all_made(common: dict[int, range]) -> Iterator[Case]:
    """Every case that the declarations give, of the versions that both sides have."""
    for api in BY_NAME.values():
        for version in common.get(api.key, range(0)):
            yield from made(api, version)
