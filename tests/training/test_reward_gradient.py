"""The gradient of a reward model: merging, grouping and batching change nothing; what must not be changed does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from plaudit.core.errors import ConfigError
from plaudit.core.records import Comparison, Ranking, user_prompt
from plaudit.datasets.judgments import JudgedPrompt, Judgment, merge_judgments
from plaudit.datasets.render import Renderer
from plaudit.models import packing
from plaudit.models.export import save_reward
from plaudit.models.load import new_reward
from plaudit.models.packing import Packed, pack
from plaudit.models.policy import ScalarModel
from plaudit.models.precision import FLOAT32
from plaudit.training.reward import accumulate_gradient
from plaudit.training.reward_config import RewardConfig
from plaudit.training.reward_data import Examples
from plaudit.training.reward_loss import check_fits, likelihood, targets
from plaudit.training.trunk_cache import TrunkCache

TOLERANCE = 2e-6  # float32 sums in another order, gradients of size up to about 0.5
P, Q = user_prompt("name a fruit"), user_prompt("write one sentence about the sea")
TEXTS = ("a pear", "apple and plum", "no", "yes one two three four", "maybe")
RANKING = Ranking(P, TEXTS[:4], (2, 1, 3, 3))
Gradients = dict[str, Tensor]


@pytest.fixture(scope="module")
def model(tiny_policy_folder: Path) -> ScalarModel:
    return new_reward(tiny_policy_folder, precision=FLOAT32, train_layers=2, seed=1)


def config(**changes: object) -> RewardConfig:
    return RewardConfig.model_validate(
        {"run": "unused", "data": "unused", "max_tokens": 64, "micro_tokens": 4096} | changes
    )


def examples(model: ScalarModel, prompts: Sequence[JudgedPrompt]) -> Examples:
    renderer = Renderer(model.tokenizer)
    return Examples(list(prompts), [renderer.group(one.prompt, one.texts) for one in prompts], {})


def gradients(model: ScalarModel, prompts: Sequence[JudgedPrompt], settings: RewardConfig | None = None) -> Gradients:
    """Of the mean loss over all judgments of `prompts`, as the recipe computes it."""
    settings = settings or config()
    data = examples(model, prompts)
    cache = TrunkCache(model, data.groups, max_batch_tokens=settings.micro_tokens)
    for parameter in model.trainable().values():
        parameter.grad = None
    loss = likelihood(settings, tie_share=0.3)
    metrics = accumulate_gradient(settings, model, loss, range(len(data.groups)), data, cache)
    found = {name: p.grad.clone() for name, p in model.trainable().items() if p.grad is not None}
    assert found.keys() == model.trainable().keys()
    return found | {"loss": torch.tensor(metrics["loss"])}


def distance(one: Gradients, other: Gradients) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def as_pairs(ranking: Ranking) -> list[Comparison]:
    """The pairs of a ranking as separate rows, ties as soft labels, with the weights of InstructGPT's loss."""
    K = len(ranking.responses)
    return [
        Comparison(
            ranking.prompt,
            ranking.responses[a],
            ranking.responses[b],
            weight=ranking.weight * 2 / (K * (K - 1)),
            label={-1: 1.0, 0: 0.5, 1: 0.0}[
                (ranking.ranks[a] > ranking.ranks[b]) - (ranking.ranks[a] < ranking.ranks[b])
            ],
        )
        for a, b in combinations(range(K), 2)
    ]


def unmerged(rows: Sequence[Ranking | Comparison]) -> list[JudgedPrompt]:
    """Each row as a prompt of its own: every text is encoded anew for every judgment."""
    return [one for row in rows for one in merge_judgments([row])]


def test_a_ranking_in_one_group_is_its_pairs_in_separate_rows(model: ScalarModel) -> None:
    together = gradients(model, merge_judgments([RANKING]))
    apart = gradients(model, unmerged(as_pairs(RANKING)))
    assert distance(together, apart) < TOLERANCE
    assert max(float(g.abs().max()) for g in together.values()) > 1e-2


