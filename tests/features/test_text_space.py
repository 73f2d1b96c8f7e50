"""Places in the text space, the nearest vectors, and cells."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from corella.features.text.cells import assign, fit_centres
from corella.features.text.nearest import nearest
from corella.features.text.space import TextSpace, fit_space


def _unit(size: int, width: int = 8, seed: int = 1) -> npt.NDArray[np.float32]:
    """Rows of length 1 in some thirty clusters."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(30, width))[rng.integers(0, 30, size)] + 0.3 * rng.normal(size=(size, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_nearest_are_those_of_all_cosines() -> None:
    rows = _unit(50)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    found, value = nearest(rows, rows, 5, same=True)
    np.testing.assert_array_equal(found, np.argsort(-cosines, axis=1)[:, :5])
    np.testing.assert_allclose(value, -np.sort(-cosines, axis=1)[:, :5], rtol=1e-5)


def test_cells_find_most_of_the_nearest() -> None:
    rows = _unit(3000)
    exact, _ = nearest(rows, rows, 10, same=True)
    cells, value = nearest(rows, rows, 10, same=True, most=500)
    assert not (cells == np.arange(3000)[:, None]).any()
    assert (np.diff(value, axis=1) <= 0).all()
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), cells.tolist(), strict=True)])
    assert shared > 0.8


def test_no_text_has_no_neighbours_and_is_none() -> None:
    rows = _unit(6)
    rows[2] = 0
    found, value = nearest(rows, rows, 8, same=True)
    assert np.isinf(value[2]).all()
    assert np.isfinite(value[0]).sum() == 4
    assert 2 not in found[0][np.isfinite(value[0])]


def test_a_space_is_kept_and_takes_new_texts(tmp_path: Path) -> None:
    rows = _unit(40)
    space = fit_space(rows, 4, 3)
    space.save(tmp_path / "space.safetensors")
    kept = TextSpace.load(tmp_path / "space.safetensors")
    for name in ("vectors", "near", "nearness"):
        np.testing.assert_array_equal(getattr(kept.places, name), getattr(space.places, name))
    new = kept.new_places(rows[:2])
    np.testing.assert_allclose(new.vectors, space.places.vectors[:2], rtol=1e-5, atol=1e-6)
    assert new.near[:, 0].tolist() == [0, 1]
    assert np.isinf(space.with_unknown.nearness[-1]).all()


def test_cells_hold_what_is_near() -> None:
    rows = _unit(400)
    centres = fit_centres(rows, 30)
    cell = assign(rows, centres)
    distance = ((rows[:, None] - centres) ** 2).sum(2)
    np.testing.assert_array_equal(cell, distance.argmin(1))
    assert distance.min(1).mean() < 0.5 * ((rows - rows.mean(0)) ** 2).sum(1).mean()
    assert len(fit_centres(rows[:3], 8)) == 3
