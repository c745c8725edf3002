"""Compiles `kernels.c` for this processor, once, with the C compiler of the machine.

The library lies in the cache (`PLAUDIT_CACHE`, else `~/.cache/plaudit`) under the hash of everything it was made from.
Where it cannot be made (no Linux, no gcc) `library` is None and PyTorch's own operations do the work, slower.
`PLAUDIT_KERNELS=pytorch` asks for that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

from plaudit.core.environment import cpu_model
from plaudit.core.files import cache_folder

_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
_SOURCES = ("kernels.c", "kernels.inc", "decode.inc", "attention.inc")
_TIMEOUT = 120


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None; `kernels` says why."""
    return _load()[0]


def kernels() -> str:
    """One phrase for the start of a run: whose kernels compute the small operations, and why."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("PLAUDIT_KERNELS") == "pytorch":
        return None, "PyTorch's, as PLAUDIT_KERNELS asks"
    if not sys.platform.startswith("linux"):
        return None, "PyTorch's (compiled ones are for Linux)"
    compiler, openmp = shutil.which("gcc"), _openmp()
    if compiler is None or openmp is None:
        return None, f"PyTorch's ({'no gcc' if compiler is None else 'no OpenMP library'} found; with it, faster)"
    try:
        return ctypes.CDLL(str(_compiled(compiler, openmp))), "compiled for this processor"
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return None, f"PyTorch's (compiling ours failed: {_last_line(error)})"


def _openmp() -> str | None:
    """The OpenMP library PyTorch has loaded: a second one would bring a second set of threads onto the same cores."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split()[-1] for line in mapped.splitlines() if "/" in line}
    found = [path for path in paths if Path(path).name.startswith(("libgomp", "libiomp5", "libomp"))]
    own = [path for path in found if str(Path(torch.__file__).parent) in path]  # scikit-learn brings one of its own
    found = own or found
    return found[0] if len(found) == 1 else None


def _compiled(compiler: str, openmp: str) -> Path:
    """The library, compiled now if it is not in the cache."""
    here = Path(__file__).parent
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=_TIMEOUT, check=True).stdout
    parts = [*((here / name).read_bytes() for name in _SOURCES), version, _processor(), openmp.encode()]
    key = hashlib.sha256(b"\0".join([*parts, *(flag.encode() for flag in _FLAGS)])).hexdigest()[:16]
    target = cache_folder() / "kernels" / f"{key}.so"
    if not target.exists():
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # code is loaded from it
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made, code = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
            _run([compiler, *_FLAGS, "-c", str(here / _SOURCES[0]), "-o", str(made)])
            _run([compiler, "-shared", str(made), openmp, "-lm", "-o", str(code)])
            code.replace(target)  # at once: another process may be compiling the same
    return target


def _processor() -> bytes:
    """What `-march=native` depends on; a home folder can be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {cpu_model()} {flags}".encode()


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=True)


def _last_line(error: Exception) -> str:
    text = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[-1][:200]
