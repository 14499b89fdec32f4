from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from detal.errors import ConfigError
from detal.features import Calibration, References, change
from detal.structures import Detections, ScoreKind
from tests.features.factories import detections_of, softmax_of

TRUSTED = Calibration.identity(3)
DOUBTED = Calibration(slope=0.6, shift=torch.tensor([-0.5, 0.2, 0.0], dtype=torch.float64))
ONE = Calibration.identity(1)


def with_features(seen: Detections, features: list[list[float]]) -> Detections:
    return replace(seen, object_features=torch.tensor(features))


def random_seen(kind: ScoreKind, n: int = 7, seed: int = 0) -> Detections:
    """Boxes of three classes with four features each."""
    rng = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, 3 + (kind == "softmax"), generator=rng)
    probs = logits.sigmoid() if kind == "sigmoid" else logits.softmax(dim=1)[:, :-1]
    scores, labels = probs.max(dim=1)
    return Detections(
        offsets=torch.tensor([0, n]),
        boxes=torch.zeros(n, 4),
        scores=scores,
        labels=labels,
        logits=logits,
        score_kind=kind,
        object_features=torch.randn(n, 4, generator=rng),
    )


def all_of(seen: Detections) -> References:
    return References.of(seen, torch.arange(seen.num_boxes), purpose="a test")


def belief_of(seen: Detections, calibration: Calibration) -> torch.Tensor:
    belief = calibration(seen.probs())
    return belief / belief.sum(dim=1, keepdim=True).clamp(min=1)


def test_gradient_length_by_hand() -> None:
    # One class: P(object) = p = 0.5 twice 0.5 * 5; p = 0.2: (0.2 * 0.8 + 0.8 * 0.2) * 2.
    seen = detections_of([[(0, 0.5), (0, 0.2)]], num_classes=1)
    seen = with_features(seen, [[3.0, 4.0], [0.0, 2.0]])
    assert change.gradient_length(seen, ONE).tolist() == pytest.approx([2.5, 0.64])


@pytest.mark.parametrize("calibration", [TRUSTED, DOUBTED], ids=["trusted", "doubted"])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_gradient_length_is_that_of_the_loss(kind: ScoreKind, calibration: Calibration) -> None:
    """Autograd's gradient of the last layer for every answer, weighed by its probability."""
    seen = random_seen(kind)
    assert seen.object_features is not None
    belief = belief_of(seen, calibration)
    width = seen.logits.shape[1]
    expected = []
    for row in range(seen.num_boxes):
        total = 0.0
        for answer in (0, 1, 2, None):
            weight = torch.zeros(width, 4, requires_grad=True)
            z = seen.logits[row] + weight @ seen.object_features[row]
            target = torch.zeros(width)
            if answer is not None or kind == "softmax":
                target[3 if answer is None else answer] = 1
            if kind == "sigmoid":
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    z, target, reduction="sum"
                )
            else:
                loss = torch.nn.functional.cross_entropy(z[None], target[None])
            (gradient,) = torch.autograd.grad(loss, weight)
            rest = 1 - float(belief[row].sum())
            total += (rest if answer is None else float(belief[row, answer])) * float(
                gradient.norm()
            )
        expected.append(total)
    lengths = change.gradient_length(seen, calibration)
    assert lengths.tolist() == pytest.approx(expected, rel=1e-4)


def test_output_change_by_hand() -> None:
    """Box p = 0.5, h = (1, 2); references p = 0.5, h = (2, 0) and p = 0.2, h = (0, -1)."""
    box = with_features(detections_of([[(0, 0.5)]], num_classes=1), [[1.0, 2.0]])
    others = detections_of([[(0, 0.5), (0, 0.2)]], num_classes=1)
    references = all_of(with_features(others, [[2.0, 0.0], [0.0, -1.0]]))
    scores = change.output_change(box, references, ONE)
    # E|p - y| = 0.5; kernel 2 and -2; slopes 0.25 and 0.16.
    assert scores.tolist() == pytest.approx([0.5 * (2 * 0.25 + 2 * 0.16) / 2])
    logits = change.output_change(box, references, ONE, output="logits")
    assert logits.tolist() == pytest.approx([0.5 * (2 + 2) / 2])
    cosine = change.output_change(box, references, ONE, output="logits", kernel="cosine")
    assert cosine.tolist() == pytest.approx([0.5 * (1 + 2) / math.sqrt(5) / 2])


@pytest.mark.parametrize("calibration", [TRUSTED, DOUBTED], ids=["trusted", "doubted"])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_output_change_box_by_box(kind: ScoreKind, calibration: Calibration, monkeypatch) -> None:
    monkeypatch.setattr(change, "_BLOCK", 3)
    seen, others = random_seen(kind), random_seen(kind, n=5, seed=1)
    changes = change.output_change(seen, all_of(others), calibration)
    assert changes.tolist() == pytest.approx(
        [_naive_change(seen, u, others, calibration) for u in range(7)], rel=1e-4
    )


