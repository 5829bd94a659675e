"""Metadata: nodes as the caller's listener reaches them, and topics that the caller may describe.

Rules: of a topic that may not be described nothing is told, not even whether it exists. A topic
that is not there is made if the client asks for it, the node is configured so, and the caller may
create it; that is a change like any other, recorded before it is made.
"""

import msgspec

from appliance.authz.actions import CLUSTER, Action, Resource, ResourceKind
from appliance.authz.decision import Refusal
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.forwarding import Forwarding
from appliance.broker.operations import operations_on
from appliance.broker.placement import Placement, TopicDefaults
from appliance.broker.quotas import Quotas
from appliance.broker.told import brokers_of, told_of
from appliance.broker.topic_names import check_topic_name
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.ports import NodeStorage
from appliance.types import TopicName
from appliance.wire.requests import (
    OPERATIONS_NOT_ASKED,
    CreateTopics,
    CreateTopicsResult,
    Metadata,
    MetadataResult,
    NewTopic,
    TopicMetadata,
)

MAKING_MS = 5_000


class AutoCreation(msgspec.Struct, frozen=True):
    """What the node's configuration says of topics that are not there."""

    enabled: bool
    defaults: TopicDefaults


class MetadataHandler:
    """Describes the cluster."""

    request = Metadata

    def __init__(
        self,
        topics: Topics,
        catalogue: Catalogue,
        placement: Placement,
        auditor: Auditor,
        *,
        storage: NodeStorage,
        creation: AutoCreation,
        forwarding: Forwarding,
        quotas: Quotas,
    ) -> None:
        self._topics = topics
        self._catalogue = catalogue
        self._placement = placement
        self._auditor = auditor
        self._cluster = str(storage.cluster)
        self._creation = creation
        self._forwarding = forwarding
        self._quotas = quotas

    def refuse(self, request: Metadata, code: ErrorCode) -> MetadataResult:
        """No node and no topic is told of."""
        named = [TopicMetadata(name, code) for name in request.topics or ()]
        by_id = [TopicMetadata(None, code, topic) for topic in request.topic_ids]
        return MetadataResult(self._cluster, -1, (), (*named, *by_id), error=code)

    async def handle(self, caller: Caller, authorized: Authorized[Metadata]) -> MetadataResult:
        """Nodes, granted topics, and the refusals of those asked for by name."""
        granted = authorized.request
        described = {
            name: await self._describe(caller, authorized, name) for name in granted.topics or ()
        }
        allowed = OPERATIONS_NOT_ASKED
        if granted.cluster_operations:
            allowed = operations_on(authorized, CLUSTER)
        return MetadataResult(
            self._cluster,
            self._placement.controller,
            brokers_of(self._catalogue, caller.listener),
            self._topics_of(authorized, described),
            operations=allowed,
        )

    @staticmethod
    def _topics_of(
        authorized: Authorized[Metadata], described: dict[TopicName, TopicMetadata]
    ) -> tuple[TopicMetadata, ...]:
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        asked = authorized.asked
        if asked.topics is None:
            return tuple(each for each in described.values() if each.error is ErrorCode.NONE)
        named = [
            TopicMetadata(name, codes[name]) if name in codes else described[name]
            for name in dict.fromkeys(asked.topics)
        ]
        known = {topic.topic_id: topic for topic in described.values()}
        by_id = [
            known.get(topic) or TopicMetadata(None, ErrorCode.UNKNOWN_TOPIC_ID, topic)
            for topic in dict.fromkeys(asked.topic_ids)
        ]
        return (*named, *by_id)

    async def _describe(
        self, caller: Caller, authorized: Authorized[Metadata], name: TopicName
    ) -> TopicMetadata:
        live = self._topics.find(name)
        try:
            if live is None:
                await self._create(caller, authorized, name)
                live = self._topics.find(name)
        except RequestError as error:
            if error.code is ErrorCode.THROTTLING_QUOTA_EXCEEDED:
                # Not yet there is what a client asks about again, whatever version it speaks.
                return TopicMetadata(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                return self._permitted(authorized, TopicMetadata(name, error.code))
            live = self._topics.find(name)
        if live is None:
            missing = TopicMetadata(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            return self._permitted(authorized, missing)
        await self._placement.settled(live.topic.partitions)
        return self._permitted(authorized, told_of(live, self._placement))

    @staticmethod
    def _permitted(authorized: Authorized[Metadata], told: TopicMetadata) -> TopicMetadata:
        """With what the caller may do to the topic, if that was asked: a rule needs no topic."""
        if authorized.request.topic_operations:
            allowed = operations_on(authorized, Resource(ResourceKind.TOPIC, told.name or ""))
            told = msgspec.structs.replace(told, operations=allowed)
        return told

    async def _create(
        self, caller: Caller, authorized: Authorized[Metadata], name: TopicName
    ) -> None:
        """Makes the topic, or raises RequestError with what the client is told of it."""
        check_topic_name(name)
        asked = authorized.asked
        wanted = name in (asked.topics or ()) and asked.allow_auto_topic_creation
        if not (wanted and self._creation.enabled):
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        topic = Resource(ResourceKind.TOPIC, name)
        decision = authorized.permits(Action.CREATE, topic)
        if not decision.allowed and not decision.denied:
            decision = authorized.permits(Action.CREATE, CLUSTER)
        if not decision.allowed:
            code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            refusal = Refusal(topic, code, decision)
            await self._auditor.denied(caller, authorized.request, (refusal,))
            raise RequestError(code, "the topic is not there and may not be made")
        await self._make(caller, authorized, name)

    async def _make(
        self, caller: Caller, authorized: Authorized[Metadata], name: TopicName
    ) -> None:
        if not self._forwarding.alone:
            request = CreateTopics((NewTopic(name),), MAKING_MS)
            answer = await self._forwarding.forward(caller, request)
            made = answer.topics if isinstance(answer, CreateTopicsResult) else ()
            for topic in made:
                if topic.error is not ErrorCode.NONE:
                    raise RequestError(topic.error, topic.message or "the topic cannot be made")
            return
        defaults = self._creation.defaults
        self._topics.judge_new(name, defaults.partition_count, ())
        factor = self._placement.default_replicas(defaults.replication_factor)
        replicas = self._placement.choose(defaults.partition_count, factor)
        self._quotas.mutations(caller, strict=True).take(defaults.partition_count)
        await self._auditor.changing(caller, authorized, (name,), "created on first use")
        await self._topics.create(name, replicas, ())
