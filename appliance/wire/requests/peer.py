"""What nodes say to each other on the peer listener; no client listener decodes any of it.

Rules: what a delivery holds is encoded by the broker, under a version that the greeting settled,
and opaque here. A forwarded request carries the principal that a node has authenticated; only a
node's certificate makes that believable, and the gate judges it again where it arrives.
"""

from typing import Annotated, Union

from msgspec import Meta

from appliance.types import ClusterId, Index, NodeId
from appliance.wire.requests import AnyRequest, AnyResponse
from appliance.wire.requests.base import Part, Request, Response

Short = Annotated[str, Meta(max_length=255)]


class PeerRequest(Request, frozen=True):
    """Root of what nodes ask each other."""


class PeerResponse(Response, frozen=True):
    """Root of what nodes answer each other."""


class Address(Part, frozen=True):
    """Where a node's peer listener is reached."""

    host: Short
    port: Annotated[int, Meta(ge=1, le=65_535)]


class Greet(PeerRequest, frozen=True):
    """The first request of a link: who calls, in which life of its process, and where it lives.

    `versions` are the oldest and the newest encoding of deliveries that the caller writes.
    """

    cluster: ClusterId
    node: NodeId
    epoch: int
    address: Address
    versions: tuple[int, int]


class Greeted(PeerResponse, frozen=True):
    """Who was reached, and the version in which deliveries are to be written."""

    cluster: ClusterId
    node: NodeId
    epoch: int
    version: int


class Deliver(PeerRequest, frozen=True):
    """Consensus messages or liveness of many groups; there is no reply."""

    cluster: ClusterId
    payload: memoryview


class Forward(PeerRequest, frozen=True):
    """A client's request for the catalogue's leader, with whom it comes from."""

    principal: Short
    listener: Short
    address: Short
    client_id: str | None
    request: AnyRequest


class Forwarded(PeerResponse, frozen=True):
    """The answer to a forwarded request, and how far the catalogue was applied when it came."""

    response: AnyResponse
    applied: Index


class Enact(PeerRequest, frozen=True):
    """A node's own catalogue command, encoded by the broker."""

    command: memoryview


class Enacted(PeerResponse, frozen=True):
    """What the command came to, encoded by the broker."""

    outcome: memoryview
    applied: Index


class PeerRefused(PeerResponse, frozen=True):
    """The request was not carried out; the code says whether another node may."""

    code: int
    message: str


AnyPeerRequest = Union[Greet, Deliver, Forward, Enact]
AnyPeerResponse = Union[Greeted, Forwarded, Enacted, PeerRefused]
