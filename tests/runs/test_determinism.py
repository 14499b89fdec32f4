"""What a selection may depend on: not on threads at all, on batches in the last digits only."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from detal.datasets import open_dataset
from detal.detectors import load_yolo
from detal.runs.pool import CandidatePool, candidate_pool
from detal.runs.scoring import Scorer
from detal.strategies import make_strategy
from detal.strategies.scored import highest_first
from detal.structures import Budget

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"
# Seen are differences of 8e-7 in scores and of one step of float16 in logits.
LARGEST = 1e-5
STRATEGIES = ("entropy", "core_set", "curve_greedy", "badge", "kmeans", "random")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory):
    """Candidates, scored anew for each way to group the images."""
    detector = load_yolo(SANDBOX / "yolo_seed.pt", device="cpu", image_size=96)
    sets = [open_dataset(SANDBOX / f"{name}.json") for name in ("pool", "seed")]
    sets = [dataset.take(np.arange(number)) for dataset, number in zip(sets, (30, 8), strict=True)]

    @cache
    def score(threads: int, batch_size: int, shard_size: int) -> CandidatePool:
        scorer = Scorer(
            detector=detector,
            root=tmp_path_factory.mktemp("store"),
            shard_size=shard_size,
            batch_size=batch_size,
            threads=threads,
            start_progress=lambda title: lambda done, total: None,
            load_member=lambda path: detector,
        )
        pool, labeled = (scorer.score(dataset, title="")[0] for dataset in sets)
        return candidate_pool(pool, labeled, class_names=detector.class_names)

    return score


def chosen(pool: CandidatePool, strategy: str, *, torch_threads: int = 1) -> tuple[str, ...]:
    before = torch.get_num_threads()
    torch.set_num_threads(torch_threads)
    try:
        selection = make_strategy(strategy).query(
            pool.candidates,
            budget=Budget(10),
            rng=np.random.default_rng(3),
            min_distance=0,
            per_group=None,
        )
    finally:
        torch.set_num_threads(before)
    return selection.image_ids


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(scored, threads: int) -> None:
    one, other = scored(1, 4, 16), scored(threads, 4, 16)
    ids = one.candidates.image_ids.tolist()
    ours, theirs = (pool.detections(ids)[1] for pool in (one, other))
    assert ours.num_boxes > 30
    for name in ("boxes", "scores", "logits", "object_features"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    features = [pool.candidates.image_features for pool in (one, other)]
    np.testing.assert_array_equal(*features)


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 16), (3, 16), (16, 16), (4, 7)])
def test_batches_change_the_last_digits_only(scored, batch_size: int, shard_size: int) -> None:
    one, other = scored(1, 4, 16), scored(1, batch_size, shard_size)
    ids = one.candidates.image_ids.tolist()
    ours, theirs = (pool.detections(ids)[1] for pool in (one, other))
    assert torch.equal(ours.offsets, theirs.offsets)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=LARGEST)
    for strategy in STRATEGIES:
        assert chosen(one, strategy) == chosen(other, strategy), strategy


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_batch_again_and_with_more_torch_threads(scored, strategy: str) -> None:
    pool = scored(1, 4, 16)
    first = chosen(pool, strategy)
    assert len(first) == 10
    assert chosen(pool, strategy) == first
    assert chosen(pool, strategy, torch_threads=3) == first


def test_ties_are_drawn_from_the_seed() -> None:
    """What is equal to six digits is equal, whatever rounding made of it."""
    values = 0.7 + np.array([0, 3e-8, -3e-8, 0, 2e-8, 0])

    def order(values: np.ndarray, seed: int) -> list[int]:
        drawn = highest_first(values, np.random.default_rng(seed), name="score")
        return [choice.candidate for choice in drawn]

    assert order(values, 0) == order(np.full(6, 0.7), 0)
    assert len({tuple(order(values, seed)) for seed in range(5)}) > 1
