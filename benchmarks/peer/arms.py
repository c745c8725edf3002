"""What is run against what: each arm is a command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
WORKS = ("ppo", "sampling", "sampling 8 x 4", "reward", "dpo", "sft")
STEPS = {"ppo": 1, "sampling": 2, "sampling 8 x 4": 2, "reward": 2, "dpo": 2, "sft": 2}
TUNED = ("tuned", "vllm")  # kinds that come in several ways, of which the fastest counts
SCRIPTS = {"ppo": "trl_ppo", "reward": "trl_reward", "dpo": "trl_dpo", "sft": "trl_sft"}
# Tuned: weights in bfloat16, micro-batches of two that fit the caches, an allocator that keeps freed memory.
MICRO_BATCHES = {"ppo": 16, "reward": 4, "dpo": 4, "sft": 4}
# Which attention is faster was measured for PPO only; elsewhere the first repeat tries both.
ATTENTION = {"ppo": ("eager",)}
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "536870912"}


@dataclass(frozen=True)
class Settings:
    """What all arms of a measurement have in common."""

    model: Path
    workload: Path
    venv: Path
    threads: int
    tiny: bool = False  # to see that all of it runs: the numbers mean nothing
    vllm: Path | None = None  # its environment; without one it takes no part


@dataclass(frozen=True)
class Arm:
    """One way to do a kind of work.

    `kind` is plaudit, tuned, documented or vllm; `variant` tells arms of a kind apart.
    """

    work: str
    kind: str
    variant: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For logs."""
        return f"{self.work}: {self.kind} {self.variant}"


def arms(work: str, settings: Settings) -> list[Arm]:
    """All ways to do `work`: the peer tuned, vLLM where it samples, Plaudit, the peer as documented."""
    vllm = _vllm(work, settings) if settings.vllm and work.startswith("sampling") else []
    return [*_tuned(work, settings), *vllm, *_plaudit(work, settings), _documented(work, settings)]


def allocator() -> dict[str, str]:
    """tcmalloc where it is installed, else glibc told to keep freed memory."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    found = [line.split("=> ")[-1] for line in listed.splitlines() if "libtcmalloc_minimal.so" in line]
    return {"LD_PRELOAD": found[0]} if found else dict(MALLOC)


def environment(arm: Arm, settings: Settings) -> dict[str, str]:
    """The arm's variables: nothing of ours reaches the peer, and nobody asks the network."""
    own = {name: value for name, value in os.environ.items() if name not in {"LD_PRELOAD", *MALLOC}}
    if arm.kind != "plaudit":
        own.pop("PYTHONPATH", None)
    return (
        own
        | arm.environment
        | {
            "OMP_NUM_THREADS": str(settings.threads),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRL_EXPERIMENTAL_SILENCE": "1",
        }
    )


def _plaudit(work: str, settings: Settings) -> list[Arm]:
    command = [sys.executable, "-m", "benchmarks.peer.plaudit_side", work.split()[0]]
    command += [*_common(work, settings), "--threads", str(settings.threads)]
    command += ["--answers", "4"] if work == "sampling 8 x 4" else []
    splits = ("all",) if work == "sft" else ("8", "all")
    return [Arm(work, "plaudit", split, (*command, "--train-layers", split)) for split in splits]


def _tuned(work: str, settings: Settings) -> list[Arm]:
    if work.startswith("sampling"):
        return [_generate(work, settings, "tuned", way, allocator()) for way in ("eager", "static cache")]
    micro = 1 if settings.tiny else MICRO_BATCHES[work]
    extra = ["--micro-batches", str(micro), *(["--packed", "1"] if work == "sft" else [])]
    return [
        Arm(work, "tuned", attention, (*_trl(work, settings), *extra, "--attention", attention), allocator())
        for attention in ATTENTION.get(work, ("sdpa", "eager"))
    ]


def _documented(work: str, settings: Settings) -> Arm:
    if work.startswith("sampling"):
        return _generate(work, settings, "documented", "default", {})
    return Arm(work, "documented", "sdpa", (*_trl(work, settings), "--format", "autocast", "--steps", "1"))


def _trl(work: str, settings: Settings) -> list[str]:
    return [str(settings.venv / "bin" / "python"), str(HERE / f"{SCRIPTS[work]}.py"), *_common(work, settings)]


def _generate(work: str, settings: Settings, kind: str, way: str, variables: dict[str, str]) -> Arm:
    command = [str(settings.venv / "bin" / "python"), str(HERE / "hf_generate.py"), *_common(work, settings)]
    command += ["--answers", "4" if work == "sampling 8 x 4" else "1", "--way", way]
    return Arm(work, kind, way, tuple(command), variables)


def _vllm(work: str, settings: Settings) -> list[Arm]:
    """Both ways to run it: which is faster depends on the machine. Its manual preloads Intel's OpenMP too."""
    assert settings.vllm is not None
    command = [str(settings.vllm / "bin" / "python"), str(HERE / "vllm_generate.py"), *_common(work, settings)]
    command += ["--answers", "4" if work == "sampling 8 x 4" else "1"]
    variables = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    variables |= allocator()
    if (openmp := settings.vllm / "lib" / "libiomp5.so").exists():
        variables["LD_PRELOAD"] = ":".join([*filter(None, [variables.get("LD_PRELOAD")]), str(openmp.absolute())])
    return [Arm(work, "vllm", way, (*command, "--way", way), variables) for way in ("eager", "compiled")]


def _common(work: str, settings: Settings) -> list[str]:
    options = ["--model", str(settings.model), "--workload", str(settings.workload)]
    if not settings.tiny:
        return [*options, "--steps", str(STEPS[work])]
    options += ["--steps", "1", "--batch", "4"]
    options += ["--new-tokens", "4"] if work == "ppo" or work.startswith("sampling") else []
    return [*options, *(["--epochs", "1"] if work == "ppo" else [])]
