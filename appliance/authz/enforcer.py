"""Casbin, and the only module that knows it: a policy's text becomes something that can be asked.

Rules: the model is part of the trusted base, so its digest is checked. Casbin gets values, never
text to parse; it is asked only when a line could match, because without any line it would judge its
matcher on empty fields, and because asking about an unknown name makes it remember the name.
A line that denies wins over every line that allows.
"""

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

import casbin

from appliance.authz.actions import Action, ResourceKind
from appliance.authz.baseline import model_text
from appliance.authz.index import LineIndex, View, brings, covers, reaches
from appliance.authz.policy import ANY, Effect, Line, Policy, canonical_host, parse
from appliance.errors import ConfigurationError
from appliance.invariant import invariant

MODEL_SHA256: Final = "0527001ecba343c28075206b3881f609f045d62b8cff5add8566c666b76ae9dd"
MAX_ALLOWING_LINES: Final = 16
"""Casbin is handed no more lines that allow than this: one that matches is enough."""

MAX_WITNESSES: Final = 256
"""Names tried for 'at least one resource of this kind'."""

MAX_ANSWERS: Final = 4096
"""Answers of Casbin that are kept. A name has a say only through the lines that match it, so the
lines stand for it in the key, and a request full of new names asks Casbin once, not for each."""

_Question = tuple[str, str, Action, ResourceKind, tuple[int, ...]]

_BEYOND: Final = "\x00"
"""Stands in no policy: a name that goes on with it is matched by prefixes only."""


class CompiledPolicy:
    """A policy that can be asked, from one thread; what it answers never changes."""

    __slots__ = ("_answers", "_casbin", "_index", "_roles", "_views")

    def __init__(self, policy: Policy) -> None:
        """Builds the index and Casbin's enforcer with the policy's roles."""
        self._roles = policy.roles
        self._index = LineIndex(policy.lines)
        self._casbin = _Casbin(policy.links)
        self._views: dict[tuple[str, Action, ResourceKind], tuple[View, View]] = {}
        self._answers: dict[_Question, bool] = {}

    @property
    def by_host(self) -> bool:
        """Whether decisions depend on the address that a request comes from."""
        return self._index.by_host

    def ruling(
        self, subject: str, address: str, action: Action, kind: ResourceKind, name: str
    ) -> Line | None:
        """The line that decides; None if no line speaks of it, which refuses."""
        views = self._views_of(subject, action, kind)
        if views is None:
            return None
        host = ""
        denying, allowing = views[0].matching(name), views[1].matching(name)
        if self.by_host:
            host = canonical_host(address) or ""
            denying = [line for line in denying if reaches(host, line.host, line.effect)]
            allowing = [line for line in allowing if reaches(host, line.host, line.effect)]
        candidates = denying + allowing[:MAX_ALLOWING_LINES]
        if not candidates:
            return None
        allowed = self._ask(candidates, subject, action, kind, name, host)
        invariant(allowed == (not denying), "the index and Casbin's matcher mean the same")
        return candidates[0]

    def ruling_on_any(
        self, subject: str, address: str, action: Action, kind: ResourceKind
    ) -> Line | None:
        """The line that allows the action on at least one resource of a kind, existing or not."""
        views = self._views_of(subject, action, kind)
        if views is None:
            return None
        patterns = dict.fromkeys(islice(views[1].patterns(), MAX_WITNESSES))
        for pattern in patterns:
            witness = pattern[:-1] + _BEYOND if pattern.endswith(ANY) else pattern
            line = self.ruling(subject, address, action, kind, witness)
            if line is not None and line.effect is Effect.ALLOW:
                return line
        return None

    def _views_of(
        self, subject: str, action: Action, kind: ResourceKind
    ) -> tuple[View, View] | None:
        """The lines that deny and those that allow; None for whom the policy does not know."""
        roles = self._roles.get(subject)
        if roles is None and subject not in self._index.subjects:
            return None
        key = (subject, action, kind)
        views = self._views.get(key)
        if views is None:
            subjects = (subject, *(roles or ()))
            views = (
                self._index.view(Effect.DENY, subjects, action, kind),
                self._index.view(Effect.ALLOW, subjects, action, kind),
            )
            self._views[key] = views
        return views

    def _ask(  # noqa: PLR0917 - the request as the Casbin model defines it
        self,
        lines: list[Line],
        subject: str,
        action: Action,
        kind: ResourceKind,
        name: str,
        host: str,
    ) -> bool:
        key = (subject, host, action, kind, tuple([line.number for line in lines]))
        allowed = self._answers.get(key)
        if allowed is None:
            allowed = self._casbin.enforce(lines, (subject, action.value, kind.value, name, host))
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            self._answers[key] = allowed
        return allowed


class _Casbin:
    """One Casbin enforcer, told before each question which lines there are."""

    __slots__ = ("_assertion", "_enforcer")

    def __init__(self, links: Sequence[tuple[str, str]]) -> None:
        model = casbin.Model()
        model.load_model_from_text(_trusted_model())
        self._enforcer = casbin.Enforcer(model)
        logging.getLogger("casbin").setLevel(logging.CRITICAL)  # it would log names of requests
        for function in (covers, brings, reaches):
            self._enforcer.add_function(function.__name__, function)
        roles = self._enforcer.get_role_manager()
        for member, role in links:
            roles.add_link(member, role)
        self._assertion = model["p"]["p"]

    def enforce(self, lines: Sequence[Line], request: tuple[str, str, str, str, str]) -> bool:
        self._assertion.policy = [line.fields() for line in lines]
        return self._enforcer.enforce(*request) is True


@lru_cache(maxsize=2)
def compiled(text: str) -> CompiledPolicy:
    """Compiles a policy; raises ConfigurationError that names the line.

    The last two are kept: a text that was checked (in a thread, as it may be long) costs nothing
    when it comes into force.
    """
    return CompiledPolicy(parse(text))


def check(text: str) -> None:
    """Raises ConfigurationError, naming the line, unless `text` is a policy."""
    compiled(text)


@lru_cache(maxsize=1)
def _trusted_model() -> str:
    text = model_text()
    if hashlib.sha256(text.encode()).hexdigest() != MODEL_SHA256:
        raise ConfigurationError("policies/model.conf is not the model of this release: restore it")
    return text
