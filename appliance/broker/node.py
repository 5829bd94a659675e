"""The broker of one node, put together: what `assembly` opens, serves through and closes.

Start, in order: (1) the catalogue is led and replayed; (2) a new cluster gets its first policy;
(3) this node says where it is; (4) what deletions left behind is removed; (5) the groups are led
and replayed. Partitions of topics are opened when they are first used.
"""

import msgspec
import structlog
import trio

from appliance.authz.enforcer import check
from appliance.authz.gate import Gate
from appliance.broker.auditor import Auditor
from appliance.broker.catalogue import Catalogue
from appliance.broker.coordinator import FIRST_JOIN_DELAY_MS, Coordinator
from appliance.broker.dispatch import Dispatcher
from appliance.broker.fetch_sessions import FetchSessions
from appliance.broker.foundation import Foundation
from appliance.broker.handlers.acls import (
    CreateAclsHandler,
    DeleteAclsHandler,
    DescribeAclsHandler,
)
from appliance.broker.handlers.alter_configs import (
    AlterConfigsHandler,
    IncrementalAlterConfigsHandler,
)
from appliance.broker.handlers.api_versions import ApiVersionsHandler
from appliance.broker.handlers.create_partitions import CreatePartitionsHandler
from appliance.broker.handlers.create_topics import CreateTopicsHandler
from appliance.broker.handlers.delete_records import DeleteRecordsHandler
from appliance.broker.handlers.delete_topics import DeleteTopicsHandler
from appliance.broker.handlers.describe_cluster import DescribeClusterHandler
from appliance.broker.handlers.describe_configs import DescribeConfigsHandler
from appliance.broker.handlers.describe_keys import DescribeKeysHandler
from appliance.broker.handlers.describe_log_dirs import DescribeLogDirsHandler
from appliance.broker.handlers.describe_policy import DescribePolicyHandler
from appliance.broker.handlers.describe_producers import DescribeProducersHandler
from appliance.broker.handlers.describe_quorum import DescribeQuorumHandler
from appliance.broker.handlers.describe_topic_partitions import DescribeTopicPartitionsHandler
from appliance.broker.handlers.elect_leaders import ElectLeadersHandler
from appliance.broker.handlers.fetch import FetchHandler
from appliance.broker.handlers.find_coordinator import FindCoordinatorHandler
from appliance.broker.handlers.heartbeat import HeartbeatHandler
from appliance.broker.handlers.init_producer_id import InitProducerIdHandler
from appliance.broker.handlers.join_group import JoinGroupHandler
from appliance.broker.handlers.leave_group import LeaveGroupHandler
from appliance.broker.handlers.list_offsets import ListOffsetsHandler
from appliance.broker.handlers.login import SaslAuthenticateHandler, SaslHandshakeHandler
from appliance.broker.handlers.metadata import AutoCreation, MetadataHandler
from appliance.broker.handlers.offset_commit import OffsetCommitHandler
from appliance.broker.handlers.offset_fetch import OffsetFetchHandler
from appliance.broker.handlers.offset_for_leader_epoch import OffsetForLeaderEpochHandler
from appliance.broker.handlers.produce import ProduceHandler
from appliance.broker.handlers.replace_policy import ReplacePolicyHandler
from appliance.broker.handlers.rewrap_keys import RewrapKeysHandler
from appliance.broker.handlers.scram_credentials import (
    AlterUserScramCredentialsHandler,
    DescribeUserScramCredentialsHandler,
)
from appliance.broker.handlers.shred_topic import ShredTopicHandler
from appliance.broker.handlers.sync_group import SyncGroupHandler
from appliance.broker.handlers.update_features import UpdateFeaturesHandler
from appliance.broker.housekeeping import Housekeeper
from appliance.broker.key_domains import TopicDomains
from appliance.broker.node_settings import NodeFacts
from appliance.broker.placement import Placement
from appliance.broker.policy_editing import PolicyEditing
from appliance.broker.shredding import NO_SIGNER, Shredder
from appliance.broker.topics import Topics
from appliance.coordination.commands import Endpoint
from appliance.errors import ConfigurationError, StorageError
from appliance.ports import AuditSink, Clock, Entropy, NodeStorage, Signer
from appliance.types import KeyDomainId

