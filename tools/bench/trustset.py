"""What the TrustSet is worth: does trust rank and calibrate, are planted errors found?

    python tools/bench/trustset.py sandbox                # the embedded checkpoint, no training
    python tools/bench/trustset.py aquarium bccd --seeds 0 1 2   # trains two folds for each seed
    python tools/bench/trustset.py aquarium --study runs/aquarium --seeds 0 1 2     # trains nothing
    python tools/bench/trustset.py dirty dirty_outside           # trains two folds, and one more
    python tools/bench/trustset.py pruning --seeds 0 1 2         # trains 1 + 6 detectors per seed
    python tools/bench/trustset.py gain --al-quality data/results/al_quality_*sandbox.json

``sandbox``, the dirty parts (openimages5), ``pruning`` and ``gain`` fill their parts of
``data/results/trustset_sandbox.json``, the others ``trustset_aquarium.json`` and
``trustset_bccd.json``. Trainings lie under ``--scratch``; a stopped run goes on there. Only
``pruning`` and ``dirty_outside`` look at a test split, to report on it.

With ``--study``, the start models of a study of tools/bench/al_quality.py judge what they were not
trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from detal.config import (  # noqa: E402
    DetectorConfig,
    SimulateConfig,
    TrainingConfig,
    load_config,
)
from detal.datasets import Dataset, open_dataset  # noqa: E402
from detal.evaluation import Predictions, batch_class_ap, build_match_table  # noqa: E402
from detal.runs.building import build_dataset, build_detector  # noqa: E402
from detal.runs.pool import in_detector_order  # noqa: E402
from detal.runs.provenance import commit, machine, rounded  # noqa: E402
from detal.runs.scoring import open_store, score_into_store  # noqa: E402
from detal.runs.training import detector_config, train_detector  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.structures import Annotations, Detections  # noqa: E402
from detal.trustset import (  # noqa: E402
    Judge,
    Rows,
    Suspicion,
    TrustSet,
    TrustSetOptions,
    build_trust_set,
    find_suspicious,
    fit_trust,
    matched_features,
    rate_trust,
    score_objects,
    training_rows,
)
from detal.trustset.rating import area_under_roc, calibration_error  # noqa: E402

RESULTS = ROOT / "data" / "results"
SANDBOX = ROOT / "data" / "sandbox"
SHARED = ROOT.parent / "shared" / "data"
KINDS = ("wrong class", "shifted box", "missing box")
THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
FOLDS = 2
SHARES = (0.25, 0.5, 0.75)


class Scored(NamedTuple):
    """What one detector says about labelled images."""

    seen: Detections
    truth: Annotations
    names: tuple[str, ...]


def main() -> None:
    """Measure the parts that are asked for and write them into their files."""
    parts = {
        "sandbox": sandbox,
        "aquarium": transfer,
        "bccd": transfer,
        "dirty": dirty,
        "dirty_outside": dirty_outside,
        "pruning": pruning,
        "gain": gain,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--steps", type=int, default=150, help="of each fold's training")
    parser.add_argument("--images", type=int, help="train images used of aquarium and bccd")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="of planted errors, or of pruning"
    )
    parser.add_argument("--study", type=Path, help="folder of a study, for aquarium or bccd")
    parser.add_argument("--judges", type=int, default=1, help="on each image, of planted errors")
    parser.add_argument(
        "--al-quality",
        type=Path,
        nargs="+",
        help="result files of tools/bench/al_quality.py, arms from the same start models; of an "
        "arm that is in several, the last",
    )
    parser.add_argument("--strategy", default="trustset", help="label of the arm in that file")
    parser.add_argument("--entropy", default="entropy_sum", help="label of the arm compared with")
    parser.add_argument("--scratch", type=Path, default=ROOT / "runs" / "bench_trustset")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    for name in args.parts:
        found = {**parts[name](name, args), **_provenance()}
        _merge(args.results, name, found)


def _merge(results: Path, name: str, found: dict[str, Any]) -> None:
    """Put one part into its file, beside what is there."""
    own = name in ("aquarium", "bccd")
    path = results / f"trustset_{name if own else 'sandbox'}.json"
    results.mkdir(parents=True, exist_ok=True)
    whole = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if name == "gain":
        whole["rare_third_gain_over_entropy"] = found.pop("gain")
    whole[name] = found
    path.write_text(json.dumps(rounded(whole), indent=1, ensure_ascii=False) + "\n", "utf-8")
    if name == "pruning":
        picture = results / "trustset_pruning.png"
        pruning_figure(found).savefig(picture, dpi=110, metadata={"Software": None})
    print(path)


def _provenance() -> dict[str, Any]:
    return {
        "command": " ".join(["python", "tools/bench/trustset.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
    }


def sandbox(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Trust within and across sets, and planted errors, with the embedded checkpoint."""
    weights = SANDBOX / "yolo_seed.pt"
    sets = {
        key: _score(
            open_dataset(SANDBOX / f"{key}.json"), DetectorConfig(weights=str(weights)), args
        )
        for key in ("seed", "reference", "pool_truth")
    }
    rows = {key: _rows(scored)[1] for key, scored in sets.items()}
    pool = rows["pool_truth"]
    names = sets["seed"].names
    return {
        "detector_trained_on": "seed",
        "trust": {key: rate_trust(of, names) for key, of in rows.items()},
        "across": {
            key: {**_across(rows[key], pool), **_supply(sets[key], sets["pool_truth"])}
            for key in ("seed", "reference")
        },
        "planted": [
            _planted([_honest(sets["pool_truth"])], sets["pool_truth"], seed) for seed in range(3)
        ],
    }


