"""One group: its members, its state, and what follows from them alone.

Invariants: the leader is a member; `instances` names members only; every step is one of
`TRANSITIONS`; what members brought is within MAX_GROUP_METADATA_BYTES together.
"""

from collections import Counter

import msgspec

from appliance.coordination.group_messages import JoinedPeer, Protocols, Ticket
from appliance.coordination.group_states import TRANSITIONS, GroupState
from appliance.invariant import invariant
from appliance.types import GroupName, MemberId


class Member(msgspec.Struct):
    """One member, while its process lives; `joining` and `syncing` are its parked requests."""

    member: MemberId
    instance: str | None
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    deadline_ms: int
    joining: Ticket | None = None
    syncing: Ticket | None = None
    assignment: bytes = b""
    client_id: str = ""
    client_host: str = ""

    @property
    def is_parked(self) -> bool:
        """Whether a request of the member waits here: then its silence means nothing."""
        return self.joining is not None or self.syncing is not None

    @property
    def metadata_bytes(self) -> int:
        """What its protocols cost in memory."""
        return sum(len(name) + len(metadata) for name, metadata in self.protocols)

    def metadata_for(self, protocol: str) -> bytes:
        """What the member said for an assignor."""
        return dict(self.protocols).get(protocol, b"")


class Group:
    """Members and state of one group; the coordinator's parts act on it."""

    def __init__(self, name: GroupName, generation: int) -> None:
        """A group without members, after the last generation that is known to have begun."""
        self.name = name
        self.state = GroupState.EMPTY
        self.generation = generation
        self.protocol_type = ""
        self.protocol = ""
        self.leader: MemberId | None = None
        self.members: dict[MemberId, Member] = {}
        self.instances: dict[str, MemberId] = {}
        self.expected: dict[MemberId, int] = {}
        """Ids given out and not yet used (KIP-394), with the time until which they are."""
        self.phase_deadline_ms: int | None = None
        """When joining, or syncing, ends for those who have not."""
        self.first_join_until_ms: int | None = None
        """While set, the group waits for more first members before it begins."""

    def move(self, to: GroupState) -> None:
        """Takes a step of the table."""
        invariant((self.state, to) in TRANSITIONS, f"{self.state.name} never becomes {to.name}")
        self.state = to

    def add(self, member: Member, protocol_type: str) -> None:
        """Takes a member in; the first one leads and sets the protocol's type."""
        if not self.members:
            self.protocol_type = protocol_type
        self.members[member.member] = member
        if member.instance is not None:
            self.instances[member.instance] = member.member
        if self.leader is None:
            self.leader = member.member

    def remove(self, member: Member) -> None:
        """Lets a member go; the next that waits to join, else the next at all, leads."""
        del self.members[member.member]
        if member.instance is not None and self.instances.get(member.instance) == member.member:
            del self.instances[member.instance]
        if self.leader == member.member:
            self.leader = self._successor()

    def _successor(self) -> MemberId | None:
        waiting = (m.member for m in self.members.values() if m.joining is not None)
        return next(waiting, next(iter(self.members), None))

    def supports(self, protocol_type: str, protocols: Protocols, *, of: MemberId | None) -> bool:
        """Whether the group keeps a protocol in common if `of`, or a new member, brings these."""
        if not protocol_type or not protocols:
            return False
        others = [member.protocols for member in self.members.values() if member.member != of]
        if not others:
            return True
        return protocol_type == self.protocol_type and bool(_common([*others, protocols]))

    def chosen_protocol(self) -> str:
        """Each member votes for the first of its protocols that all know; the earlier name wins."""
        common = _common([member.protocols for member in self.members.values()])
        votes = Counter(
            next(name for name, _ in member.protocols if name in common)
            for member in self.members.values()
        )
        return min(votes, key=lambda name: (-votes[name], name))

    def metadata_bytes(self, *, without: MemberId | None = None) -> int:
        """What the members' protocols cost in memory."""
        return sum(m.metadata_bytes for m in self.members.values() if m.member != without)

    def rebalance_timeout_ms(self) -> int:
        """How long the slowest member may take to join again."""
        return max((m.rebalance_timeout_ms for m in self.members.values()), default=0)

    def all_joined(self) -> bool:
        """Whether nobody is awaited any more."""
        return not self.expected and all(m.joining is not None for m in self.members.values())

    def peers(self) -> tuple[JoinedPeer, ...]:
        """The members as the leader sees them."""
        return tuple(
            JoinedPeer(m.member, m.instance, m.metadata_for(self.protocol))
            for m in self.members.values()
        )


def _common(offers: list[Protocols]) -> set[str]:
    """The assignors that are in every offer; there is at least one offer."""
    return set.intersection(*({name for name, _ in offer} for offer in offers))
