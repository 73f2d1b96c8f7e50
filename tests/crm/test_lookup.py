"""Lookups and their gradients are those of torch; attention's one pass is that of autograd; dropout is unbiased."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from corella.crm.attention import DotAttention
from corella.crm.encoder import distinct
from corella.crm.layers import Dropout
from corella.crm.lookup import rows, sorted_by_row, sums


@given(st.lists(st.integers(0, 200_000), max_size=60), st.integers(0, 5))
def test_places_are_sorted_by_row(found: list[int], more: int) -> None:
    row = np.array(found, np.int64)
    count = max(found, default=0) + 1 + more
    order, start = sorted_by_row(row, count)
    assert np.array_equal(order, np.argsort(row, kind="stable"))
    assert np.array_equal(start, np.searchsorted(np.sort(row), np.arange(count)))


@pytest.mark.parametrize("count", [7, 70_000])
def test_the_gradient_of_rows_is_torch_s(count: int) -> None:
    torch.manual_seed(0)
    index = torch.randint(count, (5, 30))
    table, weight = torch.randn(count, 16, requires_grad=True), torch.randn(5, 30, 16)
    plain = nn.functional.embedding(index, table)
    assert torch.equal(rows(table, index), plain)
    (expected,) = torch.autograd.grad((plain * weight).sum(), table)
    (found,) = torch.autograd.grad((rows(table, index) * weight).sum(), table)
    assert torch.allclose(found, expected, atol=1e-6)


def test_sums_and_their_gradient_by_autograd() -> None:
    torch.manual_seed(0)
    table, index = torch.randn(7, 3, requires_grad=True), torch.randint(7, (20,))
    weight, start = torch.rand(20), torch.tensor([0, 1, 1, 9])  # one run of nothing
    ends = [1, 1, 9, 20]
    spans = list(zip(start.tolist(), ends, strict=True))
    plain = torch.stack([(table[index[a:b]] * weight[a:b, None]).sum(0) for a, b in spans])
    found = sums(table, index, weight, start)
    assert torch.allclose(found, plain, atol=1e-6)
    back = torch.randn(4, 3)
    of_found, of_plain = (torch.autograd.grad((value * back).sum(), table)[0] for value in (found, plain))
    assert torch.allclose(of_found, of_plain, atol=1e-6)
    with torch.inference_mode():
        assert torch.equal(sums(table, index, weight, start), found)


def test_dot_attention_and_its_gradients_by_autograd() -> None:
    torch.manual_seed(0)
    unit, fixed = DotAttention(4), torch.rand(3, 2, 5)
    target, history = torch.randn(3, 4, requires_grad=True), torch.randn(3, 5, 4, requires_grad=True)
    mask = torch.tensor([[True] * 5, [False, False, True, True, True], [False] * 5])

    def plain() -> Tensor:
        score = torch.einsum("bd,bld->bl", unit.query(target), history) / 2
        own = torch.softmax(score.masked_fill(~mask, -1e4), dim=1) * mask
        return torch.einsum("bkl,bld->bkd", torch.cat([fixed, own[:, None]], 1), history)

    back, inputs = torch.randn(3, 3, 4), [target, history, unit.query.weight]
    found = unit.sums(target, history, mask, fixed)
    assert torch.allclose(found, plain(), atol=1e-6)
    pairs: list[Any] = [torch.autograd.grad((value * back).sum(), inputs) for value in (found, plain())]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*pairs, strict=True))
    assert unit(target, history, mask)[2].tolist() == [0, 0, 0, 0]


@given(st.lists(st.integers(-1, 8), max_size=40))
def test_distinct_codes_without_a_sort(codes: list[int]) -> None:
    found, place = distinct(np.array(codes, np.int64), 10)
    assert sorted(found.tolist()) == sorted(set(codes))
    assert found[place].tolist() == codes


def test_dropout_hides_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.2), torch.ones(1001, 301, requires_grad=True)
    found = layer(x)
    values = found.detach().unique()
    assert torch.allclose(values, torch.tensor([0.0, 1.25]), atol=1e-4)
    assert abs(float((found == 0).float().mean()) - 0.2) < 0.003
    assert abs(float(found.detach().mean()) - 1) < 0.004
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.equal(gradient, found.detach())
    torch.manual_seed(0)
    assert torch.equal(layer(x), found)
    assert not torch.equal(layer(x), found)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
