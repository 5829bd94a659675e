"""Logging in inside TLS, and the credentials for it."""

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Name, Part, Request, Response


class SaslHandshake(Request, frozen=True):
    """Begins a login by a mechanism."""

    mechanism: Name


class SaslHandshakeResult(Response, frozen=True):
    """Answer to SaslHandshake."""

    error: ErrorCode = ErrorCode.NONE
    mechanisms: tuple[str, ...] = ()


class SaslAuthenticate(Request, frozen=True):
    """The next message of a login; what it holds is never shown."""

    auth_bytes: bytes

    def __repr__(self) -> str:
        """Shows that there is a message, never which."""
        return "SaslAuthenticate(…)"


class SaslAuthenticateResult(Response, frozen=True):
    """Answer to SaslAuthenticate; a lifetime of 0 is without end (KIP-368)."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    auth_bytes: bytes = b""
    session_lifetime_ms: int = 0

    def __repr__(self) -> str:
        """Shows how it went, never the message."""
        return f"SaslAuthenticateResult({self.error!r}, …)"


class DescribeUserScramCredentials(Request, frozen=True):
    """Asks which users have which kinds of credentials; None asks for all."""

    users: tuple[Name, ...] | None


class ScramInfo(Part, frozen=True):
    """One credential: its mechanism by Kafka's number, and its iterations."""

    mechanism: int
    iterations: int


class ScramUser(Part, frozen=True):
    """One user's credentials."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    credentials: tuple[ScramInfo, ...] = ()


class DescribeUserScramCredentialsResult(Response, frozen=True):
    """Answer to DescribeUserScramCredentials."""

    users: tuple[ScramUser, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    throttle_time_ms: int = 0


class ScramDeletion(Part, frozen=True):
    """A credential to remove."""

    name: Name
    mechanism: int


class ScramUpsertion(Part, frozen=True):
    """A credential to set, by a password that the client has salted; never shown."""

    name: Name
    mechanism: int
    iterations: int
    salt: bytes
    salted_password: bytes

    def __repr__(self) -> str:
        """Shows whose it is, never what."""
        return f"ScramUpsertion({self.name!r}, {self.mechanism}, …)"


class AlterUserScramCredentials(Request, frozen=True):
    """Sets and removes credentials (KIP-554)."""

    deletions: tuple[ScramDeletion, ...]
    upsertions: tuple[ScramUpsertion, ...]


class AlteredScramUser(Part, frozen=True):
    """What became of one user's credentials."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class AlterUserScramCredentialsResult(Response, frozen=True):
    """Answer to AlterUserScramCredentials."""

    users: tuple[AlteredScramUser, ...]
    throttle_time_ms: int = 0
