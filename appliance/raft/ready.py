"""What the core asks of its shell: values out, acknowledged by `Core.advance`.

Rules: the shell saves `hard_state` durably before anything else of the same Ready leaves the node,
persists `entries` in order, and applies up to `commit` in order. Each acknowledgement names what
it is for, so a late one for something overwritten counts for nothing (DESIGN section 7).
"""

from enum import IntEnum

import msgspec

from appliance.ports import HardState
from appliance.types import EntryKind, Index, Position


class Role(IntEnum):
    """A voter's part in its term (Raft paper, section 5.1)."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2


class Persist(msgspec.Struct, frozen=True, gc=False):
    """One entry to append to the sealed log; its payload stays with the shell."""

    position: Position
    kind: EntryKind
    payload_bytes: int


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Everything that has come to be since the last Ready."""

    hard_state: HardState | None
    entries: tuple[Persist, ...]
    commit: Index
    """Entries up to here are decided and may be applied."""


class NotLeader(Exception):
    """Only a leader assigns indexes; the shell answers with its protocol's error."""
