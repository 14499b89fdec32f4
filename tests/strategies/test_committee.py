"""Committees and dropout against slow, independent computations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detal.errors import ConfigError, DataError
from detal.strategies import make_strategy
from tests.features.test_pairing import random_seen, seen
from tests.strategies.test_consistency import ask, pool_of, scores_of

BOX = (0, 0, 10, 10)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


class TestByHand:
    """Two images with a box each; two members, of which the second misses the first box."""

    OWN = seen([(BOX, (logit(0.6), -20.0))], [(BOX, (logit(0.9), -20.0))])
    FIRST = seen([((0, 0, 10, 5), (logit(0.4), -20.0))], [(BOX, (logit(0.9), -20.0))])
    SECOND = seen([((0, 8, 10, 18), (-20.0, logit(0.9)))], [(BOX, (-20.0, logit(0.7)))])
    POOL = pool_of(OWN, {"member:0": FIRST, "member:1": SECOND})

    def test_vote_entropy(self):
        """Class 0, nothing, nothing; then class 0 twice and class 1 once."""
        entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
        found = scores_of(ask("committee", self.POOL, disagreement="vote_entropy"))
        assert found == pytest.approx([entropy, entropy], abs=1e-6)

    def test_kl(self):
        def entropy(p: float) -> float:
            return -p * math.log(p) - (1 - p) * math.log(1 - p)

        first = entropy((0.6 + 0.4 + 0.01) / 3) - sum(map(entropy, (0.6, 0.4, 0.01))) / 3
        second = entropy((0.9 + 0.9) / 3) - 2 * entropy(0.9) / 3
        second += entropy(0.7 / 3) - entropy(0.7) / 3
        found = scores_of(ask("committee", self.POOL))
        assert found == pytest.approx([first, second], abs=1e-4)

    def test_box(self):
        found = scores_of(ask("committee", self.POOL, disagreement="box"))
        mean_overlap = (0.5 + 20 / 180) / 2
        assert found == pytest.approx([0.6 * (1 - mean_overlap), 0], abs=1e-6)

    def test_the_reason_names_the_measure(self):
        selection = ask("committee", self.POOL, disagreement="vote_entropy", aggregation="max")
        assert "largest vote entropy" in selection.reasons[0]


@pytest.mark.parametrize("score_kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("disagreement", ["kl", "vote_entropy"])
def test_as_one_box_at_a_time(score_kind, disagreement):
    counts = [3, 0, 5, 2]
    own = random_seen(0, counts, score_kind=score_kind)
    members = [
        replace(
            own,
            boxes=own.boxes + 3 * torch.randn(10, 4, generator=torch.manual_seed(i)),
            logits=own.logits + 2 * torch.randn(own.logits.shape, generator=torch.manual_seed(i)),
        )
        for i in (1, 2, 3)
    ]
    expected = np.zeros(4)
    for i in range(10):
        image = int(own.image_index[i])
        rows = [j for j in range(10) if int(own.image_index[j]) == image]
        answers = [own.probs()[i].double().numpy()]
        for member in members:
            overlaps = box_iou(own.boxes[i : i + 1], member.boxes[rows])[0]
            if float(overlaps.max()) >= 0.5:
                answers.append(member.probs()[rows[int(overlaps.argmax())]].double().numpy())
            elif score_kind == "sigmoid":
                answers.append(np.minimum(answers[0], 0.01))
            else:
                answers.append(answers[0] * min(1, 0.01 / answers[0].sum()))
        expected[image] += naive_disagreement(
            answers, disagreement, softmax=score_kind == "softmax"
        )
    pool = pool_of(own, {f"member:{i}": member for i, member in enumerate(members)})
    found = scores_of(ask("committee", pool, disagreement=disagreement))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert max(found) > 0.1


def naive_disagreement(answers: list[np.ndarray], how: str, *, softmax: bool) -> float:
    if how == "vote_entropy":
        votes = []
        for p in answers:
            none = 1 - p.sum() if softmax else 0.5
            votes.append(int(p.argmax()) if p.max() > none else -1)
        shares = [votes.count(v) / len(votes) for v in set(votes)]
        return -sum(share * math.log(share) for share in shares)
    if softmax:
        answers = [np.append(p, 1 - p.sum()) for p in answers]
    mean = np.mean(answers, axis=0)
    total = 0.0
    for p in answers:
        total += float((p * np.log(p / mean)).sum())
        if not softmax:
            total += float(((1 - p) * np.log((1 - p) / (1 - mean))).sum())
    return total / len(answers)


class TestMembers:
    def test_a_committee_of_one_falls_back_to_entropy(self):
        own = random_seen(0, [3, 2, 1])
        selection = ask("committee", pool_of(own, {}))
        assert selection.image_ids == ask("entropy", pool_of(own, {})).image_ids
        assert "entropy (a committee of one)" in selection.reasons[0]

    def test_named_members_must_be_there(self):
        own = random_seen(0, [3])
        pool = pool_of(own, {"member:0": own})
        assert len(ask("committee", pool, members=["a.pt"])) == 1
        with pytest.raises(ConfigError, match="there is no member:1"):
            ask("committee", pool, members=["a.pt", "b.pt"])

    def test_it_asks_for_them(self):
        needs = make_strategy("committee", members=["a.pt", "b.pt"]).needs
        assert needs.members == ("a.pt", "b.pt")
        assert make_strategy("committee").needs.earlier_rounds == 3

    def test_eleven_members_keep_their_order(self):
        own = random_seen(0, [2])
        pool = pool_of(own, {f"member:{i}": own for i in range(11)})
        assert scores_of(ask("committee", pool)) == pytest.approx([0], abs=1e-5)

    @pytest.mark.parametrize("disagreement", ["kl", "vote_entropy"])
    def test_nan_is_refused_with_the_image_named(self, disagreement):
        own, other = random_seen(0, [2, 2]), random_seen(0, [2, 2])
        other.logits[2] = math.nan
        with pytest.raises(DataError, match=r"must be a number.*image '001'; 1 of 2"):
            ask("committee", pool_of(own, {"member:0": other}), disagreement=disagreement)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"members": ["a.pt", "a.pt"]}, "different checkpoints", id="twice"),
            pytest.param({"min_iou": 1.1}, "min_iou", id="iou"),
            pytest.param({"disagreement": "votes"}, "vote_entropy", id="name"),
        ],
    )
    def test_options_are_checked(self, options, message):
        with pytest.raises(ConfigError, match=message):
            make_strategy("committee", **options)


class TestBald:
    def test_adds_up_what_the_detector_says(self):
        own = replace(random_seen(0, [2, 0, 1]), mutual_information=torch.tensor([0.1, 0.2, 0.5]))
        assert scores_of(ask("bald", pool_of(own, {}))) == pytest.approx([0.3, 0, 0.5])
        mean = ask("bald", pool_of(own, {}), aggregation="mean")
        assert scores_of(mean) == pytest.approx([0.15, 0, 0.5])

    def test_without_dropout_it_names_committee(self):
        with pytest.raises(ConfigError, match=r"dropout_samples=20 .*or use `committee`"):
            ask("bald", pool_of(random_seen(0, [2, 1]), {}))
        assert make_strategy("bald").needs.dropout
