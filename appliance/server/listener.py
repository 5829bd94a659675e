"""Accepts connections on one address and sees each through its life.

Rules:
- `bind` comes first and fails clearly; nothing is accepted before `serve`.
- Limits are applied before TLS costs anything, TLS begins with a peer's first byte, and running out
  of descriptors is survived.
- What peers cost before they are known is paid in turns (`appliance.server.strangers`).
- A peer is let in by its verified certificate, or on a listener for logins by a login inside TLS,
  and by nothing else; who is not is recorded, and nothing is read.
- Time limits of all connections are kept by one sweep, which sleeps while there are none.
"""

import errno
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, Generic

import structlog
import trio

from appliance.broker.caller import Caller
from appliance.errors import ApplianceError, AuthenticationFailed, ConfigurationError
from appliance.limits import (
    ACCEPT_PAUSE_S,
    CONNECTION_SWEEP_S,
    MAX_HANDSHAKE_S,
    MAX_THROTTLE_S,
    MAX_THROTTLED_SOCKETS,
)
from appliance.server.admission import Admission, AdmissionLimits, descriptors_of_clients, origin_of
from appliance.server.connection import Connection, ConnectionLimits
from appliance.server.dialect import C, Dialect, Dispatch
from appliance.server.login_gate import NOBODY, ByLogin
from appliance.server.shares import Share
from appliance.server.strangers import StrangersLines
from appliance.server.tls import ServerContexts, TLSStream
from appliance.types import Principal

