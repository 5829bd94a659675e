"""One policy at one version, with the decisions made by it; both end together.

Rules: a decision's key holds every attribute that it used. The cache is bounded in entries and in
the length of names, so no client can fill memory with names; it has two generations, so what is
asked often stays. A new policy is a new snapshot with an empty cache.
"""

from typing import Final

import msgspec

from appliance.authz.actions import INSTEAD, Action, ResourceKind
from appliance.authz.decision import Decision
from appliance.authz.enforcer import CompiledPolicy, compiled
from appliance.authz.policy import MAX_PATTERN_CHARACTERS, Effect, Line
from appliance.limits import MAX_CACHED_DECISIONS
from appliance.types import Principal

NO_LINE: Final = "no line of the policy allows it"

_Key = tuple[Principal, Action, ResourceKind, str, str]


class Asker(msgspec.Struct, frozen=True, gc=False):
    """Who asks, and from where: what decisions may depend on besides the resource."""

    principal: Principal
    listener: str
    address: str


class PolicySnapshot:
    """Decides by one policy; its answers never change."""

    __slots__ = ("_by_line", "_nothing", "_older", "_policy", "_recent", "text", "version")

    def __init__(self, version: int, text: str, policy: CompiledPolicy) -> None:
        """Takes a compiled policy; `of` compiles one."""
        self.version = version
        self.text = text
        self._policy = policy
        self._recent: dict[_Key, Decision] = {}
        self._older: dict[_Key, Decision] = {}
        self._by_line: dict[int, Decision] = {}
        self._nothing = Decision(False, NO_LINE, "", version)

    @classmethod
    def of(cls, version: int, text: str) -> "PolicySnapshot":
        """Compiles a policy; raises ConfigurationError if it is not one."""
        return cls(version, text, compiled(text))

    @classmethod
    def refusing(cls, version: int, text: str) -> "PolicySnapshot":
        """What stands in for a policy that cannot be read: it refuses everything."""
        return cls(version, text, compiled(""))

    @property
    def cached_decisions(self) -> int:
        """How many decisions are kept now; never more than MAX_CACHED_DECISIONS."""
        return len(self._recent) + len(self._older)

    def decide(self, asker: Asker, action: Action, kind: ResourceKind, name: str) -> Decision:
        """Whether `asker` may, and why."""
        if len(name) > MAX_PATTERN_CHARACTERS:
            # No pattern is as long as this, so nothing beyond can change the answer.
            name = name[: MAX_PATTERN_CHARACTERS + 1]
        address = asker.address if self._policy.by_host else ""
        key = (asker.principal, action, kind, name, address)
        decision = self._recent.get(key)
        if decision is None:
            decision = self._remember(key, asker)
        return decision

    def _remember(self, key: _Key, asker: Asker) -> Decision:
        decision = self._older.get(key)
        if decision is None:
            decision = self._decide(asker, key[1], key[2], key[3])
        if len(self._recent) >= MAX_CACHED_DECISIONS // 2:
            self._older, self._recent = self._recent, {}
        self._recent[key] = decision
        return decision

    def _decide(
        self, asker: Asker, action: Action, kind: ResourceKind, name: str | None
    ) -> Decision:
        subject, address = str(asker.principal), asker.address
        if name is None:
            return self._from(self._policy.ruling_on_any(subject, address, action, kind))
        decision = self._from(self._policy.ruling(subject, address, action, kind, name))
        instead = INSTEAD.get((action, kind))
        if decision.allowed or decision.denied or instead is None:
            return decision
        other = None if instead.resource is None else instead.resource.name
        return self._decide(asker, instead.action, instead.kind, other)

    def _from(self, line: Line | None) -> Decision:
        if line is None:
            return self._nothing
        decision = self._by_line.get(line.number)
        if decision is None:
            denied = line.effect is Effect.DENY
            decision = Decision(not denied, str(line), line.pattern, self.version, denied)
            self._by_line[line.number] = decision
        return decision
