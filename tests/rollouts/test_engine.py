"""The engine samples from the model's own distribution, whatever the batch, and keeps what training needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from plaudit.core.records import TokenGroup
from plaudit.models.load import load_policy
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32
from plaudit.rollouts.engine import Rollout, sample
from plaudit.rollouts.sampling import Sampling, draw
from tiny import CONFIGS, make_folder

PROMPTS = [(5, 9, 17, 33), (7, 11), tuple(range(40, 62)), (90, 91, 92)]
SEEDS = [1, 2, 3, 4]
END = frozenset({2})


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("family") / request.param, request.param)


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2)


def run(policy: Policy, sampling: Sampling, **more: object) -> list[list[Rollout]]:
    return sample(policy, PROMPTS, sampling, end_ids=END, seeds=SEEDS, **more)  # type: ignore[arg-type]


def test_greedy_equals_transformers_generate(folder: Path) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=1)
    ours = run(policy, Sampling(temperature=0, max_new_tokens=12))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for prompt, (rollout,) in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert rollout.response == tuple(out[0, len(prompt) :].tolist())


def test_log_probs_equal_the_training_path(folder: Path) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    answers = run(policy, Sampling(temperature=0.8, max_new_tokens=16, n=3))
    groups = [TokenGroup(p, tuple(r.response for r in group)) for p, group in zip(PROMPTS, answers, strict=True)]
    packed = pack(groups)
    with torch.no_grad():
        trainer = policy.log_probs(packed, policy.states(packed), temperature=0.8).log_prob
    sampler = torch.cat([r.log_probs for group in answers for r in group])
    torch.testing.assert_close(sampler, trainer, atol=2e-5, rtol=0)


def test_kept_states_are_the_trunks(folder: Path) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    answers = run(policy, Sampling(max_new_tokens=10, n=2), keep_states=True)
    for prompt, group in zip(PROMPTS, answers, strict=True):
        packed = pack([TokenGroup(prompt, tuple(r.response for r in group))])
        kept = torch.cat([group[0].prompt_states, *(r.response_states for r in group)])
        assert group[0].prompt_states is group[1].prompt_states
        torch.testing.assert_close(kept, policy.states(packed), atol=2e-5, rtol=1e-5)


def test_states_of_an_uncut_model_are_its_tokens(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32, train_layers="all")
    for prompt, (rollout,) in zip(PROMPTS, run(policy, Sampling(max_new_tokens=6), keep_states=True), strict=True):
        assert rollout.prompt_states is not None
        assert rollout.response_states is not None
        assert tuple(rollout.prompt_states.tolist()) == prompt
        assert tuple(rollout.response_states.tolist()) == rollout.response


@pytest.mark.parametrize("max_rows", [1, 2, 5, 64])
@pytest.mark.parametrize("keep_states", [False, True])
def test_an_answer_does_not_depend_on_its_batch(policy: Policy, max_rows: int, keep_states: bool) -> None:
    sampling = Sampling(max_new_tokens=20, n=3)
    together = run(policy, sampling)
    for i, prompt in enumerate(PROMPTS):
        alone = sample(
            policy, [prompt], sampling, end_ids=END, seeds=[SEEDS[i]], max_rows=max_rows, keep_states=keep_states
        )
        assert [r.response for r in alone[0]] == [r.response for r in together[i]]
    small = run(policy, sampling, max_rows=max_rows, keep_states=keep_states)
    assert [[r.response for r in group] for group in small] == [[r.response for r in group] for group in together]


def test_seeds_and_numbers_give_different_answers(policy: Policy) -> None:
    answers = run(policy, Sampling(max_new_tokens=20, n=4))
    assert len({r.response for r in answers[0]}) == 4
    again = sample(policy, PROMPTS, Sampling(max_new_tokens=20, n=4), end_ids=END, seeds=[9, 2, 3, 4])
    assert [r.response for r in again[0]] != [r.response for r in answers[0]]
    assert [r.response for r in again[1]] == [r.response for r in answers[1]]


def test_answers_stop_at_the_end_of_turn(policy: Policy) -> None:
    likely_ends = frozenset(range(2, 200))
    answers = sample(policy, PROMPTS, Sampling(max_new_tokens=30, n=4), end_ids=likely_ends, seeds=SEEDS)
    flat = [r for group in answers for r in group]
    assert any(r.stopped for r in flat)
    for rollout in flat:
        assert not likely_ends & set(rollout.response[:-1]), "nothing may follow the end of turn"
        assert rollout.stopped == (rollout.response[-1] in likely_ends)
        assert rollout.stopped or len(rollout.response) == 30
        assert len(rollout.log_probs) == len(rollout.response)


def test_sampled_frequencies_are_the_models(policy: Policy) -> None:
    """First tokens of 4,000 answers against the exact distribution, by a chi-square over the ten likeliest."""
    from scipy.stats import chisquare

    n = 4000
    answers = sample(
        policy, [PROMPTS[0]], Sampling(max_new_tokens=1, n=n), end_ids=END, seeds=[7], max_rows=n, keep_states=False
    )
    packed = pack([TokenGroup(PROMPTS[0], ())])
    with torch.no_grad():
        hidden = policy.branch(policy.states(packed), packed.positions, packed.layout)
        probs = policy.logits(hidden[-1:]).softmax(-1)[0]
    drawn = torch.tensor([r.response[0] for r in answers[0]])
    top = probs.topk(10).indices
    seen = torch.bincount(drawn, minlength=len(probs))[top].double()
    expected = probs[top].double() * n
    rest_seen, rest_expected = n - seen.sum(), n - expected.sum()
    p = chisquare(
        [*seen.tolist(), rest_seen.item()], [*expected.tolist(), rest_expected.item()], sum_check=False
    ).pvalue
    assert p > 1e-3


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(top_k=2), {1, 3}),
        (Sampling(top_p=0.6), {1, 3}),
        (Sampling(top_p=0.3), {1}),
        (Sampling(top_k=1), {1}),
        (Sampling(temperature=0), {1}),
    ],
)
def test_filters_keep_the_likeliest(sampling: Sampling, allowed: set[int]) -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    uniforms = torch.linspace(0, 1 - 1e-9, 200, dtype=torch.float64)
    drawn = draw(logits.repeat(200, 1), uniforms, sampling)
    assert set(drawn.tokens.tolist()) == allowed


def test_no_token_of_zero_probability_is_ever_drawn() -> None:
    logits = torch.full((3, 300), -torch.inf)
    logits[:, [130, 131]] = 0.0
    drawn = draw(logits, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64), Sampling())
    assert drawn.tokens.tolist() == [130, 131, 131]
    torch.testing.assert_close(drawn.log_probs, torch.full((3,), -0.693147))
