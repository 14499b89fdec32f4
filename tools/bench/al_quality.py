"""Run a benchmark study and write its result file.

    python tools/bench/al_quality.py sandbox                      # configs/bench/sandbox_quick.yaml
    python tools/bench/al_quality.py aquarium rounds=2 seeds=[0,1,2]

The same command goes on with a study that was stopped; more strategies, seeds or rounds extend a
finished one. Overrides are those of `detal simulate`. Writes ``data/results/al_quality_NAME.json``
and the picture of its curves, which the README shows.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from detal.config import SimulateConfig, load_config  # noqa: E402
from detal.loop.simulate import run_simulation  # noqa: E402
from detal.runs.provenance import rounded  # noqa: E402

STUDIES = {"sandbox": "sandbox_quick", "aquarium": "aquarium", "bccd": "bccd"}
RESULTS = ROOT / "data" / "results"
POINT = {
    "seed": "seed",
    "round": "round",
    "images": "images",
    "boxes": "boxes",
    "seconds": "seconds",
    "steps": "steps",
    "mAP": "mean_ap",
    "mAP50": "ap50",
    "rare_third_AP": "rare_third_ap",
}


def main() -> None:
    """Run what is missing of a study, then write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("overrides", nargs="*", help="key=value, as for `detal simulate`")
    parser.add_argument("--config", type=Path, help="another config than the study's own")
    parser.add_argument("--name", help="of the result file, by default the study's")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files go")
    args = parser.parse_intermixed_args()
    path = args.config or ROOT / "configs" / "bench" / f"{STUDIES[args.study]}.yaml"
    config = load_config(SimulateConfig, path, args.overrides)
    summary = run_simulation(config, progress=_report)
    args.results.mkdir(parents=True, exist_ok=True)
    target = args.results / f"al_quality_{args.name or args.study}.json"
    target.write_text(json.dumps(result_of(config, summary), indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(Path(config.output) / "curves.png", target.with_suffix(".png"))
    print(target)


def _report(done: int, total: int) -> None:
    print(f"{done} of {total} rounds", file=sys.stderr, flush=True)


def result_of(config: SimulateConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """The committed figures of a study, in the words of the field."""
    runs = json.loads((Path(config.output) / "runs.json").read_text(encoding="utf-8"))
    return {
        "seeds": summary["seeds"],
        "rounds": config.rounds,
        "budget": config.budget.model_dump(include={"amount", "unit"}),
        "initial": config.initial.model_dump(include={"amount", "unit"}),
        "training": config.training.model_dump(exclude={"backbone"}),
        "area": summary["axis"],
        "strategies": {
            name: {
                "options": _options(config, name),
                "curve": [
                    {key: rounded(point[field]) for key, field in POINT.items()}
                    for point in figures["points"]
                ],
                **rounded({key: value for key, value in figures.items() if key != "points"}),
            }
            for name, figures in summary["strategies"].items()
        },
        "win_matrix": rounded(summary["win_matrix"]),
        "command": shlex.join(["python", "tools/bench/al_quality.py", *sys.argv[1:]]),
        "runs": runs,
        "commit": runs[-1]["commit"],
        "machine": runs[-1]["machine"],
    }


def _options(config: SimulateConfig, label: str) -> dict[str, Any]:
    found = next((s for s in config.strategies if s.label == label), None)
    return {} if found is None else {"name": found.name, **found.options}


if __name__ == "__main__":
    main()
