from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.features import Calibration, fit_calibration, match_detections
from detal.features.matching import Matches
from detal.structures import Annotations, Detections
from tests.features.factories import detections_of, softmax_of


def outcomes(found: torch.Tensor, ignored: torch.Tensor | None = None) -> Matches:
    """Matches as far as calibration reads them."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return Matches(
        truth=torch.where(found, 0, -1),
        label=torch.where(found, 0, -1),
        iou=found.float(),
        ignored=torch.zeros_like(found) if ignored is None else ignored,
        detection=nothing,
        missed=nothing.bool(),
    )


def overconfident(n: int = 4000) -> tuple[Detections, torch.Tensor]:
    """Class 0 is right with sigmoid(0.5 logit - 1), class 1 with one logit more."""
    rng = np.random.default_rng(0)
    scores, labels = rng.uniform(0.05, 0.95, size=n), rng.integers(2, size=n)
    seen = detections_of([[(int(c), float(s))] for c, s in zip(labels, scores, strict=True)])
    z = 0.5 * torch.logit(seen.scores) - 1 + seen.labels
    return seen, torch.from_numpy(rng.random(n)) < z.sigmoid()


def test_recovers_slope_and_shifts() -> None:
    seen, found = overconfident()
    calibration = fit_calibration(seen, outcomes(found))
    assert calibration.slope == pytest.approx(0.5, abs=0.06)
    assert calibration.shift[:2].tolist() == pytest.approx([-1, 0], abs=0.12)
    assert float(calibration.shift[2]) == pytest.approx(
        float(calibration.shift[:2].mean()), abs=0.3
    )


def test_is_the_most_probable_one() -> None:
    """The gradient of the convex objective vanishes in slope, common and own shifts."""
    seen, found = overconfident(60)
    calibration = fit_calibration(seen, outcomes(found))
    x = torch.logit(seen.scores).double()
    wrong = (calibration.slope * x + calibration.shift[seen.labels]).sigmoid() - found.double()
    by_class = torch.zeros(3, dtype=torch.float64).index_add(0, seen.labels, wrong)
    common = calibration.shift.sum() / 4  # the own shifts sum to it where the gradient vanishes
    assert float((wrong * x).sum() + calibration.slope - 1) == pytest.approx(0, abs=1e-3)
    assert float(wrong.sum() + common) == pytest.approx(0, abs=1e-3)
    assert (by_class + calibration.shift - common).tolist() == pytest.approx([0] * 3, abs=1e-3)


def test_nothing_labelled_leaves_the_probabilities() -> None:
    seen = detections_of([[], []])
    calibration = fit_calibration(seen, outcomes(torch.zeros(0, dtype=torch.bool)))
    probs = torch.tensor([[0.2, 0.5, 0.99]])
    assert calibration.slope == 1
    assert calibration(probs).tolist()[0] == pytest.approx([0.2, 0.5, 0.99], rel=1e-5)
    assert torch.equal(Calibration.identity(3)(probs), calibration(probs))


def test_scores_that_mislead_say_nothing() -> None:
    seen = detections_of([[(0, 0.9)] * 50 + [(0, 0.1)] * 50])
    calibration = fit_calibration(seen, outcomes(seen.scores < 0.5))
    assert calibration.slope == 0
    low, high = calibration(torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])).tolist()
    assert low == high
    assert low[0] == pytest.approx(0.5, abs=0.01)


def test_always_right_stays_below_one_and_finite() -> None:
    seen = detections_of([[(0, 1.0)] * 20])
    calibration = fit_calibration(seen, outcomes(torch.ones(20, dtype=torch.bool)))
    probs = calibration(torch.tensor([[0.0, 1.0, 0.5]]))
    assert torch.isfinite(probs).all()
    assert 0 <= float(probs.min()) <= float(probs.max()) <= 1


def test_detections_on_crowds_are_left_out() -> None:
    seen = detections_of([[(0, 0.5)] * 40])
    wrong = torch.arange(40) < 20
    some = fit_calibration(seen, outcomes(~wrong, ignored=wrong))
    alone = detections_of([[(0, 0.5)] * 20])
    assert some.shift.tolist() == pytest.approx(
        fit_calibration(alone, outcomes(torch.ones(20, dtype=torch.bool))).shift.tolist(), abs=1e-5
    )
    assert float(some.shift[0]) > 1


def test_softmax_reads_the_class_beside_background() -> None:
    seen = softmax_of([[0.6, 0.1, 0.3]] * 30)
    flat = replace(seen, scores=seen.scores * 0)
    found = torch.arange(30) % 2 == 0
    first, second = (fit_calibration(s, outcomes(found)) for s in (seen, flat))
    assert torch.equal(first.shift, second.shift)  # the logits count
    expected = first.slope * math.log(0.6 / 0.4) + float(first.shift[0])
    assert expected == pytest.approx(0, abs=0.1)


def test_from_annotations_under_no_grad() -> None:
    seen = detections_of([[(0, 0.9), (1, 0.8)]])
    truth = Annotations.from_lists([np.array([[0.0, 5, 10, 15]])], [np.array([0])])
    with torch.no_grad():
        calibration = fit_calibration(seen, match_detections(seen, truth))
    assert float(calibration.shift[0]) > float(calibration.shift[1])