def test_several_labelers_merged_are_their_rankings_in_separate_rows(model: ScalarModel) -> None:
    rows = [
        RANKING,
        replace(RANKING, ranks=(1, 2, 2, 3), labeler="bob", weight=0.5),
        Ranking(P, TEXTS[2:], (1, 2, 3), labeler="cy"),
        Comparison(P, TEXTS[4], TEXTS[0], margin=0.7, weight=2.0),
        Comparison(Q, TEXTS[0], TEXTS[3]),
    ]
    merged = merge_judgments(rows)
    assert len(merged) == 2
    assert distance(gradients(model, merged), gradients(model, unmerged(rows))) < TOLERANCE


@pytest.mark.parametrize("micro_tokens", [64, 110, 4096])
def test_micro_batches_change_nothing(model: ScalarModel, micro_tokens: int) -> None:
    prompts = merge_judgments(
        [RANKING, Comparison(Q, "one", "two three"), Ranking(user_prompt("hi"), TEXTS, (1, 2, 3, 4, 5))]
    )
    whole = gradients(model, prompts)
    assert distance(whole, gradients(model, prompts, config(micro_tokens=micro_tokens))) < TOLERANCE


def test_k_of_n_votes_are_a_soft_label(model: ScalarModel) -> None:
    votes = [Comparison(P, "a pear", "no")] * 3 + [Comparison(P, "no", "a pear")]
    soft = [Comparison(P, "a pear", "no", label=0.75, weight=4.0)]
    assert distance(gradients(model, merge_judgments(votes)), gradients(model, merge_judgments(soft))) < TOLERANCE


def test_exchanging_the_sides_changes_nothing(model: ScalarModel) -> None:
    row = Comparison(P, "a pear", "no", label=0.8, margin=0.5, weight=2.0)
    assert (
        distance(gradients(model, merge_judgments([row])), gradients(model, merge_judgments([row.swap()]))) < TOLERANCE
    )


def test_a_text_ranked_twice_pulls_on_nothing_but_the_others(model: ScalarModel) -> None:
    row = Ranking(P, ("a pear", "no", "a pear"), (1, 2, 1))
    pairs = [Comparison(P, "a pear", "no")]
    assert distance(gradients(model, merge_judgments([row])), gradients(model, merge_judgments(pairs))) < TOLERANCE


def test_dropped_ties_leave_the_strict_pairs(model: ScalarModel) -> None:
    strict = [pair for pair in as_pairs(RANKING) if pair.label != 0.5]
    dropped = gradients(model, merge_judgments([RANKING]), config(ties="drop"))
    assert distance(dropped, gradients(model, unmerged(strict))) < TOLERANCE
    assert distance(dropped, gradients(model, merge_judgments([RANKING]))) > 1e-3


@pytest.mark.parametrize(
    "changes", [{"loss": "plackett_luce"}, {"ties": "davidson"}, {"ties": "rao_kupper"}, {"label_smoothing": 0.2}]
)
def test_every_likelihood_is_split_into_micro_batches_exactly(model: ScalarModel, changes: dict[str, object]) -> None:
    prompts = merge_judgments([RANKING, Comparison(Q, "one", "two three"), replace(RANKING, ranks=(1, 1, 2, 3))])
    whole = gradients(model, prompts, config(**changes))
    assert distance(whole, gradients(model, prompts, config(micro_tokens=64, **changes))) < TOLERANCE
    assert distance(whole, gradients(model, prompts)) > 1e-3


def test_two_responses_under_plackett_luce_are_bradley_terry(model: ScalarModel) -> None:
    prompts = merge_judgments([Ranking(P, ("a pear", "no"), (1, 2)), Comparison(Q, "one", "two")])
    luce = gradients(model, prompts, config(loss="plackett_luce"))
    assert distance(luce, gradients(model, prompts)) < TOLERANCE


