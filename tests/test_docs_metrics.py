"""docs/metrics.md names exactly what the recipes log, stage by stage."""

import ast
import re
from pathlib import Path

import pytest

from plaudit.evaluation.winrate import WinRate
from plaudit.reports.curves import PANELS

ROOT = Path(__file__).parents[1]
TRAINING = ROOT / "src" / "plaudit" / "training"
ENDS = ("", "_low", "_high")

# Where the figures of a stage are put together: functions whose dictionary keys are logged names.
BUILDERS = {
    "SFT": {"sft.py": ("train",)},
    "Reward model": {"reward.py": ("train", "means")},
    "PPO": {"ppo_figures.py": ("iteration_figures", "held_out_figures"), "ppo.py": ("_learn",)},
    "DPO": {"dpo.py": ("train",), "dpo_loss.py": ("accumulate_gradient", "figures", "named")},
}
# Names that are put together from parts, and so are not literals: the reward model's figures of another set of prompts.
COMPOSED = {
    "Reward model": {f"{part}_{name}" for part in ("held_out", "choose") for name in ("loss", "accuracy")},
    "PPO": {name + end for name in ("judge", "held_out_reward") for end in ENDS},
}
# Dictionaries in those functions that are written elsewhere: by variable or by the call they are an argument of.
ELSEWHERE = {"announce", "finish", "save_checkpoint"}


def documented(stage: str) -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    section = page.split(f"## {stage}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}


def logged(stage: str) -> set[str]:
    found = set(COMPOSED.get(stage, ()))
    for file, functions in BUILDERS[stage].items():
        tree = ast.parse((TRAINING / file).read_text(encoding="utf-8"))
        defined = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for function in functions:
            assert function in defined, f"{file} has no function {function}; tell this test where its figures went"
            found |= names_in(defined[function])
    return found


def names_in(function: ast.FunctionDef) -> set[str]:
    """Keys of the figures' dictionaries, keywords of `run.log`, and arguments of `.named(...)` in a function."""
    foreign: set[ast.AST] = set()
    for node in ast.walk(function):
        name = called(node)
        is_state = isinstance(node, ast.Assign) and any(ast.unparse(t) in ("state", "inputs") for t in node.targets)
        is_other = isinstance(node, ast.Assign) and any(ast.unparse(t) == "reference" for t in node.targets)
        if name in ELSEWHERE or is_state or is_other:
            foreign |= set(ast.walk(node))
    found: set[str] = set()
    for node in ast.walk(function):
        if node in foreign:
            continue
        if isinstance(node, ast.Dict):
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Constant):
            found.add(node.slice.value)
        if isinstance(node, ast.Call) and called(node) == "log":
            found |= {keyword.arg for keyword in node.keywords if keyword.arg}
        if (
            isinstance(node, ast.Call)
            and called(node) == "named"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found |= {node.args[0].value + end for end in ENDS}
    return found


def called(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


@pytest.mark.parametrize("stage", BUILDERS)
def test_the_page_names_what_the_recipe_logs(stage: str):
    assert documented(stage) == logged(stage)


def test_the_page_names_every_part_of_a_comparison():
    assert documented("Evaluation") == {*WinRate._fields, "a", "b", "judge", "note", "independent"}


@pytest.mark.parametrize(
    ("stage", "title"), [("sft", "SFT"), ("reward", "Reward model"), ("ppo", "PPO"), ("dpo", "DPO")]
)
def test_the_report_draws_only_names_that_are_logged(stage: str, title: str):
    drawn = {name for panel in PANELS[stage] for name, _ in panel.lines}
    assert drawn <= documented(title)
