"""Plug the selection into a training that is the user's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detal.config import SelectConfig, load_config
from detal.errors import DetectorError
from detal.manifests import check_output
from detal.runs.select import run_select

__all__ = ["select_config", "select_next_batch"]

log = logging.getLogger(__name__)


def select_config(
    config: SelectConfig | str | Path, *, output: str | Path | None = None
) -> SelectConfig:
    """A config that may be a file.

    Args:
        config: The config, or a YAML file as for `detal select`.
        output: Takes the place of the config's own ``output``.

    Raises:
        ConfigError: If the file is no such config.
    """
    if not isinstance(config, SelectConfig):
        overrides = [] if output is None else [f"output={json.dumps(str(output))}"]
        return load_config(SelectConfig, Path(config), overrides)
    if output is None:
        return config
    return config.model_copy(update={"output": str(Path(output).absolute())})


def select_next_batch(
    config: SelectConfig | str | Path,
    *,
    output: str | Path | None = None,
) -> Callable[[Any], None]:
    """A callback for ultralytics' ``on_train_end``: choose what to label next with the new weights.

        model.add_callback("on_train_end", select_next_batch("run.yaml", output="runs/round2"))

    Args:
        config: As for `detal select`; the detector's weights are those just trained.
        output: Folder of the run, in place of the config's.

    Returns:
        Takes the trainer, scores the pool with its best weights (or else its last), writes the
        manifest.

    Raises:
        ConfigError: If the config is wrong or the output is taken: now, not after the training.
    """
    resolved = select_config(config, output=output)
    check_output(Path(resolved.output))

    def on_train_end(trainer: Any) -> None:
        candidates = [Path(trainer.best), Path(trainer.last)]
        weights = next((path for path in candidates if path.is_file()), None)
        if weights is None:
            raise DetectorError(f"the trainer must have saved weights, found none: {candidates[0]}")
        detector = resolved.detector.model_copy(update={"weights": str(weights.absolute())})
        result = run_select(resolved.model_copy(update={"detector": detector}))
        log.info("%d images to label next: %s", len(result.selection), result.output)

    return on_train_end