def test_tie_models_refuse_soft_labels_and_margins() -> None:
    soft, margin = Comparison(P, "a", "b", label=0.7), Comparison(P, "a", "b", margin=1.0)
    for row in (soft, margin):
        for changes in ({"loss": "plackett_luce"}, {"ties": "davidson"}, {"ties": "rao_kupper"}):
            with pytest.raises(ConfigError, match="knows no soft labels"):
                check_fits(config(**changes), merge_judgments([row]))
        check_fits(config(), merge_judgments([row]))


def test_learned_tie_parameters_get_a_gradient(model: ScalarModel) -> None:
    prompts = merge_judgments([RANKING])
    for ties in ("davidson", "rao_kupper"):
        settings = config(ties=ties)
        data = examples(model, prompts)
        loss = likelihood(settings, tie_share=0.3)
        accumulate_gradient(settings, model, loss, [0], data, TrunkCache(model, data.groups, max_batch_tokens=4096))
        (parameter,) = loss.parameters.values()
        assert parameter.grad is not None
        assert float(parameter.grad.abs()) > 1e-3


def test_scores_do_not_depend_on_batch_group_or_padding(model: ScalarModel, tmp_path: Path) -> None:
    """R13: alone, in a group, in a batch of groups, and with plain transformers' padding: the same score."""
    renderer = Renderer(model.tokenizer)
    groups = [renderer.group(P, TEXTS), renderer.group(Q, TEXTS[:2])]
    rows = [(group.prompt, response) for group in groups for response in group.responses]
    with torch.no_grad():
        packed = pack(groups)
        together = model.scores(packed, model.states(packed))
        alone = []
        for prompt, response in rows:
            single = pack([packing.TokenGroup(prompt, (response,))])
            alone.append(model.scores(single, model.states(single)))
        save_reward(model.with_head(model.head), tmp_path / "model", pad_id=renderer.pad_id)
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
        longest = max(len(prompt) + len(response) for prompt, response in rows) + 7
        ids = torch.full((len(rows), longest), renderer.pad_id)
        for row, (prompt, response) in enumerate(rows):
            ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        padded = plain(input_ids=ids, attention_mask=(ids != renderer.pad_id).long()).logits.squeeze(-1)
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert torch.allclose(together, padded, atol=1e-5)
    assert float(together.std()) > 1e-2


def test_reading_the_score_at_another_token_is_noticed(
    model: ScalarModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token too early, before the end of turn: the gradient changes, and the save refuses the model."""
    correct = gradients(model, merge_judgments([RANKING]))
    renderer = Renderer(model.tokenizer)

    def too_early(self: ScalarModel, packed: Packed, states: Tensor) -> Tensor:
        return self.branch(states, packed.positions, packed.layout, packed.end - 1).float()

    monkeypatch.setattr(ScalarModel, "end_states", too_early)
    assert distance(correct, gradients(model, merge_judgments([RANKING]))) > 1e-3
    with pytest.raises(Exception, match="other scores"):
        save_reward(model.with_head(model.head), tmp_path / "model", pad_id=renderer.pad_id)
    assert not (tmp_path / "model").exists()


def test_targets_point_into_the_scores_of_the_whole_batch() -> None:
    prompts = [
        JudgedPrompt(P, ("a", "b", "c"), (Judgment((2, 0, 1), (1, 2, 2), None, 3.0),)),
        JudgedPrompt(Q, ("x", "y"), (Judgment((1, 0), (1, 2), "ann", 1.0, label=0.9, margin=0.5),)),
    ]
    pairs = targets(prompts, drop_ties=False).pairs
    found = {tuple(round(float(v), 6) for v in row) for row in zip(*pairs, strict=True)}
    assert found == {(2, 0, 1, 0, 1), (2, 1, 1, 0, 1), (0, 1, 0.5, 0, 1), (4, 3, 0.9, 0.5, 1)}
