"""A folder that appears complete or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detal.errors import ConfigError
from detal.files import read_json
from detal.locking import lock_beside, locked

__all__ = ["BATCH", "LABELED_SET", "check_output", "recover_folder", "staged_folder"]

_MARKER = ".detal.json"
BATCH, LABELED_SET = "batch", "labelled set"
"""Kinds of folders."""


@contextmanager
def staged_folder(output: Path, *, kind: str = BATCH) -> Iterator[Path]:
    """A new folder beside ``output`` to write into, moved to ``output`` when the block ends well.

    If the block raises, ``output`` is as it was. An older folder is replaced if `check_output`
    allows it; it is moved aside first, and a kill between the two renames leaves it there until
    `recover_folder`. The lock of `lock_beside` is held meanwhile; whoever works towards ``output``
    for long holds it before.

    Args:
        output: The folder.
        kind: What it holds: a batch never takes the place of a labelled set, nor that of a batch.

    Raises:
        ConfigError: As `check_output`, or if another process writes to ``output``.
        StoreError: If the folder of ``output`` cannot be written to, or went away.
    """
    output = output.absolute()
    with locked(lock_beside(output), work=output):
        recover_folder(output)
        check_output(output, kind=kind)
        staging = _staging(output)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
            marker = {"written_by": "detal", "kind": kind, "files": _digests(staging)}
            (staging / _MARKER).write_text(
                json.dumps(marker, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
                encoding="utf-8",
            )
            _replace(output, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def recover_folder(output: Path) -> None:
    """Undo what a kill inside `staged_folder` left: the older folder is back, or out of the way.

    The caller holds the lock of `lock_beside`.
    """
    old = _moved_aside(output)
    if old.exists() and not output.exists():
        old.rename(output)
    shutil.rmtree(_staging(output), ignore_errors=True)
    if old.exists():
        _discard(old, output)


def check_output(output: Path, *, kind: str = BATCH) -> None:
    """Refuse to overwrite what detal did not write, or what somebody worked on since.

    Args:
        output: The folder.
        kind: As in `staged_folder`.

    Raises:
        ConfigError: Unless ``output`` is absent, an empty folder, or a folder that detal wrote and
            whose files are as it left them (added files do not count) and are of this kind.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        marker = read_json(output / _MARKER)
        files = dict(marker["files"])
        there = marker.get("kind", LABELED_SET if "labeled.json" in files else BATCH)
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"output must be a new or empty folder, or one that detal wrote; {output} is neither: "
            "choose another output or move it away"
        ) from None
    if there != kind:
        raise ConfigError(
            f"output must not take the place of something else: {output} holds a {there}, a {kind} "
            "needs another folder"
        )
    now = _digests(output)
    changed = sorted(name for name, digest in files.items() if now.get(name) != digest)
    if changed:
        raise ConfigError(
            f"{len(changed)} files of {output} were changed since detal wrote them, for example "
            f"{changed[0]}: choose another output or move it away, so that no work is lost"
        )


def _digests(folder: Path) -> dict[str, str]:
    """Digest of every regular file but the images, by path inside ``folder``."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and "images" not in name.parts[:-1]:
            digests[name.as_posix()] = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return digests


def _replace(output: Path, staging: Path) -> None:
    if not output.exists():
        staging.rename(output)
        return
    old = _moved_aside(output)
    output.rename(old)
    staging.rename(output)
    _discard(old, output)


def _discard(old: Path, output: Path) -> None:
    """Remove the older folder, under a name from which nobody restores what is half removed."""
    staging = _staging(output)
    shutil.rmtree(staging, ignore_errors=True)
    old.rename(staging)
    shutil.rmtree(staging, ignore_errors=True)


def _staging(output: Path) -> Path:
    return output.absolute().with_name(f".{output.name}.detal-new")


def _moved_aside(output: Path) -> Path:
    return output.absolute().with_name(f".{output.name}.detal-old")
