"""Seconds of PPO until answers to unseen prompts reach a reward: Plaudit, and TRL on the same work.

    python -m benchmarks.learning --run FOLDER      # of a finished examples/e2e/run.py: sft/, reward/ and data/ in it
    python -m benchmarks.learning --run FOLDER --tiny --out runs/learning-tiny      # only shows that all of it runs
    python -m benchmarks.learning --table runs/learning                             # the tables of a measurement

Both sides start at the same SFT model and train on the same prompts in the same order against the same reward model.
The clock runs while they sample, score and train. Meanwhile they only save their policies; afterwards all policies
answer the held-out prompts by one sampler, with the same seeds, and the reward model scores the answers. The same
command goes on after an interruption: a side that has finished and a policy that is measured stay.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.growth import STYLE
from benchmarks.peer.arms import Arm, Settings, allocator, environment
from benchmarks.peer.reach import Curve, course_table, reach_table, reached

from plaudit.core.files import append_line, drop_torn_line, json_line, read_jsonl, write_json, write_jsonl
from plaudit.core.progress import be_quiet
from plaudit.core.records import TokenGroup
from plaudit.core.seeding import derive
from plaudit.datasets.read import read_prompts
from plaudit.datasets.render import Renderer
from plaudit.models.load import load_policy, load_reward, load_tokenizer, resolve_model
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32, choose_precision
from plaudit.reports.plots import HEIGHT, WIDTH, Chart, Line, draw
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from plaudit.rollouts.scoring import load_scorer, read_ensemble
from plaudit.training.judging import HeldOut, estimate, judge_policy
from plaudit.training.ppo import prompts_of
from plaudit.training.ppo_reward import TextReward

ROOT = Path(__file__).parents[1]
SIDES = ("plaudit", "peer")
NAMES = {"start": "SFT", "plaudit": "Plaudit", "peer": "TRL"}
AT = {"plaudit": (1, 2, 3, 4, 5, 6, 8, 10, 12, 15), "peer": (1, 2, 3, 4, 5, 6, 7, 8)}
# Of examples/e2e, but one reward model for the ensemble: three would each cost the peer a whole forward pass.
WORK = {"prompts": 16, "answers": 4, "new_tokens": 80, "epochs": 2, "minibatches": 2, "kl_coef": 0.05}
TINY = WORK | {"prompts": 2, "answers": 2, "new_tokens": 8, "epochs": 1}
PROBES = 20


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    be_quiet()
    if options.table is None:
        settings = prepare(options)
        for side in options.only:
            train(side, settings, options)
            measure(side, settings, options.out)
    show(options.table or options.out)


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Settings and inputs that both sides read, as files in the folder of the measurement."""
    settings = chosen(options)
    file = options.out / "settings.json"
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8")) != settings:
            raise SystemExit(f"{options.out} holds a measurement with other settings; give another --out")
        return settings
    renderer = Renderer(load_tokenizer(settings["sft"]))
    ids = [list(renderer.prompt_ids(row.prompt)) for row in read_prompts(settings["train"]).rows]
    # one round more than is trained: see trl_ppo_learning
    for_rounds = range(max(settings["plaudit"]["at"][-1], settings["peer"]["at"][-1]) + 1)
    taken = [
        place
        for number in for_rounds
        for place in prompts_of(number, rows=len(ids), count=settings["prompts"], seed=settings["seed"])
    ]
    rows = [{"input_ids": ids[place]} for place in taken for _ in range(settings["answers"])]
    write_jsonl(options.out / "prompts.jsonl", rows)
    held_out = list(read_jsonl(options.run / "data" / "test.jsonl"))[: options.held_out]
    write_jsonl(options.out / "held-out.jsonl", [{"prompt": row["prompt"]} for row in held_out])
    write_jsonl(options.out / "probe.jsonl", probes(settings, [tuple(ids[place]) for place in dict.fromkeys(taken)]))
    write_json(file, settings)
    return settings


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """All settings. Folders are whole paths: the peer runs elsewhere."""
    ensemble = read_ensemble(options.run / "reward")
    reward = ensemble.folders[options.member] if ensemble else resolve_model(options.run / "reward")
    peer = {"at": options.peer_at, "lr": options.peer_lr, "format": options.peer_format, "attention": "eager"}
    return {
        "sft": str(Path(resolve_model(options.run / "sft")).resolve()),
        "reward": str(Path(reward).resolve()),
        "train": str((options.run / "data" / "ppo.jsonl").resolve()),
        **(TINY if options.tiny else WORK),
        "missing_eos": 1.0,
        "threads": options.threads,
        "seed": options.seed,
        "test_answers": options.test_answers,
        "plaudit": {"at": options.at, "lr": options.lr, "train_layers": options.train_layers},
        "peer": peer | {"micro_batches": 2 if options.tiny else options.micro_batches},
    }


