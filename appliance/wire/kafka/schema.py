"""How a Kafka message is declared: as data, from which code, docs and fuzz inputs are derived.

A message is a `Fields`: fields in wire order, each with the versions that carry it, what it is and
where its value lives in our own types. Nothing here reads or writes bytes; `compiler` turns a
declaration into a decoder and an encoder for one version.

Rules:
- `name` is the attribute of the type that the fields are bound to (`into`); without a type the
  values stand in a plain tuple, in declaration order.
- A field that is not `bound` exists on the wire only: it is read, checked and dropped, and written
  as its `default`.
- A bound field that a version does not carry takes its `default`, or else the type's own.
- A tagged field (KIP-482) is written when its value is not its default; one that a message does not
  carry takes its default. What we neither use nor give is not `bound`, as elsewhere.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final, TypeVar, Union, cast

from msgspec import UNSET, Struct, UnsetType

from appliance.invariant import invariant
from appliance.limits import MAX_STRUCTURE_BYTES
from appliance.wire.requests import AnyRequest, AnyResponse

NEVER: Final = 32_767
"""A version that is never reached."""

Value = Union[int, str, bytes, bool, tuple[()], None]
"""What a default can be."""


ToRequest = Callable[[object, int], AnyRequest]
ToWire = Callable[[AnyRequest, AnyResponse, int], object]
W = TypeVar("W")
Q = TypeVar("Q", bound=AnyRequest)
R = TypeVar("R", bound=AnyResponse)


class Scalar(Enum):
    """The primitive types that our messages use; the value is the name in documentation."""

    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT16 = "uint16"
    FLOAT64 = "float64"
    UUID = "uuid"
    STRING = "string"
    BYTES = "bytes"
    RECORDS = "records"


class Field(Struct, frozen=True):
    """One field. Carried from version `since` to `until`; null is allowed from `nullable_from`."""

    name: str
    kind: "Scalar | Array | Fields"
    since: int = 0
    until: int = NEVER
    nullable_from: int = NEVER
    tag: int | None = None
    bound: bool = True
    default: Value | UnsetType = UNSET

    def carried_by(self, version: int) -> bool:
        """Whether this version of the message has the field."""
        return self.since <= version <= self.until


class Array(Struct, frozen=True):
    """A counted sequence of scalars or of rows of fields; decoded as a tuple."""

    of: "Scalar | Fields"


class Fields(Struct, frozen=True):
    """Fields in wire order, and the type that holds their values (a tuple if None)."""

    fields: tuple[Field, ...]
    into: type[Struct] | None = None

    def __post_init__(self) -> None:
        """Checks what a declaration promises."""
        for field in self.fields:
            invariant(field.since <= field.until, "a field has a version")


def row(*fields: Field, into: type[Struct] | None = None) -> Fields:
    """Fields as they are written in declarations."""
    return Fields(fields, into)


class Usual(Struct, frozen=True):
    """A form that nearly all messages of an API have, read and written by code of its own.

    `decode` takes a whole frame, header included, and gives the client id and the request; `encode`
    takes the correlation id and the response. Either gives None for whatever is not of the form:
    the declaration, which says the same at length, then has its turn.
    """

    since: int
    until: int
    decode: Callable[[memoryview], tuple[str | None, AnyRequest] | None]
    encode: Callable[[int, AnyResponse], bytes | None]


class Api(Struct, frozen=True):
    """One API: its versions, its two messages, and how they map to `appliance.wire.requests`.

    `request` and `response` are bound to those types directly, or to shapes of the API's own that
    `to_request` (given the shape and the version) and `to_wire` (given the request, the response
    and the version) map. `advertised_from` is what ApiVersions says is the lowest version;
    `spare_bytes` may follow a request, where a client that is in wide use lets them.
    """

    key: int
    name: str
    lowest: int
    highest: int
    flexible_from: int
    request: Fields
    response: Fields
    to_request: ToRequest | None = None
    to_wire: ToWire | None = None
    advertised_from: int | None = None
    max_request_bytes: int = MAX_STRUCTURE_BYTES
    spare_bytes: int = 0
    usual: Usual | None = None

    def usual_in(self, version: int) -> Usual | None:
        """The form that is usual in this version, if there is one."""
        usual = self.usual
        return usual if usual is not None and usual.since <= version <= usual.until else None

    def is_flexible(self, version: int) -> bool:
        """Whether this version has compact types and tagged fields (KIP-482)."""
        return version >= self.flexible_from

    def versions(self) -> range:
        """The versions that are served."""
        return range(self.lowest, self.highest + 1)


def to_request(read: Callable[[W, int], AnyRequest]) -> ToRequest:
    """A mapping from an API's own shape; the declaration vouches for the argument's type."""
    return cast("ToRequest", read)


def to_wire(write: Callable[[Q, R, int], object]) -> ToWire:
    """A mapping to an API's own shape; dispatch vouches for the response's type."""
    return cast("ToWire", write)
