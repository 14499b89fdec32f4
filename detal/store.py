"""Detector outputs on disk: append-only shards, keyed by what the detector is and what it saw.

    <root>/<model key>/about.json               weights hash, settings, classes
    <root>/<model key>/<shard>.parquet          one row per image; its existence makes a shard done
    <root>/<model key>/<shard>.boxes.parquet    one row per detection
    <root>/<model key>/<shard>.<matrix>.npy     logits, object and image features, float16

A shard is named after the images in it, so writing it twice gives the same file. Every file is
written beside its place, flushed to disk and renamed; the image table comes last. Whatever moment
the process is killed at, a shard is either complete or not there.

Shapes: P images asked for, N detections, C classes, D features.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import StoreError, reason
from detal.files import UNREADABLE, replacing, write_atomic
from detal.structures import Detections, ScoreKind

__all__ = ["Store", "StoredImages", "image_keys"]

_SCHEMA_VERSION = 1
_MATRICES = ("logits", "object_features", "image_features")
_SPREADS = ("box_spread", "cluster_spread")
_NUMBERS = ("mutual_information", "tightness")
_SIDES = ("left", "top", "right", "bottom")
_STALE_S = 3600.0
_DAMAGED = (*UNREADABLE, pl.exceptions.PolarsError, pl.exceptions.PanicException)
_LARGEST_HALF = float(np.finfo(np.float16).max)


def image_keys(paths: Sequence[str]) -> list[str]:
    """One key per file: it changes whenever path, size or modification time do.

    A file that is not there has a key too, a different one from when it is.
    """
    keys = []
    for path in paths:
        try:
            stat = os.stat(path)  # noqa: PTH116 - a Path for each of millions takes as long again
            identity = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
        except OSError:
            identity = f"{path}|missing"
        keys.append(hashlib.blake2b(identity.encode(), digest_size=16).hexdigest())
    return keys


class Store:
    """The shards of one detector with one set of settings.

    Args:
        root: Folder for all detectors; made if absent.
        fingerprint: Hash of the weights.
        settings: Everything else that changes the detector's output.
        class_names: C names, in label order.
        score_kind: How logits become probabilities.

    Raises:
        StoreError: If the folder cannot be written.
    """

    def __init__(
        self,
        root: Path,
        *,
        fingerprint: str,
        settings: Mapping[str, Any],
        class_names: Sequence[str],
        score_kind: ScoreKind,
    ) -> None:
        about = {
            "schema": _SCHEMA_VERSION,
            "fingerprint": fingerprint,
            "settings": dict(settings),
            "class_names": list(class_names),
            "score_kind": score_kind,
        }
        text = json.dumps(about, sort_keys=True, ensure_ascii=False, indent=1)
        self.key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self.folder = Path(root) / self.key
        self.score_kind = score_kind
        self.class_names = tuple(class_names)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_stale()
            if not (self.folder / "about.json").exists():
                write_atomic(self.folder / "about.json", text.encode())
        except OSError as error:
            raise StoreError(f"cannot write the store {self.folder}: {reason(error)}") from None

    def missing(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Positions in ``keys`` that no shard holds, ascending; of equal keys only the first."""
        asked = pl.DataFrame({"key": pl.Series(keys, dtype=pl.String)}).with_row_index("position")
        stored = []
        for path in self._tables():
            with self._intact(path.name):
                stored.append(pl.read_parquet(path, columns=["key"]).cast(pl.String))
        if stored:
            asked = asked.join(pl.concat(stored), on="key", how="anti", maintain_order="left")
        asked = asked.unique("key", keep="first", maintain_order=True)
        return asked["position"].to_numpy().astype(np.int64)

    def write(self, keys: Sequence[str], images: pl.DataFrame, detections: Detections) -> None:
        """Write one shard.

        Args:
            keys: B image keys.
            images: B rows of what was found out about each image (size, content hash, error).
            detections: Of the B images.

        Raises:
            StoreError: If the disk refuses; what was written before stays valid.
        """
        shard = hashlib.blake2b("".join(keys).encode(), digest_size=8).hexdigest()
        table = images.with_columns(
            pl.Series("key", keys, dtype=pl.String),
            pl.Series("num_boxes", detections.counts.numpy().astype(np.int32)),
        )
        try:
            for name in _MATRICES:
                matrix = getattr(detections, name)
                if matrix is not None:
                    half = matrix.float().clamp(-_LARGEST_HALF, _LARGEST_HALF).numpy()
                    self._write_npy(f"{shard}.{name}.npy", half.astype(np.float16))
            self._write_parquet(f"{shard}.boxes.parquet", _boxes_table(detections))
            self._write_parquet(f"{shard}.parquet", table)
        except (OSError, pl.exceptions.ComputeError) as error:
            raise StoreError(
                f"cannot write shard {shard} to {self.folder}: {reason(error)}; shards written "
                "before are kept, run the same command again to go on"
            ) from None

    def read(self, keys: Sequence[str]) -> StoredImages:
        """What the store knows about the images ``keys`` (P,), in that order.

        Raises:
            StoreError: If an image is in no shard.
        """
        index = self._index()
        wanted = pl.DataFrame({"key": pl.Series(keys, dtype=pl.String)})
        images = wanted.join(index, on="key", how="left", maintain_order="left").drop("key")
        if len(images) > len(keys):  # some images are in several shards
            index = index.unique("key", keep="first", maintain_order=True)
            images = wanted.join(index, on="key", how="left", maintain_order="left").drop("key")
        absent = images["shard"].null_count()
        if absent:
            raise StoreError(f"{absent} of {len(keys)} images are not in the store {self.folder}")
        return StoredImages(store=self, images=images)

    def load_shard(self, shard: str, rows: NDArray[np.int64] | None = None) -> Detections:
        """The detections of a shard's images ``rows`` (K,) in that order; by default of all.

        Raises:
            StoreError: If its files are damaged.
        """
        with self._intact(f"{shard}.parquet"):
            return self._load_shard(shard, rows)

    def _load_shard(self, shard: str, rows: NDArray[np.int64] | None) -> Detections:
        offsets = self._offsets(shard)
        boxes = pl.read_parquet(self.folder / f"{shard}.boxes.parquet")
        wanted = None
        if rows is not None and np.array_equal(rows, np.arange(len(offsets) - 1)):
            rows = None
        if rows is not None:
            wanted, offsets = _rows_of(offsets, rows)
            boxes = boxes[wanted]
        spreads = {
            name: _tensor(boxes, [f"{name}_{side}" for side in _SIDES])
            if f"{name}_left" in boxes.columns
            else None
            for name in _SPREADS
        }
        matrices = {
            name: self._load_npy(shard, name, rows if name == "image_features" else wanted)
            for name in _MATRICES
        }
        logits = matrices.pop("logits")
        if logits is None:
            raise StoreError(f"shard {shard} in {self.folder} has lost its logits")
        return Detections(
            offsets=torch.from_numpy(offsets),
            boxes=_tensor(boxes, list(_SIDES)),
            scores=torch.from_numpy(boxes["score"].to_numpy(writable=True)),
            labels=torch.from_numpy(boxes["label"].cast(pl.Int64).to_numpy(writable=True)),
            logits=logits,
            score_kind=self.score_kind,
            **{name: _column(boxes, name) for name in _NUMBERS},
            **spreads,
            **matrices,
        )

    def load_image_features(
        self, shard: str, rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32] | None:
        """(K, D) image features of a shard's images ``rows`` (K,), by default of all, or None."""
        with self._intact(f"{shard}.parquet"):
            features = self._load_npy(shard, "image_features", rows)
        return None if features is None else features.numpy()

    def load_score_sums(self, shard: str) -> NDArray[np.float64]:
        """(B,) sum of the scores of each image of one shard."""
        with self._intact(f"{shard}.parquet"):
            path = self.folder / f"{shard}.boxes.parquet"
            boxes = pl.read_parquet(path, columns=["row", "score"])
            sums = np.bincount(
                boxes["row"].to_numpy(),
                weights=boxes["score"].to_numpy(),
                minlength=len(self._offsets(shard)) - 1,
            )
        return sums.astype(np.float64)

    def _index(self) -> pl.DataFrame:
        """One row per stored image, with the shard and the row it is in, by shard name.

        Without the paths: a pool has its own.
        """
        tables, paths = [], self._tables()
        shards = pl.Enum([path.stem for path in paths])
        for path in paths:
            with self._intact(path.name):
                table = pl.read_parquet(path).drop("path", strict=False).with_row_index("row")
                table.select(pl.col("key").cast(pl.String), pl.col("num_boxes").cast(pl.Int32))
            tables.append(table.with_columns(pl.lit(path.stem, dtype=shards).alias("shard")))
        if not tables:
            return pl.DataFrame(schema={"key": pl.String, "shard": pl.String, "row": pl.UInt32})
        # Shards of an earlier version lack what was measured later: null there.
        return pl.concat(tables, how="diagonal")

    def _offsets(self, shard: str) -> NDArray[np.int64]:
        """(B + 1,) rows of the shard's boxes at which each image begins."""
        counts = pl.read_parquet(self.folder / f"{shard}.parquet", columns=["num_boxes"])
        return np.concatenate([[0], np.cumsum(counts["num_boxes"].to_numpy(), dtype=np.int64)])

    def _tables(self) -> list[Path]:
        """The image table of each shard, by shard name."""
        names = (entry.name for entry in os.scandir(self.folder))
        done = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
        return [self.folder / name for name in sorted(done) if not name.endswith(".boxes.parquet")]

    @contextmanager
    def _intact(self, name: str) -> Iterator[None]:
        """Say which shard is damaged, and that it can be made again, where reading it fails."""
        try:
            yield
        except _DAMAGED as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise StoreError(
                f"a shard of the store is damaged: {self.folder / name} ({text}); remove that file "
                "and run the same command again, its images are then scored anew"
            ) from None

    def _load_npy(
        self, shard: str, name: str, rows: NDArray[np.int64] | None = None
    ) -> Tensor | None:
        path = self.folder / f"{shard}.{name}.npy"
        if not path.exists():
            return None
        if rows is None:
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(mapped[rows].astype(np.float32))

    def _write_npy(self, name: str, matrix: NDArray[Any]) -> None:
        with replacing(self.folder / name) as temporary, temporary.open("wb") as file:
            np.save(file, matrix, allow_pickle=False)

    def _write_parquet(self, name: str, table: pl.DataFrame) -> None:
        with replacing(self.folder / name) as temporary:
            table.write_parquet(temporary, compression="zstd")

    def _remove_stale(self) -> None:
        """Delete half-written files that a killed run left behind."""
        for path in self.folder.glob(".*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()
            except FileNotFoundError:  # another run was faster
                continue


@dataclass(frozen=True, eq=False)
class StoredImages:
    """P images of a store, in the order they were asked for.

    Attributes:
        store: Where the detections are.
        images: P rows: what scoring found out about each image, with its shard and row.
    """

    store: Store
    images: pl.DataFrame

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> StoredImages:
        """The images ``rows`` (K,), in that order."""
        return StoredImages(store=self.store, images=self.images[rows])

    def places(self) -> StoredImages:
        """The same images without what was found out about them: enough to read their detections.

        So that ten passes over a pool do not take the memory of ten tables.
        """
        return StoredImages(store=self.store, images=self.images.select("shard", "row"))

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], Detections]]:
        """The images shard by shard: positions (b,) in this table and their detections."""
        for shard, positions, rows in self._by_shard():
            yield positions, self.store.load_shard(shard, rows)

    def detections(self, index: Sequence[int] | NDArray[np.int64]) -> Detections:
        """The detections of the images at ``index`` (K,), in that order."""
        wanted = np.asarray(index, dtype=np.int64)
        parts = list(self.take(wanted).chunks())
        if not parts:
            return Detections.empty(
                0, num_classes=len(self.store.class_names), score_kind=self.store.score_kind
            )
        order = np.argsort(np.concatenate([positions for positions, _ in parts]))
        return Detections.concat([part for _, part in parts]).take(order.tolist())

    def image_features(self) -> NDArray[np.float32] | None:
        """(P, D) image features, or None if the detector has none."""
        features: NDArray[np.float32] | None = None
        for shard, positions, rows in self._by_shard():
            part = self.store.load_image_features(shard, rows)
            if part is None:
                return None
            if features is None:
                features = np.zeros((len(self), part.shape[1]), dtype=np.float32)
            features[positions] = part
        return features

    def score_sums(self) -> NDArray[np.float64]:
        """(P,) sum of the scores of each image's detections, read without all the rest."""
        sums = np.zeros(len(self))
        for shard, positions, rows in self._by_shard():
            sums[positions] = self.store.load_score_sums(shard)[rows]
        return sums

    def _by_shard(self) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
        groups = self.images.with_row_index("position").group_by("shard", maintain_order=True)
        for (shard,), part in groups:
            positions = part["position"].to_numpy().astype(np.int64)
            yield str(shard), positions, part["row"].to_numpy().astype(np.int64)


