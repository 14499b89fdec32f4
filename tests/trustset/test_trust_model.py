"""Trust learns what can be seen, and says honestly how well."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.features import entropy, margin
from detal.structures import Detections
from detal.trustset import TrustSet, fit_trust, rate_trust, training_rows, trust_model
from detal.trustset.observables import fit_observables
from tests.strategies.factories import with_details
from tests.trustset.factories import labels_of, seen_of

BOX = (0.0, 0.0, 10.0, 10.0)


def world(
    rng: np.random.Generator, images: int = 60, *, kind="sigmoid"
) -> tuple[Detections, TrustSet, np.ndarray]:
    """One object and detection an image; the small ones with a doubtful score are trusted."""
    sides = rng.uniform(5, 50, images)
    probs = rng.uniform(0.1, 0.9, images)
    boxes = [(0.0, 0.0, side, side) for side in sides]
    seen = seen_of(
        [
            [(box, [p, 0.01] if i % 2 else [0.01, p])]
            for i, (box, p) in enumerate(zip(boxes, probs, strict=True))
        ],
        kind=kind,
    )
    member = (sides < 25) & (np.abs(probs - 0.5) < 0.25)
    nothing = np.zeros(images, dtype=bool)
    made = TrustSet(member, nothing, np.zeros(2, np.int64), np.zeros(images))
    return seen, made, sides


def rows_of(seen: Detections, made: TrustSet, sides: np.ndarray, rng: np.random.Generator):
    truth = labels_of([[((0.0, 0.0, s, s), i % 2)] for i, s in enumerate(sides)])
    return training_rows(seen, truth, made, rng=rng)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_it_learns_what_entropy_alone_does_not_tell(rng: np.random.Generator, kind) -> None:
    seen, made, sides = world(rng, 200, kind=kind)
    rows = rows_of(seen, made, sides, rng)
    assert rows.enough
    assert torch.equal(rows.target, torch.from_numpy(made.member))
    rating = rate_trust(rows, ("cat", "dog"))
    pooled = rating["pooled"]
    assert (pooled["detections"], pooled["positives"]) == (200, int(made.member.sum()))
    assert pooled["auc"] > 0.9
    assert pooled["auc"] > pooled["auc_entropy"] + 0.05
    assert pooled["ece"] < 0.2
    assert len(pooled["reliability"]) == 10
    assert sum(part["detections"] for part in rating["classes"].values()) == 200
    trust = fit_trust(rows)(seen)
    assert trust.shape == (200,)
    assert ((trust >= 0) & (trust <= 1)).all()
    assert trust[rows.target].mean() > trust[~rows.target].mean() + 0.2


@pytest.mark.parametrize("deviation", [0.1, 1.0])
def test_the_fit_is_the_most_probable(rng: np.random.Generator, deviation) -> None:
    """Newton's steps against a general minimiser of the same penalised likelihood."""
    rows = rows_of(*world(rng, 80), rng)
    design = fit_observables(rows.detections)(rows.detections)
    weight, intercept = trust_model._fit(rows, design, rows.used, deviation)
    columns, y, label = design.shape[1], rows.target.double(), rows.detections.labels
    values = torch.zeros(columns + 1 + 2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([values], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        z = design @ values[:columns] + values[columns] + values[columns + 1 :][label]
        prior = (values[:columns] / deviation).square().sum() + (values[columns] / 10).square()
        prior = prior + values[columns + 1 :].square().sum()
        total: torch.Tensor = (torch.nn.functional.softplus(z) - y * z).sum() + prior / 2
        total.backward()
        return total

    optimiser.step(loss)
    found = values.detach()
    assert torch.allclose(weight, found[:columns], atol=1e-3)
    assert torch.allclose(intercept, found[columns] + found[columns + 1 :], atol=1e-3)


def test_objects_are_of_the_classes_that_such_detections_were(rng: np.random.Generator) -> None:
    """Of three objects that are taken for class 0, two are of class 1; half of each are found."""
    away = (60.0, 60.0, 70.0, 70.0)
    seen = seen_of([[(BOX, [0.8, 0.1])]] * 30)
    truth = labels_of([[(BOX, int(i % 3 > 0)), (away, int(i % 3 > 0))] for i in range(30)])
    everything = TrustSet(
        np.ones(60, dtype=bool), np.zeros(60, dtype=bool), np.zeros(2, np.int64), np.zeros(60)
    )
    model = fit_trust(training_rows(seen, truth, everything, rng=rng))
    assert model.taken_for[0].tolist() == pytest.approx([11 / 31, 20 / 31])
    assert model.taken_for[1].tolist() == [0, 1]
    assert model.per_member.tolist() == pytest.approx([2, 2])
    assert model.objects(seen).sum(dim=0).tolist() == pytest.approx([20, 40], rel=0.1)


def test_whatever_class_it_is_taken_for(rng: np.random.Generator) -> None:
    truth = labels_of([[(BOX, 1)]])
    made = TrustSet(np.array([True]), np.array([False]), np.array([0, 1]), np.ones(1))
    rows = training_rows(seen_of([[(BOX, [0.8, 0.1])]]), truth, made, rng=rng)
    assert rows.target.tolist() == [True]
    assert not rows.enough


def test_images_of_one_group_share_a_fold(rng: np.random.Generator) -> None:
    seen, made, sides = world(rng)
    truth = labels_of([[((0.0, 0.0, s, s), 0)] for s in sides])
    groups = np.arange(60) // 10
    rows = training_rows(seen, truth, made, rng=rng, groups=groups)
    fold = rows.fold.numpy()
    assert all(len(set(fold[groups == g])) == 1 for g in range(6))
    assert set(fold) == set(range(5))


def test_chunks_do_not_matter(rng: np.random.Generator) -> None:
    seen, made, sides = world(rng)
    model = fit_trust(rows_of(with_details(seen), made, sides, rng))
    assert {"box spread", "cluster spread", "tightness", "feature 1"} <= set(
        model.observables.names
    )
    whole = with_details(seen)
    parts = [model(whole.take(range(start, start + 7))) for start in range(0, 56, 7)]
    assert torch.equal(torch.cat(parts), model(whole)[:56])
    assert len(model(whole.take([]))) == 0


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_entropy_and_margin_are_those_of_the_features(rng: np.random.Generator, kind) -> None:
    seen, _, _ = world(rng, kind=kind)
    for name, measure in (("entropy", entropy), ("margin", margin)):
        column = fit_observables(seen, only=(name,))(seen)[:, 0]
        values = measure(seen).double()
        assert torch.allclose(column, (values - values.mean()) / values.std(), atol=1e-4)


def test_observables_are_standardised_and_bounded(rng: np.random.Generator) -> None:
    seen, _, _ = world(rng)
    observables = fit_observables(seen)
    table = observables(seen)
    assert "boxes in the image" not in observables.names  # one everywhere
    assert table.mean(dim=0).abs().max() < 0.2
    huge = replace(seen, boxes=seen.boxes * 1e6)
    assert observables(huge).abs().max() <= 5
    assert fit_observables(seen, only=("entropy",)).names == ("entropy",)
    with pytest.raises(DataError, match="lack object features"):
        fit_observables(with_details(seen))(seen)


def test_nothing_to_observe() -> None:
    nothing = seen_of([[], []])
    observables = fit_observables(nothing)
    assert observables.names == ()
    assert observables(nothing).shape == (0, 0)
