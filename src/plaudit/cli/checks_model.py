"""Checks of language models and reward models."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from plaudit.cli.checks import Check, error, ok, warning
from plaudit.core.errors import DoctorError, ModelError
from plaudit.core.records import Message, Prompt, user_prompt

if TYPE_CHECKING:
    from plaudit.datasets.render import Renderer
    from plaudit.models.policy import Policy

PROMPTS = tuple(
    map(user_prompt, ("Name three fruits.", "What is the capital of France?", "Write one sentence about the sea."))
)
ANSWERS = (
    "Apples, pears and plums are three fruits.",
    "I do not know, and I do not care.",
    "fruit fruit fruit fruit fruit fruit fruit fruit",
    "The sea is wide and calm this morning.",
)


def check_policy(name: str, precision: str) -> Iterator[Check]:
    """Tokenizer, chat template, end of turn, padding, and the sampler against the trainer."""
    from plaudit.datasets.render import Renderer
    from plaudit.models.load import load_policy
    from plaudit.models.precision import choose_precision

    policy = load_policy(name, precision=choose_precision(precision))
    config = policy.origin.config
    total = sum(parameter.numel() for parameter in policy.branch.parameters())
    yield ok("model", f"{config.model_type}, {config.num_hidden_layers} layers, {total / 1e6:.1f} M parameters")
    yield from _check_tokenizer(policy)
    try:
        renderer = Renderer(policy.tokenizer)
    except ModelError as refusal:
        yield error("chat template", str(refusal))
        renderer = Renderer(policy.tokenizer, template="plain")
    else:
        yield ok("chat template", "answers are told apart from prompts")
        yield _check_system(renderer)
    yield from _check_ends(policy, renderer)
    yield _check_sampler(policy, renderer)


def check_reward(spec: str, precision: str) -> Iterator[Check]:
    """A trained head, and scores that tell texts apart."""
    from plaudit.rollouts.scoring import RewardModelScorer, load_scorer

    scorer = load_scorer(spec, precision=precision)
    kind = "trained head present" if isinstance(scorer, RewardModelScorer) else type(scorer).__name__
    yield ok("reward", kind)
    prompts = [prompt for prompt in PROMPTS for _ in ANSWERS]
    scores = scorer.score(prompts, list(ANSWERS) * len(PROMPTS))
    known = [score for score in scores if score is not None]
    if not known:
        yield error("scores", f"none of {len(scores)} ordinary answers is scored", "Look at what the scorer expects.")
    elif len(set(known)) == 1:
        yield error("scores", f"{known[0]:g} for every text", "A constant reward teaches nothing: train it, or fix it.")
    else:
        yield ok("scores", f"{min(known):.3g} to {max(known):.3g} on {len(known)} short answers")
    if known and len(known) < len(scores):
        yield warning(
            "unscored", f"{len(scores) - len(known)} of {len(scores)} answers", "They will count neither way."
        )
    again = scorer.score(prompts[::-1], (list(ANSWERS) * len(PROMPTS))[::-1])[::-1]
    changed = max(
        (abs(a - b) for a, b in zip(scores, again, strict=True) if a is not None and b is not None), default=0.0
    )
    if changed > 0.05 * (max(known) - min(known) if known else 0.0):
        yield error(
            "order",
            f"scores move by {changed:.3g} when texts are scored in another order",
            "A score must depend on its text alone: look for state or randomness in the scorer.",
        )
    else:
        yield ok("order", "a score does not depend on its neighbours")


def _check_tokenizer(policy: "Policy") -> Iterator[Check]:
    words, rows = len(policy.tokenizer), policy.head.shape[0]
    if words > rows:
        yield error(
            "tokenizer",
            f"{words} tokens, but the model has {rows}",
            "Use the tokenizer that belongs to the model, or resize the model's embeddings.",
        )
    else:
        yield ok("tokenizer", f"{words} tokens ({rows} in the model)")
    context = getattr(policy.origin.config, "max_position_embeddings", None)
    yield ok("context", f"{context} tokens" if context else "not stated")


def _check_system(renderer: "Renderer") -> Check:
    prompt: Prompt = (Message("system", "Answer briefly."), *PROMPTS[0])
    try:
        renderer.prompt_ids(prompt)
    except ModelError:
        return warning("system role", "the template has none", "Set system=merge if your data has system messages.")
    return ok("system role", "present")


def _check_ends(policy: "Policy", renderer: "Renderer") -> Iterator[Check]:
    tokenizer = policy.tokenizer
    end = renderer.response_ids("Yes.")[-1]
    names = {id_: tokenizer.convert_ids_to_tokens(id_) for id_ in (end, renderer.pad_id)}
    yield ok("end of turn", f"{names[end]} ({end})")
    stops = getattr(policy.origin.generation_config, "eos_token_id", None)
    known: set[Any] = set(stops) if isinstance(stops, list) else {stops}
    if end not in known:
        yield warning(
            "generation config",
            f"eos_token_id is {stops}, without the end of turn {end}: other programs will not stop there",
            "Add it to generation_config.json. Plaudit itself stops at the end of turn.",
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in renderer.end_ids:
        given = "no pad token" if tokenizer.pad_token_id is None else "pad equals the end of turn"
        yield warning(
            "padding",
            f"{given}; Plaudit pads with {names[renderer.pad_id]} ({renderer.pad_id})",
            "Programs that mask padding by its id would not learn the end of turn; set pad_token in the tokenizer.",
        )
    else:
        yield ok("padding", f"{names[renderer.pad_id]} ({renderer.pad_id}), not an end of turn")


def _check_sampler(policy: "Policy", renderer: "Renderer") -> Check:
    """The log-probs that the sampler reports must be those that training computes from packed rows."""
    import torch

    from plaudit.core.records import TokenGroup
    from plaudit.models.packing import pack
    from plaudit.rollouts.engine import sample
    from plaudit.rollouts.sampling import Sampling
    from plaudit.training.doctor import check_sampler

    ids = [renderer.prompt_ids(prompt) for prompt in PROMPTS]
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=16, n=2)
    rollouts = sample(policy, ids, sampling, end_ids=renderer.end_ids, seeds=[0] * len(ids))
    packed = pack([TokenGroup(p, tuple(one.response for one in group)) for p, group in zip(ids, rollouts, strict=True)])
    with torch.no_grad():
        trainer = policy.log_probs(packed, policy.states(packed)).log_prob
    sampler = torch.cat([one.log_probs for group in rollouts for one in group])
    try:
        found = check_sampler(
            packed.unpack(sampler), packed.unpack(trainer), packed.mask, compute=policy.precision.compute
        )
    except DoctorError as refusal:
        return error("sampler", str(refusal))
    return ok(
        "sampler", f"log-probs as in training (mean difference {found.mean:.2g}, largest {found.largest:.2g} nats)"
    )
