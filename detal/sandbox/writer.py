"""COCO files written row by row, so that a split never has to fit in memory."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from detal.sandbox.digits import CLASS_NAMES

__all__ = ["Row", "SplitWriter"]

Row = dict[str, Any]

_DESCRIPTION = {
    "description": "detal sandbox: handwritten digits composed on generated backgrounds",
    "handwriting": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI), "
    "CC BY 4.0, through scikit-learn's load_digits",
}
_CATEGORIES = [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)]


class SplitWriter:
    """Collects a split's rows on disk and joins them to COCO files when it is left.

    Args:
        root: Folder of the sandbox.
        split: Its name; the pool is written twice, as ``pool`` and ``pool_truth``.
        first_id: Id of the first annotation.
    """

    def __init__(self, root: Path, split: str, *, first_id: int) -> None:
        self._root, self._split, self._next_id = root, split, first_id
        self._spools = contextlib.ExitStack()
        self._images = self._spool()
        self._annotations = self._spool()
        self._num_images = 0
        self._counts = np.zeros(len(CLASS_NAMES), dtype=np.int64)

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._spools:
            if kind is not None:
                return
            if self._split == "pool":
                self._join("pool", annotated=False)
                self._join("pool_truth", annotated=True)
            else:
                self._join(self._split, annotated=True)

    def add(self, images: list[Row], annotations: list[list[Row]]) -> None:
        """Append images and, per image, its annotations."""
        for image, boxes in zip(images, annotations, strict=True):
            _append(self._images, image)
            self._num_images += 1
            for box in boxes:
                _append(self._annotations, {"id": self._next_id, **box})
                self._next_id += 1
                self._counts[box["category_id"] - 1] += 1

    def summary(self) -> Row:
        """Numbers of images and of objects per class."""
        return {
            "images": self._num_images,
            "boxes": int(self._counts.sum()),
            "classes": dict(zip(CLASS_NAMES, self._counts.tolist(), strict=True)),
        }

    def _spool(self) -> TextIO:
        return self._spools.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))

    def _join(self, name: str, *, annotated: bool) -> None:
        """An unlabelled file has no key ``annotations`` at all: an empty list says "no objects"."""
        path = self._root / f"{name}.json"
        part = path.with_suffix(".json.part")
        with part.open("w", encoding="utf-8", newline="\n") as out:
            head = {"info": _DESCRIPTION, "categories": _CATEGORIES}
            out.write(json.dumps(head)[:-1] + ',\n"images": [')
            _copy(self._images, out)
            if annotated:
                out.write('],\n"annotations": [')
                _copy(self._annotations, out)
            out.write("]}\n")
        part.replace(path)


def _append(spool: TextIO, row: Row) -> None:
    spool.write(("," if spool.tell() else "") + "\n" + json.dumps(row))


def _copy(spool: TextIO, out: TextIO) -> None:
    spool.seek(0)
    shutil.copyfileobj(spool, out)
