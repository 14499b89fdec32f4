"""The agent beside greedy, chance and the optimum, by table gain; what its parts bring; its cost.

    python tools/bench/agent.py                                   # data/results/agent.json
    python tools/bench/agent.py --quality data/results/al_quality_*sandbox.json

Category curve tables of synthetic pools: long-tailed classes, clusters of near-duplicates, budgets
in images and in boxes. ``--quality`` adds the true mAP of a study, which may be in several files:
arms that were run apart, from the same start models.
The file is written after each measurement, and the same command goes on where it was stopped;
``--again SECTION`` measures one anew.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from detal.agents import (  # noqa: E402
    Episode,
    Policy,
    ReinforceConfig,
    RewardWeights,
    choose,
    new_policy,
    sensible_config,
    shortlist,
    swapped,
    train,
)
from detal.loop.curves import Curve, common_areas, win_matrix  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.seeding import generator  # noqa: E402
from tests.agents import worlds  # noqa: E402

Job = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
"""What tells a measurement from the others of its section, and what measures it."""

TARGET = ROOT / "data" / "results" / "agent.json"
CLASSES = 20
WIDTH = 64
SEEDS = (0, 1, 2)
MISLED = {
    "redundant bundles": worlds.redundant_bundles,
    "complementary classes": worlds.complementary_classes,
    "awkward costs": worlds.awkward_costs,
}
METRICS = ("mAP", "rare_third_AP")
LARGE = [(300, 30), (1000, 100)]
SWAP_ROUNDS = 200


def main() -> None:
    """Measure what is missing, write the file after each section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument(
        "--quality", type=Path, nargs="+", help="result files of tools/bench/al_quality.py"
    )
    parser.add_argument("--again", nargs="*", default=[], choices=SECTIONS)
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(args.one[2])
        print(json.dumps(cost_of_one(args.one[0], args.one[1])))
        return
    torch.set_num_threads(1)
    result = json.loads(args.output.read_text("utf-8")) if args.output.exists() else {}
    for name, jobs in SECTIONS.items():
        rows = result[name] = [] if name in args.again else result.get(name, [])
        for label, measure in jobs():
            if not any(label.items() <= row.items() for row in rows):
                print(name, label, file=sys.stderr)
                rows.append(label | measure())
                write(args.output, result)
    if args.quality:
        study = args.quality[0].stem.split("_")[-1]
        result.setdefault("true_map", {})[study] = true_map(args.quality)
    write(args.output, result)
    print(args.output)


