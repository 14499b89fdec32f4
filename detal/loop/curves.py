"""Learning curves: areas, label efficiency, win matrix and stopping advice, with intervals.

A curve is what one arm (strategy and seed) measured after each round: what had been labelled, and a
metric. Areas are means of the metric over the common range of the budget axis, so that they carry
the metric's unit; intervals are percentile bootstrap intervals over seeds, paired by seed where two
strategies are compared. With few seeds they are wide, and they are meant to be.

Shapes: R rounds, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError

__all__ = [
    "Curve",
    "Interval",
    "StopRule",
    "area_under",
    "bootstrap_mean",
    "common_areas",
    "expected_gain",
    "labels_to_reach",
    "stopping_point",
    "win_matrix",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """One arm's measurements.

    Attributes:
        strategy: Name of the strategy.
        seed: Seed of the arm.
        spent: (R,) what had been labelled at each measurement, > 0, strictly increasing.
        metric: (R,) the metric, for example mAP in [0, 1].
    """

    strategy: str
    seed: int
    spent: Floats
    metric: Floats

    def __post_init__(self) -> None:
        if len(self.spent) != len(self.metric) or len(self.spent) == 0:
            raise DataError(f"curve {self.strategy}/{self.seed} needs equal, non-empty columns")
        if self.spent[0] <= 0 or np.any(np.diff(self.spent) <= 0):
            raise DataError(
                f"curve {self.strategy}/{self.seed}: spent must be > 0 and increase, got "
                f"{self.spent.tolist()}"
            )


@dataclass(frozen=True)
class Interval:
    """A mean with a bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class StopRule:
    """Stop as soon as the next ``boxes`` boxes are expected to add less than ``under``.

    Attributes:
        under: Gain in points of mAP, 0..100 (``0.2`` is an mAP of 0.002).
        boxes: Boxes that have to bring it.
    """

    under: float
    boxes: float = 100.0

    def fires(self, gain: Interval) -> bool:
        """Whether an expected gain in mAP (0..1) is too small to go on."""
        return 100 * gain.mean < self.under


def area_under(curve: Curve, *, start: float, end: float) -> float:
    """Mean of the metric over ``start .. end`` of the budget axis (trapezoids, linear between).

    Beyond the curve's own range the nearest value counts.

    Raises:
        DataError: If ``end`` is not above ``start``.
    """
    if end <= start:
        raise DataError(f"the range of an area must have a length, got {start} to {end}")
    inside = curve.spent[(curve.spent > start) & (curve.spent < end)]
    x = np.concatenate([[start], inside, [end]])
    y = np.interp(x, curve.spent, curve.metric)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (end - start))


def common_areas(curves: Mapping[str, Mapping[int, Curve]]) -> dict[str, dict[int, float]]:
    """Area of each strategy's curve of each seed, over the range that all of that seed cover."""
    areas: dict[str, dict[int, float]] = {name: {} for name in curves}
    for seed in sorted({seed for by_seed in curves.values() for seed in by_seed}):
        arms = {name: by_seed[seed] for name, by_seed in curves.items() if seed in by_seed}
        start = max(float(curve.spent[0]) for curve in arms.values())
        end = min(float(curve.spent[-1]) for curve in arms.values())
        for name, curve in arms.items():
            areas[name][seed] = area_under(curve, start=start, end=end)
    return areas


def labels_to_reach(curve: Curve, target: float) -> float:
    """Least spent at which the curve reaches ``target``, interpolated; inf if it never does."""
    reached = np.flatnonzero(curve.metric >= target)
    if len(reached) == 0:
        return float("inf")
    i = int(reached[0])
    if i == 0:
        return float(curve.spent[0])
    x, y = curve.spent[i - 1 : i + 1], curve.metric[i - 1 : i + 1]
    return float(x[0] + (x[1] - x[0]) * (target - y[0]) / (y[1] - y[0]))


