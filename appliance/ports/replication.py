"""What a node tells of its replicas to whoever measures it."""

import msgspec


class ReplicationStanding(msgspec.Struct, frozen=True):
    """How a node's replicas stand now; `shrunk` and `damaged` were counted since it started.

    `led` are those that this node leads and serves, `under_replicated` those among them of which
    another voter is not heard, `leaderless` those whose leader is not known here.
    """

    held: int
    led: int
    under_replicated: int
    leaderless: int
    shrunk: int
    damaged: int
