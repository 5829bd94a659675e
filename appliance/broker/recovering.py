"""What consensus must know of a log that was opened: its terms, and the members it names.

Rules: the newest configuration of the log is in force, decided or not (Raft paper, section 6); a
log that names none has the members of its snapshot, or those that it was made with. The headers of
the log are read for it, as far as the snapshot does not say, unless the catalogue says that this
node is the only member there is.
"""

from appliance.broker.peer_codec import configuration_in
from appliance.broker.snapshots import GroupSnapshot
from appliance.limits import MIB
from appliance.ports import HardState, PartitionLog
from appliance.raft.configuration import Configuration, Placed
from appliance.raft.ready import Recovered
from appliance.types import EntryKind, Index, Position, Term

SCAN_SLICE_BYTES = 8 * MIB


async def recover(
    log: PartitionLog,
    state: HardState,
    genesis: Configuration,
    *,
    scan: bool,
    known_last: Position | None = None,
    snapshot: GroupSnapshot | None = None,
) -> Recovered:
    """The start of a core; `known_last` is what a log that was cut once held.

    `snapshot` is what the log keeps of its entries, the members that they name among it.

    Raises DamageDetected, KeyProviderError.
    """
    base_index = Index(log.first_index - 1)
    placed = [Placed(Index(0), genesis)]
    index = log.first_index
    if scan and snapshot is not None:
        placed = snapshot.within(base_index, log.last.index)
        index = max(index, Index(snapshot.read_to + 1))
    while scan and index <= log.last.index:
        entries = await log.entries(index, log.last.index, SCAN_SLICE_BYTES)
        for entry in entries:
            if entry.header.kind is EntryKind.CONFIGURATION:
                found = configuration_in(entry)
                if found is not None:
                    placed.append(Placed(entry.header.index, found))
        index = Index(entries[-1].header.index + 1)
    base = Position(log.term_at(base_index) or Term(0), base_index)
    return Recovered(
        state=state,
        last=log.last,
        base=base,
        terms=tuple(_terms(log)),
        configurations=tuple(placed),
        snapshot=base,
        known_last=known_last if known_last is not None and known_last > log.last else None,
    )


def _terms(log: PartitionLog) -> list[Position]:
    """Where each term of the log begins."""
    found: list[Position] = []
    first, last = log.first_index, log.last.index
    while first <= last:
        term = log.term_at(first)
        if term is None:
            break
        found.append(Position(term, first))
        low, high = first, last
        while low < high:
            middle = Index((low + high + 1) // 2)
            if log.term_at(middle) == term:
                low = middle
            else:
                high = Index(middle - 1)
        first = Index(low + 1)
    return found
