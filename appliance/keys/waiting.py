"""A node that starts while its key provider is away, sealed, or refuses it: it waits, and says so.

Rules: waiting never fails and never spins; each change of the advice is told once, so a log shows
what an operator has to do and when it was done; serving follows within MAX_PAUSE_S.
"""

import os
from collections.abc import Callable

import trio

from appliance.ports import KeyHealth, KeyProvider

FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 2.0


async def await_serving(
    provider: KeyProvider,
    report: Callable[[KeyHealth], None],
    *,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> None:
    """Returns when the provider serves.

    Args:
        provider: asked for its health, with pauses that double and are jittered.
        report: called with the first health that does not serve and with each that differs from
            the one before; at last with the one that serves, if there was another before.
        random_bytes: for the jitter.
    """
    told: KeyHealth | None = None
    pause_s = FIRST_PAUSE_S
    while True:
        health = await provider.health()
        if health != told and not (health.serving and told is None):
            report(health)
        if health.serving:
            return
        told = health
        await trio.sleep(pause_s * (0.5 + int.from_bytes(random_bytes(2), "big") / 0x1FFFE))
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
