from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Budget
from tests.features.factories import Box, detections_of
from tests.strategies.factories import random_pool, with_details

LN2 = float(np.log(2))


def binary_entropy(score: float) -> float:
    return float(-(score * np.log(score) + (1 - score) * np.log(1 - score)))


def pool_of_angles(
    images: list[list[Box]], angles: list[float], *, counts: list[int], num_classes: int = 3
) -> Candidates:
    """Boxes with features at these angles in degrees, in the order of descending scores."""
    seen = detections_of(images, num_classes=num_classes)
    turn = torch.deg2rad(torch.tensor(angles))
    seen = replace(seen, object_features=torch.stack([turn.cos(), turn.sin()], dim=1))
    return Candidates.from_detections(
        [f"{i:02d}" for i in range(len(images))],
        seen,
        class_names=tuple(f"class{c}" for c in range(num_classes)),
        labeled=Labeled(class_counts=np.array(counts)),
    )


def ask(pool: Candidates, budget: Budget, seed: int = 0, **options):
    strategy = make_strategy("div_proto", **options)
    return strategy.query(pool, budget=budget, rng=np.random.default_rng(seed))


def test_enms_drops_what_looks_alike_in_four_boxes() -> None:
    """Of 0, 50 and 100 degrees of one class the second goes; the fourth is of another class."""
    pool = pool_of_angles(
        [[(0, 0.5), (0, 0.4), (0, 0.3), (1, 0.2)]], [0, 50, 100, 0], counts=[1, 1, 1]
    )
    selection = ask(pool, Budget(1))
    expected = LN2 + binary_entropy(0.3) + binary_entropy(0.2)
    assert selection.scores == pytest.approx([expected], rel=1e-5)


def test_an_image_like_the_batch_is_put_off() -> None:
    """By entropy: two alike, one unlike, one without boxes. No rare classes."""
    pool = pool_of_angles([[(0, 0.5)], [(0, 0.45)], [(0, 0.3)], []], [0, 20, 90], counts=[5, 5, 5])
    selection = ask(pool, Budget(4), alpha=0)
    assert selection.image_ids == ("00", "02", "01", "03")
    assert "with a class that the batch lacks" in selection.reasons[0]
    assert "similarity 0.00 with the batch" in selection.reasons[1]
    assert "similarity 0.94 with the batch" in selection.reasons[2]
    assert "no box to compare by" in selection.reasons[3]
    assert ask(pool, Budget(4), alpha=0, t_intra=1).image_ids == ("00", "01", "02", "03")


def test_one_new_class_is_enough() -> None:
    """The second image repeats class 0 of the first, but brings a new class."""
    pool = pool_of_angles(
        [[(0, 0.5), (2, 0.49)], [(0, 0.45), (1, 0.4)], [(0, 0.46), (2, 0.2)]],
        [0, 0, 0, 0, 0, 0],
        counts=[5, 5, 5],
    )
    assert ask(pool, Budget(3), alpha=0).image_ids == ("00", "01", "02")
    assert ask(pool, Budget(2), alpha=0).image_ids == ("00", "01")


def test_rare_classes_first_until_their_share_is_used_up() -> None:
    """Class 2 is the rarest of four, alone at alpha 0.25: half of four images go to it.

    Of its images, 04 is under t_inter and 05 comes too late: it waits its turn by entropy.
    """
    images: list[list[Box]] = [
        [(0, 0.5)],
        [(1, 0.5), (0, 0.48)],
        [(2, 0.4)],
        [(2, 0.35)],
        [(2, 0.25)],
        [(2, 0.33)],
    ]
    pool = pool_of_angles(images, [0, 90, 90, 0, 90, 180, 270], counts=[9, 8, 1, 7], num_classes=4)
    selection = ask(pool, Budget(4), alpha=0.25, beta=0.5)
    assert selection.image_ids == ("02", "03", "01", "00")
    assert "shows rare class2" in selection.reasons[0]
    assert "shows rare" not in selection.reasons[2]
    everything = ask(pool, Budget(4), alpha=0.25, beta=1.0)
    assert everything.image_ids == ("02", "03", "05", "01")


def test_share_in_boxes_is_used_up_by_expected_boxes() -> None:
    """The first rare image holds 2 expected boxes, all that half of four boxes allow."""
    images: list[list[Box]] = [[(2, 0.5)] * 4, [(2, 0.4)], [(0, 0.45)]]
    pool = pool_of_angles(images, [0, 90, 180, 270, 45, 0], counts=[9, 9, 1])
    half = ask(pool, Budget(4, "boxes"), alpha=0.3, beta=0.5)
    assert half.image_ids == ("00", "02", "01")
    whole = ask(pool, Budget(4, "boxes"), alpha=0.3, beta=1.0)
    assert whole.image_ids == ("00", "01", "02")


def test_equally_rare_classes_are_ranked_by_what_the_pool_holds() -> None:
    pool = pool_of_angles([[(0, 0.5)], [(0, 0.4)], [(1, 0.35)]], [0, 90, 0], counts=[0, 0, 99])
    selection = ask(pool, Budget(1), alpha=0.3, beta=1.0)
    assert selection.image_ids == ("02",)


