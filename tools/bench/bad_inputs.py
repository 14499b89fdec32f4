"""Meet every bad input of tests/bad_inputs with the command line, and count what happens.

Each runs in a process of its own, forked from one that has imported everything; its wall time and
its peak resident memory above that process's are measured. The figures go into the result file
beside those of other benches.

python tools/bench/bad_inputs.py --scratch /tmp/bad-inputs
python tools/bench/bad_inputs.py --scratch /tmp/bad-inputs --every 9 --output /tmp/sample.json
python tools/bench/bad_inputs.py --scratch /tmp/bad-inputs --only "COCO boxes/nan" --show
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from detal.files import write_json  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from tests.bad_inputs.cases import Case, build_world  # noqa: E402
from tests.bad_inputs.recipes import all_cases  # noqa: E402
from tests.bad_inputs.running import (  # noqa: E402
    MOST_MIB,
    MOST_SECONDS,
    Outcome,
    in_child,
    run_case,
    warm_up,
)


def main() -> None:
    """Run them; exit 1 if one leads to a traceback, a hang, or otherwise than it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the inputs")
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "faults.json")
    parser.add_argument("--only", nargs="*", help="cases whose family/name contains one of these")
    parser.add_argument("--every", type=int, default=1, help="of each family one in so many")
    parser.add_argument("--show", action="store_true", help="print what each one said")
    arguments = parser.parse_args()
    start = time.monotonic()
    only = arguments.only or [""]
    chosen = [c for c in all_cases() if any(text in f"{c.family}/{c.name}" for text in only)]
    chosen = chosen[:: arguments.every]
    warm_up()
    world = arguments.scratch.absolute() / "world"
    if not world.exists():
        in_child(lambda: build_world(world))
    outcomes = []
    for number, case in enumerate(chosen, start=1):
        outcome = run_case(case, world=world, scratch=arguments.scratch.absolute() / "case")
        outcomes.append(outcome)
        fault = outcome.fault(case)
        if fault or arguments.show:
            print(f"{number}/{len(chosen)} {case.family}/{case.name}: {fault or outcome.kind}")
            print(f"  {outcome.seconds:.1f} s, {outcome.mib:.0f} MiB, code {outcome.code}")
            print("  " + "\n  ".join(outcome.text.strip().splitlines()[-12:]), flush=True)
    faults = sum(bool(o.fault(c)) for c, o in zip(chosen, outcomes, strict=True))
    kinds = ", ".join(f"{sum(o.kind == k for o in outcomes)} {k}" for k in _KINDS)
    print(f"{len(chosen)} bad inputs: {kinds}; {faults} otherwise than they must")
    print(f"{time.monotonic() - start:.0f} s")
    if not arguments.only:
        record(arguments.output, summarise(chosen, outcomes, seconds=time.monotonic() - start))
    sys.exit(1 if faults else 0)


_KINDS = ("error", "named", "used", "traceback", "hang", "killed")


def summarise(cases: list[Case], outcomes: list[Outcome], *, seconds: float) -> dict[str, Any]:
    """The keys of the result file."""
    rows = []
    for name in dict.fromkeys(case.family for case in cases):
        mine = [o for c, o in zip(cases, outcomes, strict=True) if c.family == name]
        rows.append(
            {
                "family": name,
                "count": len(mine),
                "error": sum(o.kind == "error" for o in mine),
                "quarantine": sum(o.kind == "named" for o in mine),
                "accepted": sum(o.kind == "used" for o in mine),
                "worst_seconds": round(max(o.seconds for o in mine), 2),
                "worst_mib": round(max(o.mib for o in mine)),
            }
        )
    return {
        "bad_inputs": len(cases),
        "tracebacks": sum(o.kind == "traceback" for o in outcomes),
        "bad_input_faults": sum(bool(o.fault(c)) for c, o in zip(cases, outcomes, strict=True)),
        "bad_input_table": rows,
        "bad_input_run": {
            "command": "python tools/bench/bad_inputs.py --scratch SCRATCH",
            "commit": commit(ROOT),
            "machine": machine(),
            "versions": versions(),
            "seconds": round(seconds),
            "most_seconds": MOST_SECONDS,
            "most_mib": MOST_MIB,
            "memory": "peak resident (ru_maxrss) less what was resident before the command",
        },
    }


def record(path: Path, figures: dict[str, Any]) -> None:
    """Put the figures beside those that are in the file already."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, {**before, **figures})


if __name__ == "__main__":
    main()
