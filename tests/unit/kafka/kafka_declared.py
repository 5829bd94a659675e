"""Values, encoders and decoders of whole wire messages, derived from the declarations."""

import struct
from functools import cache
from uuid import UUID

from hypothesis import strategies as st
from msgspec import UNSET

from appliance.errors import ErrorCode
from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.compiler import compile_decoder, compile_encoder
from appliance.wire.kafka.primitives import Output, Reader
from appliance.wire.kafka.schema import Api, Array, Field, Fields, Scalar

EVERY = [(api, version) for api in APIS for version in api.versions()]
EVERY_SIDE = [(api, v, side) for api, v in EVERY for side in ("request", "response")]


def label(value: object) -> str | None:
    return value.name if isinstance(value, Api) else None


@cache
def whole(api: Api, version: int, side: str) -> Fields:
    """The fields that a version carries, wire-only ones included, as tuples."""
    return _whole(getattr(api, side), version)


def _whole(fields: Fields, version: int) -> Fields:
    carried = []
    for field in fields.fields:
        if field.carried_by(version):
            kind = field.kind
            if isinstance(kind, Array) and isinstance(kind.of, Fields):
                kind = Array(_whole(kind.of, version))
            elif isinstance(kind, Fields):
                kind = _whole(kind, version)
            nullable_from = 0 if version >= field.nullable_from else 32_767
            default = field.default if field.tag is not None else UNSET
            carried.append(
                Field(
                    field.name,
                    kind,
                    nullable_from=nullable_from,
                    tag=field.tag,
                    default=usual(field) if field.tag is not None else default,
                )
            )
    return Fields(tuple(carried))


def usual(field: Field) -> object:
    """The value of a tagged field that is not written; of a row, that of its own fields."""
    if isinstance(field.kind, Fields) and field.nullable_from:
        return tuple(0 if f.default is UNSET else f.default for f in field.kind.fields)
    if field.default is not UNSET:
        return field.default
    return () if isinstance(field.kind, Array) else EMPTY.get(field.kind, 0)


def write(api: Api, version: int, side: str, values: object) -> bytes:
    output = Output()
    fields = whole(api, version, side)
    compile_encoder(fields, version, flexible=api.is_flexible(version))(output, values)
    return b"".join(output.buffers())


def read(api: Api, version: int, side: str, data: bytes) -> object:
    reader = Reader(memoryview(data))
    values = compile_decoder(whole(api, version, side), version, flexible=api.is_flexible(version))(
        reader
    )
    reader.finish()
    return values


def request_frame(api: Api, version: int, body: bytes, client_id: str | None = "tests") -> bytes:
    """A frame as the codec gets it, without its size."""
    header = struct.pack(">hhi", api.key, version, 77)
    text = None if client_id is None else client_id.encode()
    header += b"\xff\xff" if text is None else struct.pack(">h", len(text)) + text
    return header + (b"\x00" if api.is_flexible(version) else b"") + body


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
EMPTY = {Scalar.STRING: None, Scalar.UUID: None, Scalar.BOOL: False}
SCALARS: dict[Scalar, st.SearchStrategy[object]] = {
    Scalar.BOOL: st.booleans(),
    Scalar.INT8: signed(8),
    Scalar.INT16: signed(16),
    Scalar.INT32: signed(32),
    Scalar.INT64: signed(64),
    Scalar.UINT16: st.integers(0, 65_535),
    Scalar.FLOAT64: st.floats(allow_nan=False),
    Scalar.UUID: st.none() | st.integers(1, (1 << 128) - 1).map(lambda n: UUID(int=n)),
    Scalar.STRING: TEXT,
    Scalar.BYTES: st.binary(max_size=40),
    Scalar.RECORDS: st.binary(max_size=40).map(memoryview),
}


def value_of(field: Field) -> st.SearchStrategy[object]:
    if isinstance(field.kind, Array):
        of = field.kind.of
        element = SCALARS[of] if isinstance(of, Scalar) else values_of(of)
        values = st.lists(element, max_size=3).map(tuple)
    elif isinstance(field.kind, Fields):
        values = values_of(field.kind)
    elif field.name == "error":
        values = st.sampled_from(ErrorCode)
    elif field.name in {"timestamp_ms", "log_append_time_ms", "retention_time_ms"}:
        values = st.integers(0, 4_000_000_000_000)
    else:
        values = SCALARS[field.kind]
    return st.none() | values if field.nullable_from == 0 else values


def values_of(fields: Fields) -> st.SearchStrategy[object]:
    """Values of a message made by `whole`."""
    return st.tuples(*(value_of(field) for field in fields.fields))
