"""Processes to be killed, forked from a server that has imported everything: a start costs a second instead of ten."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess

_CONTEXT = multiprocessing.get_context("forkserver")
# There is one server for all tests of a session: the first list of imports it is given is the only one.
_CONTEXT.set_forkserver_preload(
    [
        "transformers.models.llama.modeling_llama",
        "plaudit.evaluation.reward_audit",
        *(f"plaudit.training.{stage}" for stage in ("sft", "dpo", "reward", "ppo")),
    ]
)


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Call `target`, a function of a module, in a process of its own."""
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process
