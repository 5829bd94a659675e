"""Access rules as Kafka's tools know them; here they are lines of the one policy."""

from enum import IntEnum

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Name, Part, Request, Response


class AclResource(IntEnum):
    """Kinds of resources, by Kafka's numbers."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class AclPattern(IntEnum):
    """How a name is meant; ANY and MATCH in filters only (KIP-290)."""

    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class AclPermission(IntEnum):
    """What a rule does."""

    ANY = 1
    DENY = 2
    ALLOW = 3


ANY_OPERATION = 1
ALL_OPERATIONS = 2


class Acl(Part, frozen=True):
    """One rule; the numbers are Kafka's."""

    kind: int
    name: Name
    pattern: int
    principal: Name
    host: Name
    operation: int
    permission: int


class AclFilter(Part, frozen=True):
    """Which rules are meant; None and ANY leave a field open."""

    kind: int
    name: Name | None
    pattern: int
    principal: Name | None
    host: Name | None
    operation: int
    permission: int


class DescribeAcls(Request, frozen=True):
    """Asks for the rules that match."""

    filter: AclFilter


class DescribeAclsResult(Response, frozen=True):
    """Answer to DescribeAcls."""

    acls: tuple[Acl, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    throttle_time_ms: int = 0


class CreateAcls(Request, frozen=True):
    """Adds rules; one that is there already stays."""

    acls: tuple[Acl, ...]


class CreatedAcl(Part, frozen=True):
    """What became of one rule."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class CreateAclsResult(Response, frozen=True):
    """Answer to CreateAcls, in the order of the request."""

    results: tuple[CreatedAcl, ...]
    throttle_time_ms: int = 0


class DeleteAcls(Request, frozen=True):
    """Removes the rules that match."""

    filters: tuple[AclFilter, ...]


class DeletedAcls(Part, frozen=True):
    """What one filter removed."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    acls: tuple[Acl, ...] = ()


class DeleteAclsResult(Response, frozen=True):
    """Answer to DeleteAcls, in the order of the request."""

    results: tuple[DeletedAcls, ...]
    throttle_time_ms: int = 0
