"""The live topics of this node: names to partitions, opened when they are first used.

Rules: a topic exists when its creation is committed, and is gone when its deletion is; its logs are
made after the one and removed after the other, so a crash between leaves something to make at first
use, or to remove at the next start, and never data without a topic or a topic without its data.
"""

import msgspec
import structlog
import trio

from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import Foundation
from appliance.broker.key_domains import TopicDomains
from appliance.broker.partition import Partition, PartitionState
from appliance.broker.topic_names import check_topic_name
from appliance.broker.topic_settings import Given, TopicSettings, check_settings, meaning
from appliance.coordination.commands import Topic
from appliance.coordination.key_commands import LogEnd
from appliance.errors import ErrorCode, KeyProviderError, RequestError, StorageError
from appliance.types import KeyDomainId, PartitionId, PartitionIndex, TopicId, TopicName

log = structlog.get_logger()

MADE_AT_ONCE = 16
"""Logs of a new topic that are made before it is answered for; the rest at their first use."""


class LiveTopic(msgspec.Struct):
    """A topic of the catalogue, its settings' meaning, and those partitions that are open."""

    topic: Topic
    settings: TopicSettings
    partitions: list[Partition | None]
    deleted: bool = False


class Topics:
    """Every topic, as handlers use them."""

    def __init__(self, foundation: Foundation, catalogue: Catalogue, domains: TopicDomains) -> None:
        self._foundation = foundation
        self._domains = domains
        self._catalogue = catalogue
        self._live: dict[TopicName, LiveTopic] = {}
        self._opening: dict[PartitionId, trio.Lock] = {}
        self._closed = False
        catalogue.on_deleted = self._forget
        catalogue.on_changed = self._change

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

        Raises RequestError: UNKNOWN_TOPIC_OR_PARTITION; KAFKA_STORAGE_ERROR, which clients try
        again, while its files or its keys cannot be had.
        """
        live = self.find(name, topic_id)
        if live is None or not 0 <= index < len(live.partitions):
            raise _unknown()
        partition = live.partitions[index]
        return partition if partition is not None else await self._open(live, index)

    async def _open(self, live: LiveTopic, index: PartitionIndex) -> Partition:
        partition_id = live.topic.partitions[index]
        async with self._opening.setdefault(partition_id, trio.Lock()):
            partition = live.partitions[index]
            if partition is not None:
                return partition
            if live.deleted:
                raise _unknown()
            if self._closed:
                raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the node is stopping")
            state = PartitionState()
            try:
                domain = await self._domains.ready(live.topic, partition_id)
                replica = await self._foundation.lead(partition_id, state, domain)
            except (StorageError, KeyProviderError) as error:
                log.warning("partition cannot be opened", partition=str(partition_id),
                            reason=str(error))  # fmt: skip
                raise RequestError(
                    ErrorCode.KAFKA_STORAGE_ERROR, "the partition cannot be opened now"
                ) from None
            partition = live.partitions[index] = Partition(replica, state)
            partition.limit_segments(live.settings)
        self._opening.pop(partition_id, None)
        if self._live.get(live.topic.name) is not live:
            partition.end()  # deleted meanwhile; who deletes it waits for the lock to close it
        return partition

    async def create(self, name: TopicName, partition_count: int, settings: Given) -> Topic:
        """Makes a topic and its first logs; raises RequestError if there is no topic then."""
        check_topic_name(name)
        topic = await self._catalogue.create_topic(name, partition_count, check_settings(settings))
        for index in range(min(partition_count, MADE_AT_ONCE)):
            try:
                await self.partition(name, PartitionIndex(index))
            except RequestError:
                break  # said so in the log; the next use tries again
        return topic

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
        for index, partition_id in enumerate(live.topic.partitions):
            async with self._opening.setdefault(partition_id, trio.Lock()):
                partition = live.partitions[index]
                if partition is not None:
                    partition.end()
                    await _close(partition)
            self._opening.pop(partition_id, None)
        await self._remove(live.topic.partitions)
        return live.topic

    async def add_partitions(self, name: TopicName, count: int) -> None:
        """Gives a topic more partitions, `count` in all; raises RequestError."""
        live = self.judge_more(name, count)
        await self._catalogue.add_partitions(live.topic, count - len(live.topic.partitions))

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

    async def close_logs(self, topic: Topic) -> tuple[LogEnd, ...]:
        """Closes every log of a topic that is being shredded, and says where each ended.

        Raises StorageError, KeyProviderError for one that is closed already and does not open.
        """
        live = self.find(topic.name, topic.topic)
        ends = []
        for index, partition_id in enumerate(topic.partitions):
            async with self._opening.setdefault(partition_id, trio.Lock()):
                partition = live.partitions[index] if live is not None else None
                if live is not None and partition is not None:
                    live.partitions[index] = None
                    await partition.close()
                    held_log = partition.replica.log
                elif partition_id in self._foundation.held:
                    held_log = await self._foundation.storage.open_log(partition_id)
                    await held_log.close()
                else:
                    continue
                ends.append(LogEnd(partition_id, held_log.last, held_log.end_offset))
        return tuple(ends)

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
                        await _close(partition)

    def _forget(self, topic: Topic) -> None:
        live = self._live.pop(topic.name, None)
        if live is not None:
            live.deleted = True
            for partition in live.partitions:
                if partition is not None:
                    partition.end()

    async def remove_dropped(self) -> None:
        """Removes, at start, what deletions before the last stop have left."""
        await self._remove(tuple(self._catalogue.dropped))

    async def _remove(self, partitions: tuple[PartitionId, ...]) -> None:
        """Removes closed logs; what cannot be removed now is at the next start."""
        for partition_id in partitions:
            self._catalogue.dropped.remove(partition_id)
            try:
                await self._foundation.remove(partition_id)
            except StorageError as error:
                log.warning("log of a deleted topic cannot be removed",
                            partition=str(partition_id), reason=str(error))  # fmt: skip

    async def close(self) -> None:
        """Closes every open partition; none opens after this."""
        self._closed = True
        async with trio.open_nursery() as nursery:
            for live in self._live.values():
                for index, partition in enumerate(live.partitions):
                    if partition is not None:
                        live.partitions[index] = None
                        nursery.start_soon(_close, partition)


async def _close(partition: Partition) -> None:
    try:
        await partition.close()
    except StorageError as error:
        log.warning("partition was not closed cleanly", reason=str(error))


def _unknown() -> RequestError:
    return RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic or partition")
