"""The machine's peak: the fastest bfloat16 product of this model's shapes, in FLOP a second.

python -m benchmarks.peer.gemm --model FOLDER --threads 2
"""

import argparse
import json
import time
from pathlib import Path

import torch

ROWS = (512, 1024, 2048, 4096)
SECONDS = 0.4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = json.loads((options.model / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    pairs = {"up": (hidden, inner), "down": (inner, hidden), "square": (hidden, hidden)}
    rates = {
        f"{name}, {rows} rows": rate(rows, *shape, torch.bfloat16) for name, shape in pairs.items() for rows in ROWS
    }
    rates[f"vocabulary, {ROWS[0]} rows"] = rate(ROWS[0], hidden, config["vocab_size"], torch.bfloat16)
    best = max(rates, key=lambda name: rates[name])
    found = {"flop_per_s": rates[best], "at": best, "float32_flop_per_s": rate(2048, hidden, inner, torch.float32)}
    print("RESULT " + json.dumps(found | {"rates": rates}))


def rate(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """Best rate of a linear layer's product over `SECONDS`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - began)
    return 2 * rows * inputs * outputs / best


if __name__ == "__main__":
    main()
