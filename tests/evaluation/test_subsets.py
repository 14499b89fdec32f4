from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.errors import ConfigError, DataError
from detal.evaluation.coco import coco_metrics
from detal.evaluation.match_table import MatchTable, build_match_table, rescored
from detal.evaluation.metrics import AREA_RANGES
from detal.evaluation.predictions import Predictions
from detal.evaluation.subsets import (
    batch_class_ap,
    batch_class_recall,
    batch_mean_ap,
    class_ap,
    image_weights,
    metrics,
    rescored_class_ap,
)
from detal.structures import Annotations
from tests.evaluation.worlds import largest_difference, make_truth, random_world

TOLERANCE = 1e-9
BOX = [0.0, 0.0, 40.0, 40.0]
FAR = [100.0, 100.0, 140.0, 140.0]

worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "num_images": st.integers(1, 9),
        "num_classes": st.integers(1, 5),
        "max_truth": st.integers(0, 8),
        "max_found": st.sampled_from([0, 3, 20, 50]),
        "tied_scores": st.booleans(),
    }
)
few = settings(max_examples=25, deadline=None, derandomize=True)


def random_weights(
    rng: np.random.Generator, annotations: Annotations, *, sets: int, most: int
) -> np.ndarray:
    """Sets of images, the empty one and the full one among them."""
    weights = rng.integers(0, most + 1, (sets, len(annotations)))
    weights[0] = 0
    weights[-1] = 1
    return weights


def naive_class_ap(
    annotations: Annotations, predictions: Predictions, weights: np.ndarray, num_classes: int
) -> np.ndarray:
    """Each set as a dataset of its own, with as many copies of an image as it counts."""
    aps = []
    for row in weights:
        copies = np.repeat(np.arange(len(row)), row)
        table = build_match_table(
            annotations.take(copies), predictions.take(copies), num_classes=num_classes
        )
        aps.append(class_ap(table))
    return np.array(aps)


@few
@given(worlds, st.sampled_from([1, 3]))
def test_sets_and_multisets_equal_pycocotools(world, most):
    annotations, predictions = random_world(**world)
    names = [str(c) for c in range(world["num_classes"])]
    table = build_match_table(annotations, predictions, num_classes=len(names))
    rng = np.random.default_rng(world["seed"])
    weights = random_weights(rng, annotations, sets=11, most=most)  # more than one block
    ap = batch_class_ap(table, weights)
    recall = batch_class_recall(table, weights, max_detections=10)
    small = batch_mean_ap(table, weights, area="small")
    for k, row in enumerate(weights[:4]):
        copies = np.repeat(np.arange(len(row)), row)
        expected = coco_metrics(
            annotations.take(copies), predictions.take(copies), class_names=names
        )
        np.testing.assert_allclose(ap[k].mean(axis=1), expected.class_ap, atol=TOLERANCE)
        np.testing.assert_allclose(ap[k, :, 0], expected.class_ap50, atol=TOLERANCE)
        np.testing.assert_allclose(small[k], expected.ap_small, atol=TOLERANCE)
        known = ~np.isnan(recall[k, :, 0])
        if known.any():
            assert recall[k][known].mean() == pytest.approx(expected.ar10, abs=TOLERANCE)
    np.testing.assert_allclose(
        ap, naive_class_ap(annotations, predictions, weights, len(names)), atol=TOLERANCE
    )


@few
@given(worlds, st.sampled_from([1, 3]), st.sampled_from(list(AREA_RANGES)))
def test_threads_dtypes_and_devices_agree(world, most, area):
    annotations, predictions = random_world(**world)
    table = build_match_table(annotations, predictions, num_classes=world["num_classes"])
    rng = np.random.default_rng(world["seed"])
    weights = random_weights(rng, annotations, sets=19, most=most)
    ap = batch_class_ap(table, weights, area=area)
    recall = batch_class_recall(table, weights, area=area, max_detections=2)
    ways: list[tuple[np.ndarray, dict[str, Any]]] = [
        (weights.astype(np.uint8), {}),
        (weights, {"workers": 3}),
        (weights, {"device": "cpu"}),
    ]
    for other, options in ways:
        np.testing.assert_allclose(
            batch_class_ap(table, other, area=area, **options), ap, atol=1e-12
        )
        np.testing.assert_allclose(
            batch_class_recall(table, other, area=area, max_detections=2, **options),
            recall,
            atol=1e-12,
        )
    if most == 1:
        np.testing.assert_array_equal(batch_class_ap(table, weights > 0, area=area), ap)


