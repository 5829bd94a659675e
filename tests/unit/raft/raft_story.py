"""A few members on a table: every message and every sync moves when the test says so.

Rules: what members do is written down as text, with the test's own words between; nothing is left
to chance, so the text is the same each time. Syncs return at once unless they are held back.
"""

from collections.abc import Callable

from appliance.ports import HardState
from appliance.raft.configuration import Configuration, Placed
from appliance.raft.core import Core
from appliance.raft.messages import Append, Message, Run
from appliance.raft.ready import Ready, Recovered, Role, SendEntries
from appliance.raft.trace import Trace, described
from appliance.types import EntryKind, Index, NodeId, Position, Term

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
ENDLESS = 500
NOTHING = Position(Term(0), Index(0))


class Patience:
    """Entropy that gives everybody the longest election time-out."""

    def random_bytes(self, count: int) -> bytes:
        return bytes([8]) * count


class Disk:
    """What survives a crash."""

    def __init__(self, members: Configuration) -> None:
        self.hard = HardState()
        self.base = NOTHING
        self.runs: list[Run] = []
        self.snapshot = NOTHING
        self.placed = Placed(Index(0), members)
        self.known_last: Position | None = None

    def recovered(self) -> Recovered:
        terms: list[Position] = []
        configurations = [self.placed]
        last = self.base
        for run in self.runs:
            if run.term != last.term:
                terms.append(Position(run.term, run.first))
            if run.configuration is not None and run.first > self.placed.index:
                configurations.append(Placed(run.first, run.configuration))
            last = run.position
        return Recovered(
            state=self.hard,
            last=last,
            base=self.base,
            terms=tuple(terms),
            configurations=tuple(configurations),
            snapshot=self.snapshot,
            known_last=self.known_last,
        )


class Member:
    """One core, its log of single entries, and its disk."""

    def __init__(self, story: "Story", node: int, disk: Disk) -> None:
        self.story, self.node, self.disk = story, NodeId(node), disk
        self.lives = 0
        self.up = False
        self.synced = True
        self.readies: list[Ready] = []
        self.shrunk: list[object] = []
        self.reads: list[tuple[int, int]] = []
        self.commit = Index(0)

    def start(self) -> Core:
        self.lives += 1
        self.up = True
        self.log = list(self.disk.runs)
        self.base = self.disk.base
        self.core = Core(
            node=self.node,
            recovered=self.disk.recovered(),
            entropy=Patience(),
            incarnation=self.lives,
            trace=Trace(self.story.write),
        )
        return self.core

    def settle(self) -> None:
        """Carries out one Ready; what must be synced is, unless syncs are held back."""
        ready = self.core.ready()
        for message in ready.messages:
            self.story.wire.append(message)
        self._keep(ready)
        for send in ready.sends:
            self._send(send)
        self.shrunk.extend(ready.shrunk)
        self.reads.extend((read.context, read.index) for read in ready.reads)
        self.commit = ready.commit
        if ready.hard_state is not None or ready.entries or ready.truncate_after is not None:
            self.readies.append(ready)
            if self.synced:
                self.sync()

    def _keep(self, ready: Ready) -> None:
        if ready.truncate_after is not None:
            del self.log[ready.truncate_after - self.base.index :]
        for run in ready.entries:
            for at, size in enumerate(run.sizes):
                self.log.append(
                    Run(Index(run.first + at), run.term, run.kind, (size,), run.configuration)
                )

    def sync(self) -> None:
        """What was written is durable now."""
        readies, self.readies = self.readies, []
        for ready in readies:
            if ready.hard_state is not None:
                self.disk.hard = ready.hard_state
            last = ready.entries[-1].position if ready.entries else None
            self.disk.runs = [run for run in self.log if last is None or run.first <= last.index]
            self.core.advance(saved=ready.hard_state, persisted=last)
        self.settle()

    def _send(self, send: SendEntries) -> None:
        entries = self.log[max(0, send.first - 1 - self.base.index) : send.last - self.base.index]
        if not entries:
            self.story.wire.append(send.message(self.node, ()))
        previous = send.previous
        for run in entries:
            self.story.wire.append(send.message(self.node, (run,), previous))
            previous = run.position

    def compact(self, base: int) -> None:
        """Takes a snapshot of all that is committed and lets go of entries up to `base`."""
        at = self.core.commit
        term = self.core.term_at(at)
        assert term is not None
        self.core.advance(applied=at)
        self.disk.snapshot = Position(term, at)
        self.disk.placed = Placed(Index(0), self.core.configuration)
        base_term = self.core.term_at(Index(base))
        assert base_term is not None
        self.core.compact(base=Index(base), snapshot=self.disk.snapshot)
        del self.log[: base - self.base.index]
        self.base = self.disk.base = Position(base_term, Index(base))
        self.disk.runs = list(self.log)
        self.settle()

    def install(self) -> None:
        """The snapshot that the core waits for is here."""
        offer = self.core.installing
        assert offer is not None
        self.log, self.base = [], offer.position
        self.disk.runs, self.disk.base = [], offer.position
        self.disk.snapshot = offer.position
        self.disk.placed = Placed(offer.configured_at, offer.configuration)
        self.core.advance(snapshot=offer.position)
        self.settle()

    def terms(self) -> list[int]:
        """The term of each entry from the base on."""
        return [run.term for run in self.log]


