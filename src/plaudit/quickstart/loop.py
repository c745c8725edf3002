"""The whole loop on one machine, on content that comes with Plaudit: from demonstrations to a judged, better policy.

    1. split the demonstrations by prompt: to train on, to choose a checkpoint on, to test on
    2. SFT on the demonstrations, one pass
    3. sample answers from the SFT model, to those prompts and to more that nobody has answered
    4. simulated labelers rank them: some for the reward model, others for the judge
    5. reward model, and an independent judge of the same kind
    6. PPO against the reward model; the judge chooses the checkpoint
    7. answers to the test prompts by the original, the SFT and the PPO model
    8. the true preference, which no stage before this one has seen, compares them
    9. report

Every stage is a run folder and meets the others on disk only, so a finished stage is not run again and an interrupted
one goes on. The labelers are simulated: what improves is agreement with a stated rule, not with people.
"""

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.files import sha256_file, write_jsonl
from plaudit.core.progress import say
from plaudit.core.records import Prompt
from plaudit.core.run import Run, read_summary
from plaudit.datasets.read import read_demonstrations, read_prompts
from plaudit.datasets.splits import split_by_prompt
from plaudit.evaluation import reward_audit
from plaudit.evaluation.comparison import Contestant, Judge, compare_policies
from plaudit.feedback.simulation.simulate import FILE as RANKINGS
from plaudit.feedback.simulation.simulate import SimulateConfig, simulate
from plaudit.reports.report import build
from plaudit.rollouts.answers import FILE as ANSWERS
from plaudit.rollouts.answers import SampleConfig, generate, read_answers
from plaudit.rollouts.sampling import Sampling
from plaudit.rollouts.scoring import load_scorer
from plaudit.training import ppo, reward, sft
from plaudit.training.ppo_config import KLSettings, MissingEndSettings, PPOConfig
from plaudit.training.reward_config import RewardConfig
from plaudit.training.sft_config import SFTConfig

REWARD_LABELERS = ("simulated-1", "simulated-2", "simulated-3", "simulated-5")
JUDGE_LABELERS = ("simulated-4", "simulated-6")
RANKED_TOGETHER = 4
TRUE_PREFERENCE = "plaudit.feedback.simulation.true_preference:judge"
NOTICE = (
    "The labelers of this run are simulated: they stand in for people, and what the policy learns to please is the "
    "rule in plaudit/feedback/simulation/true_preference.py. To put people in their place, have them rank the answers "
    "in {answers}, save the rankings as JSON lines of prompt, responses, ranks (1 = best, equal = tie) and labeler, "
    "and give that file as data= to `plaudit reward`."
)


class QuickstartConfig(Config):
    """Settings of the quickstart."""

    run: Path = Field(
        Path("runs/quickstart"), description="Folder of the stages' run folders; the same command goes on."
    )
    model: str = Field("smollm2", description="Language model to start from: smollm2, a folder, a hub name.")
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the models compute in.")
    train_layers: int = Field(8, ge=1, description="Layers of the reward models and of PPO that train.")

    test_prompts: int = Field(50, ge=2, description="Prompts that no stage sees before the final comparison.")
    choose_prompts: int = Field(16, ge=2, description="Prompts on which the judge chooses PPO's checkpoint.")
    answers: int = Field(4, ge=2, description="Sampled answers a prompt that the labelers rank, four at a time.")
    test_answers: int = Field(4, ge=1, description="Answers a test prompt of each model.")
    max_new_tokens: int = Field(72, ge=4, description="Longest sampled answer in tokens.")
    temperature: float = Field(0.7, gt=0, description="Of every sampled answer, in training and in the comparison.")

    sft_epochs: int = Field(1, ge=1, description="Passes over the demonstrations.")
    sft_lr: float = Field(5e-5, gt=0, description="Peak learning rate of SFT.")
    reward_epochs: int = Field(2, ge=1, description="Passes over the rankings.")
    judge_epochs: int = Field(1, ge=1, description="As `reward_epochs`, of the judge, which only chooses a checkpoint.")
    judge_rankings: int = Field(300, ge=2, description="Rankings the judge learns from, out of all by its labelers.")
    reward_lr: float = Field(1e-4, gt=0, description="Peak learning rate of the reward models.")
    ppo_iterations: int = Field(8, ge=1, description="Rounds of sampling and training.")
    ppo_prompts: int = Field(16, ge=1, description="Prompts a round, with four answers each.")
    ppo_lr: float = Field(1e-4, gt=0, description="Learning rate of PPO; the value branch takes half of it.")
    kl_coef: float = Field(0.05, ge=0, description="Weight of the KL penalty towards the SFT model.")


