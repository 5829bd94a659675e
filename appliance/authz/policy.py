"""A policy's text, read line by line into values; everything that is not plainly right is refused.

    p, <subject>, <action>, <kind>, <name pattern>, <allow|deny>[, <host>]
    g, <member>, <role>

Rules: the text is an operator's, so an error names the line and what to do. There is no quoting, no
regular expression and no character that looks like another: fields are plain ASCII. A line that
could never matter (a misspelt action, a role without lines) is an error, because the author of a
line that denies must be able to rely on it.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec

from appliance.authz.actions import ACTIONS_ON, CLUSTER, POLICY, Action, ResourceKind
from appliance.errors import ConfigurationError
from appliance.limits import MAX_POLICY_BYTES

ANY: Final = "*"
MAX_PATTERN_CHARACTERS: Final = 255
MAX_ROLE_DEPTH: Final = 8
"""Links from a principal to its farthest role; Casbin itself follows no more than ten."""
MAX_ROLES_PER_SUBJECT: Final = 64

_SUBJECT = re.compile(r"(?:User:[A-Za-z0-9._:/@+=~%-]{1,255}|role:[A-Za-z0-9._-]{1,64})")
_NAME = re.compile(r"[A-Za-z0-9._:/@+=~%-]{1,255}")
_ACTIONS: Final = frozenset(action.value for action in Action)
_KINDS: Final = frozenset(kind.value for kind in ResourceKind)
_ONLY_NAME: Final = {ResourceKind.CLUSTER: CLUSTER.name, ResourceKind.POLICY: POLICY.name}


class Effect(StrEnum):
    """What a line does to the requests that it matches."""

    ALLOW = "allow"
    DENY = "deny"


class Line(msgspec.Struct, frozen=True, gc=False):
    """One `p` line; `number` is its place in the text, from 1."""

    number: int
    subject: str
    action: str
    kind: str
    pattern: str
    effect: Effect
    host: str = ANY

    def fields(self) -> list[str]:
        """The line as the Casbin model defines it."""
        return [self.subject, self.action, self.kind, self.pattern, self.effect.value, self.host]

    def __str__(self) -> str:
        """The line as it is written, with its number."""
        fields = self.fields() if self.host != ANY else self.fields()[:-1]
        return f"line {self.number}: p, {', '.join(fields)}"


class Policy(msgspec.Struct, frozen=True):
    """A whole policy: its lines, and for each member all its roles, however far."""

    lines: tuple[Line, ...]
    links: tuple[tuple[str, str], ...]
    roles: dict[str, tuple[str, ...]]


def parse(text: str) -> Policy:
    """Reads a policy; raises ConfigurationError that names the line."""
    if len(text.encode("utf-8", "replace")) > MAX_POLICY_BYTES:
        raise ConfigurationError(f"policy: more than {MAX_POLICY_BYTES} bytes")
    lines: dict[tuple[str, ...], Line] = {}
    links: dict[tuple[str, str], int] = {}
    for number, fields in _rows(text):
        if fields[0] == "p":
            line = _line(number, fields)
            first = lines.setdefault(tuple(line.fields()), line)
            if first is not line:
                raise _wrong(number, f"it repeats line {first.number}: remove one of them")
        elif fields[0] == "g":
            link = _link(number, fields)
            if links.setdefault(link, number) != number:
                raise _wrong(number, f"it repeats line {links[link]}: remove one of them")
        else:
            raise _wrong(number, "it begins with neither p nor g")
    subjects = {line.subject for line in lines.values()}
    return Policy(tuple(lines.values()), tuple(links), _closures(links, subjects))


def canonical_host(address: str) -> str | None:
    """An IP address in its one spelling (an IPv4 address in IPv6's form becomes IPv4), or None."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _wrong(number: int, what: str) -> ConfigurationError:
    return ConfigurationError(f"policy line {number}: {what}")


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, raw in enumerate(text.split("\n"), start=1):
        row = raw.removesuffix("\r").replace("\t", " ").strip(" ")
        if not row.isprintable():
            raise _wrong(number, "it holds a character that does not show")
        if row and not row.startswith("#"):
            yield number, [field.strip(" ") for field in row.split(",")]


def _line(number: int, fields: list[str]) -> Line:
    if len(fields) not in {6, 7}:
        raise _wrong(number, "a line is: p, subject, action, kind, name, allow or deny[, host]")
    _, subject, action, kind, pattern, effect, *rest = fields
    if not _SUBJECT.fullmatch(subject):
        raise _wrong(number, "the subject is User:NAME or role:NAME, in plain ASCII")
    _check_action(number, action, kind)
    _check_pattern(number, kind, pattern)
    if effect not in {Effect.ALLOW.value, Effect.DENY.value}:
        raise _wrong(number, "the sixth field is allow or deny")
    return Line(number, subject, action, kind, pattern, Effect(effect), _host(number, rest))


def _check_action(number: int, action: str, kind: str) -> None:
    if kind != ANY and kind not in _KINDS:
        raise _wrong(number, f"the kind is one of {', '.join(sorted(_KINDS))}, or *")
    if action != ANY and action not in _ACTIONS:
        raise _wrong(number, f"the action is one of {', '.join(sorted(_ACTIONS))}, or *")
    if ANY in {action, kind}:
        return
    possible = ACTIONS_ON[ResourceKind(kind)]
    if Action(action) not in possible:
        raise _wrong(number, f"on {kind} there are only {', '.join(sorted(possible))}")


def _check_pattern(number: int, kind: str, pattern: str) -> None:
    name = pattern.removesuffix(ANY)
    if name and not _NAME.fullmatch(name):
        raise _wrong(number, "the name is a name, the start of names and *, or * alone")
    if not pattern:
        raise _wrong(number, "the name is empty: write * for all names")
    only = None if kind == ANY else _ONLY_NAME.get(ResourceKind(kind))
    if only is not None and pattern not in {ANY, only}:
        raise _wrong(number, f"the name of a {kind} is {only} or *")


def _host(number: int, rest: list[str]) -> str:
    if not rest or rest[0] == ANY:
        return ANY
    host = canonical_host(rest[0])
    if host is None or "%" in rest[0]:
        raise _wrong(number, "the host is one IP address, or *")
    return host


def _link(number: int, fields: list[str]) -> tuple[str, str]:
    if len(fields) != 3 or not all(_SUBJECT.fullmatch(field) for field in fields[1:]):
        raise _wrong(number, "a line is: g, User:NAME or role:NAME, role:NAME")
    _, member, role = fields
    if not role.startswith("role:"):
        raise _wrong(number, "only a role has members")
    return member, role


def _closures(links: dict[tuple[str, str], int], subjects: set[str]) -> dict[str, tuple[str, ...]]:
    """All roles of each member; refuses cycles, depth, and roles that mean nothing."""
    direct: dict[str, list[str]] = {}
    for member, role in links:
        direct.setdefault(member, []).append(role)
    for (_, role), number in links.items():
        if role not in subjects and role not in direct:
            raise _wrong(number, f"{role} has no line of its own: is it misspelt?")
    return {
        member: _closure(number, member, direct) for (member, _), number in reversed(links.items())
    }


def _closure(number: int, member: str, direct: dict[str, list[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    level = [member]
    for _ in range(MAX_ROLE_DEPTH):
        level = list(dict.fromkeys(role for subject in level for role in direct.get(subject, ())))
        found.update(dict.fromkeys(level))
        if member in found:
            raise _wrong(number, f"{member} is a member of itself")
        if len(found) > MAX_ROLES_PER_SUBJECT:
            raise _wrong(number, f"{member} has more than {MAX_ROLES_PER_SUBJECT} roles")
        if not level:
            return tuple(found)
    if any(direct.get(subject) for subject in level):
        raise _wrong(number, f"{member} has roles of roles beyond {MAX_ROLE_DEPTH} steps")
    return tuple(found)
