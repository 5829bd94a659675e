"""Turns a declaration into a decoder and an encoder for one version: closures, compiled once.

Rules:
- All decisions that depend on the version are made here; what runs per message has none left.
- An array's least element width is computed from the declaration and given to the reader, which
  bounds the count by it; a declaration with elements of no width is refused at import.
- Depth is bounded by construction: closures nest as declarations do, and those are finite.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from struct import Struct
from typing import TypeVar, cast

from msgspec import UNSET

from appliance.errors import ProtocolViolation
from appliance.invariant import invariant
from appliance.wire.kafka import primitives, runs
from appliance.wire.kafka.primitives import Output, Reader
from appliance.wire.kafka.schema import Array, Field, Fields, Scalar, Value

Decode = Callable[[Reader], object]
Encode = Callable[[Output, object], None]
_Get = Callable[[object], object]
_T = TypeVar("_T")


def _erased(put: Callable[[Output, _T], None]) -> Encode:
    """A writer whose argument's type the declaration vouches for."""
    return cast("Encode", put)


_READERS: dict[Scalar, tuple[Decode, Decode]] = {
    Scalar.BOOL: (Reader.bool, Reader.bool),
    Scalar.INT8: (Reader.int8, Reader.int8),
    Scalar.INT16: (Reader.int16, Reader.int16),
    Scalar.INT32: (Reader.int32, Reader.int32),
    Scalar.INT64: (Reader.int64, Reader.int64),
    Scalar.UINT16: (Reader.uint16, Reader.uint16),
    Scalar.FLOAT64: (Reader.float64, Reader.float64),
    Scalar.UUID: (Reader.uuid, Reader.uuid),
    Scalar.STRING: (Reader.string, Reader.compact_string),
    Scalar.BYTES: (Reader.octets, Reader.compact_octets),
    Scalar.RECORDS: (Reader.records, Reader.compact_records),
}
"""Classic and flexible form of each."""

_WRITERS: dict[Scalar, tuple[Encode, Encode]] = {
    Scalar.BOOL: (_erased(primitives.put_bool),) * 2,
    Scalar.INT8: (_erased(primitives.put_int8),) * 2,
    Scalar.INT16: (_erased(primitives.put_int16),) * 2,
    Scalar.INT32: (_erased(primitives.put_int32),) * 2,
    Scalar.INT64: (_erased(primitives.put_int64),) * 2,
    Scalar.UINT16: (_erased(primitives.put_uint16),) * 2,
    Scalar.FLOAT64: (_erased(primitives.put_float64),) * 2,
    Scalar.UUID: (_erased(primitives.put_uuid),) * 2,
    Scalar.STRING: (_erased(primitives.put_string), _erased(primitives.put_compact_string)),
    Scalar.BYTES: (_erased(primitives.put_octets), _erased(primitives.put_compact_octets)),
    Scalar.RECORDS: (_erased(primitives.put_records), _erased(primitives.put_compact_records)),
}

_WIDTHS: dict[Scalar, int] = {
    Scalar.BOOL: 1,
    Scalar.INT8: 1,
    Scalar.INT16: 2,
    Scalar.INT32: 4,
    Scalar.INT64: 8,
    Scalar.UINT16: 2,
    Scalar.FLOAT64: 8,
    Scalar.UUID: 16,
}
_CLASSIC_WIDTHS: dict[Scalar, int] = {Scalar.STRING: 2, Scalar.BYTES: 4, Scalar.RECORDS: 4}
_CLASSIC_COUNT_BYTES = 4

_MEMORY: dict[Scalar, int] = {
    Scalar.BOOL: 0,
    Scalar.INT64: 32,
    Scalar.FLOAT64: 24,
    Scalar.UUID: 100,
    Scalar.STRING: 50,
    Scalar.BYTES: 34,
    Scalar.RECORDS: 200,
}
"""What a value is about as an object, in bytes; 28 for other numbers. Of texts and bytes, without
their content, which the frame bounds."""
_ROW_MEMORY, _FIELD_MEMORY, _ELEMENT_MEMORY = 48, 8, 24
"""Of a row itself, of each of its fields, and of each place in an array while it is built."""

_EMPTY: dict[Scalar, Value] = {
    Scalar.BOOL: False,
    Scalar.STRING: "",
    Scalar.BYTES: b"",
    Scalar.RECORDS: (),
    Scalar.UUID: None,
}
"""What stands for a value that is not given; 0 for numbers."""


def min_width(kind: Scalar | Array | Fields, version: int, *, flexible: bool) -> int:
    """The least number of bytes that a value of this kind takes on the wire."""
    if isinstance(kind, Array):
        return 1 if flexible else _CLASSIC_COUNT_BYTES
    if isinstance(kind, Scalar):
        return _WIDTHS.get(kind) or (1 if flexible else _CLASSIC_WIDTHS[kind])
    tags = 1 if flexible else 0
    return tags + sum(
        1
        if isinstance(field.kind, Fields) and version >= field.nullable_from
        else min_width(field.kind, version, flexible=flexible)
        for field in kind.fields
        if field.carried_by(version) and field.tag is None
    )


