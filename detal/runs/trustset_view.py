"""The TrustSet as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detal.report import Crop, CropRow, write_crop_sheet
from detal.runs.trustset_record import Judged, PoolCandidate

__all__ = ["draw_trust_set"]

_MOST_CLASSES = 16


def draw_trust_set(
    path: Path, judged: Judged, candidates: Sequence[PoolCandidate], *, shown: int
) -> None:
    """Draw, per category, the trusted objects and pool candidates; below, suspicious labels.

    Of many categories, those with fewest labels are shown.

    Args:
        path: The PNG.
        judged: The labelled objects.
        candidates: Of the pool, by class, most trusted first.
        shown: Objects per category and row.
    """
    counts = judged.annotations.class_counts(len(judged.class_names))
    labels = np.lexsort((np.arange(len(counts)), counts))
    labels = labels[counts[labels] > 0][:_MOST_CLASSES].tolist()
    trusted = [_members(judged, label, shown) for label in labels]
    found = [_found(judged, candidates, label) for label in labels]
    rows = _with_section(trusted, "Trusted objects: the most informative of each category first")
    rows += _with_section([row for row in found if row.crops], "Candidates of the pool")
    rows += _with_section(_suspicions(judged, 2 * shown), "Suspicious labels (dashed: proposed)")
    members = int(judged.trust_set.member.sum())
    objects = int((~judged.annotations.is_crowd).sum())
    few = "" if len(labels) == int((counts > 0).sum()) else f"{len(labels)} rarest categories; "
    write_crop_sheet(
        path,
        rows,
        title=f"TrustSet: {members:,} of {objects:,} labelled objects",
        note=f"{few}judged by {judged.source}",
    )


def _with_section(rows: Sequence[CropRow], section: str) -> list[CropRow]:
    return [
        CropRow(row.title, row.note, row.crops, section if i == 0 else "")
        for i, row in enumerate(rows)
    ]


def _members(judged: Judged, label: int, shown: int) -> CropRow:
    truth, made = judged.annotations, judged.trust_set
    rows = np.flatnonzero(made.member & (truth.labels == label))
    rows = rows[np.argsort(-made.informativeness[rows], kind="stable")]
    paths, image = judged.dataset.images["path"], truth.image_index
    crops = [
        Crop(
            path=paths[int(image[row])],
            box=_box(truth.boxes[row]),
            label=label,
            caption=(
                f"class {judged.scores.class_part[row]:.2f}, box {judged.scores.box_part[row]:.2f}"
            ),
        )
        for row in rows[:shown].tolist()
    ]
    labelled = int(((truth.labels == label) & ~truth.is_crowd).sum())
    return CropRow(judged.class_names[label], f"{len(rows)} of {labelled} trusted", crops)


def _found(judged: Judged, candidates: Sequence[PoolCandidate], label: int) -> CropRow:
    mine = [one for one in candidates if one.label == label]
    crops = [Crop(one.path, one.box, label, f"trust {one.trust:.2f}") for one in mine]
    return CropRow(judged.class_names[label], "most trusted", crops)


def _suspicions(judged: Judged, shown: int) -> list[CropRow]:
    truth, names = judged.annotations, judged.class_names
    paths = judged.dataset.images["path"]
    rows = []
    for kind in ("wrong class", "shifted box", "missing box", "never learned"):
        mine = [s for s in judged.suspicions if s.kind == kind]
        crops = []
        for s in mine[:shown]:
            own = None if s.object < 0 else _box(truth.boxes[s.object])
            label = s.label if s.object < 0 else int(truth.labels[s.object])
            said = f"{names[label]}\n→ {names[s.label]} {s.score:.2f}"
            caption = said if kind == "wrong class" else f"{names[label]} {s.score:.2f}"
            moved = s.box if kind == "shifted box" else None
            crops.append(Crop(paths[s.image], own or s.box, label, caption, moved))
        if mine:
            rows.append(CropRow(kind, f"{len(mine)} labels", crops))
    return rows


def _box(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom
