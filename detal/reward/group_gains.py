"""What a short training on each group of candidates changed, and how much of that is noise.

A variant goes on from the round's detector for a few steps, on the labelled images and those of a
group; its gain is its AP minus that of controls, which take as many steps on the labelled images
alone. Controls differ by their seed only, so they show the noise of one measurement. With d_gc the
gain of group g for class c, the model is

    d_gc = mean + group_g + class_c + deviation_gc + noise

in which groups and deviations are normal around 0. Their variances are what is found beyond the
noise, and both are shrunk towards 0 accordingly (empirical Bayes): where groups differ no more than
controls do, all get the same gain.

Shapes: G groups, C classes, R controls, K of the classes with ground truth, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.files import write_json
from detal.reward.json_file import floats, read_table, without_nan

__all__ = ["GroupGains", "ShrunkGains", "shrunk_gains"]

Floats = NDArray[np.float64]

_FILE = "groups.json"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class ShrunkGains:
    """Gains of groups after shrinkage; see the module.

    Attributes:
        class_gain: (G, C) AP of each class, NaN without ground truth; may be negative.
        deviation: Standard deviation of a group's mean over the classes.
        noise: Standard deviation of that mean in one measurement.
        spread: Standard deviation of its true values between groups.
    """

    class_gain: Floats
    deviation: float
    noise: float
    spread: float

    @property
    def gain(self) -> Floats:
        """(G,) mean over the classes with ground truth: mAP."""
        return _over_classes(self.class_gain)


def shrunk_gains(group_ap: Floats, control_ap: Floats) -> ShrunkGains:
    """Shrink measured gains to what is not noise.

    The variance of the noise of a mean over classes is that between the controls, or, if greater,
    what classes of independent noise would give: few controls may agree by chance.

    Args:
        group_ap: (G, C) AP of each group's variant, NaN without ground truth; a row of NaN for a
            group without a variant, which gets the mean of the others; 0 if there is none.
        control_ap: (R, C) AP of the controls, R >= 2.

    Raises:
        DataError: If there are fewer than two controls, or no class has ground truth.
    """
    if len(control_ap) < 2:
        raise DataError(f"noise needs at least two controls, got {len(control_ap)}")
    measured = ~np.isnan(group_ap).all(axis=1)
    known = np.isfinite(control_ap).all(axis=0) & np.isfinite(group_ap[measured]).all(axis=0)
    if not known.any():
        raise DataError("a table of groups needs a class with ground truth")
    controls = control_ap[:, known]
    noise, class_noise = _noise(controls)
    class_gain = np.full(group_ap.shape, np.nan)
    class_gain[:, known] = 0.0
    if not measured.any():
        return ShrunkGains(class_gain, noise**0.5, noise**0.5, 0.0)
    gains = group_ap[np.ix_(measured, known)] - controls.mean(axis=0)
    rows, columns = gains.mean(axis=1), gains.mean(axis=0)
    total = float(gains.mean())
    apart = gains - rows[:, None] - columns + total
    freedom = (len(gains) - 1) * (gains.shape[1] - 1)
    spread = max(_variance(rows) - noise, 0.0)
    class_spread = max(float((apart**2).sum()) / max(freedom, 1) - class_noise, 0.0)
    kept, class_kept = _share(spread, noise), _share(class_spread, class_noise)
    class_gain[:, known] = columns
    shrunk = columns + kept * (rows - total)[:, None] + class_kept * apart
    class_gain[np.ix_(measured, known)] = shrunk
    variance = (
        kept * noise + (1 - kept) ** 2 * (spread + noise) / len(gains) + noise / len(controls)
    )
    return ShrunkGains(class_gain, float(np.sqrt(variance)), noise**0.5, spread**0.5)


def _noise(controls: Floats) -> tuple[float, float]:
    """Variance of the mean over classes, and of one class beside it, of (R, K) controls."""
    apart = controls - controls.mean(axis=0)
    mean = apart.mean(axis=1)
    freedom = (len(controls) - 1) * (controls.shape[1] - 1)
    of_class = float(((apart - mean[:, None]) ** 2).sum()) / max(freedom, 1)
    return max(_variance(mean), of_class / controls.shape[1]), of_class


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _share(spread: float, noise: float) -> float:
    """Of a difference, what is not noise; all of it where nothing differs."""
    return spread / (spread + noise) if spread + noise > 0 else 1.0


def _over_classes(values: Floats) -> Floats:
    """(G,) mean of (G, C) over the classes that are not NaN."""
    return np.asarray(values[:, np.isfinite(values).all(axis=0)].mean(axis=1))


@dataclass(frozen=True, eq=False)
class GroupGains:
    """Groups of candidates with what was measured on them.

    Attributes:
        class_names: C distinct names.
        centres: (G, D) of the groups, among image features of unit length.
        images: (G,) candidates of each.
        trained: (G,) of them that its variant was trained on; 0 without a variant.
        pseudo_boxes: (G,) pseudo-labels on these.
        labeled: (G,) labelled images nearest to each centre.
        group_ap: (G, C) AP of each variant, NaN without ground truth, or without a variant.
        control_ap: (R, C) AP of the controls.
        made_of: Where it comes from, as JSON holds it.
    """

    class_names: tuple[str, ...]
    centres: NDArray[np.float32]
    images: NDArray[np.int64]
    trained: NDArray[np.int64]
    pseudo_boxes: NDArray[np.int64]
    labeled: NDArray[np.int64]
    group_ap: Floats
    control_ap: Floats
    made_of: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def shrunk(self) -> ShrunkGains:
        """The gains, noise taken off."""
        return shrunk_gains(self.group_ap, self.control_ap)

    @property
    def measured(self) -> Floats:
        """(G,) gain of mAP as it was measured, NaN without a variant."""
        known = np.isfinite(self.shrunk.class_gain).all(axis=0)
        seen = self.group_ap - self.control_ap.mean(axis=0)
        return np.asarray(seen[:, known].mean(axis=1))

    def for_classes(self, class_names: Sequence[str]) -> tuple[Floats, Floats]:
        """Shrunk gains (G, C) and APs of the controls (C,) in the order of other ``class_names``.

        Both are NaN for a class that was not measured.

        Raises:
            DataError: If none of the classes is known.
        """
        row_of = {name: row for row, name in enumerate(self.class_names)}
        rows = np.array([row_of.get(name, -1) for name in class_names], dtype=np.int64)
        if len(rows) and (rows < 0).all():
            raise DataError(
                f"a table of groups must know the detector's classes, it knows "
                f"{list(self.class_names)}, the detector {list(class_names)}"
            )
        gains = self.shrunk.class_gain
        before = np.where(np.isfinite(gains).all(axis=0), self.control_ap.mean(axis=0), np.nan)
        unknown = np.full((len(gains), 1), np.nan)
        return np.hstack([gains, unknown])[:, rows], np.append(before, np.nan)[rows]

    def save(self, folder: Path) -> None:
        """Write ``groups.json`` into the folder, in one step."""
        shrunk = self.shrunk
        record = {
            "version": _VERSION,
            "class_names": list(self.class_names),
            "centres": self.centres.tolist(),
            **{name: getattr(self, name).tolist() for name in _COUNTS},
            "group_ap": without_nan(self.group_ap),
            "control_ap": without_nan(self.control_ap),
            "shrunk": {
                "class_gain": without_nan(shrunk.class_gain),
                "deviation": shrunk.deviation,
                "noise": shrunk.noise,
                "spread": shrunk.spread,
            },
            "made_of": dict(self.made_of),
        }
        write_json(folder / _FILE, record)

    @staticmethod
    def load(folder: Path) -> GroupGains:
        """Read a folder that `save` wrote.

        Raises:
            DataError: If there is no such table in it.
            StoreError: If the file is damaged, naming it.
        """
        return read_table(folder / _FILE, _parsed, kind="table of candidate groups")


_COUNTS = ("images", "trained", "pseudo_boxes", "labeled")


def _parsed(record: dict[str, Any]) -> GroupGains:
    if record["version"] != _VERSION:
        raise ValueError(f"version {_VERSION} is needed, found {record['version']}")
    names = tuple(record["class_names"])
    groups, controls = len(record["images"]), len(record["control_ap"])
    centres = np.array(record["centres"], dtype=np.float32)
    if centres.ndim != 2 or len(centres) != groups:
        raise ValueError(f"{groups} centres of one length are needed, found {centres.shape}")
    counts = {name: floats(record[name], (groups,)).astype(np.int64) for name in _COUNTS}
    return GroupGains(
        class_names=names,
        centres=centres,
        **counts,
        group_ap=floats(record["group_ap"], (groups, len(names))),
        control_ap=floats(record["control_ap"], (controls, len(names))),
        made_of=record["made_of"],
    )