@few
@given(worlds, st.sampled_from([2, 100]), st.booleans())
def test_rescored_equals_pycocotools_and_a_table_built_anew(world, max_detections, some):
    annotations, predictions = random_world(**world)
    names = [str(c) for c in range(world["num_classes"])]
    table = build_match_table(
        annotations, predictions, num_classes=len(names), max_detections=max_detections
    )
    rng = np.random.default_rng(world["seed"])
    n = len(predictions.scores)
    detections = rng.permutation(n)[: rng.integers(0, n + 1)] if some else None
    new = np.round(rng.normal(0, 1, n if detections is None else len(detections)), 1)
    scores = predictions.scores.copy()
    scores[slice(None) if detections is None else detections] = new
    other = Predictions(predictions.offsets, predictions.boxes, scores, predictions.labels)
    anew = build_match_table(
        annotations, other, num_classes=len(names), max_detections=max_detections
    )
    again = rescored(table, new, detections=detections)
    for name in ("rows", "ranks", "scores", "outcome"):
        np.testing.assert_array_equal(getattr(again, name), getattr(anew, name))
    if max_detections == 100:
        expected = coco_metrics(annotations, other, class_names=names)
        assert largest_difference(metrics(again), expected) < TOLERANCE
    ways: list[dict[str, Any]] = [{"workers": 2}, {"device": "cpu"}]
    for options in ways:
        ap = rescored_class_ap(table, np.stack([scores, predictions.scores]), **options)
        np.testing.assert_allclose(ap, [class_ap(anew), class_ap(table)], atol=1e-12)


def crossing() -> tuple[Annotations, Predictions]:
    """Two detections that compete for one box: the first overlaps it less."""
    loose = [0.0, 0.0, 40.0, 22.0]
    return make_truth([[BOX]], [[0]]), Predictions.from_lists(
        [[loose, BOX]], [[0.9, 0.8]], [[0, 0]]
    )


def test_another_order_is_matched_again():
    """The loose box (IoU 0.55) took the object at 0.50 and 0.55; second, it takes nothing."""
    table = build_match_table(*crossing(), num_classes=1)
    assert table.outcome[0, :2].tolist() == [[1, -1], [1, -1]]
    assert batch_mean_ap(table, np.ones((1, 1), int))[0] == pytest.approx((2 * 1 + 8 * 0.5) / 10)
    again = rescored(table, np.array([0.7]), detections=np.array([0]))
    assert again.rows.tolist() == [1, 0]
    assert again.outcome[0].tolist() == [[1, -1]] * 10
    assert batch_mean_ap(again, np.ones((1, 1), int))[0] == pytest.approx(1.0)
    assert table.rows.tolist() == [0, 1]


def test_a_detection_beyond_the_limit_counts_once_it_is_among_the_best():
    annotations = make_truth([[BOX]], [[0]])
    predictions = Predictions.from_lists([[FAR, BOX]], [[0.9, 0.8]], [[0, 0]])
    table = build_match_table(annotations, predictions, num_classes=1, max_detections=1)
    assert class_ap(table).tolist() == [[0.0] * 10]
    again = rescored(table, np.array([0.95]), detections=np.array([1]))
    assert again.rows.tolist() == [1]
    np.testing.assert_allclose(class_ap(again), 1.0)


def test_ties_of_copies_come_copy_by_copy():
    """Hit, miss, hit of one score, twice: best precision 1, then 3 / 4, then 4 / 6."""
    annotations = make_truth([[BOX, FAR], []], [[0, 0], []])
    miss = [200.0, 200.0, 220.0, 220.0]
    predictions = Predictions.from_lists(
        [[BOX, miss, FAR], []], [[0.5, 0.5, 0.5], []], [[0, 0, 0], []]
    )
    table = build_match_table(annotations, predictions, num_classes=1)
    twice = (26 * 1 + 50 * 3 / 4 + 25 * 4 / 6) / 101
    once = (51 * 1 + 50 * 2 / 3) / 101
    for device in (None, "cpu"):
        ap = batch_mean_ap(table, np.array([[2, 1], [1, 0]]), device=device)
        assert ap.tolist() == pytest.approx([twice, once], abs=1e-12)


