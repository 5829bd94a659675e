"""Buffers that were freed serve again, without new pages from the kernel."""

import subprocess
import sys

PROGRAM = """
import resource
from appliance.observe.system import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory()
for _ in range(3):
    before = faults()
    buffers = [bytearray(1 << 20) for _ in range(16)]
    del buffers
    taken = faults() - before
print(taken)
"""


def test_buffers_that_were_freed_cost_no_new_pages():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 16 * 256 / 10
