"""The gradient of SFT: equal to plain transformers' on padded rows, whatever the packing, and to nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from plaudit.core.errors import DoctorError
from plaudit.core.records import TokenGroup
from plaudit.models import packing
from plaudit.models.load import load_policy
from plaudit.models.packing import Packed
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32
from plaudit.training import loop
from plaudit.training.sft import accumulate_gradient, held_out_loss
from plaudit.training.sft_data import merge_prompts
from plaudit.training.start import check_supervised

TOLERANCE = 2e-6  # float32 sums in another order, gradients of size up to about 0.3
END = 2
Gradients = dict[str, Tensor]


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder, precision=FLOAT32)


def examples(seed: int = 0) -> list[TokenGroup]:
    """Nine demonstrations of six prompts, 1 to 12 response tokens with the end of turn."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 250, (length,), generator=generator).tolist())

    prompts = [ids(length) for length in (3, 9, 5, 14, 7, 4)]
    lengths = [(0, 5), (1, 2), (2, 11), (3, 7), (4, 0), (5, 3), (0, 8), (3, 1), (0, 4)]
    return [TokenGroup(prompts[p], ((*ids(length), END),)) for p, length in lengths]


def ours(policy: Policy, groups: Sequence[TokenGroup], micro_tokens: int) -> tuple[float, Gradients]:
    loss, _ = accumulate_gradient(policy, groups, micro_tokens=micro_tokens)
    gradients = {}
    for name, parameter in policy.trainable().items():
        assert parameter.grad is not None, name
        gradients[name] = parameter.grad
        parameter.grad = None
    return loss, gradients


@pytest.fixture(scope="module")
def plain(tiny_policy_folder: Path, policy: Policy) -> tuple[float, Gradients]:
    """Loss and gradient by plain transformers: padded rows, attention mask, labels shifted inside the model."""
    rows = [(group.prompt, group.responses[0]) for group in examples()]
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(rows):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.tensor([*prompt, *response])
        labels[row, len(prompt) : length] = torch.tensor(response)
        mask[row, :length] = 1
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_folder, dtype=torch.float32, attn_implementation="eager")
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    found = {name.removeprefix("model."): p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), {name: found[name.removeprefix("model.")] for name in policy.trainable()}


def distance(left: Gradients, right: Gradients) -> float:
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.mark.parametrize("micro_tokens", [1, 20, 40, 10_000])
@pytest.mark.parametrize("merged", [False, True])
def test_gradient_is_that_of_padded_rows_in_plain_transformers(
    policy: Policy, plain: tuple[float, Gradients], micro_tokens: int, merged: bool
) -> None:
    groups = merge_prompts(examples(), max_tokens=10_000) if merged else examples()
    loss, gradients = ours(policy, groups, micro_tokens)
    assert loss == pytest.approx(plain[0], abs=1e-5)
    assert distance(gradients, plain[1]) < TOLERANCE


def test_the_order_of_the_examples_changes_nothing(policy: Policy) -> None:
    _, forwards = ours(policy, examples(), 10_000)
    _, backwards = ours(policy, examples()[::-1], 10_000)
    assert distance(forwards, backwards) < TOLERANCE


def _shifted(packed: Packed) -> Packed:
    return replace(packed, predict=packed.response)  # the state after the token "predicts" it


def _no_end_of_turn(packed: Packed) -> Packed:
    kept = torch.ones(len(packed.response), dtype=torch.bool)
    kept[packed.lengths.cumsum(0) - 1] = False
    return replace(packed, response=packed.response[kept], predict=packed.predict[kept], sequence=packed.sequence[kept])


def _no_prompt_mask(packed: Packed) -> Packed:
    everything = torch.arange(1, len(packed.tokens))
    return replace(packed, response=everything, predict=everything - 1, sequence=torch.zeros_like(everything))


@pytest.mark.parametrize("fault", [_shifted, _no_end_of_turn, _no_prompt_mask])
def test_the_comparison_sees_a_wrong_mask_or_shift(
    policy: Policy,
    plain: tuple[float, Gradients],
    fault: Callable[[Packed], Packed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "pack", lambda groups: fault(packing.pack(groups)))
    _, gradients = ours(policy, examples(), 10_000)
    assert distance(gradients, plain[1]) > 100 * TOLERANCE


def test_a_mean_of_micro_batch_means_would_be_seen(policy: Policy, plain: tuple[float, Gradients]) -> None:
    """S2: [3] and [1, 1, 1] have the token mean 1.5, the mean of means 2."""
    rows = [ours(policy, [group], 10_000)[1] for group in examples()]
    mean_of_means = {name: torch.stack([row[name] for row in rows]).mean(0) for name in rows[0]}
    assert distance(mean_of_means, plain[1]) > 100 * TOLERANCE


def test_logits_of_prompt_positions_get_no_gradient_and_the_end_of_turn_does(policy: Policy) -> None:
    """S3."""
    group = TokenGroup((7, 8, 9), ((20, 21, END),))
    packed = packing.pack([group])
    hidden = torch.randn(6, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = policy.logits(hidden)
    logits.retain_grad()
    (-logits.log_softmax(-1)[packed.predict, packed.targets].sum()).backward()
    assert logits.grad is not None
    reached = logits.grad.abs().sum(1) > 0
    assert reached.tolist() == [False, False, True, True, True, False]
    assert logits.grad[4, END] < 0


def test_held_out_loss_is_the_training_loss(policy: Policy) -> None:
    groups = examples()
    loss, _ = ours(policy, groups, 40)
    measured = held_out_loss(policy, merge_prompts(groups, max_tokens=60), micro_tokens=40)
    assert measured.estimate.value == pytest.approx(loss, rel=1e-6)
    assert measured.estimate.prompts == 6
    assert sum(measured.tokens) == sum(len(group.responses[0]) for group in groups)


def test_merging_keeps_every_response_and_the_limit() -> None:
    merged = merge_prompts(examples(), max_tokens=18)
    assert sorted(r for g in merged for r in g.responses) == sorted(g.responses[0] for g in examples())
    assert max(packing.packed_length(group) for group in merged if len(group.responses) > 1) <= 18
    assert len(merge_prompts(examples(), max_tokens=10_000)) == 6


def test_an_unsupervised_end_of_turn_stops_the_run() -> None:
    check_supervised(examples(), {END})
    with pytest.raises(DoctorError, match="Example 0 ends with token 5, which is no end of turn"):
        check_supervised([TokenGroup((1, 2), ((4, 5),))], {END})
    with pytest.raises(DoctorError, match="Example 1 has no supervised token"):
        check_supervised([*examples()[:1], TokenGroup((1, 2), ((),))], {END})
