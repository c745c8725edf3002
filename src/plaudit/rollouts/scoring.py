"""Scoring texts: reward models, ensembles of them, and anybody's Python function, behind one interface.

A scorer gets conversations and texts, never token ids: a reward model renders them with its own tokenizer and chat
template, so it need not share either with the policy.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from plaudit.algorithms import ensemble
from plaudit.core.errors import ConfigError, DataError, ModelError
from plaudit.core.files import sha256_file, sha256_tree
from plaudit.core.records import Prompt, TokenGroup, prompt_key
from plaudit.core.run import is_run, read_config
from plaudit.datasets.render import Renderer
from plaudit.models.load import TrainLayers, load_reward, resolve_model
from plaudit.models.packing import batches, pack, packed_length
from plaudit.models.policy import ScalarModel
from plaudit.models.precision import choose_precision

Scores = list[float | None]
ENSEMBLE_FILE = "ensemble.json"
RewardFunction = Callable[[list[list[dict[str, str]]], list[str]], list[float | None]]


class Scorer(Protocol):
    """Judges answers. Higher is better; the unit is the scorer's own."""

    name: str

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Scores:
        """One score a (prompt, response). None = unscored: the scorer has no opinion, which is neither 0 nor a tie."""
        ...


class RewardModelScorer:
    """A Hugging Face sequence classifier with one output, on text rendered by its own tokenizer."""

    def __init__(
        self, name: str, model: ScalarModel, *, renderer: Renderer | None = None, max_batch_tokens: int = 4096
    ) -> None:
        self.name = name
        self.model = model
        self._render = renderer or Renderer(model.tokenizer)
        self._context: int = getattr(model.origin.config, "max_position_embeddings", sys.maxsize)
        self._max_batch_tokens = max_batch_tokens

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Scores:
        """As `Scorer`; a text longer than the model's context is unscored."""
        return self.score_with([self.model], prompts, responses)[0]

    def score_with(
        self, models: Sequence[ScalarModel], prompts: Sequence[Prompt], responses: Sequence[str]
    ) -> list[Scores]:
        """Scores by each of `models`, which share this scorer's trunk and tokenizer: the trunk runs once for all."""
        _check_lengths(self.name, len(prompts), len(responses))
        groups, places = self._groups(prompts, responses)
        scores: list[Scores] = [[None] * len(responses) for _ in models]
        for batch in batches(groups, max_tokens=self._max_batch_tokens):
            packed = pack([groups[index] for index in batch])
            where = [place for index in batch for place in places[index]]
            with torch.no_grad():
                states = self.model.states(packed)
                found = [model.scores(packed, states).double().tolist() for model in models]
            for column, values in zip(scores, found, strict=True):
                for rows, value in zip(where, values, strict=True):
                    if not math.isfinite(value):
                        raise ModelError(f"{self.name} gives the score {value}: its weights are damaged or overflow.")
                    for row in rows:
                        column[row] = value
        return scores

    def _groups(
        self, prompts: Sequence[Prompt], responses: Sequence[str]
    ) -> tuple[list[TokenGroup], list[list[list[int]]]]:
        """Each distinct text of a prompt once, and for each group and response the rows it answers."""
        rows: dict[str, dict[str, list[int]]] = {}
        by_key: dict[str, Prompt] = {}
        for row, (prompt, text) in enumerate(zip(prompts, responses, strict=True)):
            key = prompt_key(prompt)
            by_key.setdefault(key, prompt)
            rows.setdefault(key, {}).setdefault(text, []).append(row)
        groups, places = [], []
        for key, texts in rows.items():
            rendered = self._render.group(by_key[key], list(texts))
            for part, where in _parts(rendered, list(texts.values()), self._max_batch_tokens):
                fits = [len(part.prompt) + len(ids) <= self._context for ids in part.responses]
                kept = tuple(ids for ids, fit in zip(part.responses, fits, strict=True) if fit)
                if kept:
                    groups.append(TokenGroup(part.prompt, kept))
                    places.append([rows for rows, fit in zip(where, fits, strict=True) if fit])
        return groups, places


def _parts(group: TokenGroup, where: list[list[int]], max_tokens: int) -> list[tuple[TokenGroup, list[list[int]]]]:
    """A group in parts of at most `max_tokens` each, so that a prompt answered a thousand times fits in memory."""
    if packed_length(group) <= max_tokens:
        return [(group, where)]
    parts: list[tuple[list[tuple[int, ...]], list[list[int]]]] = []
    room = -1
    for ids, rows in zip(group.responses, where, strict=True):
        if len(ids) > room:
            parts.append(([], []))
            room = max_tokens - len(group.prompt)
        parts[-1][0].append(ids)
        parts[-1][1].append(rows)
        room -= len(ids)
    return [(TokenGroup(group.prompt, tuple(responses)), rows) for responses, rows in parts]


