"""The attention kernel against masked softmax in float64: any groups, heads and widths; the same in any company."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plaudit.models.attention import PackedLayout
from plaudit.models.kernels import products
from plaudit.models.packed_attention import Shape, attend_in_groups, plan_groups, serves

if not products.multiplies(torch.bfloat16, torch.device("cpu")):
    pytest.skip("no attention kernel on this processor", allow_module_level=True)

SCALE = 0.2


def numbers(rows: int, heads: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, heads, width, generator=torch.Generator().manual_seed(seed)).bfloat16()


def inputs(shapes: tuple[Shape, ...], *, kv_heads: int, repeat: int, width: int) -> list[Tensor]:
    """Query, key, value, and the gradient of what comes out."""
    rows = sum(prompt + sum(answers) for prompt, answers in shapes)
    heads = [kv_heads * repeat, kv_heads, kv_heads, kv_heads * repeat]
    return [numbers(rows, count, width, seed) for seed, count in enumerate(heads)]


def exact(shapes: tuple[Shape, ...], query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> list[Tensor]:
    """Attention and its three gradients in float64, one sequence (a prompt and one answer) after the other."""
    q, k, v = (x.double().requires_grad_() for x in (query, key, value))
    repeat, out, start = query.shape[1] // key.shape[1], torch.zeros_like(q), 0
    for prompt, answers in shapes:
        own = start + prompt
        for asked in [(start, own), *_ranges(own, answers)]:
            for i in range(*asked):
                seen = [*range(start, min(own, i + 1)), *(range(asked[0], i + 1) if i >= own else ())]
                looks = torch.einsum("hd,shd->hs", q[i], k[seen].repeat_interleave(repeat, 1)) * SCALE
                mixed = torch.einsum("hs,shd->hd", looks.softmax(-1), v[seen].repeat_interleave(repeat, 1))
                out = out.index_copy(0, torch.tensor([i]), mixed[None])
        start = own + sum(answers)
    out.backward(grad.double())
    return [out.detach(), *(x.grad for x in (q, k, v) if x.grad is not None)]


def _ranges(start: int, lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    found = []
    for length in lengths:
        found.append((start, start + length))
        start += length
    return found


def computed(shapes: tuple[Shape, ...], query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> list[Tensor]:
    q, k, v = (x.clone().requires_grad_() for x in (query, key, value))
    out = attend_in_groups(plan_groups(shapes), q, k, v, scale=SCALE)
    out.backward(grad)
    return [out.detach(), *(x.grad for x in (q, k, v) if x.grad is not None)]


def assert_close(got: list[Tensor], wanted: list[Tensor]) -> None:
    for name, one, other in zip(("out", "query", "key", "value"), got, wanted, strict=True):
        assert one.isfinite().all(), name
        # shares and slopes are rounded to eight bits, as PyTorch's bfloat16 attention rounds them
        # and what is nearly nothing, because a query sees little but one key, keeps the error of what cancelled
        far = (one.double() - other).norm() / max(float(other.norm()), 0.2 * other.numel() ** 0.5)
        assert float(far) < 0.006, (name, float(far))
        assert float((one.double() - other).abs().max()) < 0.02 * max(1.0, float(other.abs().max())), name


GROUPS: dict[str, tuple[Shape, ...]] = {
    "one token": ((1, ()),),
    "no answer": ((15, ()), (16, ()), (17, ())),
    "a pair": ((30, (11, 5)), (7, (1, 70))),
    "over blocks of queries, keys and vectors": ((47, (2,)), (48, (1, 49)), (64, (64, 1)), (63, (66, 3))),
    "many answers, most of them unseen": ((20, (30, 1, 40, 17, 25)),),
    "answers begin before a vector ends": ((3, (5, 4, 6, 50)),),
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(("kv_heads", "repeat", "width"), [(3, 3, 64), (1, 1, 8), (2, 4, 80), (1, 2, 128)])
def test_attention_and_its_gradients(name: str, kv_heads: int, repeat: int, width: int) -> None:
    given_ = inputs(GROUPS[name], kv_heads=kv_heads, repeat=repeat, width=width)
    assert_close(computed(GROUPS[name], *given_), exact(GROUPS[name], *given_))


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_groups(data: st.DataObject) -> None:
    answers = st.lists(st.integers(1, 40), max_size=4).map(tuple)
    shapes = tuple(data.draw(st.lists(st.tuples(st.integers(1, 70), answers), min_size=1, max_size=3)))
    given_ = inputs(
        shapes, kv_heads=1, repeat=data.draw(st.integers(1, 3)), width=data.draw(st.sampled_from([2, 16, 64]))
    )
    assert_close(computed(shapes, *given_), exact(shapes, *given_))


def test_neither_company_nor_threads_change_a_bit() -> None:
    shapes: tuple[Shape, ...] = ((30, (11, 5)), (70, (40,)), (5, ()))
    given_ = inputs(shapes, kv_heads=2, repeat=2, width=64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, start = [], 0
        for shape in shapes:
            stop = start + shape[0] + sum(shape[1])
            alone.append(computed((shape,), *(x[start:stop] for x in given_)))
            start = stop
        torch.set_num_threads(2)
        for _ in range(3):
            together = computed(shapes, *given_)
            for part, pieces in zip(together, zip(*alone, strict=True), strict=True):
                assert torch.equal(part, torch.cat(pieces))
    finally:
        torch.set_num_threads(threads)


def test_large_looks_neither_overflow_nor_vanish() -> None:
    """The softmax then chooses one key, and the query's gradient is nearly nothing."""
    query, *rest = inputs(((40, ()),), kv_heads=1, repeat=1, width=64)
    got, wanted = (how(((40, ()),), 100 * query, *rest) for how in (computed, exact))
    assert all(part.isfinite().all() for part in got)
    torch.testing.assert_close(got[0].double(), wanted[0], rtol=0.01, atol=0.05)
    torch.testing.assert_close(got[3].double(), wanted[3], rtol=0.01, atol=0.05)


