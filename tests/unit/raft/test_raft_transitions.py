"""The table of roles: closed, and drawn in the documents as it is.

`python tests/unit/raft/test_raft_transitions.py` draws it anew.
"""

import re
from pathlib import Path

import pytest

from appliance.invariant import InvariantViolation
from appliance.raft.ready import Role
from appliance.raft.transitions import TRANSITIONS, Event, after

DOCUMENT = Path(__file__).parents[3] / "docs" / "raft.md"
BETWEEN = re.compile(r"(?s)<!-- transitions -->\n.*<!-- end -->")


def drawn() -> str:
    """The table as a diagram; events that lead the same way share an arrow."""
    arrows: dict[tuple[Role, Role], list[str]] = {}
    for (role, event), to in TRANSITIONS.items():
        if role is not to:
            arrows.setdefault((role, to), []).append(event.value)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> follower"]
    for (role, to), events in arrows.items():
        lines.append(f"    {role.name.lower()} --> {to.name.lower()}: {'<br/>'.join(events)}")
    return "<!-- transitions -->\n" + "\n".join([*lines, "```"]) + "\n<!-- end -->"


def test_the_diagram_is_the_table() -> None:
    assert drawn() in DOCUMENT.read_text()


def test_every_role_can_be_reached_and_left_and_every_event_happens() -> None:
    moves = {(role, to) for (role, _), to in TRANSITIONS.items() if role is not to}
    assert {to for _, to in moves} == {role for role, _ in moves} == set(Role)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_leadership_is_won_by_votes_alone() -> None:
    assert [key for key, to in TRANSITIONS.items() if to is Role.LEADER] == [
        (Role.CANDIDATE, Event.ELECTED)
    ]


def test_what_the_table_does_not_know_does_not_happen() -> None:
    with pytest.raises(InvariantViolation):
        after(Role.FOLLOWER, Event.ELECTED)


if __name__ == "__main__":
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(BETWEEN.sub(lambda _: drawn(), text))
