"""Bounds of the broker that a short run would not come to, drawn anew for each run."""

import contextlib
import random
from collections.abc import Iterator

from appliance.broker import beginning

PATIENCE_BYTES = (0, 6000, 1 << 30)
STATE_BYTES = (1 << 15, 1 << 18, 1 << 30)
"""About one entry, eight entries, and never."""


@contextlib.contextmanager
def drawn(dice: random.Random) -> Iterator[None]:
    """While this lasts, files go and state is kept after as much as the dice say."""
    real = beginning.MAX_KEPT_FOR_LAGGING_BYTES, beginning.KEEP_STATE_AFTER_BYTES
    beginning.MAX_KEPT_FOR_LAGGING_BYTES = dice.choice(PATIENCE_BYTES)
    beginning.KEEP_STATE_AFTER_BYTES = dice.choice(STATE_BYTES)
    try:
        yield
    finally:
        beginning.MAX_KEPT_FOR_LAGGING_BYTES, beginning.KEEP_STATE_AFTER_BYTES = real