_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SOCKET_GONE: Final = (errno.EBADF, errno.ENOTSOCK, errno.EINVAL)
_BACKLOG: Final = 1024

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class Listener(Generic[C]):
    """One listener: an address, a dialect, and who may come in."""

    def __init__(
        self,
        name: str,
        dialect: Dialect[C],
        dispatch: Dispatch,
        authenticate: Callable[[bytes], Principal] | ByLogin,
        *,
        contexts: ServerContexts,
        budgets: Share,
        connection_limits: ConnectionLimits | None = None,
        admission_limits: AdmissionLimits | None = None,
    ) -> None:
        """A listener that is not bound yet.

        Args:
            name: `kafka`, `native` or `peer`, as callers and logs carry it.
            dialect: the protocol spoken here.
            dispatch: who answers requests.
            authenticate: a verified certificate (DER) to a principal, raises AuthenticationFailed;
                or the login that each connection has to go through instead.
            contexts: TLS for new connections; may be reloaded at any time.
            budgets: the node's memory, and its time for peers that are not known yet.
            connection_limits: what one connection may cost.
            admission_limits: how many there may be.
        """
        self.name = name
        self._dialect = dialect
        self._dispatch = dispatch
        self._authenticate = authenticate
        self._contexts = contexts
        self._budgets = budgets
        self._strangers = budgets.strangers
        self._lines = StrangersLines()
        self._connection_limits = connection_limits or ConnectionLimits()
        self._meter = dispatch.meter
        # Nodes have no meter; the descriptors that clients leave are for them too.
        descriptors = sys.maxsize if self._meter is None else descriptors_of_clients()
        self._admission = Admission(admission_limits or AdmissionLimits(), descriptors)
        self._throttled: deque[tuple[float, trio.socket.SocketType]] = deque()
        self._sockets: list[trio.SocketListener] = []
        self._connections: set[Connection[C]] = set()
        self._someone = trio.Event()
        self._no_one = trio.Event()
        self._stopped = trio.Event()
        self._accepting = trio.CancelScope()

    @property
    def connection_count(self) -> int:
        """Connections that are being served."""
        return len(self._connections)

    async def bind(self, host: str, port: int) -> int:
        """Takes the address; the port that was taken, which matters when `port` is 0.

        Raises:
            ConfigurationError: the address is in use or is not this machine's.
        """
        try:
            self._sockets = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
        except OSError as error:
            table = "peers" if self.name == "peer" else self.name
            where = f"listeners.{table}: bind {host}:{port}"
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"{where}: the port is in use; stop what uses it or choose another"
                ) from None
            raise ConfigurationError(f"{where}: {error.strerror or error}") from None
        return int(self._sockets[0].socket.getsockname()[1])

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until `stop`, then until connections have finished their replies."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                task_status.started()
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener in self._sockets:
                            accepting.start_soon(self._accept, listener, nursery)
                await self._finish()
                nursery.cancel_scope.cancel()
        finally:
            for listener in self._sockets:
                listener.socket.close()
            self._close_throttled(float("inf"))

    def stop(self) -> None:
        """Accepts no more, reads no more; `serve` returns when replies have been sent."""
        self._stopped.set()
        self._accepting.cancel()

    def cut(self, principal: Principal, reason: str) -> None:
        """Ends every connection of a principal at once, such as one that was revoked."""
        for connection in tuple(self._connections):
            if connection.principal == principal:
                connection.cut(reason)

    # --- accepting -------------------------------------------------------------------------

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                accepted, peer = await listener.socket.accept()
            except OSError as error:
                if error.errno in _SOCKET_GONE:
                    raise
                if error.errno in _OUT_OF_RESOURCES:
                    _log.error("cannot accept connections", listener=self.name, why=error.strerror)
                    await trio.sleep(ACCEPT_PAUSE_S)
                continue
            async with self._strangers:
                address = str(peer[0])
                origin = origin_of(address)
                if self._comes_too_early(accepted, address, origin):
                    continue
                if self._admission.enter(origin, accepted.fileno()):
                    nursery.start_soon(self._host, accepted, address, origin)
                else:
                    accepted.close()
                    self._someone.set()

    def _comes_too_early(self, accepted: trio.socket.SocketType, address: str, origin: str) -> bool:
        """Whether the address connects faster than it may; then the connection is refused.

        It is closed when the wait is over rather than at once, so that a client that connects
        again as soon as it can does so at the rate it has (KIP-612).
        """
        wait_s = 0.0 if self._meter is None else self._meter.connection(address, origin)
        if wait_s <= 0:
            return False
        self._admission.refused += 1
        self._someone.set()
        if len(self._throttled) >= MAX_THROTTLED_SOCKETS:
            accepted.close()
        else:
            until = trio.current_time() + min(wait_s, MAX_THROTTLE_S)
            self._throttled.append((until, accepted))
        return True

    def _close_throttled(self, now: float) -> None:
        waiting = self._throttled
        for _ in range(len(waiting)):
            until, refused = waiting.popleft()
            if until <= now:
                refused.close()
            else:
                waiting.append((until, refused))

    async def _host(self, accepted: trio.socket.SocketType, address: str, origin: str) -> None:
        stream: TLSStream | None = None
        principal: Principal | None = None
        try:
            try:
                with trio.fail_after(MAX_HANDSHAKE_S):
                    await trio.lowlevel.wait_readable(accepted)
                    async with self._strangers:
                        stream = TLSStream(trio.SocketStream(accepted), self._contexts.current)
                    await stream.do_handshake(self._strangers)
                principal = await self._judge(stream)
            except AuthenticationFailed as error:
                await self._turn_away(address, str(error))
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                self._note_no_handshake(address, str(error) or "it took too long")
                return
            finally:
                self._admission.handshake_over(origin)
            if stream is None:
                return
            if principal is not None and not self._stopped.is_set():
                await self._converse(stream, Caller(principal, self.name, address))
            else:
                await stream.aclose()
        finally:
            if stream is not None:
                stream.abandon()
            accepted.close()
            self._admission.leave(origin)

    async def _judge(self, stream: TLSStream) -> Principal:
        """Who the peer is, by its certificate; nobody where it has yet to log in."""
        if isinstance(self._authenticate, ByLogin):
            return NOBODY
        async with self._strangers:
            return self._authenticate(stream.peer_certificate_der)

    def _note_no_handshake(self, address: str, why: str) -> None:
        self._someone.set()
        if self._lines.may_write():
            _log.info("no handshake", listener=self.name, address=address, why=why)

    async def _turn_away(self, address: str, reason: str) -> None:
        self._someone.set()
        if self._lines.may_write():
            _log.warning("peer refused", listener=self.name, address=address, why=reason)
        try:
            await self._dispatch.login_failed(self.name, address, reason)
        except ApplianceError as error:
            _log.error("a refusal could not be recorded", listener=self.name, why=str(error))

    async def _converse(self, stream: TLSStream, caller: Caller) -> None:
        connection = Connection(
            stream,
            caller,
            self._dialect,
            self._dispatch,
            budgets=self._budgets,
            limits=self._connection_limits,
            login=self._authenticate.begin() if isinstance(self._authenticate, ByLogin) else None,
        )
        self._connections.add(connection)
        self._someone.set()
        try:
            await connection.serve()
            await stream.aclose()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._no_one.set()

    # --- time and the end ------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await self._someone.wait()
            await trio.sleep(CONNECTION_SWEEP_S)
            now = trio.current_time()
            for connection in tuple(self._connections):
                reason = connection.overdue(now)
                if reason is not None:
                    connection.cut(reason)
            self._close_throttled(now)
            if self._admission.refused:
                _log.warning(
                    "connections over the limits", listener=self.name, count=self._admission.refused
                )
                self._admission.refused = 0
            if left_out := self._lines.renew():
                _log.warning("peers not let in without a line", listener=self.name, count=left_out)
            if not self._connections and not self._throttled:
                self._someone = trio.Event()

    async def _finish(self) -> None:
        """Stops every connection and waits for the last; MAX_CLOSE_S and a linger at most."""
        for connection in tuple(self._connections):
            connection.stop()
        while self._connections:
            self._no_one = trio.Event()
            await self._no_one.wait()