def _naive_change(seen: Detections, u: int, others: Detections, calibration: Calibration) -> float:
    assert seen.object_features is not None
    assert others.object_features is not None
    q, p, total = belief_of(seen, calibration)[u], seen.probs()[u], 0.0
    for r, c in itertools.product(range(others.num_boxes), range(3)):
        kernel = float(seen.object_features[u] @ others.object_features[r])
        s = float(others.probs()[r, c])
        expected = float(q[c]) * abs(float(p[c]) - 1) + (1 - float(q[c])) * float(p[c])
        total += abs(kernel) * expected * s * (1 - s)
    return total / others.num_boxes


def test_a_small_step_changes_the_scores_so_much() -> None:
    """One gradient step on one answer, and the scores computed anew."""
    seen, others = random_seen("sigmoid", n=1), random_seen("sigmoid", n=5, seed=1)
    assert seen.object_features is not None
    assert others.object_features is not None
    sure = Calibration(slope=1.0, shift=torch.tensor([50.0, -50, -50], dtype=torch.float64))
    step = 1e-3
    residual = torch.tensor([1.0, 0, 0]) - seen.probs()[0]
    moved = (
        others.logits
        + step * (others.object_features @ seen.object_features[0])[:, None] * residual
    )
    expected = (moved.sigmoid() - others.probs()).abs().sum(dim=1).mean() / step
    changes = change.output_change(seen, all_of(others), sure)
    assert changes.tolist() == pytest.approx([float(expected)], rel=0.01)


def test_error_reduction_by_hand() -> None:
    """As for the output change: E(p - y)^2 = 0.25, squared cosines 1/5 and 4/5."""
    box = with_features(detections_of([[(0, 0.5)]], num_classes=1), [[1.0, 2.0]])
    others = detections_of([[(0, 0.5), (0, 0.2)]], num_classes=1)
    references = all_of(with_features(others, [[2.0, 0.0], [0.0, -1.0]]))
    entropy = change.error_reduction(box, references, ONE)
    assert entropy.tolist() == pytest.approx([0.25 * (0.2 * 0.25 + 0.8 * 0.16) / 2 / 2])
    error = change.error_reduction(box, references, ONE, risk="error")
    assert error.tolist() == pytest.approx([0.25 * (0.2 * 0.25**2 + 0.8 * 0.16**2) / 2])


@pytest.mark.parametrize("risk", ["entropy", "error"])
def test_error_reduction_is_the_curvature(risk: change.Risk) -> None:
    """The risk of scores moved up and down equally often, against what it was."""
    box = with_features(detections_of([[(0, 0.5)]], num_classes=1), [[1.0]])
    for p in (0.5, 0.1, 0.9):
        other = with_features(detections_of([[(0, p)]], num_classes=1), [[1.0]])
        d = p * (1 - p) * 0.5
        moved = (_risk(p + d, risk) + _risk(p - d, risk)) / 2
        reduction = change.error_reduction(box, all_of(other), ONE, risk=risk)
        assert reduction.tolist() == pytest.approx([_risk(p, risk) - moved], rel=0.1)


def _risk(p: float, risk: str) -> float:
    return p * (1 - p) if risk == "error" else -p * math.log(p) - (1 - p) * math.log(1 - p)


def measures(seen: Detections, references: References) -> list[torch.Tensor]:
    return [
        change.gradient_length(seen, TRUSTED),
        change.output_change(seen, references, TRUSTED),
        change.error_reduction(seen, references, TRUSTED),
    ]


def test_no_boxes_need_no_features() -> None:
    references = all_of(random_seen("sigmoid"))
    for values in measures(detections_of([[], []]), references):
        assert values.shape == (0,)


@pytest.mark.parametrize("place", range(3))
def test_features_are_needed(place: int) -> None:
    names = ["expected_gradient_length", "emoc", "expected_error_reduction"]
    seen, references = detections_of([[(0, 0.5)]]), all_of(random_seen("sigmoid"))
    calls = [
        lambda: change.gradient_length(seen, TRUSTED),
        lambda: change.output_change(seen, references, TRUSTED),
        lambda: change.error_reduction(seen, references, TRUSTED),
    ]
    with pytest.raises(ConfigError, match=f"`{names[place]}` needs object features.*`entropy`"):
        calls[place]()


def test_sure_scores_and_zero_features_are_finite() -> None:
    seen = with_features(detections_of([[(0, 1.0), (1, 0.0)]]), [[0.0, 0.0], [1.0, 0.0]])
    for values in measures(seen, all_of(seen)):
        assert torch.isfinite(values).all()
        assert float(values.min()) >= 0
    sure = with_features(softmax_of([[1.0, 0.0, 0.0]]), [[1.0]])
    assert change.gradient_length(sure, Calibration.identity(2)).tolist() == pytest.approx(
        [0], abs=1e-4
    )
