"""What has happened between two states of the catalogue, as the outcomes of the commands between.

Rules: whoever takes up a state in place of commands is told the same as if each had been applied,
as far as it still shows: of what came and went again, nothing. Logs in place of a topic's are told
as one shredding, of the key that those were sealed under, however many there were.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from appliance.coordination.catalog import KeptCatalog
from appliance.coordination.cluster_commands import NodesChanged, Reassigned
from appliance.coordination.commands import TopicCreated, TopicDeleted
from appliance.coordination.key_commands import KeysChanged, TopicKeys, TopicShredded
from appliance.coordination.topic_changes import TopicChanged

_TopicOutcome = TopicCreated | TopicDeleted | TopicChanged | TopicShredded


def changes(
    before: KeptCatalog, after: KeptCatalog
) -> Iterator[NodesChanged | _TopicOutcome | KeysChanged | Reassigned]:
    """What whoever follows the catalogue is to be told, now that it is as `after`."""
    yield from _of_nodes(before, after)
    yield from _of_topics(before, after)
    for topic, keys in after.keys.items():
        if before.keys.get(topic) != keys:
            yield KeysChanged(topic, keys)
    known = before.membership.assignments
    for group, assignment in after.membership.assignments.items():
        if known.get(group) != assignment:
            yield Reassigned(group, assignment)


def _of_nodes(before: KeptCatalog, after: KeptCatalog) -> Iterator[NodesChanged]:
    known = {each.node: each for each in before.membership.nodes}
    left = set(known)
    for node in after.membership.nodes:
        left.discard(node.node)
        if known.get(node.node) != node:
            yield NodesChanged(node.node)
    for gone in sorted(left.union(after.membership.retired).difference(before.membership.retired)):
        yield NodesChanged(gone)


def _of_topics(before: KeptCatalog, after: KeptCatalog) -> Iterator[_TopicOutcome]:
    known = {topic.topic: topic for topic in before.topics}
    there = {topic.topic for topic in after.topics}
    for topic in before.topics:
        if topic.topic not in there:
            yield TopicDeleted(topic)
    for topic in after.topics:
        old = known.get(topic.topic)
        if old is None:
            yield TopicCreated(topic)
        elif old.partitions != topic.partitions[: len(old.partitions)]:
            keys = _ended(before.keys.get(topic.topic), after.keys.get(topic.topic))
            yield TopicShredded(old, topic, keys) if keys is not None else TopicChanged(topic)
        elif old != topic:
            yield TopicChanged(topic)


def _ended(before: TopicKeys | None, after: TopicKeys | None) -> TopicKeys | None:
    """A topic's keys as they are, after the shredding of the one that it had."""
    if before is None or after is None or after.last is None:
        return None
    return replace(after, last=replace(after.last, domain=before.domain))