class Prompts(NamedTuple):
    """Files of prompts. `train`, `choose` and `test` hold demonstrations, and no prompt is in two of them."""

    train: Path
    choose: Path
    test: Path
    practice: Path  # those of `train` and many without a demonstration: for rankings and PPO


def run(config: QuickstartConfig) -> Path:
    """Run the loop, or what is left of it; returns its folder, in which `report.html` tells what was found.

    Raises:
        PlauditError: of the stage that failed; the same command goes on from there.
    """
    prompts = split_content(config)

    def folder(stage: str) -> Path:
        return config.run / stage

    steps: list[tuple[str, Callable[[], object]]] = [
        ("supervised fine-tuning on demonstrations", lambda: sft.train(_sft(config, folder("sft"), prompts))),
        (
            "answers of the fine-tuned model",
            lambda: generate(_sample(config, "answers", folder("sft"), prompts.practice)),
        ),
        ("simulated labelers rank them", lambda: _label(config)),
        ("reward model", lambda: reward.train(_reward(config, "reward"), audit=reward_audit.audit)),
        ("an independent judge", lambda: reward.train(_reward(config, "judge"), audit=reward_audit.audit)),
        ("PPO with a KL penalty", lambda: ppo.train(_ppo(config, prompts))),
        ("answers to unseen prompts", lambda: _answer_test_prompts(config, prompts)),
        ("comparison by the true preference", lambda: compare(config)),
        ("report", lambda: build([config.run])),
    ]
    for number, (title, step) in enumerate(steps, start=1):
        say(f"\n[{number}/{len(steps)}] {title}", style="bold")
        step()
    say(NOTICE.format(answers=folder("answers") / ANSWERS))
    return config.run


def split_content(config: QuickstartConfig) -> Prompts:
    """Write the demonstrations in three parts that share no prompt, and the prompts for rankings and PPO."""
    with as_file(files("plaudit.quickstart")) as content:
        rows = read_demonstrations(content / "demonstrations.jsonl").rows
        more = read_prompts(content / "prompts.jsonl").rows
    outer = split_by_prompt(rows, held_out=config.test_prompts, seed=config.seed)
    inner = split_by_prompt(outer.train, held_out=config.choose_prompts, seed=config.seed)
    data = config.run / "data"
    prompts = Prompts(*(data / f"{name}.jsonl" for name in Prompts._fields))
    for file, part in zip(prompts[:3], (inner.train, inner.held_out, outer.held_out), strict=True):
        write_jsonl(file, ({"prompt": _messages(row.prompt), "response": row.response} for row in part))
    write_jsonl(prompts.practice, ({"prompt": _messages(row.prompt)} for row in (*inner.train, *more)))
    return prompts


class CompareConfig(Config):
    """Settings of the final comparison, as its run folder records them."""

    run: Path = Field(description="Run folder.")
    answers: dict[str, Path] = Field(description="Sampling run of each policy.")
    pairs: tuple[tuple[str, str], ...] = Field(description="Policies to compare, a against b.")
    judge: str = Field(description="Independent judge.")
    reward: Path = Field(description="The training reward, shown beside it.")
    seed: int = Field(description="Seed of the samples that the report shows.")


def compare(config: QuickstartConfig) -> Path:
    """Judge the answers to the test prompts by the true preference, and show the training reward beside it."""
    settings = CompareConfig(
        run=config.run / "evaluation",
        answers={name: config.run / f"test-{name}" for name in ("original", "sft", "ppo")},
        pairs=(("ppo", "sft"), ("sft", "original")),
        judge=TRUE_PREFERENCE,
        reward=config.run / "reward",
        seed=config.seed,
    )
    inputs = {name: sha256_file(path / ANSWERS) for name, path in settings.answers.items()}
    with Run.open(settings.run, stage="evaluate", config=settings, inputs=inputs) as stage:
        if stage.finished:
            say(f"{stage.path} is finished already.")
            return stage.path
        stage.rewind(-1)
        judges = [
            Judge(
                load_scorer(settings.judge), True, "the stated rule behind all simulated labelers, unseen by training"
            ),
            Judge(load_scorer(str(settings.reward), precision=config.precision), False),
        ]
        answers = {name: read_answers(path) for name, path in settings.answers.items()}
        comparisons: list[dict[str, Any]] = []
        with stage.timed("compare"):
            for a, b in settings.pairs:
                asked = [one.prompt for one in answers[a] for _ in one.responses]
                side_a, side_b = (
                    Contestant(name, [text for one in answers[name] for text in one.responses]) for name in (a, b)
                )
                comparisons += compare_policies(stage, asked, side_a, side_b, judges)
        notice = NOTICE.format(answers=config.run / "answers" / ANSWERS)
        stage.finish({"stage": "evaluate", "comparisons": comparisons, "notice": notice})
        return stage.path


