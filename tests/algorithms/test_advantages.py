"""Shaped rewards, missing ends of turn, GAE: P4, P5."""

import pytest
import torch
from oracle_checks import check_gae, check_score_position, close, f64

from plaudit.algorithms import advantages


def test_p4_gae() -> None:
    check_gae(advantages.gae)


def test_p4_discount_applies_to_the_value_and_to_the_trace() -> None:
    """gamma .9, lambda .5: by hand from the last token back."""
    reward, value = f64([[1.0, 2.0, 3.0]]), f64([[0.5, 0.4, 0.6]])
    found = advantages.gae(reward, value, torch.ones(1, 3).bool(), gamma=0.9, lam=0.5)
    last = 3.0 - 0.6
    middle = 2.0 + 0.9 * 0.6 - 0.4 + 0.45 * last
    first = 1.0 + 0.9 * 0.4 - 0.5 + 0.45 * middle
    close(found.advantages, [[first, middle, last]], atol=1e-12)


def test_p5_score_at_the_end_of_turn() -> None:
    check_score_position(advantages.shaped_rewards)


def test_p5_score_one_token_later_differs_below_lambda_1() -> None:
    """The published variant with the score after the end of turn: same advantages at lambda 1, others at .95."""
    token_kl, score = f64([[0.01, 0.02, 0.0, 0.0]]), f64([1.0])
    values = f64([[0.3, 0.2, 0.5, 0.7]])
    at_end, later = torch.tensor([[True, True, True, False]]), torch.ones(1, 4).bool()

    def found(mask: torch.Tensor, lam: float) -> torch.Tensor:
        shaped = advantages.shaped_rewards(token_kl, score, mask, beta=1.0)
        return advantages.gae(shaped, values, mask, lam=lam).advantages[:, :3]

    close(found(at_end, 1.0), found(later, 1.0), atol=1e-12)
    close(found(at_end, 0.95), [[0.60725, 0.755, 0.5]])
    close(found(later, 0.95), [[0.59371, 0.74075, 0.485]])


def test_kl_lowers_the_reward_and_the_score_is_added_once() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    shaped = advantages.shaped_rewards(f64([[2.0, 1.0], [3.0, float("nan")]]), f64([10.0, -1.0]), mask, beta=0.1)
    close(shaped, [[-0.2, 9.9], [-1.3, 0.0]], atol=1e-12)


def test_an_empty_response_is_an_error() -> None:
    mask = torch.tensor([[True], [False]])
    with pytest.raises(ValueError, match="sequence 1 has no response token"):
        advantages.shaped_rewards(f64([[0.0], [0.0]]), f64([1.0, 1.0]), mask, beta=0.1)


def test_missing_end_of_turn_replaced_or_penalised() -> None:
    scores, stopped = f64([2.0, 2.0, -3.0]), torch.tensor([True, False, False])
    close(advantages.replace_unfinished(scores, stopped, value=-1.0), [2.0, -1.0, -1.0])
    close(advantages.penalise_unfinished(scores, stopped, penalty=1.0), [2.0, 1.0, -4.0])


def test_leave_one_out_compares_each_answer_with_the_others_to_its_prompt():
    scores = torch.tensor([1.0, 7.0, 0.0, 0.0, 0.0, 5.0])
    prompts = torch.tensor([0, 1, 0, 0, 0, 2])
    found = advantages.leave_one_out(scores, prompts)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, -1 / 3, -1 / 3, -1 / 3, 0.0]))


def test_a_constant_for_every_prompt_changes_nothing_left_over_by_leave_one_out():
    generator = torch.Generator().manual_seed(0)
    scores, offsets = torch.randn(12, generator=generator), 10 * torch.randn(3, generator=generator)
    prompts = torch.tensor([0, 1, 2]).repeat(4)
    torch.testing.assert_close(
        advantages.leave_one_out(scores + offsets[prompts], prompts),
        advantages.leave_one_out(scores, prompts),
        atol=1e-5,
        rtol=0,
    )
