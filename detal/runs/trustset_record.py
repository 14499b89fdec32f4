"""What a run of ``detal trustset show`` found out, and the tables it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from detal.config import TrustSetConfig
from detal.datasets import Dataset
from detal.runs.provenance import versions
from detal.structures import Annotations
from detal.trustset import ObjectScores, Suspicion, TrustSet

__all__ = ["Judged", "PoolCandidate", "objects_table", "suspicious_table", "trust_record"]


@dataclass(frozen=True, eq=False)
class Judged:
    """Labelled objects and what was found out about them.

    Attributes:
        dataset: The readable labelled images.
        annotations: Their objects in the detector's label order.
        class_names: C names.
        scores: Of the objects.
        trust_set: The trusted ones.
        suspicions: Labels to look at again.
        source: Who judged.
    """

    dataset: Dataset
    annotations: Annotations
    class_names: tuple[str, ...]
    scores: ObjectScores
    trust_set: TrustSet
    suspicions: tuple[Suspicion, ...]
    source: str


@dataclass(frozen=True)
class PoolCandidate:
    """A detection of the pool that is likely to teach: image file, box, class, trust."""

    path: str
    image_id: str
    box: tuple[float, float, float, float]
    label: int
    trust: float


def trust_record(
    config: TrustSetConfig,
    judged: Judged,
    rating: dict[str, Any] | None,
    candidates: list[PoolCandidate],
) -> dict[str, Any]:
    """The contents of ``trust.json``: counts and figures per class, and where they come from."""
    labels, made = judged.annotations.labels, judged.trust_set
    real = ~judged.annotations.is_crowd
    kinds = [suspicion.kind for suspicion in judged.suspicions]
    lost = {s.object for s in judged.suspicions if s.object >= 0}
    rated = {} if rating is None else rating["classes"]
    classes = []
    for label, name in enumerate(judged.class_names):
        mine = real & (labels == label)
        classes.append(
            {
                "class": name,
                "labeled": int(mine.sum()),
                "members": int(made.member[mine].sum()),
                "redundant": int(made.redundant[mine].sum()),
                "suspicious": sum(bool(labels[row] == label) for row in lost),
                "not_found": int((judged.scores.found[mine] == 0).sum()),
                **rated.get(name, {}),
                "pool_candidates": [
                    {"image_id": one.image_id, "trust": round(one.trust, 4)}
                    for one in candidates
                    if one.label == label
                ],
            }
        )
    return {
        "classes": classes,
        "pooled": None if rating is None else rating["pooled"],
        "suspicious": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "judges": judged.source,
        "learned_on": "labelled set" if config.reference is None else "reference set",
        "background": round(float(judged.scores.background.sum()), 4),
        "config": config.model_dump(mode="json"),
        "versions": versions(),
    }


def objects_table(judged: Judged) -> pl.DataFrame:
    """Every labelled object with its scores, by class, the trusted first."""
    truth, scores, made = judged.annotations, judged.scores, judged.trust_set
    order = np.lexsort((-made.informativeness, ~made.member, truth.labels))
    order = order[~truth.is_crowd[order]]
    names = np.array(judged.class_names, dtype=object)
    columns: dict[str, Any] = {
        "image_id": judged.dataset.image_ids[truth.image_index[order]],
        "annotation_id": truth.ids[order],
        "class": names[truth.labels[order]],
        "trusted": made.member[order],
        "redundant": made.redundant[order],
        "informativeness": made.informativeness[order].round(5),
        "class_part": scores.class_part[order].round(5),
        "box_part": scores.box_part[order].round(5),
        "found": scores.found[order].round(5),
        "out_of_sample": scores.honest[order],
    }
    return pl.DataFrame(columns, schema_overrides={"image_id": pl.String, "class": pl.String})


def suspicious_table(judged: Judged) -> pl.DataFrame:
    """The suspicious labels with their reasons, in their order."""
    truth, names = judged.annotations, judged.class_names
    ids = judged.dataset.image_ids
    rows = [
        {
            "score": round(s.score, 4),
            "kind": s.kind,
            "image_id": str(ids[s.image]),
            "annotation_id": None if s.object < 0 else int(truth.ids[s.object]),
            "label": None if s.object < 0 else names[int(truth.labels[s.object])],
            "proposed": names[s.label],
            **dict(
                zip(("left", "top", "right", "bottom"), (round(v, 2) for v in s.box), strict=True)
            ),
            "reason": _reason(s, names, truth),
        }
        for s in judged.suspicions
    ]
    schema = {
        "score": pl.Float64,
        **dict.fromkeys(("kind", "image_id"), pl.String),
        "annotation_id": pl.Int64,
        **dict.fromkeys(("label", "proposed"), pl.String),
        **dict.fromkeys(("left", "top", "right", "bottom"), pl.Float64),
        "reason": pl.String,
    }
    return pl.DataFrame(rows, schema=schema)


def _reason(s: Suspicion, names: tuple[str, ...], truth: Annotations) -> str:
    """Why a label is suspected, in a sentence."""
    who = f"{s.judges} of {s.out_of} detectors" if s.out_of > 1 else "the detector"
    trained = "not trained on the image" if s.honest else "trained on the image"
    if s.kind == "never learned":
        return f"none of {s.out_of} detectors finds it, though some were trained on the image"
    if s.kind == "missing box":
        return f"{who} ({trained}): a {names[s.label]} where no label is"
    own = names[int(truth.labels[s.object])]
    if s.kind == "wrong class":
        return f"{who} ({trained}): {names[s.label]}, labelled {own}"
    return f"{who} ({trained}): the {own} lies elsewhere"
