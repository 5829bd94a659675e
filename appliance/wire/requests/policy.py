"""The policy that every decision follows (native dialect only)."""

from typing import Annotated

from msgspec import Meta

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Request, Response


class DescribePolicy(Request, frozen=True):
    """Asks for the policy in force (native dialect only)."""


class DescribePolicyResult(Response, frozen=True):
    """The policy's text and the version that decisions name."""

    error: ErrorCode = ErrorCode.NONE
    version: int = -1
    text: str = ""


class ReplacePolicy(Request, frozen=True):
    """Puts a whole policy in place, if `expected_version` is still in force."""

    text: Annotated[str, Meta(max_length=1_048_576)]
    expected_version: int


class ReplacePolicyResult(Response, frozen=True):
    """Answer to ReplacePolicy; the message says which line is wrong."""

    error: ErrorCode = ErrorCode.NONE
    version: int = -1
    message: str | None = None
