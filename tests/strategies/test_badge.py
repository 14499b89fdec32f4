from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.features.embeddings import class_gradients
from detal.strategies import Candidates, make_strategy
from detal.strategies.gradients import Gradients, Rows, Sketch
from detal.structures import Budget, Detections
from tests.features.factories import detections_of, softmax_of
from tests.strategies.factories import pool_of, random_pool, with_details


def whole(pool: Candidates) -> Detections:
    return pool.take(np.arange(len(pool)))


def dense(seen: Detections) -> np.ndarray:
    """(N, C * D) gradients of the boxes, formed."""
    assert seen.object_features is not None
    product = class_gradients(seen)[:, :, None] * seen.object_features[:, None, :]
    return product.flatten(1).double().numpy()


def pooled(seen: Detections, pooling: str) -> np.ndarray:
    """(B, C * D) gradients of the images with boxes, formed."""
    image, gradients = seen.image_index.numpy(), dense(seen)
    parts = [gradients[image == i] for i in range(len(seen)) if (image == i).any()]
    return np.stack([p.sum(axis=0) if pooling == "sum" else p.mean(axis=0) for p in parts])


def factors(seen: Detections, pooling) -> Gradients:
    sketch = Sketch(np.random.default_rng(0))
    image = np.unique(seen.image_index.numpy(), return_inverse=True)[1]
    return Gradients(sketch.of(seen, pooling), image, sketch, pooling)


def test_gradient_and_inner_product_by_hand() -> None:
    """Residuals (-0.5, 0.2, 0.3) and (0.2, -0.4, 0.2), features (2, 0) and (1, 1).

    Inner product (-0.1 - 0.08 + 0.06) * 2 = -0.24; squared norms 0.38 * 4 and 0.24 * 2.
    """
    seen = replace(
        softmax_of([[0.5, 0.2, 0.3], [0.2, 0.6, 0.2]]),
        object_features=torch.tensor([[2.0, 0.0], [1.0, 1.0]]),
    )
    rows = Sketch(np.random.default_rng(0)).of(seen, None)
    assert rows.inner(rows)[0, 1] == pytest.approx(-0.24, abs=1e-6)
    assert rows.squared_norms() == pytest.approx([1.52, 0.48], abs=1e-6)


@pytest.mark.parametrize("pooling", [None, "sum", "mean"])
def test_factors_equal_formed_gradients(pooling, monkeypatch) -> None:
    monkeypatch.setattr("detal.strategies.gradients._BLOCK", 7)
    monkeypatch.setattr("detal.strategies.gradients._GRAM", 5)
    seen = whole(random_pool(25))
    full = dense(seen) if pooling is None else pooled(seen, pooling)
    gradients = factors(seen, pooling)
    assert gradients.squared == pytest.approx((full**2).sum(axis=1), rel=1e-4)
    gradients.close(3, taken=True)
    gradients.close(8, taken=True)
    gradients.close(5, taken=False)
    assert gradients.nearest is not None
    centres = full[np.isin(gradients.item_image, [3, 8])]
    expected = ((full[:, None] - centres[None]) ** 2).sum(axis=2).min(axis=1)
    assert gradients.nearest == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("pooling", [None, "sum"])
def test_labelled_images_as_centres_equal_formed_gradients(pooling) -> None:
    pool = random_pool(12)
    assert pool.labeled.detections is not None
    seen, known = whole(pool), pool.labeled.detections()
    gradients = factors(seen, pooling)
    gradients.cover_all(known)
    mine, other = (dense(d) if pooling is None else pooled(d, pooling) for d in (seen, known))
    expected = ((mine[:, None] - other[None]) ** 2).sum(axis=2).min(axis=1)
    assert gradients.nearest == pytest.approx(expected, abs=1e-4)


def naive_badge(pool: Candidates, k: int, level: str, pooling: str, seed: int) -> list[int]:
    """k-means++ on formed gradients with the same draws."""
    rng = np.random.default_rng(seed)
    rng.permutation(len(pool))
    seen = whole(pool)
    image = seen.image_index.numpy()
    points = dense(seen) if level == "object" else pooled(seen, pooling)
    items = image if level == "object" else np.unique(image)
    mass, picked = (points**2).sum(axis=1), list[int]()
    nearest = np.full(len(points), np.inf)
    while len(picked) < k:
        share = np.where(np.isin(items, picked), 0.0, mass).cumsum()
        draw = (
            int(mass.argmax()) if not picked else int((share > rng.random() * share[-1]).argmax())
        )
        picked.append(int(items[draw]))
        for centre in points[items == picked[-1]]:
            nearest = np.minimum(nearest, ((points - centre) ** 2).sum(axis=1))
        mass = nearest
    return picked


