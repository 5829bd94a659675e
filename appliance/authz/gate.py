"""The gate: the one place where a request becomes an authorised one.

Handlers accept `Authorized[X]` only, and only this module can build one: its constructor asks for a
token that never leaves here, `prove` checks it again where requests are dispatched, and a test over
the syntax tree finds no other module that tries.

A judgement, in this order:

1. the catalogue's row of the request's type, or the process has no business with it;
2. who may ask at all: kind of principal and listener; requests that are open end here;
3. contact: without it for MAX_POLICY_STALENESS_S everything is refused;
4. one immutable snapshot of the policy, used for all that follows and kept with the result;
5. what the request needs as a whole, else Denied;
6. what it leaves open is named by the resolver; what is refused of that is left out unsaid;
7. each item: granted ones stay in the request, the others become refusals with their codes.

A request that comes to one name, which is granted, has nothing for 5 to 7 to find: they are passed.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Generic, NoReturn, TypeVar, cast, final

from appliance.authz.actions import Action, Resource, ResourceKind
from appliance.authz.catalogue import CatalogueEntry, EntryKind
from appliance.authz.decision import Decision, Denied, Refusal
from appliance.authz.peer_rows import ALL_ROWS
from appliance.authz.snapshot import Asker, PolicySnapshot
from appliance.errors import ConfigurationError, ErrorCode
from appliance.invariant import InvariantViolation
from appliance.limits import MAX_POLICY_STALENESS_S
from appliance.ports import Clock, PolicySource, TopicResolver
from appliance.types import Principal
from appliance.wire.requests import Request

R_co = TypeVar("R_co", bound=Request, covariant=True)
R = TypeVar("R", bound=Request)
N = TypeVar("N", bound=str)

_TOKEN: Final = object()

NOT_ASKED_HERE: Final = "not a request for this kind of principal on this listener"
STALE: Final = "the policy may be out of date: no contact with the catalogue"


@final
class Authorized(Generic[R_co]):
    """A request that passed the gate, with the proof that it did.

    `request` holds the granted items only: it is what a handler acts on. `asked` is the request as
    it came and `refused` what was taken out of it: they are for writing the reply, in its order.
    """

    __slots__ = ("_asked", "_asker", "_refused", "_request", "_snapshot", "_token")

    def __init__(  # noqa: PLR0917 - built once for each request: keywords would cost as much again
        self,
        token: object,
        request: R_co,
        asked: R_co,
        refused: tuple[Refusal, ...],
        asker: Asker,
        snapshot: PolicySnapshot,
    ) -> None:
        """For the gate only; raises InvariantViolation without its token."""
        if token is not _TOKEN:
            raise InvariantViolation("only the gate authorises a request")
        self._token = token
        self._request = request
        self._asked = asked
        self._refused = refused
        self._asker = asker
        self._snapshot = snapshot

    @property
    def request(self) -> R_co:
        """The granted items, and nothing else."""
        return self._request

    @property
    def asked(self) -> R_co:
        """The request as it came; never to be acted on."""
        return self._asked

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """What was refused, each with its reason and the code for its part of the reply."""
        return self._refused

    @property
    def principal(self) -> Principal:
        """Who asked."""
        return self._asker.principal

    @property
    def policy_version(self) -> int:
        """The policy by which the request was judged."""
        return self._snapshot.version

    def permits(self, action: Action, resource: Resource) -> Decision:
        """A further decision for the same asker, by the same snapshot."""
        return self._snapshot.decide(self._asker, action, resource.kind, resource.name)

    def granted(self, action: Action, kind: ResourceKind, names: Iterable[N]) -> tuple[N, ...]:
        """Those of `names` on which the action is allowed, in their order.

        What a listing may count, page and show.
        """
        decide, asker = self._snapshot.decide, self._asker
        return tuple(name for name in names if decide(asker, action, kind, name).allowed)

    def refused_codes(self, kind: ResourceKind) -> Mapping[str, ErrorCode]:
        """The refused names of one kind, with their codes."""
        return {r.resource.name: r.code for r in self._refused if r.resource.kind is kind}

    def __copy__(self) -> NoReturn:
        """Refuses: a proof is not copied."""
        raise InvariantViolation("an authorised request is not copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refuses: a proof is not copied."""
        raise InvariantViolation("an authorised request is not copied")

    def __reduce__(self) -> NoReturn:
        """Refuses: a proof does not leave its process."""
        raise InvariantViolation("an authorised request is not copied")


def prove(authorized: object) -> None:
    """Raises InvariantViolation unless the gate made this value; for whoever calls handlers."""
    if type(authorized) is not Authorized or getattr(authorized, "_token", None) is not _TOKEN:
        raise InvariantViolation("a handler gets what the gate authorised, and nothing else")