def _rows_of(
    offsets: NDArray[np.int64], images: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the boxes of some images (K,), and the offsets (K + 1,) among these rows."""
    counts = np.diff(offsets)[images]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.arange(starts[-1]) + np.repeat(offsets[:-1][images] - starts[:-1], counts), starts


def _boxes_table(detections: Detections) -> pl.DataFrame:
    columns: dict[str, NDArray[Any]] = {
        "row": detections.image_index.numpy().astype(np.uint32),
        **dict(zip(_SIDES, detections.boxes.numpy().T, strict=True)),
        "score": detections.scores.numpy(),
        "label": detections.labels.numpy().astype(np.int32),
    }
    for name in _SPREADS:
        spread = getattr(detections, name)
        if spread is not None:
            sides = [f"{name}_{side}" for side in _SIDES]
            columns.update(zip(sides, spread.numpy().T, strict=True))
    for name in _NUMBERS:
        values = getattr(detections, name)
        if values is not None:
            columns[name] = values.numpy()
    return pl.DataFrame({name: np.ascontiguousarray(value) for name, value in columns.items()})


def _column(table: pl.DataFrame, name: str) -> Tensor | None:
    """(N,) float32, or None if there is no such column."""
    if name not in table.columns:
        return None
    return torch.from_numpy(table[name].to_numpy(writable=True))


def _tensor(table: pl.DataFrame, columns: list[str]) -> Tensor:
    """(N, len(columns)) float32."""
    return torch.from_numpy(table.select(columns).to_numpy(order="c", writable=True))
