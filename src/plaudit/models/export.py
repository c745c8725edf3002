"""Saving models as plain transformers folders, and proving that what was saved is what was trained.

A folder counts only after two checks: the files hold, bit for bit, the weights in memory; and plain transformers,
loading them with its own attention and padding, gives the same numbers in float32 as this package's packed path does.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from plaudit.core.errors import ModelError
from plaudit.core.files import atomic_folder
from plaudit.core.records import TokenGroup
from plaudit.models.checkpoints import safetensors_as_os_errors
from plaudit.models.load import load_policy, load_reward
from plaudit.models.packing import pack
from plaudit.models.policy import Policy, ScalarModel
from plaudit.models.precision import FLOAT32
from plaudit.models.split import layers_of

# Different attention kernels and padding reorder float32 sums; 30 layers amplify that to about 1e-4 in a log-prob.
TOLERANCE = 2e-3


def save_policy(policy: Policy, folder: Path) -> None:
    """Write a policy as `AutoModelForCausalLM` loads it. LoRA adapters are merged.

    Raises:
        ModelError: the reloaded model gives other log-probs; nothing is left at ``folder`` then (an older model stays).
    """
    plain = policy.plain()
    config = _config(
        policy.origin.config, policy.precision.compute, _class_name(AutoModelForCausalLM, policy.origin.config)
    )
    tensors = _decoder(plain.trunk.model, plain.branch.model)
    if not config.tie_word_embeddings:
        tensors["lm_head.weight"] = plain.head
    with atomic_folder(folder) as unfinished:
        _write(unfinished, config, policy.tokenizer, tensors)
        if policy.origin.generation_config is not None:
            policy.origin.generation_config.save_pretrained(unfinished)
        check_policy_folder(unfinished, policy.tokenizer)


def save_reward(scalar: ScalarModel, folder: Path, *, pad_id: int) -> None:
    """Write a reward model as `AutoModelForSequenceClassification` (one label) loads it; the head stays float32.

    Args:
        pad_id: a padding token that never ends a response. transformers reads the score at the last token that is not
            padding: with the end of turn as padding it would read one token too early.

    Raises:
        ModelError: the head was never trained, or the reloaded model gives other scores.
    """
    if not scalar.is_trained:
        raise ModelError("this reward model's head is as initialised; train it before saving it")
    plain = scalar.plain()
    config = _config(
        scalar.origin.config, torch.float32, _class_name(AutoModelForSequenceClassification, scalar.origin.config)
    )
    config.num_labels = 1
    config.pad_token_id = pad_id
    tokenizer = copy.deepcopy(scalar.tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    tensors = _decoder(plain.trunk.model, plain.branch.model) | {"score.weight": plain.head[None, :]}
    with atomic_folder(folder) as unfinished:
        _write(unfinished, config, tokenizer, tensors)
        check_reward_folder(unfinished, tokenizer)


def check_policy_folder(folder: Path, tokenizer: Any) -> None:
    """Plain transformers and the packed path must give the same log-probs on this folder, in float32.

    Raises:
        ModelError: they differ by more than ``TOLERANCE``.
    """
    groups = _probes(tokenizer)
    policy = load_policy(folder, precision=FLOAT32, train_layers=_upper_half(folder))
    packed = pack(groups)
    with torch.no_grad():
        ours = packed.unpack(policy.log_probs(packed, policy.states(packed)).log_prob)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rows = [(*g.prompt, *r) for g in groups for r in g.responses]
    starts = [len(g.prompt) for g in groups for _ in g.responses]
    ids, mask = _right_padded(rows, pad=0)
    with torch.no_grad():
        logp = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    theirs = torch.zeros_like(ours)
    for row, (tokens, start) in enumerate(zip(rows, starts, strict=True)):
        for t in range(start, len(tokens)):
            theirs[row, t - start] = logp[row, t - 1, tokens[t]]
    _compare(folder, "log-probs", ours, theirs)


def check_reward_folder(folder: Path, tokenizer: Any) -> None:
    """As ``check_policy_folder``, for scores: padding and read-out position must agree too."""
    groups = _probes(tokenizer)
    scalar = load_reward(folder, precision=FLOAT32, train_layers=_upper_half(folder))
    packed = pack(groups)
    with torch.no_grad():
        ours = scalar.scores(packed, scalar.states(packed))
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids, mask = _right_padded([(*g.prompt, *r) for g in groups for r in g.responses], pad=tokenizer.pad_token_id)
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=mask).logits.squeeze(-1)
    _compare(folder, "scores", ours, theirs)


def _decoder(trunk: Any, branch: Any) -> dict[str, Tensor]:
    """Hugging Face names for the weights of trunk and branch together."""
    embeddings = branch.embed_tokens if trunk is None else trunk.embed_tokens
    layers = [*([] if trunk is None else layers_of(trunk)), *branch.layers]
    tensors = {"model.embed_tokens.weight": embeddings.weight}
    for index, layer in enumerate(layers):
        tensors |= {f"model.layers.{index}.{name}": tensor for name, tensor in layer.state_dict().items()}
    tensors |= {f"model.norm.{name}": tensor for name, tensor in branch.norm.state_dict().items()}
    return tensors


def _config(config: Any, dtype: torch.dtype, class_name: str) -> Any:
    config = copy.deepcopy(config)
    config.dtype = dtype
    config.architectures = [class_name]
    return config


def _class_name(auto: Any, config: Any) -> str:
    return auto._model_mapping[type(config)].__name__


def _write(folder: Path, config: Any, tokenizer: Any, tensors: dict[str, Tensor]) -> None:
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with safetensors_as_os_errors():
        save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, saved in load_file(folder / "model.safetensors").items():
        if not torch.equal(saved, contiguous[name]):
            raise ModelError(
                f"{folder}: {name} read back differs from memory; the disk may be failing. Nothing was kept."
            )


def _upper_half(folder: Path) -> int:
    """Cut in the middle, so that the check runs through a trunk and a branch."""
    from transformers import AutoConfig

    return max(1, AutoConfig.from_pretrained(folder).num_hidden_layers // 2)


def _probes(tokenizer: Any) -> list[TokenGroup]:
    """Two prompts and three answers of different length: enough to catch a lost mask, position or padding."""
    texts = ("What is the capital of France? ", "Name a fruit.", "Paris.", "It is Paris, on the river Seine.", "A pear")
    ids = [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    end = (tokenizer.eos_token_id,)
    return [TokenGroup(ids[0], (ids[2] + end, ids[3] + end)), TokenGroup(ids[1], (ids[4] + end,))]


def _right_padded(rows: list[tuple[int, ...]], *, pad: int) -> tuple[Tensor, Tensor]:
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def _compare(folder: Path, what: str, ours: Tensor, theirs: Tensor) -> None:
    worst = float((ours - theirs).abs().max())
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{folder}: plain transformers gives other {what} than training did (largest difference {worst:.2e}, "
            f"tolerance {TOLERANCE:.0e}); the model was not saved. Check the architecture with `plaudit doctor model=…`"
        )
