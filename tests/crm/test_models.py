"""What holds for every conventional model, and DCNv2's cross layer by hand."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from corella.config import Config, CRMConfig
from corella.crm.attention import ActivationUnit, DotAttention
from corella.crm.encoder import CRMBatch, make_encoder
from corella.crm.interactions import Bilinear, SelfAttention
from corella.crm.layers import CRMOutput
from corella.crm.models import MODELS, build_crm
from corella.crm.spec import CRMSpec, make_spec
from corella.data.dataset import Dataset

_VARIANTS = [
    {},
    {"counts": False},
    {"ids": False},
    {"cross_layers": 1, "hidden": [8]},
    {"hidden": []},
    {"embedding_size": 5},
]


@pytest.fixture(scope="module")
def spec(tiny_dataset: Dataset) -> CRMSpec:
    return make_spec(tiny_dataset)


@pytest.fixture(scope="module")
def batch(tiny_dataset: Dataset, spec: CRMSpec) -> CRMBatch:
    rows = np.random.default_rng(0).permutation(tiny_dataset.rows("train"))[:64]
    return make_encoder(spec, tiny_dataset).batch(tiny_dataset.samples(rows))


def _model(spec: CRMSpec, config: CRMConfig, name: str, **settings: object) -> Any:
    """A model with weights at random everywhere: linear parts start at zero, which would hide mistakes."""
    torch.manual_seed(0)
    model = build_crm(spec, config.model_copy(update={"model": name, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def _take(batch: CRMBatch, index: Tensor) -> CRMBatch:
    parts = {name: getattr(batch, name)[index] for name in ("fields", "history", "answers", "counts")}
    return dataclasses.replace(batch, lists=tuple(part[index] for part in batch.lists), **parts)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("settings", _VARIANTS, ids=str)
def test_shapes(name: str, settings: dict[str, object], spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, name, **settings)
    output: CRMOutput = model(batch)
    assert output.logit.shape == (64,)
    assert output.logit.dtype == torch.float32
    assert [tuple(h.shape) for h in output.hidden] == [(64, size) for size in model.hidden_sizes]
    assert output.logit.isfinite().all()
    assert output.logit.std() > 0


@pytest.mark.parametrize("name", ["dcnv2", "autoint", "xdeepfm", "sasrec"])
def test_one_hidden_layer_for_every_cross_layer(name: str, spec: CRMSpec, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, name, cross_layers=4)
    assert len(model.hidden_sizes) == 4


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(
    name: str, counts: bool, spec: CRMSpec, batch: CRMBatch, tiny_config: Config
) -> None:
    model = _model(spec, tiny_config.crm, name, counts=counts).train()
    model(batch).logit.square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_see_its_batch(name: str, spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, name)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    logit = model(batch).logit
    assert torch.allclose(model(_take(batch, order)).logit, logit[order], atol=1e-5)
    assert torch.allclose(model(_take(batch, order[:3])).logit, logit[order[:3]], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_padding_does_not_matter(name: str, spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, name)

    def wider(part: Tensor) -> Tensor:
        return torch.cat([part, torch.full((len(part), 2), spec.offsets["genres"])], 1)

    left = torch.zeros((64, 5), dtype=torch.int64)
    longer = dataclasses.replace(
        batch,
        history=torch.cat([left, batch.history], 1),
        answers=torch.cat([torch.full((64, 5), 2), batch.answers], 1),
        lists=tuple(wider(part) for part in batch.lists),
        seen_lists=tuple(wider(part) for part in batch.seen_lists),
    )
    assert torch.allclose(model(longer).logit, model(batch).logit, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_history_and_answers_matter(name: str, spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, name)
    flipped = torch.where(batch.answers == 2, 2, 1 - batch.answers)
    assert not torch.allclose(model(dataclasses.replace(batch, answers=flipped)).logit, model(batch).logit)
    other = dataclasses.replace(batch, history=batch.history.roll(1, 0))
    assert not torch.allclose(model(other).logit, model(batch).logit)


@pytest.mark.parametrize("name", MODELS)
def test_counts_matter_only_where_they_are_inputs(
    name: str, spec: CRMSpec, batch: CRMBatch, tiny_config: Config
) -> None:
    other = dataclasses.replace(batch, counts=batch.counts + 1)
    for counts in (True, False):
        model = _model(spec, tiny_config.crm, name, counts=counts)
        assert torch.equal(model(other).logit, model(batch).logit) is not counts


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_hidden_at_random_in_training_only(
    name: str, spec: CRMSpec, batch: CRMBatch, tiny_config: Config
) -> None:
    model = _model(spec, tiny_config.crm, name, id_dropout=0.99, dropout=0.0)
    unknown = batch.fields.clone()
    unknown[:, 0], unknown[:, 2] = spec.offsets["user_id"], spec.offsets["item_id"]
    hidden = model(dataclasses.replace(batch, fields=unknown)).logit
    shown = model(batch).logit
    trained = model.train()(batch).logit
    assert not torch.allclose(hidden, shown)
    assert (trained - hidden).abs().median() < 1e-5


def test_cross_layers_by_hand(spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    """x1 = x0 * (W x0 + b) + x0 in two dimensions, and once more."""
    model = _model(spec, tiny_config.crm, "dcnv2", cross_layers=2)

    class Fixed(nn.Module):
        def forward(self, batch: CRMBatch) -> object:
            return dataclasses.make_dataclass("F", ["flat"])(torch.tensor([[2.0, -1.0]]))

    model.embed = Fixed()
    model.deep = nn.Identity()
    model.output = nn.Linear(4, 1)
    layers = []
    for weight, bias in (([[1.0, 2.0], [0.5, 0.0]], [0.0, 1.0]), ([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0])):
        layer = nn.Linear(2, 2)
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        layers.append(layer)
    model.cross = nn.ModuleList(layers)
    nn.init.ones_(model.output.weight)
    nn.init.zeros_(model.output.bias)
    output = model(batch)
    # W x0 + b = (2 - 2 + 0, 1 + 0 + 1) = (0, 2); x1 = (0 + 2, -2 - 1) = (2, -3)
    assert output.hidden[0].tolist() == [[2.0, -3.0]]
    # W x1 + b = (-3 + 1, 2) = (-2, 2); x2 = (-4 + 2, -2 - 3) = (-2, -5)
    assert output.hidden[1].tolist() == [[-2.0, -5.0]]
    assert output.logit.tolist() == [-2.0 - 5.0 + 2.0 - 1.0]


def test_the_history_is_pooled_by_answer(spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    """Liked items, disliked items and answers, each summed by hand over the entries and divided by their number."""
    embed = _model(spec, tiny_config.crm, "dcnv2").embed
    fields = embed(batch).fields
    row = int((batch.answers != 2).sum(1).argmax())
    table, genres = embed.table.weight, spec.offsets["genres"]
    sums = {0: torch.zeros(fields.shape[2]), 1: torch.zeros(fields.shape[2]), "answers": torch.zeros(fields.shape[2])}
    entries = 0
    for place, answer in zip(batch.history[row].tolist(), batch.answers[row].tolist(), strict=True):
        if answer == 2:
            continue
        of_item = [int(g) for g in batch.seen_lists[0][place] if g != genres]
        sums[answer] += table[batch.seen[place]].sum(0) + table[of_item].mean(0)
        sums["answers"] += embed.answer.weight[answer]
        entries += 1
    assert entries > 3
    for place, name in ((-4, 1), (-3, 0), (-2, "answers")):
        assert torch.allclose(fields[row, place], sums[name] / entries, atol=1e-5)


def test_logistic_regression_adds_its_contributions(spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, "lr")
    output = model(batch)
    assert torch.allclose(output.logit, output.hidden[0].sum(1) + model.bias)
    weight = model.linear.weight.weight[:, 0]
    assert torch.equal(output.hidden[0][:, :3], weight[batch.fields])


def test_din_attention_is_a_perceptron_of_the_paper_s_inputs() -> None:
    """The three maps stand for one of [h, t, h - t, h * t]: any such map can be written as them."""
    torch.manual_seed(0)
    unit, first = ActivationUnit(3, 5), nn.Linear(12, 5)
    h, t, minus, product = first.weight.detach().split(3, dim=1)
    unit.history.weight.data, unit.target.weight.data = h + minus, t - minus
    unit.product.weight.data, unit.target.bias.data = product, first.bias.detach()
    target, history = torch.randn(2, 3), torch.randn(2, 4, 3)
    mask = torch.tensor([[False, True, True, True], [False, False, False, False]])
    wide = target[:, None].expand_as(history)
    weight = unit.weight(first(torch.cat([history, wide, history - wide, history * wide], 2)))
    expected = (weight * history * mask[..., None]).sum(1)
    assert torch.allclose(unit(target, history, mask), expected, atol=1e-6)
    assert unit(target, history, mask)[1].tolist() == [0, 0, 0]


def test_dot_attention_is_a_mean_for_a_query_of_zeros() -> None:
    unit = DotAttention(3)
    nn.init.zeros_(unit.query.weight)
    history = torch.randn(1, 4, 3)
    mask = torch.tensor([[False, True, True, False]])
    assert torch.allclose(unit(torch.randn(1, 3), history, mask), history[:, 1:3].mean(1))


def test_factorisation_machine_pairs(spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, "deepfm")
    fields = model.embed(batch).fields
    count = fields.shape[1]
    pairs = sum(fields[:, i] * fields[:, j] for i in range(count) for j in range(i + 1, count))
    assert torch.allclose(model(batch).hidden[0], torch.as_tensor(pairs), atol=1e-5)


def test_bilinear_pairs() -> None:
    torch.manual_seed(0)
    layer, fields = Bilinear(4, 3), torch.randn(2, 4, 3)
    nn.init.normal_(layer.weight)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    expected = torch.stack([(fields[:, i] @ layer.weight[i]) * fields[:, j] for i, j in pairs], 1)
    assert torch.allclose(layer(fields), expected, atol=1e-6)


def test_compressed_interactions(spec: CRMSpec, batch: CRMBatch, tiny_config: Config) -> None:
    model = _model(spec, tiny_config.crm, "xdeepfm", cross_layers=2)
    x0 = model.embed(batch).fields
    first, second = (w.unflatten(1, (-1, x0.shape[1])) for w in model.weights)
    x1 = torch.einsum("hij,bid,bjd->bhd", first, x0, x0)
    x2 = torch.einsum("hij,bid,bjd->bhd", second, x1, x0)
    hidden = model(batch).hidden
    assert torch.allclose(hidden[0], x1.sum(2), atol=1e-5)
    assert torch.allclose(hidden[1], x2.sum(2), atol=1e-5)


def test_self_attention_is_the_paper_s() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(3, 4, heads=2), torch.randn(2, 5, 3)
    q, k, v = layer.qkv(x).chunk(3, dim=2)
    heads = [slice(0, 2), slice(2, 4)]
    mixed = [torch.softmax(q[..., h] @ k[..., h].mT, dim=2) @ v[..., h] for h in heads]
    expected = torch.relu(torch.cat(mixed, dim=2) + layer.residual(x))
    assert torch.allclose(layer(x), expected, atol=1e-6)
