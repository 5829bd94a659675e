"""What a node's process gives up before it holds a key: leaving its memory behind.

Beside that, it takes all the descriptors that it may have.

A core dump would hold keys and records, and so would what a debugger of the same user reads, and a
page that was swapped out. All three are closed for this process; root is not kept out
(docs/limitations.md).
"""

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from appliance.errors import ConfigurationError

_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK: Final = 14
_STATUS: Final = Path("/proc/self/status")


def forbid_dumps() -> None:
    """No core dumps, no ptrace by the same user. Raises ConfigurationError if that is refused."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(f"this process cannot be made undumpable: {reason}")


def raise_descriptors() -> None:
    """As many open files and sockets as the hard limit allows: the soft one is for `select`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def lock_memory() -> None:
    """Keeps every page of this process, now and later, out of swap, as it is first touched.

    Only where the limit allows all of it: with a smaller one, some later allocation would fail
    instead. Raises ConfigurationError, which says what to set.
    """
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
    elif not _may_lock_all():
        raise ConfigurationError(
            f"memory cannot be locked: at most {most} bytes may be; set LimitMEMLOCK=infinity in"
            " the unit, or `--ulimit memlock=-1` for the container, or turn swap off"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(f"memory cannot be locked: {reason}")


def _may_lock_all() -> bool:
    """Whether the process has CAP_IPC_LOCK, before which the limit does not count."""
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False
