"""What `draw` says a token's log-probability is, is the log-softmax at that token."""

from __future__ import annotations

import pytest
import torch

from plaudit.rollouts.sampling import Sampling, draw

ROWS = 64
UNIFORMS = torch.cat(
    [
        torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64),
        torch.rand(ROWS - 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    ]
)
WAYS = [
    Sampling(),
    Sampling(temperature=0.3),
    Sampling(temperature=5.0),
    Sampling(temperature=0),
    Sampling(top_k=3),
    Sampling(top_p=0.7, temperature=0.8),
]


@pytest.mark.parametrize("sampling", WAYS, ids=str)
@pytest.mark.parametrize("spread", [0.0, 1.0, 40.0, 1e4])
@pytest.mark.parametrize("width", [1, 5, 128, 1000])
def test_log_probs_are_the_log_softmax_at_the_token(sampling: Sampling, spread: float, width: int) -> None:
    logits = spread * torch.randn(ROWS, width, generator=torch.Generator().manual_seed(width)) + 100
    drawn = draw(logits.clone(), UNIFORMS, sampling)
    every = (logits.double() / (sampling.temperature or 1.0)).log_softmax(-1)
    expected = every.gather(1, drawn.tokens[:, None]).squeeze(1)
    assert drawn.log_probs.dtype == torch.float32
    # below e^-87 a probability has fewer digits in float32; only the ends of [0, 1) fall onto such tokens
    tiny = expected < -87
    assert not bool(tiny[2:].any())
    assert bool((drawn.log_probs[tiny] < -86).all())
    torch.testing.assert_close(drawn.log_probs[~tiny].double(), expected[~tiny], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("sampling", WAYS, ids=str)
def test_excluded_tokens_are_never_drawn_and_do_not_count(sampling: Sampling) -> None:
    logits = torch.randn(ROWS, 300, generator=torch.Generator().manual_seed(5))
    allowed = torch.tensor([0, 127, 128, 255, 299])
    some = torch.full_like(logits, -torch.inf).index_copy(1, allowed, logits[:, allowed])
    drawn = draw(some.clone(), UNIFORMS, sampling)
    assert set(drawn.tokens.tolist()) <= set(allowed.tolist())
    expected = (some / (sampling.temperature or 1.0)).log_softmax(-1).gather(1, drawn.tokens[:, None]).squeeze(1)
    torch.testing.assert_close(drawn.log_probs, expected, atol=1e-5, rtol=1e-5)


def test_a_token_holds_the_share_of_the_numbers_that_is_its_probability() -> None:
    """A grid of uniform numbers: each token comes as often as its probability says, within one number at each end."""
    logits = torch.randn(200, generator=torch.Generator().manual_seed(6)) * 2
    n = 20_000
    drawn = draw(logits.repeat(n, 1), (torch.arange(n, dtype=torch.float64) + 0.5) / n, Sampling())
    assert bool((drawn.tokens.diff() >= 0).all()), "tokens in the order of their ids, as the inverse of one sum"
    seen = torch.bincount(drawn.tokens, minlength=200)
    assert float((seen - n * logits.double().softmax(-1)).abs().max()) <= 1.01


def test_the_end_of_a_block_does_not_fall_onto_its_unlikely_last_token() -> None:
    """Blocks of 128 are summed in float32: a number just below a block's end stays with the likely tokens."""
    logits = torch.randn(ROWS, 256, generator=torch.Generator().manual_seed(8))
    logits[:, 127] = logits[:, 255] = -25.0  # a share of about 1e-13
    share = logits.double().softmax(-1)[:, :128].sum(-1)
    for end in (share, torch.ones(ROWS, dtype=torch.float64)):
        drawn = draw(logits.clone(), (end * (1 - 1e-10)).clamp(max=1 - 2**-53), Sampling())
        assert not bool(torch.isin(drawn.tokens, torch.tensor([127, 255])).any())
