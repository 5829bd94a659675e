"""What a node gives up before it holds a key, tried in a process of its own."""

import subprocess
import sys

TRIED = """
import resource, sys
from appliance.errors import ConfigurationError
from appliance.server.sandbox import forbid_dumps, lock_memory
{before}
forbid_dumps()
try:
    lock_memory()
except ConfigurationError as error:
    print("refused:", error)
kept = bytearray(1 << 20)
status = open("/proc/self/status").read()
print(next(line for line in status.splitlines() if line.startswith("VmLck")))
print("core", resource.getrlimit(resource.RLIMIT_CORE))
"""


def tried(before: str = "") -> str:
    return subprocess.run(
        [sys.executable, "-c", TRIED.format(before=before)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    ).stdout


def locked_kib(said: str) -> int:
    line = next(line for line in said.splitlines() if line.startswith("VmLck"))
    return int(line.split()[1])


def test_no_core_is_left() -> None:
    assert "core (0, 0)" in tried()


def test_memory_is_locked_or_what_to_set_is_said() -> None:
    said = tried()
    if "refused" in said:
        assert "LimitMEMLOCK=infinity" in said or "cannot be locked" in said
    else:
        assert locked_kib(said) > 1024


def test_all_descriptors_that_may_be_had_are_taken() -> None:
    said = tried(
        "from appliance.server.sandbox import raise_descriptors\n"
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, most))\n"
        "raise_descriptors()\n"
        "print('all', resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most))"
    )
    assert "all True" in said


LIMITED = """
import ctypes, struct
header = struct.pack("Ii", 0x20080522, 0)
assert ctypes.CDLL(None).capset(header, bytes(24)) == 0
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
"""


def test_where_some_could_be_locked_only_none_is_and_the_setting_is_named() -> None:
    said = tried(LIMITED)
    assert "LimitMEMLOCK=infinity" in said
    assert locked_kib(said) == 0