def transfer(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Two detectors, each trained on one half with planted errors, judge the other half."""
    study = load_config(SimulateConfig, ROOT / "configs" / "bench" / f"{name}.yaml")
    dataset = build_dataset(study.pool)
    if args.study is not None:
        return _of_study(study, dataset, args)
    if args.images:
        chosen = generator(0, "images").permutation(len(dataset))[: args.images]
        dataset = dataset.take(np.sort(chosen))
    training = study.training.model_copy(update={"steps": args.steps})
    truth, names = _truth(dataset), dataset.class_names
    result: dict[str, Any] = {"images": len(dataset), "steps": args.steps, "planted": []}
    for seed in args.seeds:
        wrong, planted = plant_errors(truth, len(names), 0.05, generator(seed, "planted"))
        key = f"{name}/{seed}"
        judges = _fold_judges(_with(dataset, wrong), training, args, key, number=args.judges)
        for number in sorted({1, args.judges}):
            said = _rate_list(judges[: FOLDS * number], wrong, planted)
            result["planted"].append({"seed": seed, **said})
        if "trust" not in result:
            result |= _trust_of_halves(judges[0], truth, names)
    return result


def _of_study(study: SimulateConfig, dataset: Dataset, args: argparse.Namespace) -> dict[str, Any]:
    """The start models of a study judge what none of them was trained on."""
    truth, names = _truth(dataset), dataset.class_names
    judges = []
    for folder in sorted((args.study / "initial").glob("seed-*")):
        ids = json.loads((folder / "labeled.json").read_text("utf-8"))
        saw = np.zeros(len(dataset), dtype=bool)
        saw[dataset.index_of(ids)] = True
        config = detector_config(study.training, DetectorConfig(), folder / "weights.pt")
        judges.append(Judge(_score(dataset, config, args).seen, saw))
    unseen = np.flatnonzero(np.all([judge.honest for judge in judges], axis=0))
    result: dict[str, Any] = {
        "images": len(unseen),
        "trained_on_images": [int((~judge.honest).sum()) for judge in judges],
        "steps": study.training.steps,
        "trust": {},
        "across": {},
        "planted": [],
    }
    parts = [judge.detections.take(unseen.tolist()) for judge in judges]
    held = truth.take(unseen)
    for number, (judge, seen) in enumerate(zip(judges, parts, strict=True)):
        labelled = np.flatnonzero(~judge.honest)
        known = Scored(judge.detections.take(labelled.tolist()), truth.take(labelled), names)
        pool = Scored(seen, held, names)
        rows = _rows(pool)[1]
        result["trust"][f"start {number}"] = rate_trust(rows, names)
        if _rows(known)[1].enough:
            result["across"][f"labelled {number}"] = _across(_rows(known)[1], rows)
        halves = generator(0, "halves").permutation(len(unseen)) % 2
        one, other = (
            Scored(seen.take(part.tolist()), held.take(part), names)
            for part in (np.flatnonzero(halves == 0), np.flatnonzero(halves == 1))
        )
        result["across"][f"held out {number}"] = {
            **_across(_rows(one)[1], _rows(other)[1]),
            **_supply(one, other),
        }
    for seed in args.seeds:
        wrong, planted = plant_errors(held, len(names), 0.05, generator(seed, "planted"))
        for number in sorted({1, len(judges)}):
            said = [Judge(seen, np.zeros(len(unseen), dtype=bool)) for seen in parts[:number]]
            result["planted"].append({"seed": seed, **_rate_list(said, wrong, planted)})
    return result


def _trust_of_halves(judge: Judge, truth: Annotations, names: tuple[str, ...]) -> dict[str, Any]:
    """Trust on the half that the judge was trained on, on the other, and from one to the other."""
    halves = {"seen": np.flatnonzero(~judge.honest), "unseen": np.flatnonzero(judge.honest)}
    scored = {
        key: Scored(judge.detections.take(part.tolist()), truth.take(part), names)
        for key, part in halves.items()
    }
    rows = {key: _rows(of)[1] for key, of in scored.items()}
    return {
        "trust": {key: rate_trust(of, names) for key, of in rows.items()},
        "across": {
            "seen": {
                **_across(rows["seen"], rows["unseen"]),
                **_supply(scored["seen"], scored["unseen"]),
            }
        },
    }


def dirty(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The train images of openimages5_dirty are turned, their boxes are not: what is listed?

    By detectors that were trained on the other half of these very labels.
    """
    study = load_config(SimulateConfig, ROOT / "configs" / "bench" / "aquarium.yaml")
    training = study.training.model_copy(update={"steps": args.steps})
    dataset = _dirty_split("train")
    judges = _fold_judges(dataset, training, args, "dirty_train")
    truth = _truth(dataset)
    found = score_objects(judges, truth).found
    return {
        "steps": args.steps,
        "found": float(found.mean()),
        "out_of_fold": _listed(judges, truth, 0),
    }


def dirty_outside(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The same by a detector that was trained on photographs of COCO.

    Of the train split alone, and with the clean splits beside, as a set of which a part is wrong.
    """
    study = load_config(SimulateConfig, ROOT / "configs" / "bench" / "aquarium.yaml")
    sets = {split: _dirty_split(split) for split in ("train", "val", "test")}
    turned = study.training.extra | {"degrees": 45.0}
    training = study.training.model_copy(update={"extra": turned})
    names = sets["train"].class_names
    outside = _trained(coco_of(names), training, args, "dirty_outside", seed=0)
    scored = {split: _score(dataset, outside, args) for split, dataset in sets.items()}
    train, clean = scored["train"], [scored["val"], scored["test"]]
    result: dict[str, Any] = {
        "steps": training.steps,
        "found": {
            split: float((score_objects([_honest(one)], one.truth).found > 0).mean())
            for split, one in scored.items()
        },
        "alone": _listed([_honest(train)], train.truth, 0),
    }
    for share in (0.25, 1.0):
        number = round(share * len(train.truth))
        part = np.sort(generator(0, "dirty").permutation(len(train.truth))[:number])
        seen = [train.seen.take(part.tolist()), *(one.seen for one in clean)]
        truth = Annotations.concat([train.truth.take(part), *(one.truth for one in clean)])
        judge = Judge(Detections.concat(seen), np.zeros(len(truth), dtype=bool))
        result[f"with_clean_{share:g}"] = _listed([judge], truth, number)
    return result


def _dirty_split(split: str) -> Dataset:
    folder = SHARED / "openimages5_dirty" / "annotations"
    return open_dataset(folder / f"instances_{split}2017.json")


def coco_of(names: tuple[str, ...]) -> Dataset:
    """Images of coco125 with objects of the classes ``names``, and those objects only."""
    whole = open_dataset(SHARED / "coco125" / "instances.json")
    place = {name.lower(): label for label, name in enumerate(names)}
    mapping = np.array([place.get(name.lower(), -1) for name in whole.class_names])
    truth = _truth(whole).relabel(mapping)
    rows = np.flatnonzero(np.diff(truth.offsets))
    part = whole.take(rows)
    return Dataset(
        name=part.name,
        images=part.images,
        class_names=names,
        category_ids=tuple(range(len(names))),
        annotations=truth.take(rows),
        integer_ids=part.integer_ids,
    )


def _listed(judges: list[Judge], truth: Annotations, dirty_images: int) -> dict[str, Any]:
    """How many of each kind are listed, and how many of them are of the first images, the dirty."""
    image = truth.image_index
    result: dict[str, Any] = {"images": len(truth), "objects": len(truth.labels)}
    if dirty_images:
        result["share_dirty"] = float((image < dirty_images).mean())
    for threshold in THRESHOLDS:
        listed = [s for s in find_suspicious(judges, truth, threshold=threshold) if s.kind in KINDS]
        accused = {s.object for s in listed if s.object >= 0}
        at: dict[str, Any] = {kind: sum(s.kind == kind for s in listed) for kind in KINDS}
        at["share_of_objects"] = len(accused) / max(len(truth.labels), 1)
        if dirty_images:
            right = sum(int(image[row]) < dirty_images for row in accused)
            at["precision"] = right / len(accused) if accused else None
            at["recall"] = right / max(int((image < dirty_images).sum()), 1)
        result[f"at_{threshold}"] = at
    return result


def pruning(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train on TrustSet images and on random images of equal boxes, and compare mAP."""
    study = load_config(SimulateConfig, ROOT / "configs" / "bench" / "sandbox_quick.yaml")
    pool, test = build_dataset(study.pool), build_dataset(study.test)
    scored = _score(pool, DetectorConfig(weights=str(SANDBOX / "yolo_seed.pt")), args)
    made, _ = _rows(scored)
    boxes = np.diff(scored.truth.offsets)
    curve = []
    for seed in args.seeds:
        value = np.bincount(
            scored.truth.image_index,
            weights=made.member * made.informativeness,
            minlength=len(boxes),
        ) / np.maximum(boxes, 1)
        orders = {
            "trustset": np.argsort(-value, kind="stable"),
            "random": generator(seed, "pruning").permutation(len(boxes)),
        }
        for share in (*SHARES, 1.0):
            for kind, order in orders.items():
                if share == 1.0 and kind == "random":
                    continue
                spent = np.cumsum(boxes[order])
                kept = np.sort(order[: int(np.searchsorted(spent, share * boxes.sum())) + 1])
                key = f"pruning/{seed}/{kind if share < 1 else 'all'}_{share:g}"
                ap = _trained_ap(pool.take(kept), test, study.training, args, key, seed)
                curve.append(
                    {
                        "seed": seed,
                        "share": share,
                        "kind": kind if share < 1 else "all",
                        "images": len(kept),
                        "boxes": int(boxes[kept].sum()),
                        "mAP": float(np.nanmean(ap)),
                    }
                )
    return {
        "curve": curve,
        "kept": {f"{share:g}": _difference(curve, share) for share in SHARES},
        "training": study.training.model_dump(exclude={"backbone"}),
    }


def _difference(curve: list[dict[str, Any]], share: float) -> dict[str, Any]:
    """Points of mAP of either kind at a share of the boxes, and the TrustSet's beyond random."""
    by_kind = {
        kind: np.array(
            [100 * row["mAP"] for row in curve if row["kind"] == kind and row["share"] == share]
        )
        for kind in ("trustset", "random")
    }
    return {
        **{kind: _with_interval(values) for kind, values in by_kind.items()},
        "difference": _with_interval(by_kind["trustset"] - by_kind["random"]),
    }


def _with_interval(values: np.ndarray) -> dict[str, Any]:
    """Mean of points of mAP by seed, with a 95 % bootstrap interval over seeds."""
    rng = generator(0, "interval")
    means = rng.choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "by_seed": values.tolist(),
    }


def pruning_figure(result: dict[str, Any]) -> Figure:
    """Test mAP over the share of boxes kept: each seed as a dot, the mean as a line."""
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    whole = [row for row in result["curve"] if row["kind"] == "all"]
    for kind, name, colour in (
        ("random", "random images", "0.45"),
        ("trustset", "TrustSet images", "C0"),
    ):
        rows = [row for row in result["curve"] if row["kind"] == kind] + whole
        shares = sorted({row["share"] for row in rows})
        means = [
            float(np.mean([100 * row["mAP"] for row in rows if row["share"] == share]))
            for share in shares
        ]
        axes.plot([100 * share for share in shares], means, color=colour, label=name)
        axes.plot(
            [100 * row["share"] for row in rows],
            [100 * row["mAP"] for row in rows],
            "o",
            color=colour,
            alpha=0.5,
            markersize=4,
        )
    axes.set_xlabel("share of the labelled boxes trained on, %")
    axes.set_ylabel("test mAP, points")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def gain(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """AP of the rarest third beyond entropy's, as area over boxes, by seed."""
    if args.al_quality is None:
        sys.exit("gain needs --al-quality, result files of tools/bench/al_quality.py")
    results = [json.loads(path.read_text("utf-8")) for path in args.al_quality]
    strategies = {name: arm for result in results for name, arm in result["strategies"].items()}
    found: dict[str, Any] = {
        "files": [path.name for path in args.al_quality],
        "seeds": results[-1]["seeds"],
    }
    for metric in ("rare_third_AP", "mAP"):
        areas = {
            arm: areas_over_boxes(strategies, (args.strategy, args.entropy), arm, metric)
            for arm in (args.strategy, args.entropy)
        }
        difference = 100 * (areas[args.strategy] - areas[args.entropy])
        found[metric] = _with_interval(difference)
    return {**found, "gain": found["rare_third_AP"]}


def areas_over_boxes(
    strategies: dict[str, Any], arms: tuple[str, ...], arm: str, metric: str
) -> np.ndarray:
    """(S,) mean of a metric over the boxes that all ``arms`` cover, of each seed of ``arm``."""
    curves = {
        name: {
            seed: sorted(
                (row["boxes"], row[metric])
                for row in strategies[name]["curve"]
                if row["seed"] == seed
            )
            for seed in sorted({row["seed"] for row in strategies[name]["curve"]})
        }
        for name in arms
    }
    areas = []
    for seed, curve in curves[arm].items():
        start = max(curves[name][seed][0][0] for name in arms)
        stop = min(curves[name][seed][-1][0] for name in arms)
        grid = np.linspace(start, stop, 513)
        x, y = np.array(curve).T
        areas.append(float(np.interp(grid, x, y).mean()))
    return np.array(areas)


def plant_errors(
    truth: Annotations, num_classes: int, share: float, rng: np.random.Generator
) -> tuple[Annotations, list[dict[str, Any]]]:
    """Make a share of the labels wrong, a third each: class, place (35 to 60 % of a side), absence.

    Returns:
        The wrong labels, and what was done: ``kind``, ``image``, ``object`` (row in the wrong
        labels, -1 for a missing box) and ``box`` (the true one).
    """
    real = np.flatnonzero(~truth.is_crowd)
    rows = rng.permutation(real)[: max(len(KINDS), round(share * len(real)))]
    kinds = np.arange(len(rows)) % len(KINDS)
    labels, boxes = truth.labels.copy(), truth.boxes.copy()
    for row in rows[kinds == 0]:
        labels[row] = (labels[row] + rng.integers(1, num_classes)) % num_classes
    for row in rows[kinds == 1]:
        step = rng.uniform(0.35, 0.6, 2) * rng.choice([-1, 1], 2)
        boxes[row] += np.tile(step * (boxes[row, 2:] - boxes[row, :2]), 2).astype(np.float32)
    keep = np.ones(len(labels), dtype=bool)
    keep[rows[kinds == 2]] = False
    place = np.concatenate([[0], np.cumsum(keep)])
    wrong = Annotations(
        offsets=place[truth.offsets],
        boxes=boxes[keep],
        labels=labels[keep],
        is_crowd=truth.is_crowd[keep],
        areas=truth.areas[keep],
        ids=truth.ids[keep],
    )
    image = truth.image_index
    planted = [
        {
            "kind": KINDS[kind],
            "image": int(image[row]),
            "object": int(place[row]) if keep[row] else -1,
            "box": truth.boxes[row].tolist(),
        }
        for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True)
    ]
    return wrong, planted


def _planted(judges: list[Judge], scored: Scored, seed: int) -> dict[str, Any]:
    rng = generator(seed, "planted")
    wrong, planted = plant_errors(scored.truth, len(scored.names), 0.05, rng)
    return _rate_list(judges, wrong, planted)


def _rate_list(
    judges: list[Judge], wrong: Annotations, planted: list[dict[str, Any]]
) -> dict[str, Any]:
    """Precision and recall of the list at several thresholds, and its average precision."""
    everything = find_suspicious(judges, wrong, threshold=1e-6)
    listed = [s for s in everything if s.kind in KINDS]
    hits = np.array([any(is_hit(s, p) for p in planted) for s in listed], dtype=bool)
    score = np.array([s.score for s in listed])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    result: dict[str, Any] = {
        "objects": len(wrong.labels),
        "planted": len(planted),
        "judges": len(judges),
        "average_precision": float((precision * hits).sum() / len(planted)),
    }
    for threshold in THRESHOLDS:
        kept = [s for s in listed if s.score >= threshold]
        found = {
            kind: [any(is_hit(s, p) for s in kept) for p in planted if p["kind"] == kind]
            for kind in KINDS
        }
        chosen = hits[score >= threshold]
        result[f"at_{threshold}"] = {
            "listed": len(kept),
            "precision": float(chosen.mean()) if len(chosen) else None,
            "recall": float(np.mean([f for part in found.values() for f in part])),
            "recall_by_kind": {kind: float(np.mean(part)) for kind, part in found.items()},
        }
    return result


def is_hit(suspicion: Suspicion, planted: dict[str, Any]) -> bool:
    """Whether a suspicion points at a planted error: its object, or the box that is missing."""
    if planted["object"] >= 0:
        return bool(suspicion.object == planted["object"])
    if suspicion.kind != "missing box" or suspicion.image != planted["image"]:
        return False
    a, b = np.array(suspicion.box), np.array(planted["box"])
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.clip(sides, 0, None).prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - common
    return common >= 0.5 * union


def _rows(scored: Scored) -> tuple[TrustSet, Rows]:
    made = build_trust_set(
        score_objects([Judge(scored.seen)], scored.truth),
        scored.truth,
        num_classes=len(scored.names),
        options=TrustSetOptions(),
        features=matched_features(scored.seen, scored.truth),
    )
    return made, training_rows(scored.seen, scored.truth, made, rng=generator(0, "trust"))


def _across(learned: Rows, judged: Rows) -> dict[str, float]:
    """AUC and calibration of trust that was learned on other images."""
    probs, used = fit_trust(learned)(judged.detections).numpy(), judged.used.numpy()
    truth = judged.target.numpy()[used]
    return {
        "auc": area_under_roc(probs[used], truth),
        "ece": calibration_error(probs[used], truth),
    }


def _supply(learned: Scored, pool: Scored) -> dict[str, Any]:
    """Objects that the pool is expected to hold of each class, and those that it holds."""
    everything = TrustSet(
        ~learned.truth.is_crowd,
        np.zeros(len(learned.truth.labels), dtype=bool),
        np.zeros(len(learned.names), dtype=np.int64),
        np.zeros(len(learned.truth.labels)),
    )
    rows = training_rows(learned.seen, learned.truth, everything, rng=generator(0, "trust"))
    expected = fit_trust(rows).objects(pool.seen).sum(dim=0).tolist()
    plain = np.bincount(
        pool.seen.labels.numpy(), pool.seen.scores.double().numpy(), minlength=len(pool.names)
    )
    true = pool.truth.class_counts(len(pool.names))
    return {
        "objects": {
            name: {"expected": expected[c], "by_score": plain[c], "true": int(true[c])}
            for c, name in enumerate(pool.names)
        }
    }


def _honest(scored: Scored) -> Judge:
    return Judge(scored.seen, np.zeros(len(scored.seen), dtype=bool))


def _truth(dataset: Dataset) -> Annotations:
    if dataset.annotations is None:
        sys.exit(f"{dataset.name} has no annotations")
    return dataset.annotations


def _with(dataset: Dataset, annotations: Annotations) -> Dataset:
    return Dataset(
        name=dataset.name,
        images=dataset.images,
        class_names=dataset.class_names,
        category_ids=dataset.category_ids,
        annotations=annotations,
        integer_ids=dataset.integer_ids,
    )


def _fold_judges(
    dataset: Dataset, training: TrainingConfig, args: argparse.Namespace, key: str, number: int = 1
) -> list[Judge]:
    """Of each of ``number`` splits, detectors trained on all folds but one, honest about that."""
    judges = []
    for split in range(number):
        part = generator(split, "folds").permutation(len(dataset)) % FOLDS
        for fold in range(FOLDS):
            saw, seed = part != fold, FOLDS * split + fold
            of = dataset.take(np.flatnonzero(saw))
            config = _trained(of, training, args, f"{key}/{seed}", seed=seed)
            judges.append(Judge(_score(dataset, config, args).seen, saw))
    return judges


def _trained(
    dataset: Dataset, training: TrainingConfig, args: argparse.Namespace, key: str, seed: int
) -> DetectorConfig:
    """A detector trained on a dataset."""
    print(key, file=sys.stderr, flush=True)
    trained = train_detector(training, dataset, output=args.scratch / key, seed=seed, device="cpu")
    return detector_config(training, DetectorConfig(), trained.weights)


def _score(dataset: Dataset, config: DetectorConfig, args: argparse.Namespace) -> Scored:
    detector = build_detector(
        config,
        device="cpu",
        class_names=dataset.class_names,
        category_ids=dataset.category_ids,
        image_id_of={},
    )
    stored, _ = score_into_store(
        open_store(args.scratch / "store", detector),
        detector,
        dataset.images["path"].to_list(),
        shard_size=1024,
        batch_size=16,
        threads=1,
        progress=lambda done, total: None,
    )
    truth = in_detector_order(_truth(dataset), dataset.class_names, detector.class_names)
    return Scored(stored.detections(np.arange(len(dataset))), truth, detector.class_names)


def _trained_ap(
    dataset: Dataset,
    test: Dataset,
    training: TrainingConfig,
    args: argparse.Namespace,
    key: str,
    seed: int,
) -> np.ndarray:
    """(C,) AP on the test set of a detector trained on a dataset."""
    config = _trained(dataset, training, args, key, seed)
    config = config.model_copy(update={"score_threshold": 0.001})
    scored = _score(test, config, args)
    table = build_match_table(
        scored.truth, Predictions.from_detections(scored.seen), num_classes=len(scored.names)
    )
    ones = np.ones((1, len(test)), dtype=np.int64)
    return np.asarray(batch_class_ap(table, ones)[0].mean(axis=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
