"""Category curves on disk: what they were fitted to, so that the fit can be checked and redone.

    <folder>/curves.json    class names, points (counts and AP of each variant), the fitted
                            curves, the labels that are there now, and where all that comes from

Shapes: C categories, V variants of the detector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.files import write_json
from detal.notebook import notebook_table
from detal.reward.category_curves import CategoryCurves, fit_category_curves
from detal.reward.json_file import floats, read_table, without_nan

__all__ = ["FittedCurves"]

Floats = NDArray[np.float64]

_FILE = "curves.json"
_VERSION = 2


@dataclass(frozen=True, eq=False)
class FittedCurves:
    """Curves with the measurements behind them.

    Attributes:
        class_names: C distinct names.
        counts: (V, C) objects that each variant was trained on.
        ap: (V, C) what it then reached, NaN where there was no ground truth.
        labeled_counts: (C,) labelled objects when the curves were fitted.
        curves: Fitted to the points.
        made_of: Where it comes from, as JSON holds it.
    """

    class_names: tuple[str, ...]
    counts: Floats
    ap: Floats
    labeled_counts: Floats
    curves: CategoryCurves
    made_of: Mapping[str, Any]

    @staticmethod
    def fit(
        class_names: Sequence[str],
        *,
        counts: Floats,
        ap: Floats,
        labeled_counts: Floats,
        made_of: Mapping[str, Any],
    ) -> FittedCurves:
        """Fit curves to the points (see `fit_category_curves`, also for what it raises)."""
        return FittedCurves(
            class_names=tuple(class_names),
            counts=counts,
            ap=ap,
            labeled_counts=labeled_counts,
            curves=fit_category_curves(counts, ap),
            made_of=dict(made_of),
        )

    def for_classes(self, class_names: Sequence[str]) -> CategoryCurves:
        """The curves in the order of other ``class_names``, by name.

        A class that was not measured follows the mean of those that were, as uncertain as the most
        uncertain of them.

        Raises:
            DataError: If none of the classes is known.
        """
        row_of = {name: row for row, name in enumerate(self.class_names)}
        rows = np.array([row_of.get(name, -1) for name in class_names], dtype=np.int64)
        if len(rows) and (rows < 0).all():
            raise DataError(
                f"a table of category curves must know the detector's classes, it knows "
                f"{list(self.class_names)}, the detector {list(class_names)}"
            )
        curves = self.curves
        widest = curves.covariance[np.argmax(curves.covariance.trace(axis1=1, axis2=2))]
        # Row -1 is what stands in for the unknown.
        return CategoryCurves(
            top=np.append(curves.top, curves.top.mean())[rows],
            drop=np.append(curves.drop, curves.drop.mean())[rows],
            exponent=curves.exponent,
            onset=curves.onset,
            covariance=np.concatenate([curves.covariance, widest[None]])[rows],
        )

    def _repr_html_(self) -> str:
        """Where each class stands, those with most labels first, for notebooks."""
        now, ap = self.labeled_counts, self.curves.ap(self.labeled_counts)
        further = self.curves.ap(now + 10)
        return notebook_table(
            "Category curves",
            {"classes": len(self.class_names), "variants": len(self.counts)},
            columns=("class", "labelled", "AP", "10 more objects add"),
            rows=[
                (self.class_names[i], float(now[i]), float(ap[i]), float(further[i] - ap[i]))
                for i in np.argsort(-now, kind="stable").tolist()
            ],
            total=len(self.class_names),
        )

    def save(self, folder: Path) -> None:
        """Write ``curves.json`` into the folder, in one step."""
        curves = self.curves
        record = {
            "version": _VERSION,
            "class_names": list(self.class_names),
            "points": {"counts": self.counts.tolist(), "ap": without_nan(self.ap)},
            "labeled_counts": self.labeled_counts.tolist(),
            "curves": {
                "formula": "AP(n) = top - drop * (1 + n / onset) ** -exponent",
                "top": curves.top.tolist(),
                "drop": curves.drop.tolist(),
                "exponent": curves.exponent,
                "onset": curves.onset,
                "covariance": curves.covariance.tolist(),
            },
            "made_of": dict(self.made_of),
        }
        write_json(folder / _FILE, record)

    @staticmethod
    def load(folder: Path) -> FittedCurves:
        """Read a folder that `save` wrote.

        Raises:
            DataError: If there is no table in it.
            StoreError: If the file is damaged, naming it.
        """
        return read_table(folder / _FILE, _parsed, kind="table of category curves")


def _parsed(record: dict[str, Any]) -> FittedCurves:
    if record["version"] != _VERSION:
        raise ValueError(f"version {_VERSION} is needed, found {record['version']}")
    names, fitted, points = record["class_names"], record["curves"], record["points"]
    num_classes = len(names)
    curves = CategoryCurves(
        top=floats(fitted["top"], (num_classes,)),
        drop=floats(fitted["drop"], (num_classes,)),
        exponent=float(fitted["exponent"]),
        onset=float(fitted["onset"]),
        covariance=floats(fitted["covariance"], (num_classes, 2, 2)),
    )
    num_variants = len(points["counts"])
    return FittedCurves(
        class_names=tuple(names),
        counts=floats(points["counts"], (num_variants, num_classes)),
        ap=floats(points["ap"], (num_variants, num_classes)),
        labeled_counts=floats(record["labeled_counts"], (num_classes,)),
        curves=curves,
        made_of=record["made_of"],
    )