def weight(kind: Scalar | Array | Fields, version: int) -> int:
    """About how many bytes of memory an element of an array becomes; arrays in it apart."""
    return _ELEMENT_MEMORY + _memory(kind, version)


def _memory(kind: Scalar | Array | Fields, version: int) -> int:
    if isinstance(kind, Array):
        return 0
    if isinstance(kind, Scalar):
        return _MEMORY.get(kind, 28)
    return _ROW_MEMORY + sum(
        _FIELD_MEMORY + (0 if isinstance(field.kind, Fields) else _memory(field.kind, version))
        for field in kind.fields
        if field.carried_by(version) and field.tag is None
    )


# --- decoding ---------------------------------------------------------------------------------


def compile_decoder(fields: Fields, version: int, *, flexible: bool) -> Decode:
    """A function that reads one value of `fields` in this version from a reader."""
    carried = [f for f in fields.fields if f.carried_by(version) and f.tag is None]
    steps = tuple(
        _decode_step(run, version, flexible=flexible)
        for run in runs.grouped(carried, runs.is_number)
    )
    tagged = [f for f in fields.fields if f.tag is not None and f.carried_by(version)]
    read_tags = _decode_tags(tagged, version) if flexible else None
    given = [f.name for f in carried if f.bound]
    if flexible:
        given += [f.name for f in tagged if f.bound]
    build = runs.building(fields, given)

    def decode(reader: Reader) -> object:
        values: list[object] = []
        for numbers, read, keep in steps:
            if numbers is not None:
                values += reader.numbers(numbers)
            elif keep:
                values.append(read(reader))
            else:
                read(reader)
        if read_tags is not None:
            values += read_tags(reader)
        return build(values)

    return decode


def _decode_step(
    run: Sequence[Field], version: int, *, flexible: bool
) -> tuple[Struct | None, Decode, bool]:
    """How numbers side by side are read, or how one other field is and whether it is kept."""
    first = run[0]
    numbers = runs.reading(run) if runs.is_number(first) else None
    return numbers, _decode_field(first, version, flexible=flexible), first.bound


def _decode_field(field: Field, version: int, *, flexible: bool) -> Decode:
    nullable = version >= field.nullable_from
    if isinstance(field.kind, Array):
        return _decode_array(field.kind, version, flexible=flexible, nullable=nullable)
    if isinstance(field.kind, Fields):
        return _decode_nested(field.kind, version, flexible=flexible, nullable=nullable)
    read = _READERS[field.kind][flexible]
    if nullable or field.kind in _WIDTHS:
        return read

    def decode(reader: Reader) -> object:
        value = read(reader)
        if value is None:
            raise ProtocolViolation("null where a value must be")
        return value

    return decode


def _decode_array(array: Array, version: int, *, flexible: bool, nullable: bool) -> Decode:
    width = min_width(array.of, version, flexible=flexible)
    invariant(width > 0, "array elements have a width")
    heavy = weight(array.of, version)
    read = (
        _decode_field(Field("", array.of), version, flexible=flexible)
        if isinstance(array.of, Scalar)
        else compile_decoder(array.of, version, flexible=flexible)
    )
    read_count = Reader.compact_count if flexible else Reader.count

    def decode(reader: Reader) -> object:
        count = read_count(reader, width, heavy)
        if count is None:
            if nullable:
                return None
            raise ProtocolViolation("null where an array must be")
        if count == 1:
            return (read(reader),)
        return tuple([read(reader) for _ in range(count)])

    return decode


def _decode_nested(nested: Fields, version: int, *, flexible: bool, nullable: bool) -> Decode:
    """A row that stands alone; where it may be null, a byte before it says whether it is."""
    read = compile_decoder(nested, version, flexible=flexible)
    if not nullable:
        return read

    def decode(reader: Reader) -> object:
        return read(reader) if reader.presence() == 1 else None

    return decode


def _decode_tags(tagged: Sequence[Field], version: int) -> Callable[[Reader], Sequence[object]]:
    """Reads a section of tagged fields: known ones are checked, those that are bound are given."""
    known = {f.tag: (f.name, _decode_field(f, version, flexible=True)) for f in tagged}
    usual = {f.name: _default_of(f) for f in tagged if f.bound}

    def skip(reader: Reader) -> Sequence[object]:
        reader.skip_tags()
        return ()

    def decode(reader: Reader) -> Sequence[object]:
        values = usual.copy()
        last = -1
        for _ in range(reader.tag_count()):
            tag = reader.unsigned_varint()
            if tag <= last:
                raise ProtocolViolation("tagged fields are out of order")
            last = tag
            end = reader.unsigned_varint() + reader.position
            name, read = known.get(tag, ("", None))
            if read is None:
                reader.skip(end - reader.position)
            else:
                value = read(reader)
                if name in values:
                    values[name] = value
            if reader.position != end:
                raise ProtocolViolation("a tagged field is not as long as it says")
        return tuple(values.values())

    return decode if known else skip


