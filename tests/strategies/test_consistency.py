"""CALD and flip inconsistency against slow, independent computations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Budget, Detections, Selection
from tests.features.test_pairing import random_seen, seen

VIEWS = ("flip", "cutout", "downscale", "rotate")


def pool_of(
    own: Detections,
    passes: dict[str, Detections],
    *,
    labeled: list[int] | None = None,
    labeled_images: int = 1,
) -> Candidates:
    count = own.num_classes
    known = Labeled(
        class_counts=np.array(labeled or [0] * count),
        image_features=np.ones((labeled_images, 1), np.float32) if labeled else None,
    )
    candidates = Candidates.from_detections(
        [f"{i:03d}" for i in range(len(own))],
        own,
        class_names=tuple(f"class{c}" for c in range(count)),
        labeled=known,
    )
    readers = {
        name: (lambda index, found=found: found.take(torch.from_numpy(index)))
        for name, found in passes.items()
    }
    return replace(candidates, passes=readers)


def ask(name: str, pool: Candidates, amount: float = 1000, **options: Any) -> Selection:
    strategy = make_strategy(name, **options)
    return strategy.query(pool, budget=Budget(amount), rng=np.random.default_rng(0))


def scores_of(selection: Selection) -> list[float]:
    pairs = sorted(zip(selection.image_ids, selection.scores.tolist(), strict=True))
    return [score for _, score in pairs]


def one(detections: Detections, image: int) -> Detections:
    return detections.take([image])


def naive_cald(own: Detections, views: list[Detections], *, base: float, limit: int) -> float:
    """The image's consistency as the paper's code computes it, one box after the other."""
    if own.num_boxes == 0:
        return 0.0
    ranks = list(range(own.num_boxes))
    if own.num_boxes > limit:
        ranks = sorted(set(np.round(np.linspace(0, own.num_boxes - 1, limit)).astype(int)))
    values = []
    for view in views:
        if view.num_boxes == 0:
            values.append(0.0)
            continue
        distances = []
        for k in ranks:
            overlaps = box_iou(own.boxes[k : k + 1], view.boxes)[0].numpy()
            j = int(np.argmax(overlaps))
            p, q = own.probs()[k].double().numpy(), view.probs()[j].double().numpy()
            best = p.max() + q.max()
            if own.score_kind == "softmax":
                p = own.logits[k].double().softmax(0).numpy()
                q = view.logits[j].double().softmax(0).numpy()
            p, q = p / p.sum(), q / q.sum()
            m = (p + q) / 2
            js = 0.5 * float((p * np.log(p / m)).sum()) + 0.5 * float((q * np.log(q / m)).sum())
            distances.append(abs(overlaps[j] + 0.5 * (1 - js) * best - base))
        values.append(min(distances))
    return float(np.mean(values))


class TestCald:
    def test_scores_by_hand(self):
        """One box at p = (0.8, 0.2); the flip agrees, half of the box is lost in the cut-out."""
        own = seen([((0, 0, 10, 10), (math.log(4), -math.log(4)))], [((0, 0, 9, 9), (0, 0))])
        half = seen([((0, 5, 10, 10), (0.0, 0.0))], [])
        pool = pool_of(own, {"flip": own, "cutout": half})
        entropy_m = -(0.65 * math.log(0.65) + 0.35 * math.log(0.35))
        entropy_p = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
        js = entropy_m - (entropy_p + math.log(2)) / 2
        agree, differ = 1 + 0.8, 0.5 + 0.5 * (1 - js) * (0.8 + 0.5)
        first = 1.3 - (abs(agree - 1.3) + abs(differ - 1.3)) / 2
        # m = 1 + 0.5 for the flip of the second image, nothing is left of it in the cut-out.
        second = 1.3 - (abs(1.5 - 1.3) + 0) / 2
        selection = ask("cald", pool, views=["flip", "cutout"], classes="ignored")
        assert scores_of(selection) == pytest.approx([first, second], abs=1e-6)
        assert selection.image_ids == ("001", "000")

    @pytest.mark.parametrize("score_kind", ["sigmoid", "softmax"])
    @pytest.mark.parametrize(("base", "limit"), [(1.3, 50), (0.4, 5)])
    def test_as_one_image_at_a_time(self, score_kind, base, limit):
        counts = [4, 0, 7, 60, 1, 12]
        own = random_seen(0, counts, score_kind=score_kind)
        views = [
            random_seen(i, counts[i:] + [0, 3, 2, 1, 5][:i], score_kind=score_kind)
            for i in range(1, 5)
        ]
        pool = pool_of(own, dict(zip(VIEWS, views, strict=True)))
        options = {"base_point": base, "max_boxes": limit, "classes": "ignored"}
        expected = [
            max(base, 2 - base)
            - naive_cald(one(own, i), [one(v, i) for v in views], base=base, limit=limit)
            for i in range(len(counts))
        ]
        found = scores_of(ask("cald", pool, **options))
        assert found == pytest.approx(expected, abs=1e-5)
        assert found[1] == max(base, 2 - base)

    @pytest.mark.parametrize(("empty", "place"), [("first", 0), ("last", 2)])
    @pytest.mark.parametrize("classes", ["labelled", "uniform", "ignored"])
    def test_images_without_detections(self, empty, place, classes):
        own = random_seen(0, [2, 0, 3])
        pool = pool_of(own, {"flip": random_seen(1, [2, 2, 2])}, labeled=[1, 2, 3, 4])
        selection = ask("cald", pool, views=["flip"], empty=empty, classes=classes)
        assert selection.image_ids[place] == "001"

    def test_class_stage_as_one_image_at_a_time(self):
        """For the eight images asked for, nine go into the class stage."""
        counts = [3, 1, 0, 4, 2, 5, 1, 1, 2, 3, 2, 6, 4, 2]
        own = random_seen(0, counts)
        views = [random_seen(i, counts[::-1]) for i in (1, 2)]
        labeled = [9, 3, 0, 1]
        passes = {"flip": views[0], "rotate": views[1]}
        pool = pool_of(own, passes, labeled=labeled, labeled_images=4)
        scores = [
            1.3 - naive_cald(one(own, i), [one(v, i) for v in views], base=1.3, limit=50)
            for i in range(len(counts))
        ]
        shortlist = np.argsort(-np.array(scores), kind="stable")[:9]  # 1.2 times 8
        divergences = {
            int(i): naive_divergence([one(d, int(i)) for d in (own, *views)], labeled, images=4)
            for i in shortlist
        }
        expected = sorted(divergences, key=lambda i: -divergences[i])
        assert expected[0] == 2  # nothing is detected in it
        selection = ask("cald", pool, 8, views=["flip", "rotate"])
        assert selection.image_ids == tuple(f"{i:03d}" for i in expected[:8])
        unsorted = ask("cald", pool, 8, views=["flip", "rotate"], classes="ignored")
        assert selection.image_ids != unsorted.image_ids
        text = f"classes unlike the labelled {divergences[expected[1]]:.3g}"
        assert text in selection.reasons[1]

    def test_uniform_prefers_what_is_missing(self):
        """Class 0 is labelled plenty; each image has one sure box of one class."""
        own = seen(
            [((0, 0, 9, 9), (4.0, -9))], [((0, 0, 9, 9), (-9.0, 4))], [((0, 0, 9, 9), (3.0, -9))]
        )
        pool = pool_of(own, {"flip": own}, labeled=[3, 0], labeled_images=2)
        selection = ask("cald", pool, 3, views=["flip"], classes="uniform")
        assert selection.image_ids[0] == "001"

    def test_nan_is_refused_with_the_image_named(self):
        own, view = random_seen(0, [2, 2]), random_seen(1, [2, 2])
        view.logits[2] = math.nan
        view.boxes[2] = own.boxes[2]
        with pytest.raises(DataError, match=r"must be a number.*image '001'; 1 of 2"):
            ask("cald", pool_of(own, {"flip": view}), views=["flip"])
        view.logits[2] = 0
        view.boxes[3] = math.nan
        with pytest.raises(DataError, match=r"must be a number.*image '001'; 1 of 2"):
            ask("cald", pool_of(own, {"flip": view}), views=["flip"])

    def test_a_missing_pass_is_named(self):
        own = random_seen(0, [2, 2])
        with pytest.raises(ConfigError, match=r"there is no cutout, rotate: use a strategy"):
            ask("cald", pool_of(own, {"flip": own}), views=["flip", "cutout", "rotate"])

    def test_it_asks_for_its_views(self):
        assert make_strategy("cald").needs.views == VIEWS
        assert make_strategy("cald", views="flip").needs.views == ("flip",)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param("cald", {"views": []}, "at least one", id="no-view"),
        pytest.param("cald", {"views": ["flip", "flip"]}, "different names", id="twice"),
        pytest.param("cald", {"base_point": 3}, r"base_point must be in \[0, 2\]", id="base"),
        pytest.param("cald", {"max_boxes": 1}, "at least 2", id="one-box"),
        pytest.param("cald", {"max_boxes": 2.5}, "integer", id="half-box"),
        pytest.param("cald", {"shortlist": 0.9}, "shortlist must be", id="shortlist"),
        pytest.param("cald", {"shortlist": math.nan}, "shortlist must be", id="nan"),
        pytest.param("cald", {"classes": "labeled"}, "did you mean labelled", id="classes"),
        pytest.param("cald", {"empty": "score"}, "valid are first, last", id="empty"),
        pytest.param("flip_inconsistency", {"box_weight": -1}, "box_weight", id="weight"),
        pytest.param("flip_inconsistency", {"min_iou": 0}, "min_iou", id="iou"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_strategy(name, **options)


def naive_divergence(passes: list[Detections], labeled: list[int], *, images: int) -> float:
    if passes[0].num_boxes == 0:
        return math.inf
    best = np.zeros(len(labeled))
    for found in passes:
        for c in range(len(labeled)):
            here = found.scores[found.labels == c]
            best[c] += float(here.max()) if len(here) else 0.0
    p = np.exp(best / len(passes))
    q = np.exp(np.array(labeled) / images)
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    return float((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2


class TestFlipInconsistency:
    def test_by_hand(self):
        """A box that moves by a tenth and changes its mind, and one that is lost."""
        own = seen(
            [((0, 0, 10, 10), (0.0, -2))],
            [((0, 0, 10, 10), (2.0, -6))],
            [((0, 0, 10, 10), (0.0, -2))],
        )
        flipped = seen(
            [((1, 0, 11, 10), (1.0, -2))],
            [((8, 8, 20, 20), (2.0, -6))],
            [((0, 0, 10, 10), (0.0, -2))],
        )
        p, q = 0.5, 1 / (1 + math.exp(-1))
        changed = (q - p) * 1 / 2 + 2 * 0.5 * (0.01 / 4)
        sure, absent = 1 / (1 + math.exp(-2)), 0.01
        lost = (sure - absent) * (2 - math.log(absent / (1 - absent))) / 2
        selection = ask("flip_inconsistency", pool_of(own, {"flip": flipped}), box_weight=2)
        assert scores_of(selection) == pytest.approx([changed, lost, 0], abs=1e-5)
        assert selection.image_ids == ("001", "000", "002")

    @pytest.mark.parametrize("score_kind", ["sigmoid", "softmax"])
    def test_as_one_box_at_a_time(self, score_kind):
        own = random_seen(0, [3, 0, 5, 2], score_kind=score_kind)
        flipped = replace(
            own,
            boxes=own.boxes + 2 * torch.randn(10, 4, generator=torch.manual_seed(0)),
            logits=own.logits + torch.randn(own.logits.shape, generator=torch.manual_seed(1)),
        )
        values = []
        for i in range(10):
            image = int(own.image_index[i])
            rows = [j for j in range(10) if int(own.image_index[j]) == image]
            overlaps = box_iou(own.boxes[i : i + 1], flipped.boxes[rows])[0]
            j = rows[int(overlaps.argmax())]
            probs = [own.probs()[i], flipped.probs()[j]]
            if float(overlaps.max()) < 0.3:
                probs[1] = probs[0].clamp_max(0.01)
                if score_kind == "softmax":
                    probs[1] = probs[0] * min(1.0, 0.01 / float(probs[0].sum()))
            p, q = probs
            if score_kind == "softmax":
                p, q = (torch.cat([x, 1 - x.sum(0, keepdim=True)]) for x in (p, q))
                value = float((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
            else:
                ends = [torch.stack([x, 1 - x]) for x in (p, q)]
                both = [(a * (a / b).log()).sum() for a, b in (ends, ends[::-1])]
                value = float(sum(both)) / 2
            values.append(value)
        expected = [
            float(np.mean([v for v, i in zip(values, own.image_index, strict=True) if i == image]))
            if image != 1
            else 0.0
            for image in range(4)
        ]
        options: dict[str, Any] = {"box_weight": 0, "min_iou": 0.3, "aggregation": "mean"}
        found = scores_of(ask("flip_inconsistency", pool_of(own, {"flip": flipped}), **options))
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)

    def test_nan_is_refused_with_the_image_named(self):
        own, view = random_seen(0, [2, 2]), random_seen(0, [2, 2])
        view.logits[2] = math.nan
        with pytest.raises(DataError, match=r"must be a number.*image '001'; 1 of 2"):
            ask("flip_inconsistency", pool_of(own, {"flip": view}))
