"""What holds at the end of a run, judged from outside: what was seen, and what lies on disks."""

from typing import TYPE_CHECKING, Any

from checkers import Violation
from nodes.world import DATA

from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.types import Index
from tests.checkers import catalogue, kafka_history, linearizability

if TYPE_CHECKING:
    from nodes.world import World

_JUDGED_BY = {
    "aborted-read": "failed",
    "lost-write": "acknowledged",
    "unseen": "acknowledged",
    "nonmonotonic-send": "acknowledged",
}


def _state(world: "World") -> Any:
    """The catalogue as some node has it; where converged, as all have it."""
    for node in sorted(world.machines):
        member = world.member(node)
        if member is not None:
            return member.node.policies.state
    raise Violation("liveness", "no node is there")


def _groups(world: "World") -> list[Any]:
    topics = _state(world).topics
    return [CATALOGUE_LOG, GROUPS_LOG, *topics[DATA].partitions] if DATA in topics else []


def _holders(world: "World", group: Any) -> list[int] | None:
    """Who holds a group; None while it is on its way elsewhere."""
    membership = _state(world).membership
    if group == CATALOGUE_LOG:
        return sorted(membership.nodes)
    assignment = membership.assignment(group)
    return None if assignment.target is not None else sorted(assignment.replicas)


def founded(world: "World") -> bool:
    """Whether the cluster can bear the loss of a node: every group lies on three at least."""
    if not any(world.member(node) for node in world.machines):
        return False
    return not unlike(world) and all(
        len(_holders(world, group) or ()) >= 3 for group in _groups(world)
    )


def unlike(world: "World") -> str:
    """What keeps the cluster from being the same on every node; empty if it is."""
    groups = _groups(world)
    if not groups:
        return f"no topic {DATA}"
    return "; ".join(filter(None, (_unlike(world, group) for group in groups)))


def _unlike(world: "World", group: Any) -> str:
    holders = _holders(world, group)
    if not holders or not set(holders) <= world.machines.keys():
        return f"{group} is to lie on {holders}"
    members = {node: world.member(node) for node in holders}
    replicas = {
        node: member.consensus.replica(group) if member is not None else None
        for node, member in members.items()
    }
    leaders = [each for each in replicas.values() if each is not None and each.serving]
    if len(leaders) != 1 or None in replicas.values():
        return f"{group} is led by {len(leaders)}, held as {replicas}"
    configuration, last = leaders[0].configuration, leaders[0].core.last.index
    applied = {node: each.applied for node, each in replicas.items()}
    if configuration.joint or configuration.members != set(holders):
        return f"{group} has {configuration} and is to have {holders}"
    return "" if set(applied.values()) == {last} else f"{group} ends at {last}, held to {applied}"


async def judge(world: "World") -> None:
    """Raises Violation, naming the property."""
    _judge_histories(world)
    _judge_catalogues(world)
    for group in _groups(world):
        await _judge_logs(world, group)


def _judge_histories(world: "World") -> None:
    verdict = kafka_history.check(world.history, read_to_end=True)
    for name in kafka_history.ANOMALIES:
        world.reached[name] += getattr(verdict, _JUDGED_BY.get(name, "read"))
    world.say(f"histories: {verdict}")
    if verdict.anomalies:
        first = verdict.anomalies[0]
        raise Violation(first.name, f"{first.text}; {verdict}")
    judgement = linearizability.check(world.operations, catalogue.ABSENT, catalogue.step)
    world.reached["linearizable-catalogue"] += len(world.operations)
    if not judgement.legal:
        raise Violation("linearizable-catalogue", str(judgement))


def _judge_catalogues(world: "World") -> None:
    states = {}
    for node in sorted(world.machines):
        member = world.member(node)
        if member is not None:
            state = member.node.policies.state
            topics = sorted((name, repr(topic)) for name, topic in state.topics.items())
            states[node] = repr((topics, sorted(state.membership.nodes)))
    world.reached["same-catalogue"] += len(states)
    if len(set(states.values())) != 1:
        raise Violation("same-catalogue", f"nodes differ: {states}")


async def _judge_logs(world: "World", group: Any) -> None:
    """Read back from the sealed files, every replica's entries are the same to the byte."""
    known: dict[int, tuple[object, bytes, int]] = {}
    for node in _holders(world, group) or ():
        member = world.member(node)
        assert member is not None
        replica = member.consensus.replica(group)
        index, last = Index(replica.log.first_index), replica.applied
        while index <= last:
            for entry in await replica.log.entries(index, last, 1 << 20):
                here = (entry.header, bytes(entry.payload))
                there = known.setdefault(entry.header.index, (*here, node))
                world.reached["same-log"] += 1
                if there[:2] != here:
                    raise Violation(
                        "same-log", f"{group}: nodes {there[2]} and {node} differ at {here[0]}"
                    )
                index = Index(entry.header.index + 1)
