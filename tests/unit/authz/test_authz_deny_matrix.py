"""Every request type that exists is refused to whom nothing is granted, item by item."""

import typing
from uuid import UUID

import pytest

from appliance.authz.actions import ResourceKind
from appliance.authz.catalogue import CATALOGUE, EntryKind
from appliance.authz.decision import Denied
from appliance.authz.gate import Authorized
from appliance.authz.peer_rows import PEER_ROWS
from appliance.errors import ErrorCode
from appliance.types import Principal, PrincipalKind
from appliance.wire import requests as wire
from appliance.wire.requests import peer

HIDDEN = "hidden-name"
TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED
GROUP = ErrorCode.GROUP_AUTHORIZATION_FAILED
CLUSTER = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
TRANSACTION = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

EVERY_RULE = wire.AclFilter(1, None, 1, None, None, 1, 1)
ON_TOPIC = {(ResourceKind.TOPIC, TOPIC)}
ON_CLUSTER = {(ResourceKind.CLUSTER, CLUSTER)}

REQUEST_TYPES = typing.get_args(wire.AnyRequest)

SAMPLES: list[tuple[wire.Request, ErrorCode | None, set[tuple[ResourceKind, ErrorCode]]]] = [
    # request, code of its denial as a whole, (kind, code) of its refused items
    (
        wire.Produce(-1, 1000, (wire.ProduceTopic(HIDDEN, (wire.ProducePartition(0, None),)),)),
        None,
        {(ResourceKind.TOPIC, TOPIC)},
    ),
    (
        wire.Produce(-1, 1000, (wire.ProduceTopic(HIDDEN, ()),), transactional_id=HIDDEN),
        TRANSACTION,
        set(),
    ),
    (
        wire.Fetch(0, 1, 1, 0, (wire.FetchTopic(HIDDEN, (wire.FetchPartition(0, 0, 1),)),)),
        None,
        {(ResourceKind.TOPIC, TOPIC)},
    ),
    (
        wire.ListOffsets(0, (wire.ListOffsetsTopic(HIDDEN, ()),)),
        None,
        {(ResourceKind.TOPIC, TOPIC)},
    ),
    (
        wire.DeleteRecords((wire.DeleteRecordsTopic(HIDDEN, ()),), 1000),
        None,
        {(ResourceKind.TOPIC, TOPIC)},
    ),
    (wire.InitProducerId(None, 1000), CLUSTER, set()),
    (wire.InitProducerId(HIDDEN, 1000), TRANSACTION, set()),
    (wire.InitProducerId("", 1000), TRANSACTION, set()),
    (wire.Metadata((HIDDEN,)), None, {(ResourceKind.TOPIC, TOPIC)}),
    (wire.Metadata((HIDDEN,), allow_auto_topic_creation=True), None, {(ResourceKind.TOPIC, TOPIC)}),
    (wire.CreateTopics((wire.NewTopic(HIDDEN),), 1000), None, {(ResourceKind.TOPIC, TOPIC)}),
    (wire.CreateTopics((wire.NewTopic(HIDDEN),), 1, True), None, {(ResourceKind.TOPIC, TOPIC)}),
    (wire.DeleteTopics((HIDDEN,), 1000), None, {(ResourceKind.TOPIC, TOPIC)}),
    (wire.FindCoordinator(0, (HIDDEN,)), None, {(ResourceKind.GROUP, GROUP)}),
    (wire.FindCoordinator(1, (HIDDEN,)), None, {(ResourceKind.TRANSACTIONAL_ID, TRANSACTION)}),
    (wire.FindCoordinator(2, (HIDDEN,)), None, {(ResourceKind.GROUP, GROUP)}),
    (wire.FindCoordinator(-1, (HIDDEN,)), None, {(ResourceKind.GROUP, GROUP)}),
    (wire.JoinGroup(HIDDEN, 1, 1, "", "consumer", ()), GROUP, set()),
    (wire.SyncGroup(HIDDEN, 1, ""), GROUP, set()),
    (wire.Heartbeat(HIDDEN, 1, ""), GROUP, set()),
    (wire.LeaveGroup(HIDDEN, ()), GROUP, set()),
    (wire.OffsetCommit(HIDDEN, 1, "", (wire.CommitTopic(HIDDEN, ()),)), GROUP, set()),
    (
        wire.OffsetFetch((wire.OffsetFetchGroup(HIDDEN, ((HIDDEN, (0,)),)),)),
        None,
        {(ResourceKind.GROUP, GROUP)},
    ),
    (wire.OffsetFetch((wire.OffsetFetchGroup(HIDDEN, None),)), None, {(ResourceKind.GROUP, GROUP)}),
    (wire.OffsetForLeaderEpoch((wire.EpochTopic(HIDDEN, ()),)), None, ON_TOPIC),
    (wire.CreatePartitions((wire.MorePartitions(HIDDEN, 2),), 1), None, ON_TOPIC),
    (wire.DescribeProducers((wire.NamedPartitions(HIDDEN, (0,)),)), None, ON_TOPIC),
    (wire.DescribeTopicPartitions((HIDDEN,)), None, ON_TOPIC),
    (wire.DescribeConfigs((wire.AskedSettings(2, HIDDEN),)), None, ON_TOPIC),
    (wire.AlterConfigs((wire.SettingsToReplace(2, HIDDEN, ()),)), None, ON_TOPIC),
    (wire.IncrementalAlterConfigs((wire.SettingsToChange(2, HIDDEN, ()),)), None, ON_TOPIC),
    (wire.DescribeConfigs((wire.AskedSettings(4, "1"),)), None, ON_CLUSTER),
    (wire.DescribeConfigs((wire.AskedSettings(99, HIDDEN),)), None, ON_CLUSTER),
    (wire.AlterConfigs((wire.SettingsToReplace(4, "1", ()),)), None, ON_CLUSTER),
    (wire.IncrementalAlterConfigs((wire.SettingsToChange(-1, "", ()),)), None, ON_CLUSTER),
    (wire.DescribeLogDirs(None), CLUSTER, set()),
    (wire.DescribeAcls(EVERY_RULE), CLUSTER, set()),
    (wire.ListGroups(), None, set()),  # what it lists is judged name by name
    (wire.DescribeGroups((HIDDEN,)), None, {(ResourceKind.GROUP, GROUP)}),
    (wire.DeleteGroups((HIDDEN,)), None, {(ResourceKind.GROUP, GROUP)}),
    (wire.DescribeUserScramCredentials(None), CLUSTER, set()),
    (wire.AlterUserScramCredentials((wire.ScramDeletion(HIDDEN, 1),), ()), CLUSTER, set()),
    (wire.CreateAcls((wire.Acl(2, HIDDEN, 3, "User:nobody", "*", 2, 3),)), CLUSTER, set()),
    (wire.DeleteAcls((EVERY_RULE,)), CLUSTER, set()),
    (wire.DescribeQuorum(()), CLUSTER, set()),
    (wire.ElectLeaders(0, None, 1), CLUSTER, set()),
    (wire.UpdateFeatures(1, ()), CLUSTER, set()),
    (wire.DescribeClientQuotas(()), CLUSTER, set()),
    (wire.AlterClientQuotas(()), CLUSTER, set()),
    (wire.AlterPartitionReassignments(1, ()), CLUSTER, set()),
    (wire.ListPartitionReassignments(1, None), CLUSTER, set()),
    (wire.ListConfigResources(), CLUSTER, set()),
    (wire.DescribeNodes(), CLUSTER, set()),
    (wire.AddNode(2, HIDDEN, 9293), CLUSTER, set()),
    (wire.RemoveNode(2), CLUSTER, set()),
    (wire.DrainNode(2, True), CLUSTER, set()),
    (wire.MovePartition(HIDDEN, 0, (1,)), CLUSTER, set()),
    (wire.LeadPartition(HIDDEN, 0, 1), CLUSTER, set()),
    (wire.DescribePolicy(), CLUSTER, set()),
    (wire.ReplacePolicy("", 1), CLUSTER, set()),
    (wire.DescribeKeys(), CLUSTER, set()),
    (wire.RewrapKeys(), CLUSTER, set()),
    (wire.RekeyKeys(True), CLUSTER, set()),
    (wire.ShredTopic(HIDDEN, wire.ShredStep.BEGIN), CLUSTER, set()),
]

