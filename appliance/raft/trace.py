"""What a core does, step by step, as text that reads as a story.

Rules: the same inputs give the same text, to the letter: nothing in it comes from a clock, an
address or the order of a set. A line is who, in which role and term, and what; what came out of a
step stands indented below it.
"""

from collections.abc import Callable

from appliance.ports import HardState
from appliance.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    PreVoteReply,
    Run,
    SnapshotOffer,
    SnapshotReply,
    Vote,
    VoteReply,
)
from appliance.raft.ready import Ready, Refusal, SendEntries
from appliance.raft.state import State
from appliance.types import EntryKind, Position


class Trace:
    """Writes the steps of one core to `write`, a line at a time."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Takes where lines go."""
        self._write = write
        self._state: State | None = None
        self._headed = False

    def begin(self, state: State) -> None:
        """A core has been made."""
        self._state = state
        self.told(f"starts with {place(state.log.last)}, members {state.configuration}")

    def told(self, text: str) -> None:
        """Something happened to the core."""
        s = self._state
        self._headed = True
        if s is not None:
            self._write(f"{s.node} {s.role.name.lower()} {s.term}: {text}")

    def explain(self, text: str) -> None:
        """Why the core decided as it did."""
        self._write(f"    because it {text}")

    def message(self, message: Message) -> None:
        """A message has come."""
        self.told(f"gets {described(message)} from {message.sender}")

    def refused(self, refusal: Refusal) -> None:
        """And was not acted on."""
        self._write(f"    refuses it: {refusal.name.lower().replace('_', ' ')}")

    def advanced(
        self, saved: HardState | None, persisted: Position | None, snapshot: Position | None
    ) -> None:
        """Something has become durable."""
        if saved is not None:
            vote = "no vote" if saved.vote is None else f"its vote for {saved.vote}"
            self.told(f"has saved term {saved.term} and {vote}")
        if persisted is not None:
            self.told(f"has synced up to {place(persisted)}")
        if snapshot is not None:
            self.told(f"has installed the snapshot up to {place(snapshot)}")

    def ready(self, ready: Ready) -> None:
        """What came of it."""
        lines = outputs(ready)
        if lines and not self._headed:
            self.told("time has passed")
        for line in lines:
            self._write(f"    {line}")
        self._headed = False


def outputs(ready: Ready) -> list[str]:
    """Every output of one Ready, in the order in which the shell carries them out."""
    lines: list[str] = []
    if ready.leadership is not None:
        to = ready.leadership
        follows = "" if to.leader is None else f" under {to.leader}"
        lines.append(f"is {to.role.name.lower()} in term {to.term}{follows}")
    lines.extend(f"-> {message.to}: {described(message)}" for message in ready.messages)
    lines.extend(f"-> {send.to}: {sending(send)}" for send in ready.sends)
    if ready.hard_state is not None:
        lines.append(f"saves term {ready.hard_state.term}, vote {ready.hard_state.vote}")
    if ready.truncate_after is not None:
        lines.append(f"takes back everything behind {ready.truncate_after}")
    lines.extend(f"appends {run_text(run)}" for run in ready.entries)
    if ready.configuration is not None:
        placed = ready.configuration
        lines.append(f"has members {placed.configuration} by entry {placed.index}")
    if ready.install is not None:
        lines.append(f"installs the snapshot up to {place(ready.install.position)}")
    lines.extend(f"serves read {read.context} at {read.index}" for read in ready.reads)
    lines.extend(f"cannot serve read {context}" for context in ready.reads_lost)
    lines.extend(
        f"ALARM: {shrunk.node} acknowledged {shrunk.acknowledged} and holds {shrunk.held}"
        for shrunk in ready.shrunk
    )
    return lines


def place(position: Position) -> str:
    """`3:17`: term and index."""
    return f"{position.term}:{position.index}"


def run_text(run: Run) -> str:
    """`3:17..19 batch`, or the members that a configuration names."""
    through = f"..{run.last}" if run.last > run.first else ""
    what = run.kind.name.lower().replace("_", "-")
    if run.kind is EntryKind.CONFIGURATION:
        what = f"configuration ({run.configuration})"
    return f"{run.term}:{run.first}{through} {what}"


def sending(send: SendEntries) -> str:
    """A range to be sent."""
    if send.last < send.first:
        return f"nothing after {place(send.previous)}, commit {send.commit}"
    return f"entries {send.first}..{send.last} after {place(send.previous)}, commit {send.commit}"


def described(message: Message) -> str:  # noqa: PLR0911 - one arm for each message
    """One message in words."""
    match message:
        case PreVote():
            return f"pre-vote? for term {message.term}, has {place(message.last)}"
        case Vote():
            asked = ", asked by the leader" if message.transferred else ""
            return f"vote? for term {message.term}, has {place(message.last)}{asked}"
        case PreVoteReply() | VoteReply():
            kind = "pre-vote" if isinstance(message, PreVoteReply) else "vote"
            return f"{kind} {'yes' if message.granted else 'no'}, term {message.term}"
        case Append():
            runs = "; ".join(map(run_text, message.runs)) or "nothing"
            return f"append {runs} after {place(message.previous)}, commit {message.commit}"
        case AppendReply():
            return _append_reply(message)
        case Heartbeat():
            round_ = f", round {message.round}" if message.round else ""
            return f"heartbeat, match {place(message.match)}, commit {message.commit}{round_}"
        case HeartbeatReply():
            return f"heartbeat reply, round {message.round}"
        case SnapshotOffer():
            return f"snapshot up to {place(message.position)}, members {message.configuration}"
        case SnapshotReply():
            return f"snapshot {'taken' if message.taken else 'not taken'}, match {message.match}"
        case _:
            return "take over now"


def _append_reply(message: AppendReply) -> str:
    conflict = message.conflict
    if conflict is None:
        return f"match {message.match}, commit {message.commit}, term {message.term}"
    return f"no entry as said at {conflict.rejected}, perhaps at {place(conflict.hint)}"
