"""DPO's loss and gradient on real policies: against plain transformers, and independent of packing and merging."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from plaudit.core.config import load_config
from plaudit.core.errors import DoctorError
from plaudit.core.records import Comparison, Ranking, TokenGroup, user_prompt
from plaudit.datasets.judgments import JudgedPrompt, merge_judgments
from plaudit.models.load import load_policy
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32
from plaudit.training.dpo import check_start
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.dpo_loss import (
    Side,
    accumulate_gradient,
    measure_held_out,
    reference_log_probs,
    strict_pairs,
    summed_log_probs,
)
from plaudit.training.trunk_cache import TrunkCache

TOLERANCE = 5e-6  # float32; gradients of size up to about 1
END = 2
Gradients = dict[str, Tensor]


def config(**changes: object) -> DPOConfig:
    settings = {"policy": "unused", "data": "unused", "run": "unused", "beta": 0.3} | changes
    return load_config(DPOConfig, None, [f"{key}={value}" for key, value in settings.items()])


def moved(folder: Path, train_layers: int | str = 2) -> Policy:
    """A policy a little away from where it started, so that gradients of all kinds differ from 0."""
    policy = load_policy(folder, precision=FLOAT32, train_layers=train_layers)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy


def judged() -> list[JudgedPrompt]:
    """Three prompts: one comparison; a ranking of four with a tie; two labelers' comparisons that share a text."""
    one, two, three = (user_prompt(text) for text in ("one", "two", "three"))
    return merge_judgments(
        [
            Comparison(one, "a", "b"),
            Ranking(two, ("c", "d", "e", "f"), (2, 1, 2, 3), weight=2.0),
            Comparison(three, "g", "h", label=0.8),
            Comparison(three, "i", "g", weight=0.5),
        ]
    )


def tokens(prompts: list[JudgedPrompt]) -> list[TokenGroup]:
    generator = torch.Generator().manual_seed(1)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (), generator=generator))
        return tuple(torch.randint(3, 250, (length,), generator=generator).tolist())

    return [TokenGroup(ids(3, 12), tuple((*ids(1, 9), END) for _ in one.texts)) for one in prompts]


def side(policy: Policy, reference: Policy, *, memory: int = 10**9) -> Side:
    prompts = judged()
    cache = TrunkCache(policy, tokens(prompts), max_batch_tokens=30)
    cache.fill(memory)
    return Side(prompts, cache, reference_log_probs(reference, cache))


def gradients(policy: Policy, given: Side, settings: DPOConfig) -> tuple[dict[str, float], Gradients]:
    figures = accumulate_gradient(policy, given, [2, 0, 1], settings)
    found: Gradients = {}
    for name, parameter in policy.trainable().items():
        assert parameter.grad is not None, name
        found[name], parameter.grad = parameter.grad, None
    return figures, found


def plain_log_prob(model: AutoModelForCausalLM, prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
    ids = torch.tensor([[*prompt, *response]])
    logp = model(input_ids=ids).logits[0].log_softmax(-1)  # type: ignore[operator]
    return logp[torch.arange(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]].sum()


def test_loss_and_gradient_are_those_of_the_paper_on_plain_transformers(tiny_policy_folder: Path) -> None:
    policy = moved(tiny_policy_folder, "all")
    reference = load_policy(tiny_policy_folder, precision=FLOAT32)
    given = side(policy, reference)
    figures, found = gradients(policy, given, config())

    model = AutoModelForCausalLM.from_pretrained(tiny_policy_folder, dtype=torch.float32, attn_implementation="eager")
    frozen = AutoModelForCausalLM.from_pretrained(tiny_policy_folder, dtype=torch.float32, attn_implementation="eager")
    names = {name: f"model.{name.removeprefix('model.')}" for name in policy.trainable()}
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in policy.trainable().items():
            own[names[name]].copy_(parameter)
    # (prompt, better, worse, label, weight), written out by hand from `judged`
    pairs = [(0, 0, 1, 1.0, 1.0), (2, 0, 1, 0.8, 1.0), (2, 2, 0, 1.0, 0.5)]
    pairs += [(1, better, worse, 1.0, 2.0 / 6) for better, worse in ((1, 0), (1, 2), (1, 3), (0, 3), (2, 3))]
    total: Tensor = torch.zeros(())
    for prompt, better, worse, label, weight in pairs:
        group = given.states.groups[prompt]
        ratios = []
        for text in (better, worse):
            with torch.no_grad():
                base = plain_log_prob(frozen, group.prompt, group.responses[text])
            ratios.append(plain_log_prob(model, group.prompt, group.responses[text]) - base)
        h = 0.3 * (ratios[0] - ratios[1])
        total = total - weight * (label * F.logsigmoid(h) + (1 - label) * F.logsigmoid(-h))
    loss = total / sum(pair[4] for pair in pairs)
    loss.backward()
    assert figures["loss"] == pytest.approx(loss.item(), abs=1e-5)
    for name, gradient in found.items():
        expected = own[names[name]].grad
        assert expected is not None
        assert float((gradient - expected).abs().max()) < TOLERANCE, name


@pytest.mark.parametrize("loss", ["sigmoid", "robust", "ipo", "ipo_sum"])
def test_micro_batches_and_a_full_memory_change_nothing(tiny_policy_folder: Path, loss: str) -> None:
    settings = config(loss=loss, label_smoothing=0.1, sft=0.5)
    reference = load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2)
    policy = moved(tiny_policy_folder)
    whole, expected = gradients(policy, side(policy, reference), settings)
    for micro_tokens, memory in ((1, 10**9), (40, 0), (40, 4000)):
        settings = config(loss=loss, label_smoothing=0.1, sft=0.5, micro_tokens=micro_tokens)
        figures, found = gradients(policy, side(policy, reference, memory=memory), settings)
        assert figures == pytest.approx(whole, abs=2e-5)
        scale = max(float(g.abs().max()) for g in expected.values())
        assert all(float((found[n] - expected[n]).abs().max()) < TOLERANCE * max(1.0, scale) for n in expected)


def test_a_step_along_the_gradient_raises_the_better_answers(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2)
    given = side(policy, policy)
    before = measure_held_out(policy, given, config())
    assert (before.accuracy.value, before.margin.value) == (0.0, 0.0)  # D10: strictly better, and all are equal
    _, found = gradients(policy, given, config())
    with torch.no_grad():
        for name, parameter in policy.trainable().items():
            parameter -= 0.05 * found[name]
    after = measure_held_out(policy, given, config())
    assert after.margin.value > 0.01
    assert after.accuracy.value > 0.9


def test_implicit_rewards_are_exactly_zero_at_the_start_and_anything_else_is_an_error(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2)
    check_start(policy, side(policy, policy))
    with pytest.raises(DoctorError, match=r"Policy and reference differ by .* nats before the first step"):
        check_start(moved(tiny_policy_folder), side(policy, policy))


def test_summed_log_probs_count_every_response_token_once(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32)
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_folder, dtype=torch.float32)
    groups = tokens(judged())
    packed = pack(groups)
    with torch.no_grad():
        found = summed_log_probs(policy, packed, policy.states(packed))
        expected = torch.stack([plain_log_prob(model, g.prompt, r) for g in groups for r in g.responses])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_pairs_of_a_ranking_share_its_weight_and_ties_are_left_out() -> None:
    pairs = strict_pairs(judged()[1:2])
    assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [
        (0, 3),
        (1, 0),
        (1, 2),
        (1, 3),
        (2, 3),
    ]
    assert pairs.weight.tolist() == pytest.approx([2.0 / 6] * 5)
    assert strict_pairs([]).label.shape == (0,)