OPEN = [
    wire.ApiVersions(),
    wire.DescribeCluster(),
    wire.GetTelemetrySubscriptions(),
    wire.PushTelemetry(None, 0, False, 0, b""),
    wire.SaslHandshake(HIDDEN),
    wire.SaslAuthenticate(b""),
]
"""Whoever is authenticated may ask these: of the nodes, Metadata tells as much."""

CLUSTER_ID = UUID(int=1)
PEER_SAMPLES: dict[type, wire.Request] = {
    peer.Greet: peer.Greet(CLUSTER_ID, 1, 1, peer.Address("host", 9293), (1, 1)),
    peer.Deliver: peer.Deliver(CLUSTER_ID, memoryview(b"")),
    peer.Forward: peer.Forward("admin", "native", "::1", None, wire.DescribePolicy()),
    peer.Enact: peer.Enact(memoryview(b"")),
}

CLOSED = [pytest.param(*row, id=f"{type(row[0]).__name__}-{n}") for n, row in enumerate(SAMPLES)]


def test_every_request_type_has_a_row_and_a_sample() -> None:
    sampled = {type(request) for request, *_ in SAMPLES}
    open_types = {t for t, entry in CATALOGUE.items() if entry.kind is EntryKind.OPEN}
    assert set(REQUEST_TYPES) == set(CATALOGUE)
    assert set(wire.Request.__subclasses__()) >= set(REQUEST_TYPES)
    assert sampled | open_types == set(REQUEST_TYPES)
    assert open_types == {type(request) for request in OPEN}


