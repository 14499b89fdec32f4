"""Whether the next boxes are worth their labels, from the rounds measured so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from detal.errors import DataError
from detal.loop.curves import Curve, Interval, StopRule, expected_gain
from detal.seeding import generator

__all__ = ["StoppingAdvice", "read_curve", "stopping_advice"]

_DEFAULT_BOXES = 100.0


@dataclass(frozen=True)
class StoppingAdvice:
    """What the next boxes are expected to bring.

    Attributes:
        boxes: How many boxes it is about.
        gain: Expected gain in mAP (0..1), with an interval.
        stop: Whether the rule says to stop; None without a rule.
    """

    boxes: float
    gain: Interval
    stop: bool | None

    def __str__(self) -> str:
        mean, low, high = (100 * v for v in (self.gain.mean, self.gain.low, self.gain.high))
        text = (
            f"the next {self.boxes:g} boxes are expected to add {mean:.2f} "
            f"[{low:.2f}, {high:.2f}] points of mAP"
        )
        verdict = {None: "", True: ": stop", False: ": go on"}[self.stop]
        return text + verdict

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def stopping_advice(curve: Curve, rule: StopRule | None = None) -> StoppingAdvice:
    """What the next boxes would add, and whether the rule says to stop.

    Args:
        curve: mAP in [0, 1] over boxes, at least three measurements.
        rule: When to stop; it also says how many boxes the advice is about (100 without one).

    Raises:
        DataError: If there are fewer than three measurements.
    """
    boxes = _DEFAULT_BOXES if rule is None else rule.boxes
    gain = expected_gain([curve], more=boxes, rng=generator(0, "advice"))
    return StoppingAdvice(boxes=boxes, gain=gain, stop=None if rule is None else rule.fires(gain))


def read_curve(path: Path) -> Curve:
    """One's own rounds from a CSV with columns ``boxes`` (labelled so far) and ``mean_ap`` (0..1).

    Raises:
        DataError: If the file, a column or a value is not as it must be.
    """
    try:
        table = pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot read the curve {path}: {error}") from None
    missing = [name for name in ("boxes", "mean_ap") if name not in table.columns]
    if missing:
        raise DataError(f"{path} must have columns boxes and mean_ap, got {table.columns}")
    try:
        values = table.select(pl.col("boxes", "mean_ap").cast(pl.Float64)).sort("boxes")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"boxes and mean_ap must be numbers in {path}: {error}") from None
    measured = values["mean_ap"].fill_null(float("nan"))
    outside = ~measured.is_between(0, 1)
    if outside.any() or not values["boxes"].is_finite().fill_null(value=False).all():
        raise DataError(f"mean_ap must be in 0..1 and boxes a number in every row of {path}")
    return Curve(
        strategy=path.stem, seed=0, spent=values["boxes"].to_numpy(), metric=measured.to_numpy()
    )
