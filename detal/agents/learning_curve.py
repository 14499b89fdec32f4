"""How training went, in files.

<folder>/learning_curve.csv    one row per step
<folder>/learning_curve.json   the same, and greedy's reward
<folder>/learning_curve.png    the picture
<folder>/tensorboard/          the same for TensorBoard, where it is installed
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from detal.agents.reinforce import Point
from detal.report import write_learning_curve

__all__ = ["save_learning_curve"]


def save_learning_curve(folder: Path, curve: Sequence[Point], *, greedy: float) -> None:
    """Write the files; those that are there are replaced.

    Args:
        folder: Where; made if missing.
        curve: The steps in order.
        greedy: Reward of greedy's batch, in percent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {k: None if v is None or math.isnan(v) else v for k, v in asdict(point).items()}
        for point in curve
    ]
    with (folder / "learning_curve.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "reward", "entropy", "held_out", "greedy"])
        writer.writeheader()
        writer.writerows({**row, "greedy": greedy} for row in rows)
    text = json.dumps({"greedy": greedy, "steps": rows}, indent=1)
    (folder / "learning_curve.json").write_text(text + "\n", encoding="utf-8")
    write_learning_curve(
        folder / "learning_curve.png",
        steps=[point.step for point in curve],
        rewards=[point.reward for point in curve],
        entropies=[point.entropy for point in curve],
        held_out={p.step: p.held_out for p in curve if p.held_out is not None},
        greedy=greedy,
    )
    if find_spec("tensorboard") is not None:
        _write_tensorboard(folder / "tensorboard", curve, greedy)


def _write_tensorboard(folder: Path, curve: Sequence[Point], greedy: float) -> None:
    from torch.utils.tensorboard import SummaryWriter

    # Steps of imitation come first; TensorBoard counts from 0.
    first = min((point.step for point in curve), default=0)
    with SummaryWriter(str(folder)) as writer:
        for point in curve:
            values = {"reward": point.reward, "entropy": point.entropy, "greedy": greedy}
            values |= {} if point.held_out is None else {"held_out": point.held_out}
            for name, value in values.items():
                writer.add_scalar(name, value, point.step - first)
