"""The images that come next, should some of a batch be turned down."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detal.features import expected_class_counts
from detal.strategies import Candidates, QueryStrategy
from detal.structures import Selection

__all__ = ["query_reserve"]

_LEAST_IMAGES = 10


def query_reserve(
    strategy: QueryStrategy,
    candidates: Candidates,
    selection: Selection,
    *,
    share: float,
    rng: np.random.Generator,
    min_distance: float,
    per_group: int | None,
) -> Selection:
    """Ask the strategy once more, as if the batch were labelled: what it picks now comes next.

    The batch is left out of the candidates, its image features and expected objects are added to
    what is labelled, so that neither the strategy nor the guards bring back what resembles it.

    Args:
        strategy: That chose the batch.
        candidates: What it chose from.
        selection: The batch.
        share: Budget of the reserve as a share of that of the batch, > 0; it buys about ten images
            at least.
        rng: Source of everything random.
        min_distance: The guard, as for the batch.
        per_group: The guard, as for the batch; images of the batch count.

    Raises:
        DetalError: As `QueryStrategy.query`.
    """
    budget = selection.budget
    of_ten = _LEAST_IMAGES * selection.spent / max(len(selection), 1)
    asked = replace(budget, amount=max(share * budget.amount, of_ten))
    chosen = np.searchsorted(candidates.image_ids, np.array([*selection.image_ids, None])[:-1])
    used = _used_groups(candidates, chosen)
    rest = np.setdiff1d(np.arange(len(candidates)), chosen)
    if per_group is not None and candidates.groups is not None:
        rest = rest[[used[group] < per_group for group in candidates.groups[rest]]]
    found = strategy.query(
        _after(candidates, chosen).subset(rest),
        budget=asked,
        rng=rng,
        min_distance=min_distance,
        per_group=per_group,
    )
    return _within(found, candidates, used, per_group)


def _used_groups(candidates: Candidates, chosen: NDArray[np.int64]) -> Counter[str | None]:
    if candidates.groups is None:
        return Counter()
    return Counter(group for group in candidates.groups[chosen] if group is not None)


def _after(candidates: Candidates, chosen: NDArray[np.int64]) -> Candidates:
    """The candidates as if those at ``chosen`` were labelled."""
    labeled, features = candidates.labeled, candidates.image_features
    known = labeled.image_features
    if features is not None:
        parts = [features[chosen]] if known is None else [known, features[chosen]]
        known = np.concatenate(parts)
    added = expected_class_counts(candidates.take(chosen)).sum(dim=0).cpu().numpy()
    counts = labeled.class_counts + np.rint(added).astype(np.int64)
    return replace(candidates, labeled=replace(labeled, image_features=known, class_counts=counts))


def _within(
    found: Selection,
    candidates: Candidates,
    used: Counter[str | None],
    per_group: int | None,
) -> Selection:
    """Leave out what, beside the batch, would be too many of a group."""
    if per_group is None or candidates.groups is None:
        return found
    rows = np.searchsorted(candidates.image_ids, np.array([*found.image_ids, None])[:-1])
    kept = []
    for place, group in enumerate(candidates.groups[rows]):
        if group is None or used[group] < per_group:
            used[group] += 1
            kept.append(place)
    return replace(
        found,
        image_ids=tuple(found.image_ids[place] for place in kept),
        scores=found.scores[kept],
        costs=found.costs[kept],
        reasons=tuple(found.reasons[place] for place in kept),
    )
