"""Which key domain a topic's logs are sealed in, as the catalogue says and storage is made to.

Rules: a topic that is to have its own key gets it before its first log is made; an interrupted
creation is finished at the first use. What a manifest says is checked against the catalogue. After
a shredding the topic has other logs, which begin where those before them ended.
"""

from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import Foundation
from appliance.broker.topic_settings import has_own_key
from appliance.coordination.commands import Topic
from appliance.coordination.key_commands import AssignKeyDomain, LogBegin, TopicKeys
from appliance.errors import DamageDetected, ErrorCode, RequestError
from appliance.types import KeyDomainId, PartitionId, TopicId


class TopicDomains:
    """The key domains of topics."""

    def __init__(self, foundation: Foundation, catalogue: Catalogue) -> None:
        self._foundation = foundation
        self._catalogue = catalogue

    def keys(self, topic: TopicId) -> TopicKeys | None:
        """A topic's own domain, or None where the cluster's serves it."""
        return self._catalogue.topic_keys(topic)

    def topics_in(self, domain: KeyDomainId) -> list[TopicId]:
        """The topics that are sealed in a domain of their own."""
        held = self._catalogue.state.key_domains.topics
        return [topic for topic, keys in held.items() if keys.domain == domain]

    async def ready(self, topic: Topic, partition: PartitionId) -> KeyDomainId | None:
        """The domain that a log is to be opened or made in; None is the cluster's.

        Raises RequestError while the topic is being shredded, StorageError, KeyProviderError.
        """
        if not has_own_key(topic.settings):
            return None
        keys = self.keys(topic.topic) or await self._assign(topic.topic)
        if keys.shredding is not None:
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the topic is being shredded; try again later"
            )
        if partition in self._foundation.held:
            await self._check(keys, partition)
        return keys.domain

    async def _assign(self, topic: TopicId) -> TopicKeys:
        """A fresh domain; the key is there before anything says that it is the topic's."""
        domain = KeyDomainId(self._foundation.new_id())
        await self._foundation.storage.keys.create_domain(domain)
        try:
            return await self._catalogue.change_keys(AssignKeyDomain(topic, domain))
        except RequestError:
            keys = self.keys(topic)  # somebody was faster
            if keys is None:
                raise
            return keys

    async def _check(self, keys: TopicKeys, partition: PartitionId) -> None:
        if await self._foundation.storage.domain_of(partition) != keys.domain:
            raise DamageDetected(
                f"the manifest of {partition} names another key domain than the catalogue"
            )

    def is_shredding(self, topic: TopicId) -> bool:
        """Whether a topic is being shredded now."""
        return self._catalogue.state.key_domains.is_shredding(topic)

    def begin(self, topic: TopicId, partition: PartitionId) -> LogBegin | None:
        """Where a log begins that takes a shredded one's place; None for any other."""
        keys = self.keys(topic)
        begins = keys.begins if keys is not None else ()
        return next((begin for begin in begins if begin.partition == partition), None)