class Combine(NamedTuple):
    """How the scores of an ensemble become one (Coste et al. 2023, arXiv:2310.02743)."""

    mode: Literal["mean", "worst", "uncertainty"] = "mean"  # mean; minimum; mean - penalty * population variance
    penalty: float = 0.5

    def __call__(self, scores: Tensor) -> Tensor:
        """(members, S) scores to (S,)."""
        if self.mode == "mean":
            return ensemble.mean(scores)
        if self.mode == "worst":
            return ensemble.worst_case(scores)
        return ensemble.uncertainty_weighted(scores, coefficient=self.penalty)


class EnsembleScores(NamedTuple):
    """Scores of an ensemble: combined, and how far the members are apart (population standard deviation)."""

    scores: Scores
    spread: Scores
    members: list[Scores]  # one list a member


class EnsembleScorer:
    """Several scorers as one. A text that any member leaves unscored is unscored."""

    def __init__(self, name: str, scorers: Sequence[Scorer], combine: Combine | None = None) -> None:
        if len(scorers) < 2:
            raise ConfigError(f"{name}: an ensemble needs two or more scorers, found {len(scorers)}.")
        self.name = name
        self.scorers = tuple(scorers)
        self.combine = combine or Combine()

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Scores:
        return self.score_members(prompts, responses).scores

    def score_members(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> EnsembleScores:
        """The combined scores with the members' own and their spread."""
        members = self._members(prompts, responses)
        known = [row for row in range(len(responses)) if all(member[row] is not None for member in members)]
        scores: Scores = [None] * len(responses)
        spread: Scores = [None] * len(responses)
        if known:
            table = torch.tensor([[member[row] for row in known] for member in members], dtype=torch.float64)
            for row, score, deviation in zip(
                known, self.combine(table).tolist(), ensemble.spread(table).tolist(), strict=True
            ):
                scores[row], spread[row] = score, deviation
        return EnsembleScores(scores, spread, members)

    def _members(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Scores]:
        found: dict[int, Scores] = {}
        for index, scorer in enumerate(self.scorers):
            if index in found:
                continue
            if not isinstance(scorer, RewardModelScorer):
                found[index] = scorer.score(prompts, responses)
                continue
            team = {
                other: sibling.model
                for other, sibling in enumerate(self.scorers)
                if isinstance(sibling, RewardModelScorer)
                and (other == index or sibling.model.shares_trunk(scorer.model))
            }
            found |= zip(team, scorer.score_with(list(team.values()), prompts, responses), strict=True)
        return [found[index] for index in range(len(self.scorers))]


class FunctionScorer:
    """A Python function as a reward: `function(prompts, responses) -> scores`.

    `prompts` is a list of conversations, each a list of `{"role": …, "content": …}`; `responses` a list of texts; the
    result has one number for each, or None for a text the function cannot judge.
    """

    def __init__(self, name: str, function: RewardFunction) -> None:
        self.name = name
        self._function = function

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Scores:
        """As `Scorer`.

        Raises:
            DataError: the function raised, or returned the wrong number of scores, or something that is no number.
        """
        _check_lengths(self.name, len(prompts), len(responses))
        if not responses:
            return []
        chats = [[{"role": m.role, "content": m.content} for m in prompt] for prompt in prompts]
        try:
            given = self._function(chats, list(responses))
        except Exception as error:
            raise DataError(f"The reward function {self.name} raised {type(error).__name__}: {error}") from error
        try:
            returned = list(given)
        except TypeError:
            raise DataError(
                f"The reward function {self.name} returned {type(given).__name__}; it must return a list with one "
                "score for each response."
            ) from None
        if len(returned) != len(responses):
            raise DataError(
                f"The reward function {self.name} returned {len(returned)} scores for {len(responses)} responses; "
                "return one for each, and None for one it cannot judge."
            )
        return [self._number(value, index) for index, value in enumerate(returned)]

    def _number(self, value: object, index: int) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)  # type: ignore[arg-type]  (numpy and torch scalars are welcome)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, str) or not math.isfinite(number):
            raise DataError(
                f"The reward function {self.name} returned {value!r} for response {index}; return a finite number, or "
                "None for a response it cannot judge."
            )
        return number


