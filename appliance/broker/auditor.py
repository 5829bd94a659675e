"""What dispatch and handlers have recorded, and the bound on how often the same is.

Rules: a change is recorded before it takes effect, a refusal before it is answered; what cannot be
recorded is refused. A refusal that repeats one recorded within FOLDING_S, the same in everything,
is counted instead, and the count is recorded when the time is up: who keeps asking, or keeps
failing to log in, can neither flood the log nor hide in it.
"""

from collections.abc import Sequence

import msgspec
import structlog
import trio

from appliance.audit.events import Denial, Login, LoginRefused, LogShrunk, Mutation
from appliance.authz.decision import Decision, Denied, Refusal
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.errors import ErrorCode, RequestError, StorageError
from appliance.ports import AuditSink
from appliance.raft.ready import Shrunk
from appliance.types import PartitionId
from appliance.wire.requests import Request

log = structlog.get_logger()

FOLDING_S = 10
MAX_FOLDED = 4_096
"""Different refusals that are counted at once; more are recorded one by one."""


class Auditor:
    """Puts events together and has them recorded."""

    def __init__(self, sink: AuditSink, nursery: trio.Nursery) -> None:
        """Counts of repeated refusals are recorded by a task in `nursery`, while there are any."""
        self._sink = sink
        self._nursery = nursery
        self._repeats: dict[Denial | LoginRefused, int] = {}
        """Refusals recorded within the last FOLDING_S, and how often each has come since."""
        self._folding = False
        self._closed = False
        self._timer = trio.CancelScope()
        self._unfolding = trio.Lock()

    async def login(self, caller: Caller) -> None:
        """Records that a principal came in; raises StorageError, and it then has not."""
        await self._sink.record(
            [
                Login(
                    listener=caller.listener,
                    address=caller.address,
                    principal=str(caller.principal),
                    client_id=caller.client_id,
                )
            ]
        )

    async def login_failed(self, listener: str, address: str, reason: str) -> None:
        """Records that somebody was turned away; raises StorageError."""
        await self._record_refusals(
            [LoginRefused(listener=listener, address=address, reason=reason)]
        )

    async def log_shrunk(self, partition: PartitionId, shrunk: Shrunk) -> None:
        """Records that a node holds less than it acknowledged; nothing waits for it."""
        event = LogShrunk(
            listener="peer",
            address="",
            node=shrunk.node,
            partition=str(partition),
            acknowledged=shrunk.acknowledged,
            held=shrunk.held,
        )
        try:
            await self._sink.record([event])
        except StorageError as error:
            log.warning("an alarm cannot be recorded", reason=str(error))

    async def changing(
        self,
        caller: Caller,
        authorized: Authorized[Request],
        resources: tuple[str, ...],
        detail: str = "",
    ) -> None:
        """Records a change that is about to be made.

        Raises RequestError(KAFKA_STORAGE_ERROR) if it could not be, and then it is not made.
        """
        event = Mutation(
            listener=caller.listener,
            address=caller.address,
            principal=str(caller.principal),
            request=type(authorized.request).__name__,
            resources=resources,
            policy_version=authorized.policy_version,
            detail=detail,
            client_id=caller.client_id,
        )
        try:
            await self._sink.record([event])
        except StorageError:
            raise _unrecorded() from None

    async def denied(self, caller: Caller, request: Request, refusals: tuple[Refusal, ...]) -> None:
        """Records refused items; raises RequestError(KAFKA_STORAGE_ERROR) if that failed."""
        await self._record_denials(
            [
                _denial(caller, request, refusal.code, refusal.decision, refusal)
                for refusal in refusals
            ]
        )

    async def denied_whole(self, caller: Caller, request: Request, denied: Denied) -> None:
        """Records a refused request; raises RequestError(KAFKA_STORAGE_ERROR) if that failed."""
        await self._record_denials([_denial(caller, request, denied.code, denied.decision, denied)])

    async def _record_denials(self, denials: list[Denial]) -> None:
        try:
            await self._record_refusals(denials)
        except StorageError:
            raise _unrecorded() from None

    async def _record_refusals(self, refusals: Sequence[Denial | LoginRefused]) -> None:
        fresh = []
        for refusal in dict.fromkeys(refusals):
            if refusal in self._repeats:
                self._repeats[refusal] += 1
            else:
                fresh.append(refusal)
        if not fresh:
            return
        await self._sink.record(fresh)
        for refusal in fresh:
            if len(self._repeats) < MAX_FOLDED:
                self._repeats.setdefault(refusal, 0)
        if not self._folding:
            self._folding = True
            self._nursery.start_soon(self._unfold_later)

    async def _unfold_later(self) -> None:
        with trio.CancelScope() as self._timer:
            while self._repeats and not self._closed:
                await trio.sleep(FOLDING_S)
                await self.unfold()
        self._folding = False

    async def close(self) -> None:
        """Records the counts that are open."""
        self._closed = True  # also for a timer that has not begun yet
        self._timer.cancel()
        await self.unfold()

    async def unfold(self) -> None:
        """Records the counts of repeated refusals; those that cannot be are kept for later."""
        async with self._unfolding:
            counted = dict(self._repeats)
            events = [
                msgspec.structs.replace(refusal, count=count)
                for refusal, count in counted.items()
                if count
            ]
            # A cancellation between the record and the subtraction would count them twice.
            with trio.CancelScope(shield=True):
                try:
                    await self._sink.record(events)
                except StorageError as error:
                    log.warning("refusals cannot be recorded", reason=str(error))
                    return
            for refusal, count in counted.items():
                self._repeats[refusal] -= count
                if self._repeats[refusal] == 0:
                    del self._repeats[refusal]


def _denial(
    caller: Caller,
    request: Request,
    code: ErrorCode,
    decision: Decision,
    what: Refusal | Denied,
) -> Denial:
    resource = what.resource
    return Denial(
        listener=caller.listener,
        address=caller.address,
        principal=str(caller.principal),
        request=type(request).__name__,
        code=code,
        rule=decision.rule,
        policy_version=decision.policy_version,
        resource_kind=resource.kind if resource is not None else "",
        resource=resource.name if resource is not None else "",
        client_id=caller.client_id,
    )


def _unrecorded() -> RequestError:
    return RequestError(ErrorCode.KAFKA_STORAGE_ERROR, "the audit log cannot be written")
