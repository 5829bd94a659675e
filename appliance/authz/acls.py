"""Kafka's access rules and the policy's lines, each told as the other without loss.

A line `p, subject, action, kind, name, effect, host` is one rule, but for a line about every kind:
Kafka has no such rule, so it is told as one for each kind that it knows. When one of those is
removed, the line is put down again for the kinds that are left, the policy itself included, which
Kafka does not know and so never removes.

Rules: the text stays the author's: only lines that a change is about are touched, comments and
order stay. A rule that the policy cannot say is refused with what to do, never approximated.
"""

from collections.abc import Sequence
from typing import Final

from appliance.authz.actions import ACTIONS_ON, CLUSTER, POLICY, Action, ResourceKind
from appliance.authz.index import covers
from appliance.authz.policy import ANY, Effect, Line, parse
from appliance.errors import ConfigurationError, ErrorCode, RequestError
from appliance.wire.requests import (
    ALL_OPERATIONS,
    ANY_OPERATION,
    Acl,
    AclFilter,
    AclPattern,
    AclPermission,
    AclResource,
)

_KINDS: Final = {
    AclResource.TOPIC: ResourceKind.TOPIC,
    AclResource.GROUP: ResourceKind.GROUP,
    AclResource.CLUSTER: ResourceKind.CLUSTER,
    AclResource.TRANSACTIONAL_ID: ResourceKind.TRANSACTIONAL_ID,
}
_RESOURCES: Final = {kind: resource for resource, kind in _KINDS.items()}

OPERATIONS: Final = {
    Action.READ: 3,
    Action.WRITE: 4,
    Action.CREATE: 5,
    Action.DELETE: 6,
    Action.ALTER: 7,
    Action.DESCRIBE: 8,
    Action.CLUSTER_ACTION: 9,
    Action.DESCRIBE_CONFIGS: 10,
    Action.ALTER_CONFIGS: 11,
    Action.IDEMPOTENT_WRITE: 12,
}
"""Kafka's `AclOperation` codes; 1 is 'any' and 2 'all', which are no operations themselves."""
_ACTIONS: Final = {number: action for action, number in OPERATIONS.items()}
_PERMISSIONS: Final = {Effect.ALLOW: AclPermission.ALLOW, Effect.DENY: AclPermission.DENY}
_KINDS_OF_KAFKA: Final = range(AclResource.ANY, 8)
"""What a filter may be about: delegation tokens (6) and users (7) too, of which no rule is."""
_EFFECTS: Final[dict[int, Effect]] = {p.value: effect for effect, p in _PERMISSIONS.items()}
_BY_NUMBER: Final[dict[int, ResourceKind]] = {r.value: kind for r, kind in _KINDS.items()}
_ONLY_NAME: Final = {ResourceKind.CLUSTER: CLUSTER.name, ResourceKind.POLICY: POLICY.name}


def acls_of(line: Line) -> tuple[Acl, ...]:
    """The rules that a line is told as; none for a line about the policy alone."""
    return tuple(
        _acl(line, _RESOURCES[kind], pattern)
        for kind, pattern in _said_of(line)
        if kind in _RESOURCES
    )


def _acl(line: Line, kind: AclResource, pattern: str) -> Acl:
    is_prefix = pattern != ANY and pattern.endswith(ANY)
    return Acl(
        kind,
        pattern.removesuffix(ANY) if is_prefix else pattern,
        AclPattern.PREFIXED if is_prefix else AclPattern.LITERAL,
        line.subject,
        line.host,
        ALL_OPERATIONS if line.action == ANY else OPERATIONS[Action(line.action)],
        _PERMISSIONS[line.effect],
    )


def _said_of(line: Line) -> list[tuple[ResourceKind, str]]:
    """The kinds that a line speaks of, each with the name that it gives there."""
    if line.kind != ANY:
        return [(ResourceKind(line.kind), line.pattern)]
    said = []
    for kind, actions in ACTIONS_ON.items():
        if line.action != ANY and Action(line.action) not in actions:
            continue
        only = _ONLY_NAME.get(kind)
        if only is None or line.pattern == ANY:
            said.append((kind, line.pattern))
        elif covers(only, line.pattern):
            said.append((kind, only))
    return said