def _shared(config: QuickstartConfig) -> dict[str, Any]:
    return {"seed": config.seed, "precision": config.precision}


def _sampling(config: QuickstartConfig, n: int) -> Sampling:
    return Sampling.model_validate({"n": n, "max_new_tokens": config.max_new_tokens, "temperature": config.temperature})


def _sft(config: QuickstartConfig, folder: Path, prompts: Prompts) -> SFTConfig:
    return SFTConfig(
        run=folder,
        model=config.model,
        data=str(prompts.train),
        eval_data=str(prompts.choose),
        epochs=config.sft_epochs,
        batch_size=8,
        lr=config.sft_lr,
        sample_tokens=config.max_new_tokens,
        **_shared(config),
    )


def _sample(config: QuickstartConfig, stage: str, model: Path | str, prompts: Path) -> SampleConfig:
    n = config.answers if stage == "answers" else config.test_answers
    return SampleConfig(
        run=config.run / stage,
        model=str(model),
        prompts=str(prompts),
        sampling=_sampling(config, n),
        **_shared(config),
    )


def _label(config: QuickstartConfig) -> None:
    for stage, labelers in (("reward-labels", REWARD_LABELERS), ("judge-labels", JUDGE_LABELERS)):
        simulate(
            SimulateConfig(
                run=config.run / stage,
                data=config.run / "answers" / ANSWERS,
                labelers=labelers,
                together=RANKED_TOGETHER,
                seed=config.seed,
            )
        )


def _reward(config: QuickstartConfig, stage: str) -> RewardConfig:
    return RewardConfig(
        run=config.run / stage,
        model=str(config.run / "sft"),
        data=str(config.run / f"{stage}-labels" / RANKINGS),
        epochs=config.judge_epochs if stage == "judge" else config.reward_epochs,
        limit=config.judge_rankings if stage == "judge" else None,
        batch_size=4,
        lr=config.reward_lr,
        head_lr=10 * config.reward_lr,  # it starts from nothing, the layers from a language model
        train_layers=config.train_layers,
        **_shared(config),
    )


def _ppo(config: QuickstartConfig, prompts: Prompts) -> PPOConfig:
    return PPOConfig(
        run=config.run / "ppo",
        policy=str(config.run / "sft"),
        reward=str(config.run / "reward"),
        judge=str(config.run / "judge"),
        prompts=str(prompts.practice),
        eval_prompts=str(prompts.choose),
        iterations=config.ppo_iterations,
        prompts_per_iteration=config.ppo_prompts,
        sampling=_sampling(config, 4),
        # a reward model of few rankings likes long answers, and one without an end is as long as can be
        missing_eos=MissingEndSettings(mode="replace", value=-3.0),
        score_baseline="prompt",  # every prompt comes once, so the value branch cannot know what is usual for it
        kl=KLSettings.model_validate({"coef": config.kl_coef}),
        lam=1.0,
        epochs=2,
        minibatches=4,
        lr=config.ppo_lr,
        value_lr=config.ppo_lr / 2,
        train_layers=config.train_layers,
        eval_every=4,
        eval_samples=4,
        **_shared(config),
    )


def _answer_test_prompts(config: QuickstartConfig, prompts: Prompts) -> None:
    for name, model in (("original", config.model), ("sft", config.run / "sft"), ("ppo", config.run / "ppo")):
        generate(_sample(config, f"test-{name}", model, prompts.test))


def headline(run: Path) -> str:
    """What the finished loop in this folder found, in one sentence with its interval."""
    first = read_summary(run / "evaluation")["comparisons"][0]
    rate = first["rate"]
    return (
        f"The PPO model's answer is better than the SFT model's in {rate['value']:.0%} of {rate['n']} comparisons on "
        f"{first['prompts']} prompts that no stage had seen (95 % interval {rate['low']:.0%} to {rate['high']:.0%}, "
        f"clustered by prompt), by the true preference of the labelers."
    )


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in prompt]
