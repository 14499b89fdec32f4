"""Write the figures of data/results/*.json into the README, between their markers.

python tools/readme_tables.py           # rewrite
python tools/readme_tables.py --check   # exit 1 if the README is not what the files say
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def main() -> None:
    """Rewrite the README, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = with_tables(before)
    if check and after != before:
        sys.exit("README.md differs from data/results: run python tools/readme_tables.py")
    if after != before:
        README.write_text(after, encoding="utf-8")


def with_tables(text: str) -> str:
    """``text`` with the block of every result file made anew.

    A block stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
    """
    for name, render in TABLES.items():
        result = json.loads((ROOT / "data" / "results" / f"{name}.json").read_text("utf-8"))
        block = f"<!-- {name} -->\n{render(result)}<!-- /{name} -->"
        pattern = re.compile(f"<!-- {name} -->.*<!-- /{name} -->", re.DOTALL)
        text, found = pattern.subn(block.replace("\\", r"\\"), text)
        if found != 1:
            sys.exit(f"README.md must have one block {name}, found {found}")
    return text


def scoring_table(result: dict[str, Any]) -> str:
    """Images per second beside ultralytics' own predictor."""
    lines = ["| pair | detal, images/s | ultralytics, images/s | ratio |", "|---|---|---|---|"]
    for number, (pair, ratio) in enumerate(
        zip(result["pairs"], result["ratios"], strict=True), start=1
    ):
        speeds = [f"{pair[engine]['images_per_s']:.1f}" for engine in ("detal", "ultralytics")]
        lines.append(f"| {number} | {' | '.join(speeds)} | {ratio:.2f} |")
    lines.append(f"| **median** | | | **{result['ratio_to_ultralytics_cpu']:.2f}** |")
    images = result["pairs"][0]["detal"]["images"]
    machine, versions = result["machine"], result["versions"]
    lines.append("")
    lines.append(
        f"{images} images of aquarium, YOLOv5n at {result['image_size']} px, batch "
        f"{result['batch']}, {machine['cores']} cores ({machine['processor']}), ultralytics "
        f"{versions['ultralytics']}, torch {versions['torch']}; commit {result['commit']}; "
        f"`{result['command']}`."
    )
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"scoring": scoring_table}


if __name__ == "__main__":
    main()