def load_scorer(
    spec: str | Sequence[str],
    *,
    precision: str = "auto",
    train_layers: TrainLayers | None = None,
    combine: Combine | None = None,
    max_batch_tokens: int = 4096,
) -> Scorer:
    """The scorer a setting names.

    Args:
        spec: "file.py:function", "package.module:function", a reward model (folder, run folder or hub name), or several
            of these, which make an ensemble. A run folder that holds an ensemble gives all of its members.
        precision: number format of reward models: auto, bfloat16 or float32.
        train_layers: where reward models are cut into trunk and branch, to share a policy's trunk; None keeps the cut
            an ensemble was trained with.
        combine: how an ensemble's scores become one; the mean by default.
        max_batch_tokens: packed tokens in one forward pass.

    Raises:
        ConfigError: there is no such file, module or function.
        ModelError: the model cannot be loaded, or has no trained scalar head.
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    scorers: list[Scorer] = []
    for one in specs:
        if _names_function(one):
            scorers.append(FunctionScorer(one, _load_function(one)))
        else:
            scorers.extend(_load_models(one, precision, train_layers, max_batch_tokens))
    return scorers[0] if len(scorers) == 1 else EnsembleScorer(" + ".join(specs), scorers, combine)


def _load_models(
    spec: str, precision: str, train_layers: TrainLayers | None, max_batch_tokens: int
) -> list[RewardModelScorer]:
    """The reward model of a name, or all members of an ensemble, on one trunk where theirs are equal."""
    chosen = choose_precision(precision)
    index = read_ensemble(spec) or EnsembleFolder([spec], "all")
    cut = index.train_layers if train_layers is None else train_layers
    scorers: list[RewardModelScorer] = []
    for folder in index.folders:
        model = load_reward(folder, precision=chosen, train_layers=cut)
        if scorers and model.shares_trunk(scorers[0].model):
            model = model.on_trunk_of(scorers[0].model)
        renderer = Renderer(model.tokenizer, **_rendering(Path(spec)))
        scorers.append(RewardModelScorer(folder, model, renderer=renderer, max_batch_tokens=max_batch_tokens))
    return scorers


def _rendering(path: Path) -> dict[str, Any]:
    """How the run that made a model rendered its texts; the defaults for a model from elsewhere."""
    for folder in (path, *path.parents[:2]):
        if is_run(folder):
            config = read_config(folder)
            return {name: config[name] for name in ("template", "system") if name in config}
    return {}


class EnsembleFolder(NamedTuple):
    """Where the members of a saved ensemble lie, and how many of their layers were trained."""

    folders: list[str]
    train_layers: TrainLayers


def read_ensemble(name: str | Path) -> EnsembleFolder | None:
    """The ensemble in a model folder or run folder; None where there is none."""
    for folder in (Path(name), Path(name) / "model"):
        if (folder / ENSEMBLE_FILE).is_file():
            index = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
            return EnsembleFolder([str(folder / member) for member in index["members"]], index["train_layers"])
    return None


def scorer_hash(spec: str) -> str | None:
    """SHA-256 of what is behind a scorer's name, for a run's inputs; None for a module or a hub name."""
    if _names_function(spec):
        file = spec.rpartition(":")[0]
        return sha256_file(Path(file)) if file.endswith(".py") else None
    if (index := read_ensemble(spec)) is not None:
        return sha256_tree(Path(index.folders[0]).parent)
    folder = Path(resolve_model(spec))
    return sha256_tree(folder) if folder.is_dir() else None


def _names_function(spec: str) -> bool:
    source, colon, function = spec.rpartition(":")
    dotted = all(part.isidentifier() for part in source.split("."))
    return bool(colon) and function.isidentifier() and (source.endswith(".py") or dotted) and not Path(spec).exists()


def _load_function(spec: str) -> RewardFunction:
    source, _, name = spec.rpartition(":")
    module = _load_file(Path(source)) if source.endswith(".py") else _import(source)
    function: RewardFunction | None = getattr(module, name, None)
    if not callable(function):
        defined = sorted(n for n, value in vars(module).items() if callable(value) and not n.startswith("_"))
        raise ConfigError(f"{source} has no function {name}; it defines {', '.join(defined) or 'none'}.")
    return function


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(
            f"There is no file {path} to load a reward function from; give the path as seen from {Path.cwd()}."
        )
    # The name carries the path, so that two files of one name do not replace each other.
    name = f"plaudit_reward_{path.resolve().as_posix().translate(str.maketrans('/.-: ', '_____'))}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickling look their module up there
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"The module {name} cannot be imported: {error}. For a file, write path/to/file.py:function."
        ) from error


def _check_lengths(name: str, prompts: int, responses: int) -> None:
    assert prompts == responses, f"{name}: {prompts} prompts but {responses} responses"
