from pathlib import Path

import pytest
from synthetic_runs import write_evaluation, write_ppo, write_reward, write_sft


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/ with sft, reward, two PPO runs and an evaluation."""
    runs = tmp_path_factory.mktemp("loop") / "runs"
    write_sft(runs / "sft")
    write_reward(runs / "reward")
    write_ppo(runs / "ppo", coef=0.05)
    write_ppo(runs / "ppo-free", coef=0.0, finish=False)
    write_evaluation(runs / "evaluation")
    return runs
