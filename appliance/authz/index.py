"""Which lines of a policy could match a request, found without looking at the others.

Casbin spends about 10 µs on each line that it looks at, so it is handed only these. The index has
the same meaning as the matcher, and a property test holds the two together.

Rules: names are compared as plain data. The steps of a look-up are bounded by the policy alone: one
for the whole name and one for each length of prefix that the policy uses, for each of the subject's
roles; nothing in a request's name can add one.
"""

from collections.abc import Iterator, Sequence

from appliance.authz.actions import GRANTED_BY, Action, ResourceKind
from appliance.authz.policy import ANY, Effect, Line

Key = tuple[Effect, str, str, str]


def covers(name: str, pattern: str) -> bool:
    """Whether a pattern of the policy stands for a name of a request."""
    return name.startswith(pattern[:-1]) if pattern.endswith(ANY) else name == pattern


def brings(action: str, line_action: str, effect: str) -> bool:
    """Whether a line about one action speaks of another: allowing READ allows DESCRIBE."""
    if line_action in {ANY, action}:
        return True
    return effect == Effect.ALLOW and line_action in GRANTED_BY.get(Action(action), ())


def reaches(host: str, line_host: str, effect: str) -> bool:
    """Whether a line speaks of a host; of one that is not known (empty), if it denies."""
    return line_host in {ANY, host} or (host == "" and effect == Effect.DENY)


class _Bucket:
    """The lines of one subject about one action on one kind, by name and by prefix."""

    __slots__ = ("lengths", "literal", "prefix")

    def __init__(self) -> None:
        self.literal: dict[str, list[Line]] = {}
        self.prefix: dict[str, list[Line]] = {}
        self.lengths: tuple[int, ...] = ()

    def add(self, line: Line) -> None:
        if not line.pattern.endswith(ANY):
            self.literal.setdefault(line.pattern, []).append(line)
            return
        start = line.pattern[:-1]
        self.prefix.setdefault(start, []).append(line)
        if len(start) not in self.lengths:
            self.lengths = tuple(sorted((*self.lengths, len(start))))

    def find(self, name: str, found: list[Line]) -> None:
        found += self.literal.get(name, ())
        for length in self.lengths:
            if length > len(name):
                return
            found += self.prefix.get(name[:length], ())

    def patterns(self) -> Iterator[str]:
        for start in self.prefix:
            yield start + ANY
        yield from self.literal


class View:
    """All lines of one effect that speak of one subject, action and kind, roles included."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: tuple[_Bucket, ...]) -> None:
        """Takes the buckets of the subject and of its roles."""
        self._buckets = buckets

    def matching(self, name: str) -> list[Line]:
        """The lines that speak of a name, hosts apart."""
        found: list[Line] = []
        for bucket in self._buckets:
            bucket.find(name, found)
        return found

    def patterns(self) -> Iterator[str]:
        """The lines' name patterns, prefixes first for each subject."""
        for bucket in self._buckets:
            yield from bucket.patterns()


class LineIndex:
    """An index over a policy's lines; immutable once it is built."""

    __slots__ = ("_buckets", "by_host", "subjects")

    def __init__(self, lines: Sequence[Line]) -> None:
        """Files each line under what it speaks of."""
        self._buckets: dict[Key, _Bucket] = {}
        self.by_host = any(line.host != ANY for line in lines)
        self.subjects = frozenset(line.subject for line in lines)
        for line in lines:
            key = (line.effect, line.subject, line.action, line.kind)
            self._buckets.setdefault(key, _Bucket()).add(line)

    def view(
        self, effect: Effect, subjects: Sequence[str], action: Action, kind: ResourceKind
    ) -> View:
        """What one effect has to say to these subjects about an action and a kind."""
        brought = GRANTED_BY.get(action, (action,)) if effect is Effect.ALLOW else (action,)
        keys = (
            (effect, subject, line_action, line_kind)
            for subject in subjects
            for line_action in (ANY, *brought)
            for line_kind in (ANY, kind)
        )
        return View(tuple(self._buckets[key] for key in keys if key in self._buckets))
