"""The states of a classic consumer group, as a table; everything else asks it.

```
EMPTY ──────────────► PREPARING_REBALANCE ◄──────────────┐
  ▲  ▲                  │            ▲ │                 │
  │  └──── nobody ──────┘   a member │ │ all rejoined,   │ a member comes,
  │                        is lost   │ ▼ or time is up   │ goes or changes
  │                     COMPLETING_REBALANCE             │
  │                                    │ leader synced   │
  ▼                                    ▼                 │
DEAD                                STABLE ──────────────┘
```
"""

from enum import IntEnum


class GroupState(IntEnum):
    """Where a group stands (Kafka's classic protocol)."""

    EMPTY = 0
    PREPARING_REBALANCE = 1
    COMPLETING_REBALANCE = 2
    STABLE = 3
    DEAD = 4


TRANSITIONS: frozenset[tuple[GroupState, GroupState]] = frozenset(
    {
        (GroupState.EMPTY, GroupState.PREPARING_REBALANCE),
        (GroupState.EMPTY, GroupState.DEAD),
        (GroupState.PREPARING_REBALANCE, GroupState.EMPTY),
        (GroupState.PREPARING_REBALANCE, GroupState.COMPLETING_REBALANCE),
        (GroupState.COMPLETING_REBALANCE, GroupState.PREPARING_REBALANCE),
        (GroupState.COMPLETING_REBALANCE, GroupState.STABLE),
        (GroupState.STABLE, GroupState.PREPARING_REBALANCE),
    }
)
"""Every step that is legal; any other is a fault of this program."""
