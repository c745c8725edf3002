"""The cache of decoding gives what a full forward pass over the whole sequence gives, whoever comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plaudit.core.records import TokenGroup
from plaudit.models import decoding
from plaudit.models.decoding import DecodeCache
from plaudit.models.fused import rotate
from plaudit.models.kernels import ops
from plaudit.models.load import load_policy
from plaudit.models.packed_weights import PackedWeights
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32
from tiny import CONFIGS, make_folder

# --- against the whole model ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Sequence:
    """What was fed into one row, and the final state after each token, from the prompt's last on."""

    tokens: list[int]
    finals: list[Tensor] = field(default_factory=list)


class Decoding:
    """A model and its cache, fed with given tokens instead of sampled ones."""

    def __init__(self, policy: Policy, *, rows: int) -> None:
        self.policy = policy
        self.cache = DecodeCache(rows=rows, steps=100, weights=PackedWeights(rows))
        self.rows: list[Sequence] = []
        self.all: list[Sequence] = []

    @torch.no_grad()
    def admit(self, prompts: list[tuple[int, ...]], copies: int) -> None:
        packed = pack([TokenGroup(prompt, ()) for prompt in prompts])
        packed.layout.capture()
        ends = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0) - 1
        finals = self.policy.branch(self.policy.states(packed), packed.positions, packed.layout, ends)
        assert packed.layout.captured is not None
        self.cache.admit(packed.layout.captured, copies)
        new = [Sequence(list(p), [final]) for p, final in zip(prompts, finals, strict=True) for _ in range(copies)]
        self.rows += new
        self.all += new

    @torch.no_grad()
    def step(self) -> None:
        """One token a row, another in each row."""
        tokens = torch.tensor([3 + (7 * len(row.tokens) + 31 * self.all.index(row)) % 300 for row in self.rows])
        assert self.cache.lengths.tolist() == [len(row.tokens) for row in self.rows]
        states = self.policy.trunk(tokens, self.cache.lengths, self.cache)
        finals = self.policy.branch(states, self.cache.lengths, self.cache)
        self.cache.advance()
        for row, token, final in zip(self.rows, tokens.tolist(), finals, strict=True):
            row.tokens.append(token)
            row.finals.append(final)

    def drop(self, gone: list[int]) -> None:
        self.rows = [self.rows[i] for i in self.cache.drop(gone)]

    @torch.no_grad()
    def check(self) -> None:
        for row in self.all:
            packed = pack([TokenGroup(tuple(row.tokens), ())])
            whole = self.policy.branch(self.policy.states(packed), packed.positions, packed.layout)
            torch.testing.assert_close(torch.stack(row.finals), whole[-len(row.finals) :], atol=2e-5, rtol=1e-5)


@pytest.fixture(autouse=True, params=["compiled", "eager"], scope="module")
def _kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "compiled" and ops.library() is None:
        pytest.skip("no compiled kernels on this machine")
    with patch.object(ops, "library", ops.library if request.param == "compiled" else lambda: None):
        yield


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = make_folder(tmp_path_factory.mktemp("family") / request.param, request.param)
    return load_policy(folder, precision=FLOAT32, train_layers=2)


LONG, MIDDLE, SHORT = tuple(range(40, 62)), (90, 91, 92, 93, 94, 95, 96, 97, 98), (7, 11)


