"""Bounds of the broker that a short run would not come to, drawn anew for each run."""

import contextlib
import random
from collections.abc import Iterator

from appliance.broker import beginning, commands

PATIENCE_BYTES = (0, 6000, 1 << 30)
STATE_BYTES = (1 << 15, 1 << 18, 1 << 30)
"""About one entry, eight entries, and never."""
COMMANDS_BYTES = (1 << 12, 1 << 14, 1 << 30)
"""Some twenty commands, four times as many, and never."""


@contextlib.contextmanager
def drawn(dice: random.Random) -> Iterator[None]:
    """While this lasts, logs are cut and state is kept after as much as the dice say."""
    drawn_for = (
        (beginning, "MAX_KEPT_FOR_LAGGING_BYTES", PATIENCE_BYTES),
        (beginning, "KEEP_STATE_AFTER_BYTES", STATE_BYTES),
        (commands, "SNAPSHOT_AFTER_BYTES", COMMANDS_BYTES),
    )
    real = [(module, name, getattr(module, name)) for module, name, _ in drawn_for]
    for module, name, choices in drawn_for:
        setattr(module, name, dice.choice(choices))
    try:
        yield
    finally:
        for module, name, value in real:
            setattr(module, name, value)
