"""Making a topic's records unreadable for good, in the five steps of DESIGN section 6.

1. The intent is committed: from its application on the topic refuses reads and writes.
2. Each node that holds some of the topic closes its logs, wipes their keys, spares and caches, and
   confirms (`broker.key_dropping`); where each log ended is kept by the catalogue, whose own domain
   is the cluster's. Enough nodes have to say so for each log; one that is not heard may be late.
3. The custodian, and nobody here, destroys the key.
4. It is checked: the key reads as gone, and no wrap of it opens. If a node is late, that is
   committed, and waited for is the end of its lease, which nothing prolongs without the key.
5. Completion is committed: the topic goes on, in other logs and under a new key; a signed
   certificate says what was done, who was late, and what it cannot vouch for.

Rules: each step may be asked for again, of whichever node leads the catalogue. Nothing is certified
that was not checked by this node.
"""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import trio

from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import Foundation
from appliance.coordination.commands import Topic
from appliance.coordination.key_commands import (
    BeginShred,
    CompleteShred,
    NoteKeyGone,
    Shredded,
    Shredding,
    TopicKeys,
)
from appliance.errors import ErrorCode, KeyGone, KeyProviderError, RequestError, StorageError
from appliance.ports import Signer
from appliance.types import KeyDomainId, NodeId, PartitionId, TimestampMs, TopicId

CONFIRMED_WITHIN_S = 10.0
"""For nodes that can be reached to drop the keys, before an answer says who has not yet."""
POLL_S = 0.02

NOT_VOUCHED_FOR = (
    "backups of the key server that still hold the destroyed key",
    "records that consumers, or whoever may have read the topic, have copied",
    "memory that the interpreter or the system has not overwritten yet",
)


class Statement(msgspec.Struct, frozen=True):
    """What a certificate of destruction says."""

    statement: str
    cluster: str
    topic: str
    topic_id: str
    shredding: str
    destroyed_key_domain: str
    begun: str
    completed: str
    nodes_that_dropped_their_keys: tuple[int, ...]
    nodes_that_were_late: tuple[int, ...]
    checked_by_node: int
    checks: tuple[str, ...]
    does_not_vouch_for: tuple[str, ...]


class NoSigner:
    """For a broker without a certificate of its own."""

    async def sign(self, _: str) -> str:
        """Refuses; see `ports.Signer`."""
        await trio.lowlevel.checkpoint()
        raise _refused("this node has no certificate to sign with")


NO_SIGNER = NoSigner()


class Progress(msgspec.Struct, frozen=True):
    """How far a shredding is.

    `missing` have not confirmed, and `unheard` of them are not heard. `is_ready` says that the key
    may be destroyed; after that, `left_s` is how long the lease of one that is late may still last.
    """

    domain: KeyDomainId
    shred: UUID
    missing: tuple[NodeId, ...]
    unheard: tuple[NodeId, ...]
    is_ready: bool
    left_s: float = 0.0


