"""What was decided about the images of a batch and of its reserve.

Rows count the K images of the batch first, then the S images of the reserve, best first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError

__all__ = ["Decisions", "Verdict"]

Verdict = Literal["accepted", "rejected", "replaced", ""]
"""``replaced``: rejected, and the next image of the reserve comes instead; empty: taken back."""

_TOLERANCE = 1e-3  # costs are kept to three digits


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions so far. An image is kept unless it is rejected; what is undecided is kept, too.

    Attributes:
        costs: (K + S,) cost of each image in the unit of the budget.
        count: K.
        budget: What the kept images may cost together.
        verdicts: ``accepted`` or ``rejected`` by row.
        replaced_by: Row of the reserve that came, by the row that it came for, in that order.
    """

    costs: NDArray[np.float64]
    count: int
    budget: float
    verdicts: Mapping[int, str] = field(default_factory=dict)
    replaced_by: Mapping[int, int] = field(default_factory=dict)

    @property
    def came(self) -> list[int]:
        """Rows of the reserve that are part of the review now, in the order they came."""
        return list(self.replaced_by.values())

    @property
    def in_play(self) -> list[int]:
        """Rows of the batch, then those that came."""
        return [*range(self.count), *self.came]

    @property
    def kept(self) -> NDArray[np.int64]:
        """Rows that the manifest will hold: the batch by rank, then what came."""
        rows = [row for row in self.in_play if self.verdicts.get(row) != "rejected"]
        return np.array(rows, dtype=np.int64)

    @property
    def spent(self) -> float:
        """Cost of what is kept."""
        return float(self.costs[self.kept].sum())

    def decide(self, row: int, verdict: Verdict) -> tuple[Decisions, str]:
        """The decisions after one more, and a sentence that says what happened.

        Taking back a rejection sends what came instead back to the reserve.

        Raises:
            DataError: If the row is not part of the review, or keeping it would exceed the budget.
        """
        if row not in self.in_play:
            raise DataError(
                f"image {row + 1} must be one of the batch, or have come instead of one"
            )
        if verdict in ("rejected", "replaced"):
            after = replace(self, verdicts={**self.verdicts, row: "rejected"})
            if verdict == "rejected":
                return after, f"{self._name(row)} rejected"
            return after._with_next(row)
        verdicts = {k: v for k, v in self.verdicts.items() if k != row}
        if verdict == "accepted":
            verdicts[row] = "accepted"
        after, back = replace(self, verdicts=verdicts)._without_what_came_for(row)
        over = after.spent - max(self.budget, self.spent)
        if over > _TOLERANCE:
            raise DataError(
                f"the kept images must cost {self.budget:g} at most, with {self._name(row)} it "
                f"would be {over:.3g} more: reject another one first"
            )
        said = f"{self._name(row)} {'accepted' if verdict else 'taken back'}"
        return after, said + (f", {back} back in reserve" if back else "")

    def summary(self, unit: str) -> dict[str, object]:
        """Figures for the page."""
        return {
            "decided": sum(row in self.verdicts for row in self.in_play),
            "total": len(self.in_play),
            "kept": len(self.kept),
            "spent": f"{self.spent:,.1f}",
            "budget": f"{self.budget:,g} {unit}",
        }

    def _name(self, row: int) -> str:
        return f"#{row + 1}" if row < self.count else f"next {row - self.count + 1}"

    def _with_next(self, row: int) -> tuple[Decisions, str]:
        """The best of the reserve that the budget still pays comes instead of ``row``."""
        if row in self.replaced_by:
            return self, f"{self._name(row)} is replaced by {self._name(self.replaced_by[row])}"
        used, left = set(self.came), self.budget - self.spent
        waiting = [r for r in range(self.count, len(self.costs)) if r not in used]
        fitting = (r for r in waiting if self.costs[r] <= left + _TOLERANCE)
        found = next(fitting, None)
        if found is None:
            why = (
                f"none of the {len(waiting)} images in reserve fits the {left:.3g} that are left"
                if waiting
                else "no image is left in reserve"
            )
            return self, f"{self._name(row)} rejected; {why}"
        after = replace(self, replaced_by={**self.replaced_by, row: found})
        return after, f"{self._name(row)} rejected, {self._name(found)} comes instead"

    def _without_what_came_for(self, row: int) -> tuple[Decisions, str]:
        """Send back what came for ``row``, and what came for that; names them."""
        gone, place = [], row
        while place in self.replaced_by:
            place = self.replaced_by[place]
            gone.append(place)
        if not gone:
            return self, ""
        after = replace(
            self,
            verdicts={k: v for k, v in self.verdicts.items() if k not in gone},
            replaced_by={k: v for k, v in self.replaced_by.items() if v not in gone},
        )
        return after, " and ".join(map(self._name, gone))
