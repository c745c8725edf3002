"""What PPO writes down: metrics of an iteration and of a verdict, samples, and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from plaudit.algorithms import kl
from plaudit.algorithms.diagnostics import distinct
from plaudit.algorithms.masked import masked_mean, sequence_sum
from plaudit.algorithms.ppo import explained_variance
from plaudit.datasets.render import Renderer
from plaudit.training.doctor import Agreement, all_findings
from plaudit.training.judging import PerPrompt, Verdict, estimate, paired
from plaudit.training.ppo_experience import Experience, Scored, Targets
from plaudit.training.ppo_setup import Cast, Task
from plaudit.training.ppo_state import State
from plaudit.training.ppo_update import Update

Figures = dict[str, Any]


def iteration_figures(
    scored: Scored, experience: Experience, targets: Targets, moved: Update, agreement: Agreement
) -> Figures:
    """Metrics of one iteration. `kl` and `kl_k3` are sequence KL in nats, mean over answers; `entropy` is per token."""
    e, mask = experience, experience.mask
    responses = [rollout.response for one in scored.answered for rollout in one.rollouts]
    spreads = [grade.spread for row in scored.grades for grade in row if grade.spread is not None]
    return {
        "reward": float(e.scores.mean()),
        "reward_std": float(e.scores.std(correction=0)),
        "reward_after_rules": float(targets.scores.mean()),
        "ensemble_spread": sum(spreads) / len(spreads) if spreads else None,
        "unscored": scored.unscored,
        "kl": float(kl.sequence_kl(e.log_probs, e.ref_log_probs, mask).mean()),
        "kl_k3": float(kl.sequence_kl(e.log_probs, e.ref_log_probs, mask, estimator=kl.k3).mean()),
        "entropy": float(masked_mean(e.entropy, mask)),
        "response_length": sum(map(len, responses)) / len(responses),
        "clipped_length": float((~e.stopped).float().mean()),
        "distinct_1": distinct(responses, n=1),
        "distinct_2": distinct(responses, n=2) if any(len(ids) > 1 for ids in responses) else None,
        "policy_loss": moved.policy_loss,
        "value_loss": moved.value_loss,
        "approx_kl": moved.approx_kl,
        "clip_fraction": moved.clip_fraction,
        "value_clip_fraction": moved.value_clip_fraction,
        "ratio_mean": moved.ratio_mean,
        "ratio_max": moved.ratio_max,
        "ptx_loss": moved.ptx_loss,
        "explained_variance": float(explained_variance(e.values, targets.returns, mask)),
        "policy_gradient_norm": moved.policy_norm,
        "value_gradient_norm": moved.value_norm,
        "passes": moved.passes,
        "sampler_difference": agreement.mean,
        "sampler_difference_max": agreement.largest,
    }


def held_out_figures(verdict: Verdict) -> Figures:
    """Metrics of a verdict: judge and training reward on the same held-out answers, and the KL on them."""
    figures: Figures = {
        "held_out_kl": verdict.kl,
        "held_out_kl_k3": verdict.kl_k3,
        "held_out_response_length": verdict.response_length,
        "held_out_clipped_length": verdict.clipped_length,
        "held_out_unscored": verdict.unscored,
    }
    for name, values in (("held_out_reward", verdict.reward), ("judge", verdict.judge)):
        if (found := estimate(values)) is not None:
            figures |= found.named(name)
    return figures


def sample_records(scored: Scored, experience: Experience, targets: Targets, renderer: Renderer) -> Iterator[Figures]:
    """The answers of an iteration with the parts of their reward, for samples.jsonl."""
    sequence_kl = kl.sequence_kl(experience.log_probs, experience.ref_log_probs, experience.mask).tolist()
    total = sequence_sum(targets.rewards, experience.mask).tolist()
    for row, (i, j) in enumerate(experience.places):
        one, grade = scored.answered[i], scored.grades[i][j]
        yield {
            "kind": "train",
            "prompt": [{"role": m.role, "content": m.content} for m in one.prompt],
            "response": renderer.decode(one.rollouts[j].response),
            "reward": grade.score,
            "spread": grade.spread,
            "reward_after_rules": float(targets.scores[row]),
            "kl": sequence_kl[row],
            "return": total[row],
            "stopped": one.rollouts[j].stopped,
        }


def summarise(cast: Cast, task: Task, state: State, history: Sequence[Figures]) -> Figures:
    """summary.json: what the judge says of the start and of the chosen checkpoint; one prompt is one observation."""
    start, best, last = state.start, state.best, state.last
    assert start is not None
    assert best is not None
    assert last is not None
    summary: Figures = {
        "stage": "ppo",
        "steps": state.step,
        "best_step": state.best_step,
        "chosen_by": f"judge {cast.judge.name}" if cast.judge else "nobody: the weights after the last iteration",
        "reward": {
            "name": cast.reward.name,
            "start": _interval(start.reward),
            "best": _interval(best.reward),
            "difference": _interval(paired(best.reward, start.reward)),
            "last": _interval(last.reward),
        },
        "held_out_prompts": len(start.reward),
        "kl": best.kl,
        "kl_last": last.kl,
        "response_length": {"start": start.response_length, "best": best.response_length},
        "unscored": state.unscored,
        "value_start": cast.value_start,
        "data": task.counts,
        "warnings": list[Any](all_findings(history)),
        "stopped": state.stop,
    }
    if cast.judge is not None:
        summary["judge"] = {
            "name": cast.judge.name,
            "start": _interval(start.judge),
            "best": _interval(best.judge),
            "difference": _interval(paired(best.judge, start.judge)),
            "last": _interval(last.judge),
            "unscored": best.unscored,
        }
        summary["warnings"] += _judge_warnings(state)
    else:
        summary["warnings"].append(
            "The checkpoint was not chosen by an independent judge (judge=none): nothing here shows that the training "
            "reward was not exploited."
        )
    return summary


def _interval(values: PerPrompt) -> Figures | None:
    found = estimate(values)
    return found.as_dict() if found else None


def _judge_warnings(state: State) -> list[str]:
    if state.best_step != 0:
        return []
    return [
        "The judge likes no checkpoint better than the model training started from, so model/ is that model. Raise "
        "kl.coef, train fewer iterations, or look whether reward and judge want the same."
    ]
