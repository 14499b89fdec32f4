"""Which labelled objects teach, which labels look wrong, and what in the pool is like them.

<output>/trustset.png      each category's TrustSet and pool candidates; suspicious labels
<output>/trustset.csv      every labelled object with its scores
<output>/suspicious.csv    labels to look at again, the most suspicious first
<output>/trust.json        AUC and calibration of trust per category; counts; the config
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from detal.config import DatasetConfig, TrustSetConfig
from detal.datasets import Dataset
from detal.detectors import Detector
from detal.errors import DataError
from detal.locking import lock_beside, locked
from detal.manifests import check_output, staged_folder
from detal.reward import CategoryCurves, FittedCurves
from detal.runs.building import build_dataset, build_detector
from detal.runs.judges import Panel, find_panel, score_with
from detal.runs.pool import ScoredDataset, in_detector_order
from detal.runs.scoring import StartProgress
from detal.runs.trustset_record import (
    Judged,
    PoolCandidate,
    objects_table,
    suspicious_table,
    trust_record,
)
from detal.runs.trustset_view import draw_trust_set
from detal.seeding import generator
from detal.structures import Detections
from detal.trustset import (
    Judge,
    Rows,
    TrustModel,
    TrustSetOptions,
    build_trust_set,
    distrusted,
    find_suspicious,
    fit_trust,
    matched_features,
    rate_trust,
    score_objects,
    training_rows,
)

__all__ = ["judge_objects", "show_trust_set"]


def show_trust_set(
    config: TrustSetConfig, *, progress: StartProgress | None = None
) -> dict[str, Any]:
    """Judge the labelled objects, learn trust, look through the pool; write the folder.

    Returns:
        The contents of ``trust.json``.

    Raises:
        DetalError: With what must be mended.
    """
    output = Path(config.output)
    with locked(lock_beside(output), work=output):
        check_output(output)
        return _show(config, progress or (lambda title: lambda done, total: None))


def _show(config: TrustSetConfig, report: StartProgress) -> dict[str, Any]:
    labeled = _annotated(config.labeled, "labelled")
    reference = None if config.reference is None else _annotated(config.reference, "reference")
    pool = None if config.pool is None else build_dataset(config.pool)
    datasets = [dataset for dataset in (labeled, reference, pool) if dataset is not None]
    load = partial(
        build_detector,
        device=config.device,
        class_names=labeled.class_names,
        category_ids=labeled.category_ids,
        image_id_of={
            path: image_id
            for dataset in datasets
            for path, image_id in dataset.images.select("path", "image_id").iter_rows()
        },
    )
    own = load(config.detector)
    scored = _readable(score_with(own, labeled, config, report, "scoring the labelled set"))
    seen = scored.stored.detections(np.arange(len(scored.dataset)))
    panel = find_panel(config, Judge(seen), scored.dataset, load, report)
    judged = judge_objects(config, scored.dataset, seen, panel, own.class_names)
    rows = _rows(config, own, judged, seen, reference, report)
    rating = rate_trust(rows, own.class_names) if rows.enough else None
    candidates = _candidates(config, own, rows, pool, report)
    result = trust_record(config, judged, rating, candidates)
    with staged_folder(Path(config.output)) as folder:
        draw_trust_set(folder / "trustset.png", judged, candidates, shown=config.objects.shown)
        objects_table(judged).write_csv(folder / "trustset.csv")
        suspicious_table(judged).write_csv(folder / "suspicious.csv")
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "trust.json").write_text(text + "\n", encoding="utf-8")
    return result


def judge_objects(
    config: TrustSetConfig,
    dataset: Dataset,
    seen: Detections,
    panel: Panel,
    class_names: tuple[str, ...],
) -> Judged:
    """Score the objects, list suspicious labels, choose the TrustSet.

    Args:
        config: The run.
        dataset: Readable labelled images.
        seen: What the round's own detector says about them; its object features tell copies.
        panel: The judges.
        class_names: C names, in the detector's label order.
    """
    if dataset.annotations is None:
        raise DataError(f"{dataset.name} must have annotations, found none")
    truth = in_detector_order(dataset.annotations, dataset.class_names, class_names)
    scores = score_objects(panel.scoring, truth)
    suspicions = find_suspicious(panel.doubting, truth, threshold=config.objects.suspicion)
    curves = CategoryCurves.prior(len(class_names))
    if config.table is not None:
        curves = FittedCurves.load(Path(config.table)).for_classes(class_names)
    wanted = config.objects
    trust_set = build_trust_set(
        scores,
        truth,
        num_classes=len(class_names),
        options=TrustSetOptions(wanted.share, wanted.balance, wanted.nearness),
        slopes=curves.slope(truth.class_counts(len(class_names)).astype(np.float64)),
        features=matched_features(seen, truth),
        distrusted=distrusted(suspicions, num_objects=len(truth.labels)),
    )
    return Judged(dataset, truth, class_names, scores, trust_set, tuple(suspicions), panel.source)


def _annotated(config: DatasetConfig, name: str) -> Dataset:
    dataset = build_dataset(config)
    if dataset.annotations is None:
        raise DataError(f"the {name} set must have annotations, found none: {config.path}")
    return dataset


def _readable(scored: ScoredDataset) -> ScoredDataset:
    return scored.take(np.flatnonzero(scored.readable))


def _rows(
    config: TrustSetConfig,
    own: Detector,
    judged: Judged,
    seen: Detections,
    reference: Dataset | None,
    report: StartProgress,
) -> Rows:
    """What trust is learned from: the reference set, or the labelled images without one."""
    rng = generator(config.seed, "trust")
    if reference is None:
        groups = _groups(judged.dataset)
        return training_rows(seen, judged.annotations, judged.trust_set, rng=rng, groups=groups)
    scored = _readable(score_with(own, reference, config, report, "scoring the reference set"))
    outputs = scored.stored.detections(np.arange(len(scored.dataset)))
    judge = Judge(outputs, np.zeros(len(outputs), dtype=bool))
    there = judge_objects(
        config, scored.dataset, outputs, Panel((judge,), (judge,), "reference"), own.class_names
    )
    groups = _groups(scored.dataset)
    return training_rows(outputs, there.annotations, there.trust_set, rng=rng, groups=groups)


def _groups(dataset: Dataset) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(B,) number of each image's sequence; images without one are sequences of their own."""
    named = dataset.images.with_row_index("row").select(
        pl.coalesce("group", pl.concat_str(pl.lit("\x1f"), pl.col("row")))
    )
    _, number = np.unique(named.to_series().to_numpy().astype(str), return_inverse=True)
    return np.asarray(number, dtype=np.int64)