def test_ignored_detections_are_left_out_of_precision():
    """A crowd between two classes' hits: the detection on it is neither right nor wrong."""
    annotations = make_truth(
        [[BOX, FAR, BOX]], [[0, 0, 1]], is_crowd=[[False, True, False]], areas=[[1600] * 3]
    )
    predictions = Predictions.from_lists(
        [[FAR, BOX, FAR, BOX]], [[0.9, 0.5, 0.9, 0.5]], [[0, 0, 1, 1]]
    )
    table = build_match_table(annotations, predictions, num_classes=2)
    for device in (None, "cpu"):
        ap = batch_class_ap(table, np.ones((1, 1), bool), device=device)[0]
        np.testing.assert_allclose(ap, [[1.0] * 10, [0.5] * 10])


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize(
    ("num_images", "num_classes", "sets"),
    [
        pytest.param(0, 1, 2, id="no-image"),
        pytest.param(3, 0, 2, id="no-class"),
        pytest.param(3, 2, 0, id="no-set"),
        pytest.param(3, 2, 9, id="nothing-found"),
    ],
)
def test_shapes_of_nothing(num_images, num_classes, sets, device):
    nothing: list[list[float]] = [[] for _ in range(num_images)]
    table = build_match_table(
        make_truth(nothing, nothing),
        Predictions.from_lists(nothing, nothing, nothing),
        num_classes=num_classes,
    )
    weights = np.ones((sets, num_images), dtype=int)
    for figure in (batch_class_ap, batch_class_recall):
        values = figure(table, weights, device=device)
        assert values.shape == (sets, num_classes, 10)
        assert np.isnan(values).all()
    assert np.isnan(batch_mean_ap(table, weights, device=device)).all()
    assert rescored(table, np.zeros(0)).rows.tolist() == []


def test_three_thousand_classes_in_blocks():
    annotations, predictions = random_world(
        0, num_images=30, num_classes=3000, max_truth=40, max_found=60
    )
    table = build_match_table(annotations, predictions, num_classes=3000)
    weights = np.random.default_rng(0).integers(0, 2, (9, 30))
    ap = batch_class_ap(table, weights)
    np.testing.assert_allclose(
        ap, naive_class_ap(annotations, predictions, weights, 3000), atol=TOLERANCE
    )


def test_image_weights_count_repeats():
    weights = image_weights([[2, 0, 2], [], np.array([1])], num_images=3)
    assert weights.tolist() == [[1, 0, 2], [0, 0, 0], [0, 1, 0]]
    with pytest.raises(DataError, match=r"must lie in 0\.\.2, got 3"):
        image_weights([[0], [3]], num_images=3)


@pytest.fixture
def table() -> MatchTable:
    return build_match_table(*crossing(), num_classes=1)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        pytest.param(np.ones(1, int), r"must be \(S, 1\), got \(1,\)", id="one-axis"),
        pytest.param(np.ones((2, 3), int), r"must be \(S, 1\), got \(2, 3\)", id="other-images"),
        pytest.param(np.ones((2, 1)), "integers >= 0 or bool, got float64", id="float"),
        pytest.param(-np.ones((2, 1), int), "got int64 from -1", id="negative"),
    ],
)
def test_unusable_weights_are_refused(table, weights, message):
    with pytest.raises(DataError, match=message):
        batch_mean_ap(table, weights)


def test_unknown_area_is_refused(table):
    with pytest.raises(ConfigError, match="did you mean large"):
        batch_mean_ap(table, np.ones((1, 1), int), area="larg")


@pytest.mark.parametrize(
    ("scores", "detections", "message"),
    [
        pytest.param([0.1], None, r"must be finite and \(2,\).*got shape \(1,\)", id="too-few"),
        pytest.param([0.1, np.nan], None, "must be finite", id="nan"),
        pytest.param([0.1], [2], r"detections must lie in 0\.\.1, got 2", id="no-such-detection"),
        pytest.param([0.1, 0.2], [1, 1], "given more than once: 1", id="twice"),
    ],
)
def test_unusable_scores_are_refused(table, scores, detections, message):
    with pytest.raises(DataError, match=message):
        rescored(table, np.array(scores), detections=detections)
