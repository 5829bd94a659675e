"""Quotas: how much users, clients and addresses may ask for (KIP-546)."""

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Name, Part, Request, Response


class QuotaComponent(Part, frozen=True):
    """What one kind of an entity's parts must be like.

    `match` is 0 for the one of that name, 1 for the default, 2 for any that is given.
    """

    kind: Name
    match: int
    name: Name | None = None


class DescribeClientQuotas(Request, frozen=True):
    """Asks for the quotas of entities that fit; `strict` leaves those out that have other parts."""

    components: tuple[QuotaComponent, ...]
    strict: bool = False


class QuotaEntityPart(Part, frozen=True):
    """One part of an entity; a name of None is the default of its kind."""

    kind: Name
    name: Name | None = None


class QuotaValue(Part, frozen=True):
    """One quota."""

    key: Name
    value: float


class DescribedQuotas(Part, frozen=True):
    """One entity's quotas."""

    entity: tuple[QuotaEntityPart, ...]
    values: tuple[QuotaValue, ...]


class DescribeClientQuotasResult(Response, frozen=True):
    """Answer to DescribeClientQuotas; the entries are None beside an error."""

    entries: tuple[DescribedQuotas, ...] | None = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    throttle_time_ms: int = 0


class QuotaChange(Part, frozen=True):
    """What one quota is to be, or that it is to go."""

    key: Name
    value: float
    remove: bool = False


class QuotasToChange(Part, frozen=True):
    """Changes of one entity's quotas, all of them or none."""

    entity: tuple[QuotaEntityPart, ...]
    changes: tuple[QuotaChange, ...]


class AlterClientQuotas(Request, frozen=True):
    """Changes quotas, entity by entity."""

    entries: tuple[QuotasToChange, ...]
    validate_only: bool = False


class AlteredQuotas(Part, frozen=True):
    """What became of one entity's changes."""

    entity: tuple[QuotaEntityPart, ...]
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class AlterClientQuotasResult(Response, frozen=True):
    """Answer to AlterClientQuotas."""

    entries: tuple[AlteredQuotas, ...]
    throttle_time_ms: int = 0
