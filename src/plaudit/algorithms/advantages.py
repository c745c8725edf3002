"""From scores to advantages: the shaped reward of every token, and generalised advantage estimation.

Everything here is data for the losses: call it without gradient, on the log-probs and values of the sampling policy.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms.masked import zero_outside


class Advantages(NamedTuple):
    advantages: Tensor
    """(B, T), not whitened, 0 outside the mask."""
    returns: Tensor
    """(B, T), advantages + values: the critic's target, so taken before any whitening."""


def replace_unfinished(scores: Tensor, stopped: Tensor, *, value: float) -> Tensor:
    """`value` in place of the score of a response without an end of turn. Shapes: (B,), (B,) bool -> (B,).

    The rule of Ziegler et al. 2019 with value -1. An unfinished response that scores below `value` is *raised* by it.
    """
    return torch.where(stopped, scores, torch.full_like(scores, value))


def penalise_unfinished(scores: Tensor, stopped: Tensor, *, penalty: float) -> Tensor:
    """The score minus `penalty` for a response without an end of turn. Shapes: (B,), (B,) bool -> (B,)."""
    return torch.where(stopped, scores, scores - penalty)


def leave_one_out(scores: Tensor, prompts: Tensor) -> Tensor:
    """Each score minus the mean score of the other answers to its prompt. Shapes: (B,), (B,) integers -> (B,).

        r_i - mean of r_j over j != i with the same prompt

    A reward model trained on comparisons knows its scores up to a constant for every prompt, and these constants spread
    as wide as the answers to one prompt do: noise for the policy until the value branch has learnt them. The other
    answers are independent of this one, so the expected gradient does not change. An answer alone with its prompt has
    nothing to be compared with and gets 0. Kool et al. 2019; RLOO (arXiv 2402.14740).
    """
    slots = int(prompts.max()) + 1
    totals = scores.new_zeros(slots).index_add(0, prompts, scores)[prompts]
    others = torch.bincount(prompts, minlength=slots)[prompts] - 1
    return torch.where(others > 0, scores - (totals - scores) / others.clamp(min=1), torch.zeros_like(scores))


def shaped_rewards(token_kl: Tensor, scores: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    """R_t = -beta * KL_t on every response token, plus the score on the last. Shapes: (B, T), (B,), (B, T) -> (B, T).

    `token_kl` is an estimate from `kl`, taken with the sampling policy's log-probs. The last response token is the end
    of turn, or the last token sampled. Ziegler et al. 2019, equation 2; InstructGPT (arXiv 2203.02155), equation 2.

    Raises:
        ValueError: a sequence has no response token, so its score has nowhere to go.
    """
    last = _last_true(mask)
    rewards = zero_outside(-beta * token_kl, mask)
    return rewards.scatter_add(1, last.unsqueeze(1), scores.to(rewards.dtype).unsqueeze(1))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95) -> Advantages:
    """Generalised advantage estimation over ragged responses. Shapes: (B, T) three times -> (B, T) twice.

        delta_t = R_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lam A_{t+1},   return_t = A_t + V_t

    V and A are 0 after the last response token, so a response of any length is a finished episode. The True positions
    of a row must be contiguous (padding on either side). Schulman et al. 2016 (arXiv 1506.02438), equations 11 to 16.
    """
    rewards, values = zero_outside(rewards, mask), zero_outside(values, mask)
    advantages = torch.zeros_like(values)
    following_value = torch.zeros_like(values[:, 0])
    following_advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following_advantage = zero_outside(delta + gamma * lam * following_advantage, mask[:, t])
        following_value = values[:, t]
        advantages[:, t] = following_advantage
    return Advantages(advantages, advantages + values)


def _last_true(mask: Tensor) -> Tensor:
    """(B, T) bool -> (B,) position of the last True of each row."""
    empty = ~mask.any(dim=1)
    if bool(empty.any()):
        row = int(empty.int().argmax())
        raise ValueError(f"sequence {row} has no response token; drop empty responses before computing rewards")
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, positions, -1).amax(dim=1)