log = structlog.get_logger()


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the node's configuration says to the broker.

    `first_policy` is the text that a new cluster begins with; it is not looked at later.
    `endpoints` are the advertised addresses, one a listener (`kafka`, `native`).
    """

    domain: KeyDomainId
    host: str
    rack: str | None
    endpoints: tuple[Endpoint, ...]
    auto_create: bool = False
    default_partitions: int = 1
    first_policy: str | None = None
    first_join_delay_ms: int = FIRST_JOIN_DELAY_MS


class BrokerNode:
    """One node's broker; `policies` and `topic_names` are what its gate is made with."""

    def __init__(
        self,
        settings: BrokerSettings,
        foundation: Foundation,
        catalogue: Catalogue,
        topics: Topics,
        coordinator: Coordinator,
        *,
        housekeeper: Housekeeper,
        signer: Signer,
    ) -> None:
        """Use `open`."""
        self._signer = signer
        self._settings = settings
        self._foundation = foundation
        self._catalogue = catalogue
        self._topics = topics
        self._coordinator = coordinator
        self._housekeeper = housekeeper
        self._auditors: list[Auditor] = []

    @staticmethod
    async def open(
        settings: BrokerSettings,
        *,
        storage: NodeStorage,
        clock: Clock,
        entropy: Entropy,
        nursery: trio.Nursery,
        signer: Signer = NO_SIGNER,
    ) -> "BrokerNode":
        """Opens the catalogue and the groups.

        `signer` signs certificates of destruction. `nursery` holds flushes and timers; it ends by
        itself once `close` has returned. Raises StorageError, KeyProviderError, ConfigurationError
        (a new cluster without a policy).
        """
        held = set(storage.partitions())
        foundation = Foundation(storage, clock, entropy, nursery, settings.domain, held)
        catalogue = await Catalogue.open(foundation)
        if catalogue.policy()[0] == 0:
            if settings.first_policy is None:
                raise ConfigurationError("bootstrap.policy: a new cluster needs its first policy")
            check(settings.first_policy)
            await catalogue.set_policy(settings.first_policy, expected_version=0)
        await catalogue.register(
            host=settings.host, rack=settings.rack, endpoints=settings.endpoints
        )
        topics = Topics(foundation, catalogue, TopicDomains(foundation, catalogue))
        await topics.remove_dropped()
        coordinator = await Coordinator.open(
            foundation, first_join_delay_ms=settings.first_join_delay_ms
        )
        gone = coordinator.topics_with_offsets() - catalogue.state.names.keys()
        await coordinator.forget_topics(sorted(gone))
        housekeeper = Housekeeper(topics, clock)
        nursery.start_soon(housekeeper.run)
        return BrokerNode(
            settings,
            foundation,
            catalogue,
            topics,
            coordinator,
            housekeeper=housekeeper,
            signer=signer,
        )

    @property
    def policies(self) -> Catalogue:
        """The gate's `PolicySource`."""
        return self._catalogue

    @property
    def topic_names(self) -> Catalogue:
        """The gate's `TopicResolver`."""
        return self._catalogue

    def dispatcher(self, gate: Gate, sink: AuditSink) -> Dispatcher:
        """What every connection hands its requests to.

        Raises InvariantViolation unless each request of the authorisation catalogue is served.
        """
        auditor = Auditor(sink, self._foundation.nursery)
        self._auditors.append(auditor)
        dispatcher = Dispatcher(gate, auditor)
        self._register_data(dispatcher, auditor)
        self._register_groups(dispatcher)
        self._register_administration(dispatcher, auditor)
        self._register_keys(dispatcher, auditor)
        dispatcher.check_complete()
        return dispatcher

    def _register_data(self, dispatcher: Dispatcher, auditor: Auditor) -> None:
        topics, catalogue = self._topics, self._catalogue
        storage, clock = self._foundation.storage, self._foundation.clock
        placement = Placement(storage.node)
        partitions = self._settings.default_partitions
        creation = AutoCreation(self._settings.auto_create, partitions)
        dispatcher.register(ApiVersionsHandler())
        dispatcher.register(ProduceHandler(topics, clock))
        sessions = FetchSessions(clock.monotonic, self._foundation.new_session_number)
        dispatcher.register(FetchHandler(topics, dispatcher.judge, sessions, catalogue))
        dispatcher.register(ListOffsetsHandler(topics))
        dispatcher.register(InitProducerIdHandler(catalogue))
        dispatcher.register(
            MetadataHandler(
                topics, catalogue, placement, auditor, storage=storage, creation=creation
            )
        )
        dispatcher.register(
            CreateTopicsHandler(topics, placement, auditor, default_partitions=partitions)
        )
        dispatcher.register(DeleteTopicsHandler(topics, self._coordinator, auditor))
        dispatcher.register(DeleteRecordsHandler(topics, auditor))
        dispatcher.register(FindCoordinatorHandler(catalogue, placement))
        dispatcher.register(OffsetForLeaderEpochHandler(topics))
        dispatcher.register(DescribePolicyHandler(catalogue))
        dispatcher.register(ReplacePolicyHandler(catalogue, auditor))

    def _register_groups(self, dispatcher: Dispatcher) -> None:
        coordinator, judge = self._coordinator, dispatcher.judge
        clock = self._foundation.clock
        dispatcher.register(JoinGroupHandler(coordinator, judge))
        dispatcher.register(SyncGroupHandler(coordinator, judge))
        dispatcher.register(HeartbeatHandler(coordinator))
        dispatcher.register(LeaveGroupHandler(coordinator))
        dispatcher.register(OffsetCommitHandler(self._topics, coordinator, clock))
        dispatcher.register(OffsetFetchHandler(self._topics, self._catalogue, coordinator))

    def _register_administration(self, dispatcher: Dispatcher, auditor: Auditor) -> None:
        topics, catalogue = self._topics, self._catalogue
        storage, settings = self._foundation.storage, self._settings
        placement = Placement(storage.node)
        facts = NodeFacts(
            node=storage.node,
            rack=settings.rack,
            auto_create=settings.auto_create,
            default_partitions=settings.default_partitions,
            default_replicas=1,
            first_join_delay_ms=settings.first_join_delay_ms,
        )
        dispatcher.register(DescribeClusterHandler(catalogue, placement, storage.cluster))
        dispatcher.register(DescribeTopicPartitionsHandler(topics, placement))
        dispatcher.register(CreatePartitionsHandler(topics, placement, auditor))
        dispatcher.register(DescribeConfigsHandler(topics, facts))
        dispatcher.register(AlterConfigsHandler(topics, auditor))
        dispatcher.register(IncrementalAlterConfigsHandler(topics, auditor))
        dispatcher.register(DescribeLogDirsHandler(topics))
        dispatcher.register(DescribeProducersHandler(topics))
        dispatcher.register(DescribeQuorumHandler(catalogue, placement))
        dispatcher.register(ElectLeadersHandler(topics, placement))
        dispatcher.register(UpdateFeaturesHandler())
        dispatcher.register(SaslHandshakeHandler())
        dispatcher.register(SaslAuthenticateHandler())
        dispatcher.register(DescribeUserScramCredentialsHandler(catalogue))
        dispatcher.register(AlterUserScramCredentialsHandler(catalogue, auditor))
        policy = PolicyEditing(catalogue, auditor)
        dispatcher.register(DescribeAclsHandler(policy))
        dispatcher.register(CreateAclsHandler(policy))
        dispatcher.register(DeleteAclsHandler(policy))

    def _register_keys(self, dispatcher: Dispatcher, auditor: Auditor) -> None:
        storage, topics = self._foundation.storage, self._topics
        shredder = Shredder(self._foundation, self._catalogue, topics.close_logs, self._signer)
        dispatcher.register(DescribeKeysHandler(self._catalogue, storage, self._settings.domain))
        dispatcher.register(RewrapKeysHandler(storage, auditor))
        dispatcher.register(ShredTopicHandler(topics, shredder, auditor))

    async def seal_domain(self, domain: KeyDomainId) -> None:
        """Closes what is sealed in a topic's own domain, whose key is not to be had any more."""
        await self._topics.close_domain(domain)

    async def close(self) -> None:
        """Clean stop: what is under way becomes durable, then every log is closed.

        Called when no connection is served any more, and before the audit journal and the storage
        are closed.
        """
        for auditor in self._auditors:
            await auditor.close()
        await self._housekeeper.close()
        await self._topics.close()
        for part in (self._coordinator, self._catalogue):
            try:
                await part.close()
            except StorageError as error:
                log.warning("an internal log was not closed cleanly", reason=str(error))