def line_of(acl: Acl) -> str:
    """The line that says what a rule says; raises RequestError(INVALID_REQUEST) if none can."""
    kind = _BY_NUMBER.get(acl.kind)
    if kind is None:
        raise _invalid("rules are about topics, groups, the cluster or transactional ids")
    action = ANY if acl.operation == ALL_OPERATIONS else _ACTIONS.get(acl.operation)
    if action is None:
        raise _invalid("a rule names one operation, or all")
    effect = _EFFECTS.get(acl.permission)
    if effect is None:
        raise _invalid("a rule allows or denies")
    if acl.principal == "User:*":
        raise _invalid("no line speaks of everybody: give a role the right, and it members")
    fields = [acl.principal, action, kind.value, _pattern(acl), effect.value]
    if acl.host != ANY:
        fields.append(acl.host)
    if any("," in field or "\n" in field for field in fields):
        raise _invalid("names in a rule hold no commas and no line breaks")
    text = f"p, {', '.join(fields)}"
    try:
        parse(text)
    except ConfigurationError as error:
        raise _invalid(str(error).partition(": ")[2]) from None
    return text


def _pattern(acl: Acl) -> str:
    if acl.pattern == AclPattern.LITERAL and (acl.name == ANY or ANY not in acl.name):
        return acl.name
    if acl.pattern == AclPattern.PREFIXED and acl.name and ANY not in acl.name:
        return acl.name + ANY
    raise _invalid("a name is meant literally, or as the start of names, and holds no *")


def matching(wanted: AclFilter, text: str) -> tuple[Acl, ...]:
    """The rules of a policy that a filter means, in the order of its lines."""
    _check_filter(wanted)
    return tuple(acl for line in parse(text).lines for acl in acls_of(line) if _means(wanted, acl))


def adding(text: str, lines: Sequence[str]) -> str:
    """The policy with lines more, of which those that it says already are left out."""
    said = {acl for line in parse(text).lines for acl in acls_of(line)}
    more = []
    for each in dict.fromkeys(lines):
        (parsed,) = parse(each).lines
        if not said.issuperset(acls_of(parsed)):
            more.append(each)
    if not more:
        return text
    end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{end}{chr(10).join(more)}\n"


def removing(text: str, filters: Sequence[AclFilter]) -> tuple[str, list[tuple[Acl, ...]]]:
    """The policy without the rules that filters mean, and what each of them removed.

    Raises RequestError(INVALID_REQUEST) for a filter of no known kind: who removes must be sure.
    """
    for each in filters:
        _check_filter(each)
        if each.kind not in _KINDS_OF_KAFKA:
            raise _invalid("there is no such kind of resource")
    removed: list[list[Acl]] = [[] for _ in filters]
    rows: list[str | None] = list(text.split("\n"))
    for line in parse(text).lines:
        gone = set()
        for acl in acls_of(line):
            for place, wanted in enumerate(filters):
                if _means(wanted, acl):
                    gone.add(acl.kind)
                    removed[place].append(acl)
        if gone:
            rows[line.number - 1] = _rest(line, gone)
    kept = [each for each in rows if each is not None]
    return "\n".join(kept), [tuple(each) for each in removed]


def _rest(line: Line, gone: set[int]) -> str | None:
    """What is left of a line when its rules about some kinds are removed."""
    host = [] if line.host == ANY else [line.host]
    rows = []
    for kind, pattern in _said_of(line):
        if _RESOURCES.get(kind) not in gone:
            fields = [line.subject, line.action, kind.value, pattern, line.effect.value, *host]
            rows.append(f"p, {', '.join(fields)}")
    return "\n".join(rows) or None


def _check_filter(wanted: AclFilter) -> None:
    if wanted.pattern not in set(AclPattern):
        raise _invalid("there is no such kind of pattern")
    if wanted.permission not in set(AclPermission):
        raise _invalid("there is no such permission")
    if wanted.operation not in {ANY_OPERATION, ALL_OPERATIONS, *_ACTIONS}:
        raise _invalid("there is no such operation")


def _means(wanted: AclFilter, acl: Acl) -> bool:
    return (
        wanted.kind in {AclResource.ANY, acl.kind}
        and _means_name(wanted, acl)
        and wanted.principal in {None, acl.principal}
        and wanted.host in {None, acl.host}
        and wanted.operation in {ANY_OPERATION, acl.operation}
        and wanted.permission in {AclPermission.ANY, acl.permission}
    )


def _means_name(wanted: AclFilter, acl: Acl) -> bool:
    """Whether a filter's name means a rule's; MATCH asks for whatever covers it (KIP-290)."""
    if wanted.pattern == AclPattern.MATCH:
        if wanted.name is None:
            return True
        if acl.pattern == AclPattern.PREFIXED:
            return wanted.name.startswith(acl.name)
        return acl.name in {wanted.name, ANY}
    if wanted.pattern not in {AclPattern.ANY, acl.pattern}:
        return False
    return wanted.name in {None, acl.name}


def _invalid(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, message)
