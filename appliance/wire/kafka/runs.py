"""Numbers that stand side by side in a declaration, read and written with one struct.

Rules: a run holds numbers of fixed width only; fields that exist on the wire only are read as
padding. What a run reads and writes is what its fields would one by one.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Final, Protocol, cast

from msgspec import NODEFAULT, UNSET, Struct
from msgspec.structs import fields as struct_fields

from appliance.invariant import InvariantViolation, invariant
from appliance.wire.kafka.schema import Field, Fields, Scalar

_CODES: Final = {
    Scalar.BOOL: "?",
    Scalar.INT8: "b",
    Scalar.INT16: "h",
    Scalar.INT32: "i",
    Scalar.INT64: "q",
    Scalar.UINT16: "H",
    Scalar.FLOAT64: "d",
}

Arrange = Callable[[list[object]], object]
Pack = Callable[[object], bytes]


class _Build(Protocol):
    """Makes one value of its fields' values: a type, or a tuple in their order."""

    def __call__(self, *values: object) -> object: ...


def is_number(field: Field) -> bool:
    """Whether a field can be part of a run."""
    return isinstance(field.kind, Scalar) and field.kind in _CODES


def grouped(fields: Sequence[Field], joins: Callable[[Field], bool]) -> Iterator[list[Field]]:
    """The fields in order: those that join, side by side, in groups, all others alone."""
    group: list[Field] = []
    for field in fields:
        if joins(field):
            group.append(field)
            continue
        if group:
            yield group
            group = []
        yield [field]
    if group:
        yield group


def reading(run: Sequence[Field]) -> struct.Struct:
    """Reads the bound fields of a run, and past the others."""
    return struct.Struct(">" + "".join(_code_of(field) for field in run))


def _code_of(field: Field) -> str:
    code = _CODES[field.kind] if isinstance(field.kind, Scalar) else ""
    return code if field.bound else f"{struct.calcsize('>' + code)}x"


def writing(run: Sequence[Field], fields: Fields) -> Pack:
    """Writes the fields of a run, all of them bound; None is 0."""
    form = struct.Struct(">" + "".join(_code_of(field) for field in run))
    names = [field.name for field in run]
    if fields.into is None:
        bound = [field.name for field in fields.fields if field.bound]
        get = cast("Callable[[object], object]", itemgetter(*map(bound.index, names)))
    else:
        get = attrgetter(*names)

    def pack(value: object) -> bytes:
        found = get(value)
        numbers = found if isinstance(found, tuple) else (found,)
        try:
            return form.pack(*numbers)
        except struct.error:
            return form.pack(*(0 if number is None else number for number in numbers))

    return pack


def building(fields: Fields, given: Sequence[str]) -> Arrange:
    """Makes one value of what was read, in the order of `given`; the rest takes its default."""
    defaults = _defaults(fields)
    order = [field.name for field in fields.fields if field.bound]
    if fields.into is not None:
        order = list(fields.into.__struct_fields__)
    absent = [name for name in order if name not in given]
    for name in absent:
        invariant(name in defaults, f"{name} is read, or has a default")
    constants = [defaults[name] for name in absent]
    place = {name: at for at, name in enumerate([*given, *absent])}
    places = [place[name] for name in order]
    build: _Build = _tuple_of if fields.into is None else cast("_Build", fields.into)
    if places == sorted(places):
        return lambda values: build(*values, *constants)
    return lambda values: build(*map((values + constants).__getitem__, places))


def _tuple_of(*values: object) -> tuple[object, ...]:
    return values


def _defaults(fields: Fields) -> dict[str, object]:
    """What a field is that was not read: its declaration's default, or else its type's."""
    found: dict[str, object] = {} if fields.into is None else _type_defaults(fields.into)
    for field in fields.fields:
        if field.bound and field.default is not UNSET:
            found[field.name] = field.default
    return found


def _type_defaults(into: type[Struct]) -> dict[str, object]:
    found: dict[str, object] = {}
    for each in struct_fields(into):
        if each.default is not NODEFAULT:
            found[each.name] = each.default
        elif each.default_factory is not NODEFAULT:
            raise InvariantViolation("what is shared by many messages is not made for each")
    return found
