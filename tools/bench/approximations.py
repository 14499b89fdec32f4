"""What selection gives up where it looks at a sample, and what FAISS would bring.

    python tools/bench/approximations.py --scratch DIR --output data/results/approximations.json

500 images from 100,000 (`synthetic`), one thread. `facility_location` and `density` look at 10,000
images by default, k-means fits 50,000: each beside the same with all of them, judged on the whole
pool, with random images for scale. Beside k-means and the neighbours, where it is installed
(``pip install faiss-cpu``): FAISS with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools" / "bench"))

import numpy as np  # noqa: E402
import selection  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.strategies import Candidates, make_strategy  # noqa: E402
from detal.strategies.clustering import assign, fit_centres  # noqa: E402
from detal.strategies.geometry import Space  # noqa: E402
from detal.strategies.neighbours import neighbour_similarity, unit_rows  # noqa: E402
from detal.structures import Budget  # noqa: E402

SEEDS = 3
NEIGHBOURS = 20
QUERIES = 10_000
CELLS, PROBES = 1024, 16  # of FAISS' inverted lists
CENTRES = 500
FIT_POINTS = 50_000
_DRAWN_FROM = "approximations bench"

Floats = NDArray[np.float32]


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="where stores are kept")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--picks", type=int, default=500)
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    selection.write(args.scratch, args.images)
    pool, _ = selection.open_pool(args.scratch, args.images)
    features = unit_rows(pool.require_features("the bench"))
    result: dict[str, Any] = {
        "images": args.images,
        "picks": args.picks,
        "seeds": SEEDS,
        "command": shlex.join(["python", "tools/bench/approximations.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions() | ({"faiss": version("faiss-cpu")} if _faiss() else {}),
    }
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "facility_location": lambda: facility(pool, features, args.picks),
        "density": lambda: densest(pool, features, args.picks),
        "kmeans": lambda: clusters(features),
        "neighbours": lambda: neighbours(features),
    }
    for name, measure in measures.items():
        result[name] = measure()
        print(name, json.dumps(result[name], indent=1), flush=True)
        if args.output is not None:
            args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def facility(pool: Candidates, features: Floats, picks: int) -> dict[str, Any]:
    """What the picks add to the mean similarity, (1 + cos) / 2, to the nearest known image."""
    labeled = pool.labeled.image_features
    known = features[:0] if labeled is None else unit_rows(labeled)

    def value(chosen: NDArray[np.int64]) -> float:
        return similarity(np.concatenate([known, features[chosen]])) - similarity(known)

    def similarity(points: Floats) -> float:
        nearest = [(block @ points.T).max(axis=1, initial=-1) for block in _blocks(features)]
        return float((1 + np.concatenate(nearest)).mean() / 2)

    return _beside(pool, "facility_location", {"sample": len(pool)}, picks, value)


def densest(pool: Candidates, features: Floats, picks: int) -> dict[str, Any]:
    """Mean cosine similarity of the picks to their nearest images of the whole pool."""
    space, everyone = Space(features, metric="cosine"), np.arange(len(features))

    def value(chosen: NDArray[np.int64]) -> float:
        return float(neighbour_similarity(space, chosen, everyone, k=NEIGHBOURS).mean())

    found = _beside(pool, "density", None, picks, value)
    exact, cost = selection.timed(
        lambda: neighbour_similarity(space, everyone, everyone, k=NEIGHBOURS).mean(axis=1)
    )
    best = np.argsort(-exact)[:picks]
    return {**found, "exact": {"value": round(value(best), 5), "cpu_s": cost["cpu_s"]}}


def _beside(
    pool: Candidates,
    name: str,
    exact: dict[str, Any] | None,
    picks: int,
    value: Callable[[NDArray[np.int64]], float],
) -> dict[str, Any]:
    """A strategy by default, with the options ``exact``, and random images: value and cost."""
    arms: dict[str, tuple[str, dict[str, Any]]] = {"sampled": (name, {}), "random": ("random", {})}
    if exact is not None:
        arms["exact"] = (name, exact)
    place = {image_id: row for row, image_id in enumerate(pool.image_ids)}
    found = {}
    for arm, (strategy, options) in arms.items():
        values, seconds = [], []
        for seed in range(1 if arm == "exact" else SEEDS):
            batch, cost = selection.timed(
                lambda: make_strategy(strategy, **options).query(  # noqa: B023 - called at once
                    pool,
                    budget=Budget(picks),
                    rng=generator(seed, _DRAWN_FROM),  # noqa: B023
                )
            )
            values.append(value(np.array([place[i] for i in batch.image_ids])))
            seconds.append(cost["cpu_s"])
        found[arm] = {
            "value": round(float(np.mean(values)), 5),
            "range": [round(min(values), 5), round(max(values), 5)],
            "cpu_s": round(float(np.median(seconds)), 3),
        }
    return found


def clusters(features: Floats) -> dict[str, Any]:
    """Mean squared distance of the whole pool to the nearest centre, and what fitting took."""
    rng = generator(0, _DRAWN_FROM)
    some = features[np.sort(rng.permutation(len(features))[:FIT_POINTS])]
    makers: dict[str, Callable[[], Floats]] = {
        "sampled": lambda: fit_centres(some, k=CENTRES, rng=generator(0, _DRAWN_FROM)),
        "exact": lambda: fit_centres(features, k=CENTRES, rng=generator(0, _DRAWN_FROM)),
    }
    faiss = _faiss()
    if faiss is not None:

        def theirs() -> Floats:
            fitted = faiss.Kmeans(
                features.shape[1],
                CENTRES,
                niter=20,
                seed=1,
                max_points_per_centroid=FIT_POINTS // CENTRES,
            )
            fitted.train(some)
            return np.asarray(fitted.centroids)

        makers["faiss_sampled"] = theirs
    found = {}
    for name, make in makers.items():
        centres, cost = selection.timed(make)
        value = float(assign(features, centres)[1].mean())
        found[name] = {"value": round(value, 5), "cpu_s": cost["cpu_s"]}
    return {"centres": CENTRES, "fit_points": FIT_POINTS, **found}


def neighbours(features: Floats) -> dict[str, Any]:
    """The nearest of the pool to some images: detal's exact search, FAISS' exact and inverted."""
    queries = np.arange(min(QUERIES, len(features)))
    space = Space(features, metric="cosine")
    ours, cost = selection.timed(
        lambda: neighbour_similarity(space, queries, np.arange(len(features)), k=NEIGHBOURS)
    )
    found: dict[str, Any] = {
        "queries": len(queries),
        "k": NEIGHBOURS,
        "detal": {"value": round(float(ours.mean()), 5), "cpu_s": cost["cpu_s"]},
    }
    faiss = _faiss()
    if faiss is None:
        return found
    flat = faiss.IndexFlatIP(features.shape[1])
    lists = faiss.IndexIVFFlat(flat, features.shape[1], CELLS, faiss.METRIC_INNER_PRODUCT)
    exact = faiss.IndexFlatIP(features.shape[1])
    exact.add(features)

    def build() -> None:
        lists.train(features)
        lists.add(features)
        lists.nprobe = PROBES

    _, built = selection.timed(build)
    for name, index in (("faiss_flat", exact), ("faiss_ivf", lists)):
        (similarity, _), cost = selection.timed(
            lambda: index.search(features[queries], NEIGHBOURS + 1)  # noqa: B023 - called at once
        )
        # An image is its own nearest neighbour.
        value = round(float(similarity[:, 1:].mean()), 5)
        found[name] = {"value": value, "cpu_s": cost["cpu_s"]}
    found["faiss_ivf"]["build_cpu_s"] = built["cpu_s"]
    return found


def _blocks(features: Floats) -> list[Floats]:
    return np.array_split(features, max(1, len(features) // 4096))


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    return faiss


if __name__ == "__main__":
    main()