def test_what_is_not_a_number_reaches_its_own_group_only() -> None:
    shapes: tuple[Shape, ...] = ((10, ()), (10, ()))
    query, key, value, grad = inputs(shapes, kv_heads=1, repeat=1, width=8)
    query[3, 0, 0] = torch.nan
    out = computed(shapes, query, key, value, grad)[0]
    assert out[3].isnan().all()
    assert out[10:].isfinite().all()


def test_what_it_serves() -> None:
    query = torch.zeros(4, 1, 8, dtype=torch.bfloat16)
    assert serves(query, window=None, softcap=None, longest=4)
    assert serves(query, window=4, softcap=None, longest=4)
    assert not serves(query, window=3, softcap=None, longest=4)
    assert not serves(query, window=None, softcap=2.0, longest=4)
    assert not serves(query.float(), window=None, softcap=None, longest=4)
    assert not serves(query[..., :7], window=None, softcap=None, longest=4)


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (200, None), (20, None), (None, 3.0)])
def test_a_layout_gives_the_same_with_and_without_it(
    window: int | None, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever computes it: the kernel, blocks, or PyTorch's fused attention."""
    shapes: tuple[Shape, ...] = ((30, (11, 5)), (70, (40,)), (5, ()))
    query, key, value, _ = inputs(shapes, kv_heads=2, repeat=2, width=64)
    got = PackedLayout(shapes).attend(0, query, key, value, scale=SCALE, window=window, softcap=softcap)
    monkeypatch.setattr("plaudit.models.attention.serves", lambda *_, **__: False)
    plain = PackedLayout(shapes).attend(0, query, key, value, scale=SCALE, window=window, softcap=softcap)
    torch.testing.assert_close(got.float(), plain.float(), rtol=0.02, atol=0.02)
