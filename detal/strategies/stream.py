"""Decide image by image, for cameras and folders that grow; nothing of the past is kept but scores.

Two ways. `RateGate` decides at once: an image is taken if its score is among the highest of the
recent ones. `WeightedReservoir` keeps the best ``capacity`` images so far and may give one up for a
later one: right where images can wait until the end of a shift. Both are small, and
``state`` / ``from_state`` carry them over a restart as JSON.

    gate = RateGate(rate=0.02, budget=500)
    for image_id, score in stream_scores(make_strategy("entropy"), chunks, rng=rng):
        if gate.offer(score):
            keep(image_id)

Shapes: B images of a chunk.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from detal.errors import ConfigError, DataError
from detal.strategies.candidates import Candidates
from detal.strategies.combined import image_scores
from detal.strategies.options import check_integer, check_number
from detal.strategies.strategy import MeasureSelector, QueryStrategy
from detal.structures import Budget

__all__ = ["RateGate", "WeightedReservoir", "stream_scores"]

_ROUNDING = 1e-9


class RateGate:
    """Takes the images whose score is in the top ``rate`` of the last ``window`` ones.

    The threshold is a running quantile over a sliding window, so that it follows the stream when
    the scenes or the detector change; an image is compared with those before it, itself left out.
    Among the first ``warm_up`` images it takes none: there is nothing to compare with. Equal scores
    do not exceed each other: of a stream of equal scores nothing is taken. Cost: O(log window) to
    find a place and a move of ``window`` numbers an image. Failure mode: near-identical frames in a
    row are all taken, up to the rate.

    Args:
        rate: Share of images to take, in (0, 1).
        budget: Most cost taken in all, or None for no limit.
        window: Scores that are remembered, >= 1 / rate.
        warm_up: Images that only fill the window, 1 to ``window``.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        rate: float,
        budget: float | None = None,
        window: int = 1000,
        warm_up: int = 50,
    ) -> None:
        check_number("rate", rate, at_most=1)
        check_integer("window", window)
        check_integer("warm_up", warm_up)
        if not 0 < rate < 1 or rate * window < 1 or warm_up > window:
            raise ConfigError(
                f"rate must be in (0, 1), window at least 1 / rate and warm_up at most window, got "
                f"{rate}, {window} and {warm_up}"
            )
        if budget is not None:
            check_number("budget", budget)
        self.rate = rate
        self.budget = budget
        self.window = window
        self.warm_up = warm_up
        self.seen = 0
        self.taken = 0
        self.spent = 0.0
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []

    @property
    def threshold(self) -> float:
        """What a score must exceed; infinite during the warm-up."""
        if self.seen < self.warm_up:
            return math.inf
        place = math.ceil((1 - self.rate) * len(self._ordered) - _ROUNDING) - 1
        return self._ordered[max(place, 0)]

    def offer(self, score: float, *, cost: float = 1.0) -> bool:
        """Whether to take the next image.

        Args:
            score: Acquisition score, higher = more informative.
            cost: In the budget's unit; an image that no longer fits is not taken.

        Raises:
            DataError: If the score is not a number.
        """
        if not math.isfinite(score):
            raise DataError(
                f"a score must be a finite number, got {score} at image {self.seen + 1} of the "
                "stream"
            )
        fits = self.budget is None or self.spent + cost <= self.budget
        accepted = score > self.threshold and fits
        self._remember(score)
        self.seen += 1
        if accepted:
            self.taken += 1
            self.spent += cost
        return accepted

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` needs; JSON."""
        names = ("rate", "budget", "window", "warm_up", "seen", "taken", "spent")
        return {name: getattr(self, name) for name in names} | {"recent": list(self._recent)}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> RateGate:
        """The gate that `state` described."""
        options = {name: state[name] for name in ("rate", "budget", "window", "warm_up")}
        gate = RateGate(**options)
        gate.seen, gate.taken, gate.spent = state["seen"], state["taken"], state["spent"]
        gate._recent = deque(state["recent"])
        gate._ordered = sorted(state["recent"])
        return gate

    def _remember(self, score: float) -> None:
        if len(self._recent) == self.window:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        self._recent.append(score)
        insort(self._ordered, score)


class WeightedReservoir:
    """A sample of a stream without replacement, with probabilities proportional to weights.

    Efraimidis & Spirakis, "Weighted random sampling with a reservoir", 2006: each image gets the
    key u^(1 / weight) with a uniform u, and those of the largest keys stay. At any time the sample
    is as if it had been drawn from all images so far: the first by weight, the next by weight among
    the rest, and so on. Cost: one random number and O(log capacity) an image. Failure mode: with
    equal weights it is a random sample; scores of a narrow range make nearly equal weights.

    Args:
        capacity: Images kept, >= 1.
        rng: Draws the keys; its state is saved too, as JSON for NumPy's default generator.
    """

    def __init__(self, capacity: int, *, rng: np.random.Generator) -> None:
        check_integer("capacity", capacity)
        self.capacity = capacity
        self._rng = rng
        self._kept: list[tuple[float, str]] = []  # a heap, the smallest key first

    def offer(self, image_id: str, weight: float) -> str | None:
        """Look at one more image.

        Args:
            image_id: Its id, distinct.
            weight: Finite and >= 0; 0 is never kept.

        Returns:
            The id that is out now: an earlier image, ``image_id`` itself, or None if all stay.

        Raises:
            DataError: If the weight is not such a number.
        """
        if not (math.isfinite(weight) and weight >= 0):
            raise DataError(f"a weight must be finite and >= 0, got {weight} (image {image_id!r})")
        draw = 1 - self._rng.random()  # in (0, 1]
        if weight == 0:
            return image_id
        key = math.log(draw) / weight  # orders as draw ** (1 / weight) without underflow
        if len(self._kept) < self.capacity:
            heapq.heappush(self._kept, (key, image_id))
            return None
        return heapq.heappushpop(self._kept, (key, image_id))[1]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """What is kept, in the order in which a draw would have given it."""
        return tuple(image_id for _, image_id in sorted(self._kept, reverse=True))

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` needs; JSON."""
        generator = self._rng.bit_generator.state
        return {"capacity": self.capacity, "kept": self._kept.copy(), "rng": generator}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> WeightedReservoir:
        """The reservoir that `state` described.

        Raises:
            ConfigError: If NumPy has no such generator.
        """
        kind = getattr(np.random, str(state["rng"]["bit_generator"]), None)
        if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
            raise ConfigError(f"unknown bit generator {state['rng']['bit_generator']!r}")
        bits = kind()
        bits.state = state["rng"]
        reservoir = WeightedReservoir(state["capacity"], rng=np.random.Generator(bits))
        reservoir._kept = [(float(key), str(image_id)) for key, image_id in state["kept"]]
        return reservoir


def stream_scores(
    strategy: QueryStrategy, chunks: Iterable[Candidates], *, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """Acquisition scores of a stream, chunk by chunk, in the order of the images in each.

    Args:
        strategy: One that scores each image by itself, such as ``entropy``; coverage strategies
            would compare an image with its chunk alone.
        chunks: The stream: candidates of B images at a time (`Candidates.from_detections`).
        rng: Source of everything random.

    Yields:
        Image id and score.

    Raises:
        ConfigError: If the strategy cannot score single images.
        DataError: If it gives an image no finite score, naming it.
    """
    if not isinstance(strategy, MeasureSelector):
        raise ConfigError("a stream needs a strategy that scores each image, for example entropy")
    for candidates in chunks:
        budget = Budget(max(len(candidates), 1))
        index, scores = image_scores(strategy.select(candidates, budget, rng))
        for place in index.argsort(kind="stable").tolist():
            image_id = candidates.image_ids[index[place]]
            if not math.isfinite(scores[place]):
                raise DataError(
                    f"a score must be a finite number, got {scores[place]} (image {image_id!r})"
                )
            yield image_id, float(scores[place])
