"""Write the batch of a finished run for other tools."""

from __future__ import annotations

from pathlib import Path

from detal.manifests import (
    HandOver,
    model_version,
    read_batch,
    read_record,
    staged_folder,
    write_csv,
    write_formats,
)

__all__ = ["export_run"]


def export_run(run: Path, hand_over: HandOver, *, output: Path | None = None) -> Path:
    """Write a batch in other formats, with nothing selected or scored again.

    Args:
        run: Folder written by `detal select`.
        hand_over: Formats, and how they name the images.
        output: Folder that appears complete or not at all; by default beside the run, with
            ``-export`` behind its name.

    Returns:
        The folder.

    Raises:
        DataError: If the run cannot be read, an image is missing or not where the prefix says, or a
            tool cannot hold a name.
        ConfigError: If ``output`` holds something else, or was changed since.
    """
    run = run.absolute()
    batch, record = read_batch(run), read_record(run)
    output = run.with_name(f"{run.name}-export") if output is None else output.absolute()
    with staged_folder(output) as folder:
        write_csv(folder / "selection.csv", batch)
        write_formats(folder, batch, hand_over, final=output, model_version=model_version(record))
    return output
