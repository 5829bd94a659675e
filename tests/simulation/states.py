"""Every legal state that a crash may leave a disk in, or a fair choice where they are too many.

A power cut keeps any part of what was pending. Up to six pending changes, all combinations are
tried; beyond that: none, all, every prefix, every suffix, each alone, each missing, and some drawn
from a seed. A kill keeps all.
"""

import itertools
import random

from .disk import Image, SimulatedDisk

ALL_COMBINATIONS_UP_TO = 6
DRAWN = 8


def kept(count: int, seed: object) -> list[frozenset[int]]:
    """Which of `count` pending changes survive, choice by choice."""
    every = range(count)
    if count <= ALL_COMBINATIONS_UP_TO:
        return [
            frozenset(itertools.compress(every, bits))
            for bits in itertools.product((False, True), repeat=count)
        ]
    source = random.Random(repr(seed))
    choices = [frozenset(range(at)) for at in range(count + 1)]
    choices += [frozenset(range(at, count)) for at in range(1, count)]
    choices += [frozenset({at}) for at in every]
    choices += [frozenset(every) - {at} for at in every]
    choices += [
        frozenset(at for at in every if source.random() < share)
        for share in (0.2, 0.5, 0.5, 0.8) * (DRAWN // 4)
    ]
    return list(dict.fromkeys(choices))


def after_crash(image: Image, seed: object) -> list[tuple[str, SimulatedDisk]]:
    """(what happened, the disk then), for a kill and for every power cut that is tried."""
    atoms = image.atoms()
    states = [("a kill", image.after_a_kill())]
    for choice in kept(len(atoms), seed):
        kept_atoms = [f"{atoms[at].place}: {_named(atoms[at].change)}" for at in sorted(choice)]
        what = f"a power cut that kept {kept_atoms} of {len(atoms)} pending changes"
        states.append(
            (what, image.after_a_power_cut(lambda number, _, choice=choice: number in choice))
        )
    return states


def _named(change: object) -> str:
    return f"sector {change.number}" if hasattr(change, "number") else repr(change)[:80]
