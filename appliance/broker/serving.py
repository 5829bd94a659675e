"""Which handler answers which request of a client."""

import msgspec

from appliance.broker.auditor import Auditor
from appliance.broker.catalogue import Catalogue
from appliance.broker.coordinator import Coordinator
from appliance.broker.dispatch import Dispatcher
from appliance.broker.fetch_sessions import FetchSessions
from appliance.broker.forwarding import Forwarding
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
from appliance.broker.handlers.client_quotas import (
    AlterClientQuotasHandler,
    DescribeClientQuotasHandler,
)
from appliance.broker.handlers.create_partitions import CreatePartitionsHandler
from appliance.broker.handlers.create_topics import CreateTopicsHandler
from appliance.broker.handlers.delete_records import DeleteRecordsHandler
from appliance.broker.handlers.delete_topics import DeleteTopicsHandler
from appliance.broker.handlers.describe_cluster import DescribeClusterHandler
from appliance.broker.handlers.describe_configs import DescribeConfigsHandler
from appliance.broker.handlers.describe_keys import DescribeKeysHandler
from appliance.broker.handlers.describe_log_dirs import DescribeLogDirsHandler
from appliance.broker.handlers.describe_nodes import DescribeNodesHandler
from appliance.broker.handlers.describe_policy import DescribePolicyHandler
from appliance.broker.handlers.describe_producers import DescribeProducersHandler
from appliance.broker.handlers.describe_quorum import DescribeQuorumHandler
from appliance.broker.handlers.describe_topic_partitions import DescribeTopicPartitionsHandler
from appliance.broker.handlers.elect_leaders import ElectLeadersHandler
from appliance.broker.handlers.fetch import FetchHandler
from appliance.broker.handlers.find_coordinator import FindCoordinatorHandler
from appliance.broker.handlers.group_admin import (
    DeleteGroupsHandler,
    DescribeGroupsHandler,
    ListGroupsHandler,
)
from appliance.broker.handlers.heartbeat import HeartbeatHandler
from appliance.broker.handlers.init_producer_id import InitProducerIdHandler
from appliance.broker.handlers.join_group import JoinGroupHandler
from appliance.broker.handlers.leave_group import LeaveGroupHandler
from appliance.broker.handlers.list_config_resources import ListConfigResourcesHandler
from appliance.broker.handlers.list_offsets import ListOffsetsHandler
from appliance.broker.handlers.login import SaslAuthenticateHandler, SaslHandshakeHandler
from appliance.broker.handlers.metadata import AutoCreation, MetadataHandler
from appliance.broker.handlers.nodes import Operator, register_operator
from appliance.broker.handlers.offset_commit import OffsetCommitHandler
from appliance.broker.handlers.offset_fetch import OffsetFetchHandler
from appliance.broker.handlers.offset_for_leader_epoch import OffsetForLeaderEpochHandler
from appliance.broker.handlers.produce import ProduceHandler
from appliance.broker.handlers.reassignments import (
    AlterPartitionReassignmentsHandler,
    ListPartitionReassignmentsHandler,
)
from appliance.broker.handlers.rekey_keys import RekeyKeysHandler
from appliance.broker.handlers.replace_policy import ReplacePolicyHandler
from appliance.broker.handlers.rewrap_keys import RewrapKeysHandler
from appliance.broker.handlers.scram_credentials import (
    AlterUserScramCredentialsHandler,
    DescribeUserScramCredentialsHandler,
)
from appliance.broker.handlers.shred_topic import ShredTopicHandler
from appliance.broker.handlers.sync_group import SyncGroupHandler
from appliance.broker.handlers.telemetry import (
    GetTelemetrySubscriptionsHandler,
    PushTelemetryHandler,
)
from appliance.broker.handlers.update_features import UpdateFeaturesHandler
from appliance.broker.node_settings import NodeFacts
from appliance.broker.placement import Placement, TopicDefaults
from appliance.broker.policy_editing import PolicyEditing
from appliance.broker.quotas import Quotas
from appliance.broker.rekeying import Rekeyer
from appliance.broker.settings import BrokerSettings
from appliance.broker.shredding import Shredder
from appliance.broker.telemetry import ClientTelemetry
from appliance.broker.topics import Topics


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the handlers of one node work on."""

    settings: BrokerSettings
    foundation: Foundation
    catalogue: Catalogue
    placement: Placement
    topics: Topics
    fetch_sessions: FetchSessions
    coordinator: Coordinator
    forwarding: Forwarding
    quotas: Quotas
    shredder: Shredder
    rekeyer: Rekeyer


def register_all(parts: Parts, dispatcher: Dispatcher, auditor: Auditor) -> None:
    """Has `dispatcher` serve each request of the authorisation catalogue."""
    _data(parts, dispatcher, auditor)
    _groups(parts, dispatcher, auditor)
    _administration(parts, dispatcher, auditor)
    _keys(parts, dispatcher, auditor)


def _data(parts: Parts, dispatcher: Dispatcher, auditor: Auditor) -> None:
    topics, catalogue = parts.topics, parts.catalogue
    storage, clock = parts.foundation.storage, parts.foundation.clock
    placement, forwarding, quotas = parts.placement, parts.forwarding, parts.quotas
    defaults = TopicDefaults(parts.settings.default_partitions, parts.settings.default_replication)
    creation = AutoCreation(parts.settings.auto_create, defaults)
    dispatcher.register(ApiVersionsHandler())
    dispatcher.register(ProduceHandler(topics, catalogue, placement, clock))
    sessions = parts.fetch_sessions
    dispatcher.register(
        FetchHandler(
            topics, dispatcher.judge, sessions, catalogue, placement=placement, quotas=quotas
        )
    )
    dispatcher.register(ListOffsetsHandler(topics))
    dispatcher.register(InitProducerIdHandler(catalogue))
    dispatcher.register(
        MetadataHandler(
            topics,
            catalogue,
            placement,
            auditor,
            storage=storage,
            creation=creation,
            forwarding=forwarding,
            quotas=quotas,
        )
    )
    dispatcher.register(CreateTopicsHandler(topics, placement, auditor, quotas, defaults=defaults))
    dispatcher.register(DeleteTopicsHandler(topics, parts.coordinator, auditor, quotas))
    dispatcher.register(DeleteRecordsHandler(topics, auditor))
    dispatcher.register(FindCoordinatorHandler(catalogue, placement))
    dispatcher.register(OffsetForLeaderEpochHandler(topics))
    dispatcher.register(DescribePolicyHandler(catalogue))
    dispatcher.register(ReplacePolicyHandler(catalogue, auditor))
    consensus = parts.foundation.consensus
    dispatcher.register(DescribeNodesHandler(catalogue, consensus, placement))
    operator = Operator(parts.foundation, catalogue, topics, placement)
    register_operator(dispatcher, operator, auditor)


def _groups(parts: Parts, dispatcher: Dispatcher, auditor: Auditor) -> None:
    coordinator, judge = parts.coordinator, dispatcher.judge
    clock = parts.foundation.clock
    dispatcher.register(ListGroupsHandler(coordinator))
    dispatcher.register(DescribeGroupsHandler(coordinator))
    dispatcher.register(DeleteGroupsHandler(coordinator, auditor))
    dispatcher.register(JoinGroupHandler(coordinator, judge))
    dispatcher.register(SyncGroupHandler(coordinator, judge))
    dispatcher.register(HeartbeatHandler(coordinator))
    dispatcher.register(LeaveGroupHandler(coordinator))
    dispatcher.register(OffsetCommitHandler(parts.topics, coordinator, clock))
    dispatcher.register(OffsetFetchHandler(parts.topics, parts.catalogue, coordinator))


def _administration(parts: Parts, dispatcher: Dispatcher, auditor: Auditor) -> None:
    topics, catalogue = parts.topics, parts.catalogue
    foundation, settings = parts.foundation, parts.settings
    storage = foundation.storage
    placement = parts.placement
    facts = NodeFacts(
        node=storage.node,
        rack=settings.rack,
        auto_create=settings.auto_create,
        default_partitions=settings.default_partitions,
        default_replicas=placement.default_replicas(settings.default_replication),
        first_join_delay_ms=settings.first_join_delay_ms,
    )
    dispatcher.register(DescribeClusterHandler(catalogue, placement, storage.cluster))
    dispatcher.register(DescribeTopicPartitionsHandler(topics, placement))
    dispatcher.register(CreatePartitionsHandler(topics, placement, auditor, parts.quotas))
    dispatcher.register(DescribeConfigsHandler(topics, facts))
    dispatcher.register(ListConfigResourcesHandler(catalogue))
    dispatcher.register(AlterConfigsHandler(topics, auditor))
    dispatcher.register(IncrementalAlterConfigsHandler(topics, auditor))
    dispatcher.register(DescribeLogDirsHandler(topics))
    dispatcher.register(DescribeProducersHandler(topics))
    dispatcher.register(DescribeQuorumHandler(catalogue, foundation.consensus, foundation.clock))
    dispatcher.register(
        ElectLeadersHandler(catalogue, placement, foundation.consensus, parts.forwarding, auditor)
    )
    dispatcher.register(UpdateFeaturesHandler())
    _telemetry(parts, dispatcher)
    dispatcher.register(AlterPartitionReassignmentsHandler(catalogue, placement, auditor))
    dispatcher.register(ListPartitionReassignmentsHandler(catalogue))
    dispatcher.register(DescribeClientQuotasHandler(catalogue))
    dispatcher.register(AlterClientQuotasHandler(catalogue, auditor))
    dispatcher.register(SaslHandshakeHandler())
    dispatcher.register(SaslAuthenticateHandler())
    dispatcher.register(DescribeUserScramCredentialsHandler(catalogue))
    dispatcher.register(AlterUserScramCredentialsHandler(catalogue, auditor))
    policy = PolicyEditing(catalogue, auditor)
    dispatcher.register(DescribeAclsHandler(policy))
    dispatcher.register(CreateAclsHandler(policy))
    dispatcher.register(DeleteAclsHandler(policy))


def _telemetry(parts: Parts, dispatcher: Dispatcher) -> None:
    foundation, settings = parts.foundation, parts.settings
    telemetry = ClientTelemetry(
        settings.subscription, foundation.clock, foundation.new_id, settings.client_reports
    )
    dispatcher.register(GetTelemetrySubscriptionsHandler(telemetry))
    dispatcher.register(PushTelemetryHandler(telemetry))


def _keys(parts: Parts, dispatcher: Dispatcher, auditor: Auditor) -> None:
    storage, topics = parts.foundation.storage, parts.topics
    dispatcher.register(DescribeKeysHandler(parts.catalogue, storage, parts.settings.domain))
    dispatcher.register(RewrapKeysHandler(storage, auditor))
    dispatcher.register(RekeyKeysHandler(parts.rekeyer, auditor))
    dispatcher.register(ShredTopicHandler(topics, parts.shredder, auditor))