@pytest.mark.parametrize("alpha", [0, 0.3], ids=["by entropy", "rare first"])
def test_images_turned_down_do_not_count(alpha: float) -> None:
    """The group allows one: the second of it is unlike the batch, but so is its twin, the third."""
    pool = pool_of_angles(
        [[(2, 0.5)], [(2, 0.45)], [(2, 0.4)], [(0, 0.35)]], [0, 90, 90, 0], counts=[5, 5, 1]
    )
    pool = replace(pool, groups=np.array(["g", "g", None, None], dtype=object))
    strategy = make_strategy("div_proto", alpha=alpha, beta=1.0)
    rng = np.random.default_rng(0)
    selection = strategy.query(pool, budget=Budget(2), rng=rng, per_group=1)
    assert selection.image_ids == ("00", "02")
    assert "similarity 0.00" in selection.reasons[1]


def test_rare_classes_get_no_more_than_their_part_of_the_budget() -> None:
    """All classes are rare and half of two images is for them: one image uses that up.

    Then the image of most entropy comes, which shows no class over t_inter.
    """
    pool = pool_of_angles(
        [[(2, 0.29), (2, 0.28)], [(0, 0.5)], [(1, 0.45)]], [0, 90, 0, 0], counts=[1, 1, 1]
    )
    assert ask(pool, Budget(2), alpha=1.0, beta=0.5).image_ids == ("01", "00")
    assert ask(pool, Budget(2), alpha=1.0, beta=1.0).image_ids == ("01", "02")


def naive_enms(pool: Candidates, index: int) -> list[tuple[int, float, np.ndarray]]:
    """(label, entropy, unit feature) of the boxes kept."""
    seen = pool.take([index])
    assert seen.object_features is not None
    unit = torch.nn.functional.normalize(seen.object_features, dim=1).numpy()
    boxes = [
        (int(label), binary_entropy(float(score)), feature)
        for label, score, feature in zip(seen.labels, seen.scores, unit, strict=True)
    ]
    own: list[tuple[int, float, np.ndarray]] = []
    for box in sorted(boxes, key=lambda b: -b[1]):
        if all(box[0] != other[0] or box[2] @ other[2] <= 0.5 for other in own):
            own.append(box)
    return own


def naive_shown(pool: Candidates, index: int) -> set[int]:
    seen = pool.take([index])
    return set(seen.labels[seen.scores > 0.3].tolist())


def naive_div_proto(pool: Candidates, k: int, seed: int) -> list[int]:
    """All three walks image by image, with the paper's settings."""
    kept = [naive_enms(pool, i) for i in range(len(pool))]
    scores = np.array([sum(box[1] for box in own) for own in kept])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(pool)), -scores)).tolist()
    whole = pool.take(np.arange(len(pool)))
    expected = np.bincount(whole.labels.numpy(), whole.scores.numpy(), minlength=4)
    rare = np.lexsort((expected, pool.labeled.class_counts))[:2].tolist()
    share = dict.fromkeys(rare, 0.75 * k / 2)

    def prototypes(i: int) -> dict[int, np.ndarray]:
        result = {}
        for label in {box[0] for box in kept[i]}:
            mean = np.sum([box[1] * box[2] for box in kept[i] if box[0] == label], axis=0)
            result[label] = mean / np.linalg.norm(mean)
        return result

    def similarity(i: int) -> float:
        known = [prototypes(j) for j in picked]
        return min(
            max((float(p @ other[label]) for other in known if label in other), default=-1.0)
            for label, p in prototypes(i).items()
        )

    picked: list[int] = []
    for i in order:
        shown = naive_shown(pool, i)
        wanted = [label for label in shown if share.get(label, 0) > 0]
        if len(picked) < 0.75 * k and wanted and similarity(i) < 0.7:
            picked.append(i)
            share |= {label: share[label] - 1 for label in shown & set(rare)}
    for i in order:
        if i not in picked and kept[i] and similarity(i) < 0.7:
            picked.append(i)
    return (picked + [i for i in order if i not in picked])[:k]


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop(seed: int, monkeypatch) -> None:
    monkeypatch.setattr("detal.strategies.prototypes._FIRST_BLOCK", 3)
    pool = random_pool(50, seed=seed, num_classes=4, labeled=7)
    for k in (4, 12, 50):
        picked = ask(pool, Budget(k), seed=seed).image_ids
        assert list(picked) == list(pool.image_ids[naive_div_proto(pool, k, seed)])


@pytest.mark.parametrize("field", ["scores", "object_features"])
def test_nan_is_refused_with_the_image_named(field: str) -> None:
    seen = with_details(detections_of([[(0, 0.5)], [(1, 0.6), (2, 0.3)], [(0, 0.4)]]))
    getattr(seen, field)[2] = torch.nan
    with pytest.raises(DataError, match=r"image 'b'; 1 of 3 images"):
        ask(
            Candidates.from_detections(["a", "b", "c"], seen, class_names=("x", "y", "z")),
            Budget(1),
        )


def test_needs_object_features() -> None:
    pool = Candidates.from_detections(
        ["a"], detections_of([[(0, 0.5)]]), class_names=("x", "y", "z")
    )
    with pytest.raises(ConfigError, match="`div_proto` needs a feature for each box"):
        ask(pool, Budget(1))


@pytest.mark.parametrize("option", ["t_enms", "t_intra", "t_inter", "alpha", "beta"])
def test_wrong_options(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"{option} of div_proto must be a number in .*got 2"):
        make_strategy("div_proto", **{option: 2})
