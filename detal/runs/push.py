"""Put the batch of a finished run into a Label Studio project."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detal.errors import ConfigError, DataError
from detal.manifests import (
    LOCAL_FILES,
    ImagePrefix,
    labelling_config,
    model_version,
    read_batch,
    read_record,
    tasks_of,
)
from detal.manifests.label_studio import FROM_NAME, TO_NAME
from detal.runs.label_studio_api import LabelStudio, TransientError

__all__ = ["Pushed", "push_run"]

log = logging.getLogger(__name__)

_ID = "detal_image_id"
_TITLE_LENGTHS = range(3, 51)


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        project: Id of the project.
        url: Its page.
        created: The project was made.
        imported: Tasks that were imported.
        there: Tasks that were there before.
    """

    project: int
    url: str
    created: bool
    imported: int
    there: int


def push_run(
    run: Path,
    server: LabelStudio,
    *,
    title: str,
    prefix: ImagePrefix,
    portion: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Make a project, or find it, and import the tasks that it lacks.

    Tasks are known by ``detal_image_id``: the same push again imports nothing, one that was
    interrupted goes on, and another round goes into the same project.

    Args:
        run: Folder written by `detal select`.
        server: Where to push to.
        title: Of the project, 3 to 50 characters.
        prefix: What stands for a local folder. With ``/data/local-files/?d=`` the folder is the
            server's document root, and the storages that the files need are added.
        portion: Tasks imported at a time.
        progress: Called with the number of tasks that are there, and of all.

    Raises:
        DataError: If the run cannot be read, an image is not where the prefix says, or Label Studio
            cannot hold a name.
        ConfigError: If the server refuses, or the project is for other labels.
        TransientError: If the server stays unavailable; the same push goes on from there.
    """
    if len(title) not in _TITLE_LENGTHS:
        raise ConfigError(f"a project's title must have 3 to 50 characters, got {title!r}")
    batch, record = read_batch(run), read_record(run)
    paths = [image.path for image in batch.images]
    references = [prefix.apply(path) for path in paths]
    tasks = tasks_of(batch, references, model_version=model_version(record))
    project, created = _project(server, title, batch.class_names)
    if prefix.prefix.endswith(LOCAL_FILES):
        _add_storages(server, project, [Path(path) for path in paths], prefix.root)
    there = server.task_values(project, _ID)
    missing = [task for task in tasks if task["data"][_ID] not in there]
    before = len(tasks) - len(missing)
    report = progress or (lambda done, total: None)
    report(before, len(tasks))
    for start in range(0, len(missing), portion):
        _import(server, project, missing[start : start + portion])
        report(before + min(start + portion, len(missing)), len(tasks))
    if missing:
        # The first import pins the project to its model; unpinned, each task shows what it has.
        server.call("PATCH", f"/api/projects/{project}", {"model_version": ""})
    url = f"{server.url.rstrip('/')}/projects/{project}/data"
    return Pushed(project, url, created=created, imported=len(missing), there=before)


def _project(server: LabelStudio, title: str, class_names: Sequence[str]) -> tuple[int, bool]:
    """Id of the project of this title, and whether it was made."""
    config = labelling_config(class_names)
    found = server.find_projects(title)
    if len(found) > 1:
        raise ConfigError(
            f"a project's title must be there once, {len(found)} are called {title!r}: rename them"
        )
    if not found:
        body = {"title": title, "label_config": config}
        return server.call("POST", "/api/projects", body)["id"], True
    _check_labels(found[0], class_names)
    return found[0]["id"], False


def _check_labels(project: dict[str, Any], class_names: Sequence[str]) -> None:
    """Whether the project takes our predictions."""
    control = (project.get("parsed_label_config") or {}).get(FROM_NAME) or {}
    inputs = [item.get("value") for item in control.get("inputs") or []]
    if control.get("type") != "RectangleLabels" or inputs != [TO_NAME]:
        raise ConfigError(
            f"the project {project['title']!r} must have <RectangleLabels name={FROM_NAME!r}> on "
            f"<Image name={TO_NAME!r} value='${TO_NAME}'>: give another title, or use the "
            "labelling config of `detal export --to label-studio`"
        )
    lacking = [name for name in class_names if name not in control.get("labels", ())]
    if lacking:
        raise ConfigError(
            f"the project {project['title']!r} must have all classes as labels, it lacks "
            f"{', '.join(map(repr, lacking))}: add them in its settings, or give another title"
        )


def _add_storages(
    server: LabelStudio, project: int, paths: Sequence[Path], document_root: Path
) -> None:
    """Local storages for the folders of the images, without which the server gives no file."""
    known = [Path(s["path"]) for s in server.get(f"/api/storages/localfiles?project={project}")]
    folders = set()
    for path in paths:
        parts = path.relative_to(document_root).parts
        if len(parts) == 1:
            raise DataError(
                "Label Studio serves no file directly in its document root: every image must be in "
                f"a folder below {document_root}, got {path}"
            )
        folders.add(document_root / parts[0])
    for folder in sorted(folders):
        if not any(folder.is_relative_to(place) for place in known):
            body = {
                "project": project,
                "title": "detal",
                "path": str(folder),
                "use_blob_urls": True,
            }
            server.call("POST", "/api/storages/localfiles", body)


def _import(server: LabelStudio, project: int, tasks: Sequence[dict[str, Any]]) -> None:
    """Import tasks; after a failure only those that did not arrive."""
    left = list(tasks)
    for attempt in range(1, server.tries + 1):
        try:
            server.call("POST", f"/api/projects/{project}/import?return_task_ids=true", left)
            return
        except TransientError as error:
            if attempt == server.tries:
                raise
            log.warning("%s; trying again", error)
            server.wait(2.0**attempt)
            there = server.task_values(project, _ID)
            left = [task for task in left if task["data"][_ID] not in there]
            if not left:
                return
