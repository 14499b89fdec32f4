"""The tasks of a Label Studio export, and which annotation of each counts."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from detal.datasets.dataset import Problem
from detal.datasets.images import IMAGE_SUFFIXES
from detal.datasets.json_values import id_text, short
from detal.datasets.listing import absolute_below, storable
from detal.errors import DataError

__all__ = ["Several", "Task", "choose", "local_path", "read_tasks"]

Several = Literal["newest", "refuse"]
"""What counts where an image has several completed annotations."""

_IMAGE_KEY = "image"
_OLDEST = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Task:
    """One task with at most one completed annotation.

    Attributes:
        where: For messages.
        reference: How the task names its image.
        data: Its data.
        results: ``result`` of the annotation, None if there is none.
        why_not: Why there is none.
        is_ground_truth: Whether the annotation is marked as ground truth.
        written: When it was changed last, and its id, for telling the newest.
        author: Who wrote it.
    """

    where: str
    reference: str
    data: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]] | None
    why_not: str = ""
    is_ground_truth: bool = False
    written: tuple[datetime, int] = (_OLDEST, 0)
    author: str = ""


def read_tasks(document: Any, file: str, problems: list[Problem]) -> list[Task]:
    """One entry for each completed annotation, and one for each task without any.

    Drafts and predictions are no annotations; skipped (cancelled) ones do not count.

    Args:
        document: An export as JSON or JSON_MIN.
        file: The file, for messages.
        problems: Gets a problem for each task that cannot be read.

    Raises:
        DataError: If it is no export of Label Studio.
    """
    if not isinstance(document, list):
        found = type(document).__name__
        raise DataError(f"{file} must hold a list of tasks (Label Studio JSON), got {found}")
    tasks: list[Task] = []
    for index, entry in enumerate(document):
        own_id = id_text(entry.get("id")) if isinstance(entry, dict) else None
        where = f"[{index}]" if own_id is None else f"task {own_id}"
        try:
            tasks += _entries(entry, where)
        except DataError as error:
            problems.append(Problem("unreadable_annotation", file, where, str(error)))
    if document and not tasks:
        first = problems[-len(document)]
        raise DataError(
            f"{file} must hold tasks of Label Studio with images, none of {len(document)} entries "
            f"is one; the first: {first.message}"
        )
    return tasks


def choose(
    tasks: Sequence[Task], file: str, problems: list[Problem], *, several: Several
) -> list[Task]:
    """One annotation for each image: ground truth before others, then the newest.

    Args:
        tasks: As from `read_tasks`.
        file: The file, for messages.
        problems: Gets images that are not labelled or have several annotations.
        several: ``refuse`` leaves images with several completed annotations out, unless one of
            them alone is marked as ground truth.
    """
    by_image: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        own_id = id_text(task.data.get("detal_image_id"))
        by_image[f"path {task.reference}" if own_id is None else f"id {own_id}"].append(task)
    chosen = []
    for found in by_image.values():
        done = [task for task in found if task.results is not None]
        if not done:
            message = f"an image needs a completed annotation: {found[0].why_not}"
            problems.append(Problem("not_labelled", file, found[0].where, message, "warning"))
            continue
        best = max(done, key=lambda task: (task.is_ground_truth, task.written))
        rivals = [t for t in done if t.is_ground_truth == best.is_ground_truth]
        if len(rivals) > 1:
            authors = ", ".join(dict.fromkeys(task.author for task in rivals))
            rule = f"an image needs one annotation, it has {len(rivals)} (by {authors})"
            if several == "refuse":
                problems.append(Problem("several_annotations", file, best.where, rule))
                continue
            message = f"{rule}; the newest, by {best.author}, counts"
            problems.append(Problem("several_annotations", file, best.where, message, "warning"))
        chosen.append(best)
    return chosen


def local_path(reference: str, root: Path) -> str:
    """The file that a task means.

    Args:
        reference: A path, a URL, or the form ``/data/local-files/?d=path``.
        root: Folder that the file is below, at its stated place or directly.
    """
    try:
        parts = urlsplit(reference)
    except ValueError:  # looks like a URL and is none
        return absolute_below(root, reference)
    if parts.path.rstrip("/").endswith("/data/local-files"):
        name = parse_qs(parts.query).get("d", [""])[0].lstrip("/")
    elif len(parts.scheme) > 1:
        is_file = parts.scheme == "file"
        name = unquote(parts.path) if is_file else unquote(parts.path).lstrip("/")
    else:
        name = reference
    name = name.replace("\0", "")
    stated = absolute_below(root, name)
    direct = absolute_below(root, re.split(r"[/\\]", name)[-1])
    return direct if not os.path.exists(stated) and os.path.exists(direct) else stated  # noqa: PTH110


def _entries(entry: Any, where: str) -> list[Task]:
    if not isinstance(entry, dict):
        raise DataError(f"a task must be an object, got {short(entry)}")
    if "annotation_id" in entry and "data" not in entry:
        return [_flat_entry(entry, where)]
    data = entry.get("data")
    if not isinstance(data, dict):
        hint = "; detection results are no dataset" if entry.keys() & {"bbox", "image_id"} else ""
        raise DataError(f"a task must have 'data', got {short(sorted(entry))}{hint}")
    reference = _reference(data)
    annotations = entry.get("annotations") or []
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise DataError(f"'annotations' must be a list of objects, got {short(annotations)}")
    done = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    if done:
        return [_completed(annotation, where, reference, data) for annotation in done]
    why_not = "none was submitted"
    if annotations:
        why_not = "it was skipped (was_cancelled)"
    elif entry.get("drafts"):
        why_not = "there is only a draft"
    return [Task(where, reference, data, None, why_not)]


def _completed(
    annotation: Mapping[str, Any], where: str, reference: str, data: Mapping[str, Any]
) -> Task:
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise DataError(f"'result' must be a list of objects, got {short(results)}")
    author = annotation.get("completed_by")
    if isinstance(author, dict):
        author = author.get("email") or author.get("id")
    return Task(
        where,
        reference,
        data,
        results,
        is_ground_truth=annotation.get("ground_truth") is True,
        written=_written(annotation, "id"),
        author=str(author),
    )


def _flat_entry(entry: Mapping[str, Any], where: str) -> Task:
    """A task as JSON_MIN states it: data and results side by side."""
    reference = _reference(entry)
    if entry["annotation_id"] is None:
        return Task(where, reference, entry, None, "none was submitted")
    lists = [value for value in entry.values() if isinstance(value, list)]
    results = [item for values in lists for item in values if isinstance(item, dict)]
    return Task(
        where,
        reference,
        entry,
        results,
        written=_written(entry, "annotation_id"),
        author=str(entry.get("annotator")),
    )


def _reference(data: Mapping[str, Any]) -> str:
    """What names the image: ``image``, or else the first value that looks like one."""
    values = [data.get(_IMAGE_KEY), *data.values()]
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value or "\0" in value or not storable(value):
            continue
        path = unquote(re.split(r"[?#]", value)[0] if "?d=" not in value else value)
        if number == 0 or os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
            return value
    raise DataError(f"a task must name an image in its data, got {short(dict(data))}")


def _written(annotation: Mapping[str, Any], id_key: str) -> tuple[datetime, int]:
    stated = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    try:
        moment = datetime.fromisoformat(stated.replace("Z", "+00:00"))
    except ValueError:
        moment = _OLDEST
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    number = annotation.get(id_key)
    return moment, number if isinstance(number, int) else 0
