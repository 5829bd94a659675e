"""Nodes, ids used once, and who holds what: the catalogue's part about the cluster."""

from uuid import UUID

from appliance.broker.foundation import GROUPS_LOG
from appliance.coordination.catalog import Catalog
from appliance.coordination.cluster_commands import (
    AdmitNode,
    AnnounceNode,
    Assignment,
    AssignReplicas,
    DrainNode,
    PlaceTopic,
    ReplicasMoved,
    RetireNode,
    SetFeatureLevel,
)
from appliance.coordination.commands import CommandRefused, DeleteTopic, Endpoint
from appliance.errors import ErrorCode

PEER = Endpoint("peer", "host", 9293)
P0, P1 = UUID(int=100), UUID(int=101)
TOPIC = UUID(int=1)


def announce(node, level=2):
    return AnnounceNode(node, f"host-{node}", None, (PEER,), (1, level))


def a_cluster(*nodes):
    catalog = Catalog()
    for number, node in enumerate(nodes):
        if number:
            catalog.apply(AdmitNode(node, PEER))
        catalog.apply(announce(node))
    return catalog


def refused(outcome):
    assert isinstance(outcome, CommandRefused)
    return outcome.message


def test_the_first_node_founds_and_every_other_is_admitted_first() -> None:
    catalog = a_cluster(1)
    assert "has not been added" in refused(catalog.apply(announce(2)))
    catalog.apply(AdmitNode(2, PEER))
    assert catalog.nodes[2].host == ""
    catalog.apply(announce(2))
    assert catalog.nodes[2].host == "host-2"


def test_a_node_s_id_is_used_once_for_all_time() -> None:
    catalog = a_cluster(1, 2)
    assert "already" in refused(catalog.apply(AdmitNode(2, PEER)))
    catalog.apply(RetireNode(2))
    assert 2 not in catalog.nodes
    assert "once for all time" in refused(catalog.apply(AdmitNode(2, PEER)))
    assert "for good" in refused(catalog.apply(announce(2)))


def test_a_node_that_holds_something_is_not_retired_nor_the_last_one() -> None:
    catalog = a_cluster(1, 2)
    catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((2, 1),)))
    assert "holds 1 partition" in refused(catalog.apply(RetireNode(2)))
    catalog.apply(DeleteTopic(TOPIC))
    catalog.apply(RetireNode(2))
    assert "last node" in refused(catalog.apply(RetireNode(1)))


def test_a_topic_lies_on_nodes_that_there_are() -> None:
    catalog = a_cluster(1, 2)
    outcome = catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((1, 3),)))
    assert isinstance(outcome, CommandRefused)
    assert outcome.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert "t" not in catalog.topics
    assert isinstance(catalog.apply(PlaceTopic(TOPIC, "t", (P0, P1), ((1, 2),))), CommandRefused)
    assert isinstance(catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((1, 1),))), CommandRefused)


def test_a_move_is_decided_first_and_through_when_its_leader_says_so() -> None:
    catalog = a_cluster(1, 2, 3)
    catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((1, 2),)))
    catalog.apply(AssignReplicas(P0, (3, 2)))
    moving = catalog.membership.assignment(P0)
    assert moving == Assignment((1, 2), (3, 2))
    assert moving.everyone == {1, 2, 3}
    assert isinstance(catalog.apply(ReplicasMoved(P0, (1, 3))), CommandRefused)
    catalog.apply(ReplicasMoved(P0, (2, 3)))
    assert catalog.membership.assignment(P0) == Assignment((3, 2))


def test_a_move_is_called_off_by_moving_back() -> None:
    catalog = a_cluster(1, 2, 3)
    catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((1, 2),)))
    catalog.apply(AssignReplicas(P0, (1, 3)))
    catalog.apply(AssignReplicas(P0, (1, 2)))
    assert catalog.membership.assignment(P0).target == (1, 2)
    catalog.apply(ReplicasMoved(P0, (1, 2)))
    assert catalog.membership.assignment(P0) == Assignment((1, 2))


def test_draining_lasts_until_it_is_undone_also_over_a_restart() -> None:
    catalog = a_cluster(1, 2)
    catalog.apply(DrainNode(2, True))
    catalog.apply(announce(2))
    assert catalog.nodes[2].draining
    catalog.apply(DrainNode(2, False))
    assert not catalog.nodes[2].draining


def test_the_feature_level_rises_when_every_node_knows_it_and_never_falls() -> None:
    catalog = a_cluster(1)
    catalog.apply(AdmitNode(2, PEER))
    catalog.apply(announce(2, level=1))
    assert "upgrade it first" in refused(catalog.apply(SetFeatureLevel(2)))
    catalog.apply(announce(2, level=2))
    catalog.apply(SetFeatureLevel(2))
    assert catalog.membership.level == 2
    assert "only ever rises" in refused(catalog.apply(SetFeatureLevel(1)))
    assert "does not know" in refused(catalog.apply(announce(2, level=1))).replace("\n", " ")


def test_a_deleted_topic_s_groups_are_placed_no_more() -> None:
    catalog = a_cluster(1, 2)
    catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((2, 1),)))
    catalog.apply(DeleteTopic(TOPIC))
    assert P0 not in catalog.membership.assignments


def test_whoever_an_earlier_target_named_keeps_its_copy_until_the_move_is_through() -> None:
    """Its leader may have made it a voter: were its log removed, a quorum could go with it."""
    catalog = a_cluster(1, 2, 3, 4, 5)
    catalog.apply(SetFeatureLevel(2))
    catalog.apply(PlaceTopic(TOPIC, "orders", (P0,), ((1, 2, 3),)))
    catalog.apply(AssignReplicas(P0, (1, 2, 5)))
    catalog.apply(AssignReplicas(P0, (2, 3, 4)))
    assert catalog.membership.assignment(P0).everyone == {1, 2, 3, 4, 5}
    catalog.apply(AssignReplicas(P0, (1, 2, 3)))
    assert catalog.membership.assignment(P0).everyone == {1, 2, 3, 4, 5}
    catalog.apply(ReplicasMoved(P0, (1, 2, 3)))
    assert catalog.membership.assignment(P0) == Assignment((1, 2, 3))


def test_no_node_is_made_to_hold_what_was_deleted_before_the_move() -> None:
    catalog = a_cluster(1, 2)
    catalog.apply(PlaceTopic(TOPIC, "t", (P0,), ((1,),)))
    catalog.apply(DeleteTopic(TOPIC))
    outcome = catalog.apply(AssignReplicas(P0, (2,)))
    assert isinstance(outcome, CommandRefused)
    assert outcome.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert P0 not in catalog.membership.assignments
    assert not isinstance(catalog.apply(RetireNode(1)), CommandRefused)


def test_the_logs_of_the_cluster_itself_are_moved_without_a_topic() -> None:
    catalog = a_cluster(1, 2)
    catalog.apply(AssignReplicas(GROUPS_LOG, (1, 2)))
    assert catalog.membership.assignment(GROUPS_LOG).target == (1, 2)
