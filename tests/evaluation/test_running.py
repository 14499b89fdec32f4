import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.errors import DataError
from detal.evaluation.match_table import build_match_table
from detal.evaluation.predictions import Predictions
from detal.evaluation.running import RunningAP
from detal.evaluation.subsets import class_ap, mean_ap
from tests.evaluation.worlds import random_world


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.sampled_from(["all", "medium"]), st.sampled_from([3, 100]))
def test_any_sequence_of_changes_equals_a_full_computation(seed, area, max_detections):
    """Against a table built from the changed scores on the images as they then count."""
    annotations, predictions = random_world(seed, num_images=6, num_classes=4)
    rng = np.random.default_rng(seed)
    options = {"num_classes": 4, "max_detections": max_detections}
    running = RunningAP(
        build_match_table(annotations, predictions, **options), [0, 1, 1], area=area
    )
    images, scores = [0, 1, 1], predictions.scores.copy()
    for _ in range(6):
        change = rng.choice(["add", "remove", "rescore"])
        if change == "add":
            new = rng.integers(0, 6, rng.integers(0, 3)).tolist()
            running.add(new)
            images += new
        elif change == "remove" and images:
            gone = images.pop(int(rng.integers(len(images))))
            running.remove([gone])
        else:
            some = rng.permutation(len(scores))[:3]
            scores[some] = np.round(rng.random(len(some)), 1)
            running.rescore(some, scores[some])
        anew = build_match_table(
            annotations,
            Predictions(predictions.offsets, predictions.boxes, scores, predictions.labels),
            **options,
        )
        np.testing.assert_allclose(running.class_ap, class_ap(anew, images, area=area), atol=1e-12)
        assert running.mean_ap == pytest.approx(mean_ap(anew, images, area=area), nan_ok=True)


def test_only_classes_that_occur_are_computed_again():
    annotations, predictions = random_world(
        3, num_images=4, num_classes=9, max_truth=2, max_found=4
    )
    table = build_match_table(annotations, predictions, num_classes=9)
    running = RunningAP(table, [0, 1, 2])
    here = set(predictions.take([3]).labels.tolist()) | set(annotations.take([3]).labels.tolist())
    others = np.array(sorted(set(range(9)) - here))
    assert 0 < len(others) < 9
    running.class_ap[others] = 7.0  # what is not computed again stays
    running.add([3])
    assert (running.class_ap[others] == 7.0).all()
    assert not (running.class_ap[sorted(here)] == 7.0).any()


def test_an_image_is_not_removed_more_often_than_it_counts():
    annotations, predictions = random_world(0, num_images=3, num_classes=2)
    running = RunningAP(build_match_table(annotations, predictions, num_classes=2), [0, 2, 2])
    before = running.class_ap.copy()
    with pytest.raises(DataError, match="image 0 counts 1 times"):
        running.remove([0, 0])
    assert running.weights.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(running.class_ap, before)
    running.remove([0, 2, 2])
    assert np.isnan(running.mean_ap)
