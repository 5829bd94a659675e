"""The live topics of this node: names to partitions, opened as this node is to hold them.

Rules: a topic exists when its creation is committed, and is gone when its deletion is; its logs are
made after the one and removed after the other, so a crash between leaves something to make at first
use, or to remove at the next start, and never data without a topic or a topic without its data. A
partition that is held here alone is opened when it is first used; one that others hold too is
opened as soon as the catalogue says so, because they need its vote.
"""

import msgspec
import structlog
import trio

from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import Foundation
from appliance.broker.key_domains import TopicDomains
from appliance.broker.partition import Partition, PartitionState
from appliance.broker.placement import Placement
from appliance.broker.redirect import NotLeader
from appliance.broker.replica import Replica
from appliance.broker.settling import Settling
from appliance.broker.topic_names import check_topic_name
from appliance.broker.topic_settings import Given, TopicSettings, check_settings, meaning
from appliance.coordination.cluster_commands import Assignment
from appliance.coordination.commands import Topic
from appliance.coordination.key_commands import LogEnd, TopicShredded
from appliance.errors import (
    DamageDetected,
    ErrorCode,
    KeyGone,
    KeyProviderError,
    RequestError,
    StorageError,
)
from appliance.limits import MAX_LEADER_WAIT_S
from appliance.ports import BEGINNING_OF_LOGS
from appliance.raft.configuration import Configuration
from appliance.types import (
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    PartitionIndex,
    TopicId,
    TopicName,
)

log = structlog.get_logger()

MADE_AT_ONCE = 16
"""Partitions of a new topic that are led before it is answered for."""


class LiveTopic(msgspec.Struct):
    """A topic of the catalogue, its settings' meaning, and those partitions that are open."""

    topic: Topic
    settings: TopicSettings
    partitions: list[Partition | None]
    deleted: bool = False


