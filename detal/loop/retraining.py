"""What batches truly bring: each is labelled and trained on, several times.

    <study>/initial/seed-0/                 the initial set and its detector, as in every study
    <study>/fidelity/seed-0/
        batches.json                        the images of each batch; made once
        runs.json                           where the trainings come from
        store/                              what the initial detector says about the pool
        tables/                             measured tables of the initial set, if asked for
        initial/repeat-1/result.json        the initial set trained on again
        crowded/repeat-0/result.json        the initial set and a batch

Repeat r trains with the seed of the study plus r, whatever the batch: differences between batches
of one repeat are not differences of draws. What is finished has a ``result.json``, written last; a
killed run goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.config import SimulateConfig
from detal.errors import ConfigError
from detal.files import read_own, write_json
from detal.locking import locked
from detal.loop.arm import finish_round, initial_folder, read_rows, run_initial
from detal.loop.study import Study, detector_of, open_study, scorer_of, truth_of
from detal.loop.study_tables import TrainedRound, study_tables
from detal.loop.units import claimed, recorded, run_units
from detal.loop.varied_batches import Start, batch_names, varied_batches
from detal.runs.pool import candidate_pool
from detal.runs.scoring import StartProgress
from detal.runs.tables import read_tables
from detal.runs.workers import Task, process_tasks

__all__ = ["INITIAL", "Retrainings", "build_start_tables", "open_start"]

INITIAL = "initial"
"""The name of the empty batch."""


@dataclass(frozen=True)
class Retrainings:
    """The trainings of a study that show what batches bring.

    Attributes:
        config: The study; ``budget`` is that of a batch, in true boxes.
        seed: Of the initial set, of the batches, and of the first repeat's training.
        repeats: Trainings of each batch.
        names: Batches, of `batch_names`.

    Raises:
        ConfigError: If the budget is not in boxes or there are fewer than two repeats.
    """

    config: SimulateConfig
    seed: int
    repeats: int
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        unit = self.config.budget.unit
        if unit != "boxes":
            raise ConfigError(f"batches are compared at equal boxes: budget.unit is {unit}")
        if self.repeats < 2:
            raise ConfigError(
                f"repeats must be >= 2, or nothing shows what is noise; got {self.repeats}"
            )

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return Path(self.config.output) / "fidelity" / f"seed-{self.seed}"

    @property
    def seeds(self) -> list[int]:
        """(r,) seeds of the trainings."""
        return [self.seed + repeat for repeat in range(self.repeats)]

    def unit_folder(self, name: str, repeat: int) -> Path:
        """Where one training lies; the first one of the initial set is the study's own."""
        if name == INITIAL and repeat == 0:
            return initial_folder(Path(self.config.output), self.seed)
        return self.folder / name / f"repeat-{repeat}"

    @property
    def units(self) -> list[tuple[str, int]]:
        """Name and repeat of all trainings, whole repeats one after the other."""
        return [(n, r) for r in range(self.repeats) for n in (INITIAL, *self.names)]

    def done(self) -> int:
        """Trainings that are finished."""
        return sum((self.unit_folder(*unit) / "result.json").exists() for unit in self.units)

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Train what is missing, side by side in processes of one thread.

        Args:
            progress: Called with the trainings that are done and all of them.

        Raises:
            ConfigError: If the folder belongs to another study, another run works in it, or a
                batch is unknown.
            DataError: If a dataset cannot be used.
        """
        with claimed(self.config):
            known = batch_names(len(open_study(self.config).pool.class_names))
            unknown = [name for name in self.names if name not in known]
            if unknown:
                raise ConfigError(f"unknown batches {unknown}: choose among {known}")
            self.folder.mkdir(parents=True, exist_ok=True)
            with recorded(
                self.folder / "runs.json", workers=self.config.workers, done=self.done
            ) as save:

                def advance() -> None:
                    save()
                    progress(self.done(), len(self.units))

                progress(self.done(), len(self.units))
                with process_tasks(self.config.workers) as runner:
                    run_units(self._stages(), runner=runner, progress=advance)

    def _stages(self) -> Iterator[Sequence[Task]]:
        if self.done() == len(self.units):
            return
        yield [(_prepare, self)]
        yield [
            (_retrain, self, *unit)
            for unit in self.units
            if not (self.unit_folder(*unit) / "result.json").exists()
        ]

    def batches(self) -> dict[str, list[str]]:
        """Image ids of each batch that was made, by name, in the order they were picked."""
        path = self.folder / "batches.json"
        if not path.exists():
            return {}
        found: dict[str, list[str]] = read_own(path)
        return found

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """What was measured, by batch (`INITIAL` included) and repeat.

        Raises:
            FileNotFoundError: If a training is not finished.
        """
        return {
            name: [read_own(self.unit_folder(name, r) / "result.json") for r in range(self.repeats)]
            for name in (INITIAL, *self.names)
        }

    def gains(self, metric: str) -> NDArray[np.float64]:
        """(K, r, ...) a metric of `results` with each batch, minus that without, by repeat.

        A metric that is a list by class gives (K, r, C); NaN where there is no ground truth.
        """
        results = self.results()
        values = np.array(
            [[result[metric] for result in repeats] for repeats in results.values()],
            dtype=np.float64,
        )
        return values[1:] - values[:1]


def open_start(study: Study, seed: int, *, store: Path) -> Start:
    """What batches are chosen from after the initial set of a seed, which must be trained.

    Args:
        study: The study.
        seed: Of the initial set.
        store: Where the scored pool is kept; read from there the next time. Measured tables are
            looked for beside it.
    """
    initial = initial_folder(Path(study.config.output), seed)
    labeled = np.array(read_rows(study, initial), dtype=np.int64)
    detector = detector_of(study, initial / "weights.pt", score_threshold=None)
    scorer = scorer_of(study, detector, store)
    scored, _ = scorer.score(study.pool, title="")
    reference = None if study.reference is None else scorer.score(study.reference, title="")[0]
    rest = np.setdiff1d(np.flatnonzero(study.boxes_per_image > 0), labeled)
    pool = candidate_pool(
        scored.take(rest),
        scored.take(labeled),
        class_names=study.pool.class_names,
        reference=reference,
    )
    candidates = replace(pool.candidates, tables=read_tables(store.parent / "tables"))
    return Start(candidates=candidates, truth=truth_of(pool.scored.dataset))


def build_start_tables(
    study: Study, work: Retrainings, *, progress: StartProgress | None = None
) -> None:
    """Measure the tables of the initial set's detector, as far as that is not done yet.

    Category curves from parts of the initial set, groups of what batches are chosen from.

    Args:
        study: The study, with a reference set; without one there is nothing to be done.
        work: Its initial set must be trained.
        progress: Given a title, returns what is called with (done, total) variants.
    """
    start = open_start(study, work.seed, store=work.folder / "store")
    initial = work.unit_folder(INITIAL, 0)
    study_tables(
        study,
        ("curves", "groups"),
        start.candidates,
        trained=TrainedRound(
            labeled=np.array(read_rows(study, initial), dtype=np.int64),
            seed=work.seed,
            weights=initial / "weights.pt",
        ),
        root=work.folder / "tables",
        progress=progress,
    )


def _prepare(work: Retrainings) -> None:
    """Train the initial set, score the pool, make the batches that are missing."""
    initial = work.unit_folder(INITIAL, 0)
    # The child of a killed run may still be ending here.
    with locked(initial / ".lock", work=initial, wait=True):
        study = open_study(work.config)
        run_initial(study, work.seed)
    with locked(work.folder / ".lock", work=work.folder, wait=True):
        made = work.batches()
        missing = [name for name in work.names if name not in made]
        if missing:
            start = open_start(study, work.seed, store=work.folder / "store")
            boxes = work.config.budget.amount
            found = varied_batches(start, missing, boxes=boxes, seed=work.seed)
            ids = {name: start.candidates.image_ids[rows].tolist() for name, rows in found.items()}
            write_json(work.folder / "batches.json", {**made, **ids})


def _retrain(work: Retrainings, name: str, repeat: int) -> None:
    """Train on the initial set and a batch, and measure on the test set."""
    folder = work.unit_folder(name, repeat)
    with locked(folder / ".lock", work=folder, wait=True):
        if (folder / "result.json").exists():
            return
        study = open_study(work.config)
        labeled = read_rows(study, work.unit_folder(INITIAL, 0))
        batch = [] if name == INITIAL else work.batches()[name]
        finish_round(
            study,
            folder,
            rows=study.pool.index_of(batch),
            before=labeled,
            seed=work.seeds[repeat],
            timings={},
        )
        (folder / "weights.pt").unlink()
