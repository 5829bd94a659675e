"""Which topics have a key of their own, and how far their shredding has come.

Rules: deterministic, as the whole catalogue. Every step of a shredding may be asked for again and
comes to the same, so whoever drives it can begin anew at any point; none can be skipped. Where logs
go on after it is `coordination.shred_ends`.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import assert_never

import msgspec

from appliance.coordination.commands import CommandRefused
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    BeginShred,
    CompleteShred,
    Confirmed,
    ConfirmShred,
    KeysChanged,
    LogBegin,
    NoteKeyGone,
    Shredded,
    Shredding,
    TopicKeys,
    TopicShredded,
)
from appliance.errors import ErrorCode
from appliance.types import NodeId, TopicId

KeyOutcome = KeysChanged | TopicShredded | CommandRefused
Step = AssignKeyDomain | BeginShred | ConfirmShred | NoteKeyGone


class KeyDomains:
    """The topics that have a domain of their own; any other is sealed in the cluster's."""

    def __init__(self) -> None:
        self._topics: dict[TopicId, TopicKeys] = {}

    @property
    def topics(self) -> Mapping[TopicId, TopicKeys]:
        """Every such topic."""
        return MappingProxyType(self._topics)

    def restore(self, topics: Mapping[TopicId, TopicKeys]) -> None:
        """Holds what a snapshot holds, and nothing else."""
        self._topics = dict(topics)

    def forget(self, topic: TopicId) -> None:
        """The topic is deleted."""
        self._topics.pop(topic, None)

    def is_shredding(self, topic: TopicId) -> bool:
        """Whether a shredding of the topic is under way."""
        held = self._topics.get(topic)
        return held is not None and held.shredding is not None

    def apply(self, command: Step) -> KeysChanged | CommandRefused:
        """Takes the next command but the last one, of a topic that exists."""
        held = self._topics.get(command.topic)
        if isinstance(command, AssignKeyDomain):
            outcome = self._assign(command, held)
        elif held is None:
            return _refused("the topic has no key of its own: the cluster's cannot be shredded")
        else:
            match command:
                case BeginShred():
                    outcome = _begun(command, held)
                case ConfirmShred():
                    outcome = _confirmed(command, held)
                case NoteKeyGone():
                    outcome = _gone(command, held)
                case _:
                    assert_never(command)
        if isinstance(outcome, CommandRefused):
            return outcome
        self._topics[command.topic] = outcome
        return KeysChanged(command.topic, outcome)

    def complete(
        self, command: CompleteShred, begins: tuple[LogBegin, ...]
    ) -> TopicKeys | CommandRefused:
        """Takes the last command of a shredding; `begins` say where the new logs begin."""
        held = self._topics.get(command.topic)
        shredding = held.shredding if held is not None else None
        if held is None or shredding is None or shredding.shred != command.shred:
            return _refused("no such shredding is under way")
        missing = set(shredding.missing) - set(command.late)
        if missing:
            return _refused(f"nodes {_listed(missing)} have not dropped their keys yet")
        if command.late and not shredding.key_gone:
            return _refused("a node is late only after the key is gone")
        if command.domain == held.domain:
            return _refused("the topic goes on in a new key domain")
        done = Shredded(
            command.shred,
            held.domain,
            shredding.begun_ms,
            command.completed_ms,
            shredding.confirmed,
            command.late,
        )
        self._topics[command.topic] = TopicKeys(command.domain, None, done, begins)
        return self._topics[command.topic]

    def _assign(
        self, command: AssignKeyDomain, held: TopicKeys | None
    ) -> TopicKeys | CommandRefused:
        if held is not None:
            return _refused("the topic has its key already")
        if any(keys.domain == command.domain for keys in self._topics.values()):
            return _refused("the key domain's id is taken")
        return TopicKeys(command.domain)


def _begun(command: BeginShred, held: TopicKeys) -> TopicKeys | CommandRefused:
    if held.shredding is not None:
        return _refused("the topic is being shredded already")
    if held.last is not None and held.last.shred == command.shred:
        return _refused("that shredding is done")
    shredding = Shredding(command.shred, command.begun_ms, command.nodes)
    return msgspec.structs.replace(held, shredding=shredding)


def _confirmed(command: ConfirmShred, held: TopicKeys) -> TopicKeys | CommandRefused:
    shredding = held.shredding
    if shredding is None or shredding.shred != command.shred:
        return _refused("no such shredding is under way")
    if command.node not in shredding.nodes:
        return _refused("that node holds nothing of the topic")
    if command.node in shredding.confirmed:
        return held
    confirmed = Confirmed(command.node, command.ends, command.trial)
    return _with(held, shredding, confirmations=(*shredding.confirmations, confirmed))


def _gone(command: NoteKeyGone, held: TopicKeys) -> TopicKeys | CommandRefused:
    shredding = held.shredding
    if shredding is None or shredding.shred != command.shred:
        return _refused("no such shredding is under way")
    return _with(held, shredding, key_gone=True)


def _with(held: TopicKeys, shredding: Shredding, **changes: object) -> TopicKeys:
    return msgspec.structs.replace(held, shredding=msgspec.structs.replace(shredding, **changes))


def _listed(nodes: Iterable[NodeId]) -> str:
    return ", ".join(map(str, sorted(nodes)))


def _refused(message: str) -> CommandRefused:
    return CommandRefused(ErrorCode.INVALID_REQUEST, message)