def test_every_request_class_of_the_package_is_in_the_union() -> None:
    package = {
        value
        for value in vars(wire).values()
        if isinstance(value, type) and issubclass(value, wire.Request) and value is not wire.Request
    }
    assert package == set(REQUEST_TYPES)


def test_every_row_asks_for_something() -> None:
    for kind, entry in CATALOGUE.items():
        if entry.kind not in {EntryKind.OPEN, EntryKind.LISTED}:
            assert entry.needs or entry.items, kind


@pytest.mark.parametrize(("request_", "code", "items"), CLOSED)
@pytest.mark.parametrize("baseline", [True, False], ids=["baseline", "empty policy"])
def test_nobody_is_refused(bench, baseline_policy, request_, code, items, baseline) -> None:
    ruling = bench(baseline_policy if baseline else "").judge("nobody", request_)
    if code is not None:
        assert isinstance(ruling, Denied)
        assert ruling.code is code
        assert not ruling.decision.allowed
        return
    assert isinstance(ruling, Authorized)
    assert {(r.resource.kind, r.code) for r in ruling.refused} == items
    assert {r.resource.name for r in ruling.refused} <= {HIDDEN, "kafka-cluster"}
    assert not any(r.decision.allowed for r in ruling.refused)
    assert HIDDEN not in repr(ruling.request)
    assert ruling.asked is request_


@pytest.mark.parametrize(("request_", "code", "items"), CLOSED)
def test_admin_is_granted_all_of_it(bench, baseline_policy, request_, code, items) -> None:
    ruling = bench(baseline_policy).judge("admin", request_)
    assert isinstance(ruling, Authorized)
    assert ruling.refused == ()
    assert ruling.request is request_


@pytest.mark.parametrize("request_type", REQUEST_TYPES)
@pytest.mark.parametrize("listener", ["kafka", "native", "peer", "", "*"])
def test_a_node_is_refused_every_request_of_a_client(
    bench, request_type, listener, principal_of_node, samples_by_type
) -> None:
    gate = bench("p, role:x, *, *, *, allow\ng, User:1, role:x").gate
    request = samples_by_type[request_type]
    ruling = gate.judge(principal_of_node, request, listener=listener, address="::1")
    assert isinstance(ruling, Denied)
    assert ruling.code is CATALOGUE[request_type].code


