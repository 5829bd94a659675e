"""What signals do to a node, and what it says of itself meanwhile."""

import signal
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
import trio

from appliance.errors import ConfigurationError
from appliance.keys.lease import Report, Standing
from appliance.ports import KeyHealth, ReplicationStanding
from appliance.server.peer_service import PeerService
from appliance.server.tls import ServerContexts

STOP_S: Final = 4.0
"""What is not finished by then, of the five seconds that a stop may take, is cut off."""

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class Control:
    """What signals do, which depends on how far the node has come."""

    def __init__(self) -> None:
        self.life = trio.CancelScope()
        self.stopping = trio.Event()
        self.contexts: tuple[ServerContexts, ...] = ()
        self.peers: PeerService | None = None
        self.serving = False
        """Whether clients are listened to."""
        self.ready = False
        """Whether they find here what is to lie here."""
        self.replication: Callable[[], ReplicationStanding] | None = None
        """How the replicas stand, while there are any."""
        self._refused_for: list[str] = []

    async def listen(self, signals: AsyncIterator[int]) -> None:
        """Acts on signals: the first that stops is obeyed in order, the next at once."""
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
                continue
            _log.info("stopping", signal=signal.Signals(number).name)
            if self.serving and not self.stopping.is_set():
                self.stopping.set()
                self.life.deadline = trio.current_time() + STOP_S
            else:
                self.life.cancel()

    @staticmethod
    def on_health(health: KeyHealth) -> None:
        """Says that the node waits for its keys, and why, or that they are there."""
        if health.serving:
            _log.info("the keys are there")
        elif health.alarm:
            _log.critical("waiting sealed: a credential may be stolen", advice=health.advice)
        else:
            _log.warning("waiting sealed: no keys, nothing is served", advice=health.advice)

    def on_refusal(self, reasons: list[str]) -> None:
        """Says, once for the same reasons, why the keys that are there do not open this node."""
        if reasons != self._refused_for:
            _log.error("waiting sealed: the keys do not open this node", reasons=reasons)
        self._refused_for = reasons

    def on_keys(self, report: Report) -> None:
        """Says how the node stands with its keys; while it waits sealed, `on_health` does."""
        if report.standing is Standing.LEASED:
            left_s = round(report.left_s)
            _log.warning("living on the lease of its keys", reason=report.reason, left_s=left_s)
        elif self.serving and report.standing is Standing.SERVING:
            _log.info("keys are served again")
        elif self.serving:
            _log.error("sealing: the lease of its keys has ended", reason=report.reason)

    def _reload(self) -> None:
        try:
            for contexts in self.contexts:
                contexts.reload()
            if self.peers is not None:
                self.peers.reload()
        except ConfigurationError as error:
            _log.error("reload failed, what was in force stays", reason=str(error))
        else:
            _log.info("certificates and revocation list read again")
