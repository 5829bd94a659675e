"""OffsetFetch: a group's committed offsets, of topics that the caller may describe."""

from collections.abc import Mapping

from appliance.authz.actions import Action, ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.coordinator import Coordinator
from appliance.broker.topics import Topics
from appliance.coordination.group_messages import StoredOffset
from appliance.errors import ErrorCode
from appliance.types import GroupName, PartitionIndex, TopicId, TopicName
from appliance.wire.requests import (
    FetchedOffset,
    FetchedOffsetsGroup,
    OffsetFetch,
    OffsetFetchGroup,
    OffsetFetchResult,
)

_Topic = tuple[TopicName, tuple[FetchedOffset, ...]]


class OffsetFetchHandler:
    """Reads offsets; of a topic that is not there, as of a partition never committed, -1."""

    request = OffsetFetch

    def __init__(self, topics: Topics, catalogue: Catalogue, coordinator: Coordinator) -> None:
        self._topics = topics
        self._catalogue = catalogue
        self._coordinator = coordinator

    def refuse(self, request: OffsetFetch, code: ErrorCode) -> OffsetFetchResult:
        """Every group refused."""
        return OffsetFetchResult(
            tuple(FetchedOffsetsGroup(part.group, error=code) for part in request.groups)
        )

    async def handle(self, _: Caller, authorized: Authorized[OffsetFetch]) -> OffsetFetchResult:
        """One answer a group."""
        groups = authorized.refused_codes(ResourceKind.GROUP)
        topics = authorized.refused_codes(ResourceKind.TOPIC)
        return OffsetFetchResult(
            tuple(
                FetchedOffsetsGroup(part.group, error=groups[part.group])
                if part.group in groups
                else self._read(part, topics, authorized)
                for part in authorized.asked.groups
            )
        )

    def _read(
        self,
        part: OffsetFetchGroup,
        refused: Mapping[str, ErrorCode],
        authorized: Authorized[OffsetFetch],
    ) -> FetchedOffsetsGroup:
        if part.topics is None:
            found = self._all(part.group, authorized)
            if not authorized.asked.by_id:
                return FetchedOffsetsGroup(part.group, found)
            known = self._catalogue.state.topics
            ids = tuple((known[name].topic, parts) for name, parts in found)
            return FetchedOffsetsGroup(part.group, topic_ids=ids)
        if part.topic_ids:
            return FetchedOffsetsGroup(part.group, topic_ids=self._by_id(part, authorized))
        return FetchedOffsetsGroup(
            part.group,
            tuple(
                (name, tuple(FetchedOffset(index, error=refused[name]) for index in indexes))
                if name in refused
                else self._named(part.group, name, indexes)
                for name, indexes in part.topics
            ),
        )

    def _by_id(
        self, part: OffsetFetchGroup, authorized: Authorized[OffsetFetch]
    ) -> tuple[tuple[TopicId | None, tuple[FetchedOffset, ...]], ...]:
        """As asked; what is not known and what may not be described get the same answer."""
        names = {
            topic: name
            for topic, _ in part.topic_ids
            if topic is not None and (name := self._catalogue.name_of(topic)) is not None
        }
        wanted = list(dict.fromkeys(names.values()))
        granted = frozenset(authorized.granted(Action.DESCRIBE, ResourceKind.TOPIC, wanted))
        found = []
        for topic, indexes in part.topic_ids:
            name = None if topic is None else names.get(topic)
            if name is None or name not in granted:
                unknown = ErrorCode.UNKNOWN_TOPIC_ID
                found.append((topic, tuple(FetchedOffset(i, error=unknown) for i in indexes)))
            else:
                found.append((topic, self._named(part.group, name, indexes)[1]))
        return tuple(found)

    def _all(self, group: GroupName, authorized: Authorized[OffsetFetch]) -> tuple[_Topic, ...]:
        """Everything committed, each topic only if it may be described."""
        by_name: dict[TopicName, list[StoredOffset]] = {}
        for (topic, _), stored in sorted(self._coordinator.offsets(group).items()):
            name = self._catalogue.name_of(topic)
            if name is not None:
                by_name.setdefault(name, []).append(stored)
        granted = authorized.granted(Action.DESCRIBE, ResourceKind.TOPIC, sorted(by_name))
        return tuple((name, tuple(_told(each) for each in by_name[name])) for name in granted)

    def _named(
        self, group: GroupName, name: TopicName, indexes: tuple[PartitionIndex, ...]
    ) -> _Topic:
        live = self._topics.find(name)
        if live is None:
            return name, tuple(FetchedOffset(index) for index in indexes)
        offsets = self._coordinator.offsets(group)
        found = [(index, offsets.get((live.topic.topic, index))) for index in indexes]
        return name, tuple(
            FetchedOffset(index) if stored is None else _told(stored) for index, stored in found
        )


def _told(stored: StoredOffset) -> FetchedOffset:
    return FetchedOffset(stored.partition, stored.offset, stored.leader_epoch, stored.metadata)
