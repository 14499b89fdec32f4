"""The parts of the TrustSet's benchmark that need no detector."""

from __future__ import annotations

import numpy as np
import pytest

from detal.trustset import Suspicion
from tests.test_bench import load
from tests.trustset.factories import labels_of

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
