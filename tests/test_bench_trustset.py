"""The parts of the TrustSet's benchmark that need no detector."""

from __future__ import annotations

import numpy as np
import pytest

from detal.trustset import Judge, Suspicion
from tests.test_bench import load
from tests.trustset.factories import labels_of, seen_of

BOX = (10.0, 10.0, 30.0, 30.0)


def test_planted_errors_are_what_they_say(rng: np.random.Generator) -> None:
    bench = load("tools/bench/trustset.py")
    truth = labels_of([[(BOX, i % 3), ((50.0, 50.0, 60.0, 70.0), 1)] for i in range(30)])
    wrong, planted = bench.plant_errors(truth, 3, 0.2, rng)
    kinds = [one["kind"] for one in planted]
    assert {kind: kinds.count(kind) for kind in bench.KINDS} == dict.fromkeys(bench.KINDS, 4)
    assert len(wrong.labels) == 60 - 4
    changed = 0
    for one in planted:
        row = one["object"]
        if row < 0:
            continue
        assert wrong.image_index[row] == one["image"]
        moved = not np.array_equal(wrong.boxes[row], np.array(one["box"], dtype=np.float32))
        assert moved == (one["kind"] == "shifted box")
        changed += 1
    assert changed == 8
    again = bench.plant_errors(truth, 3, 0.2, np.random.default_rng(0))[1]
    same = bench.plant_errors(truth, 3, 0.2, np.random.default_rng(0))[1]
    assert again == same


@pytest.mark.parametrize(
    ("kind", "obj", "box", "hit"),
    [
        pytest.param("missing box", -1, BOX, True, id="there"),
        pytest.param("missing box", -1, (10.0, 10.0, 30.0, 20.0), True, id="half"),
        pytest.param("missing box", -1, (10.0, 10.0, 30.0, 19.0), False, id="less"),
        pytest.param("missing box", -1, (80.0, 80.0, 90.0, 90.0), False, id="elsewhere"),
        pytest.param("wrong class", 5, BOX, False, id="another-kind"),
    ],
)
def test_a_missing_box_is_found_by_its_place(kind, obj, box, hit) -> None:
    bench = load("tools/bench/trustset.py")
    planted = {"kind": "missing box", "image": 2, "object": -1, "box": list(BOX)}
    said = Suspicion(kind, 2, obj, box, 0, 0.9, 1, 1, True)
    assert bench.is_hit(said, planted) is hit
    assert not bench.is_hit(Suspicion(kind, 3, obj, box, 0, 0.9, 1, 1, True), planted)
    labelled = {"kind": "wrong class", "image": 2, "object": 5, "box": list(BOX)}
    assert bench.is_hit(said, labelled) is (obj == 5)


def test_area_is_taken_where_all_arms_have_boxes() -> None:
    bench = load("tools/bench/trustset.py")
    long = [{"seed": 0, "boxes": b, "AP": b / 100} for b in (60, 120, 180)]
    short = [{"seed": 0, "boxes": b, "AP": 0.5} for b in (60, 100)]
    strategies = {"a": {"curve": long}, "b": {"curve": short}}
    assert bench.areas_over_boxes(strategies, ("a", "b"), "a", "AP") == pytest.approx([0.8])
    assert bench.areas_over_boxes(strategies, ("a", "b"), "b", "AP") == pytest.approx([0.5])


def test_pruning_is_compared_seed_by_seed_and_drawn() -> None:
    bench = load("tools/bench/trustset.py")
    curve = [
        {"seed": seed, "share": share, "kind": kind, "mAP": value + seed / 100}
        for seed in range(3)
        for kind, share, value in (
            ("random", 0.25, 0.1),
            ("trustset", 0.25, 0.12),
            ("all", 1.0, 0.3),
        )
    ]
    found = bench._difference(curve, 0.25)
    assert found["random"]["mean"] == pytest.approx(11)
    assert found["difference"]["by_seed"] == pytest.approx([2, 2, 2])
    assert (found["difference"]["low"], found["difference"]["high"]) == pytest.approx((2, 2))
    lines = bench.pruning_figure({"curve": curve}).axes[0].get_lines()
    assert lines[0].get_ydata() == pytest.approx([11, 31])


def test_what_is_accused_of_the_dirty_images() -> None:
    """One label in three is wrong; the first three of 27 images count as dirty."""
    bench = load("tools/bench/trustset.py")
    seen = seen_of([[(BOX, [0.02, 0.9])], [(BOX, [0.9, 0.02])], [(BOX, [0.02, 0.9])]] * 9)
    truth = labels_of([[(BOX, 0)], [(BOX, 0)], [(BOX, 1)]] * 9)
    judge = Judge(seen, np.zeros(27, dtype=bool))
    found = bench._listed([judge], truth, 3)["at_0.3"]
    assert found["wrong class"] == 9
    assert found["share_of_objects"] == pytest.approx(9 / 27)
    assert found["precision"] == pytest.approx(1 / 9)
    assert found["recall"] == pytest.approx(1 / 3)
