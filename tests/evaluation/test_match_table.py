import json
import math

import numpy as np
import pytest

from detal.errors import ConfigError, DataError
from detal.evaluation.coco import coco_metrics
from detal.evaluation.match_table import build_match_table
from detal.evaluation.metrics import AREA_RANGES
from detal.evaluation.predictions import Predictions
from detal.evaluation.subsets import class_ap, mean_ap, metrics
from tests.evaluation.worlds import (
    jittered,
    largest_difference,
    make_truth,
    random_world,
    read_coco,
)

TOLERANCE = 1e-9
BOX = [0.0, 0.0, 40.0, 40.0]


@pytest.mark.parametrize("tied_scores", [True, False], ids=["ties", "no-ties"])
@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools_on_sets_subsets_and_multisets(seed, tied_scores):
    """Crowds, areas that differ from the boxes', all ranges, maxDets 1, 10 and 100."""
    rng = np.random.default_rng(seed)
    num_images, num_classes = int(rng.integers(1, 10)), int(rng.integers(1, 5))
    annotations, predictions = random_world(
        seed,
        num_images=num_images,
        num_classes=num_classes,
        max_truth=int(rng.integers(0, 8)),
        max_found=int(rng.choice([0, 3, 20, 60])),
        tied_scores=tied_scores,
    )
    names = [str(c) for c in range(num_classes)]
    table = build_match_table(annotations, predictions, num_classes=num_classes)
    assert (
        largest_difference(
            metrics(table), coco_metrics(annotations, predictions, class_names=names)
        )
        < TOLERANCE
    )
    subset = rng.permutation(num_images)[: rng.integers(0, num_images + 1)]
    assert (
        largest_difference(
            metrics(table, subset),
            coco_metrics(annotations, predictions, class_names=names, images=subset),
        )
        < TOLERANCE
    )
    multiset = np.sort(rng.integers(0, num_images, num_images))
    assert (
        largest_difference(
            metrics(table, multiset),
            coco_metrics(annotations.take(multiset), predictions.take(multiset), class_names=names),
        )
        < TOLERANCE
    )


def test_equals_pycocotools_beyond_100_detections_of_a_class():
    annotations, predictions = random_world(0, num_images=3, num_classes=2, max_found=700)
    assert np.diff(predictions.offsets).max() > 250
    table = build_match_table(annotations, predictions, num_classes=2)
    assert table.ranks[table.rows].max() == 99
    expected = coco_metrics(annotations, predictions, class_names=["a", "b"])
    assert largest_difference(metrics(table), expected) < TOLERANCE