def write(path: Path, result: dict[str, Any]) -> None:
    """The file, with what the sections say in one figure each."""
    if result.get("small"):
        result["worst_ratio_to_optimum"] = min(row["to_optimum"] for row in result["small"])
    if result.get("large"):
        result["ratios_to_greedy"] = [row["to_greedy"] for row in result["large"]]
    if result.get("cost"):
        result["seconds"], result["mib"] = (result["cost"][0][k] for k in ("seconds", "peak_mib"))
    result |= {
        "machine": machine(),
        "versions": versions(),
        "commit": commit(ROOT),
        "command": shlex.join(["python", *sys.argv]),
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def pool(n: int, budget: float, *, unit: str, seed: int, **options: Any) -> Episode:
    """A long-tailed pool in which every third image stands for a cluster."""
    rng = generator(seed, "agent bench", n, unit)
    share = 1 / np.arange(1, CLASSES + 1)
    share /= share.sum()
    counts = rng.poisson(3 * share, size=(n, CLASSES))
    amounts = counts * rng.uniform(0.1, 0.9, size=counts.shape)
    centres = rng.normal(size=(max(n // 3, 1), WIDTH))
    features = centres[rng.integers(len(centres), size=n)] + 0.3 * rng.normal(size=(n, WIDTH))
    boxes = np.maximum(amounts.sum(axis=1) * rng.uniform(1, 3, size=n), 1)
    return worlds.episode_of(
        amounts,
        budget,
        costs=np.ones(n) if unit == "images" else boxes,
        features=features,
        counts=(200 * share).astype(np.int64),
        **options,
    )


def small() -> Iterator[Job]:
    """At most 20 choose 5, with the optimum by enumeration."""
    makers: dict[str, Callable[[int], Episode]] = {
        **{name: partial(misled, make) for name, make in MISLED.items()},
        "20 choose 5": lambda seed: pool(20, 5, unit="images", seed=seed),
        "20 images, 8 boxes": lambda seed: pool(20, 8, unit="boxes", seed=seed),
    }
    for name, make in makers.items():
        for seed in SEEDS:
            yield {"instance": name, "seed": seed}, partial(beside_optimum, make, seed)


def beside_optimum(make: Callable[[int], Episode], seed: int) -> dict[str, Any]:
    """`compared`, and with the optimum."""
    episode = make(seed)
    best, figures = worlds.optimum(episode), compared(episode, seed=seed)
    return {
        "to_optimum": figures["gain"] / best,
        "greedy_to_optimum": episode.greedy_gain / best,
        **figures,
    }


def misled(make: Callable[[np.random.Generator], Episode], seed: int) -> Episode:
    """An instance on which greedy is misled."""
    return make(generator(seed, "misled"))


def large() -> Iterator[Job]:
    """Pools in which the optimum is unknown."""
    for n, budget in LARGE:
        for unit in ("images", "boxes"):
            for seed in SEEDS:
                label = {"images": n, "budget": budget, "unit": unit, "seed": seed}
                yield label, partial(in_pool, n, budget, unit, seed)


def in_pool(n: int, budget: float, unit: str, seed: int) -> dict[str, Any]:
    """`compared` in a pool."""
    return compared(pool(n, budget, unit=unit, seed=seed), seed=seed)


def compared(
    episode: Episode, *, seed: int, config: ReinforceConfig | None = None
) -> dict[str, Any]:
    """The agent's batch beside greedy's and the best of 1,000 random ones."""
    rng = generator(seed, "agent")
    started = time.process_time()
    config = config or sensible_config(len(episode.seen))
    chosen = choose(train(episode, config=config, rng=rng), episode, rng=rng)
    seconds = time.process_time() - started
    searched = swapped(chosen, episode, rng=rng, rounds=SWAP_ROUNDS)
    return {
        "gain": chosen.gain,
        "to_greedy": chosen.ratio,
        "random_to_greedy": best_of_random(episode, rng) / episode.greedy_gain,
        "with_swaps_to_greedy": searched.ratio,
        "source": chosen.source,
        "cpu_s": round(seconds, 2),
    }


def best_of_random(episode: Episode, rng: np.random.Generator, *, count: int = 1000) -> float:
    """Gain of the best of ``count`` random batches that fill the budget."""
    costs, best = episode.seen.costs, 0.0
    for _ in range(count // 50):
        batches = np.full((50, len(costs)), -1)
        for row in batches:
            left, place = episode.budget * (1 + 1e-9), 0
            for candidate in rng.permutation(len(costs)).tolist():
                if costs[candidate] <= left:
                    row[place] = candidate
                    left -= costs[candidate]
                    place += 1
                if left < 1:
                    break
        width = int((batches >= 0).sum(axis=1).max())
        best = max(best, float(episode.table.gains(batches[:, :width]).max()))
    return best


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "baseline moving_average": ({"baseline": "moving_average"}, {}),
    "baseline none": ({"baseline": "none"}, {}),
    "warm start everywhere": ({"imitation": 40}, {}),
    "warm start nowhere": ({"imitation": 0}, {}),
    "no policy gradient": ({"iterations": 0}, {}),
    "no entropy": ({"entropy_weight": 0.0}, {}),
    "one pass": ({"passes": 1}, {}),
    "fixed order": ({}, {"shuffled": False}),
    "reward with diversity": ({}, {"weights": RewardWeights(diversity=0.2)}),
    "reward with cost": ({}, {"weights": RewardWeights(cost=0.2)}),
    "diversity alone": ({}, {"weights": RewardWeights(table=0, diversity=1)}),
}


def ablations() -> Iterator[Job]:
    """Table gain over greedy's where greedy is misled and in a pool with a budget in boxes."""
    for name in VARIANTS:
        for seed in SEEDS:
            yield {"variant": name, "seed": seed}, partial(ablated, name, seed)


def ablated(name: str, seed: int) -> dict[str, Any]:
    """Mean ratio to greedy over the misled instances, and that in the pool."""
    changes, world = VARIANTS[name]
    episodes = [misled(make, seed) for make in MISLED.values()]
    episodes.append(pool(300, 30, unit="boxes", seed=seed))
    ratios = [
        compared(
            replace(episode, **world),
            seed=seed,
            config=replace(sensible_config(len(episode.seen)), **changes),
        )["to_greedy"]
        for episode in episodes
    ]
    return {"misled": float(np.mean(ratios[:-1])), "pool": ratios[-1]}


def shortlists() -> Iterator[Job]:
    """Ratio to greedy of the whole pool, 1,000 images and 30 boxes, by size of the shortlist."""
    for factor in (2, 10, 1000):
        for seed in SEEDS:
            yield {"times_the_batch": factor, "seed": seed}, partial(shortlisted, factor, seed)


def shortlisted(factor: int, seed: int) -> dict[str, Any]:
    """`compared` among a shortlist; greedy's batch is that of the whole pool."""
    whole = pool(1000, 30, unit="boxes", seed=seed)
    size = min(factor * len(whole.greedy), 1000)
    short = shortened(whole, size, generator(seed, "shortlist"))
    return {"candidates": len(short.seen), **compared(short, seed=seed)}


def shortened(whole: Episode, size: int, rng: np.random.Generator) -> Episode:
    """The episode of a shortlist."""
    gains = whole.table.marginal_gains(whole.table.starts(1))[0]
    index = shortlist(
        gains,
        costs=whole.seen.costs,
        objects=whole.seen.objects,
        always=whole.greedy,
        size=size,
        rng=rng,
    )
    return replace(
        whole,
        table=whole.table.take(index),
        seen=whole.seen.take(index),
        greedy=np.searchsorted(index, whole.greedy),
    )


def across() -> Iterator[Job]:
    """A policy of one pool used on another, as it is and after three more steps."""
    for seed in SEEDS:
        yield {"seed": seed}, partial(carried_over, seed)


def carried_over(seed: int) -> dict[str, Any]:
    """Ratios to greedy on the other pool."""
    rng, config = generator(seed, "across"), sensible_config(300)
    first = train(pool(300, 30, unit="boxes", seed=seed), config=config, rng=rng).policy
    other = pool(300, 30, unit="boxes", seed=seed + 100)
    few = replace(config, imitation=0, iterations=3, evaluate_every=1)
    none = replace(few, iterations=0)

    def ratio(policy: Policy, steps: ReinforceConfig) -> float:
        draws = generator(seed, "across", steps.iterations)
        return choose(train(other, config=steps, rng=draws, policy=policy), other, rng=draws).ratio

    return {
        "untrained": ratio(new_policy(config, rng), none),
        "untrained_3_steps": ratio(new_policy(config, rng), few),
        "carried_over": ratio(first, none),
        "carried_over_3_steps": ratio(first, few),
        "trained_here": ratio(new_policy(config, rng), config),
    }


def cost() -> Iterator[Job]:
    """Seconds and memory for 10,000 candidates and a batch of 500, in a process of its own."""
    label = {"images": 10_000, "batch": 500, "threads": 2}
    yield label, partial(measured_apart, *label.values())


def measured_apart(images: int, batch: int, threads: int) -> dict[str, Any]:
    """`cost_of_one` in another process."""
    command = [sys.executable, __file__, "--one", str(images), str(batch), str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def cost_of_one(images: int, batch: int) -> dict[str, Any]:
    """Shortlist, training and choice."""
    whole = pool(images, batch, unit="images", seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    rng = generator(0, "agent")
    short = shortened(whole, 10 * batch, rng)
    trained = train(short, config=sensible_config(len(short.seen)), rng=rng)
    learned = time.monotonic()
    chosen = choose(trained, short, rng=rng)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "shortlist": len(short.seen),
        "steps": trained.curve[-1].step,
        "seconds": round(time.monotonic() - started, 1),
        "training_s": round(learned - started, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mib": round(after.ru_maxrss / 1024),
        "load": [round(value, 1) for value in os.getloadavg()],
        "to_greedy": chosen.ratio,
    }


def true_map(files: list[Path]) -> dict[str, Any]:
    """Area under the curves over boxes of each arm, and its difference from greedy and chance."""
    studies = [json.loads(path.read_text("utf-8")) for path in files]
    points: dict[str, list[dict[str, Any]]] = {}
    for study in studies:
        points |= {name: figures["curve"] for name, figures in study["strategies"].items()}
    starts = {(p["seed"], p["mAP"]) for rows in points.values() for p in rows if p["round"] == 0}
    if len(starts) != len({seed for seed, _ in starts}):
        sys.exit(f"arms of one study must start from the same models, found mAP {sorted(starts)}")
    last = min(study["rounds"] for study in studies)
    areas = {metric: common_areas(curves(points, metric, last)) for metric in METRICS}
    wins = win_matrix(areas["mAP"], rng=generator(0, "wins"))
    return {
        "commands": [study["command"] for study in studies],
        "commits": [study["commit"] for study in studies],
        "seeds": studies[0]["seeds"],
        "rounds": last,
        "budget": studies[0]["budget"],
        "strategies": {
            name: {
                **{metric: float(np.mean([*by[name].values()])) for metric, by in areas.items()},
                "minus": {other: asdict(wins[name][other]) for other in wins[name]},
            }
            for name in points
        },
    }


def curves(
    points: dict[str, list[dict[str, Any]]], metric: str, last: int
) -> dict[str, dict[int, Curve]]:
    """Curve of a metric over boxes up to round ``last``, by strategy and seed."""
    result: dict[str, dict[int, Curve]] = {}
    for name, rows in points.items():
        for seed in sorted({row["seed"] for row in rows}):
            mine = [row for row in rows if row["seed"] == seed and row["round"] <= last]
            spent, values = (np.array([row[key] for row in mine]) for key in ("boxes", metric))
            result.setdefault(name, {})[seed] = Curve(name, seed, spent, values)
    return result


SECTIONS: dict[str, Callable[[], Iterator[Job]]] = {
    "small": small,
    "large": large,
    "cost": cost,
    "ablations": ablations,
    "shortlists": shortlists,
    "across": across,
}


if __name__ == "__main__":
    main()
