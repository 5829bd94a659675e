"""The states of one connection, as a table: what may happen next, and nothing else.

Pure: `server.connection` feeds events in and does what a state allows. Frames are decoded in
SERVING, and in LOGGING_IN those of a login only; AUTHENTICATED is the moment between a proven
principal and its entry in the audit log, in which no application byte is read. A login that renews
another passes through it again (KIP-368).
"""

from enum import Enum
from types import MappingProxyType
from typing import Final

from appliance.invariant import invariant


class State(Enum):
    """Where a connection is in its life."""

    HANDSHAKING = "handshaking"
    LOGGING_IN = "logging in"
    AUTHENTICATED = "authenticated"
    SERVING = "serving"
    DRAINING = "draining"
    CLOSED = "closed"


class Event(Enum):
    """What happens to a connection."""

    ENCRYPTED = "encrypted"
    """TLS is up, and who the peer is remains to be said by a login inside it."""
    VERIFIED = "verified"
    """The certificate, or the login, maps to a principal."""
    ADMITTED = "admitted"
    """The login is recorded."""
    STOP = "stop"
    """No more requests are read: the peer has finished, or the node stops."""
    END = "end"
    """Everything is answered, or the connection is given up."""


TABLE: Final = MappingProxyType(
    {
        (State.HANDSHAKING, Event.VERIFIED): State.AUTHENTICATED,
        (State.HANDSHAKING, Event.ENCRYPTED): State.LOGGING_IN,
        (State.LOGGING_IN, Event.VERIFIED): State.AUTHENTICATED,
        (State.LOGGING_IN, Event.STOP): State.DRAINING,
        (State.LOGGING_IN, Event.END): State.CLOSED,
        (State.SERVING, Event.VERIFIED): State.AUTHENTICATED,
        (State.HANDSHAKING, Event.STOP): State.CLOSED,
        (State.HANDSHAKING, Event.END): State.CLOSED,
        (State.AUTHENTICATED, Event.ADMITTED): State.SERVING,
        (State.AUTHENTICATED, Event.STOP): State.CLOSED,
        (State.AUTHENTICATED, Event.END): State.CLOSED,
        (State.SERVING, Event.STOP): State.DRAINING,
        (State.SERVING, Event.END): State.CLOSED,
        (State.DRAINING, Event.STOP): State.DRAINING,
        (State.DRAINING, Event.END): State.CLOSED,
        (State.CLOSED, Event.STOP): State.CLOSED,
        (State.CLOSED, Event.END): State.CLOSED,
    }
)
"""Every legal step; a pair that is not here is a fault of this program."""


class Session:
    """One connection's place in the table."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        """Begins where a TCP connection has just been accepted."""
        self.state = State.HANDSHAKING

    def on(self, event: Event) -> State:
        """Takes the step for `event` and returns the state it leads to.

        Raises:
            InvariantViolation: the event is not legal in this state.
        """
        step = (self.state, event)
        invariant(step in TABLE, f"{event.value} is not legal while {self.state.value}")
        self.state = TABLE[step]
        return self.state