@pytest.mark.parametrize(
    ("truth", "found"),
    [
        pytest.param(
            "coco_val2014_100/instances_val2014_100.json",
            "coco_val2014_100/instances_val2014_fakebbox100_results.json",
            id="coco-crowds",
        ),
        pytest.param(
            "padilla_coco_eval/gts/sampled_gts_bbox_area.json",
            "padilla_coco_eval/cocoapi_results.json",
            id="box-areas",
        ),
        pytest.param(
            "faster_coco_eval/gt_dataset.json", "faster_coco_eval/dt_dataset.json", id="faster"
        ),
    ],
)
def test_equals_pycocotools_on_reference_files(shared_data, truth, found):
    folder = shared_data / "map_reference"
    annotations, predictions, names = read_coco(folder / truth, folder / found)
    table = build_match_table(annotations, predictions, num_classes=len(names))
    assert (
        largest_difference(
            metrics(table), coco_metrics(annotations, predictions, class_names=names)
        )
        < TOLERANCE
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        subset = rng.permutation(len(annotations))[: max(1, len(annotations) // 3)]
        expected = coco_metrics(annotations, predictions, class_names=names, images=subset)
        assert largest_difference(metrics(table, subset), expected) < TOLERANCE


def test_meets_the_published_figure(shared_data):
    folder = shared_data / "map_reference"
    case = folder / "coco_val2014_100"
    annotations, predictions, names = read_coco(
        case / "instances_val2014_100.json", case / "instances_val2014_fakebbox100_results.json"
    )
    expected = json.loads((folder / "expected_pycocotools.json").read_text())
    table = build_match_table(annotations, predictions, num_classes=len(names))
    assert mean_ap(table) == pytest.approx(expected[case.name]["summary"]["AP"], abs=1e-9)


def test_equals_pycocotools_on_coco_photos_with_crowds(shared_data):
    annotations, _, names = read_coco(shared_data / "coco125" / "instances.json", None)
    assert annotations.is_crowd.sum() == 14
    predictions = jittered(annotations, num_classes=len(names), seed=0)
    table = build_match_table(annotations, predictions, num_classes=len(names))
    expected = coco_metrics(annotations, predictions, class_names=names)
    assert 0.2 < expected.mean_ap < 0.9
    assert largest_difference(metrics(table), expected) < TOLERANCE


def test_three_thousand_classes_keep_the_precision():
    annotations, predictions = random_world(
        0, num_images=60, num_classes=3000, max_truth=40, max_found=60
    )
    table = build_match_table(annotations, predictions, num_classes=3000)
    images = list(range(0, 60, 7))
    few = build_match_table(annotations.take(images), predictions.take(images), num_classes=3000)
    np.testing.assert_allclose(class_ap(table, images), class_ap(few), atol=TOLERANCE)
    one = annotations.labels[0]
    mask = predictions.labels == one
    offsets = np.concatenate(
        [[0], np.cumsum(np.bincount(predictions.image_index[mask], minlength=60))]
    )
    only = Predictions(
        offsets, predictions.boxes[mask], predictions.scores[mask], predictions.labels[mask]
    )
    table_of_one = build_match_table(annotations, only, num_classes=3000)
    np.testing.assert_allclose(class_ap(table)[one], class_ap(table_of_one)[one], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("truth", "found", "images", "expected"),
    [
        pytest.param([[]], [[]], None, math.nan, id="nothing-at-all"),
        pytest.param([], [], None, math.nan, id="no-image"),
        pytest.param([[BOX]], [[]], None, 0.0, id="nothing-found"),
        pytest.param([[]], [[BOX]], None, math.nan, id="no-truth"),
        pytest.param([[BOX], [BOX]], [[BOX], []], [0], 1.0, id="one-image"),
        pytest.param([[BOX], [BOX]], [[BOX], []], [], math.nan, id="empty-subset"),
        pytest.param([[BOX], [BOX]], [[BOX], []], [0, 0, 1], 67 / 101, id="multiset"),
    ],
)
def test_degenerate_sets(truth, found, images, expected):
    annotations = make_truth(truth, [[0] * len(b) for b in truth])
    predictions = Predictions.from_lists(
        found, [[0.5] * len(b) for b in found], [[0] * len(b) for b in found]
    )
    table = build_match_table(annotations, predictions, num_classes=2)
    assert mean_ap(table, images) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_ties_in_iou_go_to_the_later_box_and_counted_boxes_come_before_ignored_ones():
    """Of two equal boxes the second is taken; a crowd of IoU 1 yields to a counted box of 0.55."""
    half = [0.0, 0.0, 40.0, 22.0]
    annotations = make_truth([[half, BOX]], [[0, 0]], is_crowd=[[False, True]], areas=[[880, 1600]])
    predictions = Predictions.from_lists([[BOX, BOX]], [[0.9, 0.8]], [[0, 0]])
    table = build_match_table(annotations, predictions, num_classes=1)
    area_all = table.outcome[list(AREA_RANGES).index("all")]
    assert area_all[:2].tolist() == [[1, 0], [1, 0]]  # 0.50, 0.55: one hit, then the crowd
    assert area_all[2:].tolist() == [[0, 0]] * 8  # above: both on the crowd


@pytest.mark.parametrize("images", [[2], [-1]])
def test_unknown_images_are_refused(images):
    annotations = make_truth([[BOX], [BOX]], [[0], [0]])
    table = build_match_table(
        annotations, Predictions.from_lists([[], []], [[], []], [[], []]), num_classes=1
    )
    with pytest.raises(DataError, match=rf"must lie in 0\.\.1, got {images[0]}"):
        mean_ap(table, images)
    with pytest.raises(ConfigError, match="unknown area range 'smal': did you mean small"):
        mean_ap(table, area="smal")
