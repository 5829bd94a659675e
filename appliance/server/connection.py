"""One connection from its login to its end: frames in, requests dispatched, replies out in order.

Rules:
- All requests that have arrived are decoded and dispatched in one wake-up, before anything waits.
  Once its user has had a slice of the event loop's time it waits for its turn (`server.turns`).
- A dispatch that is awaited stops reading from this connection; a `Pending` one does not.
- Memory for a frame is admitted before it is held; a full budget stops reading, and drops nothing.
- No task, timer or cancel scope belongs to a request: the listener's sweep asks `overdue`.
- What breaks the protocol closes the connection, with a line in the log that holds no payload.
"""

from typing import Final, Generic

import msgspec
import structlog
import trio

from appliance.authn.login import Login
from appliance.broker.caller import Caller
from appliance.broker.pending import Pending
from appliance.errors import ApplianceError, ProtocolViolation
from appliance.limits import (
    MAX_CLOSE_S,
    MAX_FRAME_BYTES,
    MAX_FRAME_BYTES_UNAUTHENTICATED,
    MAX_FRAME_READ_S,
    MAX_IDLE_S,
    MAX_LOGIN_S,
    MAX_PIPELINED_REQUESTS,
    MAX_SEND_STALL_S,
)
from appliance.server.dialect import C, Dialect, Dispatch
from appliance.server.login_gate import LoginGate
from appliance.server.metering import Account, Rest, clock, told_ms
from appliance.server.replies import ReplyQueue
from appliance.server.shares import Share
from appliance.server.tls import TLSStream
from appliance.types import Principal
from appliance.wire.buffer import FrameBuffer
from appliance.wire.requests import Request, Response
from appliance.wire.session import Event, Session, State

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What one connection may cost; smaller in tests."""

    max_frame_bytes: int = MAX_FRAME_BYTES
    max_frame_read_s: float = MAX_FRAME_READ_S
    max_idle_s: float = MAX_IDLE_S
    max_send_stall_s: float = MAX_SEND_STALL_S
    max_pipelined_requests: int = MAX_PIPELINED_REQUESTS
    max_close_s: float = MAX_CLOSE_S


class Connection(Generic[C]):
    """A peer that has been verified, and what it asks."""

    def __init__(
        self,
        stream: TLSStream,
        caller: Caller,
        dialect: Dialect[C],
        dispatch: Dispatch,
        *,
        budgets: Share,
        limits: ConnectionLimits,
        login: Login | None = None,
    ) -> None:
        """Serves `caller` on `stream`, whose handshake is over; by `login` it says who it is."""
        self._stream = stream
        self._caller = caller
        self._dialect = dialect
        self._dispatch = dispatch
        self._shares = budgets
        self._share = share = budgets.of(caller.principal)
        """Held, so that it lasts as long as this connection."""
        self._turns = share.turns
        self._requests = budgets.requests.purse(share.requests)
        self._held_replies = budgets.replies.purse(share.replies)
        self._limits = limits
        self._max_pipelined = limits.max_pipelined_requests
        self._session = Session()
        self._gate = None if login is None else LoginGate(login, dispatch)
        self._session.on(Event.VERIFIED if login is None else Event.ENCRYPTED)
        self._since = trio.current_time()
        self._frames = FrameBuffer(MAX_FRAME_BYTES_UNAUTHENTICATED)
        self._replies = ReplyQueue(
            stream,
            dialect,
            requests=self._requests,
            replies=self._held_replies,
            turns=self._turns,
        )
        self._life = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._waiting_since: float | None = None
        self._frame_since: float | None = None
        self._frame_charge = 0
        self._stopping = False
        self._account: Account | None = None
        self._muted_until: float | None = None

    @property
    def state(self) -> State:
        """Where this connection is in its life."""
        return self._session.state

    @property
    def principal(self) -> Principal:
        """Whose connection this is."""
        return self._caller.principal

    async def serve(self) -> None:
        """Returns when the connection has ended, for whatever reason; the stream is left open."""
        try:
            with self._life:
                if self._gate is None:
                    await self._dispatch.login(self._caller)
                    self._admit_caller()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    nursery.cancel_scope.cancel()
        except ApplianceError as error:
            self._note("refused", error)
        finally:
            self._session.on(Event.END)
            self._replies.close()
            self._requests.release(self._frame_charge)
            self._frame_charge = 0

    def _admit_caller(self) -> None:
        self._session.on(Event.ADMITTED)
        self._open_account()
        self._frames.max_frame_bytes = self._limits.max_frame_bytes

    def _open_account(self) -> None:
        """Requests count for the caller from now on; who has not logged in has no quotas yet."""
        meter = self._dispatch.meter
        if meter is not None and self._session.state is State.SERVING:
            self._account = meter.account(self._caller)

    def stop(self) -> None:
        """Reads no more; replies that are on their way are finished within MAX_CLOSE_S."""
        self._stopping = True
        self._life.deadline = min(
            self._life.deadline, trio.current_time() + self._limits.max_close_s
        )
        if self._waiting_since is not None or self._muted_until is not None:
            self._reading.cancel()

    def cut(self, reason: str) -> None:
        """Ends the connection at once."""
        _log.info("connection cut", reason=reason, **self._where())
        self._life.cancel()

    def overdue(self, now: float) -> str | None:
        """Which time limit this connection has passed at `now` (trio's clock), or None."""
        if self._session.state is State.CLOSED:
            return None
        stalled = self._stream.send_stalled_since
        if stalled is not None and now - stalled > self._limits.max_send_stall_s:
            return "the peer does not read its replies"
        if self._session.state is State.LOGGING_IN and now - self._since > MAX_LOGIN_S:
            return "the login takes too long"
        if self._muted_until is not None:
            return None
        begun = self._frame_since
        if begun is not None and now - begun > self._limits.max_frame_read_s:
            return "a frame takes too long"
        waiting = self._waiting_since
        if waiting is None or begun is not None or not self._replies.idle:
            return None
        return "idle" if now - waiting > self._limits.max_idle_s else None

    # --- reading ---------------------------------------------------------------------------

    async def _read(self) -> None:
        """Reads until the peer ends, is cut off or the node stops; then sees replies off."""
        try:
            with self._reading:
                await self._read_requests()
            self._session.on(Event.STOP)
            self._life.deadline = min(
                self._life.deadline, trio.current_time() + self._limits.max_close_s
            )
            self._replies.flush_now()
            await self._replies.wait_idle()
        except trio.BrokenResourceError as error:
            self._note("lost", error)
        except ProtocolViolation as error:
            self._note("protocol violated", error)
        except ApplianceError as error:
            self._note("closed by a request", error)

    async def _read_requests(self) -> None:
        stream = self._stream
        while not self._stopping:
            self._waiting_since = trio.current_time()
            more = await stream.wait_data(self._turns)
            self._waiting_since = None
            if not more:
                if not self._frames.at_boundary:
                    raise ProtocolViolation("the peer ended within a frame")
                return
            while stream.has_data and not self._stopping:
                await self._take()
            self._replies.flush_now()

    async def _take(self) -> None:
        """Takes what one record, or for a large frame all that have arrived, brings."""
        if self._muted_until is not None:
            await self._sit_out(self._muted_until)
        if self._turns.used_up:
            await self._wait_for_turn()
        frames = self._frames
        begun = clock()
        if not frames.under_way:
            arrived = self._stream.take()
            self._turns.spent_s += clock() - begun
            await self._take_whole(arrived)
            if self._stopping:
                return
            if not frames.at_boundary:
                self._frame_since = self._frame_since or trio.current_time()
                head = frames.room_bytes
                await self._admit(head)
                self._frame_charge = head
            return
        growth = frames.growth
        if growth:
            await self._admit(growth)
            self._frame_charge += growth
            begun = clock()
        room = frames.writable()
        complete = frames.wrote(self._stream.take_into(room))
        room.release()
        self._turns.spent_s += clock() - begun
        if complete is not None:
            self._frame_charge = 0  # It is all of the frame, and the request's from here on.
            self._frame_since = None
            await self._handle(complete)

    async def _take_whole(self, arrived: bytearray) -> None:
        """Handles frames that have arrived whole; what they take is asked for at once if it can."""
        held = len(arrived)
        if not self._requests.try_acquire(held):
            held = 0
        try:
            for frame in self._frames.feed(arrived):
                self._frame_since = None
                if self._muted_until is not None:
                    await self._sit_out(self._muted_until)
                if self._turns.used_up:
                    await self._wait_for_turn()
                if held:
                    held -= len(frame)
                else:
                    await self._admit(len(frame))
                await self._handle(frame)
                if self._stopping:
                    return
        finally:
            self._requests.release(held)

    async def _admit(self, count: int) -> None:
        if not self._requests.try_acquire(count):
            self._replies.flush_now()
            await self._requests.acquire(count)

    async def _wait_for_turn(self) -> None:
        self._replies.flush_now()
        await self._turns.wait()

    async def _handle(self, frame: memoryview) -> None:
        """Decodes and dispatches one frame, for whose bytes the budget has been asked."""
        charge = len(frame)
        try:
            begun = clock()
            call = self._dialect.decode(frame)
            if call.client_id != self._caller.client_id:
                self._caller = msgspec.structs.replace(self._caller, client_id=call.client_id)
                self._open_account()
            replies = self._replies
            if replies.lingering or len(replies.entries) >= self._max_pipelined:
                await self._make_way()
                begun = clock()
            reply: Response | Pending | None = None
            if self._gate is not None:
                reply = await self._log_in(self._gate, call.request)
            throttle_ms = 0
            if reply is None:
                work = self._dispatch.dispatch(self._caller, call.request)
                try:
                    trap = work.send(None)
                except StopIteration as done:
                    reply, work_s = done.value, clock() - begun
                else:
                    rest, work_s = Rest(work, trap), clock() - begun
                    reply = await rest
                    work_s += rest.work_s
                self._turns.spent_s += work_s
                throttle_ms = self._charge(call.request, charge, work_s, reply)
            if reply is not None:
                replies.add(call, reply, charge, throttle_ms)
                charge = 0
        finally:
            if charge:
                self._requests.release(charge)

    async def _make_way(self) -> None:
        """Has replies sent that are ready, and waits until fewer are owed than may be."""
        replies = self._replies
        if len(replies.entries) >= self._max_pipelined:
            replies.flush_now()
            await replies.wait_below(self._max_pipelined)
        replies.wake()

    def _charge(
        self, request: Request, size: int, work_s: float, reply: Response | Pending | None
    ) -> int:
        """For how long the client is held back from now on, in milliseconds."""
        account = self._account
        if account is None:
            return 0
        throttle_ms = account.charge(request, size, work_s)
        if reply is not None and not isinstance(reply, Pending):
            throttle_ms = max(throttle_ms, told_ms(reply))
        if throttle_ms:
            self._muted_until = trio.current_time() + throttle_ms / 1000
        return throttle_ms

    async def _sit_out(self, until: float) -> None:
        """Reads nothing until the client has been held back for as long as it was told."""
        self._replies.flush_now()
        await trio.sleep_until(until)
        self._muted_until = None
        if self._frame_since is not None:
            self._frame_since = trio.current_time()

    async def _log_in(self, gate: LoginGate, request: Request) -> Response | None:
        """The answer to a message of a login; None for a request that may go on."""
        outcome = await gate.take(
            self._caller, request, serving=self._session.state is State.SERVING
        )
        if outcome is None:
            return None
        if outcome.caller is not None:
            self._session.on(Event.VERIFIED)
            self._caller = outcome.caller
            self._count_for(outcome.caller.principal)
            await self._dispatch.login(self._caller)
            self._admit_caller()
        elif outcome.ends:
            self._stopping = True
        return outcome.response

    def _count_for(self, principal: Principal) -> None:
        """What this connection holds and takes is this user's from now on."""
        self._share = share = self._shares.of(principal)
        self._turns = self._replies.turns = share.turns
        self._requests.hand_over(share.requests)
        self._held_replies.hand_over(share.replies)

    # --- writing ---------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            await self._replies.run()
        except trio.BrokenResourceError as error:
            self._note("lost", error)
            self._life.cancel()

    def _note(self, what: str, error: Exception) -> None:
        _log.info("connection ended", how=what, reason=str(error), **self._where())

    def _where(self) -> dict[str, str]:
        return {"listener": self._caller.listener, "address": self._caller.address}