def _candidates(
    config: TrustSetConfig,
    own: Detector,
    rows: Rows,
    pool: Dataset | None,
    report: StartProgress,
) -> list[PoolCandidate]:
    """Of each class the detections of the pool with most trust, one per image and class."""
    if pool is None or not rows.enough:
        return []
    scored = _readable(score_with(own, pool, config, report, "scoring the pool"))
    model, shown = fit_trust(rows), config.objects.shown
    paths, ids = scored.dataset.images["path"], scored.dataset.images["image_id"]
    best: list[PoolCandidate] = []
    for index, seen in scored.stored.chunks():
        found = _best_of_chunk(model, seen, shown)
        best += [
            PoolCandidate(
                path=paths[int(index[image])],
                image_id=ids[int(index[image])],
                box=tuple(seen.boxes[row].tolist()),
                label=int(seen.labels[row]),
                trust=float(trust),
            )
            for row, image, trust in found
        ]
    best.sort(key=lambda one: (one.label, -one.trust, one.image_id))
    labels = [one.label for one in best]
    return [one for i, one in enumerate(best) if i - labels.index(one.label) < shown]


def _best_of_chunk(model: TrustModel, seen: Detections, shown: int) -> list[tuple[int, int, float]]:
    """Row, image and trust of the ``shown`` best of each class, one per image and class."""
    trust, image = model(seen).numpy(), seen.image_index.numpy()
    labels, taken, number = seen.labels.numpy(), set(), np.zeros(seen.num_classes, dtype=np.int64)
    result = []
    for row in np.argsort(-trust, kind="stable").tolist():
        place = (int(image[row]), int(labels[row]))
        if place not in taken and number[place[1]] < shown:
            taken.add(place)
            number[place[1]] += 1
            result.append((row, place[0], float(trust[row])))
    return result
