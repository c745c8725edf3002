"""The compiled kernels against PyTorch in float64, at awkward sizes, and bit for bit the same in any company."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from plaudit.models.kernels import build, eager, ops
from plaudit.rollouts.sampling import Sampling, draw

if sys.platform.startswith("linux") and build.library() is None:
    pytest.skip(f"kernels are {build.kernels()}", allow_module_level=True)

FORMATS = {torch.float32: 2e-6, torch.bfloat16: 8e-3}  # of the largest value; bfloat16 keeps eight bits
ROWS, WIDTH = (1, 33, 70), (1, 16, 77, 576)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(got: Tensor, exact: Tensor, tolerance: float) -> None:
    assert got.isfinite().all()
    assert float((got.double() - exact).abs().max()) <= tolerance * max(float(exact.abs().max()), 1e-6)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", WIDTH)
def test_norm_and_gate_at_any_size(dtype: torch.dtype, rows: int, width: int) -> None:
    x, y, w, g, past = (numbers(rows, width, seed=i, dtype=dtype) for i in range(5))
    w = w[0].contiguous()
    total, normed, scale = ops.add_norm(x, y, w, 1e-5)
    assert torch.equal(total, x + y)  # the residual is rounded as PyTorch rounds it
    exact = eager.add_norm(total.double(), None, w.double(), 1e-5)
    close(normed, exact[1], FORMATS[dtype])
    got, got_weight = ops.norm_backward(total, scale, w, g, past, needs_weight=True)
    expected, expected_weight = eager.norm_backward(
        total.double(), exact[2], w.double(), g.double(), past.double(), needs_weight=True
    )
    assert got_weight is not None
    assert expected_weight is not None
    close(got, expected, FORMATS[dtype])
    close(got_weight, expected_weight, FORMATS[dtype])
    close(ops.gated(x, y), eager.gated(x.double(), y.double()), FORMATS[dtype])
    for one, other in zip(
        ops.gated_backward(g, x, y), eager.gated_backward(g.double(), x.double(), y.double()), strict=True
    ):
        close(one, other, FORMATS[dtype])


def test_the_gate_at_extreme_numbers() -> None:
    gate = torch.tensor([[-1e4, -100.0, -88.0, 0.0, 88.0, 100.0, 1e4]])
    up = torch.ones_like(gate)
    torch.testing.assert_close(ops.gated(gate, up), eager.gated(gate, up))
    torch.testing.assert_close(ops.gated_backward(up, gate, up), eager.gated_backward(up, gate, up))


def test_what_is_not_a_number_stays_none() -> None:
    """A fault must reach the checks of the training loops, whatever the number format."""
    for dtype in FORMATS:
        x = numbers(2, 64, dtype=dtype)
        x[1, 3] = torch.nan
        assert ops.add_norm(x, x, x[0].clone(), 1e-5)[1].isnan().any(1).tolist() == [False, True]
        assert ops.gated(x, x).isnan().any(1).tolist() == [False, True]
        assert ops.log_softmax_at(x.clone(), torch.tensor([0, 0]), 1.0, slope=True)[0].isnan().tolist() == [False, True]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("vocabulary", [1, 127, 128, 1000, 49_152])
def test_log_softmax_and_its_slope(dtype: torch.dtype, vocabulary: int) -> None:
    logits, upstream = 4 * numbers(5, vocabulary, dtype=dtype), numbers(5, seed=1)
    targets = torch.arange(5) * (vocabulary - 1) // 4
    wide = logits.double()
    exact = eager.log_softmax_at(wide, targets, 0.7, slope=True)
    slope = logits.clone()
    got = ops.log_softmax_at(slope, targets, 0.7, slope=True)
    for one, other in zip(got, exact, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    close(slope, wide, FORMATS[dtype])
    untouched = logits.clone()
    ops.log_softmax_at(untouched, targets, 0.7, slope=False)
    assert torch.equal(untouched, logits)
    ops.log_softmax_slope(untouched, targets, 0.7, upstream)
    close(untouched, wide * upstream[:, None], FORMATS[dtype])


@pytest.mark.parametrize("dtype", FORMATS)
def test_draws_follow_the_distribution(dtype: torch.dtype) -> None:
    """Uniforms on a fine grid give every token its share, to the grid."""
    grid = 20_000
    logits = 2 * numbers(1, 300, dtype=dtype)
    uniforms = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    tokens, log_probs = ops.draw(logits.expand(grid, -1).contiguous(), uniforms, 1.3)
    exact = (logits.double()[0] / 1.3).log_softmax(-1)
    shares = torch.bincount(tokens, minlength=300) / grid
    assert float((shares - exact.exp()).abs().max()) <= 1.01 / grid
    torch.testing.assert_close(log_probs.double(), exact[tokens], atol=1e-5, rtol=1e-5)
    assert tokens.diff().min() >= 0  # the tokens' order is the distribution's


def test_draws_never_land_on_a_token_of_no_mass() -> None:
    logits = torch.full((2, 300), -torch.inf)
    logits[:, [5, 140]] = 0.0
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert ops.draw(logits, ends, 1.0)[0].tolist() == [5, 140]


def test_compiled_and_eager_draws_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, uniforms = 3 * numbers(200, 1000), torch.rand(200, dtype=torch.float64)
    compiled = draw(logits.clone(), uniforms, Sampling())
    monkeypatch.setattr(ops, "library", lambda: None)
    plain = draw(logits.clone(), uniforms, Sampling())
    assert (compiled.tokens == plain.tokens).float().mean() > 0.99  # a number at a token's very edge may fall beside it
    same = compiled.tokens == plain.tokens
    torch.testing.assert_close(compiled.log_probs[same], plain.log_probs[same], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("repeat", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("window", [None, 1, 20])
def test_attention_of_a_step(dtype: torch.dtype, repeat: int, window: int | None) -> None:
    rows, kv_heads, width, columns, column = 5, 2, 24, 210, 173
    query, key, value, keys, values, cos, sin = step_inputs(rows, kv_heads, repeat, width, columns, dtype)
    lengths = torch.tensor([0, 1, 63, 64, 173])
    out = ops.attend_step(query, key, value, cos, sin, keys, values, lengths, column=column, scale=0.1, window=window)
    close(keys[..., column], eager.rotate(key, cos, sin).double(), FORMATS[dtype])
    assert torch.equal(values[:, :, column], value)
    turned = eager.rotate(query.double(), cos.double(), sin.double()).to(dtype)  # rounded once, as the kernel does
    asked = turned.double().view(rows, kv_heads, repeat, width)
    place = torch.arange(columns)
    hidden = (place > column) | (place < column - lengths[:, None])
    if window is not None:
        hidden |= place < column + 1 - window
    logits = (asked @ keys.double() * 0.1).masked_fill(hidden[:, None, None], -torch.inf)
    close(out, (logits.softmax(-1) @ values.double()).view(rows, -1, width), FORMATS[dtype])


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("count", [1, 33, 20_000])
def test_an_update_of_adamw(dtype: torch.dtype, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled and in PyTorch's operations, from moments that are there already."""
    how = {"clip": 0.5, "lr": 1e-2, "decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-5, "step": 3}
    below = (numbers(count, seed=4) * 9000).to(torch.int16) if dtype is torch.bfloat16 else None
    results = []
    for library in (ops.library, lambda: None):
        monkeypatch.setattr(ops, "library", library)
        parameter, first = numbers(count, dtype=dtype), numbers(count, seed=2, dtype=dtype)
        second, rest = numbers(count, seed=3, dtype=dtype).square(), None if below is None else below.clone()
        ops.adamw(parameter, rest, numbers(count, seed=1), first, second, **how)  # type: ignore[arg-type]
        results.append((parameter if rest is None else eager.joined(parameter, rest), first, second))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5 if one.dtype is torch.float32 else 2**-7, atol=1e-6)