def test_rows_that_come_and_go_decode_as_if_alone(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With four spare columns, so that room is made again and again."""
    monkeypatch.setattr(decoding, "_SPARE", 4)
    run = Decoding(policy, rows=6)
    run.admit([LONG, MIDDLE], copies=2)
    for gone in ([], [0], [], []):  # the last row moves into the first place
        run.step()
        run.drop(gone)
    run.admit([SHORT], copies=3)
    for gone in ([], [1, 0], [], [3, 1], []):  # the last two rows move into the first two places; then one of two
        run.step()
        run.drop(gone)
    for _ in range(12):  # one or two rows, over the end of the room
        run.step()
    run.drop(list(range(len(run.rows))))
    run.admit([MIDDLE, SHORT], copies=1)  # an empty cache starts again
    run.step()
    run.drop([1])
    run.step()
    run.check()


def test_one_row_decodes_far_beyond_its_window(policy: Policy) -> None:
    run = Decoding(policy, rows=1)
    run.admit([SHORT], copies=1)
    for _ in range(40):
        run.step()
    run.check()


# --- against a naive cache ------------------------------------------------------------------------------------------

KV_HEADS, REPEAT, WIDTH, SCALE = 2, 3, 4, 0.7
LAYERS = (2, 5)  # as in a model, numbers need not start at 0


class NaiveRow:
    """Every key and value of one row in a list for each layer."""

    def __init__(self, keys: dict[int, Tensor], values: dict[int, Tensor]) -> None:
        self.keys = {layer: list(k) for layer, k in keys.items()}
        self.values = {layer: list(v) for layer, v in values.items()}
        self.prompt = len(self)

    def __len__(self) -> int:
        return len(self.keys[LAYERS[0]])

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, window: int | None, softcap: float | None
    ) -> Tensor:
        self.keys[layer].append(k)
        self.values[layer].append(v)
        first = 0 if window is None else max(0, len(self.keys[layer]) - window)
        out = []
        for head in range(KV_HEADS * REPEAT):
            keys = torch.stack([key[head // REPEAT] for key in self.keys[layer][first:]])
            values = torch.stack([value[head // REPEAT] for value in self.values[layer][first:]])
            logits = keys @ q[head] * SCALE
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            out.append(logits.softmax(-1) @ values)
        return torch.stack(out)


class Both:
    """The cache and the naive one, run through the same steps and compared at each."""

    def __init__(self, *, rows: int, window: int | None, softcap: float | None) -> None:
        self.cache = DecodeCache(rows=rows, steps=100, weights=PackedWeights(rows))
        self.naive: list[NaiveRow] = []
        self.windows = {LAYERS[0]: None, LAYERS[1]: window}
        self.softcap = softcap
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def admit(self, lengths: list[int], copies: int) -> None:
        prompts = [
            ({i: self.draw(n, KV_HEADS, WIDTH) for i in LAYERS}, {i: self.draw(n, KV_HEADS, WIDTH) for i in LAYERS})
            for n in lengths
        ]
        self.cache.admit(
            {i: (tuple(keys[i] for keys, _ in prompts), tuple(values[i] for _, values in prompts)) for i in LAYERS},
            copies,
        )
        self.naive += [NaiveRow(*prompt) for prompt in prompts for _ in range(copies)]

    def step(self) -> None:
        rows = len(self.naive)
        for layer in LAYERS:
            q = 2 * self.draw(rows, KV_HEADS * REPEAT, WIDTH)
            k, v = self.draw(rows, KV_HEADS, WIDTH), self.draw(rows, KV_HEADS, WIDTH)
            how = {"window": self.windows[layer], "softcap": self.softcap}
            half = self.draw(rows, WIDTH // 2)
            cos, sin = torch.cat([half, half], 1).cos(), torch.cat([half, half], 1).sin()
            got = self.cache.rotate_and_attend(layer, q, k, v, cos, sin, scale=SCALE, **how)  # type: ignore[arg-type]
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            expected = [row.attend(layer, *qkv, **how) for row, *qkv in zip(self.naive, q, k, v, strict=True)]  # type: ignore[arg-type]
            torch.testing.assert_close(got, torch.stack(expected), atol=1e-5, rtol=1e-5)
        self.cache.advance()

    def drop(self, gone: list[int]) -> None:
        self.naive = [self.naive[i] for i in self.cache.drop(gone)]
        assert self.cache.lengths.tolist() == [len(row) for row in self.naive]


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_any_history_gives_the_naive_caches_attention(data: st.DataObject) -> None:
    most, copies, lifetime = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    waiting = sorted(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=8)), reverse=True)
    both = Both(
        rows=max(most, copies),
        window=data.draw(st.none() | st.integers(1, 6)),
        softcap=data.draw(st.none() | st.just(2.0)),
    )
    with patch.object(decoding, "_SPARE", data.draw(st.integers(1, 4))):
        while waiting or both.naive:
            room = (most - len(both.naive)) // copies
            taken = data.draw(st.integers(0 if both.naive else 1, max(room, 0 if both.naive else 1)))
            if taken and waiting:
                both.admit(waiting[:taken], copies)
                waiting = waiting[taken:]
            both.step()
            old = [i for i, row in enumerate(both.naive) if len(row) - row.prompt == lifetime]
            chosen = data.draw(st.sets(st.integers(0, len(both.naive) - 1)))
            both.drop(data.draw(st.permutations(sorted({*old, *chosen}))))


def test_prompts_longer_than_the_columns_in_use_are_refused() -> None:
    both = Both(rows=4, window=None, softcap=None)
    both.admit([3], 1)
    with pytest.raises(AssertionError, match="longest first"):
        both.admit([4], 1)