class Topics:
    """Every topic, as handlers use them."""

    def __init__(
        self,
        foundation: Foundation,
        catalogue: Catalogue,
        placement: Placement,
        domains: TopicDomains,
    ) -> None:
        """Follows the catalogue from now on."""
        self._foundation = foundation
        self._domains = domains
        self._catalogue = catalogue
        self._placement = placement
        self._live: dict[TopicName, LiveTopic] = {}
        self._places: dict[PartitionId, tuple[TopicName, PartitionIndex]] = {}
        self._opening: dict[PartitionId, trio.Lock] = {}
        self._repaired: set[PartitionId] = set()
        """Damaged logs that are being cut: others serve them."""
        self._settling = Settling(foundation.nursery, self._settle)
        self.following = False
        """Whether what others hold too is opened here as the catalogue says."""
        self._closed = False
        catalogue.on_created = self._created
        catalogue.on_deleted = self._forget
        catalogue.on_changed = self._change
        foundation.consensus.on_unknown = self.settle

    def names(self) -> tuple[TopicName, ...]:
        """Every topic, sorted."""
        return self._catalogue.topic_names()

    def find(self, name: TopicName, topic_id: TopicId | None = None) -> LiveTopic | None:
        """A topic, or None; None also if it has another id than the one that is meant."""
        live = self._find(name)
        if topic_id is not None and live is not None and live.topic.topic != topic_id:
            return None
        return live

    def _find(self, name: TopicName) -> LiveTopic | None:
        live = self._live.get(name)
        if live is None:
            topic = self._catalogue.state.topics.get(name)
            if topic is None:
                return None
            slots: list[Partition | None] = [None] * len(topic.partitions)
            live = self._live[name] = LiveTopic(topic, meaning(topic.settings), slots)
        return live

    async def partition(
        self, name: TopicName, index: PartitionIndex, topic_id: TopicId | None = None
    ) -> Partition:
        """A partition that this node leads, opened if need be; `find` says which topic is meant.

        Raises RequestError: UNKNOWN_TOPIC_OR_PARTITION; NotLeader; KAFKA_STORAGE_ERROR, which
        clients try again, while its files or its keys cannot be had.
        """
        live = self.find(name, topic_id)
        if live is None or not 0 <= index < len(live.partitions):
            raise _unknown()
        partition = live.partitions[index]
        if partition is None:
            partition = await self._open(live, index)
        if not partition.replica.serving:
            await self._led(live.topic.partitions[index], partition)
        return partition

    async def readable(
        self,
        name: TopicName,
        index: PartitionIndex,
        topic_id: TopicId | None,
        reader_rack: str,
    ) -> Partition:
        """A partition to read from: led here, or followed here and read from this node's rack.

        A follower shows what it knows to be committed (KIP-392). One that hears no leader sends
        its readers away. Raises RequestError as `partition`.
        """
        if self._placement.stands_in(reader_rack):
            live = self.find(name, topic_id)
            if live is not None and 0 <= index < len(live.partitions):
                partition = live.partitions[index]
                if partition is not None and partition.follows:
                    return partition
        return await self.partition(name, index, topic_id)

    async def size_here(self, live: LiveTopic, index: PartitionIndex) -> int | None:
        """What a partition's files on this node amount to, whoever leads it; None if it has none.

        One that is to lie here and was never used has none yet: 0, and none are made for it.
        Raises RequestError, as `partition`, for one that cannot be opened.
        """
        if not 0 <= index < len(live.partitions):
            return None
        group, partition = live.topic.partitions[index], live.partitions[index]
        if partition is None:
            if (
                self._foundation.node
                not in self._catalogue.state.membership.assignment(group).everyone
            ):
                return None
            if group not in self._foundation.held:
                return 0
            partition = await self._open(live, index)
        return partition.size_bytes

    async def _led(self, group: PartitionId, partition: Partition) -> None:
        """Waits a moment for this node to lead, if nobody else does; raises RequestError."""
        replica = partition.replica
        if replica.failed and len(replica.configuration.members) == 1:
            return  # what was committed can still be read
        with trio.move_on_after(MAX_LEADER_WAIT_S):
            try:
                await replica.wait_serving()
            except RequestError:
                pass
            except (StorageError, KeyProviderError):
                raise _unopened() from None
        if not replica.serving:
            raise NotLeader(self._placement.leader(group))

    async def _open(self, live: LiveTopic, index: PartitionIndex) -> Partition:
        partition_id = live.topic.partitions[index]
        if partition_id in self._repaired:
            raise NotLeader(self._placement.leader(partition_id))
        async with self._opening.setdefault(partition_id, trio.Lock()):
            partition = live.partitions[index]
            if partition is not None:
                return partition
            if live.deleted:
                raise _unknown()
            if self._closed:
                raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the node is stopping")
            assignment = self._catalogue.state.membership.assignment(partition_id)
            if self._foundation.node not in assignment.everyone:
                raise NotLeader(self._placement.leader(partition_id))
            partition = await self._opened(live, partition_id, assignment)
            if live.topic.partitions[index] != partition_id:
                await self._close(partition)
                raise _unopened()  # it was shredded meanwhile, and another log takes its place
            live.partitions[index] = partition
        self._opening.pop(partition_id, None)
        if self._live.get(live.topic.name) is not live:
            # Deleted meanwhile; who deletes it waits for the lock to close it.
            partition.end(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return partition

    async def _opened(
        self, live: LiveTopic, partition_id: PartitionId, assignment: Assignment
    ) -> Partition:
        state = PartitionState()
        alone = assignment == Assignment((self._foundation.node,))
        begin = self._domains.begin(live.topic.topic, partition_id)
        is_new = not self._foundation.storage.hard_state(partition_id).term
        try:
            replica = await self._foundation.open(
                partition_id,
                state,
                Configuration(frozenset(assignment.replicas)),
                scan=not alone,
                domain=await self._domains.ready(live.topic, partition_id),
                begin=begin,
            )
        except (StorageError, KeyProviderError) as error:
            log.warning("partition cannot be opened", partition=str(partition_id),
                        reason=str(error))  # fmt: skip
            raise _unopened() from None
        if is_new and assignment.replicas[0] == self._foundation.node:
            replica.campaign()  # nobody has led it yet, and the first is who should
        shredded_below = begin.offset if begin is not None else Offset(0)
        partition = Partition(replica, state, shredded_below=shredded_below)
        partition.limit_segments(live.settings)
        return partition

    async def create(
        self, name: TopicName, replicas: tuple[tuple[NodeId, ...], ...], settings: Given
    ) -> Topic:
        """Makes a topic and its first logs; raises RequestError if there is no topic then."""
        check_topic_name(name)
        topic = await self._catalogue.create_topic(name, replicas, check_settings(settings))
        await self._await_leaders(topic)
        return topic

    async def _await_leaders(self, topic: Topic) -> None:
        """Waits a moment for the first partitions to be led, here or elsewhere."""
        leaders = self._foundation.consensus.leaders
        with trio.move_on_after(MAX_LEADER_WAIT_S):
            for index in range(min(len(topic.partitions), MADE_AT_ONCE)):
                if self._is_alone(topic.partitions[index]):
                    try:
                        await self.partition(topic.name, PartitionIndex(index))
                    except RequestError:
                        break  # said so in the log; the next use tries again
                else:
                    await leaders.named(topic.partitions[index])

    def _is_alone(self, group: PartitionId) -> bool:
        assignment = self._catalogue.state.membership.assignment(group)
        return assignment == Assignment((self._foundation.node,))

    def judge_new(self, name: TopicName, partition_count: int, settings: Given) -> None:
        """Raises RequestError for what `create` would refuse."""
        check_topic_name(name)
        refusal = self._catalogue.state.judge_new_topic(name, partition_count)
        if refusal is not None:
            raise RequestError(refusal.error, refusal.message)
        check_settings(settings)

    async def delete(self, name: TopicName) -> Topic:
        """Removes a topic, then its logs; raises RequestError."""
        live = self.find(name)
        if live is None:
            raise _unknown()
        await self._catalogue.delete_topic(live.topic.topic)
        await self._discard(live)
        return live.topic

    async def add_partitions(
        self, name: TopicName, count: int, replicas: tuple[tuple[NodeId, ...], ...]
    ) -> None:
        """Gives a topic more partitions, `count` in all; raises RequestError."""
        live = self.judge_more(name, count)
        await self._catalogue.add_partitions(live.topic, replicas)

    def judge_more(self, name: TopicName, count: int) -> LiveTopic:
        """The topic; raises RequestError for what `add_partitions` would refuse."""
        live = self.find(name)
        if live is None:
            raise _unknown()
        more = count - len(live.topic.partitions)
        refusal = self._catalogue.state.judge_more_partitions(live.topic, more)
        if refusal is not None:
            raise RequestError(refusal.error, refusal.message)
        return live

    async def alter(self, live: LiveTopic, settings: tuple[tuple[str, str], ...]) -> None:
        """Gives a topic other checked settings; raises RequestError."""
        await self._catalogue.alter_topic(live.topic, settings)

    def _change(self, topic: Topic) -> None:
        live = self._live.get(topic.name)
        if live is not None:
            more = len(topic.partitions) - len(live.partitions)
            live.topic, live.settings = topic, meaning(topic.settings)
            for partition in live.partitions:
                if partition is not None:
                    partition.limit_segments(live.settings)
            live.partitions.extend([None] * more)
        for index, partition_id in enumerate(topic.partitions):
            if partition_id not in self._places:
                self._places[partition_id] = topic.name, PartitionIndex(index)
                self.settle(partition_id)

    def _created(self, topic: Topic) -> None:
        for index, partition_id in enumerate(topic.partitions):
            self._places[partition_id] = topic.name, PartitionIndex(index)
            self.settle(partition_id)

    async def hold(self, group: PartitionId) -> Replica[None] | None:
        """The replica of a partition that lies here, opened if need be; None of what does not.

        None also of a topic that is being shredded. Raises RequestError.
        """
        place = self._places.get(group)
        live = self.find(place[0]) if place is not None else None
        if place is None or live is None or self._domains.is_shredding(live.topic.topic):
            return None
        partition = live.partitions[place[1]] or await self._open(live, place[1])
        return partition.replica

    async def close_logs(self, topic: Topic) -> tuple[LogEnd, ...]:
        """Closes every log of a topic that is being shredded, and says where each ended.

        What cannot be read any more is closed, and its end not told. Raises KeyProviderError for a
        log that is closed already and does not open now.
        """
        ends = []
        for index, partition_id in enumerate(topic.partitions):
            async with self._opening.setdefault(partition_id, trio.Lock()):
                try:
                    end = await self._close_log(topic, index, partition_id)
                except (StorageError, KeyGone) as error:
                    log.warning("a log that is shredded cannot be read any more",
                                partition=str(partition_id), reason=str(error))  # fmt: skip
                else:
                    ends += [end] if end is not None else []
        return tuple(ends)

    async def _close_log(
        self, topic: Topic, index: int, partition_id: PartitionId
    ) -> LogEnd | None:
        """Where a log ended, which is closed then; None where this node is not to hold it."""
        foundation = self._foundation
        term = foundation.storage.hard_state(partition_id).term
        live = self.find(topic.name, topic.topic)
        partition = live.partitions[index] if live is not None else None
        if (
            live is not None
            and partition is not None
            and live.topic.partitions[index] == partition_id
        ):
            live.partitions[index] = None
            await self._close(partition)
            held_log = partition.replica.log
        elif partition_id in foundation.held:
            held_log = await foundation.storage.open_log(partition_id)
            await held_log.close()
        elif term:
            raise DamageDetected(f"log {partition_id} has been written and is not there any more")
        else:
            members = self._catalogue.state.membership.assignment(partition_id).everyone
            begin = self._domains.begin(topic.topic, partition_id)
            position = begin.position if begin is not None else BEGINNING_OF_LOGS
            offset = begin.offset if begin is not None else Offset(0)
            is_member = foundation.node in members
            return LogEnd(partition_id, position, offset, term) if is_member else None
        return LogEnd(partition_id, held_log.last, held_log.end_offset, term)

    def refuse_shredded(self, topic: Topic) -> None:
        """From now on nothing is read from or written to a topic's logs that are open here."""
        live = self.find(topic.name, topic.topic)
        for partition in live.partitions if live is not None else ():
            if partition is not None:
                partition.end(ErrorCode.KAFKA_STORAGE_ERROR)

    def shredded(self, done: TopicShredded) -> None:
        """The topic goes on in other logs; one that was held open till now serves nothing more."""
        before, topic = done.before, done.topic
        for partition_id in before.partitions:
            self._places.pop(partition_id, None)
            self._foundation.consensus.leaders.forget(partition_id)
        self.refuse_shredded(before)
        live = self._live.get(topic.name)
        slots: list[Partition | None] = [None] * len(topic.partitions)
        old = LiveTopic(before, meaning(before.settings), slots, deleted=True)
        if live is not None:
            old.partitions, live.topic, live.partitions = live.partitions, topic, slots
        if self.following:
            self._foundation.nursery.start_soon(self._discard, old)
        self._created(topic)

    async def close_domain(self, domain: KeyDomainId) -> None:
        """Closes the open logs of topics whose key is gone, or whose lease on it has ended.

        They open again at their next use, once the key is there.
        """
        for topic_id in self._domains.topics_in(domain):
            name = self._catalogue.name_of(topic_id)
            live = self._live.get(name) if name is not None else None
            for index, partition_id in enumerate(live.topic.partitions if live else ()):
                async with self._opening.setdefault(partition_id, trio.Lock()):
                    partition = live.partitions[index] if live else None
                    if live is not None and partition is not None:
                        live.partitions[index] = None
                        await self._close(partition)

    def _forget(self, topic: Topic) -> None:
        for partition_id in topic.partitions:
            self._places.pop(partition_id, None)
            self._foundation.consensus.leaders.forget(partition_id)
        live = self._live.pop(topic.name, None)
        if live is None:
            slots: list[Partition | None] = [None] * len(topic.partitions)
            live = LiveTopic(topic, meaning(topic.settings), slots)
        live.deleted = True
        for partition in live.partitions:
            if partition is not None:
                partition.end(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        if self.following:
            self._foundation.nursery.start_soon(self._discard, live)

    async def _discard(self, live: LiveTopic) -> None:
        """Closes and removes the logs of a deleted topic; once, whoever comes first."""
        for index, partition_id in enumerate(live.topic.partitions):
            async with self._opening.setdefault(partition_id, trio.Lock()):
                partition, live.partitions[index] = live.partitions[index], None
                if partition is not None:
                    await self._close(partition)
                await self._remove(partition_id)
            self._opening.pop(partition_id, None)

    async def remove_dropped(self) -> None:
        """Removes, at start, what deletions before the last stop have left."""
        for partition_id in tuple(self._catalogue.dropped):
            await self._remove(partition_id)

    async def remove_unknown(self) -> None:
        """Removes, at start, what was deleted by commands that nobody sees here any more."""
        for partition_id in self._catalogue.unknown(tuple(self._foundation.held)):
            log.info("a log that belongs to no topic is removed", partition=str(partition_id))
            await self._remove_log(partition_id)

    async def _remove(self, partition_id: PartitionId) -> None:
        """Removes a closed log; what cannot be removed now is at the next start."""
        if partition_id not in self._catalogue.dropped:
            return
        self._catalogue.dropped.remove(partition_id)
        await self._remove_log(partition_id)

    async def _remove_log(self, partition_id: PartitionId) -> None:
        try:
            await self._foundation.remove(partition_id)
        except StorageError as error:
            log.warning("log that is not held any more cannot be removed",
                        partition=str(partition_id), reason=str(error))  # fmt: skip

    # --- what others hold too ---

    async def repair(self, group: PartitionId, *, distrusted: bool) -> bool:
        """Closes a damaged log, cuts it before its damage, and opens it again to be filled.

        True if something was cut. Raises StorageError, KeyProviderError.
        """
        place = self._places.get(group)
        live = self.find(place[0]) if place is not None else None
        if place is None or live is None:
            return False
        self._repaired.add(group)
        try:
            async with self._opening.setdefault(group, trio.Lock()):
                partition, live.partitions[place[1]] = live.partitions[place[1]], None
                if partition is None:
                    return False
                await self._close(partition)
                if partition.replica.failed:
                    await partition.replica.log.close()
                return await self._foundation.storage.quarantine(group, distrusted=distrusted)
        finally:
            self._repaired.discard(group)
            self.settle(group)

    def settle(self, group: PartitionId) -> None:
        """Has a group opened or given up, as the catalogue says, in the background."""
        if group in self._places and self.following:
            self._settling.want(group)

    async def settled(self) -> None:
        """Returns once all that is to lie here, as far as is known now, is open or was tried."""
        await self._settling.settled()

    def follow(self) -> None:
        """From now on this node holds what the catalogue says, and begins with all there is."""
        self.following = True
        self._foundation.nursery.start_soon(self.remove_dropped)
        for topic in self._catalogue.state.topics.values():
            for index, partition_id in enumerate(topic.partitions):
                self._places[partition_id] = topic.name, PartitionIndex(index)
                self.settle(partition_id)

    async def _settle(self, group: PartitionId) -> bool:
        place = self._places.get(group)
        live = self.find(place[0]) if place is not None else None
        if place is None or live is None:
            return True
        assignment = self._catalogue.state.membership.assignment(group)
        if self._foundation.node not in assignment.everyone:
            await self._give_up(live, place[1])
        elif self._domains.is_shredding(live.topic.topic):
            pass  # other logs take the place of these
        elif self._foundation.peers.nodes or assignment != Assignment((self._foundation.node,)):
            try:
                await self._open(live, place[1])
            except RequestError as error:
                return error.code is not ErrorCode.KAFKA_STORAGE_ERROR
        return True

    async def _give_up(self, live: LiveTopic, index: PartitionIndex) -> None:
        """This node is to hold a partition no more."""
        group = live.topic.partitions[index]
        async with self._opening.setdefault(group, trio.Lock()):
            partition, live.partitions[index] = live.partitions[index], None
            if partition is not None:
                await self._close(partition)
            await self._remove_log(group)
        self._opening.pop(group, None)

    async def close(self) -> None:
        """Closes every open partition; none opens after this."""
        self._closed = True
        self._settling.close()
        async with trio.open_nursery() as nursery:
            for live in self._live.values():
                for index, partition in enumerate(live.partitions):
                    if partition is not None:
                        live.partitions[index] = None
                        nursery.start_soon(self._close, partition)

    async def _close(self, partition: Partition) -> None:
        self._foundation.consensus.remove(partition.replica.partition)
        try:
            await partition.close()
        except StorageError as error:
            log.warning("partition was not closed cleanly", reason=str(error))


def _unknown() -> RequestError:
    return RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic or partition")


def _unopened() -> RequestError:
    return RequestError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition cannot be opened now")
