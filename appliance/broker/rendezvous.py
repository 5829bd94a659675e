"""Where to look for other nodes while the catalogue cannot say yet: what its log holds.

Rules: what is decided is learned from a leader, and a leader needs a quorum that finds each other.
After all nodes fell at once the entries of the log are therefore read before any of them is known
to be decided. That does no harm: an address is only ever a place to look for a certificate of that
node (`peering`), and what the catalogue says later stands above it.
"""

import msgspec

from appliance.coordination.cluster_commands import AdmitNode, AnnounceNode, RetireNode
from appliance.coordination.commands import Endpoint
from appliance.limits import MIB
from appliance.ports import PartitionLog
from appliance.types import EntryKind, Index, NodeId

_SLICE_BYTES = 8 * MIB
_DECODER = msgspec.msgpack.Decoder(AdmitNode | AnnounceNode | RetireNode)


async def remembered(log: PartitionLog, listener: str) -> dict[NodeId, Endpoint]:
    """Where each node's `listener` was said to be, the latest word counting.

    Raises DamageDetected, KeyProviderError.
    """
    found: dict[NodeId, Endpoint] = {}
    index = log.first_index
    while index <= log.last.index:
        entries = await log.entries(index, log.last.index, _SLICE_BYTES)
        for entry in entries:
            if entry.header.kind is not EntryKind.COMMAND:
                continue
            try:
                command = _DECODER.decode(entry.payload)
            except msgspec.ValidationError:
                continue  # a command about something else
            _learn(found, command, listener)
        index = Index(entries[-1].header.index + 1)
    return found


def _learn(
    found: dict[NodeId, Endpoint], command: AdmitNode | AnnounceNode | RetireNode, listener: str
) -> None:
    match command:
        case AdmitNode():
            found[command.node] = command.address
        case AnnounceNode():
            for endpoint in command.endpoints:
                if endpoint.listener == listener:
                    found[command.node] = endpoint
        case RetireNode():
            found.pop(command.node, None)
