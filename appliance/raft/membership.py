"""Changes of a group's members (Raft paper, section 6; thesis, chapter 4).

Rules: voters change by joint consensus, one change at a time, and only after the leader's term has
committed an entry. A new voter is a learner first, until it nearly has the log. Once the joint
configuration is committed its leader proposes the way out by itself, whoever leads then. A leader
that is no voter any more leads until that is committed, and does not count itself.
"""

from appliance.limits import MAX_PROMOTION_LAG_ENTRIES
from appliance.raft import replication, transfer
from appliance.raft.configuration import Configuration
from appliance.raft.messages import Run
from appliance.raft.progress import Progress
from appliance.raft.ready import ChangePending, Impossible, NotCaughtUp
from appliance.raft.state import Leading, State
from appliance.raft.transitions import Event
from appliance.types import EntryKind, Index, NodeId


def propose(
    s: State, leading: Leading, voters: frozenset[NodeId], learners: frozenset[NodeId]
) -> Run:
    """Begins a change to these members; raises Refused."""
    if s.placed.index > s.commit or s.configuration.joint or not settled(s):
        raise ChangePending
    following = s.configuration.changed(voters, learners)
    if not following.sound():
        raise Impossible
    for node in sorted(voters - s.configuration.voters):
        match = leading.match.get(node)
        if match is None or match + MAX_PROMOTION_LAG_ENTRIES < s.log.last.index:
            raise NotCaughtUp
    return adopt(s, following)


def adopt(s: State, configuration: Configuration) -> Run:
    """Appends a configuration, which is thereby in force."""
    run = replication.append(s, EntryKind.CONFIGURATION, 0, configuration)
    meet(s)
    return run


def settled(s: State) -> bool:
    """Whether the leader's own term has committed an entry."""
    return s.log.term_at(s.commit) == s.term


def meet(s: State) -> None:
    """The configuration in force has changed: feeds whoever is new, forgets whoever is gone."""
    leading = s.leading
    if leading is None:
        return
    members = s.configuration.members - {s.node}
    for node in sorted(members - leading.progress.keys()):
        leading.progress[node] = Progress(Index(s.log.last.index + 1))
    for node in leading.progress.keys() - members:
        del leading.progress[node]
        leading.match.pop(node, None)


def committed(s: State) -> None:
    """More is committed: leaves a joint configuration, or steps down if that was the end."""
    if s.leading is None or s.placed.index > s.commit:
        return
    configuration = s.configuration
    if configuration.joint:
        adopt(s, configuration.left())
    elif s.node not in configuration.voters:
        s.explain("is no voter any more")
        transfer.pass_on(s, s.leading)
        s.become(Event.REMOVED)
