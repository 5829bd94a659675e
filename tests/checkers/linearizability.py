"""Whether a history of operations could have happened one after another, each within its time.

The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's
memory of (set of operations done, state) ("Testing for linearizability", 2016), as Porcupine and
Knossos do it; by Herlihy and Wing's locality a history is judged object by object. An operation
whose end nobody saw may take effect at any time after its beginning, or never.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

State = Hashable
Step = Callable[[State, Any, Any], State | None]
"""(state, request, answer or None where nobody knows it) -> next state; None if not possible.

`None` is never a state.
"""


class Operation(NamedTuple):
    """One operation on one object."""

    process: str
    register: str
    request: object
    began: float
    ended: float | None
    """None: the answer never came."""
    answer: object = None


class Judgement(NamedTuple):
    """Whether an order exists; if not, the longest that does, and what then fits nowhere."""

    legal: bool
    order: tuple[Operation, ...]
    stuck: tuple[Operation, ...]

    def __str__(self) -> str:
        """For people: the last few that fit, and those of which none can be next."""
        if self.legal:
            return f"linearizable: {len(self.order)} operations"
        done = "\n".join(f"  {operation}" for operation in self.order[-8:])
        left = "\n".join(f"  {operation}" for operation in self.stuck)
        return f"not linearizable; after\n{done}\nnone of these can be next:\n{left}"


def check(history: Sequence[Operation], first: State, step: Step) -> Judgement:
    """Judges each object by itself; the first that has no order decides."""
    objects: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        objects[operation.register].append(operation)
    order: list[Operation] = []
    for name in sorted(objects):
        judgement = check_object(objects[name], first, step)
        if not judgement.legal:
            return judgement
        order += judgement.order
    return Judgement(True, tuple(order), ())


class _Event:
    """A beginning or an end, in a list from which both of an operation are lifted at once."""

    __slots__ = ("after", "before", "end", "number")

    def __init__(self, number: int, end: "_Event | None", *, is_end: bool) -> None:
        self.number = number
        self.end = self if is_end else end
        """A beginning's end, None if it has none; an end is its own."""
        self.before: _Event | None = None
        self.after: _Event | None = None

    @property
    def is_end(self) -> bool:
        return self.end is self

    def lift(self) -> None:
        for event in (self, self.end):
            if event is not None:
                event.before.after = event.after  # type: ignore[union-attr]
                if event.after is not None:
                    event.after.before = event.before

    def put_back(self) -> None:
        for event in (self.end, self):
            if event is not None:
                event.before.after = event  # type: ignore[union-attr]
                if event.after is not None:
                    event.after.before = event


def _events(history: Sequence[Operation]) -> _Event:
    """A list that begins with an event of its own; at one time beginnings come before ends."""
    timed: list[tuple[float, bool, int, _Event]] = []
    for number, operation in enumerate(history):
        end = None
        if operation.ended is not None:
            end = _Event(number, None, is_end=True)
            timed.append((operation.ended, True, number, end))
        timed.append((operation.began, False, number, _Event(number, end, is_end=False)))
    head = last = _Event(-1, None, is_end=False)
    for *_, event in sorted(timed, key=lambda each: each[:3]):
        last.after, event.before = event, last
        last = event
    return head


def check_object(history: Sequence[Operation], first: State, step: Step) -> Judgement:
    """Searches for an order of one object's operations."""
    head, state, done = _events(history), first, 0
    seen: set[tuple[int, State]] = set()
    taken: list[tuple[_Event, State]] = []
    best: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    event = head.after
    while event is not None:
        if event.is_end:  # this operation is over, and was not to be had before here
            if len(taken) >= len(best):
                best = tuple(before.number for before, _ in taken)
                stuck = _open_before(head, event)
            if not taken:
                return Judgement(
                    False, tuple(history[n] for n in best), tuple(history[n] for n in stuck)
                )
            lifted, state = taken.pop()
            done &= ~(1 << lifted.number)
            lifted.put_back()
            event = lifted.after
            continue
        operation = history[event.number]
        known = operation.answer if operation.ended is not None else None
        following = step(state, operation.request, known)
        reached = (done | 1 << event.number, following)
        if following is not None and reached not in seen:
            seen.add(reached)
            taken.append((event, state))
            done, state = reached[0], following
            event.lift()
            event = head.after
        else:
            event = event.after
    return Judgement(True, tuple(history[before.number] for before, _ in taken), ())


def _open_before(head: _Event, end: _Event) -> tuple[int, ...]:
    found = []
    event = head.after
    while event is not None and event is not end:
        found.append(event.number)
        event = event.after
    return tuple(found)
