"""How time grows with the work: prompts, new tokens and epochs over a factor of 16, and lengths that differ by 16.

    python benchmarks/growth.py --workload FOLDER --plot docs/growth.svg     # or set PLAUDIT_PEER

Each point is a run of the recipe in a process of its own, the median of steps after a warm-up. Prints a table in
Markdown and writes JSON lines and a drawing. The first three dimensions are of a PPO iteration of 16 prompts, 32 new
tokens and 2 epochs with 8 trained layers. The last two keep the number of tokens and make half of the rows longer than
the other half: of the prompts of a PPO iteration, of the answers of a reward-model step. Padding would double them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from plaudit.core.files import write_jsonl
from plaudit.core.records import user_prompt
from plaudit.datasets.render import Renderer
from plaudit.models.load import load_tokenizer, resolve_model
from plaudit.reports.plots import HEIGHT, WIDTH, Chart, Dots, Line, draw

ROOT = Path(__file__).parents[1]
BASE = {"batch": 16, "new-tokens": 32, "epochs": 2}
SWEEPS = {"batch": (4, 8, 16, 32, 64), "new-tokens": (8, 16, 32, 64, 128), "epochs": (1, 2, 4, 8, 16)}
SPREADS = (1, 4, 16)
TITLES = {
    "batch": ("PPO: prompts", "prompts an iteration"),
    "new-tokens": ("PPO: new tokens", "sampled tokens an iteration"),
    "epochs": ("PPO: epochs", "epochs"),
    "prompt spread": ("PPO: equal tokens, prompts of two lengths", "longest over shortest"),
    "answer spread": ("Reward model: equal tokens, answers of two lengths", "longest over shortest"),
}
STYLE = """text { fill: #444b54; font: 12px system-ui, sans-serif } .title { font-weight: 600; fill: #1f2328 }
.grid { stroke: #e4e7ea } .axis { stroke: #8a929b } .line { fill: none; stroke-width: 1.8 }
.marker.tone-0 { fill: #1f5fa8 } .line.tone-1 { stroke: #c05a1c }"""


class Point(NamedTuple):
    """One run: where on the axis it lies, seconds of a step, and tokens that went through."""

    dimension: str
    setting: int
    x: float
    seconds: float
    tokens: int
    phases: dict[str, float]


def main() -> None:
    options = parse()
    points: list[Point] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, options.out.open("w", encoding="utf-8") as out:
        for dimension in options.only:
            for setting in SWEEPS.get(dimension, SPREADS):
                points.append(measure(dimension, setting, options, Path(name)))
                out.write(json.dumps(points[-1]._asdict()) + "\n")
                out.flush()
                print(f"{dimension} {setting}: {points[-1].seconds:.2f} s", file=sys.stderr, flush=True)
    print(table(points))
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    options.plot.write_text(drawing(points), encoding="utf-8")


def measure(dimension: str, setting: int, options: argparse.Namespace, folder: Path) -> Point:
    """Run one setting."""
    if dimension in SWEEPS:
        found = run("ppo", options.workload, BASE | {dimension: setting}, options)
    elif dimension == "prompt spread":
        spread_prompts(folder, setting, rows=BASE["batch"] * (options.steps + 1) + 2, model=options.model)
        found = run("ppo", folder, BASE, options)
    else:
        spread_answers(folder, setting, rows=8 * (options.steps + 2), model=options.model)
        found = run("reward", folder, {"batch": 8}, options)
    shapes = [group for step in found["steps"] for group in step["shapes"]]
    steps = len(found["steps"])
    sampled = sum(sum(answers) for _, answers in shapes) / steps
    tokens = sum(prompt + sum(answers) for prompt, answers in shapes) // steps
    names = found["steps"][0]["phases"]
    phases = {name: statistics.median(step["phases"][name] for step in found["steps"]) for name in names}
    seconds = statistics.median(step["seconds"] for step in found["steps"])
    return Point(dimension, setting, sampled if dimension == "new-tokens" else setting, seconds, tokens, phases)


def run(work: str, workload: Path, settings: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's steps, timed by the side-by-side benchmark's own script."""
    command = [sys.executable, "-m", "benchmarks.peer.plaudit_side", work, "--workload", str(workload)]
    command += ["--model", resolve_model(options.model), "--train-layers", "8" if work == "ppo" else "all"]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def two_lengths(spread: int, mean: int) -> tuple[int, int]:
    """A short and a long length, `spread` apart as a ratio, with this mean."""
    short = round(2 * mean / (1 + spread))
    return short, 2 * mean - short


def spread_prompts(folder: Path, spread: int, *, rows: int, model: str) -> None:
    """`prompts.jsonl` with prompts of two lengths in turn, 289 tokens on average; the template takes 30."""
    renderer = Renderer(load_tokenizer(resolve_model(model)))
    frame = len(renderer.prompt_ids(user_prompt("x"))) - 1
    lengths = two_lengths(spread, 289)
    written = []
    for number in range(rows):
        content = text_of(renderer.tokenizer, lengths[number % 2] - frame, number)
        prompt = [{"role": "user", "content": content}]
        written.append({"prompt": prompt, "prompt_ids": list(renderer.prompt_ids(user_prompt(content)))})
    write_jsonl(folder / "prompts.jsonl", written)


def spread_answers(folder: Path, spread: int, *, rows: int, model: str) -> None:
    """`pairs.jsonl` and `pairs_heldout.jsonl` with answers of two lengths in turn, 68 tokens on average."""
    renderer = Renderer(load_tokenizer(resolve_model(model)))
    lengths = two_lengths(spread, 68)
    written = []
    for number in range(rows + 2):
        content = text_of(renderer.tokenizer, 12, 3 * number)
        answers = [text_of(renderer.tokenizer, lengths[number % 2], 3 * number + side) for side in (1, 2)]
        sides = {
            name: [{"role": "assistant", "content": answer}]
            for name, answer in zip(("chosen", "rejected"), answers, strict=True)
        }
        ids = list(renderer.prompt_ids(user_prompt(content)))
        written.append({"prompt": [{"role": "user", "content": content}], "prompt_ids": ids, **sides})
    write_jsonl(folder / "pairs.jsonl", written[:rows])
    write_jsonl(folder / "pairs_heldout.jsonl", written[rows:])


def text_of(tokenizer: Any, length: int, number: int) -> str:
    """A text of so many tokens, three at least, that no other number below 1,000 has, in words of one token each."""
    digits = [" zero", " one", " two", " three", " four", " five", " six", " seven", " eight", " nine"]
    words = "".join(digits[int(digit)] for n in range(number, number + length) for digit in f"{n:03d}")
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids[:length]).strip()


def table(points: list[Point]) -> str:
    """Markdown, with how time follows the work: seconds at most over seconds at least, beside the same of the work."""
    lines = ["| dimension | setting | tokens | seconds | phases |", "|---|---|---|---|---|"]
    for p in points:
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in p.phases.items() if seconds >= 0.005)
        lines.append(f"| {p.dimension} | {p.setting} | {p.tokens} | {p.seconds:.2f} | {phases} |")
    lines.append("")
    for dimension in dict.fromkeys(p.dimension for p in points):
        own = [p for p in points if p.dimension == dimension]
        slope, start = line_through(own)
        off = max(abs(p.seconds - (start + slope * p.x)) / p.seconds for p in own)
        grown = own[-1].seconds / own[0].seconds
        lines.append(
            f"{dimension}: {own[-1].x / own[0].x:.1f} times as much takes {grown:.2f} times as long; the line "
            f"{start:.2f} + {slope:.4f} x is at most {off:.0%} off."
        )
    return "\n".join(lines)


def line_through(points: list[Point]) -> tuple[float, float]:
    """Slope and start of the line with the least squared relative errors: short runs count as much as long ones."""
    weight = [1 / p.seconds**2 for p in points]
    total = sum(weight)
    x = sum(w * p.x for w, p in zip(weight, points, strict=True)) / total
    y = sum(w * p.seconds for w, p in zip(weight, points, strict=True)) / total
    spread = sum(w * (p.x - x) ** 2 for w, p in zip(weight, points, strict=True))
    slope = sum(w * (p.x - x) * (p.seconds - y) for w, p in zip(weight, points, strict=True)) / spread
    return slope, y - slope * x


def drawing(points: list[Point]) -> str:
    """One panel a dimension, two in a row, as one SVG."""
    dimensions = list(dict.fromkeys(p.dimension for p in points))
    panels: list[str] = []
    for number, dimension in enumerate(dimensions):
        own = [p for p in points if p.dimension == dimension]
        slope, start = line_through(own)
        title, axis = TITLES[dimension]
        ends = (own[0].x, own[-1].x)
        series = [
            Dots("measured", [(p.x, p.seconds) for p in own]),
            Line("line", [(x, start + slope * x) for x in ends], tone=1, smooth=True),
        ]
        figure = str(draw(Chart(title, axis, "seconds", series, include_y=[0.0])))
        svg = "<svg" + figure.rsplit("<svg", 1)[1].split("</svg>")[0] + "</svg>"
        x, y = number % 2 * (WIDTH + 20), number // 2 * (HEIGHT + 40)
        panels.append(f'<text class="title" x="{x + 4}" y="{y + 16}">{title}</text>')
        panels.append(svg.replace("<svg", f'<svg x="{x}" y="{y + 24}" width="{WIDTH}" height="{HEIGHT}"', 1))
    width, height = 2 * WIDTH + 20, (len(dimensions) + 1) // 2 * (HEIGHT + 40)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return f'{head}<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    peer = os.environ.get("PLAUDIT_PEER")
    parser.add_argument("--workload", type=Path, default=Path(peer) / "workload" if peer else None)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each run; at most 2 fit the workload")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "growth.jsonl")
    parser.add_argument("--plot", type=Path, default=ROOT / "runs" / "growth.svg")
    options = parser.parse_args()
    if options.workload is None:
        parser.error("give --workload=FOLDER with prompts.jsonl, or set PLAUDIT_PEER")
    return options


if __name__ == "__main__":
    main()
