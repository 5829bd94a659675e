"""Which topics have a key of their own, and how far their shredding has come.

Rules: deterministic, as the whole catalogue. Every step of a shredding may be asked for again and
comes to the same, so whoever drives it can begin anew at any point; none can be skipped.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

import msgspec

from appliance.coordination.commands import CommandRefused
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    BeginShred,
    CompleteShred,
    ConfirmShred,
    KeyCommand,
    KeysChanged,
    LogEnd,
    Shredded,
    Shredding,
    TopicKeys,
)
from appliance.errors import ErrorCode
from appliance.types import PartitionId, TopicId

KeyOutcome = KeysChanged | CommandRefused


class KeyDomains:
    """The topics that have a domain of their own; any other is sealed in the cluster's."""

    def __init__(self) -> None:
        self._topics: dict[TopicId, TopicKeys] = {}

    @property
    def topics(self) -> Mapping[TopicId, TopicKeys]:
        """Every such topic."""
        return MappingProxyType(self._topics)

    def forget(self, topic: TopicId) -> None:
        """The topic is deleted."""
        self._topics.pop(topic, None)

    def apply(self, command: KeyCommand) -> KeyOutcome:
        """Takes the next command, of a topic that exists."""
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
                case CompleteShred():
                    outcome = _completed(command, held)
                case _:
                    assert_never(command)
        if isinstance(outcome, CommandRefused):
            return outcome
        self._topics[command.topic] = outcome
        return KeysChanged(command.topic, outcome)

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
    confirmed = msgspec.structs.replace(shredding, confirmed=(*shredding.confirmed, command.node))
    return msgspec.structs.replace(held, shredding=confirmed, ends=_merged(held, command.ends))


def _completed(command: CompleteShred, held: TopicKeys) -> TopicKeys | CommandRefused:
    if held.last is not None and held.last.shred == command.shred:
        return held
    shredding = held.shredding
    if shredding is None or shredding.shred != command.shred:
        return _refused("no such shredding is under way")
    missing = set(shredding.nodes) - set(shredding.confirmed) - set(command.late)
    if missing:
        names = ", ".join(map(str, sorted(missing)))
        return _refused(f"nodes {names} have not dropped their keys yet")
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
    return TopicKeys(command.domain, None, done, held.ends)


def _merged(held: TopicKeys, ends: tuple[LogEnd, ...]) -> tuple[LogEnd, ...]:
    """One end for each log: the furthest, as Raft compares logs, which holds all that was decided.

    Positions never go back, so an earlier shredding's ends give way to later ones.
    """
    furthest: dict[PartitionId, LogEnd] = {}
    for end in (*held.ends, *ends):
        known = furthest.get(end.partition)
        if known is None or known.position < end.position:
            furthest[end.partition] = end
    return tuple(furthest[partition] for partition in sorted(furthest))


def _refused(message: str) -> CommandRefused:
    return CommandRefused(ErrorCode.INVALID_REQUEST, message)