@pytest.mark.parametrize("request_type", REQUEST_TYPES)
@pytest.mark.parametrize("listener", ["peer", "", "*", "KAFKA"])
def test_no_user_is_heard_on_another_listener(
    bench, baseline_policy, request_type, listener, samples_by_type
) -> None:
    ruling = bench(baseline_policy).judge("admin", samples_by_type[request_type], listener=listener)
    assert isinstance(ruling, Denied)


@pytest.mark.parametrize(
    "request_",
    [
        wire.DescribePolicy(),
        wire.ReplacePolicy("", 1),
        wire.DescribeKeys(),
        wire.RewrapKeys(),
        wire.RekeyKeys(True),
        wire.ShredTopic(HIDDEN, wire.ShredStep.COMPLETE),
    ],
)
def test_policy_and_keys_are_out_of_reach_of_the_kafka_listener(
    bench, baseline_policy, request_
) -> None:
    assert isinstance(bench(baseline_policy).judge("admin", request_, listener="kafka"), Denied)


@pytest.mark.parametrize("request_type", REQUEST_TYPES)
@pytest.mark.parametrize("age_s", [5.001, 3600.0, float("inf"), float("nan")])
def test_without_contact_everything_but_open_requests_is_refused(
    bench, baseline_policy, request_type, age_s, samples_by_type
) -> None:
    rig = bench(baseline_policy)
    rig.age_s = age_s
    ruling = rig.judge("admin", samples_by_type[request_type])
    if CATALOGUE[request_type].kind is EntryKind.OPEN:
        assert isinstance(ruling, Authorized)
        return
    assert isinstance(ruling, Denied)
    assert ruling.code is CATALOGUE[request_type].stale_code
    assert ruling.code is not ErrorCode.NONE


def test_contact_just_within_the_bound_is_enough(bench, baseline_policy) -> None:
    rig = bench(baseline_policy)
    rig.age_s = 5.0
    assert isinstance(rig.judge("admin", wire.Metadata(None)), Authorized)


@pytest.mark.parametrize("request_type", PEER_ROWS)
def test_what_nodes_ask_of_each_other_is_refused_to_every_user(bench, request_type) -> None:
    gate = bench("p, role:x, *, *, *, allow\ng, User:admin, role:x").gate
    request = PEER_SAMPLES[request_type]
    for listener in ("peer", "native", "kafka"):
        user = Principal(PrincipalKind.USER, "admin")
        assert isinstance(gate.judge(user, request, listener=listener, address="::1"), Denied)


@pytest.mark.parametrize("request_type", PEER_ROWS)
def test_what_nodes_ask_of_each_other_is_heard_on_the_peer_listener_only(
    bench, request_type, principal_of_node
) -> None:
    gate, request = bench("").gate, PEER_SAMPLES[request_type]
    for listener in ("native", "kafka", "", "*", "PEER"):
        ruling = gate.judge(principal_of_node, request, listener=listener, address="::1")
        assert isinstance(ruling, Denied)
    ruling = gate.judge(principal_of_node, request, listener="peer", address="::1")
    assert isinstance(ruling, Authorized)


def test_every_request_of_nodes_has_a_row_and_a_sample() -> None:
    assert set(typing.get_args(peer.AnyPeerRequest)) == set(PEER_ROWS) == set(PEER_SAMPLES)
    assert set(peer.PeerRequest.__subclasses__()) == set(PEER_ROWS)
    assert not set(PEER_ROWS) & set(CATALOGUE)


@pytest.fixture
def principal_of_node():
    return Principal(PrincipalKind.NODE, "1")


@pytest.fixture
def samples_by_type() -> dict[type, wire.Request]:
    return {type(request): request for request in OPEN} | {type(r): r for r, *_ in SAMPLES}