def test_a_number_and_its_two_parts() -> None:
    """Every kind of float32 number, and those halfway between two of bfloat16: what is joined is what was parted."""
    some = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 10_000)
    halfway = torch.tensor([1 + 2.0**-8, -(1 + 2.0**-8), 1 + 3 * 2.0**-8, 2.0**-126, -0.0, 0.0])
    for whole in (some, halfway):
        rounded, below = eager.part(whole)
        assert torch.equal(eager.joined(rounded, below), whole)
        assert float(((rounded.float() - whole).abs() / whole.abs().clamp(min=1e-38)).max()) <= 2**-8
    assert torch.equal(eager.part(some)[0], some.to(torch.bfloat16))


def step_inputs(
    rows: int, kv_heads: int, repeat: int, width: int, columns: int, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Query, key and value as columns of one product; a cache whose unused columns hold large numbers; angles."""
    heads = [kv_heads * repeat, kv_heads, kv_heads]
    product = numbers(rows, sum(heads) * width, dtype=dtype)
    qkv = [part.view(rows, -1, width) for part in product.split([n * width for n in heads], 1)]
    keys = 9 * numbers(rows, kv_heads, width, columns, seed=1, dtype=dtype)
    values = 9 * numbers(rows, kv_heads, columns, width, seed=2, dtype=dtype)
    angle = numbers(rows, width // 2, seed=3)
    cos, sin = (torch.cat([part, part], 1).to(dtype) for part in (angle.cos(), angle.sin()))
    return *qkv, keys, values, cos, sin


def everything(rows: slice) -> Iterator[Tensor]:
    """Results of every kernel for some of 64 rows."""
    x, y, g = (numbers(64, 576, seed=i, dtype=torch.bfloat16)[rows].contiguous() for i in range(3))
    weight = numbers(576, seed=7, dtype=torch.bfloat16)
    total, normed, scale = ops.add_norm(x, y, weight, 1e-5)
    yield from (total, normed, scale)
    yield ops.norm_backward(total, scale, weight, g, x, needs_weight=False)[0]
    yield ops.gated(x, y)
    yield from ops.gated_backward(g, x, y)
    logits = numbers(64, 5000, dtype=torch.bfloat16)[rows].contiguous()
    uniforms = torch.linspace(0, 0.99, 64, dtype=torch.float64)[rows].contiguous()
    yield from ops.draw(logits, uniforms, 0.9)
    yield from ops.log_softmax_at(logits, torch.arange(64)[rows].contiguous(), 1.0, slope=True)
    yield logits
    query, key, value, keys, values, cos, sin = (one[rows] for one in step_inputs(64, 3, 3, 64, 100, torch.bfloat16))
    lengths = (torch.arange(64) + 20)[rows].contiguous()
    cos, sin, keys, values = (one.contiguous() for one in (cos, sin, keys, values))
    yield ops.rotate(query, cos, sin)
    yield ops.attend_step(query, key, value, cos, sin, keys, values, lengths, column=90, scale=1.0, window=None)


def test_neither_company_nor_threads_change_a_bit() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [list(everything(slice(i, i + 1))) for i in (0, 1, 63)]
        torch.set_num_threads(2)
        together = list(everything(slice(0, 64)))
    finally:
        torch.set_num_threads(threads)
    for i, row in zip((0, 1, 63), alone, strict=True):
        for place, (one, many) in enumerate(zip(row, together, strict=True)):
            assert torch.equal(one[0], many[i]), place


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_weights_do_not_depend_on_threads(threads: int) -> None:
    x, weight, grad = numbers(500, 576), numbers(576, seed=1), numbers(500, 576, seed=2)
    _, _, scale = ops.add_norm(x, None, weight, 1e-5)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = ops.norm_backward(x, scale, weight, grad, None, needs_weight=True)[1]
        torch.set_num_threads(3 - threads)
        assert torch.equal(got, ops.norm_backward(x, scale, weight, grad, None, needs_weight=True)[1])  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)


ASK = "import torch; from plaudit.models.kernels import build; print(build.library() is not None, build.kernels())"


def ask(**environment: str) -> str:
    out = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return out.stdout.strip()


def test_they_are_compiled_once_and_what_is_missing_is_said(tmp_path: Path) -> None:
    path = {"PATH": "/usr/bin:/bin", "PLAUDIT_CACHE": str(tmp_path)}
    assert ask(**path) == "True compiled for this processor"
    (made,) = (tmp_path / "kernels").iterdir()
    when = made.stat().st_mtime_ns
    assert ask(**path) == "True compiled for this processor"
    assert [one.stat().st_mtime_ns for one in (tmp_path / "kernels").iterdir()] == [when]
    assert ask(**path, PLAUDIT_KERNELS="pytorch") == "False PyTorch's, as PLAUDIT_KERNELS asks"
    assert ask(PATH=str(tmp_path), PLAUDIT_CACHE=str(tmp_path)) == "False PyTorch's (no gcc found; with it, faster)"


def test_a_compiler_that_fails_is_named_and_nothing_stops(tmp_path: Path) -> None:
    broken = tmp_path / "gcc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such header" >&2\nexit 1\n')
    broken.chmod(0o755)
    assert (
        ask(PATH=f"{tmp_path}:/usr/bin:/bin", PLAUDIT_CACHE=str(tmp_path))
        == "False PyTorch's (compiling ours failed: no such header)"
    )


@pytest.mark.parametrize("first", ["torch", "sklearn.linear_model"])
def test_pytorchs_openmp_serves_both(first: str) -> None:
    """Two OpenMP libraries would mean two sets of threads that wait for each other on the same cores."""
    program = f"""
import {first}, re, torch
from pathlib import Path
def mapped(): return {{name for name in re.findall(r"/\\S*lib[gi]?omp\\S*", Path("/proc/self/maps").read_text())}}
from plaudit.models.kernels import build, ops
before = mapped()
x = torch.ones(64, 576)
ops.add_norm(x, None, x[0], 1e-5)
print(build._openmp(), build.library() is not None, len(mapped() - before))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert Path(said[0]).is_relative_to(Path(torch.__file__).parent)
    assert said[1:] == ["True", "0"]


def test_without_an_openmp_of_pytorchs_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_openmp", lambda: None)
    build._load.cache_clear()
    try:
        assert build.library() is None
    finally:
        monkeypatch.undo()
        build._load.cache_clear()
    assert build.library() is not None
