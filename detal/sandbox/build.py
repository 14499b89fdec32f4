"""Writes a sandbox: four splits as COCO JSON and JPEGs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detal.errors import ConfigError
from detal.files import read_json, write_json
from detal.sandbox.digits import CLASS_NAMES, class_prior, handwriting
from detal.sandbox.scenes import MAX_DIGITS, draw_scene, render
from detal.sandbox.writer import Row, SplitWriter
from detal.seeding import generator

__all__ = ["SPLITS", "Sandbox", "draw_image", "make_sandbox", "split_sizes"]

SPLITS = ("seed", "pool", "reference", "test")
MIN_IMAGES = 60

_RECIPE = 1  # raise it with every change of the pixels or boxes a seed gives
_JPEG_QUALITY = 80
_BLOCK = 20
_SEED_HEAD = 40
_VIDEO_SHARE = 0.7  # of the blocks of the pool
_VIDEO_FRAMES = (4, 10)
_IDS_PER_SPLIT = 10_000_000


@dataclass(frozen=True)
class Sandbox:
    """Where the parts of a sandbox lie.

    Attributes:
        root: The folder; ``file_name`` in every split is relative to it.
        created: False if it was already there, complete and made with the same arguments.
    """

    root: Path
    created: bool
    seed: Path = field(init=False)
    pool: Path = field(init=False)
    pool_truth: Path = field(init=False)
    reference: Path = field(init=False)
    test: Path = field(init=False)

    def __post_init__(self) -> None:
        for name in (*SPLITS, "pool_truth"):
            object.__setattr__(self, name, self.root / f"{name}.json")


@dataclass(frozen=True)
class _Arguments:
    images: int
    seed: int
    image_size: int


def make_sandbox(
    output: Path,
    *,
    images: int = 660,
    seed: int = 0,
    image_size: int = 160,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Sandbox:
    """Generate the dataset into a folder; the same arguments a second time change nothing.

    ``seed.json`` (labelled, every class at least twice), ``pool.json`` (without annotations) and
    ``pool_truth.json`` (the same images with boxes), ``reference.json``, ``test.json``,
    ``images/<split>/NNNNNN.jpg``, ``recipe.json``. An image depends on ``seed``, ``image_size``,
    its split and its number only: not on ``images`` and not on ``workers``.

    Args:
        output: Folder to write.
        images: Images of all splits together, at least 60: 5/33 seed (20 to 200), 4/33 reference
            (at most 500), 6/33 test (at most 1,000), the rest pool.
        seed: Seed of the recipe, >= 0.
        image_size: Width and height in pixels, 64 to 2,048. Digits are 10 to 60 px high.
        workers: Processes. With more than one, a script must call this under
            ``if __name__ == "__main__":`` (the workers are spawned).
        progress: Called with (images done, images in all).

    Raises:
        ConfigError: If an argument is out of range, scikit-learn is missing, or the folder holds
            something else: another recipe's sandbox or files it would overwrite.
    """
    arguments = _Arguments(images=images, seed=seed, image_size=image_size)
    _check(arguments, workers)
    sizes = split_sizes(images)
    if _is_complete(output, arguments, sizes):
        return Sandbox(output, created=False)
    handwriting("seed")  # fails before anything is written if scikit-learn is missing
    output.mkdir(parents=True, exist_ok=True)
    recipe: Row = {"recipe": _RECIPE, "arguments": asdict(arguments), "complete": False}
    write_json(output / "recipe.json", recipe)
    done = 0
    with _mapper(workers) as run:
        for split in SPLITS:
            first_id = _first_id(split, per_image=MAX_DIGITS)
            with SplitWriter(output, split, first_id=first_id) as writer:
                for rows in run(_make_chunk, _jobs(output, split, sizes[split], arguments)):
                    writer.add(*rows)
                    done += len(rows[0])
                    if progress:
                        progress(done, images)
            recipe.setdefault("splits", {})[split] = writer.summary()
    recipe["versions"] = {"numpy": np.__version__, "opencv": cv2.__version__}
    recipe["complete"] = True
    write_json(output / "recipe.json", recipe)
    return Sandbox(output, created=True)


def split_sizes(images: int) -> dict[str, int]:
    """Images of each split, of ``images`` in all."""
    sizes = {
        "seed": min(200, max(20, images * 5 // 33)),
        "reference": min(500, images * 4 // 33),
        "test": min(1000, images * 6 // 33),
    }
    return {**sizes, "pool": images - sum(sizes.values())}


def _check(arguments: _Arguments, workers: int) -> None:
    """Raise ConfigError naming every argument that is out of range."""
    limits = {
        "images": (arguments.images, MIN_IMAGES, _IDS_PER_SPLIT - 1),
        "seed": (arguments.seed, 0, 2**63 - 1),
        "image_size": (arguments.image_size, 64, 2048),
        "workers": (workers, 1, 1024),
    }
    problems = [
        f"{name} must be {low} to {high}, got {value}"
        for name, (value, low, high) in limits.items()
        if not low <= value <= high
    ]
    if problems:
        raise ConfigError("sandbox: " + "; ".join(problems))


def _is_complete(root: Path, arguments: _Arguments, sizes: dict[str, int]) -> bool:
    """Whether ``root`` already holds exactly this sandbox.

    Raises:
        ConfigError: If it holds something else that would be overwritten.
    """
    recipe_path = root / "recipe.json"
    wanted = {"recipe": _RECIPE, **asdict(arguments)}
    if root.exists() and not root.is_dir():
        raise ConfigError(f"the sandbox's output must be a folder, found a file: {root}")
    ours = ["images", *(f"{name}.json" for name in (*SPLITS, "pool_truth"))]
    names = [name for name in ours if (root / name).exists()]
    if not recipe_path.is_file():
        if names:
            raise ConfigError(
                f"{root} holds {', '.join(names)} but no recipe.json, so it is not a sandbox of "
                f"ours and would be overwritten: choose another folder"
            )
        return False
    try:
        found = read_json(recipe_path)
        held = {"recipe": found["recipe"], **found["arguments"]}
        complete = bool(found["complete"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{recipe_path} is not a sandbox's recipe: {error!r}") from error
    if held != wanted:
        raise ConfigError(
            f"{root} holds a sandbox of {held}, asked for {wanted}: "
            f"choose another folder or delete that one"
        )
    return complete and names == ours and _all_images(root, sizes)


def _all_images(root: Path, sizes: dict[str, int]) -> bool:
    folders = {split: root / "images" / split for split in SPLITS}
    return all(
        folder.is_dir() and sum(1 for _ in folder.glob("*.jpg")) == sizes[split]
        for split, folder in folders.items()
    )


@contextlib.contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """``map``, in this process or over spawned ones; results in order."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield pool.map


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _jobs(
    root: Path, split: str, count: int, arguments: _Arguments
) -> Iterator[tuple[Path, str, int, int, _Arguments]]:
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):  # of an interrupted run
        old.unlink()
    for start in range(0, count, 4 * _BLOCK):
        yield root, split, start, min(count, start + 4 * _BLOCK), arguments


