"""Everything between this node and the others: its peer listener, and its connections to theirs.

Rules: both sides have certificates of nodes and take the hybrid key exchange only, whatever clients
are allowed; what peers hold in memory is reserved for them (DESIGN section 8).
"""

from collections.abc import Callable

import trio

from appliance.broker.peering import Peers
from appliance.limits import MAX_PEER_FRAME_BYTES
from appliance.ports import Entropy
from appliance.server.connection import ConnectionLimits
from appliance.server.dialect import Dispatch
from appliance.server.dialects import PeerDialect
from appliance.server.listener import Listener
from appliance.server.peers import PeerConnections
from appliance.server.shares import Share
from appliance.server.tls import ClientContexts, ServerContexts, TLSFiles
from appliance.types import Principal


class PeerService:
    """Bound first, then run until cancelled."""

    def __init__(
        self,
        peers: Peers,
        dispatch: Dispatch,
        authenticate: Callable[[bytes], Principal],
        *,
        files: TLSFiles,
        budgets: Share,
        entropy: Entropy,
    ) -> None:
        """`authenticate` lets nodes in only. Raises ConfigurationError for unusable files."""
        self._incoming = ServerContexts(files, "required")
        self._outgoing = ClientContexts(files, "required")
        self._listener = Listener(
            "peer",
            PeerDialect(),
            dispatch,
            authenticate,
            contexts=self._incoming,
            budgets=budgets,
            connection_limits=ConnectionLimits(max_frame_bytes=MAX_PEER_FRAME_BYTES),
        )
        self._connections = PeerConnections(
            peers, lambda: self._outgoing.current, authenticate, entropy
        )

    def reload(self) -> None:
        """Reads the TLS files again. Raises ConfigurationError, and what was in force stays."""
        self._incoming.reload()
        self._outgoing.reload()

    async def bind(self, host: str, port: int) -> int:
        """Takes the address; the port that was taken. Raises ConfigurationError."""
        return await self._listener.bind(host, port)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens to other nodes and keeps connections to them."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listener.serve)
            nursery.start_soon(self._connections.run)
            task_status.started()
