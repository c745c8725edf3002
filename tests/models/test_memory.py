"""What glibc is told: freed memory stays, and goes back once when asked."""

import subprocess
import sys

import pytest

PROGRAM = """
import re, torch
from plaudit.models.memory import give_back_freed_memory, keep_freed_memory
def resident(): return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
assert keep_freed_memory()
small = []
large = [torch.ones(2**18) for _ in range(400)]  # a megabyte each
for _ in range(400):
    small.append(torch.ones(1000))  # lie above, so that the heap's end does not fall
full = resident()
del large
kept = resident()
give_back_freed_memory()
print(full, kept, resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_until_it_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    full, kept, after = map(int, said.split())
    assert kept > full - 50
    assert after < full - 350
