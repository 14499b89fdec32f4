"""Keep hold-out images out of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from detal.datasets.dataset import Dataset
from detal.errors import DataError
from detal.files import is_file

__all__ = ["refuse_holdout"]

_SHOWN = 20


def refuse_holdout(images: pl.DataFrame, holdouts: Sequence[Dataset]) -> None:
    """Refuse images whose content a hold-out has, too, wherever it lies and whatever it is called.

    Ids are no proof, because datasets number their images independently; they count where the
    hold-out's file is not there to compare with.

    Args:
        images: Images to be trained on, with ``image_id`` and ``path``.
        holdouts: Datasets that must not be trained on.

    Raises:
        DataError: If there are such images, with their ids.
    """
    ids = {path: image_id for image_id, path in images.select("image_id", "path").iter_rows()}
    by_id = {image_id: path for path, image_id in ids.items()}
    by_content = _by_size(list(ids))
    found: dict[str, str] = {}
    for holdout in holdouts:
        for image_id, path in holdout.images.select("image_id", "path").iter_rows():
            twin = _twin(path, by_content)
            if twin is None and not is_file(path):
                twin = by_id.get(image_id)
            if twin is not None:
                found.setdefault(ids[twin], f"{ids[twin]} ({holdout.name}: {image_id})")
    if found:
        names = list(found.values())
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise DataError(
            f"images of a hold-out must not be trained on, found {len(names)} of {len(ids)}: "
            f"{', '.join(names[:_SHOWN])}{more}; nothing was merged"
        )


def _by_size(paths: Sequence[str]) -> dict[int, dict[str, str]]:
    """Paths by content hash by file size: only files of equal size have to be read."""
    by_size: dict[int, dict[str, str]] = {}
    for path in paths:
        if is_file(path):
            by_size.setdefault(Path(path).stat().st_size, {})[path] = ""
    return by_size


def _twin(path: str, by_size: dict[int, dict[str, str]]) -> str | None:
    """The path with the content of ``path``, or None; hashes are filled in when needed."""
    try:
        candidates = by_size.get(Path(path).stat().st_size)
        if candidates is None:
            return None
        content = _content_hash(path)
        for candidate, known in candidates.items():
            candidates[candidate] = known or _content_hash(candidate)
            if candidates[candidate] == content:
                return candidate
    except OSError:
        return None
    return None


def _content_hash(path: str) -> str:
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
