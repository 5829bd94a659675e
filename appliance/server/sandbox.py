"""What a node's process gives up before it holds a key: leaving its memory behind.

A core dump would hold keys and records, and so would what a debugger of the same user reads. Both
are closed for this process and whatever it starts; root is not kept out (docs/limitations.md).
"""

import ctypes
import os
import resource
from typing import Final

from appliance.errors import ConfigurationError

_PR_SET_DUMPABLE: Final = 4


def forbid_dumps() -> None:
    """No core dumps, no ptrace by the same user. Raises ConfigurationError if that is refused."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(f"this process cannot be made undumpable: {reason}")