class Story:
    """All members, the messages under way, and what has happened so far."""

    def __init__(self, *voters: int) -> None:
        self.lines: list[str] = []
        self.wire: list[Message] = []
        self.first = Configuration(frozenset(map(NodeId, voters)))
        self.members: dict[int, Member] = {}
        self.cut: set[tuple[int, int]] = set()
        for node in voters:
            self.join(node)

    def __getitem__(self, node: int) -> Core:
        return self.members[node].core

    def join(self, node: int) -> None:
        """A member with an empty disk."""
        self.members[node] = Member(self, node, Disk(self.first))
        self.members[node].start()

    def write(self, line: str) -> None:
        """A line of the trace."""
        self.lines.append(line)

    def say(self, text: str) -> None:
        """The test's own words."""
        self.lines.append(f"\n# {text}")

    def do(self, node: int, act: Callable[[Core], object]) -> None:
        """Something happens to one member."""
        act(self.members[node].core)
        self.members[node].settle()

    def run(self, only: Callable[[Message], bool] = lambda _: True, most: int = ENDLESS) -> None:
        """Delivers what is under way, and what comes of it, until nothing moves."""
        for _ in range(most):
            found = next((m for m in self.wire if only(m)), None)
            if found is None:
                return
            self.wire.remove(found)
            self.deliver(found)
        assert most < ENDLESS, "messages without end"

    def deliver(self, message: Message) -> None:
        """One message, unless its link is cut or its receiver is down."""
        member = self.members.get(message.to)
        if member is None or not member.up or (message.sender, message.to) in self.cut:
            self.write(f"  (lost: {message.sender} -> {message.to}: {described(message)})")
            return
        member.core.step(message)  # type: ignore[arg-type]
        member.settle()

    def lose(self) -> None:
        """Everything that is under way is lost."""
        self.wire.clear()

    def isolate(self, node: int) -> None:
        """Nothing reaches a member, and nothing comes from it."""
        self.say(f"{node} is cut off.")
        for other in self.members:
            self.cut |= {(node, other), (other, node)}

    def heal(self) -> None:
        """All links are good again."""
        self.cut.clear()

    def crash(self, node: int) -> None:
        """Loses what was not synced."""
        self.say(f"{node} crashes.")
        self.members[node].up = False
        self.members[node].readies.clear()

    def restart(self, node: int) -> None:
        """Comes back with what its disk holds."""
        self.say(f"{node} comes back.")
        self.members[node].start()

    def silence(self, *nodes: int) -> None:
        """These have not heard a leader for so long that they protect it no more."""
        for node in nodes:
            self.do(node, lambda core: core.tick(10))

    def elect(self, node: int) -> None:
        """The other members have heard nobody for a while, and this one campaigns."""
        self.silence(*(n for n, m in self.members.items() if m.up and n != node))
        self.do(node, Core.campaign)
        self.run()
        assert self[node].role is Role.LEADER

    def insist(self, node: int) -> None:
        """Campaigns again if it only learnt of a later term; appends stay under way."""
        for _ in range(2):
            if self[node].role is not Role.LEADER:
                self.do(node, Core.campaign)
                self.run(lambda m: not isinstance(m, Append))

    def propose(self, node: int, count: int = 1) -> None:
        """A client writes."""
        for _ in range(count):
            self[node].propose(EntryKind.COMMAND, 10)
        self.members[node].settle()

    def text(self) -> str:
        """The whole story."""
        return "\n".join(self.lines).strip() + "\n"


def appends_to(node: int) -> Callable[[Message], bool]:
    """Which messages bring entries to a member."""
    return lambda message: isinstance(message, Append) and message.to == node


def place(term: int, index: int) -> Position:
    return Position(Term(term), Index(index))


def run(first: int, term: int, count: int = 1) -> Run:
    return Run(Index(first), Term(term), EntryKind.COMMAND, (10,) * count)


def nodes(*numbers: int) -> frozenset[NodeId]:
    return frozenset(map(NodeId, numbers))


def led(*voters: int) -> Story:
    """A group that 1 leads, with its no-op everywhere."""
    story = Story(*(voters or (1, 2, 3)))
    story.elect(1)
    return story


def with_logs(**terms: list[int]) -> Story:
    """Members whose durable logs hold entries of these terms, by name: n1=[1, 1, 2]."""
    story = Story(*range(1, len(terms) + 1))
    for name, log in terms.items():
        node = int(name[1:])
        disk = Disk(story.first)
        disk.runs = [run(at + 1, term) for at, term in enumerate(log)]
        disk.hard = HardState(Term(max(log, default=0)), None)
        story.members[node].disk = disk
        story.members[node].start()
    return story
