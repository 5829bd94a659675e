"""What has come to be since the last Ready, as it gathers.

Rules: each thing is handed out once. Entries that are taken back before they were handed out never
reach the shell.
"""

from appliance.ports import HardState
from appliance.raft.configuration import Placed
from appliance.raft.messages import PeerMessage, Run, SnapshotOffer
from appliance.raft.ready import Leadership, ReadState, Ready, SendEntries, Shrunk
from appliance.types import Index


class Outbox:
    """Outputs by kind, until `Core.ready` takes them."""

    __slots__ = ("configuration", "entries", "hard_state", "install", "leadership", "messages",
                 "reads", "reads_lost", "sends", "shrunk", "truncate_after")  # fmt: skip

    def __init__(self) -> None:
        """Starts empty."""
        self.hard_state: HardState | None = None
        self.truncate_after: Index | None = None
        self.entries: list[Run] = []
        self.messages: list[PeerMessage] = []
        self.sends: list[SendEntries] = []
        self.install: SnapshotOffer | None = None
        self.reads: list[ReadState] = []
        self.reads_lost: list[int] = []
        self.leadership: Leadership | None = None
        self.configuration: Placed | None = None
        self.shrunk: list[Shrunk] = []

    def truncate(self, after: Index) -> None:
        """Entries behind an index are void, whether the shell has them already or not."""
        entries = self.entries
        if not entries or entries[0].first > after + 1:
            entries.clear()
            self.truncate_after = after
            return
        while entries and entries[-1].last > after:
            run = entries.pop()
            if run.first <= after:
                entries.append(run.upto(after))

    def ready(self, commit: Index) -> Ready:
        """Everything gathered, as one value; an outbox is used once."""
        return Ready(
            self.hard_state,
            self.truncate_after,
            tuple(self.entries),
            commit,
            tuple(self.messages),
            tuple(self.sends),
            self.install,
            tuple(self.reads),
            tuple(self.reads_lost),
            self.leadership,
            self.configuration,
            tuple(self.shrunk),
        )
