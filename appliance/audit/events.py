"""What is audited: who came in, who was turned away, what was refused, what was changed.

Rules: an event holds names, numbers and reasons, and no field that could hold a payload, a key or
a credential. Its strings are made safe where events are recorded, so whoever makes one need not.
A field is only ever added, with a default: old records stay readable.
"""

import msgspec


class Event(msgspec.Struct, frozen=True, tag=True, tag_field="event", kw_only=True):
    """Root of all events; `listener` is `kafka`, `native` or `peer`, `address` an IP address."""

    listener: str
    address: str


class Login(Event, frozen=True, kw_only=True):
    """A certificate was verified and its principal let in."""

    principal: str
    client_id: str | None = None


class LoginRefused(Event, frozen=True, kw_only=True):
    """A peer was not who it must be; `reason` is ours, never a library's text."""

    reason: str
    count: int = 1
    """How often, where identical refusals were folded into one event."""


class Denial(Event, frozen=True, kw_only=True):
    """The gate refused a request, or one item of it.

    `rule` is the policy line that decided, or the reason in words; the resource is empty when the
    request was refused whatever it named.
    """

    principal: str
    request: str
    code: int
    rule: str
    policy_version: int
    resource_kind: str = ""
    resource: str = ""
    client_id: str | None = None
    count: int = 1
    """How often, where identical refusals were folded into one event."""


class Mutation(Event, frozen=True, kw_only=True):
    """Something is about to be changed; recorded before it takes effect.

    `resources` are the names it changes, `detail` what an auditor needs to understand it (versions
    of a policy, a number of partitions), never a value that could be secret.
    """

    principal: str
    request: str
    resources: tuple[str, ...]
    policy_version: int
    detail: str = ""
    client_id: str | None = None


class LogShrunk(Event, frozen=True, kw_only=True):
    """A node holds less of a log than it acknowledged: an old disk was restored, or one was lost.

    `partition` is the log's id; `acknowledged` and `held` are indexes of entries.
    """

    node: int
    partition: str
    acknowledged: int
    held: int


AnyEvent = Login | LoginRefused | Denial | Mutation | LogShrunk


class Recorded(msgspec.Struct, frozen=True):
    """An event with its place: numbers grow by one, and one that is missing was never durable.

    An event whose record failed has spent its number; the operation it stood for was refused.
    """

    sequence: int
    time_ms: int
    event: AnyEvent