@pytest.mark.parametrize(
    ("level", "pooling"), [("object", "sum"), ("image", "sum"), ("image", "mean")]
)
@pytest.mark.parametrize("seed", range(4))
def test_badge_is_k_means_plus_plus_on_the_gradients(level, pooling, seed: int) -> None:
    pool = random_pool(40, seed=seed)
    strategy = make_strategy("badge", level=level, pooling=pooling)
    rng = np.random.default_rng(seed)
    selection = strategy.query(pool, budget=Budget(8), rng=rng)
    expected = naive_badge(pool, 8, level, pooling, seed)
    assert list(selection.image_ids) == list(pool.image_ids[expected])
    assert "is the largest" in selection.reasons[0]
    assert "drawn at distance" in selection.reasons[1]


def test_images_turned_down_are_no_centres() -> None:
    """The image of the full group is no centre: its twin in no group can still be drawn."""
    images = [[(0, 0.3)], [(0, 0.49)], [(0, 0.3)]]
    pool = pool_of(images, groups=["a", "a", None], features=np.eye(3))
    strategy = make_strategy("badge")
    selection = strategy.query(pool, budget=Budget(3), rng=np.random.default_rng(0), per_group=1)
    assert selection.image_ids[0] == "001"  # the most doubtful
    assert set(selection.image_ids) == {"001", "002"}
    assert "drawn at distance" in selection.reasons[1]


def test_labelled_gradients_are_covered() -> None:
    """The only other gradient than the labelled one comes first, though it is smaller."""
    pool = pool_of([[(0, 0.7)], [(1, 0.9)]], labeled=np.eye(1, 3), features=np.eye(2, 3))
    first = [
        make_strategy("badge", labeled=labeled)
        .query(pool, budget=Budget(1), rng=np.random.default_rng(0))
        .image_ids
        for labeled in (False, True)
    ]
    assert first == [("000",), ("001",)]


def test_only_as_many_boxes_as_allowed_take_part() -> None:
    pool = random_pool(60)
    strategy = make_strategy("badge", max_boxes=10)
    selection = strategy.query(pool, budget=Budget(60), rng=np.random.default_rng(0))
    drawn = ["gradient is" not in reason for reason in selection.reasons]
    counts = dict(zip(pool.image_ids, whole(pool).counts.tolist(), strict=True))
    taking_part = [i for i, d in zip(selection.image_ids, drawn, strict=True) if d]
    assert 0 < sum(counts[i] for i in taking_part) <= 10
    assert len(selection) == 60


def test_one_crowded_image_may_exceed_the_boxes_alone() -> None:
    pool = pool_of([[(0, 0.5)] * 9])
    strategy = make_strategy("badge", max_boxes=2)
    selection = strategy.query(pool, budget=Budget(1), rng=np.random.default_rng(0))
    assert "is the largest" in selection.reasons[0]


def test_wide_features_are_projected_with_their_inner_products_kept() -> None:
    rng = np.random.default_rng(0)
    seen = replace(
        with_details(detections_of([[(i % 300, 0.4)] for i in range(20)], num_classes=300)),
        object_features=torch.tensor(rng.normal(size=(20, 900)) + 1, dtype=torch.float32),
    )
    rows = Sketch(rng).of(seen, None)
    assert rows.residual.shape == rows.feature.shape == (20, 256)
    full = dense(seen)
    exact, sketched = full @ full.T, rows.inner(rows)
    scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert np.abs((sketched - exact) / scale).max() < 0.4
    assert isinstance(rows, Rows)


@pytest.mark.parametrize("field", ["logits", "object_features"])
def test_nan_is_refused_with_the_image_named(field: str) -> None:
    seen = with_details(detections_of([[(0, 0.5)], [(1, 0.6), (2, 0.3)], [(0, 0.4)]]))
    getattr(seen, field)[2] = torch.nan
    pool = Candidates.from_detections(["a", "b", "c"], seen, class_names=("x", "y", "z"))
    with pytest.raises(DataError, match=r"must be a number.*image 'b'; 1 of 3 images"):
        make_strategy("badge").query(pool, budget=Budget(1), rng=np.random.default_rng(0))


def test_needs_object_features() -> None:
    pool = Candidates.from_detections(
        ["a"], detections_of([[(0, 0.5)]]), class_names=("x", "y", "z")
    )
    with pytest.raises(ConfigError, match="`badge` needs a feature for each box"):
        make_strategy("badge").query(pool, budget=Budget(1), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"level": "imge"}, r"unknown level of badge 'imge': did you mean image\?"),
        ({"pooling": "max"}, r"unknown pooling of badge 'max'"),
        ({"max_boxes": 0}, r"max_boxes of badge must be an integer >= 1, got 0"),
        ({"max_boxes": True}, r"max_boxes of badge must be an integer >= 1, got True"),
    ],
)
def test_wrong_options(options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_strategy("badge", **options)
