"""Requests about the connection itself, and what every dialect can answer."""

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Request, Response


class ApiVersions(Request, frozen=True):
    """Asks which APIs and versions are served; the codec that heard it fills in the table."""

    understood: bool = True
    """False: the client asked in an unknown version and gets version 0 with error 35."""

    valid: bool = True
    """False: the client's name or version for itself is malformed (KIP-511) and gets error 42."""


class ApiVersionsResult(Response, frozen=True):
    """Answer to ApiVersions, and to `ApiVersions(understood=False)`."""

    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0


class Refused(Response, frozen=True):
    """The native dialect's answer when a request as a whole is refused."""

    error: ErrorCode
    message: str