def probes(settings: dict[str, Any], prompts: list[tuple[int, ...]]) -> list[dict[str, Any]]:
    """Answers with the scores that the peer must give them too. The first is cut: an answer without its end.

    Without those that happen to hold the padding token, where the peer ends an answer; trained models do not draw it.
    """
    policy = load_policy(settings["sft"], precision=choose_precision("bfloat16")).frozen_copy()
    renderer = Renderer(policy.tokenizer)
    sampling = Sampling(max_new_tokens=settings["new_tokens"])
    seeds = [derive(settings["seed"], "probe", place) for place in range(min(PROBES, len(prompts)))]
    rollouts = sample(policy, prompts[: len(seeds)], sampling, end_ids=renderer.end_ids, seeds=seeds)
    drawn = [(one.prompt, one.response) for row in rollouts for one in row if renderer.pad_id not in one.response]
    drawn[0] = (drawn[0][0], drawn[0][1][: max(1, len(drawn[0][1]) // 2)])
    reward = load_reward(settings["reward"], precision=FLOAT32, train_layers="all")
    rows: list[dict[str, Any]] = []
    for prompt, answer in drawn:
        packed = pack([TokenGroup(prompt, (answer,))])
        with torch.no_grad():
            score = reward.scores(packed, reward.states(packed)).item()
        rows.append({"prompt_ids": list(prompt), "response_ids": list(answer), "score": score})
    return rows


def train(side: str, settings: dict[str, Any], options: argparse.Namespace) -> None:
    """Train one side in a process of its own, unless it has finished. A side that was interrupted starts again."""
    folder = options.out / side
    if times(folder).get(settings[side]["at"][-1]):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_jsonl(options.out / "results.jsonl", [row for row in results(options.out) if row["side"] != side])
    if side == "peer":
        program = [str(options.venv / "bin" / "python"), str(ROOT / "benchmarks" / "peer" / "trl_ppo_learning.py")]
    else:
        program = [sys.executable, "-m", "benchmarks.peer.plaudit_learning"]
    command = (*program, str(options.out.resolve()), str(time.time()))
    arm = Arm("ppo", side, "", command, allocator() if side == "peer" else {})
    shared = Settings(Path(settings["sft"]), options.out, options.venv, options.threads, options.tiny)
    print(f"{NAMES[side]} trains {settings[side]['at'][-1]} rounds", file=sys.stderr, flush=True)
    if subprocess.run(command, cwd=ROOT, env=environment(arm, shared), check=False).returncode:
        raise SystemExit(f"{NAMES[side]} failed")


def measure(side: str, settings: dict[str, Any], out: Path) -> None:
    """Answer the held-out prompts with each saved policy, have the answers scored, and delete the policy."""
    known = {(row["side"], row["round"]) for row in results(out)}
    clock = times(out / side)
    policies = {("start", 0): Path(settings["sft"])}
    policies |= {(side, number): out / side / f"round-{number}" for number in settings[side]["at"]}
    left = {key: folder for key, folder in policies.items() if key not in known}
    if not left:
        return
    precision = choose_precision("bfloat16")
    reference = load_policy(settings["sft"], precision=precision).frozen_copy()
    renderer = Renderer(reference.tokenizer)
    scorer = TextReward(load_scorer(settings["reward"], precision="bfloat16"), renderer)
    prompts = tuple(row.prompt for row in read_prompts(out / "held-out.jsonl").rows)
    sampling = Sampling(max_new_tokens=settings["new_tokens"], n=settings["test_answers"])
    held_out = HeldOut(prompts, tuple(map(renderer.prompt_ids, prompts)), sampling, settings["seed"])
    for (name, number), folder in left.items():
        policy = load_policy(folder, precision=precision).frozen_copy()
        found = judged(policy, reference, held_out, scorer, renderer, settings["missing_eos"])
        spent = clock[number] if number else {"seconds": 0.0, "cpu_seconds": 0.0}
        row = {"side": name, "round": number, "seconds": spent["seconds"], "cpu_seconds": spent["cpu_seconds"]} | found
        append_line(out / "results.jsonl", json_line(row))
        print(f"{NAMES[name]}, round {number}: {row['reward']:.3f}", file=sys.stderr, flush=True)
        if name != "start":
            shutil.rmtree(folder)


def judged(
    policy: Policy, reference: Policy, held_out: HeldOut, scorer: TextReward, renderer: Renderer, missing_eos: float
) -> dict[str, Any]:
    """One policy on the held-out prompts: mean reward of each prompt's answers, as trained on, and its interval."""
    verdict = judge_policy(policy, reference, held_out, judge=None, reward=scorer, renderer=renderer, micro_tokens=4096)
    graded = [row["reward"] - (0.0 if row["stopped"] else missing_eos) for row in verdict.records]
    n = held_out.sampling.n
    rewards: list[float | None] = [sum(graded[i : i + n]) / n for i in range(0, len(graded), n)]
    found = estimate(rewards)
    assert found is not None
    return {
        **found.named("reward"),
        "kl": verdict.kl,
        "tokens": verdict.response_length,
        "unfinished": verdict.clipped_length,
        "rewards": rewards,
    }


def times(folder: Path) -> dict[int, dict[str, float]]:
    """What a side's clock showed at the end of each round; entry 0 has the seconds of start-up."""
    file = folder / "times.jsonl"
    return {row["round"]: row for row in read_jsonl(file)} if file.exists() else {}


def results(out: Path) -> list[dict[str, Any]]:
    """What has been measured so far."""
    file = out / "results.jsonl"
    drop_torn_line(file)
    return list(read_jsonl(file)) if file.exists() else []


def show(out: Path) -> None:
    """Print the tables, and draw the curves."""
    rows = sorted(results(out), key=lambda row: (list(NAMES).index(row["side"]), row["round"]))
    print(course_table([{**row, "side": NAMES[row["side"]]} for row in rows]))
    startup = {side: times(out / side).get(0, {}).get("startup_seconds") for side in SIDES}
    print("\nStart-up: " + ", ".join(f"{NAMES[side]} {s:.0f} s" for side, s in startup.items() if s is not None) + ".")
    if all(any(row["side"] == side for row in rows) for side in SIDES):
        found = reached(*(Curve.of(rows, side) for side in SIDES))
        print("\n" + reach_table(found))
        (out / "learning.svg").write_text(drawing(rows), encoding="utf-8")


def drawing(rows: list[dict[str, Any]]) -> str:
    """Held-out reward against seconds of training, as one SVG."""
    series: list[Line] = []
    for tone, side in enumerate(SIDES):
        own = [row for row in rows if row["side"] in ("start", side)]
        points = [(row["seconds"], row["reward"]) for row in own]
        series.append(Line(NAMES[side], points, tone, [(row["reward_low"], row["reward_high"]) for row in own]))
    figure = str(draw(Chart("Held-out reward", "seconds of training", "held-out reward", series)))
    inner = "<svg" + figure.rsplit("<svg", 1)[1].split("</svg>")[0] + "</svg>"
    inner = inner.replace("<svg", f'<svg y="24" width="{WIDTH}" height="{HEIGHT}"', 1)
    names = "".join(
        f'<text x="{50 + 80 * tone}" y="16" class="name-{tone}">{NAMES[side]}</text>' for tone, side in enumerate(SIDES)
    )
    style = STYLE + (
        ".line.tone-0, .marker.tone-0 { stroke: #1f5fa8 } .band.tone-0 { fill: #1f5fa8; opacity: 0.15 }"
        ".marker.tone-1 { fill: #c05a1c } .band.tone-1 { fill: #c05a1c; opacity: 0.15 }"
        ".name-0 { fill: #1f5fa8 } .name-1 { fill: #c05a1c }"
    )
    height = HEIGHT + 30
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    return f'{head}<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{names}{inner}</svg>\n'


def parse() -> argparse.Namespace:
    def rounds(text: str) -> list[int]:
        return sorted({int(word) for word in text.split(",")})

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a finished run of examples/e2e/run.py")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "learning")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-peer")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--at", type=rounds, default=list(AT["plaudit"]), help="rounds of Plaudit to measure, by comma")
    parser.add_argument("--peer-at", type=rounds, default=list(AT["peer"]), help="rounds of the peer to measure")
    parser.add_argument("--train-layers", type=lambda text: text if text == "all" else int(text), default=8)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--peer-lr", type=float, default=1e-4)
    parser.add_argument("--peer-format", choices=("bf16", "autocast"), default="bf16")
    parser.add_argument("--micro-batches", type=int, default=32, help="in which the peer takes the answers of a round")
    parser.add_argument("--member", type=int, default=0, help="which reward model, where the run has an ensemble")
    parser.add_argument("--held-out", type=int, default=96, help="prompts of data/test.jsonl to measure on")
    parser.add_argument("--test-answers", type=int, default=2, help="answers to each of them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="tiny rounds, to see that all of it runs")
    parser.add_argument("--table", type=Path, help="print the tables of this measurement and measure nothing")
    options = parser.parse_args()
    if options.table is None and (options.run is None or not (options.run / "data" / "test.jsonl").exists()):
        parser.error("give --run=FOLDER, the folder of a finished run of examples/e2e/run.py")
    if options.table is None and "peer" in options.only and not (options.venv / "bin" / "python").exists():
        parser.error(f"{options.venv} is no environment; make it with benchmarks/peer/setup.sh {options.venv}")
    if options.tiny:
        options.at, options.peer_at, options.held_out, options.test_answers = [1, 2], [1, 2], 4, 1
    load = os.getloadavg()[0]
    if options.table is None and load > 0.5 and not options.tiny:
        print(f"The machine is not idle (load {load:.1f}): threads wait for cores they share.", file=sys.stderr)
    return options


if __name__ == "__main__":
    main()