def bootstrap_mean(
    values: Sequence[float], *, rng: np.random.Generator, samples: int = 2000
) -> Interval:
    """Mean over seeds with a 95 % percentile bootstrap interval.

    Args:
        values: (S,) one value per seed.
        rng: Source of the resampling.
        samples: Bootstrap samples.

    Raises:
        DataError: If there are no values.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        raise DataError("an interval needs at least one value")
    draws = rng.integers(0, len(data), size=(samples, len(data)))
    means = data[draws].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high))


def win_matrix(
    areas: dict[str, dict[int, float]], *, rng: np.random.Generator
) -> dict[str, dict[str, Interval]]:
    """Mean difference of areas, row minus column, over the seeds that both have.

    Args:
        areas: Area by strategy and seed.
        rng: Source of the resampling.

    Returns:
        For each pair of different strategies the difference with its interval; a row wins against
        a column where the whole interval is above zero.
    """
    matrix: dict[str, dict[str, Interval]] = {}
    for row, mine in areas.items():
        matrix[row] = {}
        for column, theirs in areas.items():
            common = sorted(set(mine) & set(theirs))
            if row != column and common:
                differences = [mine[seed] - theirs[seed] for seed in common]
                matrix[row][column] = bootstrap_mean(differences, rng=rng)
    return matrix


def expected_gain(
    curves: Sequence[Curve], *, more: float, rng: np.random.Generator, samples: int = 500
) -> Interval:
    """What the next ``more`` units of budget would add to the metric.

    A power law ``a - b * spent ** -c`` (b, c >= 0) is fitted to all measurements and read off at
    the mean of the curves' ends; the interval comes from resampling whole seeds, or single
    measurements where there is only one seed.

    Args:
        curves: Curves of one strategy, S of them.
        more: Units of the budget axis, > 0.
        rng: Source of the resampling.
        samples: Bootstrap samples.

    Raises:
        DataError: If there are fewer than three measurements in all.
    """
    spent = [curve.spent for curve in curves]
    metric = [curve.metric for curve in curves]
    if sum(map(len, spent)) < 3:
        raise DataError("advice on stopping needs at least three measurements")
    end = float(np.mean([s[-1] for s in spent]))
    if len(curves) == 1:
        spent, metric = list(spent[0][:, None]), list(metric[0][:, None])

    def gain(rows: NDArray[np.int64]) -> float:
        x = np.concatenate([spent[i] for i in rows])
        y = np.concatenate([metric[i] for i in rows])
        _, b, c = _fit_power_law(x, y)
        return float(b * (end**-c - (end + more) ** -c))

    everything = np.arange(len(spent))
    draws = [gain(rng.choice(everything, size=len(everything))) for _ in range(samples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(mean=gain(everything), low=float(low), high=float(high))


def stopping_point(curve: Curve, rule: StopRule, *, rng: np.random.Generator) -> int | None:
    """The measurement after which the rule would have ended this arm.

    Each decision sees the measurements until then, and needs three of them.

    Args:
        curve: mAP in [0, 1] over boxes.
        rule: The rule.
        rng: Source of the resampling.

    Returns:
        Its position in the curve, or None if the rule never fired.
    """
    for last in range(2, len(curve.spent)):
        seen = replace(curve, spent=curve.spent[: last + 1], metric=curve.metric[: last + 1])
        if rule.fires(expected_gain([seen], more=rule.boxes, rng=rng)):
            return last
    return None


def _fit_power_law(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Least squares of ``a - b * x ** -c`` over a grid of c; b is never negative."""
    best = (float(y.mean()), 0.0, 1.0)
    best_error = float(((y - y.mean()) ** 2).sum())
    for c in np.linspace(0.05, 2.0, 40):
        basis = x**-c
        centred = basis - basis.mean()
        norm = float((centred**2).sum())
        if norm <= 0:
            continue
        b = max(0.0, -float((centred * (y - y.mean())).sum()) / norm)
        a = float(y.mean() + b * basis.mean())
        error = float(((a - b * basis - y) ** 2).sum())
        if error < best_error:
            best, best_error = (a, b, float(c)), error
    return best
