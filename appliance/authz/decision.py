"""What the gate has to say: a decision with its reason, and the refusals that follow from it.

Rules: a decision is a value that names the line that made it and the policy's version, never a bare
bool; asking for its truth raises, so that no branch can be taken on the object by mistake.
"""

from typing import NoReturn

from msgspec import Struct

from appliance.authz.actions import Resource
from appliance.errors import ErrorCode


class Decision(Struct, frozen=True, gc=False):
    """Whether something is allowed, and why.

    `rule` is the policy line as it is written, or, where no line decided, the rule in words;
    `pattern` is the name pattern of that line, or empty. `denied` tells a line that denies from the
    absence of a line that allows.
    """

    allowed: bool
    rule: str
    pattern: str
    policy_version: int
    denied: bool = False

    def __bool__(self) -> NoReturn:
        """Refuses: read `allowed`."""
        raise TypeError("a decision has no truth of its own: read .allowed")


class Refusal(Struct, frozen=True, gc=False):
    """One item of a request that is refused, with the code that its part of the reply carries."""

    resource: Resource
    code: ErrorCode
    decision: Decision


class Denied(Struct, frozen=True, gc=False):
    """A request that is refused as a whole; `resource` is what it lacked, if it was one thing."""

    code: ErrorCode
    decision: Decision
    resource: Resource | None = None
