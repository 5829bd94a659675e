"""What must hold of a group whatever happens to it, judged from outside.

Rules: a checker is told what members did and knows no core; it keeps its own record of the truth
and raises Violation, naming itself, on the first contradiction. Each counts how often it had
something to judge: a property that no run ever reached has not been tested.

The properties are those of the Raft paper's figure 3, and what clients rely on: a read sees every
write and read that ended before it began, and what was acknowledged is never lost.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol


class Members(Protocol):
    """A configuration, as far as a judge needs it."""

    @property
    def voters(self) -> AbstractSet[int]:
        """Who votes."""
        ...

    @property
    def outgoing(self) -> AbstractSet[int]:
        """Who votes as well, while two configurations overlap."""
        ...


def is_quorum(members: Members, has: Callable[[int], bool]) -> bool:
    """More than half of each set of voters; reckoned here, not by the core's arithmetic."""
    return all(
        2 * sum(1 for node in voters if has(node)) > len(voters)
        for voters in (members.voters, members.outgoing)
        if voters
    )


class Violation(Exception):
    """A property does not hold; the first word is its name."""

    def __init__(self, checker: str, text: str) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker = checker


CHECKERS = (
    "election-safety",
    "one-vote-a-term",
    "elected-by-quorum",
    "promises-durable",
    "term-order",
    "log-matching",
    "leader-completeness",
    "state-machine-safety",
    "quorum-durable",
    "own-term-commit",
    "acknowledged-stays",
    "joint-consensus",
    "linearizable-reads",
    "nothing-acknowledged-lost",
    "configuration-in-force",
    "liveness",
    "stable-leader",
    "core-raises-nothing",
)


