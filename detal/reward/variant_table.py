"""The variant table: what a batch brings, composed from what was measured on groups of candidates.

In the spirit of MGRAL (Liang et al., arXiv 2310.08387), whose tables hold the mAP of detectors that
were trained beforehand, semi-supervised, on candidates; they are not public, so this is ours and no
reproduction. Let r_gc be the gain of group g for class c as a share of what is missing,
H_c = 1 - AP_c: what was measured (`detal.reward.group_gains`), raised by the same amount for all so
that the least group gains as much mAP as is noise in one measurement. For pseudo-labels may do
harm, and labels do not; what they tell is how groups differ. A batch S holds

    x_g(S) = sum over u in S and g of a_u / (n_g mean of a in g)

times what the variant of g was trained on, n_g images, in units of what images are expected to
teach, a_u >= 0. It brings

    gain_c(S) = H_c (1 - prod_g (1 - min(1, r_gc h(x_g(S)))))
    h(x) = (1 - (1 + x) ** -1/2) / (1 - 2 ** -1/2)

so that a batch of the size of the variant's brings what was measured (h(1) = 1), more of a group
brings less and less, as along a learning curve, and groups do not add up to more than is missing.
The gain is the mean over the measured classes. Each factor falls, ever more slowly, with what the
batch holds of its group, so the gain is monotone and submodular, whatever was measured.

Pseudo-labels teach less than labels: gains are low, and their order is what counts.

Shapes: P candidates, G groups, C classes, n candidates asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.reward.group_gains import GroupGains

__all__ = ["GroupState", "VariantTable"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CELLS_AT_ONCE = 4_000_000
_CLASSES_NAMED = 2


@dataclass(frozen=True, eq=False)
class GroupState:
    """What is picked.

    Attributes:
        held: (G,) x_g, see the module.
        effect: (G, C) min(1, r h(x)) of each group.
        others: (G, C) share of what is missing that the other groups leave.
    """

    held: Floats
    effect: Floats
    others: Floats


class VariantTable:
    """Gain of a batch from the groups that it draws on; see the module.

    Args:
        gains: Of G groups.
        groups: (P,) the group of each candidate.
        amounts: (P,) what each candidate is expected to teach, >= 0, in any unit.
        class_names: C names, of the detector.
        labeled: (G,) labelled images nearest to each centre now; those that came since the table
            was made count as picked. By default none did.
    """

    def __init__(
        self,
        gains: GroupGains,
        *,
        groups: Integers,
        amounts: Floats,
        class_names: tuple[str, ...],
        labeled: Integers | None = None,
    ) -> None:
        measured, ap = gains.for_classes(class_names)
        shrunk = gains.shrunk
        measured = measured + max(shrunk.noise - float(shrunk.gain.min()), 0.0)
        present = np.isfinite(ap)
        self._missing = np.where(present, 1 - ap, 0.0)
        share = np.divide(
            measured, self._missing, out=np.zeros(measured.shape), where=self._missing > 0
        )
        self._share = np.clip(np.where(present, share, 0.0), 0, 1)
        self._measured = max(int(present.sum()), 1)
        self._names = class_names
        self.groups = groups
        images = np.where(gains.trained > 0, gains.trained, max(gains.trained.max(), 1))
        self.amounts = _image_equivalents(groups, amounts, len(gains)) / images[groups]
        since = np.zeros(len(gains)) if labeled is None else labeled - gains.labeled
        self._start = self._state(np.maximum(since, 0) / images)

    def __len__(self) -> int:
        return len(self.groups)

    def start(self) -> GroupState:
        """See `RewardTable`."""
        return self._start

    def marginal_gain(self, state: GroupState, index: Integers) -> Floats:
        """See `RewardTable`."""
        gains = np.zeros(len(index))
        step = max(_CELLS_AT_ONCE // max(len(self._names), 1), 1)
        for start in range(0, len(index), step):
            part = slice(start, start + step)
            gains[part] = self._added(state, index[part]).sum(axis=1) / self._measured
        return gains

    def add(self, state: GroupState, candidate: int) -> GroupState:
        """See `RewardTable`."""
        held = state.held.copy()
        held[self.groups[candidate]] += self.amounts[candidate]
        return self._state(held)

    def gain(self, batch: Integers) -> float:
        """See `RewardTable`; the order does not matter."""
        return float(self.class_gain(batch).sum()) / self._measured

    def class_gain(self, batch: Integers) -> Floats:
        """(C,) AP (0..1) of each class that the candidates ``batch`` (K,) bring."""
        added = np.bincount(
            self.groups[batch], self.amounts[batch], minlength=len(self._start.held)
        )
        before, after = self._start, self._state(self._start.held + added)
        left = (1 - before.effect).prod(axis=0) - (1 - after.effect).prod(axis=0)
        return np.asarray(self._missing * left)

    def explain(self, state: GroupState, candidate: int) -> str:
        """See `RewardTable`."""
        worth = self._added(state, np.array([candidate]))[0]
        named = [
            self._names[label]
            for label in np.argsort(-worth, kind="stable")[:_CLASSES_NAMED]
            if worth[label] > 0
        ]
        group = int(self.groups[candidate])
        where = f"group {group + 1} of {len(state.held)}"
        return f"as {where}, which gained most for {', '.join(named)}" if named else f"as {where}"

    def _state(self, held: Floats) -> GroupState:
        effect = np.minimum(1, self._share * _returns(held)[:, None])
        return GroupState(held, effect, _products_of_others(1 - effect))

    def _added(self, state: GroupState, index: Integers) -> Floats:
        """(n, C) AP of each class that each candidate adds."""
        group = self.groups[index]
        held = state.held[group] + self.amounts[index]
        effect = np.minimum(1, self._share[group] * _returns(held)[:, None])
        return np.asarray(self._missing * state.others[group] * (effect - state.effect[group]))


def _returns(held: Floats) -> Floats:
    """H of the module."""
    return np.asarray((1 - (1 + held) ** -0.5) / (1 - 2**-0.5))


def _image_equivalents(groups: Integers, amounts: Floats, number: int) -> Floats:
    """(P,) amounts in units of the mean of the candidate's group; 0 where that is 0."""
    images = np.bincount(groups, minlength=number)
    mean = np.bincount(groups, amounts, minlength=number) / np.maximum(images, 1)
    return np.divide(amounts, mean[groups], out=np.zeros(len(amounts)), where=mean[groups] > 0)


def _products_of_others(left: Floats) -> Floats:
    """(G, C) product of (G, C) over all other groups, without a division by 0."""
    ones = np.ones((1, left.shape[1]))
    before = np.cumprod(np.vstack([ones, left[:-1]]), axis=0)
    after = np.cumprod(np.vstack([ones, left[:0:-1]]), axis=0)[::-1]
    return np.asarray(before * after)
