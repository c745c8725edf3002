"""Log-probs in chunks, with logits kept or made again, against whole logits in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from plaudit.models import logprobs
from plaudit.models.logprobs import token_log_probs

ROWS, WIDTH, VOCABULARY = 23, 8, 50


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(
    hidden: Tensor, weight: Tensor, targets: Tensor, upstream: Tensor, temperature: float, softcap: float | None
) -> list[Tensor]:
    hidden, weight = hidden.double().requires_grad_(), weight.double().requires_grad_()
    logits = hidden @ weight.t()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    table = (logits / temperature).log_softmax(-1)
    chosen = table[torch.arange(len(targets)), targets]
    entropy = -(table.exp() * table).sum(-1)
    chosen.backward(upstream.double())
    assert hidden.grad is not None
    assert weight.grad is not None
    return [chosen.detach(), entropy.detach(), hidden.grad, weight.grad]


@pytest.mark.parametrize("kept", [0, 5, 14, 23, 100])  # none, part of a chunk, chunks and a part, all, more than all
@pytest.mark.parametrize(("temperature", "softcap"), [(1.0, None), (0.7, None), (1.3, 2.0)])
@pytest.mark.parametrize("trains", [(True, True), (True, False), (False, True), (False, False)])
def test_values_and_gradients(
    kept: int,
    temperature: float,
    softcap: float | None,
    trains: tuple[bool, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ROWS", 9)
    monkeypatch.setattr(logprobs, "KEPT_ROWS", kept)
    hidden, weight, upstream = numbers(ROWS, WIDTH, seed=0), numbers(VOCABULARY, WIDTH, seed=1), numbers(ROWS, seed=2)
    targets = torch.arange(ROWS) * 2
    expected = exact(hidden, weight, targets, upstream, temperature, softcap)
    hidden.requires_grad_(trains[0])
    weight.requires_grad_(trains[1])
    found = token_log_probs(hidden, weight, targets, temperature=temperature, softcap=softcap)
    torch.testing.assert_close(found.log_prob.detach().double(), expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.entropy.double(), expected[1], atol=1e-5, rtol=1e-5)
    if any(trains):
        found.log_prob.backward(upstream)
    for part, gradient, is_trained in zip((hidden, weight), expected[2:], trains, strict=True):
        assert (part.grad is not None) is is_trained
        if part.grad is not None:
            torch.testing.assert_close(part.grad.double(), gradient, atol=1e-5, rtol=1e-4)


def test_in_bfloat16_rows_that_are_kept_and_others_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = numbers(VOCABULARY, WIDTH, seed=1).bfloat16()
    hidden, targets, upstream = numbers(ROWS, WIDTH, seed=0).bfloat16(), torch.arange(ROWS), numbers(ROWS, seed=2)
    gradients = []
    for kept in (0, ROWS):
        monkeypatch.setattr(logprobs, "KEPT_ROWS", kept)
        parts = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        token_log_probs(*parts, targets).log_prob.backward(upstream)
        gradients.append([part.grad for part in parts])
    wanted = exact(hidden, weight, targets, upstream, 1.0, None)[2:]
    for found in gradients:
        for one, other in zip(found, wanted, strict=True):
            assert one is not None
            assert float((one.double() - other).norm() / other.norm()) < 0.01