# --- encoding ---------------------------------------------------------------------------------


def compile_encoder(fields: Fields, version: int, *, flexible: bool) -> Encode:
    """A function that appends one value of `fields` in this version to a buffer."""
    get_of = _getters(fields)
    carried = [f for f in fields.fields if f.carried_by(version) and f.tag is None]
    steps = tuple(
        (runs.writing(run, fields), None, _no_tags)
        if _is_plain_number(run[0])
        else (None, get_of[run[0].name], _encode_field(run[0], version, flexible=flexible))
        for run in runs.grouped(carried, _is_plain_number)
    )
    put_tags = _encode_tags(fields, get_of, version) if flexible else None

    def encode(output: Output, value: object) -> None:
        for pack, get, put in steps:
            if pack is not None:
                output += pack(value)
            elif get is not None:
                put(output, get(value))
        if put_tags is not None:
            put_tags(output, value)

    return encode


def _is_plain_number(field: Field) -> bool:
    """A number that is taken from the value; one that is the same always is written by itself."""
    return runs.is_number(field) and field.bound


def _getters(fields: Fields) -> dict[str, _Get]:
    """How each field's value is found in what the fields are bound to."""
    bound = [f.name for f in fields.fields if f.bound]
    getters: dict[str, _Get] = {}
    for field in fields.fields:
        if not field.bound:
            getters[field.name] = _constant(None if field.default is UNSET else field.default)
        elif fields.into is None:
            getters[field.name] = cast("_Get", itemgetter(bound.index(field.name)))
        else:
            getters[field.name] = attrgetter(field.name)
    return getters


def _encode_tags(fields: Fields, get_of: dict[str, _Get], version: int) -> Encode:
    """Writes a section of tagged fields: those of which the value is not the default."""
    tagged = sorted(
        (f for f in fields.fields if f.tag is not None and f.bound and f.carried_by(version)),
        key=lambda f: f.tag or 0,
    )
    steps = tuple(
        (
            f.tag or 0,
            get_of[f.name],
            _default_of(f),
            _encode_field(f, version, flexible=True),
        )
        for f in tagged
    )

    def encode(output: Output, value: object) -> None:
        given = [
            (tag, put, found) for tag, get, usual, put in steps if (found := get(value)) != usual
        ]
        primitives.put_unsigned_varint(output, len(given))
        for tag, put, found in given:
            part = Output()
            put(part, found)
            primitives.put_unsigned_varint(output, tag)
            primitives.put_unsigned_varint(output, len(part))
            output += part

    return encode if steps else _no_tags


def _default_of(field: Field) -> object:
    """The value that a tagged field has when it is not written."""
    if field.default is not UNSET:
        return field.default
    if isinstance(field.kind, Array):
        return ()
    return None if isinstance(field.kind, Fields) else _EMPTY.get(field.kind, 0)


def _no_tags(output: Output, _: object) -> None:
    output.append(0)


def _constant(value: object) -> _Get:
    return lambda _: value


def _encode_field(field: Field, version: int, *, flexible: bool) -> Encode:
    nullable = version >= field.nullable_from
    if isinstance(field.kind, Array):
        return _encode_array(field.kind, version, flexible=flexible, nullable=nullable)
    if isinstance(field.kind, Fields):
        return _encode_nested(field.kind, version, flexible=flexible, nullable=nullable)
    put = _WRITERS[field.kind][flexible]
    if nullable:
        return put
    empty = _EMPTY.get(field.kind, 0)

    def encode(output: Output, value: object) -> None:
        put(output, empty if value is None else value)

    return encode


def _encode_nested(nested: Fields, version: int, *, flexible: bool, nullable: bool) -> Encode:
    put = compile_encoder(nested, version, flexible=flexible)
    if not nullable:
        return put

    def encode(output: Output, value: object) -> None:
        output.append(0xFF if value is None else 1)
        if value is not None:
            put(output, value)

    return encode


def _encode_array(array: Array, version: int, *, flexible: bool, nullable: bool) -> Encode:
    put = (
        _WRITERS[array.of][flexible]
        if isinstance(array.of, Scalar)
        else compile_encoder(array.of, version, flexible=flexible)
    )
    put_count = primitives.put_compact_count if flexible else primitives.put_count

    def encode(output: Output, value: object) -> None:
        if value is None:
            put_count(output, None if nullable else 0)
            return
        elements = cast("tuple[object, ...]", value)
        put_count(output, len(elements))
        for element in elements:
            put(output, element)

    return encode
