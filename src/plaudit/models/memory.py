"""Allocator settings that keep freed memory in the process."""

from __future__ import annotations

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
