"""Checks of the machine."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from plaudit.cli.checks import Check, ok, warning
from plaudit.core.environment import available_cores, cpu_model, memory_bytes

GIB = 2**30
MIN_MEMORY = 4 * GIB  # fine-tuning all layers of the 135 M parameter model takes about 3
MIN_DISK = 2 * GIB  # a run of that model keeps a checkpoint (1.6) beside the model (0.3)


def check() -> Iterator[Check]:
    """Cores, memory, disk, number format."""
    import torch

    from plaudit.models.precision import choose_precision

    yield ok("versions", ", ".join(f"{name} {version(name)}" for name in ("plaudit", "torch", "transformers")))
    cores, threads = available_cores(), torch.get_num_threads()
    yield ok("processor", f"{cpu_model()}, {cores} of {os.cpu_count()} cores")
    if threads > cores:
        yield warning(
            "threads", f"{threads} on {cores} cores, which slow each other down", f"Set OMP_NUM_THREADS={cores}."
        )
    else:
        yield ok("threads", str(threads))
    memory = memory_bytes()
    if memory is not None and memory < MIN_MEMORY:
        yield warning(
            "memory", f"{memory / GIB:.1f} GiB", "Train fewer layers (train_layers=8) or adapters (lora.rank=16)."
        )
    elif memory is not None:
        yield ok("memory", f"{memory / GIB:.1f} GiB")
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_DISK:
        yield warning(
            "disk", f"{free / GIB:.1f} GiB free here", "Free some space: a checkpoint needs three times its model."
        )
    else:
        yield ok("disk", f"{free / GIB:.1f} GiB free here")
    yield ok(
        "graphics", torch.cuda.get_device_name() if torch.cuda.is_available() else "none; the processor does the work"
    )
    chosen = choose_precision("auto")
    yield ok("precision", f"{chosen.name} ({chosen.reason})")
