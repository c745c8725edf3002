"""The sampling engine: batched, with a key-value cache, through the same modules and attention that train.

Prompts are prefilled once however many answers they get. Finished rows leave the batch and waiting prompts take their
place. Log-probs and, where asked for, the trunk's hidden states are kept: training starts from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from plaudit.core.records import TokenGroup
from plaudit.core.seeding import derive
from plaudit.models.decoding import DecodeCache
from plaudit.models.packed_weights import PackedWeights
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.rollouts.sampling import Sampling, draw

MAX_ROWS = 128
_PREFILL_TOKENS = 4096


@dataclass(frozen=True)
class Rollout:
    """One sampled answer.

    Attributes:
        prompt: token ids of the prompt.
        response: sampled ids, the end of turn included if it came.
        log_probs: (T,) float32, of the model at the sampling temperature, before top-k and top-p.
        stopped: True if the answer ended by itself, False if it hit ``max_new_tokens``.
        prompt_states: (P, H) trunk states of the prompt (one tensor for all its answers), or None if not kept.
        response_states: (T, H) trunk states of the response's own tokens, or None.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    log_probs: Tensor
    stopped: bool
    prompt_states: Tensor | None = None
    response_states: Tensor | None = None


@dataclass
class _Row:
    """An answer being sampled."""

    slot: tuple[int, int]  # prompt, answer
    prompt: tuple[int, ...]
    uniforms: Tensor
    prompt_states: Tensor | None
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    stopped: bool = False


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    sampling: Sampling,
    *,
    end_ids: frozenset[int],
    seeds: Sequence[int],
    keep_states: bool = False,
    max_rows: int = MAX_ROWS,
    on_done: Callable[[int, int, Rollout], None] | None = None,
    on_token: Callable[[int, int], None] | None = None,
) -> list[list[Rollout]]:
    """``sampling.n`` answers to each prompt.

    Args:
        prompts: token ids, each ending where the answer starts.
        end_ids: an answer ends with the first of these.
        seeds: one a prompt. An answer is a function of the weights, its prompt, its seed and its number, whatever else
            is in the batch (but for rounding: products of other shapes may differ in the last bit).
        keep_states: keep the trunk states of prompts and answers.
        max_rows: answers decoded at once.
        on_done: called with (prompt index, answer index, rollout) as answers finish.
        on_token: called with (prompt index, token) as tokens are drawn, for streaming.

    Returns:
        one list of ``n`` rollouts a prompt, in the prompts' order.
    """
    assert len(prompts) == len(seeds), "one seed a prompt"
    done: dict[tuple[int, int], Rollout] = {}
    # longest first: rows of similar length share the cache, and the long ones do not start last
    waiting = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    most = min(max(max_rows, sampling.n), len(prompts) * sampling.n)
    cache = DecodeCache(rows=most, steps=sampling.max_new_tokens, weights=PackedWeights(most))
    rows: list[_Row] = []
    while rows or waiting:
        room = max_rows - len(rows)
        if waiting and (not rows or room >= max(sampling.n, max_rows // 4)):
            admitted = _next_prompts(waiting, prompts, max(1, room // sampling.n))
            new = _prefill(policy, cache, admitted, prompts, seeds, sampling, keep_states=keep_states)
            _emit(new, end_ids, on_token)
            rows = rows + new
        if not keep_states:
            rows = _retire(rows, cache, sampling, done, on_done)  # nothing more is needed of a finished row
        if rows:
            _step(policy, cache, rows, sampling, end_ids, on_token, keep_states=keep_states)
        if keep_states:
            rows = _retire(rows, cache, sampling, done, on_done)  # its last token has now been through the trunk
    return [[done[i, j] for j in range(sampling.n)] for i in range(len(prompts))]


def _next_prompts(waiting: list[int], prompts: Sequence[tuple[int, ...]], most: int) -> list[int]:
    """Take up to ``most`` prompts off the queue, as many as fit one prefill."""
    taken: list[int] = []
    tokens = 0
    while waiting and len(taken) < most and (not taken or tokens + len(prompts[waiting[0]]) <= _PREFILL_TOKENS):
        tokens += len(prompts[waiting[0]])
        taken.append(waiting.pop(0))
    return taken


def _prefill(
    policy: Policy,
    cache: DecodeCache,
    admitted: list[int],
    prompts: Sequence[tuple[int, ...]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    keep_states: bool,
) -> list[_Row]:
    """Run the prompts once, fill the cache for n rows each, and draw every row's first token."""
    packed = pack([TokenGroup(prompts[i], ()) for i in admitted])
    packed.layout.capture()
    states = policy.states(packed)
    ends = torch.tensor([len(prompts[i]) for i in admitted]).cumsum(0) - 1
    hidden = policy.branch(states, packed.positions, packed.layout, ends)
    assert packed.layout.captured is not None
    cache.admit(packed.layout.captured, sampling.n)
    per_prompt = states.split([len(prompts[i]) for i in admitted])
    rows = [
        _Row((i, j), prompts[i], _uniforms(seeds[i], j, sampling), kept.clone() if keep_states and j == 0 else None)
        for i, kept in zip(admitted, per_prompt, strict=True)
        for j in range(sampling.n)
    ]
    for first in range(0, len(rows), sampling.n):
        for row in rows[first + 1 : first + sampling.n]:
            row.prompt_states = rows[first].prompt_states
    logits = policy.logits(hidden, cache.weights).repeat_interleave(sampling.n, 0)
    _append(rows, logits, sampling)
    return rows


def _step(
    policy: Policy,
    cache: DecodeCache,
    rows: list[_Row],
    sampling: Sampling,
    end_ids: frozenset[int],
    on_token: Callable[[int, int], None] | None,
    *,
    keep_states: bool,
) -> None:
    """Feed every row's newest token and draw its next one, unless the row is finished."""
    tokens = torch.tensor([row.tokens[-1] for row in rows])
    states = policy.trunk(tokens, cache.lengths, cache)
    if keep_states:
        for row, state in zip(rows, states, strict=True):
            row.states.append(state)
    going = [i for i, row in enumerate(rows) if not _finished(row, sampling)]
    if going:
        hidden = policy.branch(states, cache.lengths, cache)
        continuing = [rows[i] for i in going]
        _append(
            continuing, policy.logits(hidden if len(going) == len(rows) else hidden[going], cache.weights), sampling
        )
        _emit(continuing, end_ids, on_token)
    cache.advance()


def _append(rows: list[_Row], logits: Tensor, sampling: Sampling) -> None:
    uniforms = torch.stack([row.uniforms[len(row.tokens)] for row in rows])
    drawn = draw(logits, uniforms, sampling)
    for row, token, log_prob in zip(rows, drawn.tokens.tolist(), drawn.log_probs.tolist(), strict=True):
        row.tokens.append(token)
        row.log_probs.append(log_prob)


def _emit(rows: list[_Row], end_ids: frozenset[int], on_token: Callable[[int, int], None] | None) -> None:
    for row in rows:
        row.stopped = row.tokens[-1] in end_ids
        if on_token is not None:
            on_token(row.slot[0], row.tokens[-1])


def _finished(row: _Row, sampling: Sampling) -> bool:
    return row.stopped or len(row.tokens) == sampling.max_new_tokens


def _retire(
    rows: list[_Row],
    cache: DecodeCache,
    sampling: Sampling,
    done: dict[tuple[int, int], Rollout],
    on_done: Callable[[int, int, Rollout], None] | None,
) -> list[_Row]:
    """Finished rows become rollouts and leave batch and cache; with states kept, after their last token was fed."""
    keeps_states = any(row.prompt_states is not None for row in rows)
    ready = [_finished(row, sampling) and (not keeps_states or len(row.states) == len(row.tokens)) for row in rows]
    if not any(ready):
        return rows
    for row, is_ready in zip(rows, ready, strict=True):
        if is_ready:
            done[row.slot] = _rollout(row)
            if on_done is not None:
                on_done(*row.slot, done[row.slot])
    return [rows[i] for i in cache.drop([i for i, is_ready in enumerate(ready) if is_ready])]


def _rollout(row: _Row) -> Rollout:
    states = torch.stack(row.states) if row.prompt_states is not None else None
    log_probs = torch.tensor(row.log_probs, dtype=torch.float32)
    return Rollout(row.prompt, tuple(row.tokens), log_probs, row.stopped, row.prompt_states, states)


def _uniforms(seed: int, number: int, sampling: Sampling) -> Tensor:
    """One number in [0, 1) for each token an answer can have, (max_new_tokens,) float64."""
    generator = np.random.Generator(np.random.Philox(derive(seed, "answer", number)))
    return torch.from_numpy(generator.random(sampling.max_new_tokens))
