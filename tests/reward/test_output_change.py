"""The output change table: by hand, against plain loops, and that it does not saturate."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.features import Calibration
from detal.reward import OutputChangeTable, ReferenceOutputs
from detal.structures import Annotations, Detections
from tests.features.factories import Box, detections_of

NAMES = ("cat", "dog")


def outputs(images: Sequence[Sequence[Box]], features: Sequence[Sequence[float]]) -> Detections:
    seen = detections_of(images, num_classes=2)
    table = torch.tensor(features, dtype=torch.float32).reshape(seen.num_boxes, -1)
    return replace(seen, object_features=table)


def truth_of(labels: Sequence[Sequence[int]]) -> Annotations:
    """An object at the place of the first detection of each image, of each class listed."""
    return Annotations.from_lists(
        [np.tile([0.0, 5, 10, 15], (len(row), 1)) for row in labels],
        [np.array(row, dtype=np.int64) for row in labels],
    )


def table_of(reference: ReferenceOutputs, candidates: Detections) -> OutputChangeTable:
    return OutputChangeTable(
        reference,
        [(np.arange(len(candidates)), candidates)],
        num_images=len(candidates),
        calibration=Calibration.identity(2),
        class_names=NAMES,
    )


# Two cats, one of them right and one that is nothing but scores higher; the features are centred.
REFERENCE = outputs([[(0, 0.4)], [(0, 0.8)]], [[1.0, 0.0], [-1.0, 0.0]])
TRUTH = truth_of([[0], []])


class TestByHand:
    def test_influence(self) -> None:
        reference = ReferenceOutputs(REFERENCE, TRUTH)
        assert reference.residual == pytest.approx([0.6, -0.8])
        candidates = outputs(
            [[(0, 0.5), (1, 0.5)], [(0, 0.9)], []], [[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0]]
        )
        influence = reference.influence(candidates, Calibration.identity(2))
        # E|p - y| = 2 p (1 - p); the other class has p = 0.01, the cosine of the second is 0.707.
        first = 0.5 + 2 * 0.01 * 0.99 * 0.5**0.5
        assert influence == pytest.approx(np.array([[first, 0], [0, 0.18], [0, 0]]), abs=1e-4)

    def test_evidence_of_labelled_objects(self) -> None:
        labeled = outputs(
            [[(0, 0.9)], [(1, 0.9)], [(0, 0.9)]], [[2.0, 0.0], [5.0, 0.0], [1.0, 3.0]]
        )
        known = (labeled, truth_of([[0], [1], []]))  # the third found nothing, the second is a dog
        reference = ReferenceOutputs(REFERENCE, TRUTH, labeled=known)
        assert reference.evidence == pytest.approx([2.0, 1.0])
        assert reference.resolved(np.array([2.0, 3.0])) == pytest.approx([1 - 0.5**0.5, 0.5])

    def test_gain_is_the_map_after_scores_have_moved(self) -> None:
        """AP is 1/2 until the right one overtakes: at 0.4 + 0.6 f > 0.8 (1 - f), so f > 2/7."""
        reference = ReferenceOutputs(REFERENCE, TRUTH)
        assert reference.mean_gain(np.array([0.28, 0.28])) == 0
        assert reference.mean_gain(np.array([0.29, 0.29])) == pytest.approx(0.5)
        # The headroom of one half goes to the two by their residuals.
        assert reference.value == pytest.approx([0.5 * 0.6 / 1.4, 0.5 * 0.8 / 1.4])
        candidates = outputs([[(0, 0.5)]] * 4, [[1.0, 0.0]] * 2 + [[-1.0, 0.0]] * 2)
        table = table_of(reference, candidates)
        assert table.gain(np.array([], dtype=np.int64)) == 0
        # One box resolves 1 - 1.5 ** -0.5 = 0.18, two of a kind 0.29, both kinds once 0.18 each.
        assert table.gain(np.array([0, 2])) == 0
        assert table.gain(np.arange(4)) == pytest.approx(0.5)
        assert table.class_gain(np.arange(4)) == pytest.approx([0.5, 0])
        marginal = table.marginal_gain(table.start(), np.array([0, 2]))
        assert marginal == pytest.approx((1 - 1.5**-0.5) * reference.value)
        assert table.explain(table.start(), 0) == "most for cat (3.9)"

    def test_crowds_are_neither_right_nor_wrong(self) -> None:
        crowd = replace(truth_of([[0], [0]]), is_crowd=np.array([False, True]))
        reference = ReferenceOutputs(REFERENCE, crowd)
        assert reference.residual == pytest.approx([0.6, 0])


def random_world(
    rng: np.random.Generator, *, images: int = 40, candidates: int = 30
) -> tuple[ReferenceOutputs, OutputChangeTable, Detections]:
    def some(count: int) -> Detections:
        boxes = [
            [(int(rng.integers(2)), float(rng.uniform(0.05, 0.95))) for _ in range(n)]
            for n in rng.integers(0, 4, size=count)
        ]
        number = sum(len(image) for image in boxes)
        # Features follow the class, so that kernels mean something.
        seen = outputs(boxes, rng.normal(size=(number, 6)).tolist())
        assert seen.object_features is not None
        shift = 2 * torch.nn.functional.one_hot(seen.labels, 6)
        return replace(seen, object_features=seen.object_features + shift)

    reference = some(images)
    labels = [
        [int(reference.labels[start])] * int(rng.random() < 0.6) if stop > start else []
        for start, stop in zip(reference.offsets[:-1], reference.offsets[1:], strict=True)
    ]
    measured = ReferenceOutputs(reference, truth_of(labels), labeled=None)
    pool = some(candidates)
    return measured, table_of(measured, pool), pool


def test_influence_against_loops(rng: np.random.Generator) -> None:
    reference, table, pool = random_world(rng, images=6, candidates=5)
    assert pool.object_features is not None
    probs = pool.probs().double().numpy()
    centred = pool.object_features.double().numpy() - reference._mean.double().numpy()
    kernel = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    others = reference._unit.double().numpy()
    expected = np.zeros((5, len(reference)))
    for box, image in enumerate(pool.image_index.tolist()):
        belief = probs[box] / max(probs[box].sum(), 1)
        for r, label in enumerate(reference.labels.tolist()):
            p, q = probs[box, label], belief[label]
            residual = q * (1 - p) + (1 - q) * p
            expected[image, r] += residual * max(float(kernel[box] @ others[r]), 0)
    assert table.influence == pytest.approx(expected, abs=1e-4)


def test_marginal_gains_never_grow_and_add_up_to_the_surrogate(rng: np.random.Generator) -> None:
    reference, table, _ = random_world(rng)
    state, everything, total = table.start(), np.arange(len(table)), 0.0
    before = table.marginal_gain(state, everything)
    assert (before >= 0).all()
    assert before.max() > 0
    for candidate in rng.permutation(len(table)).tolist():
        total += float(table.marginal_gain(state, np.array([candidate]))[0])
        state = table.add(state, candidate)
        after = table.marginal_gain(state, everything)
        assert (after <= before + 1e-12).all()
        before = after
    share = reference.resolved(table.influence.sum(axis=0, dtype=np.float64))
    assert total == pytest.approx(float((share * reference.value).sum()))


def test_the_surrogate_meets_the_gain_where_nothing_and_where_all_is_resolved(
    rng: np.random.Generator,
) -> None:
    reference, _, _ = random_world(rng)
    assert reference.mean_gain(np.zeros(len(reference))) == 0
    everything = reference.class_gain(np.full(len(reference), 1 - 1e-6))
    assert (everything > 0.05).all()
    by_class = np.bincount(reference.labels.numpy(), weights=reference.value, minlength=2)
    assert by_class == pytest.approx(everything / 2)


def test_the_surrogate_ranks_batches_as_the_gain_does(rng: np.random.Generator) -> None:
    """Batches of 1 to 20 images of which some are near copies; rank correlation at least 0.8."""
    reference, table, _ = random_world(rng, images=150, candidates=60)
    batches = [rng.permutation(60)[: rng.integers(1, 21)] for _ in range(40)]
    gains = [table.gain(batch) for batch in batches]
    share = [reference.resolved(table.influence[b].sum(axis=0, dtype=float)) for b in batches]
    surrogate = [float((s * reference.value).sum()) for s in share]
    ranks = [np.argsort(np.argsort(values)) for values in (gains, surrogate)]
    assert np.asarray(np.corrcoef(np.array(ranks)))[0, 1] >= 0.8


def test_large_batches_do_not_saturate(rng: np.random.Generator) -> None:
    """After a thousand copies of one image, another kind of image still brings most of its gain,
    a further copy next to nothing, and no score has passed the truth."""
    reference = ReferenceOutputs(
        outputs([[(0, 0.4)], [(1, 0.4)], [(0, 0.8)]], [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]),
        truth_of([[0], [1], []]),
    )
    images: list[list[Box]] = [*[[(0, 0.5)]] * 1001, [(1, 0.5)], [(0, 0.5)]]
    features = [*[[1.0, 0, 0]] * 1001, [0, 1.0, 0], [0, 0, 1.0]]
    table = table_of(reference, outputs(images, features))
    state = table.start()
    fresh = table.marginal_gain(state, np.array([0, 1002]))
    for candidate in range(1000):
        state = table.add(state, candidate)
    later = table.marginal_gain(state, np.array([1000, 1002]))
    assert later[0] < 1e-3 * fresh[0]
    assert later[1] > 0.9 * fresh[1]
    share = reference.resolved(state.influence)
    assert share.max() < 1
    assert share[0] > 0.9


def test_what_is_missing_is_named() -> None:
    without = replace(REFERENCE, object_features=None)
    with pytest.raises(ConfigError, match="object features"):
        ReferenceOutputs(without, TRUTH)
    with pytest.raises(DataError, match="at least one object"):
        ReferenceOutputs(REFERENCE, truth_of([[], []]))


def test_nothing_detected_on_the_reference_set() -> None:
    reference = ReferenceOutputs(detections_of([[], []], num_classes=2), TRUTH)
    table = table_of(reference, outputs([[(0, 0.5)], []], [[1.0, 0.0]]))
    assert table.marginal_gain(table.start(), np.arange(2)).tolist() == [0, 0]
    assert table.gain(np.array([0])) == 0
    assert table.explain(table.start(), 0) == "nothing is expected to change"
