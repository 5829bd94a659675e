"""DescribeClientQuotas and AlterClientQuotas: what is set, and setting it (KIP-546).

Rules: what is told is what was set; the quotas that hold where nothing was set are the release's.
Faults of a filter and of a change get the codes that Kafka's controller gives.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.coordination.quotas import CLIENT_ID, IP, USER, Entity, SetQuotas, fault_in
from appliance.errors import ErrorCode, RequestError
from appliance.wire.requests import (
    AlterClientQuotas,
    AlterClientQuotasResult,
    AlteredQuotas,
    DescribeClientQuotas,
    DescribeClientQuotasResult,
    DescribedQuotas,
    QuotaComponent,
    QuotaEntityPart,
    QuotasToChange,
    QuotaValue,
)

_EXACT, _DEFAULT, _ANY = 0, 1, 2
_KINDS: Final = frozenset({USER, CLIENT_ID, IP})


class DescribeClientQuotasHandler:
    """Tells the quotas of the entities that fit a filter."""

    request = DescribeClientQuotas

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(self, _: DescribeClientQuotas, code: ErrorCode) -> DescribeClientQuotasResult:
        """Says why not."""
        return DescribeClientQuotasResult(None, code)

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeClientQuotas]
    ) -> DescribeClientQuotasResult:
        """One entry an entity, sorted."""
        request = authorized.request
        try:
            wanted = _filter(request.components)
        except RequestError as error:
            return DescribeClientQuotasResult(None, error.code, str(error))
        held = self._catalogue.state.quotas.held
        fitting = (each for each in held if _fits(each, wanted, strict=request.strict))
        return DescribeClientQuotasResult(
            tuple(_described(entity, held[entity]) for entity in sorted(fitting, key=_order))
        )


class AlterClientQuotasHandler:
    """Sets and removes quotas, entity by entity."""

    request = AlterClientQuotas

    def __init__(self, catalogue: Catalogue, auditor: Auditor) -> None:
        self._catalogue = catalogue
        self._auditor = auditor

    def refuse(self, request: AlterClientQuotas, code: ErrorCode) -> AlterClientQuotasResult:
        """Every entity refused."""
        return AlterClientQuotasResult(
            tuple(AlteredQuotas(each.entity, code) for each in request.entries)
        )

    async def handle(
        self, caller: Caller, authorized: Authorized[AlterClientQuotas]
    ) -> AlterClientQuotasResult:
        """One answer an entity; one that is named twice is refused each time, as Kafka does."""
        results = []
        times = Counter(_entity(each) for each in authorized.request.entries)
        for each in authorized.request.entries:
            try:
                _check_once(each, times[_entity(each)])
                await self._alter(caller, authorized, each)
                results.append(AlteredQuotas(each.entity))
            except RequestError as error:
                results.append(AlteredQuotas(each.entity, error.code, str(error)))
        return AlterClientQuotasResult(tuple(results))

    async def _alter(
        self, caller: Caller, authorized: Authorized[AlterClientQuotas], entry: QuotasToChange
    ) -> None:
        entity = _entity(entry)
        changes = tuple(
            (each.key, None if each.remove else each.value) for each in entry.changes
        )  # fmt: skip
        fault = fault_in(entity, changes)
        if fault is not None:
            raise RequestError(fault.error, fault.message)
        if authorized.request.validate_only:
            return
        said = " ".join(f"{key}={'-' if value is None else value}" for key, value in changes)
        await self._auditor.changing(caller, authorized, (_told(entity),), said)
        await self._catalogue.set_quotas(SetQuotas(entity, changes))


def _entity(entry: QuotasToChange) -> Entity:
    return tuple(sorted(((part.kind, part.name) for part in entry.entity), key=_kind))


def _check_once(entry: QuotasToChange, times: int) -> None:
    """Raises RequestError where two changes would be settled by their order."""
    if times > 1:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the entity is named twice")
    if len({each.key for each in entry.changes}) < len(entry.changes):
        raise RequestError(ErrorCode.INVALID_REQUEST, "a quota is named twice")


def _filter(components: tuple[QuotaComponent, ...]) -> dict[str, QuotaComponent]:
    """The filter by kind; raises RequestError for one that means nothing."""
    wanted: dict[str, QuotaComponent] = {}
    for each in components:
        if not each.kind:
            raise RequestError(ErrorCode.INVALID_REQUEST, "a kind of entity is empty")
        if each.kind in wanted:
            raise RequestError(ErrorCode.INVALID_REQUEST, "a kind of entity is named twice")
        if each.kind not in _KINDS:
            raise RequestError(ErrorCode.UNSUPPORTED_VERSION, "there is no such kind of entity")
        if each.match not in {_EXACT, _DEFAULT, _ANY}:
            raise RequestError(ErrorCode.INVALID_REQUEST, "there is no such kind of match")
        if (each.name is None) != (each.match != _EXACT):
            raise RequestError(
                ErrorCode.INVALID_REQUEST, "an exact match, and no other, has a name"
            )
        wanted[each.kind] = each
    if IP in wanted and len(wanted) > 1:
        raise RequestError(ErrorCode.INVALID_REQUEST, "an 'ip' is not combined with others")
    return wanted


def _fits(entity: Entity, wanted: Mapping[str, QuotaComponent], *, strict: bool) -> bool:
    if strict and len(entity) != len(wanted):
        return False
    parts = dict(entity)
    return all(
        kind in parts and (each.match == _ANY or parts[kind] == each.name)
        for kind, each in wanted.items()
    )


def _described(entity: Entity, values: Mapping[str, float]) -> DescribedQuotas:
    return DescribedQuotas(
        tuple(QuotaEntityPart(kind, name) for kind, name in entity),
        tuple(QuotaValue(key, value) for key, value in sorted(values.items())),
    )


def _order(entity: Entity) -> list[tuple[str, bool, str]]:
    return [(kind, name is not None, name or "") for kind, name in entity]


def _kind(part: tuple[str, str | None]) -> str:
    return part[0]


def _told(entity: Entity) -> str:
    """An entity as the audit log names it."""
    return ",".join(f"{kind}={'<default>' if name is None else name}" for kind, name in entity)