class Gate:
    """Judges requests by the policy in force, on the event loop, without waiting for anything."""

    def __init__(
        self,
        policies: PolicySource,
        topics: TopicResolver,
        clock: Clock,
        *,
        catalogue: Mapping[type[Request], CatalogueEntry] = ALL_ROWS,
    ) -> None:
        """Compiles the policy in force; raises ConfigurationError if it is not one."""
        self._policies = policies
        self._topics = topics
        self._clock = clock
        self._catalogue = catalogue
        self._snapshot = self._compile(*policies.policy())

    @property
    def policy_version(self) -> int:
        """The version of the policy that was last judged by."""
        return self._snapshot.version

    @property
    def compiled_in_s(self) -> float:
        """How long the policy in force took to compile, on the event loop (for the metrics)."""
        return self._compiled_in_s

    def judge(
        self, principal: Principal, request: R, *, listener: str, address: str
    ) -> Authorized[R] | Denied:
        """Rules on a request of `principal` that came from `address` (an IP address, no port).

        Raises InvariantViolation for a type without a row in the catalogue.
        """
        entry = self._catalogue.get(type(request))
        if entry is None:
            raise InvariantViolation("every request that is served has a row in the catalogue")
        return self._judge(entry, Asker(principal, listener, address), request, request, ())

    def rejudge(self, authorized: Authorized[R]) -> Authorized[R] | Denied:
        """Rules again, by the policy of now, on what was granted: for requests that were parked.

        What was refused stays refused, what is refused now is added to it, and nothing comes back.
        The result is the same object if the policy is still the one it was judged by.
        """
        prove(authorized)
        entry = self._catalogue[type(authorized.request)]
        if entry.kind is EntryKind.OPEN:
            return authorized
        if not self._is_stale() and self._current() is authorized._snapshot:  # noqa: SLF001 - the gate's own class
            return authorized
        asker = authorized._asker  # noqa: SLF001 - the gate's own class
        return self._judge(entry, asker, authorized.request, authorized.asked, authorized.refused)

    def _judge(
        self,
        entry: CatalogueEntry,
        asker: Asker,
        request: R,
        asked: R,
        refused: tuple[Refusal, ...],
    ) -> Authorized[R] | Denied:
        if asker.principal.kind is not entry.asked_by or asker.listener not in entry.listeners:
            return Denied(entry.code, self._unruled(NOT_ASKED_HERE))
        if entry.kind is EntryKind.OPEN:
            return Authorized(_TOKEN, request, asked, refused, asker, self._snapshot)
        if self._is_stale():
            return Denied(entry.stale_code, self._unruled(STALE))
        snapshot = self._current()
        if entry.sole is not None and (name := entry.sole(request)) is not None:
            (row,) = entry.items
            if snapshot.decide(asker, row.action, row.kind, name).allowed:
                return Authorized(_TOKEN, request, asked, refused, asker, snapshot)
        return self._item_by_item(entry, request, asked, refused, asker=asker, snapshot=snapshot)

    def _item_by_item(
        self,
        entry: CatalogueEntry,
        request: R,
        asked: R,
        refused: tuple[Refusal, ...],
        *,
        asker: Asker,
        snapshot: PolicySnapshot,
    ) -> Authorized[R] | Denied:
        """Steps 5 to 7."""
        for need in entry.needs:
            name = need.name(request)
            if name is not None:
                decision = snapshot.decide(asker, need.action, need.kind, name)
                if not decision.allowed:
                    return Denied(need.code, decision, Resource(need.kind, name))
        if entry.resolve is not None:
            resolved = entry.resolve(request, self._topics)
            if resolved is not None:
                visible, refusals = _narrowed(entry, resolved, asker, snapshot)
                # What was left open is narrowed without a word about what is not in it.
                said = {(row.kind, name) for row in entry.items for name in row.names(request)}
                refused += tuple(
                    r for r in refusals or () if (r.resource.kind, r.resource.name) in said
                )
                return Authorized(_TOKEN, cast(R, visible), asked, refused, asker, snapshot)
        granted, refusals = _narrowed(entry, request, asker, snapshot)
        if refusals:
            refused = (*refused, *refusals)
        return Authorized(_TOKEN, cast(R, granted), asked, refused, asker, snapshot)

    def _is_stale(self) -> bool:
        # Written so that an age that is not a number counts as stale.
        return not self._policies.contact_age_s() <= MAX_POLICY_STALENESS_S

    def _current(self) -> PolicySnapshot:
        """The snapshot of the policy in force, compiled anew when it is another one."""
        version, text = self._policies.policy()
        snapshot = self._snapshot
        if version != snapshot.version or (text is not snapshot.text and text != snapshot.text):
            try:
                snapshot = self._compile(version, text)
            except ConfigurationError:
                # Checked before it was accepted, so a release that knew more must have done it.
                snapshot = PolicySnapshot.refusing(version, text)
            self._snapshot = snapshot
        return snapshot

    def _compile(self, version: int, text: str) -> PolicySnapshot:
        start = self._clock.monotonic()
        snapshot = PolicySnapshot.of(version, text)
        self._compiled_in_s = self._clock.monotonic() - start
        return snapshot

    def _unruled(self, rule: str) -> Decision:
        return Decision(False, rule, "", self._snapshot.version)


def _narrowed(
    entry: CatalogueEntry, request: Request, asker: Asker, snapshot: PolicySnapshot
) -> tuple[Request, list[Refusal] | None]:
    """The request with what is granted, and what is not; None for the latter if nothing."""
    decide = snapshot.decide
    refusals: list[Refusal] | None = None
    for row in entry.items:
        action, kind = row.action, row.kind
        names = row.names(request)
        refused: dict[str, Decision] = {}
        for name in names:
            decision = decide(asker, action, kind, name)
            if not decision.allowed:
                refused[name] = decision
        if refused:
            request = row.keep(request, {name for name in names if name not in refused})
            refusals = refusals or []
            refusals += [Refusal(Resource(kind, n), row.code, d) for n, d in refused.items()]
    return request, refusals