class Shredder:
    """Takes topics through the steps."""

    def __init__(self, foundation: Foundation, catalogue: Catalogue, signer: Signer) -> None:
        self._foundation = foundation
        self._catalogue = catalogue
        self._signer = signer
        self._gone_since_s: dict[UUID, float] = {}
        """When this node learnt that a key is gone; anew in each of its lives, to be safe."""

    def stepped(self, topic: TopicId) -> None:
        """A step about a topic's keys was applied."""
        keys = self._catalogue.topic_keys(topic)
        if keys is not None and keys.shredding is not None and keys.shredding.key_gone:
            now_s = self._foundation.clock.monotonic()
            self._gone_since_s.setdefault(keys.shredding.shred, now_s)

    async def begin(self, topic: Topic) -> Progress:
        """Step 1, and step 2 as far as it comes in a while; raises RequestError."""
        keys = self._keys_of(topic)
        if keys.shredding is None:
            members = self._catalogue.state.membership
            nodes = {node for p in topic.partitions for node in members.assignment(p).everyone}
            shred, now_ms = self._foundation.new_id(), self._foundation.clock.now_ms()
            command = BeginShred(topic.topic, shred, now_ms, tuple(sorted(nodes)))
            await self._catalogue.change_keys(command)
        with trio.move_on_after(CONFIRMED_WITHIN_S):
            while self._awaited(self._progress(topic)):  # noqa: ASYNC110 - told by a state machine
                await trio.sleep(POLL_S)
        return self._progress(topic)

    @staticmethod
    def _awaited(progress: Progress) -> bool:
        return not progress.is_ready

    def _progress(self, topic: Topic) -> Progress:
        """Where it stands; raises RequestError when it has ended meanwhile."""
        keys = self._keys_of(topic)
        shredding = _under_way(keys)
        alive = self._foundation.consensus.alive
        unheard = tuple(node for node in shredding.missing if not alive(node))
        decided = self._catalogue.state.judge_ends(topic, topic.partitions) is not None
        is_ready = decided and unheard == shredding.missing
        return Progress(keys.domain, shredding.shred, shredding.missing, unheard, is_ready)

    async def complete(self, topic: Topic) -> str | Progress:
        """Steps 4 and 5: the certificate, or whose lease is to end first; raises RequestError.

        After completion it gives the certificate of the last shredding once more.
        """
        keys = self._keys_of(topic)
        shredding = keys.shredding
        if shredding is not None:
            progress = self._progress(topic)
            if not progress.is_ready:
                names = ", ".join(map(str, shredding.missing))
                raise _refused(f"nodes {names} have not dropped their keys yet: begin again")
            await self._check_gone(topic, keys, shredding)
            if progress.unheard:
                left_s = await self._lease_left_s(topic, shredding)
                if left_s > 0:
                    return msgspec.structs.replace(progress, left_s=left_s)
            await self._go_on(topic, shredding, progress.unheard)
        return await self.certify(topic)

    async def _lease_left_s(self, topic: Topic, shredding: Shredding) -> float:
        """For how long a node that was not reached may still hold the key.

        Nobody earns a lease on a key that is gone, so it is counted from when that was committed.
        """
        if not shredding.key_gone:
            await self._catalogue.change_keys(NoteKeyGone(topic.topic, shredding.shred))
        now_s = self._foundation.clock.monotonic()
        since_s = self._gone_since_s.setdefault(shredding.shred, now_s)
        return max(0.0, since_s + self._foundation.storage.keys.lease_s - now_s)

    async def _go_on(self, topic: Topic, shredding: Shredding, late: tuple[NodeId, ...]) -> None:
        """Step 5, under a key that is there before anything says that it is the topic's."""
        fresh = KeyDomainId(self._foundation.new_id())
        await self._foundation.storage.keys.create_domain(fresh)
        await self._catalogue.change_keys(
            CompleteShred(
                topic.topic,
                shredding.shred,
                fresh,
                tuple(PartitionId(self._foundation.new_id()) for _ in topic.partitions),
                self._foundation.clock.now_ms(),
                late,
            )
        )
        self._gone_since_s.pop(shredding.shred, None)

    async def certify(self, topic: Topic) -> str:
        """The certificate of the last shredding; raises RequestError."""
        keys = self._keys_of(topic)
        if keys.last is None:
            raise _refused("no shredding of this topic is done")
        return await self._certificate(topic, keys.last)

    async def _check_gone(self, topic: Topic, keys: TopicKeys, shredding: Shredding) -> None:
        """Step 4; raises RequestError while the key is there or anything opens."""
        held = self._foundation.storage.keys
        trials = [each.trial for each in shredding.confirmations if each.trial is not None]
        try:
            opens = await held.any_opens(topic.partitions, keys.domain, trials)
            is_gone = False
            try:
                await held.status(keys.domain)
            except KeyGone:
                is_gone = True
        except (KeyProviderError, StorageError) as error:
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"the key cannot be checked now: {error}"
            ) from None
        if not is_gone:
            raise _refused(
                f"the key of domain {keys.domain} is still there: have a custodian destroy it"
            )
        if opens:
            raise _refused(f"a wrapped key of domain {keys.domain} still opens")

    async def _certificate(self, topic: Topic, done: Shredded) -> str:
        storage = self._foundation.storage
        statement = Statement(
            "The key that every record of this topic was sealed with before completion has been"
            " destroyed: no copy of the broker's files, made at any time, can be read any more.",
            str(storage.cluster),
            topic.name,
            str(topic.topic),
            str(done.shred),
            str(done.domain),
            _time(done.begun_ms),
            _time(done.completed_ms),
            tuple(sorted(done.confirmed)),
            done.late,
            storage.node,
            ("the key server answers that there is no such key", "no wrapped key opens"),
            NOT_VOUCHED_FOR,
        )
        text = msgspec.json.format(msgspec.json.encode(statement), indent=2).decode()
        return await self._signer.sign(text)

    def _keys_of(self, topic: Topic) -> TopicKeys:
        keys = self._catalogue.topic_keys(topic.topic)
        if keys is None:
            raise _refused(
                "the topic is sealed in the cluster's key domain, which other topics need: only a"
                " topic made with memorystreamer.key.domain=topic can be shredded; delete it"
                " instead"
            )
        return keys


def _under_way(keys: TopicKeys) -> Shredding:
    if keys.shredding is None:
        raise _refused("no shredding is under way")
    return keys.shredding


def _time(time_ms: TimestampMs) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def _refused(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, message)