class Checkers:
    """All of them, over one run."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self._leaders: dict[int, tuple[int, int]] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._heard: dict[tuple[int, int], set[int]] = {}
        self._terms: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[object, int]] = {}
        self._committed: dict[int, tuple[int, object]] = {}
        self._decided: dict[int, int] = {}
        self._last_committed = (0, 0)
        self._floor = 0
        self._acknowledged: dict[int, object] = {}
        self._matched: dict[int, tuple[int, int]] = {}

    # --- who leads ------------------------------------------------------------------------------

    def leads(
        self, leader: tuple[int, int], term: int, members: Members, holds_index: int, there: object
    ) -> None:
        """A (node, life) began to lead a term; `there` is its term at the last index committed."""
        node = leader[0]
        self.reached["elected-by-quorum"] += 1
        heard = self._heard.get((node, term), set()) | {node}
        if not is_quorum(members, lambda voter: voter in heard):
            raise Violation("elected-by-quorum", f"{node} leads {term} in {members} by too few")
        self.elected(leader, term)
        committed_term, index = self._last_committed
        if not index or committed_term >= term:
            return  # a candidate of an older term may win late, and leads nobody
        self.reached["leader-completeness"] += 1
        if holds_index < index:
            self._incomplete(node, term, index)
        if there is not None and there != committed_term:
            self._incomplete(node, term, index)

    def elected(self, leader: tuple[int, int], term: int) -> None:
        """A (node, life) leads a term: nobody else does, nor does that node in another life."""
        self.reached["election-safety"] += 1
        first = self._leaders.setdefault(term, leader)
        if first != leader:
            raise Violation("election-safety", f"{first} and {leader} both lead term {term}")

    @staticmethod
    def _incomplete(node: int, term: int, index: int) -> None:
        raise Violation(
            "leader-completeness", f"{node} leads term {term} without committed entry {index}"
        )

    @property
    def last_committed(self) -> int:
        """The highest index that any leader committed."""
        return self._last_committed[1]

    def votes(self, voter: int, term: int, candidate: int, durable: object) -> None:
        """A vote has left a member, whose journal says `durable`."""
        self.reached["one-vote-a-term"] += 1
        first = self._votes.setdefault((voter, term), candidate)
        if first != candidate:
            raise Violation(
                "one-vote-a-term", f"{voter} votes for {first} and {candidate} in {term}"
            )
        if durable != (term, candidate):
            raise Violation(
                "one-vote-a-term", f"{voter}'s vote in {term} left before it was durable: {durable}"
            )

    def vote_heard(self, candidate: int, term: int, voter: int) -> None:
        """A vote has arrived at a candidate."""
        self._heard.setdefault((candidate, term), set()).add(voter)

    def saved(self, node: int, term: int, vote: int | None) -> None:
        """A member's journal holds a term, and perhaps a vote."""
        self.reached["term-order"] += 1
        if vote is not None and self._votes.setdefault((node, term), vote) != vote:
            raise Violation("one-vote-a-term", f"{node} votes again in {term}, now for {vote}")
        if term < self._terms.get(node, 0):
            raise Violation("term-order", f"{node} goes back to term {term}")
        self._terms[node] = term

    # --- what logs hold -------------------------------------------------------------------------

    def holds(self, node: int, index: int, term: int, value: object, previous_term: int) -> None:
        """A member appended an entry behind one of `previous_term`; by induction, Log Matching."""
        self.reached["log-matching"] += 1
        known = self._entries.setdefault((index, term), (value, previous_term))
        if known != (value, previous_term):
            raise Violation(
                "log-matching",
                f"{node} holds {(value, previous_term)} at {term}:{index}, elsewhere it is {known}",
            )

    def begins(self, node: int, core: object, disk: object) -> None:
        """Where a compacted log begins, for the core and on the disk."""
        self.reached["log-matching"] += 1
        if core != disk:
            raise Violation("log-matching", f"{node}'s log begins behind {disk}, not {core}")

    def committed_by_leader(
        self, node: int, index: int, term: int, own_term: int, *, quorum: bool
    ) -> None:
        """A leader counts an entry as committed; `quorum` says whether disks bear it out."""
        self.reached["quorum-durable"] += 1
        if not quorum:
            raise Violation(
                "quorum-durable", f"{node} commits {term}:{index} on no quorum of disks"
            )
        self.reached["own-term-commit"] += 1
        if term != own_term:
            raise Violation("own-term-commit", f"{node} in {own_term} commits {term}:{index}")
        if index > self._last_committed[1]:
            self._last_committed = (term, index)

    def decided(self, node: int, index: int, term: int, *, leads: bool) -> None:
        """A member takes an entry for committed: a leader of its own accord, others by its word."""
        known = self._decided.setdefault(index, term) if leads else self._decided.get(index)
        if known != term:
            raise Violation(
                "state-machine-safety", f"{node} takes {term}:{index} for committed, not {known}"
            )

    def applied(self, node: int, index: int, term: int, value: object) -> None:
        """A member applied an entry."""
        self.reached["state-machine-safety"] += 1
        known = self._committed.setdefault(index, (term, value))
        if known != (term, value):
            raise Violation(
                "state-machine-safety", f"{node} applies {(term, value)} at {index}, not {known}"
            )

    def attested(self, node: int, term: int, index: int, journal_term: int, *, held: bool) -> None:
        """A member told the leader of a term that it holds everything up to an index.

        `journal_term` is durable, and `held` says whether its disk holds that entry.
        """
        if not index:
            return
        self.reached["promises-durable"] += 1
        if journal_term < term or not held:
            raise Violation(
                "promises-durable", f"{node} attests {index} in {term}: {journal_term=} {held=}"
            )
        known_term, known = self._matched.get(node, (0, 0))
        if term > known_term or index > known:
            self._matched[node] = (term, max(index, known if term == known_term else 0))

    def taken_back(self, node: int, term: int, keep: int, held: int) -> None:
        """A member of a term drops its log behind `keep`; it knew `held` to be committed."""
        self.reached["acknowledged-stays"] += 1
        known_term, known = self._matched.get(node, (0, 0))
        if term == known_term and keep < known:
            raise Violation("acknowledged-stays", f"{node} drops {keep + 1}, it attested {known}")
        if keep < held:
            raise Violation("acknowledged-stays", f"{node} drops {keep + 1}, {held} is committed")

    def damaged(self, node: int) -> None:
        """A member's disk lost what it had attested: not the member's doing."""
        self._matched.pop(node, None)

    def replaced(self, node: int, term: int, snapshot: int, held: int) -> None:
        """A member of a term gave its log for a snapshot; it knew `held` to be committed."""
        self.reached["acknowledged-stays"] += 1
        known_term, known = self._matched.get(node, (0, 0))
        if snapshot < held or (term == known_term and snapshot < known):
            raise Violation("acknowledged-stays", f"{node} goes back to a snapshot of {snapshot}")

    def changes(self, node: int, before: Members, now: Members, *, settled: bool) -> None:
        """A leader appends a configuration behind another; `settled`: that one is committed."""
        self.reached["joint-consensus"] += 1
        if before.outgoing:
            legal = now.voters == before.voters and not now.outgoing
        else:
            legal = now.outgoing == (before.voters if now.voters != before.voters else set())
        if not legal or not settled:
            raise Violation("joint-consensus", f"{node} goes from {before} to {now}: {settled=}")

    def configured(self, node: int, core: object, log: object) -> None:
        """What a core takes for its members, and what its log says."""
        self.reached["configuration-in-force"] += 1
        if core != log:
            raise Violation("configuration-in-force", f"{node} goes by {core}; its log says {log}")

    # --- what clients see -----------------------------------------------------------------------

    def now(self) -> int:
        """What a client that begins now has to see at least."""
        return self._floor

    def wrote(self, index: int, value: object) -> None:
        """A client was told that its write is done."""
        self._acknowledged[index] = value
        self._floor = max(self._floor, index)

    def read(self, index: int, floor: int) -> None:
        """A client that began when `floor` had been seen got state as of `index`."""
        self.reached["linearizable-reads"] += 1
        if index < floor:
            raise Violation("linearizable-reads", f"a read saw {index}, {floor} had been seen")
        self._floor = max(self._floor, index)

    def stayed(self, before: object, after: object) -> None:
        """Who led which term when all was well, and a while later."""
        self.reached["stable-leader"] += 1
        if before != after:
            raise Violation("stable-leader", f"{before} led, then {after}, and nothing was wrong")

    def ended(self, states: Iterable[tuple[int, int, int]], digest_of: dict[int, int]) -> None:
        """All faults are over and the group had its time: (node, applied, digest) of members."""
        ends = list(states)
        self.reached["liveness"] += 1
        last = max((applied for _, applied, _ in ends), default=0)
        for node, applied, digest in ends:
            if applied != last or digest != digest_of.get(applied):
                raise Violation("liveness", f"{node} ends at {applied}, the group at {last}")
        for index, value in sorted(self._acknowledged.items()):
            self.reached["nothing-acknowledged-lost"] += 1
            if self._committed.get(index, (0, None))[1] != value or index > last:
                raise Violation("nothing-acknowledged-lost", f"{value} at {index} is gone")
