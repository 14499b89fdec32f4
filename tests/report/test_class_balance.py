import numpy as np
import pytest

from detal.errors import DataError
from detal.report import ClassBalance


def balance_of(before: list[int], added: list[float]) -> ClassBalance:
    names = tuple(f"c{i}" for i in range(len(before)))
    return ClassBalance(names, np.array(before, dtype=np.int64), np.array(added))


def test_rows_most_frequent_first() -> None:
    rows = balance_of([1, 5, 0, 5], [0.5, 1, 0, 2]).rows()
    assert rows == [("c3", 5, 2), ("c1", 5, 1), ("c0", 1, 0.5), ("c2", 0, 0)]


def test_many_classes_are_summed_up() -> None:
    before = [1000 - i for i in range(100)] + [0] * 2900
    added = [1.0] * 3000
    added[2999] = 7.0
    added[1500] = 0.0
    rows = balance_of(before, added).rows()
    assert len(rows) == 31
    assert [row[0] for row in rows[:15]] == [f"c{i}" for i in range(15)]
    assert ("c2999", 0, 7) in rows
    name, rest_before, rest_added = rows[-1]
    assert name == "2,970 other classes"
    assert sum(row[1] for row in rows[:-1]) + rest_before == sum(before)
    assert sum(row[2] for row in rows[:-1]) + rest_added == pytest.approx(sum(added))


def test_of_many_classes_the_absent_ones_get_no_bar() -> None:
    rows = balance_of([3] + [0] * 99, [0.0] * 100).rows()
    assert rows == [("c0", 3, 0), ("99 other classes", 0, 0)]


def test_counts_must_fit() -> None:
    with pytest.raises(DataError, match="one number for each of 2 classes, got 2 and 1"):
        ClassBalance(("a", "b"), np.zeros(2, np.int64), np.zeros(1))
