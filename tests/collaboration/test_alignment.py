"""The alignment loss is the paper's formula, with the mean over samples."""

import pytest
import torch

from corella.collaboration.alignment import LayerAlignment, spread_blocks


def _hand(align: LayerAlignment, llm: list[torch.Tensor], crm: list[torch.Tensor], power: float) -> float:
    """sum_j mean_i || W_j h_llm + b_j - (V_j h_crm + c_j) ||_2 ^ a, entry by entry."""
    total = 0.0
    for j in range(len(llm)):
        for i in range(len(llm[j])):
            squares = 0.0
            for k in range(align.llm[j].weight.shape[0]):
                left = sum(align.llm[j].weight[k, d] * llm[j][i, d] for d in range(llm[j].shape[1]))
                right = sum(align.crm[j].weight[k, d] * crm[j][i, d] for d in range(crm[j].shape[1]))
                squares += float(left + align.llm[j].bias[k] - right - align.crm[j].bias[k]) ** 2
            total += squares ** (power / 2) / len(llm[j])
    return total


@pytest.mark.parametrize("power", [2.0, 1.0, 3.0])
def test_the_formula(power: float) -> None:
    torch.manual_seed(0)
    align = LayerAlignment(5, [3, 4], 6, power)
    llm = [torch.randn(7, 5) for _ in range(2)]
    crm = [torch.randn(7, 3), torch.randn(7, 4)]
    assert float(align(llm, crm)) == pytest.approx(_hand(align, llm, crm, power), rel=1e-4)


def test_a_known_value() -> None:
    """Both projections the identity: distances 5 and 0, their mean 2.5, of squares 12.5."""
    for power, expected in ((1.0, 2.5), (2.0, 12.5)):
        align = LayerAlignment(2, [2], 2, power)
        for side in (align.llm[0], align.crm[0]):
            torch.nn.init.eye_(side.weight)
            torch.nn.init.zeros_(side.bias)
        loss = align([torch.tensor([[3.0, 4.0], [1.0, 1.0]])], [torch.tensor([[0.0, 0.0], [1.0, 1.0]])])
        assert float(loss) == pytest.approx(expected, abs=1e-5)


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
