import numpy as np
import pytest

from detal.report.projection import evenly_spaced, principal_plane


def test_against_a_singular_value_decomposition(rng: np.random.Generator) -> None:
    features = (rng.normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1]).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    plane = principal_plane(features)
    expected = centred @ rows[:2].T
    found = plane.project(features)
    signs = np.sign((expected * found).sum(axis=0))
    assert found == pytest.approx(expected * signs, abs=1e-5)
    assert plane.explained == pytest.approx(tuple(singular[:2] ** 2 / (singular**2).sum()))
    assert (np.take_along_axis(plane.axes, np.abs(plane.axes).argmax(0)[None], 0) > 0).all()


@pytest.mark.parametrize(
    "features",
    [
        pytest.param(np.ones((5, 3)), id="all-the-same"),
        pytest.param(np.ones((1, 3)), id="one"),
        pytest.param(np.zeros((0, 3)), id="none"),
        pytest.param(np.zeros((4, 3)), id="zeros"),
    ],
)
def test_nothing_to_tell_apart(features: np.ndarray) -> None:
    plane = principal_plane(features.astype(np.float32))
    assert plane.explained == (0.0, 0.0)
    assert not plane.project(features.astype(np.float32)).any()


def test_one_dimension() -> None:
    plane = principal_plane(np.array([[1.0], [-1], [1], [-1]], dtype=np.float32))
    assert plane.explained == (1.0, 0.0)
    assert plane.project(np.array([[3.0]], dtype=np.float32)).tolist() == [[1.0, 0.0]]


def test_what_is_not_finite_has_no_place(rng: np.random.Generator) -> None:
    features = rng.normal(size=(6, 3)).astype(np.float32)
    features[2, 0] = np.nan
    places = principal_plane(features).project(features)
    assert np.isnan(places[2]).all()
    assert np.isfinite(np.delete(places, 2, axis=0)).all()


@pytest.mark.parametrize(
    ("number", "most", "rows"),
    [(0, 3, []), (2, 3, [0, 1]), (5, 3, [0, 2, 4]), (10, 1, [0])],
)
def test_evenly_spaced(number: int, most: int, rows: list[int]) -> None:
    assert evenly_spaced(number, most).tolist() == rows
