"""The keys that data is sealed with: seeing them, wrapping them anew, shredding (native only)."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from appliance.errors import ErrorCode
from appliance.limits import MAX_REWRAPPED_AT_ONCE
from appliance.types import KeyDomainId, NodeId, PartitionId, TopicName
from appliance.wire.requests.base import Part, Request, Response


class DescribeKeys(Request, frozen=True):
    """Asks for every key domain and how a node stands with it; None is the node that is asked."""

    node: NodeId | None = None


class KeyDomainState(Part, frozen=True):
    """One key domain; `topic` None is the cluster's own.

    `wraps` are pairs of a version and how many wraps are of it; `lease_left_s` is None where no
    lease is needed; `trouble` says why the key could not be looked at.
    """

    domain: KeyDomainId
    topic: TopicName | None
    newest_version: int
    oldest_version: int
    epoch: int
    wraps: tuple[tuple[int, int], ...]
    lease_left_s: float | None
    shredding: bool = False
    trouble: str | None = None


class DescribeKeysResult(Response, frozen=True):
    """Answer to DescribeKeys."""

    error: ErrorCode = ErrorCode.NONE
    node: int = -1
    domains: tuple[KeyDomainState, ...] = ()
    message: str | None = None


class RewrapKeys(Request, frozen=True):
    """Asks for one slice of keys to be wrapped under the newest versions.

    `after` None begins; `node` None is the node that is asked.
    """

    after: PartitionId | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_REWRAPPED_AT_ONCE)] = MAX_REWRAPPED_AT_ONCE
    node: NodeId | None = None


class RewrapKeysResult(Response, frozen=True):
    """What the slice came to; `after` None is the end, `failed` are reasons."""

    error: ErrorCode = ErrorCode.NONE
    examined: int = 0
    rewrapped: int = 0
    failed: tuple[str, ...] = ()
    after: PartitionId | None = None
    message: str | None = None


class RekeyKeys(Request, frozen=True):
    """Has a node seal its data anew under the newest keys, or asks how far that is.

    `node` None is the node that is asked, `domain` None are all. It goes on by itself once begun.
    """

    begin: bool
    domain: KeyDomainId | None = None
    node: NodeId | None = None


class RekeyKeysResult(Response, frozen=True):
    """How far it is: bytes of files under older keys, then and now; `failed` are reasons."""

    error: ErrorCode = ErrorCode.NONE
    running: bool = False
    total_bytes: int = 0
    left_bytes: int = 0
    failed: tuple[str, ...] = ()
    message: str | None = None


class ShredStep(StrEnum):
    """Which part of a shredding is asked for; each may be asked for again."""

    BEGIN = "begin"
    """The topic refuses reads and writes, and its keys are dropped everywhere."""
    COMPLETE = "complete"
    """The custodian has destroyed the key: have that checked, and certified."""
    CERTIFY = "certify"
    """The certificate of the last shredding once more; changes nothing."""


class ShredTopic(Request, frozen=True):
    """Asks for a step of making a topic's records unreadable for good."""

    topic: TopicName
    step: ShredStep


class ShredTopicResult(Response, frozen=True):
    """How far it has come: whose key to destroy, who confirmed, and at the end the certificate.

    `waiting_for` have not dropped the key, and `unheard` of them are not heard. The key may be
    destroyed when `is_ready`; `left_s` is how long the lease of an unheard one may last after that.
    """

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    domain: KeyDomainId | None = None
    shred: UUID | None = None
    waiting_for: tuple[int, ...] = ()
    unheard: tuple[int, ...] = ()
    is_ready: bool = False
    left_s: float = 0.0
    certificate: str | None = None
