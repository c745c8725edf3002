"""Allocator settings that keep freed memory in the process, and what gives it back once."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Tell glibc to reuse large blocks instead of returning each to the kernel; True where that took effect.

    Otherwise every large temporary tensor is mapped anew and its pages are faulted in one by one, which costs about a
    third of the CPU time of a training step. Elsewhere than glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in settings]  # every option is set, whatever the others said
    return all(taken)


def give_back_freed_memory() -> None:
    """Return what is free now to the kernel: what loading left behind would stay for the whole run.

    Worth it where the largest temporary tensors are past; it takes hundredths of a second.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