def _make_chunk(
    job: tuple[Path, str, int, int, _Arguments],
) -> tuple[list[Row], list[list[Row]]]:
    """Write the images ``start`` to ``stop`` of a split; their rows and their annotations'."""
    root, split, start, stop, arguments = job
    images, annotations = [], []
    for index in range(start, stop):
        jpeg, image, boxes = draw_image(
            split, index, seed=arguments.seed, image_size=arguments.image_size
        )
        (root / image["file_name"]).write_bytes(jpeg)
        images.append(image)
        annotations.append(boxes)
    return images, annotations


def draw_image(
    split: str, index: int, *, seed: int, image_size: int
) -> tuple[bytes, Row, list[Row]]:
    """One image of a split.

    Returns:
        The JPEG, its COCO row, and its annotations' rows without ``id``. Beside COCO's own keys a
        row says ``digit`` (row of the sample in ``load_digits``) and ``visible`` (share of ink).
    """
    scene_index, frame, group = _position(split, index, seed)
    scene = draw_scene(
        generator(seed, "sandbox", "scene", split, scene_index),
        size_px=image_size,
        prior=class_prior(split),
        source=handwriting(split),
        # Whatever chance brings, the head of the seed split has a few of each class.
        first_label=index % len(CLASS_NAMES) if split == "seed" and index < _SEED_HEAD else None,
    )
    pixels, placed = render(scene, frame, rng=generator(seed, "sandbox", "frame", split, index))
    image_id = _first_id(split) + index
    image = {
        "id": image_id,
        "file_name": f"images/{split}/{index:06d}.jpg",
        "width": image_size,
        "height": image_size,
        "group": group,
    }
    annotations = [
        {
            "image_id": image_id,
            "category_id": digit.label + 1,
            "bbox": list(digit.bbox_xywh),
            "area": digit.bbox_xywh[2] * digit.bbox_xywh[3],
            "iscrowd": 0,
            "digit": digit.sample,
            "visible": digit.visible,
        }
        for digit in placed
    ]
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes(), image, annotations


def _first_id(split: str, *, per_image: int = 1) -> int:
    """First id of the split's images, or of its annotations with as many per image."""
    return SPLITS.index(split) * _IDS_PER_SPLIT * per_image + 1


def _position(split: str, index: int, seed: int) -> tuple[int, int, str | None]:
    """Scene, frame and group of an image; a function of its own block of images only.

    Videos are in the pool: there, near-duplicates cost something. In the other splits they would
    only lower the number of independent images.
    """
    block, place = divmod(index, _BLOCK)
    rng = generator(seed, "sandbox", "layout", split, block)
    length = int(rng.integers(_VIDEO_FRAMES[0], _VIDEO_FRAMES[1] + 1))
    start = int(rng.integers(0, _BLOCK - length + 1))
    has_video = split == "pool" and rng.random() < _VIDEO_SHARE
    if has_video and start <= place < start + length:
        return block * _BLOCK + start, place - start, f"video-{block:06d}"
    return index, 0, None
