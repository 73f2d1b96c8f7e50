"""The alignment loss is the paper's formula, with the mean over samples."""

import math

import pytest
import torch
from torch import Tensor, nn

from corella.joint.alignment import LayerAlignment, spread_blocks


def _standard(row: list[float]) -> list[float]:
    """Zero mean and unit variance over the width of a hidden state [ours]."""
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in row]


def _project(layer: nn.Linear, row: list[float]) -> list[float]:
    weights, biases = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * x for w, x in zip(ws, row, strict=True)) + b for ws, b in zip(weights, biases, strict=True)]


def _hand(align: LayerAlignment, llm: list[Tensor], crm: list[Tensor], power: float) -> float:
    """sum_j mean_i || g_llm_j(h_llm) - g_crm_j(h_crm) ||_2 ^ a, number by number."""
    total = 0.0
    for g_llm, g_crm, h_llm, h_crm in zip(align.llm, align.crm, llm, crm, strict=True):
        for one, other in zip(h_llm.tolist(), h_crm.tolist(), strict=True):
            left, right = _project(g_llm, _standard(one)), _project(g_crm, _standard(other))  # type: ignore[arg-type]
            total += math.dist(left, right) ** power / len(h_llm)
    return total


@pytest.mark.parametrize("power", [2.0, 1.0, 3.0])
def test_the_formula(power: float) -> None:
    torch.manual_seed(0)
    align = LayerAlignment(5, [3, 4], 6, power)
    llm = [10 * torch.randn(7, 5) for _ in range(2)]
    crm = [torch.randn(7, 3), torch.randn(7, 4) + 1]
    assert align(llm, crm).item() == pytest.approx(_hand(align, llm, crm, power), rel=1e-4)


@pytest.mark.parametrize(("power", "expected"), [(1.0, math.sqrt(2)), (2.0, 4.0), (4.0, 32.0)])
def test_a_known_value(power: float, expected: float) -> None:
    """Both projections the identity, states (1, -1) after normalising: distances sqrt 8 and 0, their mean sqrt 2."""
    align = LayerAlignment(2, [2], 2, power)
    for side in (align.llm[0], align.crm[0]):
        torch.nn.init.eye_(side.weight)
        torch.nn.init.zeros_(side.bias)
    loss = align([torch.tensor([[9.0, 5.0], [300.0, 100.0]])], [torch.tensor([[-2.0, 2.0], [8.0, 4.0]])])
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_scale_of_a_state_does_not_matter() -> None:
    """Otherwise the language model's large states drown the other losses."""
    torch.manual_seed(0)
    align = LayerAlignment(8, [4], 6, 2.0)
    llm, crm = torch.randn(5, 8), torch.randn(5, 4)
    assert align([1000 * llm], [crm]).item() == pytest.approx(align([llm], [crm]).item(), rel=1e-3)


@pytest.mark.parametrize("power", [2.0, 1.0])
def test_gradients_flow_into_both_sides(power: float) -> None:
    torch.manual_seed(0)
    align = LayerAlignment(5, [3], 4, power)
    llm, crm = torch.randn(6, 5, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    align([llm], [crm]).backward()
    for tensor in (llm, crm, *align.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().max() > 0


def test_gradient_is_finite_where_both_sides_meet() -> None:
    align = LayerAlignment(2, [2], 2, 1.0)
    align.crm[0].load_state_dict(align.llm[0].state_dict())
    hidden = torch.randn(3, 2, requires_grad=True)
    align([hidden], [hidden.detach()]).backward()
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_bfloat16_states_are_projected_in_float32() -> None:
    align = LayerAlignment(2, [2], 2, 2.0)
    assert align([torch.ones(3, 2, dtype=torch.bfloat16)], [torch.ones(3, 2)]).dtype == torch.float32


def test_layers_must_match() -> None:
    align = LayerAlignment(2, [2, 2], 2, 2.0)
    with pytest.raises(ValueError, match="shorter"):
        align([torch.ones(1, 2)], [torch.ones(1, 2)] * 2)


@pytest.mark.parametrize(
    ("blocks", "count", "expected"),
    [(30, 3, [10, 20, 30]), (32, 3, [11, 21, 32]), (3, 3, [1, 2, 3]), (2, 3, [1, 1, 2]), (1, 2, [1, 1]), (6, 1, [6])],
)
def test_spread_blocks(blocks: int, count: int, expected: list[int]) -> None:
    assert spread_blocks(blocks, count) == expected
