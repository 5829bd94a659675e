"""A client's view of a cluster: its nodes, its topics' leaders, and one connection to each node.

Connections are made when they are first needed, to a host whose name is verified, and live in the
session's nursery. What is worth trying again is tried again until the session's patience ends.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from appliance.client.connection import Connection, Disconnected
from appliance.client.patience import Backoff, Patience
from appliance.client.profile import Address
from appliance.errors import ApplianceError, ErrorCode, ProtocolViolation, RequestError
from appliance.limits import MAX_PARTITIONS_PER_TOPIC
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import AnyRequest, Metadata, MetadataResult, Response, TopicMetadata

Connector = Callable[[Address], Awaitable[trio.abc.Stream]]
"""Opens a stream to a node: TCP, TLS with both sides authenticated, host name verified.

Raises Disconnected if nobody answers, AuthenticationFailed if either side is not accepted.
"""

CONNECT_S = 15

R = TypeVar("R", bound=Response)


class Session:
    """Sends requests to any node or to a partition's leader; made by `open_session`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        connector: Connector,
        bootstrap: Sequence[Address],
        patience: Patience,
    ) -> None:
        self.patience = patience
        self._nursery = nursery
        self._connector = connector
        self._bootstrap = tuple(bootstrap)
        self._connections: dict[Address, Connection] = {}
        self._connecting = trio.Lock()
        self._brokers: dict[int, Address] = {}
        self._topics: dict[TopicName, TopicMetadata] = {}

    async def call(self, request: AnyRequest, expected: type[R]) -> R:
        """Asks any node; tries again on the next after a lost connection.

        Raises RequestError if the request is refused, Disconnected when patience ends.
        """
        backoff = Backoff(self.patience)
        while True:
            try:
                return await (await self.any_node()).call(request, expected)
            except (Disconnected, RequestError) as failure:
                await backoff.wait(failure)

    async def any_node(self) -> Connection:
        """A connection to whichever node answers first, in order; raises Disconnected if none."""
        known = [*self._connections, *self._bootstrap, *self._brokers.values()]
        failure = Disconnected("no address to connect to")
        for address in dict.fromkeys(known):
            try:
                return await self._connection(address)
            except Disconnected as lost:
                failure = lost
        raise failure

    async def metadata(
        self, topics: Sequence[TopicName] | None, *, create: bool = False
    ) -> MetadataResult:
        """Brokers and topics as one node sees them now; `create` asks for auto-creation."""
        names = None if topics is None else tuple(topics)
        result = await self.call(Metadata(names, create), MetadataResult)
        self._brokers = {
            broker.node_id: Address(broker.host, broker.port)
            for broker in result.brokers
            if 0 < broker.port < 65536
        }
        return result

    async def topic(
        self, name: TopicName, *, create: bool = False, again: bool = False
    ) -> TopicMetadata:
        """A topic with its partitions, waiting while it has no leader yet.

        `again` asks the cluster even if the answer is known. Raises RequestError with the
        topic's error.
        """
        backoff = Backoff(self.patience)
        while again or name not in self._topics:
            found = _only_topic(await self.metadata([name], create=create), name)
            error = _topic_error(found)
            if error is ErrorCode.NONE:
                self._topics[name] = found
                break
            failure = RequestError(error, f"topic {name}: {error.name}")
            if error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and not create:
                raise failure
            await backoff.wait(failure)
        return self._topics[name]

    async def leader(self, name: TopicName, partition: PartitionIndex) -> Connection:
        """A connection to a partition's leader as last known; raises Disconnected."""
        topic = await self.topic(name)
        if partition >= len(topic.partitions):
            raise RequestError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {name} has {len(topic.partitions)} partitions, none is {partition}",
            )
        address = self._brokers.get(topic.partitions[partition].leader_id)
        if address is None:
            self.forget(name)
            raise Disconnected(f"the leader of {name}/{partition} is not known")
        return await self._connection(address)

    def forget(self, name: TopicName) -> None:
        """Drops what is known of a topic, after an error that says it has moved."""
        self._topics.pop(name, None)

    async def _connection(self, address: Address) -> Connection:
        """The connection to a node, made if there is none that is usable."""
        async with self._connecting:
            held = self._connections.get(address)
            if held is not None and held.usable:
                return held
            self._connections.pop(address, None)
            with trio.move_on_after(CONNECT_S):
                stream = await self._connector(address)
                connection = Connection(stream, str(address))
                self._connections[address] = connection
                self._nursery.start_soon(connection.run)
                return connection
            raise Disconnected(f"{address} did not answer within {CONNECT_S} s")


@asynccontextmanager
async def open_session(
    connector: Connector, bootstrap: Sequence[Address], patience: Patience | None = None
) -> AsyncIterator[Session]:
    """A session over `connector`; all its connections end with the block.

    Errors of this package leave the block as they are, not in an exception group.
    """
    failure: ApplianceError | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Session(nursery, connector, bootstrap, patience or Patience())
        except ApplianceError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _only_topic(result: MetadataResult, name: TopicName) -> TopicMetadata:
    """The one topic that was asked for, its partitions in order; raises ProtocolViolation."""
    if len(result.topics) != 1 or result.topics[0].name != name:
        raise ProtocolViolation(f"metadata came for another topic than {name}")
    topic = result.topics[0]
    if len(topic.partitions) > MAX_PARTITIONS_PER_TOPIC:
        raise ProtocolViolation(f"topic {name} claims {len(topic.partitions)} partitions")
    if [partition.index for partition in topic.partitions] != list(range(len(topic.partitions))):
        raise ProtocolViolation(f"the partitions of topic {name} are not numbered from 0")
    return topic


def _topic_error(topic: TopicMetadata) -> ErrorCode:
    """Why a topic cannot be used now, or NONE."""
    if topic.error is not ErrorCode.NONE:
        return topic.error
    if not topic.partitions:
        return ErrorCode.LEADER_NOT_AVAILABLE
    return ErrorCode.NONE
