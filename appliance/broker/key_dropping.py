"""What each node does of its own accord when a topic is shredded, as the catalogue says so.

As the intent is applied, nothing of the topic is served here any more. Then its logs are closed,
its keys, spare keys, caches and fetch sessions are dropped, and the node confirms, with where each
log ended. As completion is applied, the old logs are removed.

Rules: each step is begun again after a restart, from what the catalogue says. A node that missed
the intent learns of it and of completion in that order, and does its part before it opens the logs
that take the old ones' place.
"""

from collections.abc import Callable

import structlog
import trio

from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import Foundation
from appliance.broker.topics import Topics
from appliance.coordination.commands import Topic
from appliance.coordination.key_commands import ConfirmShred, Shredding, TopicKeys, TopicShredded
from appliance.errors import KeyProviderError, RequestError, StorageError
from appliance.ports import WrapAt
from appliance.types import TopicId

log = structlog.get_logger()

RETRY_S = 0.5
"""Before a confirmation is tried again that nobody could take."""


class KeyDropper:
    """Drops what this node holds of shredded topics."""

    def __init__(
        self,
        foundation: Foundation,
        catalogue: Catalogue,
        topics: Topics,
        forget_readers: Callable[[Topic], None],
    ) -> None:
        """`forget_readers` ends what is kept of readers of a topic."""
        self._foundation = foundation
        self._catalogue = catalogue
        self._topics = topics
        self._forget_readers = forget_readers
        self._dropping: set[TopicId] = set()

    def stepped(self, topic_id: TopicId) -> None:
        """A step about a topic's keys was applied."""
        topic, keys = self._topic(topic_id), self._catalogue.topic_keys(topic_id)
        if topic is None or keys is None or keys.shredding is None:
            return
        self._topics.refuse_shredded(topic)
        self._forget_readers(topic)
        if self._topics.following and self._is_due(keys) and topic_id not in self._dropping:
            self._dropping.add(topic_id)
            self._foundation.nursery.start_soon(self._drop, topic_id)

    def shredded(self, done: TopicShredded) -> None:
        """A shredding is complete: whatever was held under the old key is wiped."""
        self._forget_readers(done.before)
        if done.keys.last is not None:
            self._foundation.storage.keys.forget(done.keys.last.domain)

    def follow(self) -> None:
        """From now on this node does its part, and begins with what is under way."""
        for topic_id in tuple(self._catalogue.state.key_domains.topics):
            self.stepped(topic_id)

    def _is_due(self, keys: TopicKeys) -> bool:
        return keys.shredding is not None and self._foundation.node in keys.shredding.missing

    def _topic(self, topic_id: TopicId) -> Topic | None:
        name = self._catalogue.name_of(topic_id)
        return self._catalogue.state.topics[name] if name is not None else None

    async def _drop(self, topic_id: TopicId) -> None:
        """Until this node has confirmed, or the shredding is over."""
        said = ""
        confirmation = None
        try:
            while True:
                topic, keys = self._topic(topic_id), self._catalogue.topic_keys(topic_id)
                if topic is None or keys is None or keys.shredding is None:
                    return
                if not self._is_due(keys):
                    return
                try:
                    if confirmation is None or confirmation.shred != keys.shredding.shred:
                        confirmation = await self._dropped(topic, keys, keys.shredding)
                    await self._catalogue.change_keys(confirmation)
                except (RequestError, KeyProviderError) as error:
                    if str(error) != said:
                        said = str(error)
                        log.info("a shredding waits for this node", reason=said)
                    await trio.sleep(RETRY_S)
        finally:
            self._dropping.discard(topic_id)

    async def _dropped(self, topic: Topic, keys: TopicKeys, shredding: Shredding) -> ConfirmShred:
        """Closes and wipes; what is to be confirmed. Raises KeyProviderError."""
        storage = self._foundation.storage
        try:
            ends = await self._topics.close_logs(topic)
        finally:
            storage.keys.forget(keys.domain)
        log.info("keys of a topic dropped", domain=str(keys.domain))
        trial = await self._trial(topic, keys)
        return ConfirmShred(topic.topic, shredding.shred, storage.node, ends, trial)

    async def _trial(self, topic: Topic, keys: TopicKeys) -> WrapAt | None:
        try:
            return await self._foundation.storage.keys.trial(topic.partitions, keys.domain)
        except StorageError:
            return None  # its manifest is damaged: others have theirs
