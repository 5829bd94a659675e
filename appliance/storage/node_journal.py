"""The node journal as its node uses it: what it remembers, its sequence, and when it begins anew.

A journal that has grown is replaced while the node runs: a fresh one begins with all that is
remembered, the identity names it, and the old one goes. Records wait meanwhile, so that none is in
the old one alone.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

import trio

from appliance.crypto.keyring import file_key
from appliance.crypto.sealed import Place, Purpose
from appliance.errors import DamageDetected
from appliance.limits import MAX_JOURNAL_BYTES, NUMBERS_PER_LIFE
from appliance.ports import Entropy, SecretKey
from appliance.storage.disk import Disk
from appliance.storage.identity import CONTROL
from appliance.storage.journal import FileJournal, open_journal
from appliance.storage.marks import (
    AnyRecord,
    LifeRecord,
    LossRecord,
    MarkRecord,
    Remembered,
    VoteRecord,
)
from appliance.types import ClusterId, PartitionId


class JournalHome:
    """Where a node's journals lie, and what they are sealed with."""

    def __init__(self, disk: Disk, cluster: ClusterId, key: SecretKey, entropy: Entropy) -> None:
        """`key` is the node's data key of the cluster's domain."""
        self.disk = disk
        self.entropy = entropy
        self._cluster = cluster
        self._key = key

    def opened(self, name: str, file: UUID, mark: MarkRecord | None = None) -> FileJournal:
        """Opens a journal, or makes it. Blocks. Raises DamageDetected, StorageError.

        `mark` is what the node journal attests of it, where that is another journal.
        """
        place = Place(Purpose.JOURNAL, self._cluster, CONTROL, file)
        key = file_key(self._key, place.encoded())
        durable_end = 0 if mark is None else mark.length
        return open_journal(
            self.disk, name, place=place, key=key, entropy=self.entropy, durable_end=durable_end
        )

    def of_node(self, file: UUID) -> FileJournal:
        """The node journal of this id; see `opened`."""
        return self.opened(_name(file), file)


class NodeJournal:
    """Votes and marks, as they are and as they last."""

    def __init__(
        self, home: JournalHome, file: UUID, journal: FileJournal, remembered: Remembered
    ) -> None:
        """For `create` and `open`."""
        self._home = home
        self._file = file
        self._journal = journal
        self._remembered = remembered
        self._rotated: trio.Event | None = None

    @classmethod
    def create(cls, home: JournalHome) -> "NodeJournal":
        """Makes one that no identity names yet. Blocks."""
        file = UUID(bytes=home.entropy.random_bytes(16))
        return cls(home, file, home.of_node(file), Remembered())

    @classmethod
    async def open(cls, home: JournalHome, file: UUID) -> "NodeJournal":
        """Opens the one that the identity names. Raises DamageDetected if it is not whole."""
        if _name(file) not in home.disk.names("."):
            raise DamageDetected("the node journal is gone: this node must not return under its id")
        journal = home.of_node(file)
        remembered = Remembered()
        remembered.replay(await journal.read_all())
        return cls(home, file, journal, remembered)

    @property
    def file(self) -> UUID:
        """The id that the identity must name."""
        return self._file

    @property
    def sequence(self) -> int:
        """How many records are durable, of this journal and those before it."""
        return self._remembered.sequence + self._journal.durable_records

    def vote(self, partition: PartitionId) -> VoteRecord | None:
        """The newest vote of a group."""
        return self._remembered.votes.get(partition)

    def mark(self, partition: PartitionId) -> MarkRecord | None:
        """The newest mark of a log."""
        return self._remembered.marks.get(partition)

    def loss(self, partition: PartitionId) -> LossRecord | None:
        """What a damaged log once held, and does not again yet."""
        return self._remembered.losses.get(partition)

    async def begin_life(self, at_least: int) -> int:
        """A number that is larger than any before it; see `ports.NodeStorage.begin_life`."""
        number = max(at_least, self._remembered.life.number + NUMBERS_PER_LIFE)
        await self.record([LifeRecord(number)])
        return number

    async def record(self, records: Sequence[AnyRecord]) -> None:
        """Returns when the records are durable; concurrent calls share one sync."""
        while self._rotated is not None:
            await self._rotated.wait()
        await self._journal.append([self._remembered.apply(record) for record in records])

    async def rotate_if_grown(self, name: Callable[[UUID], None]) -> None:
        """Begins anew if the journal has grown; `name` has the identity name it, and blocks."""
        if self._journal.end <= MAX_JOURNAL_BYTES:
            return
        self._rotated = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                await self._rotate(name)
        finally:
            self._rotated.set()
            self._rotated = None

    async def _rotate(self, name: Callable[[UUID], None]) -> None:
        old, old_file, home = self._journal, self._file, self._home
        file = UUID(bytes=home.entropy.random_bytes(16))
        fresh = await trio.to_thread.run_sync(home.of_node, file)
        sequence = self._remembered.sequence + old.accepted_records
        await fresh.append(self._remembered.snapshot(sequence))
        await trio.to_thread.run_sync(name, file)
        self._journal, self._file = fresh, file
        self._remembered.sequence = sequence - 1  # the fresh one counts its first record too
        await old.close()
        await trio.to_thread.run_sync(home.disk.remove, _name(old_file))

    async def close(self) -> None:
        """Seals a stop frame and lets go of the file."""
        await self._journal.close()


def _name(file: UUID) -> str:
    return f"node-{file}"
