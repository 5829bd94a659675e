"""When the interpreter looks for cyclic garbage: seldom, and not because clients have come.

What the appliance makes is freed by counting references; a full look finds next to nothing and
stops the event loop for a tenth of a second where thousands of connections are open. Unless told
otherwise the interpreter looks after every 700 objects that stay, so that a flood of connections,
and nothing but that, would have it look all the time. Hence: what a start has made is never looked
at again, young objects are looked at once, in numbers that take a millisecond, and everything once
in a while.
"""

import gc
from typing import Final

import trio

from appliance.limits import FULL_COLLECTION_S

_YOUNG: Final = 2_000
"""Objects that stay, before those are looked at."""
_NEVER: Final = 1_000_000


def freeze() -> None:
    """Leaves what is there now alone for good, and looks seldom from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)


async def collect() -> None:
    """Looks at everything every FULL_COLLECTION_S, until cancelled."""
    while True:
        await trio.sleep(FULL_COLLECTION_S)
        gc.collect()
